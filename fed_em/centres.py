"""Centres of clusters by sums of counts and first moments alone: the start of a fit whose sums have noise.

Lloyd's algorithm (1982, "Least squares quantization in PCM") from many draws side by side needs of each round only how many records are
nearest to each centre, and their sum. Second moments, which a mixture's sums hold as well, can be changed much more by one record in a
ball of radius R (R², against R), so noise that hides a record would go into these few numbers for nothing. Which draw is best follows
from them too: what clusters explain of the squares is Σ_k N_k ‖m_k‖², whatever the squares themselves are.

The best centres become a mixture with the covariance that they leave unexplained: that of all records, less that between centres.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fed_em.blas import one_blas_thread
from fed_em.covariance import restrict
from fed_em.description import check_whole_number, read_mapping
from fed_em.em import Summed
from fed_em.errors import CallerError
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.layout import Block, Layout
from fed_em.model import Rows
from fed_em.parameters import Parameters
from fed_em.records import Records
from fed_em.row_blocks import rows_in_block
from fed_em.statistics import Statistics

FAMILY = "centres"

# Names of the statistics, and of the parameters.
RECORDS, FIRST, MEANS = "records", "first", "means"

CENTRE_ROUNDS = 6

# A centre with less than this share of what each would have if all had as many records is nobody's.
_LEAST_SHARE = 0.1

# What is left of a variance within clusters, at the least, of the one of all records.
_LEAST_VARIANCE = 0.05

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Centres:
    """S sets of K centres, side by side. Implements `fed_em.model.Summand`.

    Parameters are `means` (S, K, D), in any order. Statistics are, of the records that a centre is the nearest of its set to, `records`
    (S, K), how many they count for, and `first` (S, K, D), their sum.

    One record adds 1 to one entry of each set's `records`, and itself to one row of each set's `first`: norms of √S and √S ‖z‖.

    Attributes:
        n_starts: S, at least 1.
        n_components: K, at least 1.
        n_columns: D, at least 1.

    Raises:
        CallerError: one of them is not.
    """

    n_starts: int
    n_components: int
    n_columns: int

    def __post_init__(self) -> None:
        for name in ("n_starts", "n_components", "n_columns"):
            check_whole_number(name, getattr(self, name), 1)

    @property
    def family(self) -> str:
        """The family's registered name."""
        return FAMILY

    def describe(self) -> dict[str, Any]:
        """The description as JSON-able values."""
        own = {name: getattr(self, name) for name in ("n_starts", "n_components", "n_columns")}
        return {"family": FAMILY, **own}

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> Centres:
        """What `describe` described. Raises `CallerError` as `read_mapping`, and as the class."""
        read_mapping("centres", description, ("family", "n_starts", "n_components", "n_columns"))
        return cls(description["n_starts"], description["n_components"], description["n_columns"])

    def layout(self, column_bounds: Array | None = None, radius: float | None = None) -> Layout:
        """The layout; arguments and errors are those of `Summand.layout`."""
        of_columns = GaussianMixtureModel(1, self.n_columns).layout(column_bounds, radius)[FIRST]
        sets = float(np.sqrt(self.n_starts))
        shape = (self.n_starts, self.n_components)
        first = Block(FIRST, (*shape, self.n_columns), of_columns.bound, of_columns.source, sets * of_columns.norm)
        return Layout((Block(RECORDS, shape, 1.0, norm=sets), first))

    def validate(self, parameters: Parameters) -> None:
        """Raise `CallerError` unless `means` are finite and of their shape."""
        means, shape = parameters[MEANS], (self.n_starts, self.n_components, self.n_columns)
        if set(parameters) != {MEANS} or means.shape != shape or not np.isfinite(means).all():
            raise CallerError(f"centres are `means` of shape {shape}, finite, and nothing else")

    def e_step(self, parameters: Parameters, rows: Rows | Records, layout: Layout | None = None) -> Statistics:
        """How many records are nearest to each centre, and their sums; the first of equally near ones. Deterministic.

        Args:
            parameters: As `validate` admits them.
            rows: `(n, D)` or records, without missing cells; n may be 0. Labels say nothing of centres and are not read.
            layout: The layout to carry; `layout()` if None.
        """
        records, means = Records.of(rows), parameters[MEANS]
        count = np.zeros(means.shape[:2])
        first = np.zeros(means.shape)
        for _, part in records.blocks(rows_in_block(self.n_components + self.n_columns)):
            weights = np.ones(len(part)) if part.weights is None else part.weights
            for number, centres in enumerate(means):
                nearest = _nearest(part.rows, centres)
                belongs = np.zeros((len(part), self.n_components))
                belongs[np.arange(len(part)), nearest] = weights
                count[number] += belongs.sum(axis=0)
                with one_blas_thread():
                    first[number] += belongs.T @ part.rows
        return Statistics.of(self.layout() if layout is None else layout, {RECORDS: count, FIRST: first})


