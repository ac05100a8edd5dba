"""A tenant's own log of what left its house, and of what the server has signed for it.

It is append-only, and each line has the hash of the one before. It holds no secret and no statistics: of what was sent, the digest that
the tenant signed and its signature; of what the server sent, the signed bytes of terms, headers, certificates and closes, without
attachments. With it a tenant checks a transcript against what it knows itself, and shows others two headers that the server signed for
one round.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

from pydantic import ValidationError

from fed_em.errors import CallerError
from fed_em_protocols.configuration import complaint_of
from fed_em_protocols.description import SessionDescription
from fed_em_protocols.envelope import Sealed, unquote, unseal
from fed_em_protocols.errors import SERVER, PeerFault
from fed_em_protocols.hashing import DIGEST_BYTES
from fed_em_protocols.keys import verifies
from fed_em_protocols.messages import Certificate, Close, Header, Payload, Upload
from fed_em_protocols.roster import Roster
from fed_em_protocols.terms import SessionTerms
from fed_em_protocols.transcript.canonical_json import canonical_json, read_canonical_json
from fed_em_protocols.transcript.entries import Digest, Hex, HexFloat, LineTable, Number, Signature, Signed
from fed_em_protocols.transcript.faults import Place, TranscriptFault
from fed_em_protocols.transcript.reading import lines_of

NO_LINE = bytes(DIGEST_BYTES)

# What the server signs that there may be one of only.
WITNESSED: dict[str, type] = {kind.__name__: kind for kind in (SessionTerms, Header, Certificate, Close)}


class LogLine(LineTable):
    """One message that was sent, or that the server had signed."""

    format: Literal[1] = 1
    number: Number
    before: Digest
    """The hash of the line before; zeros for the first."""
    tenant: str
    """Whose log it is."""
    time: str
    """ISO 8601, UTC, by the tenant's clock."""
    way: Literal["sent", "seen"]
    kind: str
    """Of the message."""
    session: Hex
    """Empty for messages that name none."""
    round: Number
    """0 for messages that are of none."""
    digest: Digest
    """What the signature is over."""
    attachment: Digest
    """SHA-256 of what was attached: of an upload, of the masked vector."""
    signature: Signature
    spends: HexFloat | None = None
    """Of an upload in a private session: the noise multiplier of this one sum, which the tenant spent; None for all others."""
    message: Signed | None = None
    """The signed bytes, of what the server sent."""
    hash: Digest = NO_LINE
    """SHA-256 of the line without this."""

    @property
    def true_hash(self) -> bytes:
        """What `hash` must be."""
        return hashlib.sha256(canonical_json(self.model_dump(mode="json", exclude={"hash"}))).digest()


class LineStore(Protocol):
    """Where the lines go."""

    def append(self, lines: Sequence[bytes]) -> None:
        """Keep lines, without their ends; durable when this returns."""
        ...


