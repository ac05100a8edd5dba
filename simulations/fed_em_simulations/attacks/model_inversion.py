"""Model inversion: is a component's mean nearer to a record that was trained on than means are to records at large?

A mean lies near records of its component, trained on or not. So each component's distance to the nearest training row is set beside its
distances to rows of the population that nobody trained on. If the model had learned nothing of single records, training rows would be
any n of all n + p rows; how likely it is that one of any n is among the j nearest is a matter of counting. A component that has learned
a record by heart is nearer to it than that has it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from fed_em.errors import CallerError
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em_simulations.attacks.finding import Figure, Severity
from fed_em_simulations.attacks.overheard import Overheard

Vector = NDArray[np.float64]

_LEVEL = 0.01

# Nearer than this, in standardised units, a mean is a record for all purposes.
_A_RECORD = 0.01


@dataclass(frozen=True)
class ModelInversion:
    """Distances of means to records, in standardised units.

    Attributes:
        nearest: From each component's mean to the nearest record that was trained on.
        baseline: The median distance to the nearest of as many that were not.
        chances: The probability that one of any n rows is as near.
    """

    attack: ClassVar[str] = "model-inversion"

    nearest: tuple[float, ...]
    baseline: tuple[float, ...]
    chances: tuple[float, ...]

    @property
    def suspicious(self) -> tuple[int, ...]:
        """Components that are nearer to the training rows than chance has it, at one in a hundred for all of them together."""
        return tuple(k for k, chance in enumerate(self.chances) if chance * len(self.chances) <= _LEVEL)

    @property
    def severity(self) -> Severity:
        """Exposed if a mean is a training record and that is no chance, bounded if a mean is nearer than chance has it."""
        if any(self.nearest[k] < _A_RECORD for k in self.suspicious):
            return Severity.EXPOSED
        return Severity.BOUNDED if self.suspicious else Severity.NONE

    @property
    def sentence(self) -> str:
        """See `Finding`."""
        if not self.nearest:
            return "The model has no means of Gaussian columns to look at."
        k = min(self.suspicious or range(len(self.nearest)), key=lambda each: self.nearest[each])
        told = f"{self.nearest[k]:.2g} standard deviations from a training record, {self.baseline[k]:.2g} from one at large"
        if self.severity is Severity.EXPOSED:
            return f"The mean of component {k} is a training record: {told}."
        if self.severity is Severity.BOUNDED:
            return f"The mean of component {k} is nearer to the training rows than chance has it: {told}."
        return f"Means are no nearer to training rows than to others; the nearest is {told}."

    @property
    def figures(self) -> Mapping[str, Figure]:
        """See `Finding`."""
        return {"nearest": list(self.nearest), "baseline": list(self.baseline), "chances": list(self.chances)}


def model_inversion(heard: Overheard, trained: Vector, population: Vector) -> ModelInversion:
    """Compare the means that were broadcast last with rows.

    Args:
        heard: The sums; the last one's parameters are looked at, where they are of a mixture of complete Gaussian columns.
        trained: `(n, D)` in original units: all rows that were trained on, known in a simulation only.
        population: `(p, D)`: rows of the same distribution that were not.

    Raises:
        CallerError: there are too few rows of the population for anything to be suspicious: it takes 100 K n.
    """
    at = heard.moments[-1].broadcast if heard.moments else None
    if at is None or not isinstance(at.model, GaussianMixtureModel) or at.model.missing:
        return ModelInversion((), (), ())
    means, n, p = at.parameters["means"], len(trained), len(population)
    if p < rows_to_compare(len(means), n):
        raise CallerError(
            f"{p} rows of the population are too few beside {n} that were trained on",
            remedy=f"give {rows_to_compare(len(means), n)}",
        )
    nearest, baseline, chances = [], [], []
    middle = int(np.argmax(_chances(n, p) >= 0.5))
    for mean in means:
        ours, theirs = (np.linalg.norm(at.coordinates.apply(rows) - mean, axis=1) for rows in (trained, population))
        nearest.append(float(ours.min()))
        baseline.append(float(np.partition(theirs, middle)[middle]))
        chances.append(float(_chances(n, p)[int((theirs <= ours.min()).sum())]))
    return ModelInversion(tuple(nearest), tuple(baseline), tuple(chances))


def rows_to_compare(components: int, trained: int) -> int:
    """How many rows of the population it takes: then a mean at a record that nobody else is near to is suspicious."""
    return math.ceil(components * trained / _LEVEL)


def _chances(n: int, p: int) -> Vector:
    """The probability that any n of n + p rows have one among the j + 1 nearest, `(p + 1,)`."""
    none = np.concatenate([(p - np.arange(p)) / (n + p - np.arange(p)), [0.0]])
    return np.asarray(1 - np.cumprod(none))