def _nearest(rows: Array, centres: Array) -> NDArray[np.intp]:
    """Of each record by itself: no bit of it depends on what other records there are.

    A matrix product rounds the last rows of a block in another way. Where records are equally near to two centres, and whoever chose the
    centres may have seen to that, one record more or less would move others from one to the other: more than any noise reckons with.
    """
    scores = np.tile(-0.5 * (centres**2).sum(axis=1), (len(rows), 1))
    for cells, places in zip(rows.T, centres.T, strict=True):
        scores += cells[:, np.newaxis] * places
    return np.asarray(np.argmax(scores, axis=1))


def best_centres(
    model: GaussianMixtureModel,
    total_for: Callable[[Centres], Callable[[Parameters], Summed]],
    moments: Parameters,
    radius: float,
    seed: int,
    n_starts: int,
    observe: Callable[[int, tuple[float, ...]], None],
) -> Parameters:
    """Where EM starts: the best of `n_starts` sets of centres, after `CENTRE_ROUNDS` sums, also of noised ones.

    Args:
        model: What is to be fitted.
        total_for: Makes the total of some centres.
        moments: Of all records, in the coordinates of the sums: mean 0, and correlations.
        radius: Of the ball that records are in, positive.
        seed: At least 0; the same seed gives the same draws.
        n_starts: At least 1.
        observe: Told of each round's number, from 1, and of the mean square that each set of centres explains.

    Raises:
        CallerError: a number is out of its range, or a sum holds no records.
    """
    check_whole_number("seed", seed, 0)
    centres = Centres(n_starts, model.n_components, model.n_columns)
    generator = np.random.Generator(np.random.PCG64(seed))
    spread = np.linalg.cholesky(moments["covariances"][0]).T
    total = total_for(centres)

    def drawn(*shape: int) -> Array:
        return np.asarray(generator.standard_normal((*shape, model.n_columns)) @ spread)

    means = drawn(n_starts, model.n_components)
    sizes, explained = np.ones(means.shape[:2]), np.zeros(n_starts)
    for number in range(1, CENTRE_ROUNDS + 1):
        sums = total(Parameters({MEANS: means})).statistics
        sizes = np.maximum(sums[RECORDS], 0.0)
        if not sizes.sum() > 0:
            raise CallerError("a round of starts summed no records at all", remedy="give at least one row")
        means, explained = _moved(sizes, sums[FIRST], radius, drawn)
        observe(number, tuple(explained.tolist()))
    best = int(np.argmax(explained))
    return _mixture(model, moments["covariances"][0], sizes[best], means[best])


def _moved(sizes: Array, first: Array, radius: float, drawn: Callable[..., Array]) -> tuple[Array, Array]:
    """The centres of what was nearest to each, in the ball, and the mean square that they explain; nobody's go beside the largest."""
    of_sets = np.maximum(sizes.sum(axis=1, keepdims=True), 1.0)
    nobody = sizes < _LEAST_SHARE * of_sets / sizes.shape[1]
    found = first / np.where(nobody, 1.0, sizes)[..., np.newaxis]
    lengths = np.linalg.norm(found, axis=-1, keepdims=True)
    found = np.where(lengths > radius, found * (radius / np.maximum(lengths, radius)), found)
    shares = np.where(nobody, 0.0, sizes) / of_sets
    explained = (shares * (found**2).sum(axis=-1)).sum(axis=1)
    largest = np.take_along_axis(found, sizes.argmax(axis=1)[:, np.newaxis, np.newaxis], axis=1)
    beside = largest + 0.5 * drawn(*sizes.shape)
    return np.where(nobody[..., np.newaxis], beside, found), explained


def _mixture(model: GaussianMixtureModel, total: Array, sizes: Array, means: Array) -> Parameters:
    """Centres as components: all with the covariance of all records, less that between centres where something of it is left."""
    share = np.maximum(sizes, _LEAST_SHARE * sizes.sum() / len(sizes))
    weights = share / share.sum()
    apart = means - weights @ means
    values, axes = np.linalg.eigh(total - (weights[:, np.newaxis] * apart).T @ apart)
    within = (axes * np.maximum(values, _LEAST_VARIANCE)) @ axes.T
    covariances = restrict(model.covariance, within, model.n_components)
    return Parameters({"weights": weights, "means": means, "covariances": covariances})
