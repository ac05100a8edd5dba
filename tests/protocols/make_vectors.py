"""Known-answer vectors of the secure sum, failures included, as JSON for other implementations.

    python -m tests.protocols.make_vectors          prints what has changed, and fails if anything has
    python -m tests.protocols.make_vectors --write  writes the files

All bytes are hexadecimal, all integers plain. A case with "error" must be refused; the text is this implementation's.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from fed_em.errors import FedEmError
from fed_em.layout import Block, Layout
from fed_em.statistics import Statistics
from fed_em_protocols.boxes import Route
from fed_em_protocols.encoding import Encoding
from fed_em_protocols.envelope import Sealed, seal, unseal
from fed_em_protocols.hashing import digest
from fed_em_protocols.keys import agree, agreement_public, derive
from fed_em_protocols.masks import RingVector, mask
from fed_em_protocols.merkle import includes, inclusion_path, leaf_hash, root
from fed_em_protocols.messages import SharedSecret
from fed_em_protocols.round_keys import AgreementKey, KeyChain, commitment, self_mask_key
from fed_em_protocols.round_sum import RoundSum
from fed_em_protocols.shamir import combine, split
from tests.protocols.drill import Drill
from tests.protocols.examples import EXAMPLES, KEY
from tests.protocols.federation import seeded_randomness

FOLDER = Path(__file__).parent / "vectors"

Case = dict[str, Any]


def error_of(action: Callable[[], object]) -> str:
    """The error that an action must end in."""
    try:
        action()
    except FedEmError as error:
        return f"{type(error).__name__}: {error.message}"
    raise AssertionError("this case was to fail")


def hexes(values: Iterable[bytes]) -> list[str]:
    """Bytes, as text."""
    return [value.hex() for value in values]


def digests() -> list[Case]:
    """`digest(domain, fields…)`; integers are given as numbers, text as text, bytes as {"hex": …}."""
    inputs: list[tuple[str, list[Any]]] = [
        ("d", []), ("d", [b""]), ("d", [b"abc"]), ("d", [b"ab", b"c"]), ("da", [b"bc"]), ("d", ["ä", 258, bytes(32)]),
        ("d", [0, 2**64 - 1]),
    ]  # fmt: skip
    return [
        {
            "domain": domain,
            "fields": [{"hex": field.hex()} if isinstance(field, bytes) else field for field in fields],
            "digest": digest(domain, *fields).hex(),
        }
        for domain, fields in inputs
    ]


def derivations() -> list[Case]:
    """`derive(label, secret, length, context…)` and X25519."""
    secret = bytes(range(32))
    cases: list[Case] = [
        {"label": label, "secret": secret.hex(), "context": context, "length": length,
         "output": derive(label, secret, length, *context).hex()}
        for label, length, context in (("next", 32, []), ("round", 64, [7]), ("salt", 16, [3]), ("box", 32, ["setup", 0, 1]))
    ]  # fmt: skip
    other = agreement_public(bytes(range(1, 33)))
    cases.append({"secret": secret.hex(), "public": other.hex(), "agreement": agree(secret, other, "peer").hex()})
    for small in (0, 1, 2**255 - 20):
        public = small.to_bytes(32, "little")
        text = error_of(lambda public=public: agree(secret, public, "peer"))  # type: ignore[misc]
        cases.append({"secret": secret.hex(), "public": public.hex(), "error": text})
    return cases


def mask_vectors() -> list[Case]:
    """Whole short masks, and the digests of long ones."""
    keys = [bytes(16), bytes(range(16))]
    short = [{"key": key.hex(), "mask": [int(v) for v in mask(key, n)]} for key in keys for n in (0, 1, 5)]
    long = [
        {
            "key": keys[1].hex(),
            "length": n,
            "sha256": hashlib.sha256(mask(keys[1], n).astype("<u8").tobytes()).hexdigest(),
        }
        for n in (16_383, 16_384, 16_385, 50_000)
    ]
    return [*short, *long]


def sharings() -> list[Case]:
    """Shares from given coefficients (48 bytes each, little-endian, modulo p), and what they give back."""
    cases: list[Case] = []
    for secret, threshold, holders in (
        (bytes(range(32)), 2, [0, 1, 2]),
        (b"\xff" * 32, 3, [0, 2, 5, 63]),
        (bytes(32), 2, [0, 1]),
    ):
        randomness = seeded_randomness(len(cases))(48 * (threshold - 1))
        shares = split(secret, threshold, holders, lambda _, fresh=randomness: fresh)  # type: ignore[misc]
        cases.append({
            "secret": secret.hex(), "threshold": threshold, "holders": holders, "coefficients": randomness.hex(),
            "shares": hexes(shares),
        })  # fmt: skip
    bad = dict.fromkeys((0, 1), (2**256).to_bytes(33, "little"))
    assert combine(bad, 2) is None
    cases.append({"shares": hexes(bad.values()), "holders": [0, 1], "threshold": 2, "secret": None})
    for threshold, holders in ((1, [0, 1, 2]), (4, [0, 1, 2]), (2, [0, 0, 1])):
        text = error_of(lambda t=threshold, h=holders: split(bytes(32), t, h, bytes))  # type: ignore[misc]
        cases.append({"secret": bytes(32).hex(), "threshold": threshold, "holders": holders, "error": text})
    return cases


def trees() -> list[Case]:
    """Roots and paths over the leaf hashes of the single bytes 00, 01, …; a changed path must not verify."""
    cases: list[Case] = []
    for size in (1, 2, 3, 5, 8):
        leaves = [leaf_hash(bytes([k])) for k in range(size)]
        for index in range(size):
            path = inclusion_path(index, leaves)
            case = {
                "size": size,
                "index": index,
                "leaf": leaves[index].hex(),
                "root": root(leaves).hex(),
                "path": hexes(path),
            }
            cases.append({**case, "valid": includes(root(leaves), size, index, leaves[index], path)})
            if path:
                wrong = (*path[:-1], leaf_hash(b"wrong"))
                valid = includes(root(leaves), size, index, leaves[index], wrong)
                cases.append({**case, "path": hexes(wrong), "valid": valid})
    return cases


def sealed_boxes() -> list[Case]:
    """Boxes, and boxes that do not open (plaintext null)."""
    sender, recipient = bytes(range(32)), bytes(range(32, 64))
    cases: list[Case] = []
    for plaintext in (b"", b"shares"):
        route = Route(b"\x11" * 32, 3, 5)
        box = route.seal(plaintext, sender, agreement_public(recipient), "recipient")
        back = Route(b"\x11" * 32, 5, 3)
        for used, data in ((route, box), (back, box), (route, bytes([box[0] ^ 1]) + box[1:])):
            found = used.open(data, recipient, agreement_public(sender), "sender")
            cases.append({
                "setup": used.setup.hex(), "from": used.sender, "to": used.recipient,
                "sender_secret": sender.hex(), "recipient_secret": recipient.hex(), "box": data.hex(),
                "plaintext": None if found is None else found.hex(),
            })  # fmt: skip
    return cases


def chain_keys() -> list[Case]:
    """Secrets of the first rounds of a chain, and the mask keys made from them."""
    chain, context = KeyChain(bytes(range(32)), 5), b"\x22" * 32
    cases: list[Case] = []
    for offset, each in enumerate(chain.secrets(3)):
        own, peer = AgreementKey(1, each.agreement), AgreementKey(4, bytes(range(64, 96)))
        cases.append({
            "chain_key": chain.key.hex(), "first_round": 5, "round": 5 + offset,
            "agreement": each.agreement.hex(), "self_seed": each.self_seed.hex(),
            "commitment": commitment(each.self_seed).hex(), "public": own.public.hex(), "context": context.hex(),
            "self_mask_key": self_mask_key(each.self_seed, context).hex(),
            "peer": 4, "index": 1, "peer_public": peer.public.hex(),
            "pair_mask_key": own.pair_mask_key(4, peer.public, context, "peer").hex(),
        })  # fmt: skip
    return cases


def encodings() -> list[Case]:
    """Ring integers of statistics, and what is refused."""
    layout = Layout((Block("mass", (), 1.0), Block("sums", (2,), 12.5, "column 'age'")))
    encoding = Encoding.proved(layout, (1000, 50, 7))
    cases: list[Case] = []
    for tenant, values in ((0, [1000.0, -12500.0, 0.1]), (1, [3.25, 1e-9, -1 / 3]), (2, [0.0, -0.0, 87.5])):
        ring = encoding.encode(Statistics(layout, np.array(values)), tenant)
        cases.append({"tenant": tenant, "values": [v.hex() for v in values], "ring": [int(v) for v in ring]})
    for tenant, values in ((2, [8.0, 0.0, 0.0]), (2, [0.0, 88.0, 0.0]), (0, [float("nan"), 0.0, 0.0])):
        text = error_of(lambda t=tenant, v=values: encoding.encode(Statistics(layout, np.array(v)), t))  # type: ignore[misc]
        cases.append({"tenant": tenant, "values": [v.hex() for v in values], "error": text})
    for case in cases:
        case |= {
            "row_caps": [1000, 50, 7],
            "bounds": [(1.0).hex(), (12.5).hex()],
            "shapes": [[], [2]],
            "bits": encoding.bits,
        }
    wide = Layout((Block("moment", (), 2.0**40, "column 'age'"),))
    cases.append(
        {
            "row_caps": [1000, 1000],
            "bounds": [(2.0**40).hex()],
            "error": error_of(lambda: Encoding.proved(wide, (1000, 1000))),
        }
    )
    return cases


def envelopes() -> list[Case]:
    """One message of every kind, signed, and messages that are refused."""
    cases: list[Case] = []
    for content in EXAMPLES:
        sealed = seal(content, KEY, b"bulk")
        cases.append({
            "kind": type(content).__name__, "message": sealed.to_bytes().hex(), "payload": sealed.payload.hex(),
            "attachment": b"bulk".hex(), "digest": sealed.digest.hex(), "signature": sealed.signature.hex(),
            "signer": KEY.public.hex(),
        })  # fmt: skip
    good = seal(EXAMPLES[0], KEY).to_bytes()
    bad = {
        "truncated": good[:-1],
        "trailing byte": good + b"\0",
        "unknown field": good + b"\x9a\x06\x01x",
        "version 2": good.replace(b"\x08\x01", b"\x08\x02", 1),
        "field sent twice": good + b"\x08\x01",
        "unknown kind": good.replace(b"\x10\x01", b"\x10\x63", 1),
        "empty": b"",
    }
    for what, data in bad.items():
        text = error_of(lambda data=data: unseal(data, "sender"))  # type: ignore[misc]
        cases.append({"what": what, "message": data.hex(), "error": text})
    return cases


def message(sealed: Sealed[Any]) -> Case:
    """A message of a round: what it is, its digest and that of all its bytes."""
    data = sealed.to_bytes()
    return {
        "kind": type(sealed.content).__name__,
        "digest": sealed.digest.hex(),
        "sha256": hashlib.sha256(data).hexdigest(),
    }


class RecordingDrill(Drill):
    """Notes every message, in order, with its tenant."""

    def __init__(self, n: int) -> None:
        self.messages: list[Case] = []
        super().__init__(n, length=5)

    def tell(self, index: int, message_: Sealed[Any]) -> Sealed[Any] | None:
        answer = super().tell(index, message_)
        self.messages += [{"tenant": index, **message(each)} for each in (message_, answer) if each is not None]
        return answer


def opened_by(
    drill: Drill, total: RoundSum, certificate: Sealed[Any], header: Sealed[Any], who: list[int], dropped: list[int]
) -> tuple[RoundSum, Case]:
    """The sum less the masks that these survivors open, and what they opened."""
    told: Case = {}
    for i in who:
        answer = drill.tell(i, certificate)
        assert answer is not None
        opening = answer.content
        keys = {peer: opening.pair_keys[16 * k : 16 * k + 16] for k, peer in enumerate(dropped)}
        told[str(i)] = {
            "self_seed": opening.self_seed.hex(),
            "pair_keys": {str(peer): key.hex() for peer, key in keys.items()},
        }
        total = total.without_masks(i, opening.self_seed, keys, header.digest)
    return total, told


def recovered_by(
    drill: Drill, total: RoundSum, recover: Sealed[Any], header: Sealed[Any], silent: list[int], holders: list[int]
) -> tuple[RoundSum, Case]:
    """The sum less the masks of the silent, by the shares of these holders, and the secrets that these give back."""
    setup = drill.setup
    assert setup is not None
    shares: dict[tuple[int, int], dict[int, bytes]] = {}
    for holder in holders:
        answer = drill.tell(holder, recover)
        assert answer is not None
        for share in answer.content.released:
            shares.setdefault((share.dealer, share.secret), {})[holder] = share.share
    secrets = {key: combine(held, setup.threshold) or b"" for key, held in shares.items()}
    for v in silent:
        keys = {
            dealer: AgreementKey(dealer, secret).pair_mask_key(v, setup.round_key(v, 1), header.digest, "")
            for (dealer, which), secret in secrets.items()
            if which == SharedSecret.AGREEMENT
        }
        total = total.without_masks(v, secrets[v, SharedSecret.SELF_SEED], keys, header.digest)
    return total, {f"{dealer}/{which}": secret.hex() for (dealer, which), secret in sorted(secrets.items())}


def whole_round(n: int, survivors: list[int], silent: list[int]) -> Case:
    """A seeded round from the opening of its window to its sum, by the tenants' machines and the server's arithmetic."""
    drill = RecordingDrill(n)
    header, setup = drill.header(1), drill.setup
    assert setup is not None
    rings = [np.array([i + 1, 2**63 + i, 2**64 - 1 - i, 0, 0], dtype=np.uint64) for i in range(n)]
    uploads: dict[int, RingVector] = {i: drill.upload(i, header, rings[i]) for i in range(n)}
    dropped = [i for i in range(n) if i not in survivors]
    speaking = [i for i in survivors if i not in silent]
    certificate = drill.certificate(header, survivors)
    total, recovered = RoundSum.zero(5), dict[str, str]()
    for i in survivors:
        total = total.with_upload(uploads[i])
    total, opened = opened_by(drill, total, certificate, header, speaking, dropped)
    if silent:
        recover = drill.recover(header, certificate, silent, dropped)
        total, recovered = recovered_by(drill, total, recover, header, silent, sorted(speaking + dropped))
    assert np.array_equal(total.vector, sum((rings[i] for i in survivors), np.zeros(5, dtype=np.uint64)))
    return {
        "n": n, "survivors": survivors, "dropped": dropped, "silent": silent, "threshold": setup.threshold,
        "roster": drill.roster.digest.hex(), "terms": drill.terms.digest.hex(), "setup": setup.digest.hex(),
        "ctx": header.digest.hex(), "vectors": [[int(v) for v in ring] for ring in rings],
        "y": [[int(v) for v in uploads[i]] for i in range(n)], "opened": opened, "recovered": recovered,
        "messages": drill.messages, "sum": [int(v) for v in total.vector],
    }  # fmt: skip


def rounds() -> list[Case]:
    """Everybody answers; one falls silent after its upload; one drops out before and one falls silent after."""
    return [whole_round(3, [0, 1, 2], []), whole_round(3, [0, 1, 2], [1]), whole_round(5, [0, 1, 3, 4], [3])]


FILES: dict[str, Callable[[], list[Case]]] = {
    "digest": digests,
    "derive": derivations,
    "mask": mask_vectors,
    "shamir": sharings,
    "merkle": trees,
    "box": sealed_boxes,
    "round_keys": chain_keys,
    "encoding": encodings,
    "envelope": envelopes,
    "round": rounds,
}


def text_of(name: str) -> str:
    """The content of one file."""
    return json.dumps(FILES[name](), indent=1, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> int:
    """Write the files, or say which would change."""
    stale = []
    for name in FILES:
        path, text = FOLDER / f"{name}.json", text_of(name)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(path.name)
            if "--write" in arguments:
                path.write_text(text, encoding="utf-8")
    print(f"{'wrote' if '--write' in arguments else 'changed'}: {', '.join(stale) or 'nothing'}")
    return int(bool(stale) and "--write" not in arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
