"""A federation's data for the demonstration: scikit-learn's handwritten digits, split unevenly over nine tenants.

1797 images of 8 × 8 pixels, projected on their eight leading principal components. The projection is public: it belongs to the
demonstration, like the columns of a form. Tenants differ in size by an order of magnitude and in which digits they hold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from fed_em_simulations.partitions import homes_by_label, parted

Matrix = NDArray[np.float64]

TENANTS = ("ash", "birch", "cedar", "elm", "fir", "hazel", "larch", "maple", "oak")
COLUMNS = tuple(f"component_{k}" for k in range(1, 9))

_SIZES = np.array([6.0, 4.0, 3.0, 2.5, 2.0, 1.5, 1.2, 1.0, 0.8])
_SKEW = 1.0  # Dirichlet concentration of the digits over tenants; smaller is more skewed
_HELD_OUT = 0.2
_SEED = 20


@dataclass(frozen=True)
class Projection:
    """The public map from images to columns: `(image − mean) @ directions`.

    Attributes:
        mean: `(64,)` grey values.
        directions: `(64, 8)`, orthonormal columns.
    """

    mean: NDArray[np.float64]
    directions: Matrix

    def ranges(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The lowest and highest value that any image with grey values in [0, 16] can give, `(8,)` each."""
        ends = (np.array([[0.0], [16.0]]) - self.mean)[:, :, np.newaxis] * self.directions
        return ends.min(axis=0).sum(axis=0), ends.max(axis=0).sum(axis=0)

    def images(self, rows: Matrix) -> Matrix:
        """The images `(n, 8, 8)` that rows `(n, 8)` stand for."""
        return np.asarray(rows @ self.directions.T + self.mean).reshape(-1, 8, 8)


@dataclass(frozen=True)
class DigitsFederation:
    """Rows of every tenant, and rows that no tenant trains on.

    Attributes:
        projection: The public projection.
        tenants: Training rows `(n_i, 8)` by tenant name.
        held_out: `(m, 8)`, a fifth of all digits.
    """

    projection: Projection
    tenants: dict[str, Matrix]
    held_out: Matrix

    @property
    def pooled(self) -> Matrix:
        """All training rows, tenant after tenant."""
        return np.concatenate(list(self.tenants.values()))


def digits_federation() -> DigitsFederation:
    """The same federation every time."""
    digits = load_digits()
    images = np.asarray(digits.data, dtype=np.float64)
    generator = np.random.Generator(np.random.PCG64(_SEED))
    projection = _principal_projection(images)
    rows = (images - projection.mean) @ projection.directions
    order = generator.permutation(len(rows))
    cut = int(_HELD_OUT * len(rows))
    held_out, training = order[:cut], order[cut:]
    homes = homes_by_label(np.asarray(digits.target)[training], _SIZES, _SKEW, generator)
    return DigitsFederation(projection, parted(rows[training], homes, TENANTS), rows[held_out])


def _principal_projection(images: Matrix) -> Projection:
    mean = images.mean(axis=0)
    _, _, directions = np.linalg.svd(images - mean, full_matrices=False)
    leading = directions[: len(COLUMNS)].T
    # The sign of a principal direction is arbitrary: the largest entry is made positive.
    signs = np.sign(leading[np.abs(leading).argmax(axis=0), np.arange(leading.shape[1])])
    return Projection(mean, leading * signs)
