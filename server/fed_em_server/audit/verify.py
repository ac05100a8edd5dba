"""`fed-em audit verify`: what a transcript shows, check by check, and the place of whatever fails."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from fed_em.errors import CallerError
from fed_em_protocols.messages import CloseReason
from fed_em_protocols.privacy.accounting import epsilon_of
from fed_em_protocols.roster import Roster
from fed_em_protocols.terms import Trust
from fed_em_protocols.transcript.cross_check import CrossCheck, cross_checked
from fed_em_protocols.transcript.faults import Place, TranscriptFault
from fed_em_protocols.transcript.log import Checkpoint
from fed_em_protocols.transcript.reading import TranscriptFiles, verified_entries
from fed_em_protocols.transcript.tenant_log import read_tenant_log
from fed_em_protocols.transcript.walk import WalkedSession, walked
from fed_em_server.audit.policies import OwnPolicy, hours_kept, measurements_kept, require_admitted
from fed_em_server.audit.replay import TOLERANCE, replayed


class Verdict(Enum):
    """What became of a check."""

    PASSED = "passed"
    FAILED = "failed"
    NOTED = "noted"
    """Nothing is wrong; a reader should know all the same."""
    NOT_REACHED = "not reached"
    """Something before it failed."""


@dataclass(frozen=True)
class Check:
    """One line of the list.

    Attributes:
        name: What is checked.
        verdict: What became of it.
        said: In a sentence.
        place: Of what failed.
        proves: What a failure proves against whom.
    """

    name: str
    verdict: Verdict
    said: str
    place: Place | None = None
    proves: str = ""

    def to_json(self) -> dict[str, Any]:
        """As JSON-able values."""
        found: dict[str, Any] = {"check": self.name, "verdict": self.verdict.value, "said": self.said}
        if self.place is not None:
            place = self.place
            found["place"] = {"file": place.file, "line": place.line, "field": place.field, "party": place.party}
        return found | ({"proves": self.proves} if self.proves else {})


@dataclass(frozen=True)
class Verification:
    """What a verification came to.

    Attributes:
        checks: In order.
        session: What was verified; None if it could not be read.
    """

    checks: tuple[Check, ...]
    session: WalkedSession | None = field(default=None, repr=False)

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return all(check.verdict in (Verdict.PASSED, Verdict.NOTED) for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """As JSON-able values."""
        session = None if self.session is None else self.session.terms.content.session.hex()
        return {"passed": self.passed, "session": session, "checks": [check.to_json() for check in self.checks]}


LOG = "log and checkpoints"
SESSION = "signatures, chain of rounds and sums"
PRIVACY = "privacy"
FIT = "fit"
END = "end"


def verify(
    files: TranscriptFiles,
    roster: Roster,
    logs: Mapping[str, bytes] | None = None,
    known: Sequence[Checkpoint] = (),
    policies: Sequence[OwnPolicy] = (),
) -> Verification:
    """Check everything that a transcript allows.

    Args:
        files: The transcript.
        roster: As it was pinned.
        logs: Tenants' own logs, by name of the file.
        known: Checkpoints from elsewhere.
        policies: Tenants' policies, as they show them.
    """
    logs = logs or {}
    names = [LOG, SESSION, PRIVACY, FIT, END]
    names += [*(f"policy {own.tenant}" for own in policies), *(f"log {name}" for name in logs)]
    checks: list[Check] = []
    session: WalkedSession | None = None
    try:
        entries = verified_entries(files, roster, known)
        signed = files.checkpoints.count(b"\n")
        checks.append(
            _passed(LOG, f"{len(entries)} entries, as {signed} signed checkpoints have them{_and_known(known)}")
        )
        session = walked(entries, roster, files.uploads)
        checks += [_passed(SESSION, _of_session(session)), *_notes(session)]
        checks.append(_of_privacy(session))
        checks.append(_of_fit(session))
        checks.append(_of_end(session))
        checks += [check for own in policies for check in _of_policy(session, own)]
        for name, data in logs.items():
            checks += _of_log(session, name, data, roster)
    except TranscriptFault as fault:
        done = len({check.name for check in checks if check.name in names})
        checks.append(_failed(names[done], fault))
        checks += [Check(name, Verdict.NOT_REACHED, "something before it failed") for name in names[done + 1 :]]
    return Verification(tuple(checks), session)


def _passed(name: str, said: str) -> Check:
    return Check(name, Verdict.PASSED, said)


def _failed(name: str, fault: TranscriptFault) -> Check:
    return Check(name, Verdict.FAILED, fault.what, fault.place, fault.proves)


def _and_known(known: Sequence[Checkpoint]) -> str:
    return f", and {len(known)} from elsewhere" if known else ""


def _of_session(session: WalkedSession) -> str:
    tally, terms = session.tally, session.terms.content
    guard = f"of {terms.blocks} blocks, each whole or not at all" if terms.blocks else "no difference guard"
    said = (
        f"{tally.signatures} signatures of parties in the pinned roster; {tally.rounds} rounds in one chain, {tally.opened} opened, each "
        f"over at least {terms.minimum_survivors} tenants ({guard}) by {_trust_of(session)}, with every opening and check words of zero"
    )
    unmasked = f"; {tally.unmasked} sums unmasked again from the uploads that were kept" if tally.unmasked else ""
    return said + unmasked


def _trust_of(session: WalkedSession) -> str:
    certified = session.terms.content.trust == Trust.MALICIOUS_SERVER
    return "a quorum's certificate" if certified else "the server's word (semi-honest)"


def _notes(session: WalkedSession) -> list[Check]:
    """What is no fault of the transcript, and worth knowing."""
    found = []
    if not session.tally.unmasked:
        said = "masked vectors were not kept: that the sums follow from the uploads is not checked, only that their check words are zero"
        found.append(Check("uploads", Verdict.NOTED, said))
    if session.tally.restarts:
        times = "once" if session.tally.restarts == 1 else f"{session.tally.restarts} times"
        said = f"the server went on in another process {times}; a round that was in progress was not opened"
        found.append(Check("restarts", Verdict.NOTED, said))
    for number, name in session.tally.false_keys:
        said = f"'{name}' signed a pair key in round {number} that shares of others disproved"
        found.append(Check("openings", Verdict.NOTED, said))
    for name, code in session.refusals:
        found.append(Check("refusals", Verdict.NOTED, f"'{name}' left the session with code {code}"))
    return found


def _of_privacy(session: WalkedSession) -> Check:
    """The promise is one that its noise keeps, and nobody answered more often than it is of."""
    promise = session.description.privacy
    if promise is None:
        return Check(PRIVACY, Verdict.NOTED, "none: sums were opened as they are")
    answered = Counter(index for of_round in session.uploads.values() for index in of_round)
    index, most = max(answered.items(), key=lambda each: each[1], default=(0, 0))
    name, entry = (
        session.roster.tenants[index].name,
        session.entry_of.get(("uploads", max(session.uploads, default=0)), 0),
    )
    if most > promise.sums:
        what = f"{most} sums were answered, and the promise is of {promise.sums}"
        raise TranscriptFault(what, Place(line=entry, field="uploads", party=name))
    try:
        promise.require_kept()
        spent = epsilon_of([replace(promise.spend, sums=most)], promise.delta)
    except CallerError as error:
        raise TranscriptFault(str(error), Place(line=0, field="description")) from None
    return _passed(
        PRIVACY,
        f"{promise.in_words}; at most {most} were answered by any tenant, which spends ε = {spent:.4g}. That each tenant added its share "
        "of the noise, nobody else can see",
    )


def _of_fit(session: WalkedSession) -> Check:
    try:
        again = replayed(session)
    except CallerError as error:
        raise TranscriptFault(str(error), Place(line=0, field="fit")) from None
    where = "on the recorded platform and versions" if again.same_arithmetic else "on another platform or versions"
    how = (
        "every parameter bit for bit"
        if again.difference == 0
        else f"every parameter within {again.difference:.1e} of its size (at most {TOLERANCE:g} is admitted)"
    )
    if session.description.measured is not None:
        how = "measured at the very point that its description names, and nothing fitted"
    ended = f"; it ended without a model, as the session did: {again.failure}" if again.failure else ""
    return _passed(FIT, f"replayed from {again.sums} sums {where}, {how}{ended}")


def _of_end(session: WalkedSession) -> Check:
    if session.closed is None:
        said = "the transcript has no close: the session goes on, or its server stopped, or the end was cut off"
        return Check(END, Verdict.NOTED, said)
    finished = session.closed.content.reason == CloseReason.FINISHED
    came_to = "a measurement" if session.description.measured is not None else "a model"
    return _passed(END, f"the session was closed {'with' if finished else 'without'} {came_to}")


def _of_policy(session: WalkedSession, own: OwnPolicy) -> Iterator[Check]:
    """The policy itself; and, where it has any, its hours and its bound on measurements, by what the tenant keeps."""
    yield _held(f"policy {own.tenant}", lambda: require_admitted(session, own))
    if own.policy.hours:
        yield _held(f"hours {own.tenant}", lambda: hours_kept(session, own))
    if session.description.measured is not None and own.policy.measurements:
        yield _held(f"measurements {own.tenant}", lambda: measurements_kept(session, own))


def _held(title: str, hold: Callable[[], str | None]) -> Check:
    try:
        said = hold()
    except TranscriptFault as fault:
        return _failed(title, fault)
    except CallerError as error:
        return Check(title, Verdict.FAILED, str(error))
    if said is None:
        return Check(
            title, Verdict.NOTED, "the tenant's own log is not in its state folder: nothing says when it sent what"
        )
    return _passed(title, said)


def _of_log(session: WalkedSession, name: str, data: bytes, roster: Roster) -> list[Check]:
    title = f"log {name}"
    try:
        found = cross_checked(session, read_tenant_log(data, name, roster), name)
    except TranscriptFault as fault:
        return [_failed(title, fault)]
    except CallerError as error:
        return [Check(title, Verdict.FAILED, str(error), Place(name))]
    return [_failed(title, fault) for fault in found.faults] or [_passed(title, _of_cross_check(found))]


def _of_cross_check(found: CrossCheck) -> str:
    unused = f"; {found.unused} more were in no sum" if found.unused else ""
    return (
        f"'{found.tenant}' sent {found.sent} messages and was shown {found.seen} that the server signed, all as the transcript has them; "
        f"its {found.uploads} uploads are its own{unused}"
    )
