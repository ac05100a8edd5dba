"""Starts that somebody's rows cannot be evaluated at: they are out, and the others go on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray

from fed_em import starts
from fed_em.candidates import CandidateNotEvaluated, Candidates
from fed_em.em import Stopping, Summed
from fed_em.errors import NotEvaluated
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.initialisation import moments_model, standard_gaussian
from fed_em.lloyd import drawn
from fed_em.parameters import Parameters
from fed_em.start_sums import StartSums
from fed_em.starts import FINE_ROUNDS, ROUNDS, Start, StartRound, best_starts
from fed_em.totals import TotalOfRows
from fed_em.tracks import fit_on_tracks, tracks_of

Vector = NDArray[np.float64]

MODEL, OTHER = GaussianMixtureModel(2, 2), GaussianMixtureModel(2, 2, "diag")
ROWS = np.concatenate([np.random.default_rng(k).normal(3.0 * k - 3, 1.0, (40, 2)) for k in range(3)])
ROWS = (ROWS - ROWS.mean(axis=0)) / ROWS.std(axis=0)
ONE, GAUSSIAN = moments_model(2), standard_gaussian(2)
MOMENTS = ONE.m_step(ONE.e_step(GAUSSIAN, ROWS), GAUSSIAN)
WIDE = drawn(MODEL, MOMENTS, 1000)


@dataclass
class Refusing:
    """A total that cannot evaluate some candidates at any parameters that are admitted for nobody to know, or for all to.

    Attributes:
        candidates: What it is of.
        bad: Whether one of them, by its number and parameters, has no statistics.
        told: Whether it is known which.
        asked, refused: Sums, and those that came to nothing.
    """

    candidates: Candidates
    bad: Callable[[int, Parameters], bool]
    told: bool = False
    asked: int = 0
    refused: list[int] = field(default_factory=list)

    def __call__(self, parameters: Parameters) -> Summed:
        self.asked += 1
        for r, own in enumerate(self.candidates.parameters_of(parameters)):
            if self.bad(r, own):
                self.refused.append(self.asked)
                error = NotEvaluated("no number")
                raise CandidateNotEvaluated(r, error) if self.told else error
        return TotalOfRows(self.candidates, ROWS)(parameters)


def points_of(*models: GaussianMixtureModel, n_each: int = 8) -> list[Parameters]:
    return [drawn(model, MOMENTS, seed) for model in models for seed in range(n_each)]


def left_by(
    bad: Collection[int], told: bool = False, *models: GaussianMixtureModel, n_each: int = 8
) -> tuple[set[int], int]:
    """Which of the starts have statistics, and after how many sums; bad ones have none but at the wide point."""
    models = models or (MODEL,)
    points = points_of(*models, n_each=n_each)
    candidates = Candidates(tuple(model for model in models for _ in range(n_each)))
    wide = [WIDE if model is MODEL else drawn(OTHER, MOMENTS, 1000) for model in candidates.models]
    total = Refusing(candidates, lambda r, own: r in bad and own.distance(points[r]) == 0.0, told)
    found = StartSums(candidates, total, n_each).at(points, wide)
    for model, point, own in zip(candidates.models, points, found, strict=True):
        if own is not None:
            np.testing.assert_allclose(own.vector, model.e_step(point, ROWS).vector, rtol=1e-12)
    return {r for r, own in enumerate(found) if own is not None}, total.asked


def test_of_a_sum_that_comes_to_something_all_have_statistics() -> None:
    assert left_by(()) == (set(range(8)), 1)


@pytest.mark.parametrize("bad", [{0}, {5}, {0, 3, 7}])
def test_where_it_is_known_whose_it_was_that_one_alone_is_out(bad: set[int]) -> None:
    assert left_by(bad, True) == (set(range(8)) - bad, 1 + len(bad))


def test_where_nobody_knows_the_part_that_can_be_evaluated_goes_on() -> None:
    assert left_by({5}) == ({0, 2, 4, 6}, 2)
    assert left_by({4}) == ({1, 3, 5, 7}, 3)
    # Of both halves one cannot: all but every fourth is out.
    assert left_by({4, 5}) == ({2, 6}, 6)
    with pytest.raises(NotEvaluated, match="no number"):
        left_by({0, 1, 2, 3})


def test_of_several_models_each_keeps_a_start() -> None:
    assert left_by({3}, False, MODEL, OTHER) == (set(range(0, 16, 2)), 2)
    assert left_by({3}, True, MODEL, OTHER, n_each=2) == ({0, 1, 2}, 2)
    # Every fourth would leave the second model none.
    with pytest.raises(NotEvaluated):
        left_by({0, 1}, False, MODEL, OTHER, n_each=2)
    with pytest.raises(CandidateNotEvaluated):
        left_by({2, 3}, True, MODEL, OTHER, n_each=2)


def test_who_was_left_out_before_is_not_asked_for_again() -> None:
    candidates = Candidates((MODEL,) * 3)
    seen: list[Parameters] = []

    def total(parameters: Parameters) -> Summed:
        seen.extend(candidates.parameters_of(parameters))
        return TotalOfRows(candidates, ROWS)(parameters)

    first, _, last = points_of(MODEL, n_each=3)
    found = StartSums(candidates, total, 3).at([first, None, last], [WIDE] * 3)
    assert [each.distance(want) for each, want in zip(seen, (first, WIDE, last), strict=True)] == [0.0] * 3
    assert [own is None for own in found] == [False, True, False]


def started(
    bad: Callable[[int, int, Parameters], bool], generations: int = 0, finer: bool = False, told: bool = False
) -> tuple[Start, list[StartRound], list[Refusing]]:
    """Five starts, some of which are bad: by the number of the round, the candidate's, and its parameters."""
    rounds, totals = list[StartRound](), list[Refusing]()

    def total_for(candidates: Candidates) -> Refusing:
        totals.append(Refusing(candidates, lambda r, own: bad(len(rounds) + 1, r, own), told))
        return totals[-1]

    start = best_starts([MODEL], total_for, MOMENTS, 3, 5, rounds.append, generations, finer)[0]
    return start, rounds, totals


