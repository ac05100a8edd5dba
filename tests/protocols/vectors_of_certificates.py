"""Known answers of certificates: roots, endorsements, outcomes, and what witnesses and survivors refuse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from fed_em_protocols.certification import (
    EVIDENCE_BYTES,
    outcome_digest,
    require_certified,
    statement_of,
    survivors_root,
)
from fed_em_protocols.envelope import Sealed, restored
from fed_em_protocols.hashing import NO_BYTES_DIGEST
from fed_em_protocols.members import from_bitmap
from fed_em_protocols.messages import Certificate, Header
from tests.protocols.drill import Drill
from tests.protocols.vector_cases import Case, error_of, hexes


def roots() -> list[Case]:
    """Merkle roots over (index, SHA-256 of the upload's vector, its signature); zeros for nobody."""
    evidence = bytes(range(256)) * 2
    chosen: list[list[int]] = [[], [0], [0, 1], [1, 2, 5], [0, 3, 4, 63, 9999]]
    cases: list[Case] = []
    for survivors in chosen:
        shown = evidence[: EVIDENCE_BYTES * len(survivors)]
        cases.append({"survivors": survivors, "evidence": shown.hex(), "root": survivors_root(survivors, shown).hex()})
    return cases


def certificates() -> list[Case]:
    """A round of six tenants in two blocks, certified for all, for one block, and for nobody; then what is refused."""
    drill = Drill(6, blocks=2, colluders=1)
    header = drill.header(1)
    for index in range(6):
        drill.upload(index, header)
    cases = [
        certificate_case(drill, header, drill.certificate(header, survivors)) for survivors in (range(6), (0, 2, 4), ())
    ]
    return cases + refused_certificates(drill, header) + refused_proposals(drill, header)


def certificate_case(drill: Drill, header: Sealed[Header], certificate: Sealed[Certificate]) -> Case:
    """All that a certificate follows from, and the certificate."""
    content, setup = certificate.content, drill.fixed
    statement = statement_of(content)
    survivors = sorted(from_bitmap(content.survivors, drill.roster.n))
    signed = restored(statement, NO_BYTES_DIGEST, b"")
    return {
        "header": header.to_bytes().hex(), "ctx": header.digest.hex(), "setup": setup.digest.hex(),
        "witness_keys": hexes(setup.window_key(index) for index in setup.witnesses), "quorum": setup.quorum,
        "survivors": survivors, "evidence": drill.evidence(header, survivors).hex(), "root": content.root.hex(),
        "endorsement": signed.payload.hex(), "endorsement_digest": signed.digest.hex(), "outcome": outcome_digest(statement).hex(),
        "signatures": hexes(content.signatures), "certificate": certificate.to_bytes().hex(),
    }  # fmt: skip


def refused_certificates(drill: Drill, header: Sealed[Header]) -> list[Case]:
    """Certificates that no survivor opens anything for."""
    good = drill.certificate(header, range(6)).content
    missing = replace(good, endorsers=b"\x07", signatures=good.signatures[:3])
    wrong = {
        "too few endorsements": missing,
        "an endorsement of another witness": replace(good, signatures=(good.signatures[1], *good.signatures[1:])),
        "fewer signatures than endorsers": replace(good, signatures=good.signatures[1:]),
        "an endorser beyond the roster": replace(good, endorsers=b"\x7f"),
        "another root than was endorsed": replace(good, root=bytes(32)),
        "other survivors than were endorsed": replace(good, survivors=b"\x15"),
        "another context": replace(good, context=bytes(32)),
    }
    cases: list[Case] = []
    for what, content in wrong.items():
        certificate = drill.sealed(content)
        text = error_of(lambda c=certificate: require_certified(c, header, drill.fixed, drill.roster))  # type: ignore[misc]
        cases.append({"what": what, "certificate": certificate.to_bytes().hex(), "error": text})
    return cases


def refused_proposals(drill: Drill, header: Sealed[Header]) -> list[Case]:
    """Outcomes that witness 5 does not endorse."""
    forged = drill.evidence(header, range(6))
    forged = forged[:EVIDENCE_BYTES] * 2 + forged[2 * EVIDENCE_BYTES :]
    wrong: dict[str, Callable[[], Sealed[object]]] = {
        "a split block": lambda: drill.proposal(header, (0, 1, 2, 3, 4)),
        "too few survivors": lambda: drill.proposal(header, (0, 2)),
        "an upload of another tenant": lambda: drill.proposal(header, range(6), evidence=forged),
        "no uploads": lambda: drill.proposal(header, range(6), evidence=b""),
    }
    cases: list[Case] = []
    for what, make in wrong.items():
        proposal = make()
        text = error_of(lambda p=proposal: drill.deliver(5, p.to_bytes()))  # type: ignore[misc]
        cases.append({"what": what, "proposal": proposal.to_bytes().hex(), "error": text})
    return cases
