"""The coordinator's set-up of a window: advertise, deposit, confirm.

See `window` and `deposits` for what is checked.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from fed_em_protocols.coordinator_state import (
    CoordinatorState,
    CoordinatorStep,
    Notice,
    NoticeKind,
    Window,
    fail_request,
    least_survivors,
    mark_late,
    same_process,
    still_waiting,
)
from fed_em_protocols.deposits import check_deposit, split_boxes
from fed_em_protocols.envelope import Sealed, seal
from fed_em_protocols.errors import Equivocation, MalformedMessage, OutOfTurn, PeerFault
from fed_em_protocols.members import from_bitmap, to_bitmap
from fed_em_protocols.messages import (
    Advertise,
    Boxes,
    Deposit,
    OpenWindow,
    Ready,
    SetUp,
)
from fed_em_protocols.transitions import (
    CoordinatorPhase,
)
from fed_em_protocols.window import WindowSetUp, check_advertisement, setup_of

# A window is not opened early more often than this, and half as often each time that a tenant did not get into it: one that
# keeps failing cannot stall the others.
_ROUNDS_BETWEEN_EARLY_WINDOWS = 3
_MOST_DOUBLINGS = 8


def on_advertise(state: CoordinatorState, index: int, sealed: Sealed[Advertise], now: float) -> CoordinatorStep:
    window = state.window
    if (
        state.phase is not CoordinatorPhase.ADVERTISING
        or window is None
        or sealed.content.window != window.opening.digest
    ):
        return CoordinatorStep(state)
    check_advertisement(sealed, window.opening, state.terms.content, state.roster, index)
    name = state.name(index)
    if sealed.content.boot != state.members[index].boot:
        raise OutOfTurn(name, "advertised keys of another process than the one that is linked")
    others = (other.content.window_key for i, other in window.advertisements.items() if i != index)
    if sealed.content.window_key in others:
        raise PeerFault(name, "advertised the window key of another tenant", proves="two tenants share a key")
    known = window.advertisements.get(index)
    if known is not None and known.digest != sealed.digest:
        raise Equivocation(
            name, "advertised two sets of keys for one window", proves="the tenant signed two advertisements"
        )
    advertised = replace(window, advertisements={**window.advertisements, index: sealed})
    return CoordinatorStep(replace(state, window=advertised))


def on_deposit(state: CoordinatorState, index: int, sealed: Sealed[Deposit], now: float) -> CoordinatorStep:
    window = state.window
    if state.phase is not CoordinatorPhase.DEPOSITING or window is None or window.setup is None:
        return CoordinatorStep(state)
    if sealed.content.setup != window.setup.digest or index not in window.advertisements:
        return CoordinatorStep(state)
    name = state.name(index)
    check_deposit(sealed, window.setup, index, name)
    split_boxes(sealed, window.setup, index, name)
    known = window.deposits.get(index)
    if known is not None and known.digest != sealed.digest:
        raise Equivocation(name, "made two deposits for one window", proves="the tenant signed two deposits")
    return CoordinatorStep(replace(state, window=replace(window, deposits={**window.deposits, index: sealed})))


def on_ready(state: CoordinatorState, index: int, sealed: Sealed[Ready], now: float) -> CoordinatorStep:
    window = state.window
    if state.phase is not CoordinatorPhase.CONFIRMING or window is None or window.setup is None:
        return CoordinatorStep(state)
    if sealed.content.setup != window.setup.digest or index not in window.deposits or index in window.held:
        return CoordinatorStep(state)
    name = state.name(index)
    sealed.require_signature(window.setup.window_key(index), name)
    try:
        held = from_bitmap(sealed.content.held, state.roster.n)
    except ValueError as error:
        raise MalformedMessage(name, str(error)) from None
    notices = tuple(
        Notice(
            NoticeKind.FAULT,
            state.last_round,
            (name, state.name(dealer)),
            "the first says that it holds no valid share of the second; this proves nothing against either",
        )
        for dealer in sorted(frozenset(window.deposits) - {index} - held)
    )
    return CoordinatorStep(replace(state, window=replace(window, held={**window.held, index: held})), notices=notices)


def wants_window(state: CoordinatorState, here: frozenset[int]) -> bool:
    window = state.window
    if window is None or window.setup is None or not window.setup.covers(state.last_round + 1):
        return True
    age = state.last_round + 1 - window.setup.first_round
    doublings = (min(state.members[index].missed, _MOST_DOUBLINGS) for index in here - window.active)
    return any(age >= _ROUNDS_BETWEEN_EARLY_WINDOWS << count for count in doublings)


def _count_missed(state: CoordinatorState, window: Window, active: frozenset[int]) -> CoordinatorState:
    """Note who got into a window that is complete or abandoned, of those it was opened for."""
    members = dict(state.members)
    for index in window.boots:
        members[index] = replace(members[index], missed=0 if index in active else members[index].missed + 1)
    return replace(state, members=members)


def open_window(state: CoordinatorState, here: frozenset[int], now: float) -> CoordinatorStep:
    terms = state.terms
    content = OpenWindow(terms.content.session, terms.digest, state.windows_opened + 1, state.last_round + 1)
    opening = seal(content, state.identity)
    window = Window(opening, {index: state.members[index].boot for index in here})
    opened = replace(
        state, phase=CoordinatorPhase.ADVERTISING, window=window, windows_opened=content.number,
        round=None, cut_off=now + state.timetable.set_up,
    )  # fmt: skip
    data = opening.to_bytes()
    return CoordinatorStep(opened, tuple((index, data) for index in sorted(here)))


def advertising_stage(state: CoordinatorState, now: float) -> CoordinatorStep:
    window = cast(Window, state.window)
    if still_waiting(state, now):
        return CoordinatorStep(state)
    members = same_process(state, window)
    if len(members) < least_survivors(state):
        return _abandon_window(state, window, frozenset(window.advertisements))
    advertisements = {index: window.advertisements[index] for index in members}
    setup = setup_of(window.opening, state.terms.content, state.roster, advertisements)
    fixed = replace(window, setup=setup, advertisements=advertisements)
    data = setup_message(state, fixed, setup).to_bytes()
    moved = replace(
        mark_late(state),
        phase=CoordinatorPhase.DEPOSITING,
        window=fixed,
        cut_off=now + state.timetable.set_up,
    )
    return CoordinatorStep(moved, tuple((index, data) for index in setup.members))


def setup_message(state: CoordinatorState, window: Window, setup: WindowSetUp) -> Sealed[SetUp]:
    content = SetUp(
        state.terms.content.session,
        window.opening.digest,
        to_bitmap(setup.members, state.roster.n),
        tuple(setup.advertisements[index].quoted() for index in setup.members),
    )
    return seal(content, state.identity)


def depositing_stage(state: CoordinatorState, now: float) -> CoordinatorStep:
    window = cast(Window, state.window)
    setup = cast(WindowSetUp, window.setup)
    if still_waiting(state, now):
        return CoordinatorStep(state)
    dealers = frozenset(window.deposits) & same_process(state, window)
    if not _enough_for_window(state, setup, dealers):
        return _abandon_window(state, window, dealers)
    fixed = replace(window, deposits={index: window.deposits[index] for index in sorted(dealers)})
    moved = replace(
        mark_late(state),
        phase=CoordinatorPhase.CONFIRMING, window=fixed, cut_off=now + state.timetable.set_up,
    )  # fmt: skip
    return CoordinatorStep(moved, tuple((index, boxes_for(moved, fixed, setup, index)) for index in sorted(dealers)))


def boxes_for(state: CoordinatorState, window: Window, setup: WindowSetUp, holder: int) -> bytes:
    dealers = [index for index in sorted(window.deposits) if index != holder]
    boxes = [split_boxes(window.deposits[index], setup, index, state.name(index))[holder] for index in dealers]
    content = Boxes(
        state.terms.content.session,
        setup.digest,
        to_bitmap(dealers, state.roster.n),
        tuple(window.deposits[index].quoted() for index in dealers),
    )
    return seal(content, state.identity, b"".join(boxes)).to_bytes()


def confirming_stage(state: CoordinatorState, now: float) -> CoordinatorStep:
    window = cast(Window, state.window)
    setup = cast(WindowSetUp, window.setup)
    if still_waiting(state, now):
        return CoordinatorStep(state)
    confirmed = frozenset(window.held) & same_process(state, window)
    held_by = {dealer: sum(dealer in window.held[h] for h in confirmed) for dealer in confirmed}
    active = frozenset(dealer for dealer in confirmed if held_by[dealer] >= setup.threshold)
    if not _enough_for_window(state, setup, active):
        return _abandon_window(state, window, confirmed)
    # Boxes are delivered; only the roots that dealers signed are still needed.
    slim = {index: replace(sealed, attachment=b"") for index, sealed in window.deposits.items()}
    ready = replace(
        _count_missed(mark_late(state), window, active),
        phase=CoordinatorPhase.READY, window=replace(window, deposits=slim, active=active), cut_off=None,
    )  # fmt: skip
    text = f"rounds {setup.first_round} to {setup.first_round + setup.rounds - 1}"
    return CoordinatorStep(
        ready, notices=(Notice(NoticeKind.WINDOW_OPENED, state.last_round, state.roster.names(active), text),)
    )


def _enough_for_window(state: CoordinatorState, setup: WindowSetUp, members: frozenset[int]) -> bool:
    return len(members) >= least_survivors(state) and len(members) - 1 >= setup.threshold


def _abandon_window(state: CoordinatorState, window: Window, answered: frozenset[int]) -> CoordinatorStep:
    """Too few went through the set-up: those who did not answer are late, and everything starts anew."""
    silent = frozenset(window.boots) - answered
    late = _count_missed(mark_late(state), window, answered)
    reset = replace(late, phase=CoordinatorPhase.GATHERING, window=None)
    return fail_request(
        reset,
        f"the set-up of a window was not completed; no answer from {', '.join(state.roster.names(silent)) or 'nobody'}",
    )
