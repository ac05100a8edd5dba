"""What one whole sum says of some parameters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fed_em.chart import Chart
from fed_em.model import COUNT
from fed_em.parameters import Parameters
from fed_em.statistics import Statistics


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Statistics of everybody at one θ, and what follows from them.

    Attributes:
        parameters: θ.
        statistics: Of an E-step at θ, nothing stale, missing or silenced.
        objective: (log-likelihood + log prior) / records at θ, nats a record; finite.
        updated: The EM point: what the M-step makes of the statistics.
    """

    parameters: Parameters
    statistics: Statistics
    objective: float
    updated: Parameters

    def gradient(self, chart: Chart, vector: NDArray[np.float64]) -> NDArray[np.float64]:
        """The gradient of the objective in a chart, at θ, whose coordinates are `vector`."""
        return chart.gradient(self.statistics, vector) / float(self.statistics[COUNT])
