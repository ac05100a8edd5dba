"""Increments: the running total is exact whoever answers, every increment starts from the round it must, and base rounds restart it."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fed_em_protocols.coordinator import coordinator_receive, coordinator_request
from fed_em_protocols.coordinator_state import NoticeKind, SumRequest
from fed_em_protocols.envelope import seal
from fed_em_protocols.errors import OutOfTurn, SumFailed
from fed_em_protocols.messages import AskBase, Base, Certificate, Header, Mode, Proposal, Upload
from fed_em_protocols.terms import Trust
from fed_em_simulations.memory_hub import Fate, Passing
from tests.protocols.federation import TestFederation, kind_of
from tests.protocols.interferences import TO_SERVER, TO_TENANT, Place, Watch, assert_no_error, name_of, notices, once

pytestmark = pytest.mark.usefixtures("remembered_keys")

both_trusts = pytest.mark.parametrize("trust", list(Trust), ids=lambda trust: trust.label)


def bases_expected(federation: TestFederation, watch: Watch) -> dict[int, tuple[int, ...]]:
    """Of each round: where every unit's increment must start, from what was opened before, by other means than the server's."""
    units, headers = federation.server.state.units, watch.headers()
    opened = dict(notices(federation, NoticeKind.SUMMED))
    bases, expected = [0] * len(units), {}
    for number in sorted(headers):
        expected[number] = tuple(bases) if headers[number].mode == Mode.INCREMENT else ()
        if number in opened and headers[number].mode != Mode.COUNTS:
            survivors = frozenset(federation.roster.index(name) for name in opened[number])
            old = bases if headers[number].mode == Mode.INCREMENT else [0] * len(units)
            bases = [number if unit <= survivors else before for unit, before in zip(units, old, strict=True)]
    return expected


def assert_bases(federation: TestFederation, watch: Watch) -> None:
    """Headers name the bases that they must, by round and by context."""
    contexts = {sealed.content.round: sealed.digest for sealed in watch.seen(Header)}
    for number, expected in bases_expected(federation, watch).items():
        header = watch.headers()[number]
        assert header.base_rounds == expected
        assert header.base_contexts == b"".join(contexts[base] for base in sorted(set(expected) - {0}))


def at_times(*deaths: tuple[int, int, Place], back: float | None = None) -> tuple[Watch, list[TestFederation]]:
    """(round, tenant, place): the tenant dies there; it is started anew after `back` seconds."""
    found: list[TestFederation] = []
    left = list(deaths)

    def interfere(passing: Passing) -> Fate:
        here = (found[0].server.state.last_round, passing.tenant, (passing.direction, kind_of(passing.data)))
        if here not in left:
            return Fate.DELIVER
        left.remove(here)
        if back is not None:
            found[0].hub.restart(passing.tenant, back)
        return Fate.KILL

    return Watch(interfere), found


def test_the_first_round_is_of_whole_vectors_and_all_others_are_increments() -> None:
    watch = Watch()
    federation = TestFederation(4, interfere=watch)
    for _ in range(5):
        assert federation.sum().survivors == (0, 1, 2, 3)
    assert [header.mode for header in watch.headers().values()] == [Mode.WHOLE] + [Mode.INCREMENT] * 4
    assert_bases(federation, watch)
    assert watch.by(AskBase) == set()
    # The base rounds' headers are all that the server keeps of the past.
    total = federation.server.state.total
    assert total is not None and total.bases == (5, 5, 5, 5) and set(total.headers) == {5}


@both_trusts
def test_an_increment_starts_from_the_last_opened_round_of_its_unit(trust: Trust) -> None:
    """t3 dies before its upload in round 2 and t1 in round 4: both have terms of earlier rounds until they are back."""
    watch, found = at_times((2, 3, (TO_TENANT, Header)), (4, 1, (TO_TENANT, Header)), back=0.01)
    federation = TestFederation(5, interfere=watch, window_rounds=40, trust=int(trust))
    found.append(federation)
    stale = [federation.sum().stale for _ in range(12)]
    assert stale[1:3] == [(3,), (3,)] and (1,) in stale and stale[-1] == ()
    assert_bases(federation, watch)
    assert watch.by(AskBase) == {1, 3}
    assert_no_error(federation)


@both_trusts
def test_a_round_that_is_certified_and_not_opened_moves_no_base(trust: Trust) -> None:
    watch, found = at_times(*((3, tenant, (TO_TENANT, Certificate)) for tenant in (1, 2, 3)), back=0.01)
    federation = TestFederation(4, interfere=watch, trust=int(trust))
    found.append(federation)
    for _ in range(5):
        federation.sum()
    assert len(watch.headers()) == 6  # round 3 was taken again as round 4
    assert watch.headers()[3].base_rounds == watch.headers()[4].base_rounds == (2, 2, 2, 2)
    assert_bases(federation, watch)
    assert_no_error(federation)


# --- a lost base ---


@both_trusts
@pytest.mark.parametrize("blocks", [0, 2])
def test_a_restarted_tenant_computes_its_base_again_to_the_same_integers(blocks: int, trust: Trust) -> None:
    watch, found = at_times((2, 3, (TO_TENANT, Header)), back=0.01)
    federation = TestFederation(6, interfere=watch, colluders=1, blocks=blocks, trust=int(trust), window_rounds=40)
    found.append(federation)
    while federation.sum().stale or len(watch.headers()) < 4:
        assert len(watch.headers()) < 20
    recalled = [asked for asked in federation.works[3].asked if asked.recall]
    assert [(asked.round, asked.parameters) for asked in recalled] == [(1, b"parameters 1")]
    assert watch.by(AskBase) == watch.by(Base) == {3}
    federation.sum()
    assert watch.by(AskBase) == {3} and len(watch.seen(AskBase)) == 1
    assert_bases(federation, watch)
    assert_no_error(federation)


@pytest.mark.parametrize("place", [(TO_SERVER, AskBase), (TO_TENANT, Base)], ids=name_of)
def test_a_link_that_breaks_while_a_base_is_asked_for_costs_nothing_but_time(place: Place) -> None:
    deaths, found = at_times((2, 0, (TO_TENANT, Header)), back=0.01)
    breaks = once(Fate.BREAK, place, {0})

    def interfere(passing: Passing) -> Fate:
        fate = deaths(passing)
        return breaks(passing) if fate is Fate.DELIVER else fate

    federation = TestFederation(3, interfere=interfere)
    found.append(federation)
    for _ in range(3):
        assert federation.sum().survivors == (0, 1, 2)
    assert deaths.by(AskBase) == {0}
    assert_no_error(federation)


def asking() -> tuple[TestFederation, Any, AskBase, Any]:
    """A federation whose server has just been asked for a base by tenant 3; the server's state, the message, and its key."""
    deaths, found = at_times((2, 3, (TO_TENANT, Header)), back=0.01)
    caught: list[Any] = []

    def interfere(passing: Passing) -> Fate:
        if kind_of(passing.data) is AskBase:
            session = federation.hub.session_of(3)
            assert session is not None and session.state.window is not None
            caught.extend([federation.server.state, session.state.window.secrets.signing_key])
        return deaths(passing)

    federation = TestFederation(4, interfere=interfere)
    found.append(federation)
    while not caught:
        federation.sum()
    return federation, caught[0], deaths.seen(AskBase)[0].content, caught[1]


