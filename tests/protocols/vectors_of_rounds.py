"""Known answers of whole rounds, by the tenants' machines and the server's arithmetic: every message, every mask, the sum."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from fed_em_protocols.envelope import Sealed
from fed_em_protocols.masks import RingVector
from fed_em_protocols.messages import Mode, Opening, SharedSecret
from fed_em_protocols.ring import RING_64
from fed_em_protocols.round_keys import AgreementKey
from fed_em_protocols.round_sum import unmasked
from fed_em_protocols.shamir import combine
from fed_em_protocols.terms import Trust
from tests.protocols.drill import Drill
from tests.protocols.vector_cases import Case

LENGTH = 5
SPARSE = {
    "named_witnesses": 4, "colluders": 0, "minimum_survivors": 5, "neighbours": 4, "share_threshold": 3, "side_honest": 1,
    "witnesses": 4, "certificate_quorum": 3,
}  # fmt: skip
SEMI_HONEST = {"trust": int(Trust.SEMI_HONEST)}


def rounds() -> list[Case]:
    """Everybody answers; some drop out before their upload, some fall silent after it; on the complete graph under both trusts, with
    blocks, and on a sparse graph; a round of counts."""
    return [
        whole_round(3, [0, 1, 2], [], **SEMI_HONEST),
        whole_round(3, [0, 1, 2], []),
        whole_round(3, [0, 1, 2], [1], **SEMI_HONEST),
        whole_round(5, [0, 1, 3, 4], [3]),
        whole_round(6, [0, 2, 4], [], blocks=2, colluders=1),
        whole_round(8, [0, 1, 2, 4, 5, 6, 7], [6], **SPARSE),
        counts_round(4, [0, 1, 3]),
    ]


class RecordingDrill(Drill):
    """Notes every message, in order, with its tenant."""

    def __init__(self, n: int, length: int = LENGTH, **options: Any) -> None:
        self.messages: list[Case] = []
        super().__init__(n, length=length, window_rounds=1, **options)

    def tell(self, index: int, message: Sealed[Any]) -> Sealed[Any] | None:
        answer = super().tell(index, message)
        self.messages += [{"tenant": index, **_message(each)} for each in (message, answer) if each is not None]
        return answer


def _message(sealed: Sealed[Any]) -> Case:
    """A message of a round: what it is, its digest and that of all its bytes."""
    return {
        "kind": type(sealed.content).__name__,
        "digest": sealed.digest.hex(),
        "sha256": hashlib.sha256(sealed.to_bytes()).hexdigest(),
    }


def whole_round(n: int, survivors: Sequence[int], silent: Sequence[int], **terms: Any) -> Case:
    """A seeded round from the opening of its window to its sum."""
    drill = RecordingDrill(n, **terms)
    header, setup = drill.header(1), drill.fixed
    vectors = _uploaded(drill, header)
    # Nobody certifies anything under semi-honest trust; the server's own signature says who is in the sum.
    certificate = drill.certify(header, survivors) if setup.certified else drill.certificate(header, survivors)
    openings = {i: drill.told(i, certificate) for i in survivors if i not in silent}
    seeds = {i: opening.self_seed for i, opening in openings.items()}
    keys, secrets = _pair_keys(drill, openings, survivors), dict[tuple[int, SharedSecret], bytes]()
    if silent:
        secrets, recovered = _recovered(drill, header, certificate, survivors, silent)
        seeds |= {v: secrets[v, SharedSecret.SELF_SEED] for v in silent}
        keys |= recovered
    total = _summed(drill, header, survivors)
    opened = unmasked(total, seeds.values(), keys, header.digest)
    assert np.array_equal(opened, sum((vectors[i] for i in survivors), RING_64.zeros(LENGTH)))
    return {
        **_told(drill, header, vectors, survivors), "silent": list(silent), "threshold": setup.threshold, "quorum": setup.quorum,
        "ring": setup.graph.ring if setup.graph else None, "certificate": certificate.digest.hex(),
        "opened": _opened(openings), "pair_keys": {f"{v}/{d}": key.hex() for (v, d), key in sorted(keys.items())},
        "recovered": {f"{dealer}/{int(which)}": secret.hex() for (dealer, which), secret in sorted(secrets.items())},
        "messages": drill.messages, "sum": [int(value) for value in opened],
    }  # fmt: skip


def counts_round(n: int, survivors: Sequence[int]) -> Case:
    """A round of counts, and the evidence from which everybody computes them again."""
    drill = RecordingDrill(n, 2 + RING_64.for_counts.tail_words, mass_floor=1000)
    header = drill.header(1, mode=Mode.COUNTS)
    vectors = _uploaded(drill, header)
    certificate = drill.certify(header, survivors)
    openings = drill.openings(certificate)
    evidence = drill.counted(header, certificate, openings)
    step = drill.deliver(0, evidence.to_bytes())
    assert step.counts is not None
    told = _told(drill, header, vectors, survivors)
    del told["y"]  # the evidence holds them
    return {
        **told, "certificate": certificate.digest.hex(), "opened": _opened(openings),
        "counted": evidence.to_bytes().hex(), "messages": drill.messages, "sum": [int(value) for value in step.counts],
    }  # fmt: skip


def _uploaded(drill: Drill, header: Sealed[Any]) -> list[RingVector]:
    """Statistics that everybody uploads: two, with zeros behind them."""
    n = drill.roster.n
    vectors = [RING_64.zeros(drill.length) for _ in range(n)]
    for i, vector in enumerate(vectors):
        vector[:2] = i + 1, 2**64 - 1 - i
        drill.upload(i, header, vector)
    return vectors


def _summed(drill: Drill, header: Sealed[Any], survivors: Iterable[int]) -> RingVector:
    return sum((drill.uploads[header.digest][i] for i in survivors), RING_64.zeros(drill.length))


def _told(drill: Drill, header: Sealed[Any], vectors: Sequence[RingVector], survivors: Sequence[int]) -> Case:
    masked = drill.uploads[header.digest]
    return {
        "n": drill.roster.n, "trust": Trust(drill.terms.content.trust).label, "survivors": list(survivors),
        "dropped": [i for i in range(drill.roster.n) if i not in survivors], "roster": drill.roster.digest.hex(),
        "terms": drill.terms.digest.hex(), "setup": drill.fixed.digest.hex(), "ctx": header.digest.hex(),
        "vectors": [[int(value) for value in vector] for vector in vectors],
        "y": [[int(value) for value in masked[i]] for i in range(drill.roster.n)],
    }  # fmt: skip


def _opened(openings: Mapping[int, Opening]) -> Case:
    return {
        str(i): {"self_seed": opening.self_seed.hex(), "pair_keys": opening.pair_keys.hex()}
        for i, opening in sorted(openings.items())
    }


def _pair_keys(drill: Drill, openings: Mapping[int, Opening], survivors: Sequence[int]) -> dict[tuple[int, int], bytes]:
    """Keys of masks with dropped neighbours, by who gave them and whose mask it is."""
    keys: dict[tuple[int, int], bytes] = {}
    for i, opening in openings.items():
        lost = [d for d in drill.fixed.neighbours(i) if d not in survivors]
        keys |= {(i, d): opening.pair_keys[16 * place : 16 * (place + 1)] for place, d in enumerate(lost)}
    return keys


def _recovered(
    drill: Drill, header: Sealed[Any], certificate: Sealed[Any], survivors: Sequence[int], silent: Sequence[int]
) -> tuple[dict[tuple[int, SharedSecret], bytes], dict[tuple[int, int], bytes]]:
    """The secrets that holders' shares give back, and with them the keys of masks between the silent and the dropped."""
    setup = drill.fixed
    lost = {d for v in silent for d in setup.neighbours(v) if d not in survivors}
    recover = drill.recover(header, certificate, silent, lost)
    shares: dict[tuple[int, SharedSecret], dict[int, bytes]] = {}
    for holder in range(drill.roster.n):
        if holder not in silent and {*silent, *lost}.intersection(setup.neighbours(holder)):
            for share in drill.told(holder, recover).released:
                shares.setdefault((share.dealer, SharedSecret(share.secret)), {})[holder] = share.share
    secrets = {whose: combine(held, setup.threshold) or b"" for whose, held in shares.items()}
    keys = {
        (v, d): AgreementKey(d, secrets[d, SharedSecret.AGREEMENT]).pair_mask_key(
            v, setup.round_key(v, 1), header.digest, ""
        )
        for v in silent
        for d in setup.neighbours(v)
        if d in lost
    }
    return secrets, keys
