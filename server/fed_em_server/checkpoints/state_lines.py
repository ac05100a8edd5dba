"""What outlives a coordinator's process (`fed_em_protocols.kept_state`), as JSON and back.

The running total stands apart: it is as long as the statistics, and changes once a round; the rest is short.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from fed_em_protocols.coordinator_state import Outcomes, PreviousRound, Unresolved
from fed_em_protocols.envelope import Sealed, unquote
from fed_em_protocols.errors import SERVER
from fed_em_protocols.kept_state import KeptState
from fed_em_protocols.messages import Certificate, Header, Outcome
from fed_em_protocols.records import replace
from fed_em_protocols.running_total import RunningTotal
from fed_em_protocols.transcript.entries import Base64, Hex, LineTable, Number, Signature, Signed
from fed_em_protocols.transcript.recorder import in_bytes


class OutcomeLine(LineTable):
    """See `fed_em_protocols.coordinator_state.Outcomes`."""

    survivors: tuple[Number, ...]
    evidence: Base64 = Field(repr=False)
    setup: Hex
    endorsements: tuple[tuple[Number, Signature], ...] = Field(repr=False)


class UnresolvedLine(LineTable):
    """See `fed_em_protocols.coordinator_state.Unresolved`."""

    header: Signed
    outcome: OutcomeLine


class PreviousLine(LineTable):
    """See `fed_em_protocols.coordinator_state.PreviousRound`."""

    round: Number
    outcome: Number
    certificate: Signed | None
    sum: Hex
    closed: UnresolvedLine | None


class StateLine(LineTable):
    """See `fed_em_protocols.kept_state.KeptState`; without its total."""

    last_round: Number
    windows_opened: Number
    draws: Number
    failed_rounds: Number
    changed_after: Number
    excused: tuple[Number, ...]
    previous: PreviousLine
    unresolved: UnresolvedLine | None
    last_certified: tuple[Signed, Signed] | None


class HeaderLine(LineTable):
    """The header of a round that terms of the total belong to, with its parameters."""

    header: Signed
    parameters: Base64 = Field(repr=False)


class TotalLine(LineTable):
    """See `fed_em_protocols.running_total.RunningTotal`."""

    encoding: Hex
    length: Number
    word_bytes: Number
    vector: Base64 = Field(repr=False)
    bases: tuple[Number, ...]
    headers: tuple[HeaderLine, ...]


def state_to_json(kept: KeptState) -> str:
    """All but the total."""
    certified, previous = kept.last_certified, kept.previous
    return StateLine(
        last_round=kept.last_round,
        windows_opened=kept.windows_opened,
        draws=kept.draws,
        failed_rounds=kept.failed_rounds,
        changed_after=kept.changed_after,
        excused=tuple(sorted(kept.excused)),
        previous=PreviousLine(
            round=previous.round,
            outcome=int(previous.outcome),
            certificate=None if previous.certificate is None else Signed.of(previous.certificate),
            sum=previous.sum,
            closed=_of_unresolved(previous.closed),
        ),
        unresolved=_of_unresolved(kept.unresolved),
        last_certified=None if certified is None else (Signed.of(certified[0]), Signed.of(certified[1])),
    ).model_dump_json()


def state_from_json(state: str, total: str | None) -> KeptState:
    """What `state_to_json` and `total_to_json` wrote.

    Raises:
        ValidationError: it is something else.
        PeerFault: a message in it is none.
    """
    line = StateLine.model_validate_json(state)
    certified, previous = line.last_certified, line.previous
    return KeptState(
        last_round=line.last_round,
        windows_opened=line.windows_opened,
        draws=line.draws,
        failed_rounds=line.failed_rounds,
        changed_after=line.changed_after,
        excused=frozenset(line.excused),
        previous=PreviousRound(
            previous.round,
            Outcome(previous.outcome),
            None if previous.certificate is None else _certificate(previous.certificate),
            previous.sum,
            _unresolved(previous.closed),
        ),
        unresolved=_unresolved(line.unresolved),
        last_certified=None if certified is None else (_header(certified[0]), _certificate(certified[1])),
        total=None if total is None else _total(TotalLine.model_validate_json(total)),
    )


def total_to_json(total: RunningTotal) -> str:
    """The running total."""
    headers = (HeaderLine(header=Signed.of(each), parameters=each.attachment) for each in total.headers.values())
    return TotalLine(
        encoding=total.encoding,
        length=total.length,
        word_bytes=total.vector.itemsize,
        vector=in_bytes(total.vector),
        bases=total.bases,
        headers=tuple(headers),
    ).model_dump_json()


def _total(line: TotalLine) -> RunningTotal:
    sealed = [replace(_header(each.header), attached=each.parameters) for each in line.headers]
    vector = np.frombuffer(line.vector, np.dtype(f"<u{line.word_bytes}"))
    headers = {header.content.round: header for header in sealed}
    return RunningTotal(line.encoding, line.length, vector, line.bases, headers)


def _of_unresolved(unresolved: Unresolved | None) -> UnresolvedLine | None:
    if unresolved is None:
        return None
    outcome = unresolved.outcome
    return UnresolvedLine(
        header=Signed.of(unresolved.header),
        outcome=OutcomeLine(
            survivors=tuple(sorted(outcome.survivors)),
            evidence=outcome.evidence,
            setup=outcome.setup,
            endorsements=tuple(outcome.endorsements.items()),
        ),
    )


def _unresolved(line: UnresolvedLine | None) -> Unresolved | None:
    if line is None:
        return None
    of = line.outcome
    outcome = Outcomes(frozenset(of.survivors), of.evidence, of.setup, dict(of.endorsements))
    return Unresolved(_header(line.header), outcome)


def _header(signed: Signed) -> Sealed[Header]:
    return unquote(signed.quoted, Header, SERVER)


def _certificate(signed: Signed) -> Sealed[Certificate]:
    return unquote(signed.quoted, Certificate, SERVER)
