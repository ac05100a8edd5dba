"""The mixing weights that explain some rows best, the components being what they are: a concave problem with one best value.

    maximise  L(π) = Σ_i v_i log Σ_k f_ik π_k + (a/K) Σ_k log π_k      over weights π ≥ 0, Σ_k π_k = 1

f_ik is the density of row i in component k, v_i how many records row i counts for, and a pseudo-records are spread evenly over the
components (a Dirichlet prior with α − 1 = a/K), which are rows of their own here: log π_k is the log-density of one that only k can show.

The gradient g_k = ∂L/∂π_k tells how far from the best one is: Σ_k π_k g_k is the number of records n, and as L is concave, no weights
are better by more than max_k g_k − n nats (Lindsay 1983, "The geometry of mixture likelihoods", Annals of Statistics 11). It is
found by Newton steps: the quadratic model of L at π, over π ≥ 0 and less the multiplier n of Σ π_k, is a least-squares problem with
non-negative unknowns (Wang 2007, "On fast computation of the non-parametric maximum likelihood estimate of a mixing distribution",
Journal of the Royal Statistical Society B 69, section 2.2; Lawson and Hanson's algorithm solves it). A step that does no better than one
of EM, π_k g_k / n, is halved, and EM's is taken in the end: so L rises with every step.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from fed_em.blas import one_blas_thread

Vector = NDArray[np.float64]

# Nats a record by which the weights found may fall short of the best.
TOLERANCE = 1e-10

# Newton steps hardly ever number more than ten. Should they not arrive, the best weights so far are as good as they get.
_MOST_STEPS = 200
_SMALLEST_STEP = 2.0**-6


def best_mixing_weights(densities: Vector, counts: Vector, pseudo_records: float) -> Vector:
    """The best weights, `(K,)`, within `TOLERANCE`; equal ones where there is nothing to go by. The same for the same input, bit for bit.

    Args:
        densities: f_ik, `(n, K)`, not negative, each row up to a factor of its own and with a positive entry; n may be 0.
        counts: v_i, `(n,)`, positive.
        pseudo_records: a ≥ 0.
    """
    n_components = densities.shape[1]
    weights = np.full(n_components, 1.0 / n_components)
    if pseudo_records > 0:
        densities = np.concatenate((densities, np.eye(n_components)))
        counts = np.concatenate((counts, np.full(n_components, pseudo_records / n_components)))
    records = float(counts.sum())
    if records == 0:
        return weights
    with one_blas_thread(), np.errstate(divide="ignore"):
        for _ in range(_MOST_STEPS):
            mixed = densities @ weights
            gradient = (counts / mixed) @ densities
            if float(gradient.max()) <= records * (1.0 + TOLERANCE):
                break
            weights = _step(densities, counts, weights, mixed, gradient)
    return weights


def _step(densities: Vector, counts: Vector, weights: Vector, mixed: Vector, gradient: Vector) -> Vector:
    """Weights of a greater L than `weights` have."""
    of_em: Vector = weights * gradient / counts.sum()
    of_em /= of_em.sum()
    towards = _newton(densities * (np.sqrt(counts) / mixed)[:, np.newaxis], gradient, float(counts.sum()))
    if towards is None:
        return of_em
    least, size = counts @ np.log(densities @ of_em), 1.0
    while size >= _SMALLEST_STEP:
        tried: Vector = weights + size * (towards - weights)
        if counts @ np.log(densities @ tried) >= least:
            return tried
        size /= 2
    return of_em


def _newton(scaled: Vector, gradient: Vector, records: float) -> Vector | None:
    """Where the quadratic model of L is greatest, scaled to sum 1; None if it tells nothing.

    With A the rows √v_i f_ik / Σ_j f_ij π_j, the model's Hessian is −AᵀA, and AᵀA π = g: over x ≥ 0 one minimises
    ½ xᵀAᵀA x − xᵀ(2 g − n).
    """
    from scipy.optimize import nnls  # 0.2 s, for those with own weights

    information = scaled.T @ scaled
    # Components that are alike make it singular.
    information[np.diag_indices_from(information)] *= 1.0 + 1e-12
    try:
        upper = np.linalg.cholesky(information).T
        found = nnls(upper, solve_triangular(upper, 2.0 * gradient - records, trans="T"))[0]
    except (np.linalg.LinAlgError, RuntimeError):
        return None
    total = float(found.sum())
    return np.asarray(found / total) if total > 0 else None
