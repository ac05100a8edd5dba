"""Known answers of the primitives: hashing, derivation, masks, sharing, trees, boxes, key chains, rings and the encoding."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from fed_em.layout import Block, Layout
from fed_em.statistics import Statistics
from fed_em_protocols.boxes import Route
from fed_em_protocols.encoding import Encoding
from fed_em_protocols.hashing import digest
from fed_em_protocols.keys import agree, agreement_public, derive
from fed_em_protocols.masks import mask
from fed_em_protocols.merkle import includes, inclusion_path, leaf_hash, root
from fed_em_protocols.ring import RINGS
from fed_em_protocols.round_keys import AgreementKey, KeyChain, commitment, self_mask_key
from fed_em_protocols.shamir import combine, split
from fed_em_simulations.simulated_parties import seeded_randomness
from tests.protocols.vector_cases import Case, error_of, hexes


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


def rings() -> list[Case]:
    """Both rings: a mask of one key in either, read as words, and what a tenant sends that cannot compute its statistics."""
    key = bytes(range(16))
    return [
        {
            "bits": bits,
            "check_words": ring.check_words,
            "tail_words": ring.tail_words,
            "key": key.hex(),
            "mask": [int(word) for word in mask(key, 5, ring.dtype.type)],
            "noise": bytes(range(3 * ring.word_bytes)).hex(),
            "fault": [int(word) for word in ring.fault_vector(bytes(range(3 * ring.word_bytes)))],
        }
        for bits, ring in RINGS.items()
    ]
