"""A transcript held against a tenant's own log: did it send what the transcript says, and did the server show it the same session?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fed_em.errors import CallerError
from fed_em_protocols.certification import outcome_digest, statement_of
from fed_em_protocols.envelope import Sealed, unquote
from fed_em_protocols.errors import SERVER
from fed_em_protocols.members import from_bitmap
from fed_em_protocols.messages import Certificate
from fed_em_protocols.transcript.faults import Place, TranscriptFault
from fed_em_protocols.transcript.tenant_log import LogLine
from fed_em_protocols.transcript.walk import WalkedSession

_TWICE = "the server signed two of what there may be one of only: both signatures together prove it to anybody"
_FORGED = "somebody else signs with the tenant's key, or the log was not kept by the process that took part"


@dataclass(frozen=True)
class CrossCheck:
    """What came of it.

    Attributes:
        tenant: Whose log it is.
        sent, seen: Lines of this session.
        uploads: Uploads of this tenant in the transcript, each of which is in the log.
        unused: Uploads in the log that are in no sum: they came late, or were lost.
        faults: What does not agree.
    """

    tenant: str
    sent: int
    seen: int
    uploads: int
    unused: int
    faults: tuple[TranscriptFault, ...]


def cross_checked(session: WalkedSession, log: Sequence[LogLine], file: str) -> CrossCheck:
    """Hold a verified session against one tenant's log.

    Args:
        session: From the transcript.
        log: From `read_tenant_log`.
        file: The log's name, for faults.

    Raises:
        CallerError: the log is empty, or of somebody who is not in the roster.
    """
    if not log:
        raise CallerError(f"{file} is empty")
    index = session.roster.index(log[0].tenant)
    ours = [line for line in log if line.session == session.terms.content.session]
    sent = {(line.kind, line.digest, line.signature) for line in ours if line.way == "sent"}
    faults = [*_of_server(session, [line for line in ours if line.way == "seen"], file)]
    faults += [*_of_tenant(session, index, sent), *_of_spends(session, ours, file)]
    listed = {uploads[index][-64:] for uploads in session.uploads.values() if index in uploads}
    own = {line.signature for line in ours if line.way == "sent" and line.kind == "Upload"}
    n_sent = sum(line.way == "sent" for line in ours)
    return CrossCheck(log[0].tenant, n_sent, len(ours) - n_sent, len(listed), len(own - listed), tuple(faults))


def _of_server(session: WalkedSession, seen: Sequence[LogLine], file: str) -> Iterator[TranscriptFault]:
    """What the server signed for this tenant is what the transcript says that it signed."""
    for line in seen:
        place = Place(file, line.number, "digest", SERVER)
        if line.kind == "SessionTerms" and line.digest != session.terms.digest:
            yield TranscriptFault("the server showed this tenant other terms of the session", place, _TWICE)
        if line.kind == "Header":
            yield from _of_header(session, line, place)
        if line.kind == "Certificate":
            yield from _of_certificate(session, line, place)
        if line.kind == "Close":
            if session.closed is None:
                yield TranscriptFault(
                    "the server closed the session, and the transcript ends before",
                    place,
                    "the transcript was cut short",
                )
            elif session.closed.digest != line.digest:
                yield TranscriptFault("the server closed the session for this tenant in another way", place, _TWICE)


def _of_spends(session: WalkedSession, ours: Sequence[LogLine], file: str) -> Iterator[TranscriptFault]:
    """What the tenant spent is what the session's description says of each sum."""
    for line in ours:
        if line.way == "sent" and line.kind == "Upload" and line.spends != session.description.noise_multiplier:
            place = Place(file, line.number, "spends", line.tenant)
            yield TranscriptFault(f"the tenant counts another spend in round {line.round} than was agreed on", place)


def _of_header(session: WalkedSession, line: LogLine, place: Place) -> Iterator[TranscriptFault]:
    known = session.headers.get(line.round)
    if known is None:
        yield TranscriptFault(
            f"the server began round {line.round}, which is not in the transcript",
            place,
            "the transcript was cut short",
        )
    elif known.digest != line.digest:
        yield TranscriptFault(f"the server showed this tenant another header of round {line.round}", place, _TWICE)


def _of_certificate(session: WalkedSession, line: LogLine, place: Place) -> Iterator[TranscriptFault]:
    assert line.message is not None
    seen: Sealed[Certificate] = unquote(line.message.quoted, Certificate, SERVER)
    known = session.certificates.get(line.round)
    if known is None:
        yield TranscriptFault(
            f"the server asked to open round {line.round}, and the transcript has no certificate of it",
            place,
            "the transcript was cut short",
        )
    elif outcome_digest(statement_of(known.content)) != outcome_digest(statement_of(seen.content)):
        yield TranscriptFault(f"the server showed this tenant other survivors of round {line.round}", place, _TWICE)


def _of_tenant(session: WalkedSession, index: int, sent: set[tuple[str, bytes, bytes]]) -> Iterator[TranscriptFault]:
    """What the transcript says that this tenant sent is in its log."""
    name = session.roster.tenants[index].name
    signatures = {(kind, signature) for kind, _, signature in sent}

    def unknown(what: str, entry: int, field: str) -> TranscriptFault:
        return TranscriptFault(f"{what} is not in its log", Place(line=entry, field=field, party=name), _FORGED)

    for number, uploads in session.uploads.items():
        if index in uploads and ("Upload", uploads[index][-64:]) not in signatures:
            yield unknown(f"an upload of round {number}", session.entry_of["uploads", number], "uploads")
    for number, openings in session.openings.items():
        opening = openings.get(index)
        if opening is not None and ("Opening", opening.digest, opening.signature) not in sent:
            yield unknown(f"an opening of round {number}", session.entry_of["sum", number], "openings.message")
    for number, certificate in session.certificates.items():
        endorsers = sorted(from_bitmap(certificate.content.endorsers, session.roster.n))
        if index in endorsers:
            signature = certificate.content.signatures[endorsers.index(index)]
            if ("Endorsement", signature) not in signatures:
                yield unknown(
                    f"an endorsement of round {number}", session.entry_of["certificate", number], "certificate"
                )
