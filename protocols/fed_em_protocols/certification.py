"""Certificates: every round ends in exactly one, for its survivors U or for nobody (void).

A witness signs one outcome a round and never another. A quorum q = ⌊(w + f)/2⌋ + 1 of w witnesses makes the certificate: two
certificates of one round would share more than f signers, so an honest witness would have signed twice. U is opened under a
certificate signed with the keys of the round's own window; keys of a later window can only close a round whose window has died.
Under semi-honest trust the quorum is 0, and the server's own signature is the certificate.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from fed_em_protocols.envelope import Sealed, restored, signed_digests
from fed_em_protocols.errors import SERVER, BadSignature, MalformedMessage, OutOfTurn, PeerFault
from fed_em_protocols.graph import without_weakly_tied
from fed_em_protocols.hashing import DIGEST_BYTES, NO_BYTES_DIGEST, digest, digests_of_rows
from fed_em_protocols.keys import SIGNATURE_BYTES, verifies
from fed_em_protocols.members import from_bitmap
from fed_em_protocols.merkle import leaf_hashes, root
from fed_em_protocols.messages import Certificate, Endorsement, Header, Upload
from fed_em_protocols.roster import Roster
from fed_em_protocols.terms import SessionTerms, guarded_units, whole_units
from fed_em_protocols.window import WindowSetUp, quorum_of

NO_ROOT = bytes(DIGEST_BYTES)
EVIDENCE_BYTES = DIGEST_BYTES + SIGNATURE_BYTES


def upload_evidence(upload: Sealed[Upload]) -> bytes:
    """What shows that a tenant uploaded a vector in a round: H(y_i) and the signature; `EVIDENCE_BYTES` long."""
    return upload.attachment_digest + upload.signature


def survivors_root(survivors: Iterable[int], evidence: bytes) -> bytes:
    """Merkle root over (i, H(y_i), signature) of each survivor, ascending; `NO_ROOT` for nobody."""
    places = np.array(sorted(survivors), dtype="<u8").tobytes()
    if not places:
        return NO_ROOT
    return root(leaf_hashes(digests_of_rows("upload", (), ((places, 8), (evidence, EVIDENCE_BYTES)))))


def require_uploads(
    header: Sealed[Header], survivors: Iterable[int], evidence: bytes, setup: WindowSetUp, roster: Roster
) -> None:
    """Check that every survivor uploaded under this very header.

    Raises:
        PeerFault: the server shows an upload that its tenant did not sign.
    """
    content = Upload(header.content.session, header.content.round, header.digest)
    shown = [evidence[start : start + EVIDENCE_BYTES] for start in range(0, len(evidence), EVIDENCE_BYTES)]
    signed = signed_digests(content, b"".join(one[:DIGEST_BYTES] for one in shown))
    for index, one, message in zip(sorted(survivors), shown, signed, strict=True):
        if not verifies(setup.window_key(index), one[DIGEST_BYTES:], message):
            raise PeerFault(
                SERVER,
                f"counts '{roster.tenants[index].name}' as a survivor of round {header.content.round} without its upload",
                proves="the upload that it shows was not signed for this round by that tenant",
            )


def admissible_survivors(uploaded: frozenset[int], setup: WindowSetUp, roster: Roster) -> frozenset[int]:
    """The largest U within those who uploaded: whole units, and on a sparse graph every survivor well tied to the others."""
    units = guarded_units(roster, setup.terms)
    survivors = whole_units(units, uploaded)
    if setup.graph is None or not setup.terms.side_honest:
        return survivors
    return without_weakly_tied(setup.graph, units, survivors, setup.terms.side_honest)


def require_admissible(
    survivors: frozenset[int], header: Header, participants: frozenset[int], setup: WindowSetUp, roster: Roster
) -> None:
    """Hold U against the terms: every signer and every holder does.

    Raises:
        PeerFault: U is too small, splits a block, leaves a survivor with too few neighbours on a side, or differs from the tenants
            whose counts opened the mass gate.
    """
    terms = setup.terms
    if not survivors <= participants:
        raise PeerFault(SERVER, "names survivors that cannot be any")
    if len(survivors) < terms.minimum_survivors:
        raise PeerFault(
            SERVER,
            f"asks to open a sum of {len(survivors)} tenants, the terms say {terms.minimum_survivors} or more",
            proves="the server tried to see a smaller sum than was agreed",
        )
    whole = whole_units(guarded_units(roster, terms), survivors)
    if whole != survivors:
        split = roster.tenants[min(survivors - whole)].name
        raise PeerFault(
            SERVER,
            f"asks to open a sum that splits the block of '{split}'",
            proves="the difference of two such sums would give single tenants' statistics away",
        )
    if admissible_survivors(survivors, setup, roster) != survivors:
        raise PeerFault(
            SERVER,
            f"asks to open a sum in which a tenant has fewer than {terms.side_honest} neighbours on a side",
            proves="the server tried to cut the graph of masks",
        )
    if header.held and survivors != participants:
        raise PeerFault(SERVER, "asks to open moments of other tenants than those whose counts opened the mass gate")


def statement_of(certificate: Certificate) -> Endorsement:
    """What each endorser of a certificate signed."""
    return Endorsement(
        certificate.session,
        certificate.round,
        certificate.context,
        certificate.survivors,
        certificate.root,
        certificate.setup,
    )


def outcome_digest(endorsement: Endorsement) -> bytes:
    """What a witness may sign only one of: the round's context, U and root, whatever window's key signs."""
    return digest("outcome", endorsement.context, endorsement.survivors, endorsement.root)


def require_certified(
    certificate: Sealed[Certificate], header: Sealed[Header], keys: WindowSetUp, roster: Roster
) -> None:
    """Check that a quorum of the witnesses of a header's window signed its certificate.

    Args:
        keys: The window whose keys signed: `certificate.content.setup`.

    Raises:
        PeerFault: names the server.
    """
    content, terms = certificate.content, keys.terms
    if content.round != header.content.round or content.context != header.digest or content.setup != keys.digest:
        raise OutOfTurn(SERVER, f"sent a certificate that does not belong to round {header.content.round}")
    try:
        witnesses = from_bitmap(header.content.witnesses, roster.n)
        endorsers = sorted(from_bitmap(content.endorsers, roster.n))
    except ValueError as error:
        raise MalformedMessage(SERVER, str(error)) from None
    if not witnesses.intersection(keys.witnesses).issuperset(endorsers) or len(endorsers) != len(content.signatures):
        raise MalformedMessage(SERVER, "sent a certificate whose signatures are not those of its witnesses")
    quorum = quorum_of(terms, len(witnesses))
    if len(endorsers) < quorum:
        raise PeerFault(
            SERVER,
            f"shows {len(endorsers)} endorsements of round {content.round}, a certificate needs {quorum}",
            proves="the witnesses did not agree to open this set; nothing was released",
        )
    if not endorsers:
        return  # the server is trusted, and its own signature is the certificate
    signed = restored(statement_of(content), NO_BYTES_DIGEST, b"").digest
    for index, signature in zip(endorsers, content.signatures, strict=True):
        if not verifies(keys.window_key(index), signature, signed):
            raise BadSignature(SERVER, f"shows an endorsement of '{roster.tenants[index].name}' that does not verify")


def signatures_in_order(endorsements: Mapping[int, bytes]) -> tuple[bytes, ...]:
    """The signatures of a certificate, by endorser ascending."""
    return tuple(endorsements[index] for index in sorted(endorsements))


def least_quorum(terms: SessionTerms, header: Header, roster: Roster) -> int:
    """How many witnesses a header's round needs for its certificate."""
    return quorum_of(terms, len(from_bitmap(header.witnesses, roster.n)))
