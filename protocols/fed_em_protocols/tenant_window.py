"""A tenant's part in the set-up of a window: advertise, reveal, deposit, hold."""

from __future__ import annotations

from dataclasses import replace

from fed_em_protocols.deposits import HeldShares, box_bytes, check_deposit, deal, open_box
from fed_em_protocols.envelope import Sealed, seal, unquote
from fed_em_protocols.errors import SERVER, MalformedMessage, OutOfTurn, PeerFault
from fed_em_protocols.members import to_bitmap
from fed_em_protocols.messages import Advertise, Boxes, Deposit, Neighbours, OpenWindow, Ready, Reveal, SetUp
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

# Each draw of a graph that nobody uses gives the server another try at one it likes: 3 bits of security are charged for 8.
_MOST_DRAWS = 8


def on_open_window(
    state: TenantState, sealed: Sealed[OpenWindow], randomness: Randomness, marks: RoundMarks
) -> TenantStep:
    assert state.terms is not None
    content, terms, me = sealed.content, state.terms.content, state.me
    if content.terms != state.terms.digest:
        raise OutOfTurn(SERVER, "opens a window under other terms")
    known = [window.opening.content.number for window in (state.window, state.upcoming) if window]
    if known and content.number <= max(known):
        raise OutOfTurn(SERVER, f"opens window {content.number} again")
    if content.first_round + terms.window_rounds <= state.highest_round + 1:
        raise PeerFault(
            SERVER, f"opens a window from round {content.first_round} on, all of which this tenant has passed"
        )
    members_in(content.excused, me.roster, frozenset(me.roster.witnesses), "excused witnesses")
    secrets = draw_window_secrets(sealed, gives_nonce(content, terms, me.roster, me.index), randomness)
    message, table = advertisement(secrets, terms, state.boot)
    advertised: Sealed[Advertise] = seal(message, me.identity, table)
    upcoming = TenantWindow(sealed, secrets, advertised.digest)
    return TenantStep(replace(state, upcoming=upcoming), (advertised.to_bytes(),))


def on_setup(state: TenantState, sealed: Sealed[SetUp], randomness: Randomness, marks: RoundMarks) -> TenantStep:
    window, terms, me = state.upcoming, state.accepted_terms, state.me
    assert window is not None
    setup = read_setup(sealed, window.opening, terms, me.roster)
    if me.index not in setup.members or setup.digests[setup.members.index(me.index)] != window.advertised:
        raise PeerFault(SERVER, "sent a set-up without this tenant's own advertisement")
    if setup.draws_graph and state.draws >= _MOST_DRAWS:
        raise PeerFault(
            SERVER,
            f"wants graph number {state.draws + 1} without a round on any of those before",
            proves="whoever may draw for ever chooses the graph",
        )
    draws = state.draws + 1 if setup.draws_graph else 0
    fixed = replace(state, draws=draws, upcoming=replace(window, setup=setup, stage=WindowStage.FIXED))
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
