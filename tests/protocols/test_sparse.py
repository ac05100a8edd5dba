"""The sparse graph: masks and shares among k neighbours, witnesses that draw it and certify, and sums as exact as on the complete one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fed_em_protocols.coordinator_state import NoticeKind
from fed_em_protocols.coordinator_window import wants_window
from fed_em_protocols.description import Column, SessionDescription
from fed_em_protocols.errors import SumFailed
from fed_em_protocols.graph import well_tied
from fed_em_protocols.graph_parameters import GraphParameters, malicious_server_parameters, semi_honest_parameters
from fed_em_protocols.members import from_bitmap
from fed_em_protocols.messages import (
    Advertise,
    Boxes,
    Certificate,
    Deposit,
    Endorsement,
    Header,
    Neighbours,
    Opening,
    OpenWindow,
    Proposal,
    Ready,
    Recover,
    Reveal,
    SetUp,
    Shares,
    Upload,
)
from fed_em_protocols.policy import TermsPolicy, check_terms
from fed_em_protocols.terms import Trust, whole_units
from fed_em_protocols.transitions import SetUpPhase
from fed_em_server.configuration import TrustTable
from fed_em_server.session_terms import session_terms
from fed_em_simulations.memory_hub import Fate, Interference, Passing
from tests.protocols.crashes import crash_and_restart
from tests.protocols.federation import TestFederation, kind_of, roster_of
from tests.protocols.interferences import (
    TO_SERVER,
    TO_TENANT,
    Place,
    Watch,
    assert_no_error,
    in_turn,
    name_of,
    notices,
    once,
    parsed,
)
from tests.protocols.sparse import graph_in_use, small

pytestmark = pytest.mark.usefixtures("remembered_keys")

both_trusts = pytest.mark.parametrize("trust", list(Trust), ids=lambda trust: trust.label)

# Seventy tenants of whom one colludes and four may be missing: 40 bits of security, 20 of correctness.
N, MISSING, WITNESSES = 70, 4, 20
LARGE = {
    Trust.MALICIOUS_SERVER: malicious_server_parameters(N - MISSING, WITNESSES, 1, MISSING),
    Trust.SEMI_HONEST: semi_honest_parameters(N - MISSING, 1, MISSING),
}


def large(trust: Trust, interfere: Interference = lambda _: Fate.DELIVER, **terms: int) -> TestFederation:
    found: GraphParameters = LARGE[trust]
    values = {
        "colluders": 1, "minimum_survivors": N - MISSING, "trust": int(trust), "neighbours": found.neighbours,
        "share_threshold": found.share_threshold, "side_honest": found.side_honest, "witnesses": found.witnesses,
        "certificate_quorum": found.certificate_quorum,
    }  # fmt: skip
    return TestFederation(N, 2, interfere=interfere, named_witnesses=WITNESSES, **{**values, **terms})


# --- seventy tenants, numbers as they are computed ---


@both_trusts
def test_seventy_tenants_sum_exactly_with_k_neighbours_each(trust: Trust) -> None:
    watch = Watch()
    federation = large(trust, watch)
    for _ in range(3):
        assert federation.sum().survivors == tuple(range(N))
    k, rounds = LARGE[trust].neighbours, federation.server.state.terms.content.window_rounds
    assert k < 20
    for _, sealed in watch.passed(Neighbours):
        assert len(sealed.attachment) == 2 * 32 * rounds * k
    assert all(len(sealed.content.roots) == 32 * k for _, sealed in watch.passed(Deposit))
    certified = trust is Trust.MALICIOUS_SERVER
    assert (
        watch.by(Reveal)
        == watch.by(Endorsement)
        == watch.by(Proposal)
        == (set(range(WITNESSES)) if certified else set())
    )
    assert_no_error(federation)


@both_trusts
def test_with_as_many_missing_as_planned_the_sum_is_that_of_the_others_in_one_round(trust: Trust) -> None:
    """Two die before their uploads and two after; a witness and another each time."""
    interfere = in_turn(
        once(Fate.KILL, (TO_TENANT, Header), {3, 40}), once(Fate.KILL, (TO_TENANT, Certificate), {7, 50})
    )
    watch = Watch(interfere)
    federation = large(trust, watch)
    opened = federation.sum()
    assert opened.round == 1 and opened.survivors == tuple(i for i in range(N) if i not in {3, 40})
    assert len(notices(federation, NoticeKind.RECOVERING)) == 1
    # Only neighbours of whoever is lost are asked for shares.
    graph = federation.server.state.window.fixed  # type: ignore[union-attr]
    near = {holder for lost in (3, 7, 40, 50) for holder in graph.neighbours(lost)}
    assert watch.by(Recover) <= near and len(watch.by(Recover)) < N - 10
    assert federation.sum().survivors == tuple(i for i in range(N) if i not in {3, 7, 40, 50})
    assert_no_error(federation)


def test_more_missing_than_planned_are_too_many() -> None:
    federation = large(Trust.MALICIOUS_SERVER, once(Fate.KILL, (TO_TENANT, Header), range(60, 65)))
    with pytest.raises(SumFailed, match="65 of 70 tenants answer, 66 are needed"):
        federation.sum()


@both_trusts
def test_the_next_window_is_set_up_beside_rounds_there_too(trust: Trust) -> None:
    federation = small(trust, window_rounds=16)
    federation.sum()
    began, times = federation.hub.now(), []
    for _ in range(30):
        federation.sum()
        times.append(federation.hub.now() - began)
        began = federation.hub.now()
    assert len(notices(federation, NoticeKind.WINDOW_OPENED)) >= 2 and max(times) < 1.01 * min(times)
    assert_no_error(federation)


# --- deaths and links ---


STEPS: list[Place] = [
    *((TO_SERVER, kind) for kind in (Advertise, Reveal, Deposit, Ready, Upload, Endorsement, Opening, Shares)),
    *((TO_TENANT, kind) for kind in (OpenWindow, SetUp, Neighbours, Boxes, Header, Proposal, Certificate, Recover)),
]


@both_trusts
@pytest.mark.parametrize("place", STEPS, ids=name_of)
def test_any_three_deaths_at_one_step_cost_nothing_but_their_own_terms(place: Place, trust: Trust) -> None:
    """Two of the dead are witnesses: three of five are left, a quorum."""
    for dead in ({0, 1, 5}, {2, 4, 11}, {3, 8, 9}):
        federation = small(trust, once(Fate.KILL, place, dead))
        alive = set(range(12)) - dead
        assert alive <= set(federation.sum().survivors)
        later = [federation.sum() for _ in range(2)][-1]
        assert alive <= set(later.survivors)
        assert_no_error(federation)


@both_trusts
@pytest.mark.parametrize("place", [step for step in STEPS if step[1] not in {Recover, Shares}], ids=name_of)
def test_links_that_break_cost_nothing_but_time(place: Place, trust: Trust) -> None:
    federation = small(trust, once(Fate.BREAK, place, range(12)))
    opened = federation.sum()
    assert opened.round == 1 and opened.survivors == tuple(range(12))
    assert_no_error(federation)


@both_trusts
@pytest.mark.parametrize("place", [(TO_TENANT, Recover), (TO_SERVER, Shares)], ids=name_of)
def test_nor_do_links_that_break_in_a_recovery(place: Place, trust: Trust) -> None:
    interfere = in_turn(once(Fate.KILL, (TO_TENANT, Certificate), {6}), once(Fate.BREAK, place, range(12)))
    federation = small(trust, interfere)
    opened = federation.sum()
    assert opened.round == 1 and opened.survivors == tuple(range(12))
    assert_no_error(federation)


@given(
    st.dictionaries(st.integers(0, 13), st.sampled_from(STEPS), max_size=5),
    st.sampled_from(list(Trust)),
    st.sampled_from([0, 2]),
)
@settings(max_examples=40)
def test_whoever_dies_the_sum_is_exact_or_too_few_are_left(deaths: dict[int, Place], trust: Trust, blocks: int) -> None:
    def interfere(passing: Passing) -> Fate:
        dies = deaths.get(passing.tenant) == (passing.direction, kind_of(passing.data))
        return Fate.KILL if dies else Fate.DELIVER

    federation = small(trust, interfere, n=14, blocks=blocks)
    alive, units = frozenset(range(14)) - frozenset(deaths), federation.server.state.units
    whole, outcome = whole_units(units, alive), federation.try_sum()
    if isinstance(outcome, SumFailed):
        quorum_lives = trust is Trust.SEMI_HONEST or len(alive & frozenset(range(5))) >= 3
        assert len(whole) < 7 or not quorum_lives or len(deaths) > 3, outcome
    else:
        survivors = frozenset(outcome.survivors)
        assert survivors == whole_units(units, survivors) and len(survivors) >= 7
        # With more deaths fewer than τ of some tenant's neighbours may be left when the window is set up.
        assert whole <= survivors or len(deaths) > 3
    assert_no_error(federation)


def test_nobody_is_in_a_sum_whose_masks_hang_by_too_few_neighbours() -> None:
    """Two that stand side by side fall out: those next to them keep one neighbour of three on that side, and h is 2. The round is
    void, and the next one runs on a graph of those who are left."""
    ring: list[int] = []

    def interfere(passing: Passing) -> Fate:
        if kind_of(passing.data) is not Header or federation.server.state.last_round != 2:
            return Fate.DELIVER
        ring[:] = graph_in_use(federation).ring
        return Fate.KILL if passing.tenant in ring[4:6] else Fate.DELIVER

    watch = Watch(interfere)
    federation = small(interfere=watch, side_honest=2, n=14, certificate_quorum=3)
    federation.sum()
    opened = federation.sum()
    lost = set(ring[4:6])
    assert opened.round == 3 and set(opened.survivors) == set(range(14)) - lost
    first, second = watch.headers()[2], watch.headers()[3]
    assert first.setup != second.setup and second.previous_outcome == 2
    assert not any(sealed.content.round == 2 for _, sealed in watch.passed(Opening))


def test_every_survivor_of_every_certificate_is_well_tied() -> None:
    watch = Watch(once(Fate.KILL, (TO_TENANT, Header), {5, 9}))
    federation = small(interfere=watch)
    graphs = {}
    for _ in range(6):
        federation.sum()
        graphs[watch.headers()[max(watch.headers())].setup] = graph_in_use(federation)
    for sealed in watch.seen(Certificate):
        survivors = from_bitmap(sealed.content.survivors, 12)
        assert well_tied(graphs[sealed.content.setup], survivors, 1)


# --- drawing the graph ---


def silent_witnesses(order: Iterable[int]) -> Interference:
    """At each draw the next of these keeps its nonce to itself."""
    left, refused = list(order), dict[bytes, int]()

    def interfere(passing: Passing) -> Fate:
        if kind_of(passing.data) is not Reveal:
            return Fate.DELIVER
        setup = parsed(passing, Reveal).content.setup
        if setup not in refused and left:
            refused[setup] = left.pop(0)
        return Fate.LOSE if refused.get(setup) == passing.tenant else Fate.DELIVER

    return interfere


def test_a_witness_that_does_not_reveal_in_time_is_excused_and_the_draw_starts_anew() -> None:
    def interfere(passing: Passing) -> Fate:
        if (passing.tenant, kind_of(passing.data)) == (2, Reveal) and federation.hub.now() < 1.0:
            federation.hub.set_latency(2, 2.5)
        if kind_of(passing.data) is Advertise:
            federation.hub.set_latency(2, 0.05)
        return Fate.DELIVER

    watch = Watch(interfere)
    federation = small(interfere=watch, window_rounds=6, latency=0.05)
    assert federation.sum().survivors == (0, 1, *range(3, 12))
    first, second = watch.seen(OpenWindow)
    assert from_bitmap(first.content.excused, 12) == frozenset() and from_bitmap(second.content.excused, 12) == {2}
    one, other = watch.seen(SetUp)
    assert one.content.window == first.digest and other.content.window == second.digest
    assert from_bitmap(watch.headers()[1].witnesses, 12) == {0, 1, 3, 4}
    assert {len(sealed.content.nonces) for _, sealed in watch.passed(Neighbours)} == {4}
    # It was only slow. The set-up of the next window begins with all witnesses again.
    while federation.sum().survivors != tuple(range(12)):
        assert len(watch.headers()) < 12
    assert from_bitmap(watch.seen(OpenWindow)[2].content.excused, 12) == frozenset()
    assert from_bitmap(watch.headers()[max(watch.headers())].witnesses, 12) == {0, 1, 2, 3, 4}
    assert_no_error(federation)


def test_each_draw_has_fresh_nonces_and_none_is_chosen_after_the_set_up_is_fixed() -> None:
    watch = Watch(silent_witnesses([2]))
    small(interfere=watch).sum()
    reveals = watch.passed(Reveal)
    assert len({sealed.content.nonce for _, sealed in reveals}) == len({sealed.digest for _, sealed in reveals})
    first, second = watch.seen(SetUp)
    commitments = [
        {
            sealed.content.nonce_commitment
            for _, sealed in watch.passed(Advertise)
            if sealed.content.window == setup.content.window
        }
        for setup in (first, second)
    ]
    assert commitments[0] & commitments[1] == {bytes(32)}  # of those who give none


@pytest.mark.parametrize("silent", [7, 8])
def test_a_graph_is_drawn_eight_times_at_most(silent: int) -> None:
    """With seven excused the eighth draw is good; without, the session ends before a tenant has to refuse a ninth."""
    watch = Watch(silent_witnesses(range(silent)))
    n, w = 20, 18
    federation = TestFederation(
        n, 1, interfere=watch, named_witnesses=w, colluders=0, minimum_survivors=9, neighbours=6, share_threshold=3,
        side_honest=1, witnesses=w, certificate_quorum=10,
    )  # fmt: skip
    outcomes = [federation.try_sum() for _ in range(3)]
    assert len(watch.seen(SetUp)) == 8
    assert_no_error(federation)
    if silent == 7:
        assert not isinstance(outcomes[-1], SumFailed) and outcomes[-1].survivors == tuple(range(7, n))
        assert from_bitmap(watch.headers()[1].witnesses, n) == set(range(7, w))
    else:
        assert isinstance(outcomes[-1], SumFailed) and "drawn 8 times without a sum on any" in outcomes[-1].message
        assert watch.headers() == {}


def test_too_few_witnesses_that_reveal_end_the_request() -> None:
    federation = small(interfere=silent_witnesses([0, 1, 2]))
    with pytest.raises(SumFailed):
        federation.sum()
    assert_no_error(federation)


def test_a_sum_resets_the_count_of_draws() -> None:
    """Only draws without a sum on their graph are tries at a graph that somebody likes."""
    watch = Watch()
    federation = small(interfere=watch, window_rounds=2)
    for _ in range(24):
        federation.sum()
    assert len(watch.seen(SetUp)) >= 12
    assert_no_error(federation)


def test_a_tenant_that_no_round_asks_follows_from_window_to_window() -> None:
    """t1 is gone: t7, of its block and no witness, is a member of every window and sees no header."""
    watch = Watch()
    federation = small(interfere=watch, window_rounds=2, blocks=6)
    federation.sum()
    federation.hub.kill(1)
    for _ in range(24):
        federation.sum()
    assert sum(tenant == 7 for tenant, _ in watch.passed(SetUp)) >= 12
    assert max(sealed.content.round for tenant, sealed in watch.passed(Header) if tenant == 7) <= 2
    assert_no_error(federation)


def test_a_tenant_that_waits_gets_no_more_than_half_of_the_draws() -> None:
    """The others are kept for the window that must follow; rounds go on in the one in use."""
    federation = small(window_rounds=64, round_cap=200)
    federation.sum()
    state = federation.server.state
    window = state.window
    assert window is not None
    waiting = replace(state, window=replace(window, active=window.active - {11}), last_round=10)
    assert wants_window(replace(waiting, draws=3)) and not wants_window(replace(waiting, draws=4))
    ending = replace(state, last_round=60)
    assert wants_window(replace(ending, draws=7)) and not wants_window(replace(ending, draws=8))


@pytest.mark.parametrize("sends", [False, True], ids=["before-sending", "after-sending"])
def test_a_server_that_starts_anew_while_the_graph_is_drawn_goes_on(sends: bool) -> None:
    watch = Watch()
    federation = small(interfere=watch, window_rounds=8)
    crash_and_restart(federation, SetUpPhase.DRAWING, sends)
    assert federation.sum().survivors == tuple(range(12))
    for _ in range(6):
        federation.sum()
    crash_and_restart(federation, SetUpPhase.DRAWING, sends)
    for _ in range(3):
        assert federation.sum().survivors == tuple(range(12))
    assert_no_error(federation)


@pytest.mark.slow
def test_sixty_six_tenants_that_want_the_complete_graph() -> None:
    """By the terms that `[trust] graph = "complete"` gives, with a dropout before the upload and one after it."""
    trust = TrustTable(graph="complete", difference_guard="off", window_rounds=1)
    model = {"family": "gaussian-mixture", "n_components": 2}
    description = SessionDescription(title="many", columns=(Column(name="x", low=0, high=1),), model=model)
    terms = session_terms(trust, roster_of(66, witnesses=20), description, 1)
    check_terms(TermsPolicy(difference_guard=False), terms, roster_of(66, witnesses=20))
    graph = ("neighbours", "witnesses", "certificate_quorum", "share_threshold", "side_honest")
    kept = ("trust", "minimum_cohort", "minimum_survivors", "colluders", "blocks", "window_rounds", *graph)
    silent = {3: Header, 4: Certificate}

    def interfere(passing: Passing) -> Fate:
        mute = kind_of(passing.data) is silent.get(passing.tenant) and passing.direction is TO_TENANT
        return Fate.KILL if mute else Fate.DELIVER

    federation = TestFederation(
        66, 1, interfere=interfere, named_witnesses=20, **{name: getattr(terms, name) for name in kept}
    )
    opened = federation.sum()
    window = federation.server.state.window
    assert window is not None and window.fixed.graph is None
    assert opened.survivors == tuple(i for i in range(66) if i != 3)
