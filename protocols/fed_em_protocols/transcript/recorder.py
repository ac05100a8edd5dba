"""Writes a session's transcript as it goes: every entry is in the store before the messages of the same step leave.

A checkpoint follows each opened or failed attempt at a sum, and the close. Where a session outlives its server's process, what is kept of
it elsewhere stands between the two: entries, `sync`, what is kept, checkpoint. So entries that nothing else knows of are unsigned, and go.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol, get_args

import numpy as np

from fed_em.errors import CallerError, EnvironmentFault
from fed_em_protocols.coordinator_round import dropped_neighbours
from fed_em_protocols.coordinator_state import (
    CoordinatorState,
    CoordinatorStep,
    EndedRound,
    NoticeKind,
    Round,
    SumNotOpened,
    Window,
)
from fed_em_protocols.description import SessionDescription
from fed_em_protocols.envelope import Sealed, unseal
from fed_em_protocols.keys import SigningKey
from fed_em_protocols.masks import RingVector
from fed_em_protocols.merkle import leaf_hash
from fed_em_protocols.messages import Upload
from fed_em_protocols.roster import Roster
from fed_em_protocols.terms import SessionTerms
from fed_em_protocols.transcript.entries import (
    Advertised,
    Closed,
    Entry,
    FitEntry,
    FitPlanned,
    Joined,
    Opened,
    Refused,
    RoundCertified,
    RoundStarted,
    RoundSummed,
    RoundUploads,
    ServerRestarted,
    Signed,
    SumFailed,
    SurvivorOpened,
    UploadSeen,
    WindowOpened,
    entry_from_bytes,
    entry_to_bytes,
)
from fed_em_protocols.transcript.log import Frontier, signed_checkpoint

# What a fit says whose sums lead elsewhere than they did in the process before.
OTHER_ARITHMETIC = "the fit does not come to what it came to before the server was restarted"
REMEDY_OTHER_ARITHMETIC = (
    "go on with the versions, and on the kind of machine, that the session began with, or begin another with --new"
)


class TranscriptStore(Protocol):
    """Where a transcript is kept: lines that are never changed."""

    @property
    def keeps_uploads(self) -> bool:
        """Whether masked vectors are kept as well."""
        ...

    @property
    def name(self) -> str:
        """What tells it from the transcripts of other sessions beside it."""
        ...

    def append(self, line: bytes) -> None:
        """Keep an entry, without the end of its line."""
        ...

    def checkpoint(self, line: bytes) -> None:
        """Keep a checkpoint; it and every entry before it are durable when this returns."""
        ...

    def keep_upload(self, round_number: int, tenant: int, vector: bytes) -> None:
        """Keep a masked vector."""
        ...

    def sync(self) -> None:
        """Every entry is durable when this returns."""
        ...

    def cut(self, entries: int) -> tuple[Sequence[bytes], int]:
        """Drop what stands behind so many entries, and what was not written to its end.

        Returns:
            The entries that are left, without the ends of their lines, and how many of them the last checkpoint signs.

        Raises:
            EnvironmentFault: there are not so many, or a checkpoint signs more.
        """
        ...


class TranscriptRecorder:
    """Follows the coordinator of one session.

    Args:
        store: Where entries go.
        key: The server's identity key, which signs checkpoints.
        time: The time of day, ISO 8601 UTC.
    """

    def __init__(self, store: TranscriptStore, key: SigningKey, time: Callable[[], str]) -> None:
        self._store = store
        self._key = key
        self._time = time
        self._session = b""
        self._frontier = Frontier()
        self._leaves: list[bytes] = []
        self._window = b""
        self._spends: float | None = None
        self._header = self._uploads = self._certificate = 0
        self._noted: deque[bytes] = deque()
        self._joined: set[Joined] = set()
        self._closed: Signed | None = None

    @property
    def size(self) -> int:
        """How many entries there are."""
        return self._frontier.size

    def opened(self, roster: Roster, terms: Sealed[SessionTerms], fit: FitPlanned, computed_on: dict[str, str]) -> None:
        """The session begins."""
        self._session = terms.content.session
        self._spends = SessionDescription.from_json(terms.attachment).noise_multiplier
        self.add(
            Opened(
                time=self._time(),
                roster=roster.digest,
                terms=Signed.of(terms),
                description=terms.attachment,
                fit=fit,
                computed_on=computed_on,
            )
        )

    def resumed(self, terms: Sealed[SessionTerms], entries: int) -> None:
        """The session goes on, in another process, behind so many entries.

        Raises:
            EnvironmentFault: the store does not hold them, or they are of another session.
        """
        lines, signed = self._store.cut(entries)
        self._session = terms.content.session
        self._spends = SessionDescription.from_json(terms.attachment).noise_multiplier
        for number, line in enumerate(lines):
            leaf = leaf_hash(line)
            self._frontier = self._frontier.with_leaf(leaf)
            self._leaves += [leaf] if number >= signed else []
            try:
                self._known(entry_from_bytes(line, f"entry {number} of the transcript"), line, terms)
            except CallerError as error:
                raise EnvironmentFault(f"the session cannot go on: {error.message}") from None

    def _known(self, entry: Entry, line: bytes, terms: Sealed[SessionTerms]) -> None:
        """What an entry that is there already says of what is still to be written."""
        if isinstance(entry, Opened) and not entry.terms.is_of(terms):
            raise CallerError("the transcript is of another session")
        if isinstance(entry, get_args(FitEntry)):
            self._noted.append(line)
        elif isinstance(entry, Joined):
            self._joined.add(entry)
        elif isinstance(entry, RoundStarted):
            self._header += 1
        elif isinstance(entry, RoundUploads):
            self._uploads = entry.round
        elif isinstance(entry, RoundCertified):
            self._certificate = self._header
        elif isinstance(entry, Closed):
            self._closed = entry.message

    def stepped(self, step: CoordinatorStep) -> None:
        """The coordinator took a step. Call it before the step's messages are sent, and `concluded` behind it.

        Raises:
            EnvironmentFault: the store does not take it, or the session was closed in another way before its server was restarted.
        """
        if self._closed is not None:
            if step.closed is not None and not self._closed.is_of(step.closed):
                raise EnvironmentFault(OTHER_ARITHMETIC, remedy=REMEDY_OTHER_ARITHMETIC)
            return
        state = step.state
        if state.window is not None:
            self._in_window(state.window)
        current = step.ended.round if step.ended else state.round
        if current is not None:
            self._in_round(current)
        if step.ended is not None:
            self._after_round(state, step.ended)
        if isinstance(step.result, SumNotOpened):
            self.add(self._without_sum(step.result))
        if step.closed is not None:
            self.add(Closed(message=Signed.of(step.closed), parameters=step.closed.attachment))

    def _without_sum(self, result: SumNotOpened) -> Entry:
        if result.interrupted:
            return ServerRestarted(round=result.round, time=self._time())
        return SumFailed(round=result.round, reason=result.reason, final=result.final)

    def concluded(self, step: CoordinatorStep) -> None:
        """Whatever else keeps a step has kept it: sign the entries so far, if an attempt or the session is over."""
        if self._leaves and (step.result is not None or step.closed is not None):
            self.checkpoint()

    def heard(self, step: CoordinatorStep, tenant: int, data: bytes) -> None:
        """A tenant's message led to a step. Call it before `stepped`."""
        if self._closed is not None:
            return
        for notice in step.notices:
            if notice.tenants != (step.state.name(tenant),):
                continue
            if notice.kind is NoticeKind.JOINED:
                self._joins(Joined(tenant=tenant, message=Signed.of(unseal(data, ""))))
            elif notice.kind is NoticeKind.REFUSED:
                self.add(Refused(tenant=tenant, message=Signed.of(unseal(data, ""))))
            elif notice.kind is NoticeKind.UPLOADED and self._store.keeps_uploads:
                upload = unseal(data, "")
                assert isinstance(upload.content, Upload)
                self._store.keep_upload(upload.content.round, tenant, upload.attachment)

    def _joins(self, entry: Joined) -> None:
        """Once: the same process of a tenant accepts the same terms again when another of the server asks."""
        if entry not in self._joined:
            self._joined.add(entry)
            self.add(entry)

    def _in_window(self, window: Window) -> None:
        if window.opening.digest == self._window:
            return
        self._window = window.opening.digest
        members = (
            Advertised(tenant=index, message=Signed.of(advertised), table=advertised.attachment)
            for index, advertised in sorted(window.advertisements.items())
        )
        nonces = tuple(window.nonces[index] for index in window.fixed.witnesses) if window.fixed.draws_graph else ()
        self.add(WindowOpened(opening=Signed.of(window.opening), advertisements=tuple(members), nonces=nonces))

    def _in_round(self, current: Round) -> None:
        if current.number > self._header:
            self._header = current.number
            header = current.header
            self.add(RoundStarted(header=Signed.of(header), parameters=header.attachment))
        if current.outcome is not None:
            self._uploaded(current)
        if current.certificate is not None and current.number > self._certificate:
            self._certificate = current.number
            self.add(RoundCertified(certificate=Signed.of(current.certificate)))

    def _uploaded(self, current: Round) -> None:
        if current.number <= self._uploads:
            return
        self._uploads = current.number
        seen = (
            UploadSeen(tenant=index, digest=evidence[:32], signature=evidence[32:])
            for index, evidence in sorted(current.uploads.items())
        )
        self.add(RoundUploads(round=current.number, uploads=tuple(seen), spends=self._spends))

    def _after_round(self, state: CoordinatorState, ended: EndedRound) -> None:
        current, opened = ended.round, ended.opened
        self._uploaded(current)
        if opened is None:
            return
        window = state.window
        assert window is not None  # a sum was opened by its members
        openings = []
        for index in sorted(current.survivors):
            keys = current.keys_given[index]
            message = current.openings.get(index)
            openings.append(
                SurvivorOpened(
                    tenant=index,
                    message=None if message is None else Signed.of(message),
                    self_seed=current.self_seeds[index],
                    pair_keys=b"".join(keys[d] for d in dropped_neighbours(window.fixed, current, index)),
                )
            )
        self.add(RoundSummed(round=current.number, openings=tuple(openings), vector=in_bytes(opened)))

    def noted(self, entry: FitEntry) -> None:
        """The fit came to something: an entry more, unless it came to the same before the server was restarted.

        Raises:
            EnvironmentFault: it came to something else.
        """
        if not self._noted:
            self.add(entry)
        elif self._noted.popleft() != entry_to_bytes(entry):
            raise EnvironmentFault(OTHER_ARITHMETIC, remedy=REMEDY_OTHER_ARITHMETIC)

    def sync(self) -> None:
        """Every entry so far is durable when this returns."""
        self._store.sync()

    def add(self, entry: Entry) -> None:
        """One entry more."""
        line = entry_to_bytes(entry)
        leaf = leaf_hash(line)
        self._store.append(line)
        self._frontier = self._frontier.with_leaf(leaf)
        self._leaves.append(leaf)

    def checkpoint(self) -> None:
        """Sign all entries so far."""
        signed = signed_checkpoint(self._session, self._frontier, self._leaves, self._time(), self._key)
        self._store.checkpoint(signed.to_bytes())
        self._leaves = []


def in_bytes(vector: RingVector) -> bytes:
    """A vector as little-endian words."""
    return vector.astype(np.dtype(f"<u{vector.itemsize}")).tobytes()
