"""Stepwise EM: what it remembers, what it is in its limits, and that it follows what changes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fed_em.covariance import COVARIANCE_STRUCTURES, CovarianceStructure
from fed_em.em import Fit, Step, Stopping, Summed, fit
from fed_em.errors import CallerError
from fed_em.minibatches import Minibatches, MinibatchTotal
from fed_em.model import COUNT
from fed_em.optimiser import optimiser_for
from fed_em.parameters import Parameters
from fed_em.priors import GaussianMixturePrior
from fed_em.statistics import Statistics
from fed_em.step_size import ConstantStep, DecayingStep, StepSize
from fed_em.stepwise import RunningStatistics, StepwiseTotal
from fed_em.totals import TotalOfRows
from tests.fed_em.mixtures import PRIOR, mixture, negative_free_energy, parameters_of

Vector = NDArray[np.float64]

MODEL = mixture("full")
LAYOUT = MODEL.layout()


def rows_of(n: int, seed: int = 0) -> Vector:
    return MODEL.sample(parameters_of("full"), n, np.random.default_rng(seed))[0]


def numbers(count: float, seed: int) -> Statistics:
    """Any statistics of so many records."""
    vector = np.random.default_rng(seed).standard_normal(LAYOUT.size)
    vector[LAYOUT.offsets[COUNT]] = count
    return Statistics(LAYOUT, vector)


class TestRunningStatistics:
    @given(
        counts=st.lists(st.floats(0.5, 1e4), min_size=1, max_size=8),
        step_size=st.one_of(
            st.builds(ConstantStep, st.floats(0.01, 1.0)),
            st.builds(DecayingStep, st.floats(0.51, 1.0), st.floats(0.0, 10.0)),
        ),
    )
    @settings(max_examples=60, deadline=None)
    def test_it_is_the_weighted_average_of_its_batches(self, counts: list[float], step_size: StepSize) -> None:
        batches = [numbers(count, seed) for seed, count in enumerate(counts)]
        running = RunningStatistics()
        shares = np.zeros(len(counts))
        for t, batch in enumerate(batches):
            running = running.after(batch, step_size)
            gamma = 1.0 if t == 0 else step_size.at(t + 1)
            shares *= 1.0 - gamma
            shares[t] = gamma
        assert running.total is not None and running.steps == len(counts)
        worth = 1.0 / float((shares**2 / counts).sum())
        np.testing.assert_allclose(float(running.total[COUNT]), worth, rtol=1e-9)
        average = sum(share * batch.vector / count for share, batch, count in zip(shares, batches, counts, strict=True))
        np.testing.assert_allclose(running.total.vector / worth, average, rtol=1e-9, atol=1e-12)

    def test_equal_batches_at_one_over_t_are_summed(self) -> None:
        running, batches = RunningStatistics(), [numbers(40.0, seed) for seed in range(9)]
        for batch in batches:
            running = running.after(batch, DecayingStep(1.0))
        assert running.total is not None
        np.testing.assert_allclose(
            running.total.vector, np.sum([batch.vector for batch in batches], axis=0), rtol=1e-12
        )

    def test_a_constant_step_is_worth_its_window(self) -> None:
        running = RunningStatistics()
        for seed in range(200):
            running = running.after(numbers(30.0, seed), ConstantStep(0.2))
        assert running.total is not None
        np.testing.assert_allclose(float(running.total[COUNT]), 30.0 * (2 - 0.2) / 0.2, rtol=1e-9)

    def test_a_batch_of_nobody_is_refused(self) -> None:
        with pytest.raises(CallerError, match="batch 2 holds no records"):
            RunningStatistics().after(numbers(3.0, 0), ConstantStep(1.0)).after(
                Statistics.zero(LAYOUT), ConstantStep(0.5)
            )


@pytest.mark.parametrize("prior", [None, PRIOR], ids=["likelihood", "posterior"])
@pytest.mark.parametrize("structure", COVARIANCE_STRUCTURES)
def test_with_a_step_of_one_it_is_batch_em_bit_for_bit(
    structure: CovarianceStructure, prior: GaussianMixturePrior | None
) -> None:
    model, rows, start = mixture(structure, prior), rows_of(300), parameters_of(structure, spread=0.6)
    plain = fit(model, TotalOfRows(model, rows), start, Stopping(0.0, 8))
    ours = fit(model, StepwiseTotal(TotalOfRows(model, rows), ConstantStep(1.0)), start, Stopping(0.0, 8))
    for mine, theirs in zip(ours.iterations, plain.iterations, strict=True):
        assert all(mine.parameters[name].tobytes() == theirs.parameters[name].tobytes() for name in start)
        assert mine.log_likelihood == theirs.log_likelihood
        np.testing.assert_allclose(mine.objective, theirs.objective, rtol=1e-12)


def test_the_objective_is_the_free_energy_of_all_batches_by_their_weights() -> None:
    """By its definition from rows: each batch with the responsibilities that it was given when it came."""
    batches, start, steps = (
        [rows_of(50, seed) for seed in range(4)],
        parameters_of("full", spread=0.6),
        ConstantStep(0.4),
    )
    model, at = mixture("full", PRIOR), iter(batches)

    def total(parameters: Parameters) -> Summed:
        return Summed(model.e_step(parameters, next(at)))

    run = fit(model, StepwiseTotal(total, steps), start, Stopping(0.0, 4))
    believed: list[Vector] = []
    shares, parameters = np.zeros(0), start
    for t, iteration in enumerate(run.iterations):
        believed.append(model.responsibilities(parameters, batches[t]))
        shares = np.append(shares * 0.6, 0.4) if t else np.ones(1)
        energies = [
            negative_free_energy(model, parameters, [(rows, r)]) - model.log_prior(parameters)
            for rows, r in zip(batches, believed, strict=False)
        ]
        expected = float(shares @ energies) / 50 + model.log_prior(parameters) / iteration.records
        np.testing.assert_allclose(iteration.objective, expected, rtol=1e-10)
        np.testing.assert_allclose(iteration.log_likelihood, model.log_prob(parameters, batches[t]).mean())
        parameters = iteration.parameters


def test_an_optimiser_is_off_as_no_sum_is_of_one_point() -> None:
    def stream(optimiser: str) -> Fit:
        total = StepwiseTotal(MinibatchTotal(MODEL, rows_of(120), Minibatches(3)), ConstantStep(0.5))
        steps = optimiser_for(optimiser, MODEL)
        return fit(MODEL, total, parameters_of("full", spread=0.4), Stopping(0.0, 8), optimiser=steps)

    plain, optimised = stream("em"), stream("lbfgs")
    assert {iteration.step for iteration in optimised.iterations} == {Step.PAUSED}
    assert plain.parameters.distance(optimised.parameters) == 0.0


def test_a_stream_never_converges() -> None:
    total = StepwiseTotal(TotalOfRows(MODEL, rows_of(60)), ConstantStep(0.5))
    run = fit(MODEL, total, parameters_of("full"), Stopping(1e9, 5))
    assert len(run.iterations) == 5 and not run.converged


@pytest.mark.parametrize("summed", [{"stale": ("north",)}, {"held": (1,)}])
def test_only_whole_batches_are_averaged(summed: dict[str, tuple[str, ...]]) -> None:
    statistics = MODEL.e_step(parameters_of("full"), rows_of(20))
    total = StepwiseTotal(lambda _: Summed(statistics, **summed), ConstantStep(0.5))  # type: ignore[arg-type]
    with pytest.raises(CallerError, match="without a mass gate or increments"):
        total(parameters_of("full"))


def test_who_is_missing_from_a_batch_is_told() -> None:
    statistics = MODEL.e_step(parameters_of("full"), rows_of(20))
    assert StepwiseTotal(lambda _: Summed(statistics, ("north",)), ConstantStep(0.5))(parameters_of("full")).missing


def minibatches_of(rows: Vector, size: int, seed: int) -> Iterator[Vector]:
    order = np.random.default_rng(seed).permutation(len(rows))
    for start in range(0, len(rows), size):
        yield rows[order[start : start + size]]


@pytest.mark.slow
def test_steps_of_one_over_t_come_to_the_batch_fit() -> None:
    """The distance in nats a record falls with the number of passes, to below a thousandth."""
    rows, start = rows_of(2000), parameters_of("full", spread=0.8)
    best = fit(MODEL, TotalOfRows(MODEL, rows), start, Stopping(0.0, 400)).parameters
    optimum = MODEL.log_prob(best, rows).mean()
    total = StepwiseTotal(MinibatchTotal(MODEL, rows, Minibatches(20, b"seed")), DecayingStep(1.0, 1.0))
    run = fit(MODEL, total, start, Stopping(0.0, 600))
    short = [optimum - MODEL.log_prob(run.iterations[n - 1].parameters, rows).mean() for n in (20, 200, 600)]
    assert short[0] > short[1] > short[2] >= -1e-12
    assert short[2] < 1e-3


@pytest.mark.slow
def test_a_faster_decay_of_old_batches_gets_there_in_fewer_passes() -> None:
    rows, start = rows_of(2000), parameters_of("full", spread=0.8)
    best = fit(MODEL, TotalOfRows(MODEL, rows), start, Stopping(0.0, 400)).parameters

    def short_by(step_size: StepSize, batches: int, iterations: int) -> float:
        total = StepwiseTotal(MinibatchTotal(MODEL, rows, Minibatches(batches, b"seed")), step_size)
        last = fit(MODEL, total, start, Stopping(0.0, iterations)).parameters
        return float(MODEL.log_prob(best, rows).mean() - MODEL.log_prob(last, rows).mean())

    # Five passes over the rows, each way.
    assert short_by(DecayingStep(0.7), 20, 100) < short_by(DecayingStep(1.0), 20, 100)
    assert short_by(DecayingStep(0.7), 20, 100) < short_by(ConstantStep(1.0), 1, 5)


def test_drift_is_followed_by_a_constant_step_and_lost_by_steps_that_shrink() -> None:
    """A component that walks 3 standard deviations away: 0.02 a batch of 200 rows.

    With γ = 0.2 a mean lags behind by about 0.02 (1 − γ)/γ = 0.08 and is an average of about 9 · 70 rows, whose error is 0.04: the bound of
    0.3 is five of them away from the lag, and false alarms of the order of 10^-6. The seed is fixed besides.
    """
    truth, generator = parameters_of("full"), np.random.default_rng(5)
    walk = np.zeros((3, 2))
    fits = {"constant": ConstantStep(0.2), "decaying": DecayingStep(1.0)}
    runs = {name: (RunningStatistics(), truth) for name in fits}
    for _ in range(150):
        walk[1] += 0.02
        now = Parameters({**truth, "means": truth["means"] + walk})
        rows = MODEL.sample(now, 200, generator)[0]
        for name, step_size in fits.items():
            running, parameters = runs[name]
            total = StepwiseTotal(TotalOfRows(MODEL, rows), step_size, running)
            runs[name] = (total.running, fit(MODEL, total, parameters, Stopping(0.0, 1)).parameters)
            runs[name] = (total.running, runs[name][1])
    errors = {name: np.abs(parameters["means"] - now["means"]).max() for name, (_, parameters) in runs.items()}
    assert errors["constant"] < 0.3
    assert errors["decaying"] > 1.0


class TestMinibatches:
    @given(n=st.integers(0, 60), batches=st.integers(1, 12), turn=st.integers(0, 5), seed=st.binary(max_size=8))
    def test_a_pass_holds_every_row_once(self, n: int, batches: int, turn: int, seed: bytes) -> None:
        minibatches = Minibatches(batches, seed)
        parts = [minibatches.rows_of(turn * batches + part, n) for part in range(batches)]
        assert sorted(np.concatenate(parts).tolist()) == list(range(n))
        assert all((np.diff(part) > 0).all() for part in parts)
        assert {len(part) for part in parts} <= {n // batches, n // batches + 1}

    def test_it_follows_from_number_and_seed_alone(self) -> None:
        again = [Minibatches(3, b"a").rows_of(7, 50).tolist() for _ in range(2)]
        assert again[0] == again[1]
        assert again[0] != Minibatches(3, b"b").rows_of(7, 50).tolist()
        assert again[0] != Minibatches(3, b"a").rows_of(10, 50).tolist(), "the next pass has another order"

    def test_there_is_at_least_one(self) -> None:
        with pytest.raises(CallerError, match="number of batches"):
            Minibatches(0)
