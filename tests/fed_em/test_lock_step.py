"""Fits in step by the same sums: each is what it would be alone."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from fed_em.candidates import CandidateNotEvaluated, Candidates
from fed_em.covariance import CovarianceStructure, restrict
from fed_em.em import GONE_AFTER, Fit, Stopping, Summed, Total, fit
from fed_em.errors import CollapsedComponent, NotEvaluated
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.lock_step import FitsTogether, RoundOfFits, fit_together
from fed_em.optimiser import OPTIMISERS, optimiser_for
from fed_em.parameters import Parameters
from fed_em.totals import IncrementalTotal, TotalOfRows

STOPPING = Stopping(1e-7, 60)


def rows_of_three() -> NDArray[np.float64]:
    generator = np.random.default_rng(7)
    centres = np.array([[-2.0, 0.0], [0.5, 1.5], [2.0, -1.0]])
    return centres[generator.integers(3, size=240)] + 0.7 * generator.standard_normal((240, 2))


ROWS = rows_of_three()
SHAPES: tuple[tuple[int, CovarianceStructure], ...] = ((1, "full"), (2, "full"), (3, "diag"), (4, "tied"))
CANDIDATES = Candidates(tuple(GaussianMixtureModel(k, 2, structure) for k, structure in SHAPES))


def start_of(k: int, structure: CovarianceStructure) -> Parameters:
    means = ROWS[np.random.default_rng(k).choice(len(ROWS), k, replace=False)]
    covariances = restrict(structure, 0.5 * np.eye(2), k)
    return Parameters({"weights": np.full(k, 1 / k), "means": means, "covariances": covariances})


STARTS = [start_of(k, structure) for k, structure in SHAPES]


def together(total: Total, optimiser: str = "em", stopping: Stopping = STOPPING) -> FitsTogether:
    return fit_together(CANDIDATES, total, STARTS, stopping, optimiser=optimiser)


def alone(number: int, total: Total, optimiser: str = "em") -> Fit:
    model = CANDIDATES.models[number]
    return fit(model, total, STARTS[number], STOPPING, optimiser=optimiser_for(optimiser, model))


class Gap:
    """A total whose seventh sum cannot be had."""

    def __init__(self, total: Total, error: NotEvaluated) -> None:
        self.total, self.error, self.n_sums = total, error, 0

    def __call__(self, parameters: Parameters) -> Summed:
        self.n_sums += 1
        if self.n_sums == 7:
            raise self.error
        return self.total(parameters)


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_each_is_what_it_is_alone_bit_for_bit(optimiser: str) -> None:
    outcome = together(TotalOfRows(CANDIDATES, ROWS), optimiser)
    for number, (parameters, run) in enumerate(zip(outcome.parameters, outcome.outcomes, strict=True)):
        expected = alone(number, TotalOfRows(CANDIDATES.models[number], ROWS), optimiser)
        assert isinstance(run, Fit)
        assert [i.objective for i in run.iterations] == [i.objective for i in expected.iterations]
        assert [i.step for i in run.iterations] == [i.step for i in expected.iterations]
        assert run.converged is expected.converged
        assert parameters.distance(expected.parameters) == 0.0


def test_they_stop_at_different_times_and_the_last_sum_is_of_all_final_parameters() -> None:
    rounds: list[RoundOfFits] = []
    sums: list[Summed] = []

    def total(parameters: Parameters) -> Summed:
        sums.append(TotalOfRows(CANDIDATES, ROWS)(parameters))
        return sums[-1]

    outcome = fit_together(CANDIDATES, total, STARTS, STOPPING, rounds.append)
    lengths = [len(run.iterations) for run in outcome.outcomes if isinstance(run, Fit)]
    assert len(set(lengths)) > 1
    assert len(rounds) == max(lengths) == len(sums) - 1
    assert [sum(r in seen for seen in rounds) for r in range(4)] == lengths
    assert {summed.statistics.vector.size for summed in sums} == {CANDIDATES.layout().size}
    at_the_end = CANDIDATES.e_step(CANDIDATES.joined(outcome.parameters), ROWS)
    np.testing.assert_array_equal(outcome.summed.statistics.vector, at_the_end.vector)


def test_whoever_collapses_is_told_of_and_the_others_go_on() -> None:
    spiked = np.concatenate((ROWS, np.full((40, 2), 9.0)))
    loose = Candidates(tuple(GaussianMixtureModel(k, 2, structure, 0.0) for k, structure in (SHAPES[1], SHAPES[3])))
    at_the_spike = Parameters({**STARTS[1], "means": np.array([[0.0, 0.0], [9.0, 9.0]])})
    total = TotalOfRows(loose, spiked)
    outcome = fit_together(loose, total, [at_the_spike, STARTS[3]], STOPPING)
    assert isinstance(outcome.outcomes[0], CollapsedComponent)
    expected = fit(loose.models[1], TotalOfRows(loose.models[1], spiked), STARTS[3], STOPPING)
    assert outcome.parameters[1].distance(expected.parameters) == 0.0
    assert np.isfinite(outcome.summed.statistics.vector).all()


def test_a_start_that_cannot_be_evaluated_is_an_error_that_names_it() -> None:
    far = Parameters({**STARTS[1], "means": np.full((2, 2), 1e200)})
    with pytest.raises(NotEvaluated, match="candidate 1"):
        fit_together(CANDIDATES, TotalOfRows(CANDIDATES, ROWS), [STARTS[0], far, *STARTS[2:]], STOPPING)


def test_a_leap_that_cannot_be_evaluated_is_that_candidates_own_matter() -> None:
    """Where the gap is one candidate's, it goes as it would alone with the same gap, and the others as if there were none."""
    error = CandidateNotEvaluated(1, NotEvaluated("a gap"))
    outcome = together(Gap(TotalOfRows(CANDIDATES, ROWS), error), "lbfgs")
    for number, parameters in enumerate(outcome.parameters):
        whole = TotalOfRows(CANDIDATES.models[number], ROWS)
        expected = alone(number, Gap(whole, error) if number == 1 else whole, "lbfgs")
        assert parameters.distance(expected.parameters) == 0.0


