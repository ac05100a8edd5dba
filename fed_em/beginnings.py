"""Where EM starts, once the columns are standardised: from one draw, from the best of several, from labels, or from a fitted model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Protocol

from fed_em.centres import CENTRE_ROUNDS, best_centres
from fed_em.coordinates import Coordinates
from fed_em.divergence import Mixture
from fed_em.em import Summed, Total
from fed_em.errors import CallerError
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.labelled_start import LABELLED_ROUNDS, labelled_start
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
    """

    n_starts: int = 20
    generations: int = 0

    @property
    def rounds(self) -> int:
        """Those of `fed_em.starts`."""
        return rounds_of(self.generations)

    def begin(self, there: Standardised) -> tuple[Parameters, ...]:
        """As `fed_em.starts.best_starts` of one model, and the others that it found."""
        return begin_each(self, there, (there.model,))[0]


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
        numbers = count(1)

        def new_total() -> Total:
            total = there.total_for(there.model)

            def observed(parameters: Parameters) -> Summed:
                summed = total(parameters)
                there.observe(StartRound(next(numbers)))
                return summed

            return observed

        return (labelled_start(there.mixture, new_total, there.moments, there.seed),)


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


def begin_each(beginning: Beginning, there: Standardised, models: Sequence[Model]) -> list[tuple[Parameters, ...]]:
    """Starts of each of several models over the same columns: the best of many of all of them in as many sums as of one."""
    each = [replace(there, model=model) for model in models]
    if not isinstance(beginning, BestOf):
        return [beginning.begin(one) for one in each]
    mixtures = [one.mixture for one in each]
    best = best_starts(
        mixtures,
        there.total_for,
        there.moments,
        there.seed,
        beginning.n_starts,
        there.observe,
        beginning.generations,
    )
    return [(start.parameters, *start.others) for start in best]
