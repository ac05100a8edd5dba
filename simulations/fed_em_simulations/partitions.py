"""Rows of any table divided among tenants: by what a column says, by Dirichlet shares of labels, by a power law of sizes, by a tilt.

Each gives the rows' homes, `(n,)`: the index of the tenant that each row goes to; `parted` then gives the parts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fed_em.description import check_real
from fed_em.errors import CallerError
from fed_em_simulations.size_skew import SizeSkew

Homes = NDArray[np.int64]
Vector = NDArray[np.float64]


def homes_by_value(values: NDArray[np.generic]) -> tuple[Homes, tuple[str, ...]]:
    """One tenant for each value of a column, such as a hospital's number.

    Args:
        values: `(n,)`, of anything that can be sorted.

    Returns:
        Homes, and the name of each tenant: its value.
    """
    distinct, homes = np.unique(np.asarray(values), return_inverse=True)
    return homes.astype(np.int64).reshape(-1), tuple(str(value) for value in distinct)


def homes_by_label(
    labels: NDArray[np.generic], sizes: Vector, concentration: float, generator: np.random.Generator
) -> Homes:
    """The rows of each label spread over the tenants by Dirichlet(α C q): q are the tenants' shares of all rows, about which labels vary.

    Args:
        labels: `(n,)`.
        sizes: `(C,)`, positive: how large tenants are to be, relative to each other.
        concentration: α > 0; the smaller, the fewer tenants hold a label.
        generator: Where shares and homes are drawn from.

    Raises:
        CallerError: α or a size is out of its range.
    """
    check_real("concentration", concentration, 0.0, strict=True)
    sizes = np.asarray(sizes, dtype=np.float64)
    if sizes.ndim != 1 or not len(sizes) or not (np.isfinite(sizes) & (sizes > 0)).all():
        raise CallerError("sizes of tenants must be positive, finite numbers, one for each tenant")
    homes = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        share = generator.dirichlet(concentration * len(sizes) * sizes / sizes.sum())
        members = np.flatnonzero(labels == label)
        homes[members] = generator.choice(len(sizes), size=len(members), p=share)
    return homes


def homes_by_size(n_rows: int, n_tenants: int, skew: SizeSkew, generator: np.random.Generator) -> Homes:
    """Rows spread at random over tenants whose sizes follow a power law.

    Raises:
        CallerError: there are too few rows.
    """
    sizes = skew.sizes(n_rows, n_tenants, generator)
    return np.asarray(generator.permutation(np.repeat(np.arange(n_tenants), sizes)))


def homes_by_tilt(z: Vector, sizes: Vector, strength: float, generator: np.random.Generator) -> Homes:
    """Sites that other rows come to: row i goes to tenant c with probability ∝ q_c exp(strength u_c · z_i), u_c ~ N(0, I / D).

    A site's rows are all true ones, of whatever kind their columns are; it is the populations that are shifted. If z is about normal and
    the strength small, the mean of z at a site is strength · (u_c − Σ q u); less where it is large, as sites share one table.

    Args:
        z: `(n, D)`, in standard deviations from the columns' means.
        sizes: `(C,)`, positive: how large tenants are to be, relative to each other, before the tilt.
        strength: 0: none.
        generator: Where directions and homes are drawn from.
    """
    check_real("strength", strength, 0.0)
    directions = generator.standard_normal((z.shape[1], len(sizes))) / np.sqrt(z.shape[1])
    logits = np.log(sizes) + strength * (z @ directions)
    # The largest of logits plus Gumbel noise is distributed as their softmax.
    return np.asarray((logits + generator.gumbel(size=logits.shape)).argmax(axis=1).astype(np.int64))


def parted(rows: Vector, homes: Homes, names: Sequence[str]) -> dict[str, Vector]:
    """Rows `(n, D)` of each tenant, in their order; a tenant may have none."""
    return {name: rows[homes == home] for home, name in enumerate(names)}
