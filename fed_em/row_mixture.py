"""A mixture prepared for rows that come one at a time: the posterior of a row and its missing cells, in some ten microseconds.

The same numbers as of `fed_em.gaussian_mixture`, `fed_em.mixed_mixture` and `fed_em.imputation`, which are made for many rows and spend
half a millisecond and more before the first one. What depends on the parameters and on the pattern of missing cells alone is computed
when a pattern is first seen, and kept: of components with covariances, by Cholesky factors of what is observed
(`fed_em.observed_blocks`, whose names of things are used here),

    W with WᵀW = Σ_oo⁻¹,   B = Σ_mo Σ_oo⁻¹,   diag C = diag(Σ_mm − B Σ_om).

It needs NumPy and nothing else, so that it fits into a function of a serverless platform (`fed_em.impute_one`).
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fed_em.columns import ColumnSchema
from fed_em.coordinates import Coordinates
from fed_em.errors import CollapsedComponent, NotEvaluated

Vector = NDArray[np.float64]
Places = NDArray[np.intp]

# Float64 entries that all patterns kept may fill (32 MiB); those used longest ago are forgotten.
MOST_ENTRIES = 2**22

_LOG_2PI = math.log(2 * math.pi)


@dataclass(frozen=True, eq=False)
class RowPosterior:
    """What a mixture says of a row's component.

    Attributes:
        log_density: Of the observed cells per original unit, in nats.
        responsibilities: `(K,)`, summing to 1.
    """

    log_density: float
    responsibilities: Vector


@dataclass(frozen=True, eq=False)
class RowImputation:
    """A row without missing cells, and how sure those are that were missing.

    Attributes:
        row: `(D,)`, as `fed_em.imputation.Imputation.rows`, in original units.
        means, deviations: Of filled Gaussian and Poisson cells, by their place: mean, not rounded, and deviation, in original units.
        probabilities: Of all levels `(L,)` of filled categorical cells, and of no and yes of Bernoulli ones, by their place.
    """

    row: Vector
    means: Mapping[int, float]
    deviations: Mapping[int, float]
    probabilities: Mapping[int, Vector]


class RowMixture:
    """A mixture at its parameters, for single rows. Threads may share it.

    Args:
        schema: The D columns.
        structure: Of the covariances: "full", "tied", "diag" or "spherical". Without a meaning where no column is Gaussian.
        coordinates: Of the parameters.
        parameters: Admissible ones, as of `fed_em.mixed_mixture.MixedMixtureModel`.
    """

    def __init__(
        self, schema: ColumnSchema, structure: str, coordinates: Coordinates, parameters: Mapping[str, Vector]
    ) -> None:
        self.schema = schema
        self._components = _Components(schema, structure, coordinates, parameters)
        with np.errstate(divide="ignore"):
            self._log_weights: Vector = np.log(parameters["weights"])
        self._patterns: OrderedDict[bytes, _Pattern] = OrderedDict()
        self._entries = 0
        self._turn = threading.Lock()

    @property
    def n_components(self) -> int:
        """K."""
        return len(self._log_weights)

    def log_densities(self, row: Vector) -> Vector:
        """Log density of the observed cells of a row `(D,)` under each component, per original unit, `(K,)`, in nats.

        Args:
            row: In the coding of `fed_em.columns` and original units, NaN where missing; it fits the schema.

        Raises:
            CollapsedComponent: the covariance of the observed cells is not positive definite.
        """
        return self._pattern_of(row).log_densities(row)

    def posterior(self, row: Vector) -> RowPosterior:
        """The posterior of the component of a row `(D,)`.

        Raises:
            NotEvaluated: no component can show the row.
        """
        return self.posterior_of(self.log_densities(row), self._log_weights)

    def log_densities_of_rows(self, rows: Vector) -> Vector:
        """Log density of the observed cells of each of many rows `(n, D)`, per original unit, `(n,)`; −inf where no component has one.

        Of each row by itself: no bit of it depends on which other rows there are, or on its place among them. Only sums and products of
        whole columns are taken, never a matrix product, which rounds the last rows of a block in another way.
        """
        densities = np.full(len(rows), -np.inf)
        observed = ~np.isnan(rows)
        patterns, of_row = np.unique(observed, axis=0, return_inverse=True)
        for place in range(len(patterns)):
            chosen = np.flatnonzero(of_row.reshape(-1) == place)
            try:
                pattern = self._pattern_of(rows[chosen[0]])
            except CollapsedComponent:
                continue
            densities[chosen] = _log_sum(self._log_weights, pattern.log_densities_of_rows(rows[chosen]))
        return densities

    @staticmethod
    def posterior_of(log_densities: Vector, log_weights: Vector) -> RowPosterior:
        """The posterior from what the components say, `(K,)`, and the logarithms of mixing weights, `(K,)`. Raises as `posterior`."""
        joint = log_weights + log_densities
        largest = float(joint.max())
        if not math.isfinite(largest):
            raise NotEvaluated(
                "no component can show the row: its density is zero",
                remedy="look for a typing error in the row; a model that was fitted with a prior leaves no probability at zero",
            )
        shares = np.exp(joint - largest)
        total = float(shares.sum())
        return RowPosterior(largest + math.log(total), shares / total)

    def impute(self, row: Vector, responsibilities: Vector) -> RowImputation:
        """The row with its missing cells filled, given the posterior of its component `(K,)`."""
        return self._pattern_of(row).impute(row, responsibilities)

    def _pattern_of(self, row: Vector) -> _Pattern:
        observed = row == row  # noqa: PLR0124  only NaN is not itself, and this is quicker than to ask for it
        key = observed.tobytes()
        with self._turn:
            pattern = self._patterns.get(key)
            if pattern is not None:
                self._patterns.move_to_end(key)
                return pattern
        pattern = _Pattern(self._components, observed)
        with self._turn:
            if key not in self._patterns:
                self._patterns[key] = pattern
                self._entries += pattern.entries
            while self._entries > MOST_ENTRIES and len(self._patterns) > 1:
                _, forgotten = self._patterns.popitem(last=False)
                self._entries -= forgotten.entries
        return pattern


class _Components:
    """What all patterns read.

    Attributes:
        matrices: Σ, `(K, G, G)`, or `(1, G, G)` where all share one; None of structures without covariances.
        variances: `(K, G)` of such structures.
        starts: Where each categorical and Bernoulli column begins in `levels`, by its place.
        levels: `(L, K)`, probabilities of all levels of these columns, one after another.
    """

    def __init__(
        self, schema: ColumnSchema, structure: str, coordinates: Coordinates, parameters: Mapping[str, Vector]
    ) -> None:
        self.schema, self.coordinates = schema, coordinates
        n_components = len(parameters["weights"])
        self.means = parameters["means"] if len(schema.gaussian) else np.empty((n_components, 0))
        self.matrices: Vector | None = None
        self.variances = np.empty((n_components, 0))
        if len(schema.gaussian):
            covariances = parameters["covariances"]
            if structure in ("full", "tied"):
                self.matrices = covariances.reshape(-1, *covariances.shape[-2:])
            else:
                self.variances = np.broadcast_to(covariances.reshape(n_components, -1), self.means.shape)
        self.starts, self.levels = _level_table(schema, parameters)
        self.rates = np.ascontiguousarray(parameters["rates"].T) if len(schema.poisson) else np.empty((0, n_components))
        with np.errstate(divide="ignore"):
            self.log_levels, self.log_rates = np.log(self.levels), np.log(self.rates)


def _level_table(schema: ColumnSchema, parameters: Mapping[str, Vector]) -> tuple[dict[int, slice], Vector]:
    parts: list[tuple[int, Vector]] = [
        (int(d), parameters["level_probabilities"][:, levels].T)
        for d, levels in zip(schema.categorical, schema.level_slices, strict=True)
    ]
    for j, d in enumerate(schema.bernoulli):
        yes = parameters["success_probabilities"][:, j]
        parts.append((int(d), np.stack((1.0 - yes, yes))))
    slices, start = {}, 0
    for d, part in parts:
        slices[d] = slice(start, start + len(part))
        start += len(part)
    return slices, np.concatenate([part for _, part in parts]) if parts else np.empty((0, len(parameters["weights"])))


class _Pattern:
    """The components given which cells are observed.

    Args:
        components: All of them.
        observed: `(D,)`, whether each cell is.
    """

    def __init__(self, components: _Components, observed: NDArray[np.bool_]) -> None:
        self._all, schema = components, components.schema
        shown = observed[schema.gaussian]
        self._seen, self._unseen = np.flatnonzero(shown), np.flatnonzero(~shown)
        self._numbers = schema.gaussian[self._seen]
        self._location = components.coordinates.location[self._numbers]
        self._scale = components.coordinates.scale[self._numbers]
        self._means = components.means[:, self._seen]
        self._factors, constants = self._whitening()
        jacobian = float(np.log(components.coordinates.scale[observed]).sum())
        self._levels = [(d, part.start) for d, part in components.starts.items() if observed[d]]
        counted = observed[schema.poisson]
        self._counts = schema.poisson[counted]
        self._log_rates = components.log_rates[counted]
        self._constants = (
            constants - components.rates[counted].sum(axis=0) - 0.5 * len(self._seen) * _LOG_2PI - jacobian
        )
        self._missing_levels = [(d, part) for d, part in components.starts.items() if not observed[d]]
        self._missing_counts = np.flatnonzero(~counted)

    @property
    def entries(self) -> int:
        """Float64 entries kept for the pattern, whatever it was asked for yet."""
        n_components, n_seen, n_unseen = len(self._means), len(self._seen), len(self._unseen)
        return 64 + n_components * (1 + n_seen + 2 * n_unseen) + len(self._factors) * n_seen * (n_seen + n_unseen)

    def _whitening(self) -> tuple[Vector, Vector]:
        """W, `(K, o, o)` or `(1, o, o)`, 1/σ `(K, o)` of structures without covariances; and log |W| of each component."""
        if self._all.matrices is None:
            factors = 1.0 / np.sqrt(self._all.variances[:, self._seen])
            return factors, np.log(factors).sum(axis=1)
        blocks = self._all.matrices[:, self._seen[:, np.newaxis], self._seen]
        try:
            inverses: Vector = np.linalg.inv(np.linalg.cholesky(blocks))
        except np.linalg.LinAlgError:
            raise CollapsedComponent(
                "the covariance of some columns of a component is not positive definite",
                remedy="fit the model again, with a covariance floor, a prior, or fewer components",
            ) from None
        return inverses, np.log(np.diagonal(inverses, axis1=1, axis2=2)).sum(axis=1)

    def log_densities(self, row: Vector) -> Vector:
        """As `RowMixture.log_densities`."""
        out: Vector = self._constants
        if len(self._seen):
            deviations = self._deviations(row)
            if self._factors.ndim == 2:
                whitened = self._factors * deviations
            else:
                whitened = np.matmul(self._factors, deviations[:, :, np.newaxis])[:, :, 0]
            out = out - 0.5 * np.einsum("ko,ko->k", whitened, whitened)
        if self._levels:
            out = out + self._all.log_levels[[start + int(row[d]) for d, start in self._levels]].sum(axis=0)
        if len(self._counts):
            out = out + self._of_counts(row[self._counts])
        return out

    def log_densities_of_rows(self, rows: Vector) -> Vector:
        """As `log_densities`, of rows `(n, D)` of this pattern, `(K, n)`: of each by itself."""
        out = np.repeat(self._constants[:, np.newaxis], len(rows), axis=1)
        with np.errstate(all="ignore"):
            for whitened in self._whitened_columns(rows):
                out -= 0.5 * whitened * whitened
            for d, start in self._levels:
                out += self._all.log_levels[start + rows[:, d].astype(np.intp)].T
            for d, log_rates in zip(self._counts, self._log_rates, strict=True):
                counts, place = np.unique(rows[:, d], return_inverse=True)
                out += np.array([_of_count(count, log_rates) for count in counts.tolist()])[place.reshape(-1)].T
        return out

    def _whitened_columns(self, rows: Vector) -> Iterator[Vector]:
        """Each row of W (x_o − μ_o), `(K, n)`."""
        numbers = rows[:, self._numbers].T
        deviations = [
            (cells - location) / scale - means[:, np.newaxis]
            for cells, location, scale, means in zip(numbers, self._location, self._scale, self._means.T, strict=True)
        ]
        for o, of_column in enumerate(deviations):
            if self._factors.ndim == 2:
                yield self._factors[:, o, np.newaxis] * of_column
                continue
            whitened = np.zeros_like(of_column)
            for j in range(o + 1):  # W is lower triangular
                whitened += self._factors[:, o, j, np.newaxis] * deviations[j]
            yield whitened

    def _deviations(self, row: Vector) -> Vector:
        """x_o − μ_o in the parameters' coordinates, `(K, o)`."""
        return np.asarray((row[self._numbers] - self._location) / self._scale - self._means)

    def _of_counts(self, counts: Vector) -> Vector:
        """Σ x log λ − log x!; no count says nothing of log λ, which may be infinite."""
        factorials = sum(math.lgamma(count + 1.0) for count in counts.tolist())
        some = counts > 0
        return np.asarray(counts[some] @ self._log_rates[some] - factorials)

    @cached_property
    def _regression(self) -> tuple[Vector, Vector]:
        """B, `(K, m, o)` or `(1, m, o)`, and the diagonal of C, `(K, m)` or `(1, m)`."""
        assert self._all.matrices is not None
        across = self._all.matrices[:, self._unseen[:, np.newaxis], self._seen]
        half = across @ np.swapaxes(self._factors, 1, 2)
        within = self._all.matrices[:, self._unseen, self._unseen]
        # Rounding may take a variance that is next to nothing below it.
        return half @ self._factors, np.maximum(within - np.einsum("kmo,kmo->km", half, half), 0.0)

    def _conditional(self, row: Vector) -> tuple[Vector, Vector]:
        """Mean and variance of the missing Gaussian cells under each component, `(K, m)`, in the parameters' coordinates."""
        means = self._all.means[:, self._unseen]
        if self._all.matrices is None:
            return means, self._all.variances[:, self._unseen]
        regression, variances = self._regression
        return means + np.matmul(regression, self._deviations(row)[:, :, np.newaxis])[:, :, 0], variances

    def impute(self, row: Vector, responsibilities: Vector) -> RowImputation:
        """As `RowMixture.impute`."""
        schema, coordinates = self._all.schema, self._all.coordinates
        filled, means, deviations = row.copy(), dict[int, float](), dict[int, float]()
        if len(self._unseen):
            places = schema.gaussian[self._unseen]
            mean, variance = _mixed_moments(responsibilities, *self._conditional(row))
            filled[places] = mean * coordinates.scale[places] + coordinates.location[places]
            means |= zip(places.tolist(), filled[places].tolist(), strict=True)
            spread = np.sqrt(variance) * coordinates.scale[places]
            deviations |= zip(places.tolist(), spread.tolist(), strict=True)
        if len(self._missing_counts):
            places, rates = schema.poisson[self._missing_counts], self._all.rates[self._missing_counts].T
            mean, variance = _mixed_moments(responsibilities, rates, rates)
            filled[places] = np.rint(mean)
            means |= zip(places.tolist(), mean.tolist(), strict=True)
            deviations |= zip(places.tolist(), np.sqrt(variance).tolist(), strict=True)
        probabilities = {}
        for d, part in self._missing_levels:
            probabilities[d] = self._all.levels[part] @ responsibilities
            filled[d] = float(probabilities[d].argmax())
        return RowImputation(filled, means, deviations, probabilities)


def _of_count(count: float, log_rates: Vector) -> Vector:
    """x log λ − log x! of one count, `(K,)`; no count says nothing of log λ, which may be infinite."""
    return np.asarray((count * log_rates if count > 0 else np.zeros_like(log_rates)) - math.lgamma(count + 1.0))


def _log_sum(log_weights: Vector, log_densities: Vector) -> Vector:
    """log Σ_k exp of `(K,)` and `(K, n)` together, `(n,)`; what is no number counts as none."""
    with np.errstate(all="ignore"):
        joint = log_weights[:, np.newaxis] + log_densities
        joint[np.isnan(joint)] = -np.inf
        largest = joint.max(axis=0)
        finite = np.isfinite(largest)
        total = np.zeros(joint.shape[1])
        for of_component in joint - np.where(finite, largest, 0.0):
            total += np.exp(of_component)
        return np.where(finite, largest + np.log(total), -np.inf)


def _mixed_moments(responsibilities: Vector, means: Vector, variances: Vector) -> tuple[Vector, Vector]:
    """Mean and variance `(m,)` of a mixture with component moments `(K, m)`."""
    mean = responsibilities @ means
    return mean, responsibilities @ (variances + (means - mean) ** 2)
