"""Several parameters of one model evaluated together: their statistics end to end, in one payload.

Rounds are dear and payload is cheap: twenty starts cost as many rounds as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fed_em.description import check_whole_number
from fed_em.layout import Layout
from fed_em.model import COUNT, Model, Rows
from fed_em.parameters import Parameters
from fed_em.records import Records
from fed_em.statistics import Statistics


@dataclass(frozen=True)
class Candidates:
    """R parameters of one model, side by side; the arrays of `fed_em.model.Model` with a first axis of length R.

    Statistics are those of the model likewise, `(R, …)`, but for `count` (), which is the same for all.

    Attributes:
        model: The model.
        n_candidates: R, at least 1.

    Raises:
        CallerError: R is out of its range.
    """

    model: Model
    n_candidates: int

    def __post_init__(self) -> None:
        check_whole_number("n_candidates", self.n_candidates, 1)

    def layout(self, column_bounds: NDArray[np.float64] | None = None) -> Layout:
        """R layouts of the model's, interleaved block by block; arguments and errors are those of `Model.layout`."""
        return self._unit_layout if column_bounds is None else self._repeated(self.model.layout(column_bounds))

    @cached_property
    def _unit_layout(self) -> Layout:
        return self._repeated(self.model.layout())

    def _repeated(self, layout: Layout) -> Layout:
        repeated = (replace(block, shape=(self.n_candidates, *block.shape)) for block in layout)
        return Layout(tuple(layout[COUNT] if block.name == COUNT else block for block in repeated))

    def stacked(self, parameters: Sequence[Parameters]) -> Parameters:
        """R parameters of the model as one."""
        return Parameters({name: np.stack([each[name] for each in parameters]) for name in parameters[0]})

    def parameters_of(self, stacked: Parameters) -> list[Parameters]:
        """The parameters of each candidate."""
        return [Parameters({name: stacked[name][r] for name in stacked}) for r in range(self.n_candidates)]

    def statistics_of(self, statistics: Statistics) -> list[Statistics]:
        """The statistics of each candidate, in the layout of the model without column bounds."""
        layout, count = self.model.layout(), statistics[COUNT]
        names = [block.name for block in layout if block.name != COUNT]
        return [
            Statistics.of(layout, {COUNT: count, **{name: statistics[name][r] for name in names}})
            for r in range(self.n_candidates)
        ]

    def e_step(self, parameters: Parameters, rows: Rows | Records, layout: Layout | None = None) -> Statistics:
        """Expected sufficient statistics of `rows` at each candidate; raises as `Model.e_step`."""
        sums = [self.model.e_step(each, rows) for each in self.parameters_of(parameters)]
        layout = self.layout() if layout is None else layout
        return Statistics.of(
            layout,
            {
                block.name: sums[0][COUNT] if block.name == COUNT else np.stack([each[block.name] for each in sums])
                for block in layout
            },
        )

    def validate(self, parameters: Parameters) -> None:
        """Raise `CallerError`, naming the array, unless the parameters of every candidate are admissible."""
        for each in self.parameters_of(parameters):
            self.model.validate(each)
