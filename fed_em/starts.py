"""Many starts at once, by sums only: drawn from the moments, then Lloyd's rounds, then EM rounds; the best goes on.

Every round is one sum of the models' own statistics at all candidates (`fed_em.candidates`); nobody's rows choose a start, as
k-means++ would have them do. Gaussian columns are in standardised coordinates.

* R − 1 candidates are drawn from the moments of all records; the last one is split (`fed_em.lloyd`), or drawn too where no
  column is Gaussian.
* Lloyd's rounds bring all of a candidate's components apart and to where records are. Where other columns than Gaussian ones count, every
  second draw takes rounds of EM instead, and all do where no column is Gaussian: what is best depends on the columns.
* EM rounds are under a weak prior if the model has none: without, the best of many starts would be one that is about to collapse.

* Finer starts, if asked for, are half as many of twice as many components in the first ten rounds: so many seldom leave a group of records
  without any. They are then reduced (`fed_em.reduction`) to as many starts of the model as there would be otherwise.
* A candidate that somebody's rows cannot be evaluated at is out (`fed_em.start_sums`), and the others go on.
* Generations, if asked for, go on looking: the best third of the candidates stay, moves between them (`fed_em.moves`) take the place of
  the others, and all have some more EM rounds. Where no column is Gaussian, candidates climb on as they are.

Several models may be started together, in as many rounds as one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fed_em.candidates import Candidates
from fed_em.description import check_whole_number
from fed_em.divergence import Mixture, hausdorff_distance
from fed_em.em import Summed
from fed_em.errors import CallerError, CollapsedComponent
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.lloyd import Split, clustered, drawn, guarded, sharpened, together
from fed_em.model import COUNT, LOG_LIKELIHOOD
from fed_em.moves import moved
from fed_em.parameters import Parameters
from fed_em.reduction import reductions
from fed_em.start_sums import StartSums
from fed_em.statistics import Statistics

Vector = NDArray[np.float64]

LLOYD_ROUNDS, EM_ROUNDS = 8, 10
ROUNDS = LLOYD_ROUNDS + EM_ROUNDS

# Of finer starts: how many times as many components they have at first, and rounds of Lloyd's algorithm and of EM until these are reduced.
FINER, FINE_LLOYD_ROUNDS, FINE_EM_ROUNDS = 2, 6, 4
FINE_ROUNDS = FINE_LLOYD_ROUNDS + FINE_EM_ROUNDS

# EM rounds of a generation: after fewer, moves are judged before they have come to their optimum.
GENERATION_ROUNDS = 15

# What tells the draws of moves, and of reductions, from those of starts by the same seed.
_OF_MOVES, _OF_REDUCTIONS = 1, 2

# The Bhattacharyya distance of all components up to which two candidates count as on their way to one optimum.
_ALIKE = 0.08


TotalFor = Callable[[Candidates], Callable[[Parameters], Summed]]


@dataclass(frozen=True)
class Start:
    """The best of a model's starts.

    Attributes:
        parameters: Where EM goes on from.
        objectives: Of every candidate in the last EM round, (log-likelihood + log prior) / records of the model that is to be fitted,
            without the prior of the starts; -inf for one that collapsed or is out. Without generations the last is the split one.
        others: Where it may go on from too: the candidates that are unlike it and each other, the best first.
    """

    parameters: Parameters
    objectives: tuple[float, ...]
    others: tuple[Parameters, ...] = ()


@dataclass(frozen=True)
class StartRound:
    """One sum of all candidates, for anyone who watches.

    Attributes:
        number: From 1 to `rounds_of` the generations.
        objectives: As those of `Start`, in this round and of all models' candidates; empty in Lloyd's rounds, which have none.
        left_out: How many of the candidates are out, as somebody's rows could not be evaluated at some of them.
    """

    number: int
    objectives: tuple[float, ...] = ()
    left_out: int = 0


@dataclass(frozen=True)
class _Candidate:
    """One start on its way.

    Attributes:
        model: What is to be fitted, with shared weights.
        guarded: The same under the prior of the starts.
        hard: Whether its first rounds are Lloyd's; else they are EM's.
        parameters: Where it is.
        wide: What is evaluated in its place where it cannot be.
        split: Of the split start.
        objective: At the parameters of the last EM round.
        out: Whether it could not be evaluated.
    """

    model: Mixture
    guarded: Mixture
    hard: bool
    parameters: Parameters
    wide: Parameters
    split: Split | None = None
    objective: float = -np.inf
    out: bool = False

    @property
    def point(self) -> Parameters | None:
        """Where its statistics are taken in a round of EM; None if it is out."""
        return None if self.out else self.parameters

    @property
    def first_point(self) -> Parameters | None:
        """The same in a round of Lloyd's algorithm."""
        return sharpened(self.model, self.parameters) if self.hard and not self.out else self.point

    def clustered(self, number: int, sums: Statistics | None) -> _Candidate:
        """After round `number` of Lloyd's algorithm."""
        if sums is None or not self.hard:
            return self.climbed(sums)
        found, split = clustered(self.guarded, sums, self.parameters), self.split
        if split is not None:
            split, found = split.cut(number, sums, found)
        return replace(self, parameters=found, split=split)

    def climbed(self, sums: Statistics | None) -> _Candidate:
        """After a round of EM; out if it has no statistics."""
        if sums is None:
            return replace(self, objective=-np.inf, out=True)
        objective = (float(sums[LOG_LIKELIHOOD]) + self.model.log_prior(self.parameters)) / float(sums[COUNT])
        try:
            return replace(self, parameters=self.guarded.m_step(sums, self.parameters), objective=objective)
        except CollapsedComponent:
            return replace(self, objective=-np.inf)


