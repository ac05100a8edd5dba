"""The coordinator's set-up of the next window: advertise, draw the graph, deposit, confirm. Rounds go on meanwhile.

See `window` and `deposits` for what is checked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from fed_em_protocols.coordinator_state import (
    Attendance,
    CoordinatorState,
    CoordinatorStep,
    Notice,
    NoticeKind,
    Window,
    any_hopeful,
    mark_late,
    require_policy,
    same_process,
    setup_awaited,
)
from fed_em_protocols.deposits import box_for, check_deposit, split_boxes
from fed_em_protocols.envelope import Sealed, seal
from fed_em_protocols.errors import Equivocation, MalformedMessage, OutOfTurn, PeerFault
from fed_em_protocols.graph_parameters import MAX_RESTARTS
from fed_em_protocols.growing_map import GrowingMap
from fed_em_protocols.members import from_bitmap, to_bitmap
from fed_em_protocols.messages import (
    Advertise,
    Boxes,
    Deposit,
    Neighbours,
    OpenWindow,
    Ready,
    Reveal,
    SetUp,
)
from fed_em_protocols.records import replace
from fed_em_protocols.terms import whole_units
from fed_em_protocols.transitions import SET_UP_MOVES, SetUpPhase, require_move
from fed_em_protocols.window import (
    WindowSetUp,
    check_advertisement,
    check_round_keys,
    draw_graph,
    nonce_commitment,
    setup_of,
)

# A window is not opened early more often than this, and half as often each time that a tenant did not get into it: one that
# keeps failing cannot keep the others busy.
_ROUNDS_BETWEEN_EARLY_WINDOWS = 3
_MOST_DOUBLINGS = 8

# The next window is set up while this fraction of the rounds of the present one is left, unless they are all that the session plans.
_LEFT_OVER = 8


def on_advertise(state: CoordinatorState, index: int, sealed: Sealed[Advertise], now: float) -> CoordinatorStep:
    window = _upcoming(state, SetUpPhase.ADVERTISING)
    if window is None or sealed.content.window != window.opening.digest:
        return CoordinatorStep(state)
    name, terms = state.name(index), state.terms.content
    check_advertisement(sealed, window.opening, terms, state.roster, index)
    check_round_keys(sealed, terms, name)
    if sealed.content.boot != state.members[index].boot:
        raise OutOfTurn(name, "advertised keys of another process than the one that is linked")
    require_policy(state.members[index], sealed.content.policy, name)
    window_key = sealed.content.window_key
    if window.window_keys.get(window_key, index) != index:
        raise PeerFault(name, "advertised the window key of another tenant", proves="two tenants share a key")
    known = window.advertisements.get(index)
    if known is not None and known.digest != sealed.digest:
        raise Equivocation(
            name, "advertised two sets of keys for one window", proves="the tenant signed two advertisements"
        )
    advertised = replace(
        window,
        advertisements=window.advertisements.with_entry(index, sealed),
        window_keys=window.window_keys.with_entry(window_key, index),
    )
    return CoordinatorStep(replace(state, upcoming=advertised))


def on_reveal(state: CoordinatorState, index: int, sealed: Sealed[Reveal], now: float) -> CoordinatorStep:
    window = _upcoming(state, SetUpPhase.DRAWING)
    if window is None or sealed.content.setup != window.fixed.digest or index not in window.fixed.witnesses:
        return CoordinatorStep(state)
    name, setup = state.name(index), window.fixed
    sealed.require_signature(setup.window_key(index), name)
    if nonce_commitment(sealed.content.nonce) != setup.advertisements[index].content.nonce_commitment:
        raise PeerFault(
            name, "revealed a nonce that it did not commit to", proves="the tenant tried to choose the graph"
        )
    revealed = replace(window, nonces={**window.nonces, index: sealed.content.nonce})
    return CoordinatorStep(replace(state, upcoming=revealed))


def on_deposit(state: CoordinatorState, index: int, sealed: Sealed[Deposit], now: float) -> CoordinatorStep:
    window = _upcoming(state, SetUpPhase.DEPOSITING)
    if window is None or sealed.content.setup != window.fixed.digest or index not in window.advertisements:
        return CoordinatorStep(state)
    name, setup = state.name(index), window.fixed
    check_deposit(sealed, setup, index, name)
    split_boxes(sealed, setup, index, name)
    known = window.deposits.get(index)
    if known is not None and known.digest != sealed.digest:
        raise Equivocation(name, "made two deposits for one window", proves="the tenant signed two deposits")
    return CoordinatorStep(replace(state, upcoming=replace(window, deposits=window.deposits.with_entry(index, sealed))))


def on_ready(state: CoordinatorState, index: int, sealed: Sealed[Ready], now: float) -> CoordinatorStep:
    window = _upcoming(state, SetUpPhase.CONFIRMING)
    if window is None or sealed.content.setup != window.fixed.digest:
        return CoordinatorStep(state)
    if index not in window.deposits or index in window.held:
        return CoordinatorStep(state)
    name, setup = state.name(index), window.fixed
    sealed.require_signature(setup.window_key(index), name)
    try:
        held = from_bitmap(sealed.content.held, state.roster.n)
    except ValueError as error:
        raise MalformedMessage(name, str(error)) from None
    expected = frozenset(dealer for dealer in setup.neighbours(index) if dealer in window.deposits)
    notices = tuple(
        Notice(
            NoticeKind.FAULT,
            state.last_round,
            (name, state.name(dealer)),
            "the first says that it holds no valid share of the second; this proves nothing against either",
        )
        for dealer in sorted(expected - held)
    )
    confirmed = replace(window, held=window.held.with_entry(index, held & expected))
    return CoordinatorStep(replace(state, upcoming=confirmed), notices=notices)


def _upcoming(state: CoordinatorState, phase: SetUpPhase) -> Window | None:
    """The window being set up, if it is in this phase."""
    return state.upcoming if state.upcoming and state.upcoming.phase is phase else None


def wants_window(state: CoordinatorState) -> bool:
    """Whether the next window should be set up now: the present one runs out, or somebody waits to get in."""
    window, here = state.window, state.here
    if state.upcoming is not None:
        return False
    if window is None or not window.fixed.covers(state.last_round + 1):
        return True
    setup, next_round = window.fixed, state.last_round + 1
    if state.draws > MAX_RESTARTS:
        return False
    needed = state.planned_rounds + state.failed_rounds if state.planned_rounds else math.inf
    left = setup.first_round + setup.rounds - next_round
    if left <= setup.rounds // _LEFT_OVER and next_round + left <= needed:
        return True
    if state.draws > MAX_RESTARTS // 2:
        return False  # the other half of the draws is kept for the window that must follow
    age = next_round - setup.first_round
    doublings = (min(state.members[index].missed, _MOST_DOUBLINGS) for index in here - window.active)
    return any(age >= _ROUNDS_BETWEEN_EARLY_WINDOWS << count for count in doublings)


def _count_missed(state: CoordinatorState, window: Window, active: frozenset[int]) -> CoordinatorState:
    """Note who got into a window that is complete or abandoned, of those it was opened for."""
    members = dict(state.members)
    for index in window.boots:
        members[index] = replace(members[index], missed=0 if index in active else members[index].missed + 1)
    return replace(state, members=Attendance(members))


def open_window(state: CoordinatorState, now: float) -> CoordinatorStep:
    """Begin the set-up of the next window with everybody who is here."""
    here, terms, shown = state.here, state.terms, state.last_certified or ()
    content = OpenWindow(
        terms.content.session,
        terms.digest,
        state.windows_opened + 1,
        state.last_round + 1,
        to_bitmap(state.excused, state.roster.n),
        tuple(sealed.quoted() for sealed in shown),
    )
    opening = seal(content, state.identity)
    boots = {index: state.members[index].boot for index in sorted(here)}
    window = Window(opening, boots, boots, cut_off=now + state.timetable.set_up)
    data = opening.to_bytes()
    # Whoever is told of the new one drops the last one if it has served no sum yet.
    in_use = state.window if state.serves_sums else None
    opened = replace(state, window=in_use, upcoming=window, windows_opened=content.number)
    return CoordinatorStep(opened, tuple((index, data) for index in boots))


def advance_setup(state: CoordinatorState, now: float) -> CoordinatorStep:
    """Go on with the set-up of the next window as far as what has come in, and the time, allow."""
    step = CoordinatorStep(state)
    while step.state.upcoming is not None and step.state.upcoming.phase is not SetUpPhase.READY:
        window = step.state.upcoming
        if now < window.cut_off and any_hopeful(step.state, setup_awaited(step.state, window), now):
            break
        stage = _STAGES[window.phase]
        step = step.then(lambda s, stage=stage, window=window: stage(s, window, now))  # type: ignore[misc]
        if step.state.upcoming is not None:
            require_move(SET_UP_MOVES, window.phase, step.state.upcoming.phase)
    return step


def _advertised(state: CoordinatorState, window: Window, now: float) -> CoordinatorStep:
    """Advertising is over: fix the set-up and show it. The complete graph's neighbours are known at once."""
    members = same_process(state, window)
    if not _enough(state, members):
        return _abandon(state, window, frozenset(window.advertisements))
    advertisements = {index: window.advertisements[index] for index in members}
    setup = setup_of(window.opening, state.terms.content, state.roster, advertisements)
    if setup.certified and len(setup.witnesses) < setup.quorum:
        return _abandon(state, window, frozenset(window.advertisements))
    late = mark_late(state, setup_awaited(state, window).all)
    fixed = replace(
        window,
        setup=setup,
        advertisements=GrowingMap(advertisements),
        processes={index: sealed.content.boot for index, sealed in advertisements.items()},
        cut_off=now + state.timetable.set_up,
    )
    data = setup_message(late, setup).to_bytes()
    sends = tuple((index, data) for index in setup.members)
    if setup.draws_graph:
        drawing = replace(late, upcoming=replace(fixed, phase=SetUpPhase.DRAWING), draws=state.draws + 1)
        return CoordinatorStep(drawing, sends)
    return CoordinatorStep(late, sends).then(lambda s: _draw(s, fixed, now))