class TenantLog:
    """Writes the log of one tenant.

    Args:
        store: Where it goes.
        tenant: The tenant's name.
        roster: Whose server it deals with.
        time: The time of day, ISO 8601 UTC.
        last: The last line that is in the store; None if there is none.
    """

    def __init__(
        self, store: LineStore, tenant: str, roster: Roster, time: Callable[[], str], last: bytes | None = None
    ) -> None:
        self._store = store
        self._tenant = tenant
        self._roster = roster
        self._time = time
        self._before, self._number = NO_LINE, 0
        self._noise: dict[bytes, float | None] = {}
        if last is not None:
            line = read_line(last, Place("the tenant's log"))
            self._before, self._number = line.hash, line.number + 1

    def sent(self, messages: Sequence[bytes]) -> None:
        """These messages are about to leave."""
        self._append([self._line("sent", unseal(data, self._tenant)) for data in messages])

    def seen(self, data: bytes) -> None:
        """The server sent this; kept if it is of a kind that it may sign one of only, and signed by it."""
        try:
            sealed = unseal(data, SERVER)
        except PeerFault:
            return  # whoever reads it next says what is wrong
        witnessed = type(sealed.content).__name__ in WITNESSED
        if witnessed and verifies(self._roster.server.identity_key, sealed.signature, sealed.digest):
            if isinstance(sealed.content, SessionTerms):
                self._noise[sealed.content.session] = _noise_in(sealed.attachment)
            self._append([self._line("seen", sealed, Signed.of(sealed))])

    def _line(self, way: Literal["sent", "seen"], sealed: Sealed[Payload], message: Signed | None = None) -> LogLine:
        content = sealed.content
        return LogLine(
            number=0,
            before=NO_LINE,
            tenant=self._tenant,
            time=self._time(),
            way=way,
            kind=type(content).__name__,
            session=getattr(content, "session", b""),
            round=getattr(content, "round", 0),
            digest=sealed.digest,
            attachment=sealed.attachment_digest,
            signature=sealed.signature,
            spends=self._noise.get(content.session) if isinstance(content, Upload) else None,
            message=message,
        )

    def _append(self, lines: Sequence[LogLine]) -> None:
        written = []
        for line in lines:
            placed = line.model_copy(update={"number": self._number, "before": self._before})
            hashed = placed.model_copy(update={"hash": placed.true_hash})
            written.append(canonical_json(hashed.model_dump(mode="json")))
            self._before, self._number = hashed.hash, self._number + 1
        if written:
            self._store.append(written)


def _noise_in(description: bytes) -> float | None:
    try:
        return SessionDescription.from_json(description).noise_multiplier
    except CallerError:
        return None  # the session is none that this tenant joins


def read_line(data: bytes, place: Place) -> LogLine:
    """A line of a log. Raises `TranscriptFault` if it is none."""
    try:
        line = LogLine.model_validate(read_canonical_json(data, "it"))
        if canonical_json(line.model_dump(mode="json")) != data:
            raise CallerError("a field is written in another way than the only one")
    except ValidationError as error:
        raise TranscriptFault(complaint_of(error), place) from None
    except CallerError as error:
        raise TranscriptFault(error.message, place) from None
    if line.hash != line.true_hash:
        raise TranscriptFault("it is not as it was written: its hash is another", place)
    return line


def read_tenant_log(data: bytes, file: str, roster: Roster) -> tuple[LogLine, ...]:
    """A whole log, its chain verified, and what the server has signed in it.

    Args:
        data: The file's bytes.
        file: Its name, for faults.
        roster: As it was pinned.

    Raises:
        TranscriptFault: names the first line that does not follow from the one before.
    """
    found: list[LogLine] = []
    before = NO_LINE
    for number, raw in enumerate(lines_of(data, file)):
        place = Place(file, number)
        line = read_line(raw, place)
        if line.number != number or line.before != before:
            raise TranscriptFault("it does not follow the line before: lines were dropped, swapped or added", place)
        if found and line.tenant != found[0].tenant:
            raise TranscriptFault("it is of another tenant than the line before", place)
        _require_signed(line, place, roster)
        found.append(line)
        before = line.hash
    return tuple(found)


def _require_signed(line: LogLine, place: Place, roster: Roster) -> None:
    """What is said to be the server's is, and what is said of it is true."""
    if line.way == "sent":
        return
    if line.message is None or line.kind not in WITNESSED:
        raise TranscriptFault("it says that the server signed something, and not what", place)
    try:
        sealed: Sealed[Any] = unquote(line.message.quoted, WITNESSED[line.kind], SERVER)
        sealed.require_signature(roster.server.identity_key, SERVER)
    except PeerFault as fault:
        raise TranscriptFault(fault.fault, Place(place.file, place.line, "message", SERVER)) from None
    content = sealed.content
    said = (line.digest, line.attachment, line.signature, line.session, line.round)
    true = (
        sealed.digest, sealed.attachment_digest, sealed.signature, getattr(content, "session", b""), getattr(content, "round", 0),
    )  # fmt: skip
    if said != true:
        raise TranscriptFault("what it says of the message is not so", Place(place.file, place.line, "digest"))