def rounds_of(generations: int) -> int:
    """How many sums starts take, with so many generations."""
    return ROUNDS + generations * GENERATION_ROUNDS


def start_candidates(models: Sequence[Mixture], n_starts: int) -> Candidates:
    """What every round of the starts is of: of each model, with shared weights, `n_starts` + 1 copies."""
    return Candidates(tuple(model.with_shared_weights for model in models for _ in range(n_starts + 1)))


def fine_candidates(models: Sequence[GaussianMixtureModel], n_starts: int) -> Candidates:
    """What the first rounds of finer starts are of: of each model with `FINER` times as many components, as many times fewer copies."""
    return start_candidates([_fine(model) for model in models], _n_fine(n_starts))


def _fine(model: GaussianMixtureModel) -> GaussianMixtureModel:
    return replace(model.with_shared_weights, n_components=FINER * model.n_components, prior=None)


def _n_fine(n_starts: int) -> int:
    return max(n_starts // FINER, 1)


def best_starts(
    models: Sequence[Mixture],
    total_for: TotalFor,
    moments: Parameters,
    seed: int,
    n_starts: int = 20,
    observe: Callable[[StartRound], None] = lambda _: None,
    generations: int = 0,
    finer: bool = False,
) -> tuple[Start, ...]:
    """The best of `n_starts` starts from the moments and one more, of each model, after `rounds_of` sums for all of them together.

    Args:
        models: What is to be fitted, over the same columns; starts are found with shared weights.
        total_for: Makes the total of some candidates.
        moments: Of all records, in standardised coordinates: those that `fed_em.initialisation.start_from_moments` or
            `fed_em.mixed_moments.start_from_mixed_moments` takes.
        seed: At least 0; the same seed gives the same starts.
        n_starts: At least 1.
        observe: Called after every round.
        generations: How often moves take the place of the worse candidates; at least 0.
        finer: Whether they begin with more components, which are then reduced; of Gaussian mixtures alone.

    Raises:
        CallerError: the seed or a number is out of its range, or the moments do not fit a model, or a sum holds no records.
    """
    check_whole_number("n_starts", n_starts, 1)
    check_whole_number("seed", seed, 0)
    check_whole_number("generations", generations, 0)
    first = FINE_ROUNDS if finer else LLOYD_ROUNDS
    candidates = start_candidates(models, n_starts)
    sums = StartSums(candidates, total_for(candidates), n_starts + 1)
    if finer:
        starts = _reduced(models, total_for, moments, seed, n_starts, observe)
    else:
        starts = _clustered(models, sums, moments, seed, n_starts, observe, LLOYD_ROUNDS)
    groups = range(0, len(starts), n_starts + 1)
    generators = [np.random.default_rng([seed, _OF_MOVES]) for _ in groups]
    for number in range(first, rounds_of(generations)):
        if number >= ROUNDS and (number - ROUNDS) % GENERATION_ROUNDS == 0:
            apart = zip(groups, generators, strict=True)
            starts = [each for k, own in apart for each in _next_generation(starts[k : k + n_starts + 1], own)]
        starts = _climbed(starts, sums)
        observe(StartRound(number + 1, tuple(each.objective for each in starts), _left_out(starts)))
    return tuple(_best(starts[k : k + n_starts + 1]) for k in groups)


def _clustered(
    models: Sequence[Mixture],
    sums: StartSums,
    moments: Parameters,
    seed: int,
    n_starts: int,
    observe: Callable[[StartRound], None],
    rounds: int,
) -> list[_Candidate]:
    """All starts of all models, after so many rounds of Lloyd's algorithm."""
    starts = [each for model in models for each in _begun(model.with_shared_weights, moments, seed, n_starts, rounds)]
    for number in range(rounds):
        summed = sums.at([each.first_point for each in starts], [each.wide for each in starts])
        starts = [each.clustered(number, own) for each, own in zip(starts, summed, strict=True)]
        observe(StartRound(number + 1, left_out=_left_out(starts)))
    return starts


def _left_out(starts: Sequence[_Candidate]) -> int:
    return sum(each.out for each in starts)


def _climbed(starts: Sequence[_Candidate], sums: StartSums) -> list[_Candidate]:
    """All starts after a round of EM."""
    summed = sums.at([each.point for each in starts], [each.wide for each in starts])
    return [each.climbed(own) for each, own in zip(starts, summed, strict=True)]


def _reduced(
    models: Sequence[Mixture],
    total_for: TotalFor,
    moments: Parameters,
    seed: int,
    n_starts: int,
    observe: Callable[[StartRound], None],
) -> list[_Candidate]:
    """As many starts, reduced from some with more components after some rounds: whose objectives are of other models, and not told."""
    gaussian = [model for model in models if isinstance(model, GaussianMixtureModel)]
    if len(gaussian) < len(models):
        raise CallerError("finer starts are of Gaussian mixtures", remedy="leave finer_starts out of [fit]")
    n_fine, candidates = _n_fine(n_starts), fine_candidates(gaussian, n_starts)
    sums = StartSums(candidates, total_for(candidates), n_fine + 1)
    fine = _clustered([_fine(each) for each in gaussian], sums, moments, seed, n_fine, observe, FINE_LLOYD_ROUNDS)
    for number in range(FINE_LLOYD_ROUNDS, FINE_ROUNDS):
        fine = _climbed(fine, sums)
        observe(StartRound(number + 1, left_out=_left_out(fine)))
    generator, starts = np.random.default_rng([seed, _OF_REDUCTIONS]), list[_Candidate]()
    for k, model in enumerate(gaussian):
        left = [one for one in fine[k * (n_fine + 1) : (k + 1) * (n_fine + 1)] if not one.out]
        own = sorted(left, key=lambda one: -one.objective)
        points = _reductions(model, [one.parameters for one in own], n_starts + 1, generator)
        begun = model.with_shared_weights
        safe, wide = guarded(begun, moments), together(begun, moments)
        starts += [_Candidate(begun, safe, True, point, wide) for point in points]
    return starts


def _reductions(
    model: GaussianMixtureModel, fits: Sequence[Parameters], n: int, generator: np.random.Generator
) -> list[Parameters]:
    """So many starts: half of them of all finer fits together, the others of one each, the best first."""
    begun, fine = model.with_shared_weights, _fine(model)
    points = reductions(fine, fits, begun, -(-n // 2), generator)
    points += [point for fit in fits for point in reductions(fine, [fit], begun, 1, generator)]
    return [points[r % len(points)] for r in range(n)]


def _next_generation(starts: Sequence[_Candidate], generator: np.random.Generator) -> list[_Candidate]:
    """The best third of one model's candidates, each at an optimum of its own, the best first; and moves between them."""
    model = starts[0].model
    if model.gaussian is None or model.n_components == 1:
        return list(starts)
    stay = _unlike(starts, max(len(starts) // 3, 1))
    parents = [each.parameters for each in stay]
    moves = (moved(model, parents, generator) for _ in range(len(starts) - len(stay)))
    return [*stay, *(replace(stay[0], parameters=each, objective=-np.inf) for each in moves)]


def _unlike(starts: Sequence[_Candidate], most: int) -> list[_Candidate]:
    """At most so many of one model's candidates, the best first, without those that are like a better one, have collapsed or are out."""
    model, kept = starts[0].model, list[_Candidate]()
    for each in sorted(starts, key=lambda one: (one.out, -one.objective)):
        if len(kept) == most or (kept and not np.isfinite(each.objective)):
            break
        if all(hausdorff_distance(model, each.parameters, one.parameters) > _ALIKE for one in kept):
            kept.append(each)
    return kept


def _begun(model: Mixture, moments: Parameters, seed: int, n_starts: int, rounds: int) -> list[_Candidate]:
    """All starts of one model, before so many rounds of Lloyd's algorithm."""
    seeds, safe = np.random.SeedSequence(seed).generate_state(n_starts + 1).tolist(), guarded(model, moments)
    split = Split.before(model, rounds)
    points = [drawn(model, moments, each) for each in seeds[:n_starts]]
    wide = together(model, moments)
    last = drawn(model, moments, seeds[-1]) if split is None else wide
    numbers = model.gaussian is not None
    hard = [numbers and (isinstance(model, GaussianMixtureModel) or r % 2 == 0) for r in range(n_starts)]
    starts = [_Candidate(model, safe, each, point, wide) for each, point in zip(hard, points, strict=True)]
    return [*starts, _Candidate(model, safe, numbers, last, wide, split)]


def _best(starts: Sequence[_Candidate]) -> Start:
    best, *others = _unlike(starts, len(starts))
    return Start(best.parameters, tuple(each.objective for each in starts), tuple(each.parameters for each in others))