def test_only_bases_that_the_header_names_are_handed_out_and_only_to_participants() -> None:
    _, state, ask, key = asking()
    answer = coordinator_receive(state, 3, seal(ask, key).to_bytes(), 0.0)
    assert len(answer.sends) == 1 and kind_of(answer.sends[0][1]) is Base
    other = replace(ask, base=bytes(32))
    with pytest.raises(OutOfTurn, match="asks for a base round that nobody named"):
        coordinator_receive(state, 3, seal(other, key).to_bytes(), 0.0)
    with pytest.raises(OutOfTurn, match="asks for a base under another header"):
        coordinator_receive(state, 3, seal(replace(ask, context=bytes(32)), key).to_bytes(), 0.0)
    late = replace(ask, round=ask.round - 1)
    assert coordinator_receive(state, 3, seal(late, key).to_bytes(), 0.0).sends == ()


# --- base rounds ---


@both_trusts
def test_changed_rows_force_a_base_round(trust: Trust) -> None:
    """What the tenant gave before can be no base; everybody sends whole, once."""
    watch, found = at_times((3, 2, (TO_TENANT, Header)), back=0.01)
    federation = TestFederation(4, interfere=watch, trust=int(trust), window_rounds=40)
    found.append(federation)
    federation.sum()
    federation.sum()
    work = federation.works[2]
    work.changed = lambda _: True  # type: ignore[method-assign]
    federation.sum()  # t2 dies and is back with other rows
    work.seed = 77
    modes = []
    for _ in range(8):
        opened = federation.sum()
        modes.append(watch.headers()[opened.round].mode)
    assert opened.survivors == (0, 1, 2, 3) and federation.works[2].vector_at(b"x")[0] != 0
    # In the base round t2 is not yet in the window: the total holds nothing of it until it enters whole.
    assert modes.count(Mode.WHOLE) == 1 and modes[0] == Mode.WHOLE
    assert watch.by(AskBase) == set()
    assert_bases(federation, watch)
    assert_no_error(federation)


