"""A fitted model's parameters one by one: a name, the estimate and its standard error, in the units of the table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fed_em.columns import BernoulliColumn, CategoricalColumn, ColumnSchema, GaussianColumn, PoissonColumn
from fed_em.discrete_columns import LEVEL_PROBABILITIES, RATES, SUCCESS_PROBABILITIES
from fed_em.errors import CallerError
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.mixed_mixture import MixedMixtureModel
from fed_em.model_file import FittedModel
from fed_em.standard_errors import Remark

Vector = NDArray[np.float64]

WEIGHT, MEAN, VARIANCE, COVARIANCE, PROBABILITY, RATE = (
    "weight", "mean", "variance", "covariance", "probability", "rate",
)  # fmt: skip

_WORDS = {Remark.NONE: "", Remark.BOUNDARY: "on the boundary", Remark.NOT_IDENTIFIED: "not determined by the records"}


@dataclass(frozen=True)
class Estimate:
    """One parameter.

    Attributes:
        kind: What it is, as `MEAN`.
        component: Which component's; None of what all share.
        column: Its column, two of a covariance ("age, systolic"), empty for a weight.
        level: Of a categorical column, the level that the probability is of; else empty.
        value: The estimate, in the units of the table.
        error: Its standard error; None if there is none.
        remark: Why there is none, in words; empty if there is, or if no errors were computed.
    """

    kind: str
    component: int | None
    column: str
    level: str
    value: float
    error: float | None = None
    remark: str = ""

    @property
    def name(self) -> str:
        """In words, as "mean of age in c0"."""
        of = f" of {self.column}" if self.column else ""
        level = f" = {self.level}" if self.level else ""
        return f"{self.kind}{of}{level}{'' if self.component is None else f' in c{self.component}'}"


@dataclass(frozen=True)
class Estimates:
    """The parameters of one model.

    Attributes:
        lines: Weights, means, probabilities and rates of the columns in their order, variances and covariances; of each, all components.
        records: Of how many records the errors are, weights counted; None without errors.
        shift: As `fed_em.standard_errors.StandardErrors`; None without errors.
    """

    lines: tuple[Estimate, ...]
    records: float | None = None
    shift: float | None = None

    @classmethod
    def of(cls, fitted: FittedModel) -> Estimates:
        """Of a fitted mixture.

        Raises:
            CallerError: the model is no mixture.
        """
        lines = tuple(
            line.read(fitted, component)
            for line in _lines(fitted)
            for component in ((None,) if line.shared else range(len(fitted.parameters["weights"])))
        )
        if fitted.errors is None:
            return cls(lines)
        return cls(lines, fitted.errors.records, fitted.errors.shift)

    def __iter__(self) -> Iterator[Estimate]:
        return iter(self.lines)

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, name: str) -> Estimate:
        """By name. Raises `CallerError` if there is none."""
        for line in self.lines:
            if line.name == name:
                return line
        raise CallerError(f"no parameter '{name}'", remedy=f"names are as '{self.lines[-1].name}'")

    def __str__(self) -> str:
        width = max(len(line.name) for line in self.lines)
        told = (line.remark if line.error is None else f"± {line.error:.3g}" for line in self.lines)
        return "\n".join(
            f"{line.name:{width}}  {line.value: .6g}  {text}".rstrip()
            for line, text in zip(self.lines, told, strict=True)
        )


@dataclass(frozen=True)
class _Line:
    """A parameter that each component has one of: what it is, and where it stands.

    Attributes:
        kind, column, level: As in `Estimate`.
        array: Of the parameters.
        place: In the array, behind the component.
        shift, scale: value in the units of the table = shift + scale · value.
        shared: Whether all components have one together.
    """

    kind: str
    column: str
    level: str
    array: str
    place: tuple[int, ...]
    shift: float = 0.0
    scale: float = 1.0
    shared: bool = False

    def read(self, fitted: FittedModel, component: int | None) -> Estimate:
        place = self.place if component is None else (component, *self.place)
        value = self.shift + self.scale * float(fitted.parameters[self.array][place])
        if fitted.errors is None:
            return Estimate(self.kind, component, self.column, self.level, value)
        remark = Remark(int(fitted.errors.remarks[self.array][place]))
        error = self.scale * float(fitted.errors.errors[self.array][place]) if remark is Remark.NONE else None
        return Estimate(self.kind, component, self.column, self.level, value, error, _WORDS[remark])


def _lines(fitted: FittedModel) -> Iterator[_Line]:
    model, scale = fitted.model, fitted.coordinates.scale
    yield _Line(WEIGHT, "", "", "weights", ())
    if isinstance(model, GaussianMixtureModel):
        schema = ColumnSchema(tuple(map(GaussianColumn, fitted.columns)))
        yield from _columns(schema, fitted)
        yield from _covariances(model, fitted.columns, scale)
    elif isinstance(model, MixedMixtureModel):
        schema = model.schema
        yield from _columns(schema, fitted)
        if model.gaussian is not None:
            yield from _covariances(model.gaussian, [schema.names[d] for d in schema.gaussian], scale[schema.gaussian])
    else:
        raise CallerError(f"a model of the family '{model.family}' is no mixture with parameters to show")


def _columns(schema: ColumnSchema, fitted: FittedModel) -> Iterator[_Line]:
    """Means, probabilities and rates, in the order of the columns."""
    counters: Counter[str] = Counter()
    for d, column in enumerate(schema.columns):
        place = counters[column.kind]
        counters[column.kind] += 1
        match column:
            case GaussianColumn():
                location, scale = float(fitted.coordinates.location[d]), float(fitted.coordinates.scale[d])
                yield _Line(MEAN, column.name, "", "means", (place,), location, scale)
            case CategoricalColumn():
                first = schema.level_slices[place].start
                for number, level in enumerate(column.levels):
                    yield _Line(PROBABILITY, column.name, level, LEVEL_PROBABILITIES, (first + number,))
            case BernoulliColumn():
                yield _Line(PROBABILITY, column.name, "", SUCCESS_PROBABILITIES, (place,))
            case PoissonColumn():
                yield _Line(RATE, column.name, "", RATES, (place,))


def _covariances(gaussian: GaussianMixtureModel, names: Sequence[str], scales: Vector) -> Iterator[_Line]:
    """Variances and covariances; a spherical variance is one number in standardised columns, and one for each column in others."""
    matrices, spherical = gaussian.covariance in ("full", "tied"), gaussian.covariance == "spherical"
    for i, name in enumerate(names):
        for j in range(i, len(names)) if matrices else (i,):
            kind, columns = (VARIANCE, name) if i == j else (COVARIANCE, f"{name}, {names[j]}")
            place = (i, j) if matrices else () if spherical else (i,)
            scale = float(scales[i] * scales[j])
            yield _Line(kind, columns, "", "covariances", place, 0.0, scale, gaussian.covariance == "tied")
