"""What of the coordinator's state must outlive its process, so that another can go on and signs nothing twice.

    kept = kept_of(state)              kept before the messages of each step leave, if it is another than before
    state = state_from(fresh, kept)    in the next process, over `coordinator_start` of the same terms

It holds no upload, no share, no tenant's message but signatures of what was endorsed, and no secret: keys of windows, links and whatever
came in of a round in progress go with the process. That round counts as not opened.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from fed_em_protocols.coordinator_state import CoordinatorState, PreviousRound, Unresolved, fail_request
from fed_em_protocols.envelope import Sealed
from fed_em_protocols.messages import Certificate, Header
from fed_em_protocols.records import replace
from fed_em_protocols.running_total import RunningTotal


@dataclass(frozen=True)
class KeptState:
    """See the fields of the same names in `CoordinatorState`, once the round in progress is over without a sum."""

    last_round: int = 0
    windows_opened: int = 0
    draws: int = 0
    failed_rounds: int = 0
    changed_after: int = 0
    excused: frozenset[int] = frozenset()
    previous: PreviousRound = field(default_factory=PreviousRound)
    unresolved: Unresolved | None = None
    last_certified: tuple[Sealed[Header], Sealed[Certificate]] | None = None
    total: RunningTotal | None = field(default=None, compare=False)

    def is_as(self, other: KeptState) -> bool:
        """Whether both say the same. Two totals are, if they are one object: each sum makes a new one."""
        return self.total is other.total and self == other


def kept_of(state: CoordinatorState) -> KeptState:
    """What to keep of a state."""
    over = state if state.round is None else fail_request(state, "").state
    kept = KeptState(**{each.name: getattr(over, each.name) for each in fields(KeptState)})
    unresolved = over.unresolved
    if unresolved is None or not unresolved.outcome.endorsements:
        return kept
    # Witnesses are asked anew, under the keys of another window.
    outcome = replace(unresolved.outcome, endorsements={})
    return replace(kept, unresolved=Unresolved(unresolved.header, outcome))


def state_from(fresh: CoordinatorState, kept: KeptState) -> CoordinatorState:
    """The state of a process that goes on: nobody is linked, no window is open, and no sum is asked for."""
    return replace(fresh, **{each.name: getattr(kept, each.name) for each in fields(KeptState)})
