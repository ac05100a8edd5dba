"""Where EM starts, once the columns are standardised: from one draw, from the best of several, from labels, or from a fitted model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Protocol

from fed_em.candidates import Candidates
from fed_em.centres import CENTRE_ROUNDS, best_centres
from fed_em.coordinates import Coordinates
from fed_em.divergence import Mixture
from fed_em.em import Summed, Total
from fed_em.errors import CallerError
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.labelled_start import LABELLED_ROUNDS, SumsApart, labelled_start, labelled_starts
from fed_em.lloyd import drawn
from fed_em.model import Model, Summand
from fed_em.model_file import FittedModel
from fed_em.own_model import StartingModel
from fed_em.parameters import Parameters
from fed_em.starts import StartRound, best_starts, rounds_of
from fed_em.warm_start import warm_start


@dataclass(frozen=True, eq=False)
class Standardised:
    """What is known before a start.

    Attributes:
        model: What is to be fitted.
        coordinates: The standardised ones.
        moments: Of all records, in these coordinates.
        total_for: Makes the total of a model or of candidates, in these coordinates.
        seed: Of all that is drawn.
        observe: Called after every sum.
    """

    model: Model
    coordinates: Coordinates
    moments: Parameters
    total_for: Callable[[Summand], Total]
    seed: int
    observe: Callable[[StartRound], None] = lambda _: None

    @property
    def mixture(self) -> Mixture:
        """The model. Raises `CallerError` if it is of a family without components to start from."""
        if not isinstance(self.model, Mixture):
            raise CallerError(f"a model of the family '{self.model.family}' is no mixture to start")
        return self.model


class Beginning(Protocol):
    """A way to start."""

    @property
    def rounds(self) -> int:
        """How many sums it takes where none fails."""
        ...

    def begin(self, there: Standardised) -> tuple[Parameters, ...]:
        """Where EM may start, the best first; at least one. Raises `CallerError` if that is not to be had."""
        ...


@dataclass(frozen=True)
class OneDraw:
    """Components drawn from the moments; or where a model of one's own starts from them."""

    @property
    def rounds(self) -> int:
        """None."""
        return 0

    def begin(self, there: Standardised) -> tuple[Parameters, ...]:
        """As `fed_em.lloyd.drawn`, or `StartingModel.start`."""
        if isinstance(there.model, StartingModel):
            return (there.model.start(there.moments["means"][0], there.moments["covariances"][0], there.seed),)
        return (drawn(there.mixture, there.moments, there.seed),)


@dataclass(frozen=True)
class BestOf:
    """The best of many draws and a split start.

    Attributes:
        n_starts: How many are drawn.
        generations: How often moves take the place of the worse ones.
        finer: Whether they begin with more components, which are then reduced.
    """

    n_starts: int = 20
    generations: int = 0
    finer: bool = False

    @property
    def rounds(self) -> int:
        """Those of `fed_em.starts`."""
        return rounds_of(self.generations)

    def begin(self, there: Standardised) -> tuple[Parameters, ...]:
        """As `fed_em.starts.best_starts` of one model, and the others that it found."""
        return _best_of_each(self, (there,))[0]


@dataclass(frozen=True)
class BestCentres:
    """The best of many sets of centres, of which one record changes less than of a mixture: for sums with noise.

    Attributes:
        n_starts: How many are drawn.
        radius: Of the ball that records are in.
    """

    n_starts: int
    radius: float

    @property
    def rounds(self) -> int:
        """Those of `fed_em.centres`."""
        return CENTRE_ROUNDS

    def begin(self, there: Standardised) -> tuple[Parameters, ...]:
        """As `fed_em.centres.best_centres`; raises `CallerError` if the model has other columns than Gaussian ones."""
        if not isinstance(there.model, GaussianMixtureModel):
            raise CallerError(f"a model of the family '{there.model.family}' does not start from centres")

        def observe(number: int, explained: tuple[float, ...]) -> None:
            there.observe(StartRound(number, explained))

        found = best_centres(
            there.model, there.total_for, there.moments, self.radius, there.seed, self.n_starts, observe
        )
        return (found,)


@dataclass(frozen=True)
class FromLabels:
    """The components of labelled records."""

    @property
    def rounds(self) -> int:
        """Those of `fed_em.labelled_start`, if nobody goes away meanwhile."""
        return LABELLED_ROUNDS

    def begin(self, there: Standardised) -> tuple[Parameters, ...]:
        """As `fed_em.labelled_start`."""
        new_total = self._observed(there, there.model)
        return (labelled_start(there.mixture, new_total, there.moments, there.seed),)

    def begin_together(self, there: Standardised, candidates: Candidates) -> list[Parameters]:
        """As `fed_em.labelled_start.labelled_starts` of several models, by sums of all of them."""
        new_total = self._observed(there, candidates)

        def new_sums() -> SumsApart:
            total = new_total()

            def apart(points: Sequence[Parameters]) -> list[Summed]:
                summed = total(candidates.joined(points))
                return [replace(summed, statistics=own) for own in candidates.statistics_of(summed.statistics)]

            return apart

        mixtures = [replace(there, model=model).mixture for model in candidates.models]
        return labelled_starts(mixtures, new_sums, there.moments, there.seed)

    @staticmethod
    def _observed(there: Standardised, summand: Summand) -> Callable[[], Total]:
        """Makes totals whose sums are numbered, and told of."""
        numbers = count(1)

        def new_total() -> Total:
            total = there.total_for(summand)

            def observed(parameters: Parameters) -> Summed:
                summed = total(parameters)
                there.observe(StartRound(next(numbers)))
                return summed

            return observed

        return new_total


@dataclass(frozen=True, eq=False)
class FromModel:
    """The parameters of a fitted model.

    Attributes:
        fitted: The model.
        columns: The names of the columns of what is to be fitted.
    """

    fitted: FittedModel = field(repr=False)
    columns: tuple[str, ...]

    @property
    def rounds(self) -> int:
        """None."""
        return 0

    def begin(self, there: Standardised) -> tuple[Parameters, ...]:
        """As `fed_em.warm_start`."""
        return (warm_start(there.mixture, self.columns, there.coordinates, self.fitted),)


def begin_each(beginning: Beginning, there: Standardised, candidates: Candidates) -> list[tuple[Parameters, ...]]:
    """Starts of each of several models over the same columns, in as many sums as of one.

    Args:
        beginning: How.
        there: What is known; its model is any of them.
        candidates: The models, as they are then fitted together.
    """
    if isinstance(beginning, FromLabels):
        return [(start,) for start in beginning.begin_together(there, candidates)]
    each = [replace(there, model=model) for model in candidates.models]
    return _best_of_each(beginning, each) if isinstance(beginning, BestOf) else [beginning.begin(one) for one in each]


def _best_of_each(best_of: BestOf, each: Sequence[Standardised]) -> list[tuple[Parameters, ...]]:
    there = each[0]
    best = best_starts(
        [one.mixture for one in each],
        there.total_for,
        there.moments,
        there.seed,
        best_of.n_starts,
        there.observe,
        best_of.generations,
        best_of.finer,
    )
    return [(start.parameters, *start.others) for start in best]
