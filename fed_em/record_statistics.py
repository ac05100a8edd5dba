"""What one record adds to the statistics of a mixture, as a vector: its expected sufficient statistics t_i.

    r_k                     how much of the record each component holds
    r_k x̂_k                 first moments of the Gaussian columns
    r_k (x̂_k x̂_kᵀ + C_k)    second ones: of a full covariance all, of a diagonal one the squares, of a spherical one their sum, of a tied
                            one the sum over components
    r_k φ                   the features of the discrete columns (`fed_em.discrete_columns`)

No more than the score needs, which is linear in it (`fed_em.standard_errors`).

Each entry is a product of *factors*: the r of a component (of none, if it is summed over components), and up to two functions of the
record. Which entries of t tᵀ are equal, or zero, whatever the record is, follows from that (`fed_em.statistic_products`): the x
of a complete record is the same for all components, so r_1 x · r_2 x² and r_1 x² · r_2 x are one number. What is expected of
missing cells is each component's own, and every such entry counts as a factor.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fed_em.covariance import CovarianceStructure, n_second_moments
from fed_em.discrete_columns import EVENTS, EXPOSURE, FAILURES, SUCCESSES, DiscreteColumns
from fed_em.divergence import Mixture
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.missing_gaussian import GaussianComponents
from fed_em.parameters import Parameters

Vector = NDArray[np.float64]
Places = NDArray[np.intp]

# The factor that is always 1, and the component of entries that are summed over all.
ONE, ALL = 0, -1


@dataclass(frozen=True, eq=False)
class Entries:
    """What the M entries of t are products of.

    Attributes:
        components: `(M,)`, or `ALL`.
        factors: `(M, 2)`, numbers of factors.
        degrees: `(M, 3)`: of Gaussian cells, of sums over several terms, of counts. They give an entry's bound.
        indicator: By factor, whether it is 0 or 1.
        group: By factor: of those of one group, other than 0, at most one is not 0.
        implied_by: By factor: another one that is 0 where this is, or `ONE`.
    """

    components: Places
    factors: Places
    degrees: Places
    indicator: NDArray[np.bool_]
    group: Places
    implied_by: Places


@dataclass(frozen=True)
class RecordStatistics:
    """The vector t of a mixture's records.

    Attributes:
        model: The mixture.
    """

    model: Mixture

    @cached_property
    def gaussian(self) -> GaussianMixtureModel | None:
        """The Gaussian columns; None if there are none."""
        return self.model.gaussian

    @cached_property
    def discrete(self) -> DiscreteColumns | None:
        """The others; None if there are none."""
        columns = self.model.discrete
        return columns if columns is not None and columns.n_features else None

    @cached_property
    def slices(self) -> dict[str, slice]:
        """Where the parts stand: `responsibilities`, `first`, `second` and `features`, each component after component."""
        k, sizes = self.model.n_components, {"responsibilities": self.model.n_components}
        if self.gaussian is not None:
            sizes |= {"first": k * self.gaussian.n_columns, "second": self._n_second}
        if self.discrete is not None:
            sizes["features"] = k * self.discrete.n_features
        ends = np.cumsum(list(sizes.values())).tolist()
        return {name: slice(end - size, end) for (name, size), end in zip(sizes.items(), ends, strict=True)}

    @property
    def size(self) -> int:
        """M."""
        return max(int(part.stop) for part in self.slices.values())

    def places(self, part: str) -> Places:
        """Where the entries of a part stand, those of each component in a row; of a tied covariance, or of weights, there is one row."""
        rows = {"responsibilities": 1, "second": self._second_copies}.get(part, self.model.n_components)
        return np.arange(self.size)[self.slices[part]].reshape(rows, -1)

    @property
    def _second_copies(self) -> int:
        return 1 if self.gaussian is not None and self.gaussian.covariance == "tied" else self.model.n_components

    @property
    def _n_second(self) -> int:
        assert self.gaussian is not None
        n_columns, structure = self.gaussian.n_columns, self.gaussian.covariance
        return self._second_copies * (1 if structure == "spherical" else n_second_moments(structure, n_columns))

    def of_rows(self, parameters: Parameters, rows: Vector, responsibilities: Vector) -> Vector:
        """t of each of some rows, `(n, M)`.

        Args:
            parameters: θ.
            rows: `(n, D)`, NaN where missing.
            responsibilities: At θ, `(n, K)`, unweighted.

        Raises:
            CollapsedComponent: a covariance is not positive definite, naming the component.
        """
        n, slices = len(rows), self.slices
        out = np.empty((n, self.size))
        out[:, slices["responsibilities"]] = responsibilities
        if self.gaussian is not None:
            cells = rows if self.model is self.gaussian else rows[:, self.model.gaussian_places]
            components = GaussianComponents(self.gaussian.covariance, parameters["means"], parameters["covariances"])
            first, second = components.expectations(cells)
            shares = responsibilities.T[:, :, np.newaxis]
            out[:, slices["first"]] = np.swapaxes(shares * first, 0, 1).reshape(n, -1)
            second = _pooled(self.gaussian.covariance, shares * second)
            out[:, slices["second"]] = np.swapaxes(second, 0, 1).reshape(n, -1)
        if self.discrete is not None:
            features = self.discrete.features(rows).T
            held = responsibilities[:, :, np.newaxis] * features[:, np.newaxis]
            out[:, slices["features"]] = held.reshape(n, -1)
        return out

    @cached_property
    def entries(self) -> Entries:
        """What the entries are products of."""
        k = self.model.n_components
        components, factors = [np.arange(k)], [np.zeros((k, 2), dtype=np.intp)]
        degrees = [np.zeros((k, 3), dtype=np.intp)]
        indicator, group, implied_by = [True], [0], [ONE]
        if self.gaussian is not None:
            of_components, of_factors = self._gaussian_factors(self.gaussian)
            n_first = self.slices["first"].stop - self.slices["first"].start
            n_second, n_factors = len(of_components) - n_first, int(of_factors.max())
            components.append(of_components)
            factors.append(of_factors)
            summed = self.gaussian.covariance in ("spherical", "tied")
            degrees.append(np.array([[1, 0, 0]] * n_first + [[2, int(summed), 0]] * n_second))
            indicator += [False] * n_factors
            group += [0] * n_factors
            implied_by += [ONE] * n_factors
        if self.discrete is not None:
            first_factor, features = len(indicator), _features(self.discrete)
            n_features = len(features)
            components.append(np.repeat(np.arange(k), n_features))
            numbers = np.tile(first_factor + np.arange(n_features), k)
            factors.append(np.stack((numbers, np.zeros_like(numbers)), axis=1))
            degrees.append(np.tile([[0, 0, int(not feature.indicator)] for feature in features], (k, 1)))
            indicator += [feature.indicator for feature in features]
            group += [feature.group for feature in features]
            implied_by += [ONE if f.implied_by is None else first_factor + f.implied_by for f in features]
        return Entries(
            np.concatenate(components),
            np.concatenate(factors),
            np.concatenate(degrees),
            np.array(indicator),
            np.array(group),
            np.array(implied_by),
        )

    def _gaussian_factors(self, gaussian: GaussianMixtureModel) -> tuple[Places, Places]:
        """Components and factors, numbered from 1, of first and second moments."""
        k, d, structure = self.model.n_components, gaussian.n_columns, gaussian.covariance
        n_second, copies = self._n_second, self._second_copies
        of_second = np.repeat(np.arange(k) if copies == k else [ALL], n_second // copies)
        components = np.concatenate((np.repeat(np.arange(k), d), of_second))
        if gaussian.missing or structure == "spherical":
            # Factors of their own; the sum of squares is one of complete records too, the same for all components.
            n_first = k * d if gaussian.missing else d
            n_own = n_second if gaussian.missing else 1
            first = np.arange(k * d) % n_first + 1
            second = np.arange(n_second) % n_own + n_first + 1
            numbers = np.concatenate((first, second))
            return components, np.stack((numbers, np.zeros_like(numbers)), axis=1)
        columns = np.arange(1, d + 1)
        low, high = np.triu_indices(d) if structure in ("full", "tied") else (np.arange(d), np.arange(d))
        of_first = np.tile(np.stack((columns, np.zeros_like(columns)), axis=1), (k, 1))
        return components, np.concatenate((of_first, np.tile(np.stack((low + 1, high + 1), axis=1), (copies, 1))))


@dataclass(frozen=True)
class _Feature:
    """One feature of the discrete columns; the fields are those of `Entries`."""

    indicator: bool
    group: int
    implied_by: int | None = None


def _features(columns: DiscreteColumns) -> list[_Feature]:
    """The features in their order."""
    schema, slices = columns.schema, columns.statistic_slices
    features: list[_Feature] = []
    for number, levels in enumerate(schema.level_slices):
        features += [_Feature(True, 1 + number)] * (levels.stop - levels.start)
    first_group = 1 + len(schema.categorical)
    for name in (SUCCESSES, FAILURES):
        if name in slices:
            features += [_Feature(True, first_group + number) for number in range(len(schema.bernoulli))]
    if EVENTS in slices:
        features += [_Feature(False, 0)] * len(schema.poisson)
        events = range(slices[EVENTS].start, slices[EVENTS].stop)
        assert slices[EXPOSURE].start == len(features)
        features += [_Feature(True, 0, implied_by=number) for number in events]
    return features


def _pooled(structure: CovarianceStructure, second: Vector) -> Vector:
    """What the score needs of second moments `(K, n, S)`."""
    match structure:
        case "tied":
            return np.asarray(second.sum(axis=0, keepdims=True))
        case "spherical":
            return np.asarray(second.sum(axis=2, keepdims=True))
        case _:
            return second
