"""What work and messages cost in virtual time."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import numpy as np
import pytest
from small_tables import run

from fed_em.errors import CallerError
from fed_em_simulations.costs import FREE, TYPICAL, CostModel, UnitPrices
from fed_em_simulations.distributions import Constant, Lognormal, OneApart, Pareto, generator_of
from fed_em_simulations.memory_hub import Direction
from fed_em_simulations.work import Work


def test_work_costs_the_sum_of_its_parts() -> None:
    prices = UnitPrices()
    units = {each.name: Work(**{each.name: 1}) for each in fields(UnitPrices)}
    assert all(prices.of(work) == getattr(prices, name) for name, work in units.items())
    assert prices.of(Work(agreements=3, masks=2)) == pytest.approx(3 * prices.agreements + 2 * prices.masks)
    assert prices.of(Work(remembered=1000)) == 0, "what was remembered is counted as work already"


def test_lines_and_latency_are_each_tenants_own() -> None:
    costs = CostModel(
        latency=OneApart(0.1, 0.5, tenant=1), upload=Constant(1000), download=Constant(0), server_line=1e6
    )
    prices = costs.of_federation(3, seed=0)
    assert prices.travelling(0, Direction.TO_SERVER, 2000) == (2.0, 0.1)
    assert prices.travelling(1, Direction.TO_SERVER, 500) == (0.5, 0.5)
    assert prices.travelling(1, Direction.TO_TENANT, 500) == (0.0, 0.5)
    assert prices.passing_the_server(Direction.TO_TENANT, 2000) == 0.002


@pytest.mark.slow
def test_a_session_takes_as_long_as_its_slowest_part() -> None:
    usual = run(3, sums=2)
    # Each round waits for the slow tenant alone: eleven agreements and as many signatures are its own at least.
    slow = run(3, sums=2, costs=replace(TYPICAL, slowness=OneApart(1.0, 300.0, tenant=1)))
    thin = run(3, sums=2, costs=replace(TYPICAL, upload=OneApart(2.5e6, 20_000.0, tenant=1)))
    free = run(3, sums=2, costs=FREE)
    assert free.seconds < usual.seconds < min(slow.seconds, thin.seconds)
    assert thin.seconds > usual.seconds + 0.9 * usual.bytes_up[1] * (1 / 20_000 - 1 / 2.5e6)
    assert (slow.bytes_up, thin.bytes_down) == (usual.bytes_up, usual.bytes_down)
    assert slow.model.parameters.distance(usual.model.parameters) == 0
    for outcome in (usual, slow, thin, free):
        assert outcome.seconds == pytest.approx(sum(outcome.seconds_by_phase.values()))
        assert outcome.record.seconds == pytest.approx(outcome.seconds, rel=0.05)


# A binomial share of 20 000 draws, 4.4 standard deviations wide each way: a correct draw leaves it once in 10^5 seeds, which are fixed.
def is_share(observed: float, expected: float) -> bool:
    return abs(observed - expected) < 4.4 * math.sqrt(expected * (1 - expected) / 20_000)


def test_distributions_have_the_tails_they_say() -> None:
    generator = generator_of(0, "test")
    heavy = Pareto(2.0, 1.5).draw(20_000, generator)
    assert heavy.min() >= 2.0
    assert is_share(float((heavy > 4.0).mean()), 0.5**1.5) and is_share(float((heavy > 20.0).mean()), 0.1**1.5)
    spread = Lognormal(3.0, 0.5).draw(20_000, generator)
    assert is_share(float((spread > 3.0).mean()), 0.5)
    assert is_share(float((spread > 3.0 * math.exp(0.5 * 1.6449)).mean()), 0.05)
    assert Constant(7.0).draw(2, generator).tolist() == [7.0, 7.0]
    assert OneApart(1.0, 9.0, tenant=1).draw(3, generator).tolist() == [1.0, 9.0, 1.0]


def test_draws_follow_from_seed_and_labels_alone() -> None:
    def draws(seed: int, *labels: str) -> np.ndarray:
        return Lognormal(1.0, 1.0).draw(5, generator_of(seed, *labels))

    assert (draws(1, "latency") == draws(1, "latency")).all()
    assert (draws(1, "latency") != draws(2, "latency")).all() and (draws(1, "latency") != draws(1, "upload")).all()


@pytest.mark.parametrize(
    "impossible",
    [
        lambda: UnitPrices(masks=-1.0),
        lambda: CostModel(server_line=-1.0),
        lambda: Pareto(0.0, 1.0),
        lambda: Lognormal(1.0, -0.1),
        lambda: CostModel(latency=OneApart(0.1, 0.2, tenant=5)).of_federation(3, 0),
    ],
)
def test_impossible_costs_are_refused(impossible: object) -> None:
    with pytest.raises(CallerError):
        impossible()  # type: ignore[operator]