def is_wide(parameters: Parameters) -> bool:
    """Whether all components are at the moments of all records."""
    return bool(np.ptp(parameters["means"], axis=0).max() == 0.0)


@pytest.mark.parametrize("told", [False, True])
@pytest.mark.parametrize("number", [1, 5, 12])
def test_a_start_that_cannot_be_evaluated_is_out_for_good_and_the_others_go_on(number: int, told: bool) -> None:
    start, rounds, (total,) = started(lambda at, r, own: at >= number and r == 1 and not is_wide(own), told=told)
    out = {1} if told else {1, 3, 5}
    assert len(rounds) == ROUNDS and total.asked == ROUNDS + 1 and total.refused == [number]
    undisturbed, *_ = started(lambda *_: False)
    for r, (own, plain) in enumerate(zip(start.objectives, undisturbed.objectives, strict=True)):
        assert own == (-np.inf if r in out else plain)
    assert max(start.objectives) > -np.inf and not is_wide(start.parameters)


def test_moves_take_the_places_of_those_that_are_out_and_may_be_out_themselves() -> None:
    start, rounds, (total,) = started(
        lambda at, r, own: at in (3, ROUNDS + 1) and r == 3 and not is_wide(own), generations=1
    )
    assert total.refused == [3, ROUNDS + 2], "one of the starts, and one of the moves"
    assert [each > -np.inf for each in rounds[ROUNDS - 1].objectives] == [True, False] * 3
    assert [each > -np.inf for each in start.objectives] == [True, False] * 3
    assert len(start.others) < 3 and not any(map(is_wide, (start.parameters, *start.others)))


def test_nothing_is_made_of_a_finer_start_that_is_out(monkeypatch: pytest.MonkeyPatch) -> None:
    made_of = list[int]()

    def reduced(_: object, fits: Sequence[Parameters], __: object, n: int, ___: object) -> list[Parameters]:
        made_of.append(len(fits))
        return points_of(MODEL, n_each=n)

    monkeypatch.setattr(starts, "reductions", reduced)
    _, rounds, (total, fine) = started(lambda at, r, own: at == 2 and r == 1 and not is_wide(own), finer=True)
    assert made_of == [2, 1, 1], "of three fine mixtures one is out"
    assert fine.refused == [2] and total.refused == []
    assert len(rounds) == ROUNDS and all(each > -np.inf for each in rounds[FINE_ROUNDS].objectives)


def test_what_no_start_can_be_evaluated_at_is_an_error() -> None:
    with pytest.raises(NotEvaluated, match="no number"):
        started(lambda at, _, own: at == 4 and not is_wide(own))


def test_a_fit_does_without_other_starts_than_the_best() -> None:
    best, other, third = points_of(MODEL, n_each=3)
    stopping = Stopping(1e-4, 60)
    alone, candidates = (
        fit_on_tracks(MODEL, TotalOfRows(tracks_of(MODEL), ROWS), (best,), stopping),
        tracks_of(MODEL, 4),
    )
    for told in (False, True):
        total = Refusing(candidates, lambda _, own: own.distance(other) == 0.0, told)
        found = fit_on_tracks(MODEL, total, (best, other, third), stopping)
        assert total.refused == [1] and found.converged
        assert len(found.ends) == (2 if told else 1), "where nobody knows whose it was, all others are out"
        if not told:
            assert found.parameters.distance(alone.parameters) < 1e-12
    total = Refusing(candidates, lambda _, own: own.distance(best) == 0.0)
    with pytest.raises(NotEvaluated, match="no number"):
        fit_on_tracks(MODEL, total, (best, other, third), stopping)