def _revealed(state: CoordinatorState, window: Window, now: float) -> CoordinatorStep:
    """Every nonce counts: without one of them the draw starts anew, with fresh nonces, without that witness."""
    silent = frozenset(window.fixed.witnesses) - frozenset(window.nonces)
    if not silent:
        return _draw(state, replace(window, cut_off=now + state.timetable.set_up), now)
    excused = replace(state, excused=state.excused | silent)
    return _abandon(excused, window, frozenset(window.advertisements) - silent)


def _draw(state: CoordinatorState, window: Window, now: float) -> CoordinatorStep:
    setup = window.fixed
    nonces = tuple(window.nonces[index] for index in setup.witnesses) if setup.draws_graph else ()
    drawn = replace(window, phase=SetUpPhase.DEPOSITING, setup=replace(setup, graph=draw_graph(setup, nonces)))
    moved = replace(state, upcoming=drawn)
    return CoordinatorStep(
        moved, tuple((i, neighbours_message(moved, drawn, i)) for i in sorted(_present(moved, drawn)))
    )


def _present(state: CoordinatorState, window: Window) -> frozenset[int]:
    return same_process(state, window).intersection(window.fixed.members)


def setup_message(state: CoordinatorState, setup: WindowSetUp) -> Sealed[SetUp]:
    content = SetUp(
        state.terms.content.session,
        setup.opening.digest,
        to_bitmap(setup.members, state.roster.n),
        tuple(setup.advertisements[index].quoted() for index in setup.witnesses),
    )
    return seal(content, state.identity, b"".join(setup.digests))


