"""Charts: parameters as points of a vector space, with the gradient of the log posterior in them, from an E-step's sums.

Fisher's identity: at the parameters θ of an E-step, the gradient of the observed-data log-likelihood is that of the expected
complete-data log-likelihood,

    ∇ log p(x | θ)  =  E[ ∇ log p(x, z | θ) | x, θ ],

a function of the expected sufficient statistics alone (Dempster, Laird and Rubin 1977, section 3; McLachlan and Krishnan 2008, "The EM
Algorithm and Extensions", section 3.2). So one sum gives value and gradient, and a server can take steps of any first-order method.

Coordinates are chosen so that the complete-data information of one record, on average, is about the identity: a step along the gradient of
the mean log-likelihood of a record is then about a step of EM.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from fed_em.model import Model
from fed_em.parameters import Parameters
from fed_em.statistics import Statistics

Vector = NDArray[np.float64]


class PartialChart(Protocol):
    """Some of a model's arrays as a vector."""

    @property
    def size(self) -> int:
        """Length of the vector."""
        ...

    def vector(self, parameters: Parameters) -> Vector:
        """The coordinates of the arrays, `(size,)`; other arrays are not read.

        Raises:
            FedEmError: they lie outside the chart.
        """
        ...

    def arrays(self, vector: Vector) -> Mapping[str, Vector]:
        """The arrays at some coordinates. Not finite where these are beyond all bounds; nothing is raised."""
        ...

    def gradient(self, statistics: Statistics, vector: Vector) -> Vector:
        """The gradient, `(size,)`, of log-likelihood + log prior at `vector`, in nats; statistics are of an E-step there."""
        ...


@dataclass(frozen=True, eq=False)
class Chart:
    """All of a model's arrays as one vector.

    Attributes:
        parts: In the order of the vector; each array belongs to one of them.
    """

    parts: tuple[PartialChart, ...]

    @property
    def size(self) -> int:
        """Length of the vector: at least the number of free parameters, as coordinates may be redundant."""
        return sum(part.size for part in self.parts)

    def vector(self, parameters: Parameters) -> Vector:
        """The coordinates, `(size,)`; raises as `PartialChart.vector`."""
        return np.concatenate([part.vector(parameters) for part in self.parts])

    def parameters(self, vector: Vector) -> Parameters:
        """The parameters at some coordinates; admissible unless these are beyond all bounds."""
        arrays: dict[str, Vector] = {}
        with np.errstate(all="ignore"):
            for part, own in zip(self.parts, self._split(vector), strict=True):
                arrays |= part.arrays(own)
        return Parameters(arrays)

    def gradient(self, statistics: Statistics, vector: Vector) -> Vector:
        """The gradient of log-likelihood + log prior, in nats: the sum over the records, not their mean.

        Args:
            statistics: Of an E-step at `parameters(vector)`, whole: none stale, none silenced.
            vector: Where.
        """
        split = zip(self.parts, self._split(vector), strict=True)
        return np.concatenate([part.gradient(statistics, own) for part, own in split])

    def _split(self, vector: Vector) -> list[Vector]:
        ends = list(accumulate(part.size for part in self.parts))
        return np.split(vector, ends[:-1])


@runtime_checkable
class ChartedModel(Model, Protocol):
    """A model that gives charts of its parameters."""

    def chart(self, reference: Parameters) -> Chart:
        """A chart about `reference`, in whose neighbourhood the complete-data information is about the identity.

        Raises:
            FedEmError: there is none, as a covariance has no more than the floor.
        """
        ...
