"""The products of what each record adds to a mixture's statistics, Σ_i w_i t_i t_iᵀ: one sum, from which standard errors follow.

The score of a record is linear in t_i (`fed_em.record_statistics`), s_i = B(θ) t_i, so Σ s_i s_iᵀ = B (Σ t_i t_iᵀ) Bᵀ
(`fed_em.standard_errors`). Summed is the inner part: what one record can add to it follows from the bounds of the columns alone,
whatever θ is, while a score has none.

Of the M × M entries only those are summed that differ: the upper triangle, without those that are equal to another one or zero whatever the
records are. Of complete Gaussian columns that leaves moments up to the fourth of each pair of components.

A weight counts as so many equal records, here as everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fed_em.blas import one_blas_thread
from fed_em.description import read_mapping
from fed_em.divergence import Mixture
from fed_em.errors import CallerError
from fed_em.layout import Block, Layout
from fed_em.model import COUNT, Model, Rows
from fed_em.parameters import Parameters
from fed_em.record_statistics import ALL, ONE, Entries, RecordStatistics
from fed_em.records import Records
from fed_em.row_blocks import over_segments
from fed_em.statistics import Statistics
from fed_em.tenant_mixing import has_own_weights

Vector = NDArray[np.float64]
Places = NDArray[np.intp]

FAMILY = "statistic-products"

# The largest M: a million products, 9 MB of a vector, and 19 MB for the matrix of a block.
MOST_STATISTICS = 1536

# Float64 entries that t of one block of rows may fill (8 MiB), and the fewest rows that are worth a block.
_BLOCK_ENTRIES = 2**20
_FEWEST_ROWS = 256


@dataclass(frozen=True)
class StatisticProducts:
    """Σ w t tᵀ of a mixture's records. Implements `fed_em.model.Summand`; parameters are those of the mixture.

    Statistics are `count` (), Σ w, and blocks of products, one for each bound that products have.

    Attributes:
        model: The mixture; of weights that all rows share.

    Raises:
        CallerError: it is no such mixture, or t has more than `MOST_STATISTICS` entries.
    """

    model: Mixture

    def __post_init__(self) -> None:
        if not isinstance(self.model, Mixture):
            raise CallerError("standard errors are of Gaussian and mixed mixtures")
        if has_own_weights(self.model):
            raise CallerError(
                "there are no standard errors where mixing weights are each tenant's own, which are unknowns that no sum holds",
                remedy='set mixing = "shared", or do without standard errors',
            )
        if self.of_record.size > MOST_STATISTICS:
            raise CallerError(
                f"standard errors need the products of {self.of_record.size} statistics of a record, and {MOST_STATISTICS} are the most: "
                "it would be too large a sum",
                remedy='fit fewer components, leave columns out, use covariance = "tied" or "diag", or do without standard errors',
            )

    @property
    def family(self) -> str:
        """The family's registered name."""
        return FAMILY

    @property
    def n_columns(self) -> int:
        """D, the number of columns of a row."""
        return self.model.n_columns

    def describe(self) -> Mapping[str, Any]:
        """The description as JSON-able values."""
        return {"family": FAMILY, "model": dict(self.model.describe())}

    @classmethod
    def from_description(
        cls, description: Mapping[str, Any], build: Callable[[Mapping[str, Any]], Model]
    ) -> StatisticProducts:
        """What `describe` described, its mixture made by `build`. Raises `CallerError` as that, and as the class."""
        model = build(read_mapping("statistic products", description, ("family", "model"))["model"])
        if not isinstance(model, Mixture):
            raise CallerError(f"a model of the family '{model.family}' has no standard errors")
        return cls(model)

    @cached_property
    def of_record(self) -> RecordStatistics:
        """t."""
        return RecordStatistics(self.model)

    @cached_property
    def _distinct(self) -> _Distinct:
        return _Distinct.of(self.of_record.entries)

    @property
    def n_products(self) -> int:
        """How many numbers are summed, besides the count."""
        return len(self._distinct.first)

    def layout(self, column_bounds: Vector | None = None, radius: float | None = None) -> Layout:
        """Names, sizes and per-record bounds of the products; arguments and errors are those of the mixture's layout."""
        alone = column_bounds is None and radius is None
        return self._unit_layout if alone else self._layout_of(column_bounds, radius)

    @cached_property
    def _unit_layout(self) -> Layout:
        return self._layout_of(None, None)

    def _layout_of(self, column_bounds: Vector | None, radius: float | None) -> Layout:
        bound, terms, source, largest = 1.0, 1, "", 1.0
        of_model, gaussian = self.model.layout(column_bounds, radius), self.of_record.gaussian
        if gaussian is not None:
            # Of what is expected of missing cells, or of observed ones: the mixture's layout knows.
            bound, source = of_model["first"].bound, of_model["first"].source
            if gaussian.covariance == "spherical":
                terms = gaussian.n_columns
            elif gaussian.covariance == "tied" and gaussian.missing:
                terms = gaussian.n_components
        if self.of_record.discrete is not None and "events" in of_model.offsets:
            largest = of_model["events"].bound
        blocks = [Block(COUNT, (), 1.0)]
        for (cells, summed, counts), size in zip(*self._distinct.kinds, strict=True):
            of_kind = bound ** int(cells) * float(terms) ** int(summed) * largest ** int(counts)
            blocks.append(Block(f"products.{cells}.{summed}.{counts}", (int(size),), of_kind, source))
        return Layout(tuple(blocks))

    def validate(self, parameters: Parameters) -> None:
        """Raise `CallerError`, naming the array, unless `parameters` are admissible for the mixture."""
        self.model.validate(parameters)

    def e_step(self, parameters: Parameters, rows: Rows | Records, layout: Layout | None = None) -> Statistics:
        """The sums over `rows` `(n, D)`, or records; bit for bit the same for the same input.

        Raises:
            CallerError: rows do not fit the mixture, or miss cells that it does not admit.
            FedEmError: as the mixture's E-step.
        """
        records = Records.of(rows).of_positive_weight()
        if not self.model.missing and np.isnan(records.rows).any():
            raise CallerError(
                "the rows hold values that are not finite",
                remedy="give a model that admits missing cells if they are missing, or leave out such rows",
            )
        unweighted = Records(records.rows, admissible=records.admissible)
        responsibilities = self.model.responsibilities(parameters, unweighted)

        def of_block(part: slice) -> Vector:
            vectors = self.of_record.of_rows(parameters, records.rows[part], responsibilities[part])
            if records.weights is not None:
                vectors *= np.sqrt(records.weights[part])[:, np.newaxis]
            return np.asarray(vectors.T @ vectors)

        size = max(_BLOCK_ENTRIES // self.of_record.size, _FEWEST_ROWS)
        total = np.zeros((self.of_record.size, self.of_record.size))
        with one_blas_thread(), np.errstate(all="ignore"):
            for products in over_segments(of_block, [part for part, _ in records.blocks(size)]):
                total += products
        layout = self.layout() if layout is None else layout
        return Statistics(layout, np.concatenate(([records.total_weight], total.ravel()[self._distinct.first])))

    def matrix(self, statistics: Statistics) -> Vector:
        """Σ w t tᵀ, `(M, M)`."""
        return self.spread(statistics.vector[1:])

    def spread(self, products: Vector) -> Vector:
        """A number for each distinct product as a symmetric matrix, `(M, M)`."""
        size, distinct = self.of_record.size, self._distinct
        upper, right = np.triu_indices(size)
        entries = np.where(distinct.which >= 0, products[distinct.which], 0.0)
        out = np.empty((size, size))
        out[upper, right] = entries
        out[right, upper] = entries
        return out


@dataclass(frozen=True, eq=False)
class _Distinct:
    """Which products of two entries of t are equal.

    Attributes:
        first: Of each distinct one the first place in the matrix, row by row; those of one kind next to each other.
        which: By entry of the upper triangle, row by row: the distinct one that it equals; −1 for zero.
        kinds: The degrees of each kind, `(n, 3)`, and how many distinct products are of it, `(n,)`.
    """

    first: Places
    which: Places
    kinds: tuple[Places, Places]

    @classmethod
    def of(cls, entries: Entries) -> _Distinct:
        """By the factors of both entries."""
        upper, right = np.triu_indices(len(entries.components))
        keys, zero = _keys(entries, upper, right)
        degrees = entries.degrees[upper] + entries.degrees[right]
        kinds, kind = np.unique(degrees, axis=0, return_inverse=True)
        # Equal products are of one kind.
        _, firsts, which = np.unique(np.where(zero, -1, keys), return_index=True, return_inverse=True)
        which = which.ravel()
        if zero.any():
            firsts, which = firsts[1:], which - 1
        order = np.argsort(kind.ravel()[firsts], kind="stable")
        places = np.empty_like(order)
        places[order] = np.arange(len(order))
        chosen = firsts[order]
        found, sizes = np.unique(kind.ravel()[chosen], return_counts=True)
        size = len(entries.components)
        return cls(upper[chosen] * size + right[chosen], np.where(zero, -1, places[which]), (kinds[found], sizes))


def _keys(entries: Entries, upper: Places, right: Places) -> tuple[Places, NDArray[np.bool_]]:
    """A number for the factors of each product, equal only if these are, and whether the product is always zero."""
    factors = np.concatenate((entries.factors[upper], entries.factors[right]), axis=1)
    zero = np.zeros(len(factors), dtype=np.bool_)
    for one, other in combinations(range(factors.shape[1]), 2):
        a, b = factors[:, one].copy(), factors[:, other].copy()
        alone = (entries.group[a] == entries.group[b]) & (entries.group[a] > 0)
        zero |= alone & (a != b)
        # x² = x for x in {0, 1}, and a count times whether there is one is the count.
        factors[(entries.indicator[a] & (a == b)) | ((entries.implied_by[b] == a) & (a != ONE)), other] = ONE
        factors[(entries.implied_by[a] == b) & (b != ONE), one] = ONE
    factors.sort(axis=1)
    components = np.sort(np.stack((entries.components[upper], entries.components[right]), axis=1), axis=1) - ALL
    keys = np.zeros(len(factors), dtype=np.int64)
    for digits, base in ((components, int(components.max()) + 1), (factors, len(entries.group))):
        for column in digits.T:
            keys = keys * base + column
    return keys, zero
