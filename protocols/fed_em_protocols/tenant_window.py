"""A tenant's part in the set-up of a window: advertise, reveal, deposit, hold.

**Which window is in use.** A tenant whose block is incomplete, or that nobody asks, sees no header, though it holds shares of those
who go on. So whoever opens a window shows the last round that a quorum certified: the window it ran in is in use, and whatever is older
is over. A window that is neither that one nor the one of the last header here is dropped.

**How often a graph is drawn.** Each draw of a sparse graph that serves no sum is another try of the server at one that it likes; 3 bits
of security are charged for 8 (`graph_parameters`). What ends the count is a certificate for survivors with keys of the very window: of
the quorum that signed it at least one is honest, has taken that window for the one in use and has checked that u_min tenants uploaded
on its graph. A header, which the server signs alone, or a void round costs it nothing and ends no count; nor does a round in an
older window, however many go by between two draws. So each window that serves a sum is one of at most 8 draws after the last that did.
"""

from __future__ import annotations

from fed_em_protocols.certification import require_certified
from fed_em_protocols.deposits import HeldShares, box_bytes, check_deposit, deal, open_box
from fed_em_protocols.envelope import Sealed, seal, unquote
from fed_em_protocols.errors import SERVER, MalformedMessage, OutOfTurn, PeerFault
from fed_em_protocols.graph_parameters import MAX_RESTARTS
from fed_em_protocols.members import to_bitmap
from fed_em_protocols.messages import (
    Advertise,
    Boxes,
    Certificate,
    Deposit,
    Header,
    Neighbours,
    OpenWindow,
    Ready,
    Reveal,
    SetUp,
)
from fed_em_protocols.records import replace
from fed_em_protocols.tenant_round import require_one_header
from fed_em_protocols.tenant_state import RoundMarks, TenantState, TenantStep, TenantWindow, members_in
from fed_em_protocols.transitions import WindowStage
from fed_em_protocols.window import (
    Randomness,
    WindowSetUp,
    advertisement,
    draw_window_secrets,
    gives_nonce,
    read_neighbours,
    read_setup,
)


def on_open_window(
    state: TenantState, sealed: Sealed[OpenWindow], randomness: Randomness, marks: RoundMarks
) -> TenantStep:
    assert state.terms is not None
    content, terms, me = sealed.content, state.terms.content, state.me
    if content.terms != state.terms.digest:
        raise OutOfTurn(SERVER, "opens a window under other terms")
    known = [window.opening.content.number for window in _windows(state)]
    if known and content.number <= max(known):
        raise OutOfTurn(SERVER, f"opens window {content.number} again")
    if content.first_round + terms.window_rounds <= state.highest_round + 1:
        raise PeerFault(
            SERVER, f"opens a window from round {content.first_round} on, all of which this tenant has passed"
        )
    members_in(content.excused, me.roster, frozenset(me.roster.witnesses), "excused witnesses")
    followed = _follow(state, content)
    secrets = draw_window_secrets(sealed, gives_nonce(content, terms, me.roster, me.index), randomness)
    message, table = advertisement(secrets, terms, state.boot, me.commitment)
    advertised: Sealed[Advertise] = seal(message, me.identity, table)
    upcoming = TenantWindow(sealed, secrets, advertised.digest)
    return TenantStep(replace(followed, upcoming=upcoming), (advertised.to_bytes(),))


def _windows(state: TenantState) -> tuple[TenantWindow, ...]:
    return tuple(window for window in (state.window, state.upcoming) if window)


def _follow(state: TenantState, opening: OpenWindow) -> TenantState:
    """The state after the round that an opening shows: the window it ran in is in use, and what was before it is erased.

    Raises:
        PeerFault: the round was not certified; names the server.
    """
    if not opening.last_certified:
        return state
    header, certificate = _last_certified(state, opening)
    setup = header.content.setup
    window = next((each for each in _windows(state) if each.setup and each.setup.digest == setup), None)
    if window is None:
        return state  # it was set up without this tenant, which can neither check nor use it
    number = header.content.round
    if header.content.witnesses != to_bitmap(window.fixed.witnesses, state.me.roster.n):
        raise PeerFault(
            SERVER,
            f"shows round {number} with other witnesses than those of its window",
            proves="the server forged the round",
        )
    if not window.fixed.covers(number):
        raise MalformedMessage(SERVER, f"shows round {number} as one of a window that has no keys for it")
    require_certified(certificate, header, window.fixed, state.me.roster)
    counted = replace(state, drawn=state.drawn[state.drawn.index(setup) + 1 :] if setup in state.drawn else state.drawn)
    if window.stage is not WindowStage.READY or (window is state.window and number <= state.highest_round):
        return counted
    passed = max(number, state.highest_round)
    return replace(counted, window=window.after(passed), round=None, highest_round=passed)


