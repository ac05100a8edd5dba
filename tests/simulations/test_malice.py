"""Parties that break the protocol in simulations: found out by those whom it concerns, and told in the outcome."""

from __future__ import annotations

import numpy as np
import pytest
from small_tables import run, tables_of

from fed_em.errors import CallerError
from fed_em_protocols.errors import SERVER
from fed_em_simulations.byzantine import Liars, Overstates, PoisonedRows
from fed_em_simulations.costs import CostModel
from fed_em_simulations.dishonest_server import ChangedParameters, InventedTenant, SplitBlock, TwoHeaders
from fed_em_simulations.distributions import OneApart
from fed_em_simulations.trouble import Leaves, Step, Trouble


def test_false_shares_name_their_holder_and_change_no_sum() -> None:
    silent, costs = Leaves([2], after=1, step=Step.OPEN), CostModel(latency=OneApart(0.02, 0.1, tenant=5))
    # Four of five shares are enough: the false one comes before the slowest true one.
    honest, lied = run(6, silent, costs=costs), run(6, silent, Liars([1]), costs=costs)
    assert {(each.by, each.peer) for each in lied.accusations} == {(SERVER, "t1")}
    assert "not the one it was dealt" in lied.accusations[0].fault
    assert not lied.failure and lied.rounds[1].complete
    assert lied.result is not None and honest.result is not None
    first = lied.result.fit.iterations[0].parameters.distance(honest.result.fit.iterations[0].parameters)
    assert first < 1e-12


def test_a_false_opening_is_replaced_through_shares() -> None:
    lied = run(6, Liars([3], about="opening"))
    assert {each.peer for each in lied.accusations} == {"t3"} and not lied.failure


@pytest.mark.parametrize(
    ("malice", "witnesses", "fault"),
    [
        (TwoHeaders([1]), {"t1"}, "signed two different headers for round 2"),
        (TwoHeaders([4], instead=True), {"t4"}, "shows a certificate under keys that this tenant does not know"),
        (ChangedParameters([1, 2]), {"t1", "t2"}, "sent parameters that its header does not name"),
        (SplitBlock(0), {f"t{k}" for k in range(6)}, "splits the block of"),
    ],
)
def test_a_dishonest_server_is_convicted_by_tenants(malice: Trouble, witnesses: set[str], fault: str) -> None:
    outcome = run(6, malice)
    convicting = [each for each in outcome.accusations if each.peer == SERVER]
    assert witnesses <= {each.by for each in convicting}
    assert all(fault in each.fault for each in convicting if each.by in witnesses)
    assert len(outcome.rounds) >= 1


def test_keys_of_an_invented_tenant_are_refused_before_anything_is_uploaded() -> None:
    outcome = run(6, InventedTenant(5))
    assert {each.by for each in outcome.accusations} == {f"t{k}" for k in range(6)}
    assert all("does not verify" in each.fault for each in outcome.accusations if each.by != "t5")
    assert outcome.failure and not outcome.rounds


def test_neighbours_on_a_sparse_graph_refuse_keys_of_an_invented_tenant() -> None:
    """No set-up quotes its advertisement: it is nobody's witness under semi-honest trust."""
    fields = {"trust": "semi-honest", "difference_guard": "off", "dropouts": 0.05, "window_rounds": 1}
    outcome = run(66, InventedTenant(5), sums=2, **fields)
    accusers = {each.by for each in outcome.accusations if "does not verify" in each.fault}
    assert outcome.terms is not None and len(accusers) == outcome.terms.neighbours < 65 and "t5" not in accusers


@pytest.mark.parametrize(
    "malice",
    [
        Liars([99]),
        Overstates([99]),
        PoisonedRows([99]),
        TwoHeaders([99]),
        ChangedParameters([1, 99]),
        InventedTenant(99),
        InventedTenant(0, [99]),
        SplitBlock(99),
    ],
)
def test_strangers_cannot_be_dishonest_nor_be_lied_to(malice: Trouble) -> None:
    with pytest.raises(CallerError, match="no tenant number 99 among 3"):
        run(3, malice)


def test_a_tenant_lies_about_one_thing() -> None:
    with pytest.raises(CallerError, match="two troubles say how 't1' lies"):
        run(3, Liars([0, 1]), Liars([1], about="opening"))


def test_overstated_statistics_pass_and_pull_the_model() -> None:
    honest, pulled = run(6, row_cap=4000), run(6, Overstates([0], times=50), row_cap=4000)
    assert not pulled.failure and not pulled.accusations
    assert pulled.result is not None and honest.result is not None
    assert pulled.result.fit.iterations[0].records == 40 * 55
    assert pulled.model.parameters.distance(honest.model.parameters) > 1e-3


@pytest.mark.slow
def test_poisoned_rows_pass_and_pull_the_model_to_the_corner() -> None:
    honest, pulled = run(6), run(6, PoisonedRows([0]))
    corner = np.concatenate(tables_of(6)).max(axis=0)
    assert not pulled.failure and not pulled.accusations

    def nearest(outcome: object) -> float:
        fitted = outcome.model  # type: ignore[attr-defined]
        means = fitted.coordinates.restore(fitted.parameters["means"])
        return float(np.linalg.norm(means - corner, axis=1).min())

    assert nearest(pulled) < 0.8 * nearest(honest)
