"""Reconstruction of a small tenant: colluders subtract their own, and what is left of one tenant is solved for its rows.

Whoever knows the tables of all but one tenant in a sum has that tenant's statistics, at the parameters of its term. Over several sums that
is a system of equations for its rows: Σ_i s(x_i; θ_t) = s_t. For few rows there are far more equations than cells, and least squares
from a few starts solve them; whether they are solved the adversary sees by what is left over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from fed_em.broadcast import Broadcast
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.model import COUNT
from fed_em.statistics import Statistics
from fed_em_simulations.attacks.finding import Figure, Severity, counted, listed
from fed_em_simulations.attacks.noise import Noise, precisions, rounding
from fed_em_simulations.attacks.overheard import Overheard
from fed_em_simulations.attacks.record_terms import terms_of_records
from fed_em_simulations.random_streams import stream

Vector = NDArray[np.float64]

# Cells that are solved for at most, and from how many starts.
MOST_CELLS, _STARTS = 40, 12

# Sums that are solved: more add nothing to so few cells.
_MOST_SUMS = 4

# What may be left over of an equation that is solved, in standard deviations of the noise.
_SOLVED = 4.0


@dataclass(frozen=True, eq=False)
class Reconstructed:
    """What became of one tenant.

    Attributes:
        tenant: Its name.
        sums: In how many sums it was alone beside those that collude.
        rows: How many it has, by its count.
        left_over: The root mean square that the solution leaves, in standard deviations of the noise; infinity if none was tried.
        solution: `(n, D)`, in original units; None unless the equations are solved.
    """

    tenant: str
    sums: int
    rows: int
    left_over: float
    solution: Vector | None = field(repr=False)


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """Tenants that colluders leave alone, and what can be solved.

    Attributes:
        colluders: Names of those that collude.
        least_others: The fewest tenants besides them in a sum; 0 without a sum.
        noised: Whether the sums have noise: what is left of one tenant is then noised as a whole.
        tenants: Those that are alone in some sums.
    """

    attack: ClassVar[str] = "reconstruction"

    colluders: tuple[str, ...]
    least_others: int
    noised: bool
    tenants: tuple[Reconstructed, ...]

    @property
    def solved(self) -> tuple[Reconstructed, ...]:
        """Tenants whose rows were found."""
        return tuple(each for each in self.tenants if each.solution is not None)

    @property
    def severity(self) -> Severity:
        """Exposed if one tenant's own statistics are left, without noise or so that they are solved; bounded if noise covers them."""
        if self.solved or (self.tenants and not self.noised):
            return Severity.EXPOSED
        return Severity.BOUNDED if self.tenants else Severity.NONE

    @property
    def sentence(self) -> str:
        """See `Finding`."""
        who = listed(self.colluders) if self.colluders else "nobody"
        if self.solved:
            rows = sum(each.rows for each in self.solved)
            names = listed(tuple(each.tenant for each in self.solved))
            return f"If {who} collude, all {counted(rows, 'row')} of {names} can be solved for."
        if self.tenants:
            names = listed(tuple(each.tenant for each in self.tenants))
            if self.noised:
                return f"If {who} collude, {names} is alone in a sum; the noise covers its rows."
            return f"If {who} collude, the statistics of {names} are left by subtraction; its rows are too many to be solved for."
        return f"If {who} collude, the others are still {counted(self.least_others, 'tenant')} or more in every sum."

    @property
    def figures(self) -> Mapping[str, Figure]:
        """See `Finding`."""
        return {
            "colluders": list(self.colluders),
            "least_others": self.least_others,
            "alone": [
                {"tenant": each.tenant, "sums": each.sums, "rows": each.rows, "solved": each.solution is not None}
                for each in self.tenants
            ],
        }


def reconstruction(
    heard: Overheard, colluding: Mapping[str, Vector], noise: Noise | None = None, seed: int = 0
) -> Reconstruction:
    """Subtract the colluders' terms, and solve for the rows of who is left alone.

    Args:
        heard: The sums.
        colluding: Tables `(n, D)` of the tenants that collude, in original units.
        noise: What is known of the noise; None if there is none.
        seed: Of the starts.
    """
    alone: dict[str, list[tuple[Broadcast, Statistics, Vector]]] = {}
    fewest = []
    for released in heard.moments:
        others = {name: base for name, base in heard.members(released).items() if name not in colluding}
        fewest.append(len(others))
        left = heard.unexplained(released, colluding) if len(others) == 1 else None
        if left is not None:
            ((name, base),) = others.items()
            at = heard.base(released, base)
            if at is not None:
                alone.setdefault(name, []).append((at, left, precisions(released, noise or rounding)))
    found = tuple(_solved(name, equations, seed) for name, equations in sorted(alone.items()))
    return Reconstruction(tuple(colluding), min(fewest, default=0), noise is not None, found)


def _solved(name: str, equations: list[tuple[Broadcast, Statistics, Vector]], seed: int) -> Reconstructed:
    """Of one tenant."""
    usable = [
        each for each in equations if isinstance(each[0].model, GaussianMixtureModel) and not each[0].model.missing
    ]
    counts = [float(left[COUNT]) for _, left, _ in equations]
    n = max(1, round(float(np.median(counts))))
    if not usable or n * usable[0][0].coordinates.n_columns > MOST_CELLS:
        return Reconstructed(name, len(equations), n, np.inf, None)
    chosen = [usable[i] for i in np.unique(np.linspace(0, len(usable) - 1, _MOST_SUMS).astype(int)).tolist()]
    d, first = usable[0][0].coordinates.n_columns, usable[0]
    draws = stream(seed, "reconstruction", name)
    mean, deviation = _moments(first, n)

    def excess(cells: Vector) -> Vector:
        rows = first[0].coordinates.restore(cells.reshape(n, d))
        # A far-off guess may have no density anywhere; its equations are then as wrong as can be.
        with np.errstate(all="ignore"):
            return np.concatenate(
                [
                    (terms_of_records(at, at.coordinates.apply(rows), left.layout).sum(axis=0) - left.vector) * weights
                    for at, left, weights in chosen
                ]
            )

    best = np.inf, np.zeros(n * d)
    told = sum(int((weights > 0).sum()) for _, _, weights in chosen)
    for _ in range(_STARTS):
        begin = mean + deviation * draws.standard_normal((n, d))
        fit = least_squares(excess, begin.ravel(), method="lm", max_nfev=400 * n * d)
        best = min(best, (float(np.sqrt(2 * fit.cost / told)), fit.x), key=lambda each: each[0])
        if best[0] < _SOLVED:
            break
    left_over, cells = best
    solution = first[0].coordinates.restore(cells.reshape(n, d)) if left_over < _SOLVED else None
    return Reconstructed(name, len(equations), n, left_over, solution)


def _moments(equation: tuple[Broadcast, Statistics, Vector], n: int) -> tuple[Vector, Vector]:
    """Mean and standard deviation of the tenant's rows, `(D,)` each, in the coordinates of that sum."""
    at, left, _ = equation
    d, second = at.coordinates.n_columns, left["second"].sum(axis=0)
    if len(second) != d:
        upper = np.triu_indices(d)
        second = second[upper[0] == upper[1]]
    mean = left["first"].sum(axis=0) / n
    return mean, np.sqrt(np.maximum(second / n - mean**2, 1e-4))
