"""What methods without cryptography are charged: the bytes of their numbers, and the time of the slowest way there and back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fed_em_simulations.attendance import Attendance
from fed_em_simulations.common_ground import CommonGround, common_ground
from fed_em_simulations.costs import CostModel, UnitPrices
from fed_em_simulations.distributions import Constant, OneApart
from fed_em_simulations.known_mixture import KnownMixture
from fed_em_simulations.methods import METHODS
from fed_em_simulations.methods_experiment import MethodsExperiment, rows_of
from fed_em_simulations.mixture_to_fit import MixtureToFit
from fed_em_simulations.plain_exchanges import Exchange, spent_on
from fed_em_simulations.population import Population

# Nothing costs anything but what a test says.
NOTHING = CostModel(
    Constant(0), Constant(0), Constant(0), Constant(1), 0, 1.0, UnitPrices(**dict.fromkeys(vars(UnitPrices()), 0.0))
)


@pytest.fixture(scope="module")
def ground() -> CommonGround:
    """Three tenants of twenty rows in two columns, two components, of whom two come to each of four rounds."""
    tenants = Population(tenants=3, rows=60, held_out=5, truth=KnownMixture(components=2, columns=2)).draw(0)
    pattern = Attendance(share=0.67).pattern(tenants.names, 4, 0)
    model = MixtureToFit(components=2, prior=True).model(2, missing=False)
    return common_ground(model, tenants, pattern, 1, 0)


def seconds(ground: CommonGround, costs: CostModel, exchange: Exchange) -> float:
    return spent_on(replace(ground, costs=costs), [exchange]).seconds


EXCHANGE = Exchange(("t0", "t2"), down=10, up=20, passes={"t0": 1, "t2": 3})


def test_bytes_are_eight_a_number_of_those_who_answer(ground: CommonGround) -> None:
    spent = spent_on(ground, [EXCHANGE, EXCHANGE])
    assert (spent.rounds, spent.bytes_up, spent.bytes_down) == (2, 2 * 2 * 160, 2 * 2 * 80)


def test_time_is_that_of_the_slowest_who_answers(ground: CommonGround) -> None:
    assert seconds(ground, NOTHING, EXCHANGE) == 0
    late = OneApart(0.5, 7.0, tenant=2)
    assert seconds(ground, replace(NOTHING, latency=late), EXCHANGE) == 14.0
    assert seconds(ground, replace(NOTHING, latency=OneApart(0.5, 7.0, tenant=1)), EXCHANGE) == 1.0
    assert seconds(ground, replace(NOTHING, upload=Constant(16), download=Constant(8)), EXCHANGE) == 10.0 + 10.0
    work = replace(NOTHING, prices=replace(NOTHING.prices, densities=0.01, statistics=0.001))
    # Twenty rows; two components of six statistics, and three of all rows.
    once = 20 * (2 * 0.01 + 15 * 0.001)
    assert seconds(ground, work, EXCHANGE) == pytest.approx(3 * once)
    assert seconds(ground, replace(work, slowness=OneApart(1.0, 9.0, tenant=0)), EXCHANGE) == pytest.approx(9 * once)


def test_messages_wait_for_each_other_on_the_servers_line(ground: CommonGround) -> None:
    # Two messages of 80 bytes out, one after the other; the answers of 160 bytes back: the second waits for the first.
    assert seconds(ground, replace(NOTHING, server_line=80.0), EXCHANGE) == pytest.approx(1 + 2 + 2)


def test_every_method_tells_what_it_costs_and_gives_away(ground: CommonGround) -> None:
    rows = {str(row["method"]): row for row in rows_of(ground, METHODS)}
    for name in ("increments", "whoever-came", "stepwise", "averaging", "own-weights"):
        row = rows[name]
        assert row["rounds"] == 4 and row["cohort"] == row["cohort_least"] == 2
        assert float(row["seconds"] or 0) > 4 * 2 * 0.02 and float(row["bytes_down"] or 0) > 0
        assert 0 <= float(row["exposed"] or 0) <= 1
    assert float(rows["averaging"]["seconds"] or 0) > float(rows["whoever-came"]["seconds"] or 0), (
        "five E-steps a round"
    )
    for name in ("one-shot-moments", "one-shot-samples"):
        row = rows[name]
        assert (row["rounds"], row["cohort"], row["least_support"], row["exposed"], row["span"]) == (1, 3, 1, 1, 3)
        assert row["bytes_up"] == row["bytes_down"] == 3 * 8 * 14
    assert float(rows["one-shot-samples"]["seconds"] or 0) > float(rows["one-shot-moments"]["seconds"] or 0)
    for name in ("pooled", "alone"):
        assert rows[name]["bytes_up"] == rows[name]["bytes_down"] == 0 and float(rows[name]["seconds"] or 0) > 0
        assert rows[name]["cohort"] != rows[name]["cohort"], "no number"


def test_a_scenario_states_what_costs_what() -> None:
    told = {
        "data": {"tenants": 3, "rows": 60, "held_out": 2, "truth": {"components": 2, "columns": 2}},
        "model": {"components": 2, "prior": True}, "rounds": 2, "starts": 1, "methods": ["increments"],
        "costs": {"latency": {"over_tenants": "constant", "value": 3.0}},
    }  # fmt: skip
    (row,) = MethodsExperiment.model_validate(told).run(0)
    assert 12.0 < float(row["seconds"] or 0) < 12.1