def neighbours_message(state: CoordinatorState, window: Window, index: int) -> bytes:
    setup = window.fixed
    neighbours, known = setup.neighbours(index), frozenset(setup.witnesses)
    quoted = sorted((frozenset(setup.members) if index in known else frozenset(neighbours)) - known)
    content = Neighbours(
        state.terms.content.session,
        setup.digest,
        tuple(window.nonces[i] for i in setup.witnesses) if setup.draws_graph else (),
        to_bitmap(quoted, state.roster.n),
        tuple(setup.advertisements[i].quoted() for i in quoted),
    )
    tables = b"".join(setup.advertisements[i].attachment for i in neighbours)
    return seal(content, state.identity, tables).to_bytes()


def _deposited(state: CoordinatorState, window: Window, now: float) -> CoordinatorStep:
    dealers = frozenset(window.deposits) & same_process(state, window)
    if not _enough(state, dealers):
        return _abandon(state, window, dealers)
    late = mark_late(state, setup_awaited(state, window).all)
    fixed = replace(
        window,
        phase=SetUpPhase.CONFIRMING,
        deposits=GrowingMap({index: window.deposits[index] for index in sorted(dealers)}),
        processes={index: window.processes[index] for index in dealers},
        cut_off=now + state.timetable.set_up,
    )
    moved = replace(late, upcoming=fixed)
    return CoordinatorStep(moved, tuple((index, boxes_message(moved, fixed, index)) for index in sorted(dealers)))


