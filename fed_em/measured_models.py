"""What one record adds to a measurement of fitted models: how likely each finds it, and which bins it falls into.

For each model r, with the log-density ℓ of a record's observed cells in the units of the rows, clipped to the declared range
[low, high] = centre ± h,

    r.density               Σ (ℓ − centre) / h
    r.density_squared       Σ ((ℓ − centre) / h)²
    r.clipped               how many were outside of the range
    r.histogram             how many are in each bin of the reference

where there are two, also of d = (ℓ_1 − ℓ_0) / 2h

    difference, difference_squared

and of the records themselves, whatever the models are,

    column.d                how many observed cells of column d are in each bin of the reference
    missing                 how many cells of each column are missing

One record of weight one adds at most 1 to any entry, and to one bin of a histogram, whatever parameters somebody else chose, and nothing
that it adds depends on any other record: log-densities are computed of each by itself, to the bit, as a bin is a step and no slope. So
noise for the norms of these blocks hides any one of them. Nothing depends on columns' ranges. No model is fitted here: the one sum is all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fed_em.columns import CategoricalColumn, ColumnSchema, GaussianColumn
from fed_em.coordinates import Coordinates
from fed_em.description import read_mapping
from fed_em.divergence import Mixture
from fed_em.errors import CallerError
from fed_em.layout import Block, Layout
from fed_em.mixed_mixture import MixedMixtureModel
from fed_em.model import COUNT, Model, Rows
from fed_em.parameters import Parameters
from fed_em.records import Records
from fed_em.reference_edges import MOST_BINS_OF_NUMBERS, ReferenceEdges
from fed_em.row_blocks import rows_in_block
from fed_em.row_mixture import RowMixture
from fed_em.statistics import Statistics
from fed_em.tenant_mixing import has_own_weights

Vector = NDArray[np.float64]

FAMILY = "measured-models"

MISSING = "missing"
DIFFERENCE, DIFFERENCE_SQUARED = "difference", "difference_squared"
DENSITY, DENSITY_SQUARED, CLIPPED, HISTOGRAM = "density", "density_squared", "clipped", "histogram"

_PARAMETERS, _COORDINATES = "parameters.", "coordinates."

# The fewest rows that are worth a call.
_FEWEST_ROWS = 1024


@dataclass(frozen=True)
class MeasuredModels:
    """One model, or two to be compared, over the same columns. Implements `fed_em.model.CountedSummand`.

    Rows are in their own units; each model has coordinates of its own, which are arrays of its parameters: "r.parameters.…" and
    "r.coordinates.location", "r.coordinates.scale". A mass gate sees one component that holds every record whole.

    Attributes:
        models: One or two mixtures.
        edges: Of the reference.

    Raises:
        CallerError: there are none or too many, their columns differ from each other or from the edges, mixing weights are each tenant's
            own, or a column has more bins than may be asked for.
    """

    models: tuple[Mixture, ...]
    edges: ReferenceEdges

    def __post_init__(self) -> None:
        if not 1 <= len(self.models) <= 2:
            raise CallerError(f"one model is measured or two are compared, not {len(self.models)}")
        for model in self.models:
            if not isinstance(model, Mixture):
                raise CallerError(f"a model of the family '{model.family}' is not measured")
            if has_own_weights(model):
                raise CallerError(
                    "a model with mixing weights of each tenant's own has no one density to measure",
                    remedy='measure a model with mixing = "shared"',
                )
        if len({_columns_of(model) for model in self.models}) > 1:
            raise CallerError("the models that are compared are over different columns")
        if len(self.edges.columns) != self.n_columns:
            raise CallerError(f"there are edges of {len(self.edges.columns)} columns, the models have {self.n_columns}")
        for d, (edges, most) in enumerate(zip(self.edges.columns, self._most_bins, strict=True)):
            if len(edges) >= most:
                raise CallerError(
                    f"column {d}: {len(edges)} edges make more than the {most} bins that may be asked for",
                    remedy="measure by the edges that follow from the model",
                )

    @property
    def _most_bins(self) -> Sequence[int]:
        """Of each column: bins between numbers are values of somebody if they are narrow enough."""
        model = self.models[0]
        if not isinstance(model, MixedMixtureModel):
            return [MOST_BINS_OF_NUMBERS] * model.n_columns
        return [
            len(column.levels) if isinstance(column, CategoricalColumn) else MOST_BINS_OF_NUMBERS
            for column in model.schema.columns
        ]

    @property
    def family(self) -> str:
        """The family's registered name."""
        return FAMILY

    @property
    def n_columns(self) -> int:
        """D, the number of columns of a row."""
        return self.models[0].n_columns

    @property
    def n_components(self) -> int:
        """One, as a mass gate sees it."""
        return 1

    @property
    def missing(self) -> bool:
        """Whether rows may have missing cells."""
        return self.models[0].missing

    def responsibilities(self, parameters: Parameters, rows: Rows | Records) -> Vector:  # noqa: ARG002
        """Ones, `(n, 1)`."""
        return np.ones((len(rows), 1))

    def describe(self) -> dict[str, Any]:
        """The description as JSON-able values."""
        models = [dict(model.describe()) for model in self.models]
        return {"family": FAMILY, "models": models, "edges": self.edges.describe()}

    @classmethod
    def from_description(
        cls, description: Mapping[str, Any], build: Callable[[Mapping[str, Any]], Model]
    ) -> MeasuredModels:
        """What `describe` described, its models made by `build`. Raises `CallerError` as that, and as the class."""
        fields = read_mapping("measured models", description, ("family", "models", "edges"))
        if not isinstance(fields["models"], Sequence) or isinstance(fields["models"], str) or len(fields["models"]) > 2:
            raise CallerError("the models of a measurement must be a list of one or two")
        models = tuple(build(each) for each in fields["models"])
        return cls(models, ReferenceEdges.from_description(fields["edges"]))  # type: ignore[arg-type]

    def layout(self, column_bounds: Vector | None = None, radius: float | None = None) -> Layout:  # noqa: ARG002
        """The layout; it depends neither on columns' bounds nor on a ball that rows are in."""
        return self._layout

    @cached_property
    def _layout(self) -> Layout:
        blocks = [Block(COUNT, (), 1.0)]
        for r in range(len(self.models)):
            blocks += [Block(f"{r}.{name}", (), 1.0) for name in (DENSITY, DENSITY_SQUARED, CLIPPED)]
            blocks.append(Block(f"{r}.{HISTOGRAM}", (len(self.edges.densities) + 1,), 1.0, norm=1.0))
        if len(self.models) == 2:
            blocks += [Block(DIFFERENCE, (), 1.0), Block(DIFFERENCE_SQUARED, (), 1.0)]
        for d, edges in enumerate(self.edges.columns):
            blocks.append(Block(f"column.{d}", (len(edges) + 1,), 1.0, norm=1.0))
        # Where no cell may be missing nothing is added, and there is nothing for noise to hide.
        may_miss = math.sqrt(self.n_columns) if self.missing else 0.0
        return Layout((*blocks, Block(MISSING, (self.n_columns,), 1.0, norm=may_miss)))

    def validate(self, parameters: Parameters) -> None:
        """Raise `CallerError`, naming model and array, unless parameters and coordinates of every model are admissible."""
        known = {f"{r}.{kind}" for r in range(len(self.models)) for kind in (_PARAMETERS, _COORDINATES)}
        for name in parameters:
            if not any(name.startswith(prefix) for prefix in known):
                raise CallerError(f"parameters '{name}' are of none of {len(self.models)} measured models")
        for r, model in enumerate(self.models):
            try:
                coordinates, own = self._point(parameters, r)
                if coordinates.n_columns != self.n_columns:
                    raise CallerError(f"its coordinates are of {coordinates.n_columns} columns")
                if isinstance(model, MixedMixtureModel):
                    model.schema.check_coordinates(coordinates)
                model.validate(own)
            except CallerError as error:
                raise CallerError(f"measured model {r}: {error.message}", remedy=error.remedy) from None

    def joined(self, points: Sequence[tuple[Coordinates, Parameters]]) -> Parameters:
        """Coordinates and parameters of all models as one."""
        arrays: dict[str, Vector] = {}
        for r, (coordinates, own) in enumerate(points):
            arrays |= {f"{r}.{_PARAMETERS}{name}": array for name, array in own.items()}
            arrays |= {
                f"{r}.{_COORDINATES}location": coordinates.location,
                f"{r}.{_COORDINATES}scale": coordinates.scale,
            }
        return Parameters(arrays)

    def _point(self, parameters: Parameters, r: int) -> tuple[Coordinates, Parameters]:
        prefix = f"{r}.{_PARAMETERS}"
        own = {name.removeprefix(prefix): array for name, array in parameters.items() if name.startswith(prefix)}
        location, scale = (parameters[f"{r}.{_COORDINATES}{name}"] for name in ("location", "scale"))
        return Coordinates(location, scale), Parameters(own)

    def e_step(self, parameters: Parameters, rows: Rows | Records, layout: Layout | None = None) -> Statistics:
        """The sums over `rows` `(n, D)` in their own units, or records; labels are not looked at.

        A record that a model finds impossible, or has no density for, counts as one at the low end of the range, and as clipped.

        Raises:
            CallerError: rows do not fit the models.
        """
        layout = self.layout() if layout is None else layout
        records = replace(Records.of(rows), admissible=None).of_positive_weight()
        mixtures = [_prepared(model, *self._point(parameters, r)) for r, model in enumerate(self.models)]
        total = np.zeros(layout.size)
        width = max(self.n_columns, *(mixture.n_components for mixture in mixtures))
        for _, block in records.blocks(rows_in_block(width, _FEWEST_ROWS)):
            total += self._of_block(mixtures, block, layout).vector
        return Statistics(layout, total)

    def _of_block(self, mixtures: Sequence[RowMixture], block: Records, layout: Layout) -> Statistics:
        edges, weights = self.edges, np.ones(len(block)) if block.weights is None else block.weights
        parts: dict[str, Vector | float] = {COUNT: float(weights.sum())}
        scaled = []
        for r, mixture in enumerate(mixtures):
            found = mixture.log_densities_of_rows(block.rows)
            clipped = np.clip(found, edges.low, edges.high)
            u = np.clip((clipped - edges.centre) / edges.half_width, -1.0, 1.0)
            scaled.append(u)
            parts[f"{r}.{DENSITY}"] = float(weights @ u)
            parts[f"{r}.{DENSITY_SQUARED}"] = float(weights @ u**2)
            parts[f"{r}.{CLIPPED}"] = float(weights @ (found != clipped))
            parts[f"{r}.{HISTOGRAM}"] = _counted(clipped, weights, edges.densities)
        if len(scaled) == 2:
            difference = (scaled[1] - scaled[0]) / 2
            parts |= {DIFFERENCE: float(weights @ difference), DIFFERENCE_SQUARED: float(weights @ difference**2)}
        unseen = np.isnan(block.rows)
        for d, of_column in enumerate(edges.columns):
            seen = ~unseen[:, d]
            parts[f"column.{d}"] = _counted(block.rows[seen, d], weights[seen], of_column)
        parts[MISSING] = np.asarray(weights @ unseen)
        return Statistics.of(layout, parts)


def _counted(values: Vector, weights: Vector, edges: tuple[float, ...]) -> Vector:
    bins = np.searchsorted(np.asarray(edges), values, side="right")
    return np.bincount(bins, weights=weights, minlength=len(edges) + 1).astype(np.float64)


def _columns_of(model: Mixture) -> object:
    return model.schema if isinstance(model, MixedMixtureModel) else (model.n_columns, model.missing)


def _prepared(model: Mixture, coordinates: Coordinates, own: Parameters) -> RowMixture:
    schema = model.schema if isinstance(model, MixedMixtureModel) else _unnamed(model.n_columns)
    return RowMixture(schema, model.covariance, coordinates, own)


def _unnamed(n_columns: int) -> ColumnSchema:
    return ColumnSchema(tuple(GaussianColumn(str(d)) for d in range(n_columns)))