@pytest.mark.parametrize("place", [(TO_TENANT, Proposal), (TO_TENANT, Certificate)], ids=name_of)
def test_rows_that_change_while_a_base_round_is_opened_force_another(place: Place) -> None:
    """The round holds a term of the rows before: the process that gave it is dead, and the next one has others."""
    watch, found = at_times((1, 3, place), back=0.0)
    federation = TestFederation(5, interfere=watch, latency=[0.001] * 4 + [0.05])
    found.append(federation)
    work = federation.works[3]
    work.changed = lambda _: True  # type: ignore[method-assign]
    assert federation.sum().survivors == (0, 1, 2, 3, 4)
    work.seed = 77
    opened = [federation.sum() for _ in range(6)]
    assert opened[-1].survivors == (0, 1, 2, 3, 4)
    assert watch.headers()[2].mode == Mode.WHOLE
    assert_bases(federation, watch)
    assert_no_error(federation)


@both_trusts
def test_another_encoding_restarts_the_total(trust: Trust) -> None:
    watch = Watch()
    federation = TestFederation(4, interfere=watch, trust=int(trust))
    federation.sum()
    federation.sum()

    def plain(parameters: bytes) -> np.ndarray:
        return sum(
            (work.vector_at(parameters) for work in federation.works), np.zeros(federation.length, dtype=np.uint64)
        )

    for number, encoding in enumerate([b"e" * 32, b"e" * 32, b"f" * 32, bytes(32)], start=3):
        parameters = b"theta %d" % number
        opened = federation.server.sum(SumRequest(parameters, encoding, federation.length))
        assert opened.round == number and np.array_equal(opened.vector, plain(parameters))
    modes = [header.mode for header in watch.headers().values()]
    assert modes == [Mode.WHOLE, Mode.INCREMENT, Mode.WHOLE, Mode.INCREMENT, Mode.WHOLE, Mode.WHOLE]
    assert_bases(federation, watch)


def test_whole_vectors_on_demand_restart_the_total_without_whoever_is_away() -> None:
    watch, found = at_times((3, 2, (TO_TENANT, Header)))
    federation = TestFederation(4, interfere=watch)
    found.append(federation)
    for _ in range(2):
        federation.sum()
    assert federation.sum().stale == (2,)
    opened = federation.sum(whole=True)
    assert opened.survivors == (0, 1, 3) and opened.missing == (2,) and opened.stale == ()
    assert federation.sum().missing == (2,)
    modes = [header.mode for header in watch.headers().values()]
    assert modes == [Mode.WHOLE, Mode.INCREMENT, Mode.INCREMENT, Mode.WHOLE, Mode.INCREMENT]
    assert_bases(federation, watch)


# --- many patterns ---


PLACES: Sequence[Place] = [(TO_TENANT, Header), (TO_SERVER, Upload), (TO_TENANT, Proposal), (TO_TENANT, Certificate)]


@st.composite
def patterns(draw: st.DrawFn) -> tuple[int, list[bool], list[tuple[int, int, Place, float]]]:
    """Number of blocks, which sums are of whole vectors, and who dies where and comes back when."""
    deaths = st.tuples(st.integers(1, 8), st.integers(0, 5), st.sampled_from(PLACES), st.floats(0.0, 2.0))
    return (
        draw(st.sampled_from([0, 2])),
        draw(st.lists(st.booleans(), min_size=6, max_size=6)),
        draw(st.lists(deaths, max_size=8)),
    )


@pytest.mark.slow
@given(patterns(), st.sampled_from(list(Trust)), st.integers(0, 5))
@settings(max_examples=40)
def test_totals_are_exact_under_any_pattern_of_absence(
    pattern: tuple[int, list[bool], list[tuple[int, int, Place, float]]], trust: Trust, slow: int
) -> None:
    blocks, wholes, deaths = pattern
    left = list(deaths)

    def interfere(passing: Passing) -> Fate:
        here = (federation.server.state.last_round, passing.tenant, (passing.direction, kind_of(passing.data)))
        for death in left:
            if here == death[:3]:
                left.remove(death)
                federation.hub.restart(passing.tenant, death[3])
                return Fate.KILL
        return Fate.DELIVER

    watch = Watch(interfere)
    federation = TestFederation(6, interfere=watch, colluders=1, blocks=blocks, trust=int(trust), window_rounds=6)
    for number, whole in enumerate(wholes):
        federation.hub.set_latency(slow, 1.1 if number % 3 == 1 else 0.001)
        with contextlib.suppress(SumFailed):
            federation.sum(whole=whole)
    federation.hub.set_latency(slow, 0.001)
    left.clear()
    federation.sum()
    assert_bases(federation, watch)
    assert_no_error(federation)


def test_a_request_beside_a_total_asks_for_increments_of_the_same_length() -> None:
    """The encoding's hash covers its layout, so a total never meets a vector of another length."""
    federation = TestFederation(3)
    federation.sum()
    step = coordinator_request(federation.server.state, SumRequest(b"", b"o" * 32, 50), federation.hub.now())
    assert step.state.round is not None and step.state.round.header.content.mode == Mode.WHOLE
