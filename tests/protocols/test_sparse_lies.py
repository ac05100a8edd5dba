"""Tenants that lie on a sparse graph: the right one is named, and the others get their sum."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from fed_em_protocols.coordinator_state import NoticeKind
from fed_em_protocols.members import from_bitmap
from fed_em_protocols.messages import Certificate, Deposit, Header, Opening, OpenWindow, Recover, Reveal, Shares
from fed_em_protocols.terms import Trust
from fed_em_simulations.liars import Liar, Twist, deals_falsely, flipped, lying, with_changes
from fed_em_simulations.memory_hub import Fate, Passing
from tests.protocols.federation import TestFederation, kind_of
from tests.protocols.interferences import TO_TENANT, Watch, notices
from tests.protocols.sparse import graph_in_use, small

pytestmark = pytest.mark.usefixtures("remembered_keys")

both_trusts = pytest.mark.parametrize("trust", list(Trust), ids=lambda trust: trust.label)

LIAR = 7  # no witness
Chosen = Callable[[TestFederation], set[int]]


def neighbours(federation: TestFederation) -> list[int]:
    return list(graph_in_use(federation).neighbours(LIAR))


def strangers(federation: TestFederation) -> list[int]:
    """Neither neighbours of the liar nor the liar itself."""
    return [index for index in range(federation.roster.n) if index not in {LIAR, *neighbours(federation)}]


def lied_to(
    trust: Trust, kind: type, twist: Twist, deaths: dict[type, Chosen], n: int = 12, **options: Any
) -> tuple[TestFederation, Watch]:
    """The liar twists its messages of a kind; in round 1, others die before they read messages of some kinds, chosen by the graph."""

    def interfere(passing: Passing) -> Fate:
        kind, first = kind_of(passing.data), federation.server.state.last_round == 1
        dies = (
            passing.direction is TO_TENANT and first and kind in deaths and passing.tenant in deaths[kind](federation)
        )
        return Fate.KILL if dies else Fate.DELIVER

    watch = Watch(interfere)
    # What the liar says comes before anything that others say.
    latency = [0.001 if index == LIAR else 0.002 for index in range(n)]
    federation = small(trust, watch, n, sessions={LIAR: lying(kind, twist)}, latency=latency, **options)
    return federation, watch


def false_share(liar: Liar, content: Any, attachment: bytes) -> bytes:
    wrong = replace(content.released[0], share=flipped(content.released[0].share))
    return liar.sign(replace(content, released=(wrong, *content.released[1:])))


def false_pair_key(liar: Liar, content: Any, attachment: bytes) -> bytes:
    return liar.sign(replace(content, pair_keys=flipped(content.pair_keys)))


@both_trusts
def test_a_holders_false_share_names_the_holder_and_other_neighbours_suffice(trust: Trust) -> None:
    silent: Chosen = lambda federation: {neighbours(federation)[0]}  # noqa: E731
    federation, watch = lied_to(trust, Shares, false_share, {Certificate: silent})
    opened = federation.sum()
    assert opened.round == 1 and opened.survivors == tuple(range(12))
    lost = neighbours(federation)[0]
    assert federation.faults() == [(("t7",), f"released a share of 't{lost}' that is not the one it was dealt")]
    assert watch.by(Recover) <= set(graph_in_use(federation).neighbours(lost))


@both_trusts
def test_a_share_of_somebody_elses_neighbour_names_the_holder(trust: Trust) -> None:
    """It holds none; whatever it makes up was not asked for."""

    def twist(liar: Liar, content: Any, attachment: bytes) -> bytes:
        made_up = replace(content.released[0], dealer=strangers(federation)[0])
        return liar.sign(replace(content, released=(made_up,)))

    silent: Chosen = lambda federation: {neighbours(federation)[0], strangers(federation)[0]}  # noqa: E731
    federation, _ = lied_to(trust, Shares, twist, {Certificate: silent})
    assert federation.sum().survivors == tuple(range(12))
    assert federation.faults() == [(("t7",), "released a share that nobody asked for")]


@both_trusts
def test_a_dealers_false_shares_name_the_dealer_and_it_leaves_the_window(trust: Trust) -> None:
    federation, _ = lied_to(trust, Deposit, deals_falsely, {Certificate: lambda _: {LIAR}})
    opened = federation.sum()
    assert opened.round == 2 and opened.survivors == tuple(i for i in range(12) if i != LIAR)
    assert federation.faults() == [(("t7",), "the shares that 't7' dealt do not give back its secret")]


@both_trusts
def test_a_dealers_false_agreement_secret_names_the_dealer_when_it_is_dropped_and_needed(trust: Trust) -> None:
    """The liar drops out, and a neighbour falls silent: their mask can be had through either's shares alone."""
    silent: Chosen = lambda federation: {neighbours(federation)[0]}  # noqa: E731
    federation, _ = lied_to(trust, Deposit, deals_falsely, {Header: lambda _: {LIAR}, Certificate: silent})
    opened = federation.sum()
    assert opened.round == 2 and LIAR not in opened.survivors
    assert federation.faults() == [(("t7",), "the shares that 't7' dealt do not give back its secret")]


