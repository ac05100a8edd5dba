"""A fit on two tracks or more: the best end, by as many sums as the slowest track takes."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from fed_em.candidates import CandidateNotEvaluated, Candidates
from fed_em.em import Fit, Iteration, Step, Stopping, Summed, Total, fit
from fed_em.errors import NotEvaluated
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.initialisation import moments_model, standard_gaussian
from fed_em.lbfgs import LBFGS, WARM_UP
from fed_em.lloyd import drawn
from fed_em.parameters import Parameters
from fed_em.totals import IncrementalTotal, TotalOfRows
from fed_em.tracks import AS_GOOD, HEAD_START, TRACKS, agreeing, fit_on_tracks, tracks_of
from tests.bench.hard_mixtures import POOR, SEPARATED, HardMixture
from tests.bench.optimiser_rounds import best_of, start_of

STOPPING = Stopping(1e-8, 300)

# Mixtures of which the track with this number ends more than a hundredth of a nat below the other.
MISSES = ((0, HardMixture(5, 2, POOR, rows=60, seed=9)), (1, HardMixture(4, 3, POOR, rows=60, seed=9)))


@cache
def case_of(mixture: HardMixture) -> tuple[GaussianMixtureModel, np.ndarray, Parameters, tuple[Fit, Fit]]:
    """Model, rows, start, and each track alone."""
    rows, model = mixture.sample(), GaussianMixtureModel(mixture.components, mixture.columns)
    start = start_of(model, rows, seed=0)
    early, late = (
        fit(model, TotalOfRows(model, rows), start, STOPPING, optimiser=LBFGS(model, head_start=steps))
        for steps in (0, HEAD_START)
    )
    return model, rows, start, (early, late)


class Failing:
    """A total that cannot evaluate one candidate anywhere new after some sums, and counts them."""

    def __init__(self, candidates: Candidates, total: Total, candidate: int = 0, sums: int = 10_000) -> None:
        self._candidates, self._total, self._candidate, self._sums = candidates, total, candidate, sums
        self._before: Parameters | None = None
        self.n_sums = 0

    def __call__(self, parameters: Parameters) -> Summed:
        own = self._candidates.parameters_of(parameters)[self._candidate]
        if self.n_sums >= self._sums and self._before is not None and own.distance(self._before) > 0:
            raise CandidateNotEvaluated(self._candidate, NotEvaluated("no number"))
        self.n_sums, self._before = self.n_sums + 1, own
        return self._total(parameters)


@pytest.mark.parametrize(("misses", "mixture"), MISSES)
def test_where_one_misses_the_fit_is_the_others(misses: int, mixture: HardMixture) -> None:
    model, rows, start, alone = case_of(mixture)
    assert best_of(alone[misses]) < best_of(alone[1 - misses]) - 0.01
    total = Failing(tracks_of(model), TotalOfRows(tracks_of(model), rows))
    seen: list[Iteration] = []
    found = fit_on_tracks(model, total, (start,), STOPPING, seen.append)
    assert found.converged
    assert best_of(found) == pytest.approx(best_of(alone[1 - misses]), abs=1e-7)
    assert tuple(seen) == found.iterations
    assert [each.number for each in seen] == list(range(1, total.n_sums + 1))
    # The ends differ, so nobody follows.
    assert total.n_sums == max(len(each.iterations) for each in alone)
    assert seen[-1].parameters.distance(found.parameters) == 0.0
    assert np.diff([each.objective for each in seen if each.step.is_gone_on_from]).min() > -STOPPING.tolerance


@pytest.mark.parametrize(
    "mixture", [HardMixture(3, 2, POOR, rows=60, seed=1), HardMixture(3, 3, POOR, rows=60, seed=4)]
)
def test_a_track_that_follows_the_other_to_its_end_is_not_waited_for(mixture: HardMixture) -> None:
    model, rows, start, alone = case_of(mixture)
    ends = [best_of(each) for each in alone]
    assert ends[0] == pytest.approx(ends[1], abs=1e-7)
    found = fit_on_tracks(model, TotalOfRows(tracks_of(model), rows), (start,), STOPPING)
    lengths = [len(each.iterations) for each in alone]
    assert found.converged and min(lengths) <= len(found.iterations) < max(lengths)
    assert best_of(found) >= max(ends) - STOPPING.tolerance


def test_of_several_starts_it_is_the_one_that_leads_highest() -> None:
    mixture = HardMixture(6, 2, SEPARATED, rows=60)
    rows, model, one = mixture.sample(), GaussianMixtureModel(6, 2), moments_model(2)
    moments = one.m_step(one.e_step(standard_gaussian(2), rows), standard_gaussian(2))
    starts = tuple(drawn(model, moments, seed) for seed in (2, 0))
    total, stopping = TotalOfRows(model, rows), Stopping(1e-6, 200)
    alone = [best_of(fit(model, total, start, stopping, optimiser=LBFGS(model))) for start in starts]
    assert alone[0] < alone[1] - 0.01
    found = fit_on_tracks(model, TotalOfRows(tracks_of(model, 3), rows), starts, stopping)
    assert found.converged and best_of(found) == pytest.approx(alone[1], abs=1e-7)
    again = fit(model, total, found.parameters, Stopping(0.0, 1)).iterations[0].objective
    assert again == pytest.approx(alone[1], abs=1e-5)
    # Each start's own end is told, of the first the better of its two.
    late = best_of(fit(model, total, starts[0], stopping, optimiser=LBFGS(model, head_start=HEAD_START)))
    assert found.ends == pytest.approx((max(alone[0], late), alone[1]), abs=AS_GOOD)
    assert agreeing(found.ends) == 1 + (late > alone[1] - AS_GOOD)


def test_starts_that_lead_to_one_optimum_agree_and_one_start_says_nothing() -> None:
    model, rows, start, _ = case_of(HardMixture(3, 2, POOR, rows=60, seed=1))
    moved = Parameters({**start, "means": start["means"] + 0.01})
    total = TotalOfRows(tracks_of(model, 3), rows)
    found = fit_on_tracks(model, total, (start, moved), STOPPING)
    assert len(found.ends) == 2 and agreeing(found.ends) == 2
    assert fit_on_tracks(model, TotalOfRows(tracks_of(model), rows), (start,), STOPPING).ends == ()
    assert agreeing((-3.0, -3.0 - 0.9 * AS_GOOD, -3.0 - 1.1 * AS_GOOD)) == 2


def test_while_both_take_steps_of_em_it_is_em() -> None:
    model, rows, start, _ = case_of(MISSES[0][1])
    stopping = Stopping(0.0, WARM_UP + 1)
    found = fit_on_tracks(model, TotalOfRows(tracks_of(model), rows), (start,), stopping)
    expected = fit(model, TotalOfRows(model, rows), start, stopping)
    assert [i.objective for i in found.iterations] == pytest.approx([i.objective for i in expected.iterations])
    assert not found.converged and len(found.iterations) == WARM_UP + 1


@pytest.mark.parametrize("candidate", range(TRACKS))
def test_a_track_that_cannot_go_on_leaves_the_fit_to_the_other(candidate: int) -> None:
    model, rows, start, alone = case_of(MISSES[candidate][1])
    candidates = tracks_of(model)
    found = fit_on_tracks(model, Failing(candidates, TotalOfRows(candidates, rows), candidate, 12), (start,), STOPPING)
    assert found.converged
    assert best_of(found) == pytest.approx(best_of(alone[1 - candidate]), abs=1e-7)


def test_what_neither_can_go_on_from_is_an_error() -> None:
    model, rows, start, _ = case_of(MISSES[0][1])
    candidates = tracks_of(model)
    first = Failing(candidates, TotalOfRows(candidates, rows), 0, 12)
    with pytest.raises(NotEvaluated, match="no number"):
        fit_on_tracks(model, Failing(candidates, first, 1, 14), (start,), STOPPING)


def test_with_somebody_away_for_some_sums_it_ends_at_the_optimum() -> None:
    model, rows, start, _ = case_of(MISSES[1][1])
    parts = {"a": rows[:100], "b": rows[100:200], "c": rows[200:]}

    def answering(number: int) -> str:
        return "ac" if 40 <= number < 48 else "abc"

    found = fit_on_tracks(model, IncrementalTotal(tracks_of(model), parts, answering), (start,), STOPPING)
    away = [each for each in found.iterations if each.stale]
    assert len(away) == 8 and {each.step for each in away} <= {Step.PAUSED, Step.ABANDONED}
    assert found.converged
    best = fit(model, TotalOfRows(model, rows), found.parameters, Stopping(1e-12, 2000), optimiser=LBFGS(model))
    assert best_of(best) - found.iterations[-1].objective < 1e-6
