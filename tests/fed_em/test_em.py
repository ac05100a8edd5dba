"""The loop: when it stops, what it records, what it refuses."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from fed_em.em import Iteration, Stopping, Summed, fit
from fed_em.errors import CallerError, FedEmError
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.parameters import Parameters
from fed_em.totals import TotalOfRows

MODEL = GaussianMixtureModel(2, 1)
START = Parameters({"weights": [0.5, 0.5], "means": [[-0.5], [0.5]], "covariances": [[[1.0]], [[1.0]]]})
ROWS = np.concatenate((np.random.default_rng(0).normal(-2, 1, (80, 1)), np.random.default_rng(1).normal(2, 1, (80, 1))))
TOTAL = TotalOfRows(MODEL, ROWS)


def test_it_stops_when_the_objective_stands_still() -> None:
    run = fit(MODEL, TOTAL, START, Stopping(1e-6, 500))
    changes = np.abs(np.diff([iteration.objective for iteration in run.iterations]))
    assert run.converged
    assert changes[-1] < 1e-6
    assert (changes[:-1] >= 1e-6).all()
    assert [iteration.number for iteration in run.iterations] == list(range(1, len(changes) + 2))


def test_the_objective_is_the_log_likelihood_a_record_before_the_m_step() -> None:
    run = fit(MODEL, TOTAL, START, Stopping(0.0, 2))
    first, second = run.iterations
    np.testing.assert_allclose(first.objective, MODEL.log_prob(START, ROWS).mean())
    np.testing.assert_allclose(second.objective, MODEL.log_prob(first.parameters, ROWS).mean())
    assert first.records == 160
    assert run.parameters is second.parameters
    assert not run.converged


def test_every_iteration_is_observed_in_turn() -> None:
    seen: list[Iteration] = []
    run = fit(MODEL, TOTAL, START, Stopping(1e-6, 7), seen.append)
    assert tuple(seen) == run.iterations


def test_incomplete_sums_never_converge() -> None:
    def total(parameters: Parameters) -> Summed:
        return Summed(TOTAL(parameters).statistics, missing=("clinic-3",))

    run = fit(MODEL, total, START, Stopping(1e9, 5))
    assert not run.converged
    assert len(run.iterations) == 5
    assert not run.iterations[0].complete


def test_two_complete_sums_converge_only_when_consecutive() -> None:
    calls: list[Parameters] = []

    def total(parameters: Parameters) -> Summed:
        calls.append(parameters)
        return Summed(TOTAL(parameters).statistics, missing=("clinic-3",) if len(calls) % 2 == 0 else ())

    assert not fit(MODEL, total, START, Stopping(1e9, 6)).converged


def test_a_continued_run_ends_as_the_uninterrupted_one() -> None:
    whole = fit(MODEL, TOTAL, START, Stopping(1e-6, 500))
    n = len(whole.iterations)
    part = fit(MODEL, TOTAL, START, Stopping(1e-6, n - 1))
    rest = fit(MODEL, TOTAL, part.parameters, Stopping(1e-6, 500), previous=part.iterations[-1])
    assert not part.converged
    assert rest.converged
    assert len(rest.iterations) == 1
    assert rest.parameters.distance(whole.parameters) == 0.0


def test_no_records_are_refused() -> None:
    with pytest.raises(CallerError, match="no record"):
        fit(MODEL, TotalOfRows(MODEL, np.empty((0, 1))), START, Stopping())


def test_an_inadmissible_start_is_refused() -> None:
    with pytest.raises(CallerError, match="weights"):
        fit(MODEL, TOTAL, Parameters({**START, "weights": [0.5, 0.6]}), Stopping())


def test_an_objective_that_is_not_finite_is_an_error() -> None:
    def total(parameters: Parameters) -> Summed:
        statistics = TOTAL(parameters).statistics
        statistics.vector[statistics.layout.offsets["log_likelihood"]] = np.nan
        return Summed(statistics)

    with pytest.raises(FedEmError, match="iteration 1"):
        fit(MODEL, total, START, Stopping())


@pytest.mark.parametrize("fields", [{"tolerance": -1.0}, {"tolerance": float("nan")}, {"max_iterations": 0}])
def test_impossible_stopping_is_refused(fields: dict[str, float]) -> None:
    with pytest.raises(CallerError):
        Stopping(**fields)  # type: ignore[arg-type]


def test_parameters_can_be_copied_and_sent_to_a_worker() -> None:
    for other in (copy.deepcopy(START), pickle.loads(pickle.dumps(START))):
        assert other.distance(START) == 0.0
        assert not other["means"].flags.writeable