def boxes_message(state: CoordinatorState, window: Window, holder: int) -> bytes:
    setup = window.fixed
    dealers = [index for index in setup.neighbours(holder) if index in window.deposits]
    boxes = [box_for(window.deposits[index], setup, index, holder) for index in dealers]
    content = Boxes(
        state.terms.content.session,
        setup.digest,
        to_bitmap(dealers, state.roster.n),
        tuple(window.deposits[index].quoted() for index in dealers),
    )
    return seal(content, state.identity, b"".join(boxes)).to_bytes()


def _confirmed(state: CoordinatorState, window: Window, now: float) -> CoordinatorStep:
    setup = window.fixed
    confirmed = frozenset(window.held) & same_process(state, window)
    active = frozenset(
        dealer
        for dealer in confirmed
        if sum(dealer in window.held[h] for h in setup.neighbours(dealer) if h in confirmed) >= setup.threshold
    )
    if not _enough(state, active):
        return _abandon(state, window, confirmed)
    late = mark_late(state, setup_awaited(state, window).all)
    # Boxes are delivered; only the roots that dealers signed are still needed.
    slim = GrowingMap({index: replace(sealed, attached=b"") for index, sealed in window.deposits.items()})
    ready = replace(window, phase=SetUpPhase.READY, deposits=slim, active=active)
    # Each window's draw begins with all witnesses again.
    counted = replace(_count_missed(late, window, active), upcoming=ready, excused=frozenset())
    text = f"rounds {setup.first_round} to {setup.first_round + setup.rounds - 1}"
    notice = Notice(NoticeKind.WINDOW_OPENED, state.last_round, state.roster.names(active), text)
    return CoordinatorStep(counted, notices=(notice,))


def _enough(state: CoordinatorState, members: frozenset[int]) -> bool:
    """Whether some tenants could make a window that can open a sum."""
    return len(whole_units(state.units, members)) >= state.terms.content.minimum_survivors


def _abandon(state: CoordinatorState, window: Window, answered: frozenset[int]) -> CoordinatorStep:
    """Too few went through the set-up: those who did not answer are late."""
    late = _count_missed(mark_late(state, setup_awaited(state, window).all), window, answered)
    silent = state.roster.names(frozenset(window.boots) - answered)
    text = f"the set-up of a window was not completed; no answer from {', '.join(silent) or 'nobody'}"
    notice = Notice(NoticeKind.WINDOW_ABANDONED, state.last_round, silent, text)
    return CoordinatorStep(replace(late, upcoming=None), notices=(notice,))


def pending_setup(state: CoordinatorState, index: int) -> tuple[bytes, ...]:
    """What a tenant must be told again when the same process links anew in the middle of a set-up."""
    window = state.upcoming
    if window is None:
        return ()
    if window.phase is SetUpPhase.DRAWING and index in same_process(state, window):
        return (
            setup_message(state, window.fixed).to_bytes(),
        )  # whoever has no nonce to give owes nothing, and needs it
    if index not in setup_awaited(state, window).all:
        return ()
    if window.phase is SetUpPhase.ADVERTISING:
        return (window.opening.to_bytes(),)
    if window.phase is SetUpPhase.CONFIRMING:
        return (boxes_message(state, window, index),)
    return (setup_message(state, window.fixed).to_bytes(), neighbours_message(state, window, index))


_STAGES: Mapping[SetUpPhase, Callable[[CoordinatorState, Window, float], CoordinatorStep]] = {
    SetUpPhase.ADVERTISING: _advertised,
    SetUpPhase.DRAWING: _revealed,
    SetUpPhase.DEPOSITING: _deposited,
    SetUpPhase.CONFIRMING: _confirmed,
}
