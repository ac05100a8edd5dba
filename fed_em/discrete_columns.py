"""The columns of a mixture that are independent given the component: categorical, Bernoulli and Poisson.

Their log-densities are linear in features of a record, log p_k(x) = θ_k · φ(x) − Σ log x!, and so are their statistics:
Σ r φ(x). The features and the coefficients θ are

    categorical   1 for the level shown                  log p_kl
    Bernoulli     1 for a yes; 1 for a no                log q_k; log (1 − q_k)
    Poisson       the count; 1 if there is one           log λ_k; −λ_k

A missing cell has only zeros: it adds nothing to the density nor to the statistics, which count observed records only. The
columns are independent given the component, so the M-step over observed cells is exact. Completing the cells
by their expectations has the same fixed points and gets there more slowly, at the rate of the fraction of missing information
(Dempster, Laird and Rubin 1977, section 3).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, xlogy

from fed_em.columns import ColumnSchema
from fed_em.errors import CallerError
from fed_em.layout import Block
from fed_em.mixed_priors import MixedMixturePrior
from fed_em.parameters import Parameters
from fed_em.statistics import Statistics

Vector = NDArray[np.float64]

LEVEL_COUNTS, SUCCESSES, FAILURES, EVENTS, EXPOSURE = "level_counts", "successes", "failures", "events", "exposure"
LOG_FACTORIALS = "log_factorials"
LEVEL_PROBABILITIES, SUCCESS_PROBABILITIES, RATES = "level_probabilities", "success_probabilities", "rates"

# In a matrix product log 0 must stay finite, as 0 · ∞ is not a number; any sum that holds one is below the second.
LOG_OF_ZERO, IMPOSSIBLE = -1e200, -1e150

# Observed records below which a component's parameters of a column stay as they are: all are maximisers for none, and
# an encoded sum of none may differ from zero by its rounding.
_NO_RECORDS = 1e-9

_SUM_TOLERANCE = 1e-6

# log x! of small counts.
LOG_FACTORIALS_OF = gammaln(np.arange(1024) + 1.0)


@dataclass(frozen=True)
class DiscreteColumns:
    """The discrete columns of a schema.

    Parameters are those of the kinds there are: `level_probabilities` `(K, n_levels)`, column after column,
    `success_probabilities` `(K, B)` and `rates` `(K, P)`. Statistics are `level_counts` `(K, n_levels)`, `successes`
    and `failures` `(K, B)`, `events` = Σ r x and `exposure` = Σ r over observed cells `(K, P)`, and `log_factorials` () = Σ
    log x! over the Poisson cells of all records, which the free energy needs.

    Attributes:
        schema: All columns of a row.
    """

    schema: ColumnSchema

    @property
    def n_features(self) -> int:
        """F, the number of features."""
        return self.schema.n_levels + 2 * len(self.schema.bernoulli) + 2 * len(self.schema.poisson)

    @property
    def n_free_parameters(self) -> int:
        """Number of free parameters of one component."""
        schema = self.schema
        return schema.n_levels - len(schema.categorical) + len(schema.bernoulli) + len(schema.poisson)

    @property
    def parameter_shapes(self) -> dict[str, int]:
        """The parameters there are, and the length of their second axis."""
        sizes = {
            LEVEL_PROBABILITIES: self.schema.n_levels,
            SUCCESS_PROBABILITIES: len(self.schema.bernoulli),
            RATES: len(self.schema.poisson),
        }
        return {name: size for name, size in sizes.items() if size}

    @property
    def statistic_slices(self) -> dict[str, slice]:
        """The statistics of components that there are, and their part of the features."""
        n_bernoulli, n_poisson = len(self.schema.bernoulli), len(self.schema.poisson)
        sizes = {
            LEVEL_COUNTS: self.schema.n_levels,
            SUCCESSES: n_bernoulli,
            FAILURES: n_bernoulli,
            EVENTS: n_poisson,
            EXPOSURE: n_poisson,
        }
        slices, start = {}, 0
        for name, size in sizes.items():
            if size:
                slices[name] = slice(start, start + size)
            start += size
        return slices

    def blocks(self, n_components: int) -> tuple[Block, ...]:
        """The layout's blocks: an indicator adds at most 1 a record, a count its declared largest u.

        One record adds r_k φ(x), with ‖r‖₂ ≤ 1 on the simplex, so the norm of a block of all components is that of its features:
        √C for one level of each of C categorical columns, √B for B times yes, and for B times no, √P for P exposures, and
        √Σ u² for counts. A complete record that one component has all of reaches each; yes and no not both at once.
        """
        upper = self.schema.upper_counts
        norms = {
            LEVEL_COUNTS: math.sqrt(len(self.schema.categorical)),
            EVENTS: float(np.linalg.norm(np.maximum(upper, 1.0))),
        }
        blocks = []
        for name, part in self.statistic_slices.items():
            bound, source, size = 1.0, "", part.stop - part.start
            if name == EVENTS:
                widest = int(np.argmax(upper))
                bound, source = max(1.0, float(upper[widest])), self._poisson_source(widest)
            blocks.append(Block(name, (n_components, size), bound, source, norms.get(name, math.sqrt(size))))
        if len(self.schema.poisson):
            bound = max(1.0, float(gammaln(self.schema.upper_counts + 1).sum()))
            blocks.append(Block(LOG_FACTORIALS, (), bound, "the largest counts of all Poisson columns"))
        return tuple(blocks)

    def _poisson_source(self, place: int) -> str:
        return f"column '{self.schema.names[int(self.schema.poisson[place])]}'"

    def features(self, rows: Vector) -> Vector:
        """φ(x) of rows `(n, D)` of the whole schema, `(F, n)`; a cell that is no value of its column counts as missing."""
        out = np.empty((self.n_features, len(rows)))
        self.write_features(np.ascontiguousarray(rows.T), out)
        return out

    def write_features(self, columns: Vector, out: Vector) -> None:
        """As `features`, of columns `(D, n)` of the whole schema, into `(F, n)`."""
        schema, slices = self.schema, self.statistic_slices
        for d, levels in zip(schema.categorical, schema.level_slices, strict=True):
            for code, shown in enumerate(out[levels]):
                np.equal(columns[d], code, out=shown)
        if SUCCESSES in slices:
            cells = columns[schema.bernoulli]
            np.equal(cells, 1, out=out[slices[SUCCESSES]])
            np.equal(cells, 0, out=out[slices[FAILURES]])
        if EVENTS in slices:
            cells = columns[schema.poisson]
            out[slices[EVENTS]], out[slices[EXPOSURE]] = np.nan_to_num(cells), ~np.isnan(cells)

    def all_fit(self, columns: Vector, features: Vector) -> bool:
        """Whether all discrete cells of columns `(D, n)`, none infinite, are values of them or missing, from the features: quicker
        than `ColumnSchema.check_rows`, which says which are not.
        """
        schema = self.schema
        indicators = schema.n_levels + 2 * len(schema.bernoulli)
        # Each such cell shows exactly one of them.
        seen = sum(np.count_nonzero(columns[d] == columns[d]) for d in (*schema.categorical, *schema.bernoulli))
        if features[:indicators].sum() != seen:
            return False
        counts = features[self.statistic_slices[EVENTS]] if len(schema.poisson) else np.empty((0, columns.shape[1]))
        whole = (counts >= 0) & (counts == np.floor(counts))
        return bool(whole.all())

    def log_factorials(self, columns: Vector) -> Vector:
        """Σ log x! over the Poisson cells of columns `(D, n)` of the whole schema, `(n,)`."""
        if not len(self.schema.poisson):
            return np.zeros(columns.shape[1])
        counts = np.nan_to_num(columns[self.schema.poisson])
        small = counts.max(initial=0.0) < len(LOG_FACTORIALS_OF)
        each = LOG_FACTORIALS_OF[counts.astype(np.intp)] if small else gammaln(counts + 1)
        return np.asarray(each.sum(axis=0))

    def coefficients(self, parameters: Parameters) -> Vector:
        """θ `(K, F)`; -inf for what a component cannot show."""
        out = np.empty((len(parameters["weights"]), self.n_features))
        with np.errstate(divide="ignore"):
            for name, part in self.statistic_slices.items():
                match name:
                    case "level_counts":
                        out[:, part] = np.log(parameters[LEVEL_PROBABILITIES])
                    case "successes":
                        out[:, part] = np.log(parameters[SUCCESS_PROBABILITIES])
                    case "failures":
                        out[:, part] = np.log1p(-parameters[SUCCESS_PROBABILITIES])
                    case "events":
                        out[:, part] = np.log(parameters[RATES])
                    case _:
                        out[:, part] = -parameters[RATES]
        return out

    @staticmethod
    def log_densities(coefficients: Vector, features: Vector) -> Vector:
        """θ_k · φ(x), `(K, n)`: log-densities but for the factorials; -inf where a component cannot show the record."""
        densities = np.maximum(coefficients, LOG_OF_ZERO) @ features
        densities[densities < IMPOSSIBLE] = -np.inf
        return np.asarray(densities)

    def sums(self, statistics: Statistics) -> Vector:
        """Σ r φ(x) `(K, F)`, not negative: the rounding of an encoded sum can take an entry just below zero."""
        parts = [statistics[name] for name in self.statistic_slices]
        return np.asarray(np.maximum(np.concatenate(parts, axis=1), 0.0)) if parts else np.empty((1, 0))

    def expected_log_density(self, statistics: Statistics, parameters: Parameters) -> float:
        """Σ_i Σ_k r_ik log p_k(x_i) over these columns, in nats; -inf if a component holds what it cannot show."""
        sums = self.sums(statistics)
        with np.errstate(invalid="ignore"):
            total = float(np.where(sums > 0, sums * self.coefficients(parameters), 0.0).sum())
        return total - float(statistics[LOG_FACTORIALS]) if len(self.schema.poisson) else total

    def estimate(self, statistics: Statistics, before: Parameters, prior: MixedMixturePrior) -> dict[str, Vector]:
        """The M-step: the posterior modes of `fed_em.mixed_priors`.

        Args:
            statistics: Of at least one record.
            before: Parameters that stay where a component has neither observed records of a column nor a prior.
            prior: Without effect where its pseudo-records are zero.
        """
        sums, slices = self.with_pseudo_records(self.sums(statistics), prior), self.statistic_slices
        arrays: dict[str, Vector] = {}
        if LEVEL_COUNTS in slices:
            arrays[LEVEL_PROBABILITIES] = before[LEVEL_PROBABILITIES].copy()
            for levels in self.schema.level_slices:
                counts = sums[:, levels]
                _replace_known(arrays[LEVEL_PROBABILITIES][:, levels], counts, counts.sum(axis=1, keepdims=True))
        if SUCCESSES in slices:
            arrays[SUCCESS_PROBABILITIES] = before[SUCCESS_PROBABILITIES].copy()
            yes, no = sums[:, slices[SUCCESSES]], sums[:, slices[FAILURES]]
            _replace_known(arrays[SUCCESS_PROBABILITIES], yes, yes + no)
        if EVENTS in slices:
            arrays[RATES] = before[RATES].copy()
            _replace_known(arrays[RATES], sums[:, slices[EVENTS]], sums[:, slices[EXPOSURE]])
        return arrays

    def with_pseudo_records(self, sums: Vector, prior: MixedMixturePrior) -> Vector:
        """Σ r φ(x) `(K, F)` with the prior's pseudo-records added to each component's."""
        sums, slices = sums.copy(), self.statistic_slices
        for levels in self.schema.level_slices:
            sums[:, levels] += prior.level_records / (levels.stop - levels.start)
        for name in (SUCCESSES, FAILURES):
            if name in slices:
                sums[:, slices[name]] += prior.bernoulli_records / 2
        if EVENTS in slices:
            sums[:, slices[EVENTS]] += prior.poisson_records * prior.rates_of(self.schema)
            sums[:, slices[EXPOSURE]] += prior.poisson_records
        return sums

    def log_prior(self, parameters: Parameters, prior: MixedMixturePrior) -> float:
        """Log density of the prior, up to a constant, in nats; xlogy, as no pseudo-records at probability 0 are no matter."""
        total = 0.0
        if len(self.schema.categorical):
            for levels in self.schema.level_slices:
                share = prior.level_records / (levels.stop - levels.start)
                total += xlogy(share, parameters[LEVEL_PROBABILITIES][:, levels]).sum()
        if len(self.schema.bernoulli):
            yes, half = parameters[SUCCESS_PROBABILITIES], prior.bernoulli_records / 2
            total += (xlogy(half, yes) + xlogy(half, 1.0 - yes)).sum()
        if len(self.schema.poisson):
            rates, records = parameters[RATES], prior.poisson_records
            total += (xlogy(records * prior.rates_of(self.schema), rates) - records * rates).sum()
        return float(total)

    def validate(self, parameters: Mapping[str, Vector]) -> None:
        """Raise `CallerError`, naming the array, unless these are probabilities and rates; shapes are right."""
        if LEVEL_PROBABILITIES in self.parameter_shapes:
            array = parameters[LEVEL_PROBABILITIES]
            sums = np.stack([array[:, levels].sum(axis=1) for levels in self.schema.level_slices])
            if (array < 0).any() or np.abs(sums - 1.0).max() > _SUM_TOLERANCE:
                raise CallerError(
                    f"parameter '{LEVEL_PROBABILITIES}' holds no probabilities",
                    remedy="make those of each column sum to 1",
                )
        if SUCCESS_PROBABILITIES in self.parameter_shapes:
            array = parameters[SUCCESS_PROBABILITIES]
            if ((array < 0) | (array > 1)).any():
                raise CallerError(f"parameter '{SUCCESS_PROBABILITIES}' is not between 0 and 1")
        if RATES in self.parameter_shapes and (parameters[RATES] < 0).any():
            raise CallerError(f"parameter '{RATES}' is negative")

    def sample(self, parameters: Parameters, labels: NDArray[np.int64], out: Vector, rng: np.random.Generator) -> None:
        """Write the cells of these columns into `out` `(n, D)`, drawn given each row's component `(n,)`.

        Counts may be above the declared largest: cut there, they would have another mean.
        """
        schema = self.schema
        for d, levels in zip(schema.categorical, schema.level_slices, strict=True):
            cumulative = np.cumsum(parameters[LEVEL_PROBABILITIES][:, levels], axis=1)[labels, :-1]
            out[:, d] = (rng.random(len(labels))[:, np.newaxis] >= cumulative).sum(axis=1)
        if len(schema.bernoulli):
            draws = rng.random((len(labels), len(schema.bernoulli)))
            out[:, schema.bernoulli] = draws < parameters[SUCCESS_PROBABILITIES][labels]
        if len(schema.poisson):
            out[:, schema.poisson] = rng.poisson(parameters[RATES][labels])


def _replace_known(out: Vector, numerators: Vector, denominators: Vector) -> None:
    """Write the ratios into `out` where the denominators are of any record."""
    known = np.broadcast_to(denominators > _NO_RECORDS, out.shape)
    np.divide(numerators, denominators, out=out, where=known)
