"""From the joint log-densities of rows and latent components to the posterior of the components."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

# exp(-700) is about 1e-304: nothing beside the one that the likeliest component contributes, yet still a
# normal number. Cutting here keeps subnormal numbers, which are slow, and -inf · 0 out of the arithmetic.
_LOG_NEGLIGIBLE = -700.0


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
    np.maximum(joint, _LOG_NEGLIGIBLE, out=joint)
    exponentials = np.exp(joint)
    total = exponentials.sum(axis=0)
    log_total = np.log(total)
    # H = -Σ r log r with log r = a - log Σ exp a.
    exponentials /= total
    entropies = log_total - np.einsum("kn,kn->n", exponentials, joint)
    joint[...] = exponentials
    return largest + log_total, entropies
