"""Models of a family of one's own: what sessions ask of one besides `fed_em.model.Model`, and where its family is known by name.

Families in the box start from components drawn around the moments of standardised columns. Others know best where they start, and in what
units: they are fitted in the units of the rows, from the mean and the covariance that the first sum gives.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from fed_em.model import Model
from fed_em.parameters import Parameters

Vector = NDArray[np.float64]


@runtime_checkable
class StartingModel(Model, Protocol):
    """A model that says where EM starts; its columns are numbers, in the units of the rows."""

    @property
    def missing(self) -> bool:
        """Whether rows may have missing cells; then the covariance below is diagonal, of each column's observed ones."""
        ...

    def start(self, mean: Vector, covariance: Vector, seed: int) -> Parameters:
        """Admissible parameters.

        Args:
            mean: Of all rows, `(D,)`.
            covariance: `(D, D)`.
            seed: At least 0; the same seed gives the same start.
        """
        ...
