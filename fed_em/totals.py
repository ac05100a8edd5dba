"""The simplest `Total`: rows in memory."""

from __future__ import annotations

from dataclasses import dataclass

from fed_em.em import Summed
from fed_em.layout import Layout
from fed_em.model import Model, Rows
from fed_em.parameters import Parameters


@dataclass(frozen=True, eq=False)
class TotalOfRows:
    """Sums over rows in memory; with it `fed_em.em.fit` is plain EM.

    Attributes:
        model: The model.
        rows: `(n, D)`, in the coordinates of the parameters.
        layout: The layout of the statistics; the model's own if None.
    """

    model: Model
    rows: Rows
    layout: Layout | None = None

    def __call__(self, parameters: Parameters) -> Summed:
        """The statistics of all rows at `parameters`; nobody is ever missing."""
        return Summed(self.model.e_step(parameters, self.rows, self.layout))