def _last_certified(state: TenantState, opening: OpenWindow) -> tuple[Sealed[Header], Sealed[Certificate]]:
    """The round that an opening shows, its signatures by the server checked."""
    if len(opening.last_certified) != 2:
        raise MalformedMessage(SERVER, "shows half of a round that was certified")
    header = unquote(opening.last_certified[0], Header, SERVER)
    certificate = unquote(opening.last_certified[1], Certificate, SERVER)
    header.require_signature(state.me.roster.server.identity_key, SERVER)
    certificate.require_signature(state.me.roster.server.identity_key, SERVER)
    if state.round is not None:
        require_one_header(state.round, header)
    if not header.content.session == certificate.content.session == opening.session:
        raise OutOfTurn(SERVER, "shows a certified round of another session")
    if certificate.content.setup != header.content.setup or not any(certificate.content.survivors):
        raise MalformedMessage(SERVER, "shows a round that was closed, not certified, to say which window is in use")
    return header, certificate


def on_setup(state: TenantState, sealed: Sealed[SetUp], randomness: Randomness, marks: RoundMarks) -> TenantStep:
    window, terms, me = state.upcoming, state.accepted_terms, state.me
    assert window is not None
    setup = read_setup(sealed, window.opening, terms, me.roster)
    if not setup.has(me.index) or setup.digest_of(me.index) != window.advertised:
        raise PeerFault(SERVER, "sent a set-up without this tenant's own advertisement")
    if setup.draws_graph and len(state.drawn) > MAX_RESTARTS:
        raise PeerFault(
            SERVER,
            f"wants graph number {len(state.drawn) + 1}, and has shown no sum on any of those before",
            proves="it draws until it likes the graph, or this tenant was away whenever a sum was shown: if so, start it anew",
        )
    drawn = (*state.drawn, setup.digest) if setup.draws_graph else ()
    fixed = replace(state, drawn=drawn, upcoming=replace(window, setup=setup, stage=WindowStage.FIXED))
    if not setup.draws_graph or window.secrets.nonce is None or me.index not in setup.witnesses:
        return TenantStep(fixed)
    reveal = seal(Reveal(terms.session, setup.digest, window.secrets.nonce), window.secrets.signing_key)
    return TenantStep(fixed, (reveal.to_bytes(),))


def on_neighbours(
    state: TenantState, sealed: Sealed[Neighbours], randomness: Randomness, marks: RoundMarks
) -> TenantStep:
    window, me = state.upcoming, state.me
    assert window is not None
    if window.setup is None:
        return TenantStep(state)
    setup = read_neighbours(sealed, window.fixed, me.index, me.roster)
    if me.index in setup.witnesses and len(setup.advertisements) < len(setup.members):
        raise MalformedMessage(SERVER, "keeps keys from a witness that it needs to check uploads")
    names = {index: me.roster.tenants[index].name for index in setup.neighbours(me.index)}
    roots, boxes = deal(setup, me.index, window.secrets, names, randomness)
    deposit = seal(Deposit(setup.terms.session, setup.digest, roots), window.secrets.signing_key, boxes)
    dealt = replace(window, setup=setup, stage=WindowStage.DEPOSITED)
    return TenantStep(replace(state, upcoming=dealt), (deposit.to_bytes(),))


def on_boxes(state: TenantState, sealed: Sealed[Boxes], randomness: Randomness, marks: RoundMarks) -> TenantStep:
    window, terms, me = state.upcoming, state.accepted_terms, state.me
    assert window is not None
    setup, content = window.fixed, sealed.content
    if content.setup != setup.digest:
        raise OutOfTurn(SERVER, "sent boxes of another set-up")
    neighbours = frozenset(setup.neighbours(me.index))
    dealers = sorted(members_in(content.dealers, me.roster, within=neighbours, what="dealers"))
    size = box_bytes(setup)
    if len(dealers) != len(content.deposits) or len(sealed.attachment) != size * len(dealers):
        raise MalformedMessage(SERVER, f"sent boxes that do not belong to {len(dealers)} dealers")
    held: dict[int, HeldShares] = {}
    for place, (dealer, quoted) in enumerate(zip(dealers, content.deposits, strict=True)):
        deposit = unquote(quoted, Deposit, SERVER)
        box = sealed.attachment[place * size : (place + 1) * size]
        shares = _shares_in(box, deposit, window, setup, dealer, state)
        if shares is not None:
            held[dealer] = shares
    ready = seal(Ready(terms.session, setup.digest, to_bitmap(held, me.roster.n)), window.secrets.signing_key)
    opened = replace(window, held=held, secrets=window.secrets.without_channel(), stage=WindowStage.READY)
    return TenantStep(replace(state, upcoming=opened), (ready.to_bytes(),))


def _shares_in(
    box: bytes, deposit: Sealed[Deposit], window: TenantWindow, setup: WindowSetUp, dealer: int, state: TenantState
) -> HeldShares | None:
    name = state.me.roster.tenants[dealer].name
    check_deposit(deposit, setup, dealer, name)
    return open_box(setup, deposit, dealer, state.me.index, window.secrets, box, name)