@both_trusts
def test_a_false_pair_key_is_replaced_through_shares_and_its_giver_named(trust: Trust) -> None:
    dropped: Chosen = lambda federation: {neighbours(federation)[0]}  # noqa: E731
    federation, _ = lied_to(trust, Opening, false_pair_key, {Header: dropped})
    opened = federation.sum()
    assert opened.round == 1 and opened.survivors == tuple(i for i in range(12) if i != neighbours(federation)[0])
    assert federation.faults() == [(("t7",), "opened with a false pair key")]


@both_trusts
def test_a_false_pair_key_is_found_out_though_a_stranger_fell_silent_first(trust: Trust) -> None:
    """The first recovery is for a silent tenant far from the liar, and rebuilds nothing that the false key could be held against: the
    sum does not come out, and a second recovery rebuilds the secret of everybody who was dropped."""
    deaths: dict[type, Chosen] = {
        Header: lambda federation: {neighbours(federation)[0]},
        Certificate: lambda federation: {
            next(
                i
                for i in strangers(federation)
                if neighbours(federation)[0] not in graph_in_use(federation).neighbours(i)
            )
        },
    }
    federation, _ = lied_to(trust, Opening, false_pair_key, deaths, n=20, minimum_survivors=14)
    opened = federation.sum()
    assert opened.round == 1 and LIAR in opened.survivors
    assert federation.faults() == [(("t7",), "opened with a false pair key")]
    assert [len(tenants) for _, tenants in notices(federation, NoticeKind.RECOVERING)] == [1, 0]


@both_trusts
def test_a_false_self_seed_is_refused_and_recovered(trust: Trust) -> None:
    federation, _ = lied_to(trust, Opening, with_changes(self_seed=bytes(32)), {})
    opened = federation.sum()
    assert opened.round == 1 and opened.survivors == tuple(range(12))
    assert set(federation.faults()) == {(("t7",), "opened a self seed that is not the one it committed to")}


def test_a_witness_with_a_false_nonce_is_named_and_excused() -> None:
    watch = Watch()
    federation = small(interfere=watch, sessions={2: lying(Reveal, with_changes(nonce=b"x" * 32))})
    opened = federation.sum()
    assert set(opened.survivors) >= set(range(12)) - {2}
    assert set(federation.faults()) == {(("t2",), "revealed a nonce that it did not commit to")}
    assert from_bitmap(watch.seen(OpenWindow)[1].content.excused, 12) == {2}


def test_who_is_no_witness_has_no_nonce_to_reveal() -> None:
    """It is not asked; what it says of the graph is of no consequence."""

    def twist(liar: Liar, content: Any, attachment: bytes) -> tuple[bytes, ...]:
        extra = liar.sign(Reveal(content.session, content.setup, b"x" * 32))
        return (extra, liar.sign(content, attachment))

    federation, watch = lied_to(Trust.MALICIOUS_SERVER, Deposit, twist, {})
    assert federation.sum().survivors == tuple(range(12))
    assert LIAR in watch.by(Reveal) and federation.faults() == []
