"""From the joint log-densities of rows and latent components to the posterior of the components."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

# exp(-746) is 0 in float64, and so is r log r for any logarithm at or below.
_LOG_ZERO = -746.0


def normalise_in_place(joint: Vector) -> tuple[Vector, Vector]:
    """Turn log joint densities into posterior probabilities, by log-sum-exp about each row's largest entry.

    Args:
        joint: `(K, n)`, log p(x_i, z_i = k) in nats, -inf where the component is impossible; overwritten with
            the responsibilities p(z_i = k | x_i), which sum to 1 over k.

    Returns:
        The log-densities log p(x_i) `(n,)` and the entropies of the responsibilities `(n,)`, both in nats. A
        row that no component can hold has a log-density that is not finite.
    """
    largest = joint.max(axis=0)
    np.subtract(joint, largest, out=joint)
    exponentials = np.exp(joint)
    total = exponentials.sum(axis=0)
    np.maximum(joint, _LOG_ZERO, out=joint)  # 0 · -inf would not be a number
    log_total = np.log(total)
    # H = -Σ r log r with log r = a - log Σ exp a.
    exponentials /= total
    entropies = log_total - np.einsum("kn,kn->n", exponentials, joint)
    joint[...] = exponentials
    return largest + log_total, entropies
