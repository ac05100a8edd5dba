"""Several models evaluated together, each at its own parameters: their statistics end to end, in one payload.

Rounds are dear and payload is cheap: twenty starts, or every number of components from two to nine, cost as many rounds as one fit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fed_em.description import check_whole_number, read_mapping
from fed_em.errors import CallerError, NotEvaluated
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.held_out import HeldOut, summed_log_density
from fed_em.layout import Block, Layout
from fed_em.model import COUNT, LOG_LIKELIHOOD, Model, Rows
from fed_em.parameters import Parameters
from fed_em.records import Records
from fed_em.resampling import MOST, Resampled
from fed_em.statistics import Statistics
from fed_em.tenant_mixing import has_own_weights

FAMILY = "candidates"

# How many there may be: of a description that came from anyone, before anything is made of it.
MAX_CANDIDATES = 4096

# Statistics of held-out rows: how many they count for, and after "r." their log-likelihood.
HELD_OUT = "held_out"


class CandidateNotEvaluated(NotEvaluated):
    """One of several candidates has no statistics at its parameters; the others may have.

    Attributes:
        candidate: Which.
    """

    def __init__(self, candidate: int, cause: NotEvaluated) -> None:
        super().__init__(f"candidate {candidate}: {cause.message}", remedy=cause.remedy)
        self.candidate = candidate


@dataclass(frozen=True)
class Candidates:
    """R models over the same columns, side by side. Implements `fed_em.model.Summand`.

    Parameters and statistics of candidate r are named as the model names them, after "r." and from r = 0; but for `count` (), which is
    the same for all and stands once.

    Where rows are held out, all of these are of the others. Of the held-out rows there are `held_out` (), how many they count for, and
    "r.held_out" (), their log-likelihood under each candidate, in nats.

    Where each candidate sees a replicate of the records, each also has a count of its own, "r.count"; `count` is that of the records
    themselves.

    Attributes:
        models: At least one, at most `MAX_CANDIDATES`.
        held_out: Which rows are only scored; None if none.
        resampled: How replicates are drawn; None if all candidates see the records themselves.

    Raises:
        CallerError: there are none or too many, their columns differ in number, one has mixing weights of each tenant's own, or rows are
            both held out and resampled.
    """

    models: tuple[Model, ...]
    held_out: HeldOut | None = None
    resampled: Resampled | None = None

    def __post_init__(self) -> None:
        if self.held_out is not None and self.resampled is not None:
            raise CallerError("rows are held out or resampled, not both")
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
        models = [{"model": dict(model.describe()), "copies": n} for model, n in alike]
        held_out = {} if self.held_out is None else {"held_out": self.held_out.describe()}
        resampled = {} if self.resampled is None else {"resampled": self.resampled.describe()}
        return {"family": FAMILY, "models": models, **held_out, **resampled}

    @classmethod
    def from_description(
        cls, description: Mapping[str, Any], build: Callable[[Mapping[str, Any]], Model]
    ) -> Candidates:
        """The candidates that `describe` described, their models made by `build`. Raises `CallerError` as that, and as the class."""
        read_mapping("candidates", description, ("family", "models"), ("held_out", "resampled"))
        if not isinstance(description["models"], Sequence) or isinstance(description["models"], str):
            raise CallerError("the models of candidates must be a list")
        models: list[Model] = []
        for entry in description["models"]:
            read_mapping("a candidate", entry, ("model", "copies"))
            check_whole_number("copies of a candidate", entry["copies"], 1)
            if len(models) + entry["copies"] > MAX_CANDIDATES:
                raise CallerError(f"there must be at most {MAX_CANDIDATES} candidates")
            models += [build(entry["model"])] * entry["copies"]
        held_out, resampled = description.get("held_out"), description.get("resampled")
        return cls(
            tuple(models),
            None if held_out is None else HeldOut.from_description(held_out),
            None if resampled is None else Resampled.from_description(resampled),
        )

    def layout(self, column_bounds: NDArray[np.float64] | None = None, radius: float | None = None) -> Layout:
        """The layouts of all candidates, end to end behind one `count`; arguments and errors are those of `Summand.layout`.

        One record adds to the blocks of every candidate as much as each admits, at once: nothing is shared but `count`.
        """
        alone = column_bounds is None and radius is None
        return self._local_layout if alone else self._joined(column_bounds, radius)

    @cached_property
    def _local_layout(self) -> Layout:
        return self._joined(None, None)

    def _joined(self, column_bounds: NDArray[np.float64] | None, radius: float | None) -> Layout:
        layouts = [model.layout(column_bounds, radius) for model in self.models]
        of_weights = [layout.of_weights_up_to(self.largest_count) for layout in layouts]
        blocks = (replace(block, name=self._place(r, block.name)) for r, own in enumerate(of_weights) for block in own)
        of_models = (layouts[0][COUNT], *(block for block in blocks if block.name != COUNT))
        return Layout((*of_models, *self._held_out_blocks(layouts)))

    def _held_out_blocks(self, layouts: Sequence[Layout]) -> tuple[Block, ...]:
        if self.held_out is None:
            return ()
        scores = (replace(layout[LOG_LIKELIHOOD], name=self._place(r, HELD_OUT)) for r, layout in enumerate(layouts))
        return (replace(layouts[0][COUNT], name=HELD_OUT), *scores)

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
            Layout(tuple(replace(layout[self._place(r, block.name)], name=block.name) for block in model.layout()))
            for r, model in enumerate(self.models)
        ]

    def statistics_of(self, statistics: Statistics) -> list[Statistics]:
        """The statistics of each candidate, in the layout of its model without column bounds."""
        own = self.layouts_of(self.layout())
        return [
            Statistics.of(layout, {block.name: statistics[self._place(r, block.name)] for block in layout})
            for r, layout in enumerate(own)
        ]

    def with_statistics(self, joined: Statistics, apart: Sequence[Statistics]) -> Statistics:
        """The statistics of all, with those of each candidate replaced; a `count` of all is that of the last."""
        parts = {block.name: joined[block.name] for block in joined.layout}
        for r, own in enumerate(apart):
            parts |= {self._place(r, block.name): own[block.name] for block in own.layout}
        return Statistics.of(joined.layout, parts)

    def held_out_of(self, statistics: Statistics) -> tuple[float, tuple[float, ...]]:
        """For how many rows those held out count, and their log-likelihood under each candidate, in nats; some must be held out."""
        scores = tuple(float(statistics[self._place(r, HELD_OUT)]) for r in range(len(self.models)))
        return float(statistics[HELD_OUT]), scores

    def e_step(self, parameters: Parameters, rows: Rows | Records, layout: Layout | None = None) -> Statistics:
        """Expected sufficient statistics of `rows` at each candidate's parameters.

        Raises:
            CandidateNotEvaluated: one of them has none.
            FedEmError: as `Model.e_step`.
        """
        rows, held = (rows, None) if self.held_out is None else self.held_out.divide(Records.of(rows))
        parts: dict[str, NDArray[np.float64] | float] = {} if held is None else {HELD_OUT: held.total_weight}
        if self.resampled is not None:
            parts[COUNT] = Records.of(rows).total_weight
        points = self.parameters_of(parameters)
        for r, sums in enumerate(self._sums(points, rows)):
            parts |= {self._place(r, block.name): sums[block.name] for block in sums.layout}
            if held is not None:
                parts[self._place(r, HELD_OUT)] = summed_log_density(self.models[r], points[r], held)
        return Statistics.of(self.layout() if layout is None else layout, parts)

    def of_part(self, number: int) -> Candidates:
        """What is evaluated of a part of some rows, by its number from 0: with draws of its own, of a longer key but for the first.

        Equal draws at equal places of all parts would be those of groups of rows, one of each part.
        """
        suffix = number.to_bytes(8, "little") if number else b""
        held_out, resampled = self.held_out, self.resampled
        return replace(
            self,
            held_out=None if held_out is None else replace(held_out, key=held_out.key + suffix),
            resampled=None if resampled is None else replace(resampled, key=resampled.key + suffix),
        )

    def validate(self, parameters: Parameters) -> None:
        """Raise `CallerError`, naming candidate and array, unless the parameters of every candidate are admissible."""
        for r, (model, each) in enumerate(zip(self.models, self.parameters_of(parameters), strict=True)):
            try:
                model.validate(each)
            except CallerError as error:
                raise CallerError(f"candidate {r}: {error.message}", remedy=error.remedy) from None

    @property
    def largest_count(self) -> int:
        """How often a record counts at most in the statistics of a candidate."""
        return 1 if self.resampled is None else MOST

    def _sums(self, points: Sequence[Parameters], rows: Rows | Records) -> Iterator[Statistics]:
        """The statistics of each candidate, of those that are alike and see the same records together."""
        if self.resampled is not None:
            for r, (model, each) in enumerate(zip(self.models, points, strict=True)):
                yield _evaluated(r, model, each, self.resampled.records(r, Records.of(rows)))
            return
        for model, group in groupby(range(len(self.models)), self.models.__getitem__):
            places = list(group)
            try:
                together = _e_steps(model, [points[r] for r in places], rows)
            except NotEvaluated:
                # One by one, to tell whose.
                together = [_evaluated(r, model, points[r], rows) for r in places]
            yield from together

    def _place(self, r: int, name: str) -> str:
        """The name of a candidate's statistic among those of all."""
        return COUNT if name == COUNT and self.resampled is None else f"{r}.{name}"


def _e_steps(model: Model, points: Sequence[Parameters], rows: Rows | Records) -> list[Statistics]:
    if isinstance(model, GaussianMixtureModel):
        return model.e_steps(points, rows)
    return [model.e_step(each, rows) for each in points]


def _evaluated(r: int, model: Model, parameters: Parameters, rows: Rows | Records) -> Statistics:
    try:
        return model.e_step(parameters, rows)
    except NotEvaluated as error:
        raise CandidateNotEvaluated(r, error) from error
