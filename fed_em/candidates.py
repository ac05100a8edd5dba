"""Several models evaluated together, each at its own parameters: their statistics end to end, in one payload.

Rounds are dear and payload is cheap: twenty starts, or every number of components from two to nine, cost as many rounds as one fit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fed_em.description import check_whole_number, read_mapping
from fed_em.errors import CallerError
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.layout import Layout
from fed_em.model import COUNT, Model, Rows
from fed_em.parameters import Parameters
from fed_em.records import Records
from fed_em.statistics import Statistics
from fed_em.tenant_mixing import has_own_weights

FAMILY = "candidates"

# How many there may be: of a description that came from anyone, before anything is made of it.
MAX_CANDIDATES = 4096


@dataclass(frozen=True)
class Candidates:
    """R models over the same columns, side by side. Implements `fed_em.model.Summand`.

    Parameters and statistics of candidate r are named as the model names them, after "r." and from r = 0; but for `count` (), which is
    the same for all and stands once.

    Attributes:
        models: At least one, at most `MAX_CANDIDATES`.

    Raises:
        CallerError: there are none or too many, their columns differ in number, or one has mixing weights of each tenant's own.
    """

    models: tuple[Model, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.models) <= MAX_CANDIDATES:
            raise CallerError(f"there must be 1 to {MAX_CANDIDATES} candidates, not {len(self.models)}")
        columns = sorted({model.n_columns for model in self.models})
        if len(columns) > 1:
            raise CallerError(
                f"candidates must be over the same columns, not over {columns[0]} and {columns[1]} of them"
            )
        if any(has_own_weights(model) for model in self.models):
            raise CallerError("candidates have no mixing weights of each tenant's own", remedy="use shared weights")

    @property
    def family(self) -> str:
        """The family's registered name."""
        return FAMILY

    @property
    def n_columns(self) -> int:
        """D, the number of columns of a row."""
        return self.models[0].n_columns

    def describe(self) -> dict[str, Any]:
        """The description as JSON-able values; equal models that follow each other are described once, with their number."""
        alike = ((model, len(list(group))) for model, group in groupby(self.models))
        return {"family": FAMILY, "models": [{"model": dict(model.describe()), "copies": n} for model, n in alike]}

    @classmethod
    def from_description(
        cls, description: Mapping[str, Any], build: Callable[[Mapping[str, Any]], Model]
    ) -> Candidates:
        """The candidates that `describe` described, their models made by `build`. Raises `CallerError` as that, and as the class."""
        read_mapping("candidates", description, ("family", "models"))
        if not isinstance(description["models"], Sequence) or isinstance(description["models"], str):
            raise CallerError("the models of candidates must be a list")
        models: list[Model] = []
        for entry in description["models"]:
            read_mapping("a candidate", entry, ("model", "copies"))
            check_whole_number("copies of a candidate", entry["copies"], 1)
            if len(models) + entry["copies"] > MAX_CANDIDATES:
                raise CallerError(f"there must be at most {MAX_CANDIDATES} candidates")
            models += [build(entry["model"])] * entry["copies"]
        return cls(tuple(models))

    def layout(self, column_bounds: NDArray[np.float64] | None = None) -> Layout:
        """The layouts of all candidates, end to end behind one `count`; arguments and errors are those of `Model.layout`."""
        return self._local_layout if column_bounds is None else self._joined(column_bounds)

    @cached_property
    def _local_layout(self) -> Layout:
        return self._joined(None)

    def _joined(self, column_bounds: NDArray[np.float64] | None) -> Layout:
        layouts = [model.layout(column_bounds) for model in self.models]
        blocks = (replace(block, name=_place(r, block.name)) for r, layout in enumerate(layouts) for block in layout)
        return Layout((layouts[0][COUNT], *(block for block in blocks if block.name != COUNT)))

    def joined(self, parameters: Sequence[Parameters]) -> Parameters:
        """The parameters of all candidates as one."""
        return Parameters({f"{r}.{name}": each[name] for r, each in enumerate(parameters) for name in each})

    def parameters_of(self, joined: Parameters) -> list[Parameters]:
        """The parameters of each candidate.

        Raises:
            CallerError: an array is nobody's.
        """
        apart: list[dict[str, NDArray[np.float64]]] = [{} for _ in self.models]
        places = {str(r): arrays for r, arrays in enumerate(apart)}
        for name, array in joined.items():
            candidate, _, own = name.partition(".")
            if candidate not in places or not own:
                raise CallerError(f"parameters '{name}' are of none of {len(self.models)} candidates")
            places[candidate][own] = array
        return [Parameters(arrays) for arrays in apart]

    def layouts_of(self, layout: Layout) -> list[Layout]:
        """The layout of each candidate within one of all, with its bounds."""
        return [
            Layout(tuple(replace(layout[_place(r, block.name)], name=block.name) for block in model.layout()))
            for r, model in enumerate(self.models)
        ]

    def statistics_of(self, statistics: Statistics) -> list[Statistics]:
        """The statistics of each candidate, in the layout of its model without column bounds."""
        own = self.layouts_of(self.layout())
        return [
            Statistics.of(layout, {block.name: statistics[_place(r, block.name)] for block in layout})
            for r, layout in enumerate(own)
        ]

    def e_step(self, parameters: Parameters, rows: Rows | Records, layout: Layout | None = None) -> Statistics:
        """Expected sufficient statistics of `rows` at each candidate's parameters; raises as `Model.e_step`."""
        parts: dict[str, NDArray[np.float64] | float] = {}
        points = self.parameters_of(parameters)
        for model, group in groupby(range(len(self.models)), self.models.__getitem__):
            places = list(group)
            for r, sums in zip(places, _e_steps(model, [points[r] for r in places], rows), strict=True):
                parts |= {_place(r, block.name): sums[block.name] for block in sums.layout}
        return Statistics.of(self.layout() if layout is None else layout, parts)

    def validate(self, parameters: Parameters) -> None:
        """Raise `CallerError`, naming candidate and array, unless the parameters of every candidate are admissible."""
        for r, (model, each) in enumerate(zip(self.models, self.parameters_of(parameters), strict=True)):
            try:
                model.validate(each)
            except CallerError as error:
                raise CallerError(f"candidate {r}: {error.message}", remedy=error.remedy) from None


def _e_steps(model: Model, points: Sequence[Parameters], rows: Rows | Records) -> list[Statistics]:
    if isinstance(model, GaussianMixtureModel):
        return model.e_steps(points, rows)
    return [model.e_step(each, rows) for each in points]


def _place(r: int, name: str) -> str:
    """The name of a candidate's statistic among those of all."""
    return COUNT if name == COUNT else f"{r}.{name}"
