"""Statistics that records can have, from a sum that noise was added to: what an M-step can use.

A noised sum may hold negative masses, covariances with negative eigenvalues and counts of levels beyond their mass. It is projected,
part by part (`fed_em.admissible_moments`, `fed_em.admissible_discrete`), which costs no privacy, as it reads nothing else. What is left of
a component that was less than one record is not worth a projection: it becomes one record with the moments of all others together, and so
gets another chance. Statistics of real rows in the ball stay as they are, bit for bit, wherever the covariances of an M-step are regular.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from fed_em.admissible_discrete import admissible_sums
from fed_em.admissible_moments import MOST_RECORDS, SLACK, TINY, Flags, Moments, admissible_moments
from fed_em.candidates import Candidates
from fed_em.covariance import restrict, standard_deviations
from fed_em.description import check_real
from fed_em.discrete_columns import (
    EXPOSURE,
    FAILURES,
    LEVEL_COUNTS,
    LOG_FACTORIALS,
    SUCCESSES,
    DiscreteColumns,
)
from fed_em.divergence import Mixture
from fed_em.errors import CallerError
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.mixed_mixture import RESPONSIBILITIES, MixedMixtureModel
from fed_em.mixed_moments import MixedMomentsModel
from fed_em.model import COUNT, ENTROPY, LOG_LIKELIHOOD, MISSING_ENTROPY, Summand
from fed_em.observed_moments import OBSERVED, ObservedMomentsModel
from fed_em.statistics import Statistics
from fed_em.tenant_mixing import check_no_own_weights

Vector = NDArray[np.float64]
Parts = dict[str, Vector]

# What a component, or a column, becomes that was not admissible and less; and its variance if there are no others.
_ONE_RECORD, _UNIT = 1.0, 1.0


def admissible(
    model: Summand, statistics: Statistics, radius: float, noise: Mapping[str, float] | None = None
) -> tuple[Statistics, int]:
    """The statistics, projected onto those that an M-step can use.

    `log_likelihood` stays as it is (`fed_em.free_energy`), and so do log-likelihoods of held-out rows. `count` becomes
    the mass of all components if that is something else: so it need not be in the sum at all.

    Args:
        model: A mixture, moments, or candidates of such.
        statistics: Any finite ones of its.
        radius: Of the ball that Gaussian cells of rows are in, in the coordinates of the statistics, positive. Of a box [−1, 1] of D
            columns, as of declared ranges, that is √D.
        noise: The standard deviation of the noise of each entry of a block, by its name; of `second` it is read. Variances that it hides
            are raised to what it does not hide, also where no projection is needed; None if it is not known.

    Returns:
        The statistics, and how many components, or columns of moments, had to be changed, of all candidates together.

    Raises:
        CallerError: statistics are not finite, the radius is out of range, or there is no such model or one with mixing weights of
            each tenant's own.
    """
    check_real("radius", radius, 0.0, strict=True)
    if not np.isfinite(statistics.vector).all():
        raise CallerError("statistics that are not finite cannot be projected")
    if isinstance(model, Candidates):
        return _of_candidates(model, statistics, radius, noise or {})
    parts = {block.name: statistics[block.name] for block in statistics.layout}
    hiding = (noise or {}).get("second", 0.0)
    match model:
        case GaussianMixtureModel() | MixedMixtureModel():
            changed, wrong = _of_mixture(model, parts, radius, hiding)
        case ObservedMomentsModel():
            changed, wrong = _of_observed(parts, radius, hiding)
        case MixedMomentsModel():
            changed, wrong = _of_mixed_moments(model, parts, radius, hiding)
        case _:
            raise CallerError(f"statistics of the family '{model.family}' are not noised, so none are projected")
    return Statistics.of(statistics.layout, {**parts, **changed}), wrong


def _of_candidates(
    candidates: Candidates, statistics: Statistics, radius: float, noise: Mapping[str, float]
) -> tuple[Statistics, int]:
    """Each by itself, and then all of as many records."""
    projected: list[Statistics] = []
    wrong = 0
    for r, (model, own) in enumerate(zip(candidates.models, candidates.statistics_of(statistics), strict=True)):
        hiding = {name.removeprefix(f"{r}."): each for name, each in noise.items() if name.startswith(f"{r}.")}
        each, changed = admissible(model, own, radius, hiding)
        projected.append(each)
        wrong += changed
    if candidates.resampled is None and any(each[COUNT] != statistics[COUNT] for each in projected):
        masses = [_mass_of(each) for each in projected]
        count = min(float(np.mean(masses)), MOST_RECORDS)
        projected = [_scaled(each, count / mass, count) for each, mass in zip(projected, masses, strict=True)]
    return candidates.with_statistics(statistics, projected), wrong


def _mass_of(statistics: Statistics) -> float:
    """Of all components; a count may differ from it by rounding."""
    of_mixture = RESPONSIBILITIES in statistics.layout.offsets
    return float(statistics[RESPONSIBILITIES].sum() if of_mixture else statistics[COUNT])


def _scaled(statistics: Statistics, scale: float, count: float) -> Statistics:
    """All that is a sum over records, but for the log-likelihood, and their count."""
    parts = {block.name: statistics[block.name] for block in statistics.layout}
    scaled = {name: part * scale for name, part in parts.items() if name != LOG_LIKELIHOOD}
    return Statistics.of(statistics.layout, {**parts, **scaled, COUNT: np.asarray(count)})


def _of_mixture(model: Mixture, parts: Parts, radius: float, noise: float) -> tuple[Parts, int]:
    check_no_own_weights(model.mixing)
    changed, wrong = _of_components(model, parts, radius, noise)
    counts = changed[RESPONSIBILITIES]
    if counts.sum() < SLACK:
        wrong = np.ones_like(wrong)
    less = wrong & (counts < _ONE_RECORD)
    if less.any():
        changed = _with_the_rest(model, changed, less, radius)
        changed, _ = _of_components(model, changed, radius, noise)
    total = changed[RESPONSIBILITIES].sum()
    changed[COUNT] = parts[COUNT] if _alike(parts[COUNT], total) else np.asarray(total)
    changed[ENTROPY] = _within(parts[ENTROPY], total * math.log(model.n_components), total)
    if MISSING_ENTROPY in parts:
        changed[MISSING_ENTROPY] = np.zeros(())
    if isinstance(model, MixedMixtureModel):
        changed |= _admissible_factorials(model, parts, total)
    return changed, int(wrong.sum())


def _of_components(model: Mixture, parts: Parts, radius: float, noise: float) -> tuple[Parts, Flags]:
    """Masses and moments of each component, and which were not admissible, `(K,)`."""
    gaussian, counts = model.gaussian, parts[RESPONSIBILITIES]
    changed, wrong = {RESPONSIBILITIES: np.clip(counts, 0.0, MOST_RECORDS)}, (counts < 0) | (counts > MOST_RECORDS)
    if gaussian is not None:
        moments = Moments(model.covariance, counts, parts["first"], parts["second"])
        added = _added_variance(gaussian, changed[RESPONSIBILITIES])
        moments, moved = admissible_moments(moments, radius, added, radius**2 / gaussian.n_columns, noise)
        changed |= {"first": moments.first, "second": moments.second}
        wrong = wrong | moved
    if isinstance(model, MixedMixtureModel):
        sums, moved = admissible_sums(model.discrete, parts, changed[RESPONSIBILITIES])
        changed |= sums
        wrong = wrong | moved
    return changed, wrong


def _with_the_rest(model: Mixture, parts: Parts, less: Flags, radius: float) -> Parts:
    """Some components as one record each, with the moments of all others together; without others, of the middle of the ball."""
    others = np.where(less, 0.0, parts[RESPONSIBILITIES])
    out = {RESPONSIBILITIES: np.where(less, _ONE_RECORD, parts[RESPONSIBILITIES])}
    for name in model.component_blocks:
        column_of_ones = (slice(None),) + (np.newaxis,) * (parts[name].ndim - 1)
        of_one = np.where(less[column_of_ones], 0.0, parts[name]).sum(axis=0) / max(others.sum(), TINY)
        out[name] = np.where(less[column_of_ones], _ONE_RECORD * of_one, parts[name])
    gaussian = model.gaussian
    if gaussian is not None and not others.any():
        moments = Moments(model.covariance, out[RESPONSIBILITIES], out["first"], out["second"])
        unit = min(_UNIT, radius**2) * np.eye(gaussian.n_columns)
        out["second"] = moments.with_covariances(restrict(model.covariance, unit, len(less)), less).second
    return out


def _added_variance(gaussian: GaussianMixtureModel, counts: Vector) -> Vector:
    """What the M-step adds to the variances of each component, at the least, `(K,)` or `()`."""
    floor, k, d = np.asarray(gaussian.covariance_floor), gaussian.n_components, gaussian.n_columns
    if gaussian.prior is None:
        return floor
    nothing = np.zeros((k, d) if gaussian.covariance in ("diag", "spherical") else (k, d, d))
    covariances = gaussian.prior.posterior_covariances(gaussian.covariance, nothing, counts)
    return np.asarray(floor + (standard_deviations(gaussian.covariance, covariances, k, d) ** 2).min(axis=1))


def _of_observed(parts: Parts, radius: float, noise: float) -> tuple[Parts, int]:
    """Each column is a component of its own."""
    apart = Moments("diag", parts[OBSERVED], parts["first"][:, np.newaxis], parts["second"][:, np.newaxis])
    moments, wrong = admissible_moments(apart, radius, np.zeros(()), radius**2 / len(parts[OBSERVED]), noise)
    less = wrong & (moments.counts < _ONE_RECORD)
    observed = np.where(less, _ONE_RECORD, moments.counts)
    changed: Parts = {
        OBSERVED: observed,
        "first": np.where(less, 0.0, moments.first[:, 0]),
        "second": np.where(less, min(_UNIT, radius**2), moments.second[:, 0]),
    }
    changed[COUNT] = _at_least(parts[COUNT], observed)
    return changed, int(wrong.sum())


def _of_mixed_moments(model: MixedMomentsModel, parts: Parts, radius: float, noise: float) -> tuple[Parts, int]:
    changed, wrong = _of_observed(parts, radius, noise) if model.gaussian is not None else ({COUNT: parts[COUNT]}, 0)
    count = _at_least(changed[COUNT], _observed_masses(model.discrete, parts))
    count = count if count > 0 else np.asarray(_ONE_RECORD)
    sums, moved = admissible_sums(model.discrete, parts, count.reshape(1))
    for cells in _columns_of(model.discrete, sums):
        # Nobody observed the column: all that it can show is as likely.
        if not sum(cell.sum() for cell in cells) > 0:
            moved = np.ones(1, dtype=np.bool_)
            for cell in cells:
                cell[...] = min(_ONE_RECORD, float(count)) / (cell.shape[1] * len(cells))
    changed |= {**sums, COUNT: count}
    return changed | _admissible_factorials(model, parts, float(count)), wrong + int(moved.sum())


def _columns_of(discrete: DiscreteColumns, sums: Parts) -> Iterator[tuple[Vector, ...]]:
    """What counts the observed cells of each column, `(1, …)`, as views: levels, yes and no, or the exposure."""
    if LEVEL_COUNTS in sums:
        yield from ((sums[LEVEL_COUNTS][:, levels],) for levels in discrete.schema.level_slices)
    for names in ((SUCCESSES, FAILURES), (EXPOSURE,)):
        if names[0] in sums:
            for place in range(sums[names[0]].shape[1]):
                yield tuple(sums[name][:, place : place + 1] for name in names)


def _observed_masses(discrete: DiscreteColumns, parts: Parts) -> Vector:
    each = [[np.clip(cell, 0.0, MOST_RECORDS).sum() for cell in cells] for cells in _columns_of(discrete, parts)]
    return np.minimum([0.0, *map(sum, each)], MOST_RECORDS)


def _at_least(count: Vector, masses: Vector) -> Vector:
    """The count, up to the greatest of the masses that are of it, and no more than can be counted."""
    greatest = float(masses.max())
    return np.asarray(min(float(count), MOST_RECORDS) if count >= greatest * (1 - SLACK) else greatest)


def _admissible_factorials(model: MixedMixtureModel | MixedMomentsModel, parts: Parts, total: float) -> Parts:
    if LOG_FACTORIALS not in parts:
        return {}
    greatest = float(gammaln(np.floor(model.schema.upper_counts) + 1).sum())
    return {LOG_FACTORIALS: _within(parts[LOG_FACTORIALS], total * greatest, total)}


def _within(value: Vector, highest: float, total: float) -> Vector:
    """A sum over so many records clipped into [0, highest], unless rounding alone takes it out."""
    fine = -SLACK * total <= value <= highest + SLACK * total
    return value if fine else np.asarray(np.clip(value, 0.0, highest))


def _alike(value: Vector | float, other: Vector | float) -> NDArray[np.bool_]:
    return np.asarray(np.abs(np.asarray(value) - other) <= SLACK * np.abs(other))