def test_where_nobody_knows_whose_leap_it_was_all_go_back_to_em_points() -> None:
    """Each goes as it would alone with the same gap, but whoever was at an EM point, which had converged, as if there were none."""
    error, alone_with_it = NotEvaluated("a gap"), [1, 2, 3]
    outcome = together(Gap(TotalOfRows(CANDIDATES, ROWS), error), "lbfgs")
    for number, parameters in enumerate(outcome.parameters):
        whole = TotalOfRows(CANDIDATES.models[number], ROWS)
        expected = alone(number, Gap(whole, error) if number in alone_with_it else whole, "lbfgs")
        assert parameters.distance(expected.parameters) == 0.0


def test_where_nobody_leaps_there_is_no_other_point() -> None:
    with pytest.raises(NotEvaluated, match="a gap"):
        together(Gap(TotalOfRows(CANDIDATES, ROWS), NotEvaluated("a gap")), "em")


def test_with_some_absent_now_and_then_each_is_incremental_em_and_the_last_sum_waits_for_them() -> None:
    parts = {"a": ROWS[:100], "b": ROWS[100:170], "c": ROWS[170:]}

    def answering(number: int) -> tuple[str, ...]:
        return tuple(parts) if number % 3 == 1 else ("a", "b") if number % 3 == 2 else ("b", "c")

    outcome = together(IncrementalTotal(CANDIDATES, parts, answering))
    assert outcome.summed.whole
    for number, parameters in enumerate(outcome.parameters):
        expected = alone(number, IncrementalTotal(CANDIDATES.models[number], parts, answering))
        assert parameters.distance(expected.parameters) < 1e-12


def test_whoever_is_gone_for_good_is_not_waited_for() -> None:
    parts, n_sums = {"a": ROWS[:200], "b": ROWS[200:]}, 0

    def answering(number: int) -> tuple[str, ...]:
        nonlocal n_sums
        n_sums = number
        return ("a", "b") if number == 1 else ("a",)

    outcome = together(IncrementalTotal(CANDIDATES, parts, answering), stopping=Stopping(1e-4, 40))
    assert outcome.summed.stale == ("b",)
    longest = max(len(run.iterations) for run in outcome.outcomes if isinstance(run, Fit))
    assert n_sums == longest + GONE_AFTER + 1
