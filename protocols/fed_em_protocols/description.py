"""What a session is about, in words that both sides check: columns with their kinds and ranges, and the model.

The server sends it as JSON with the terms, which name its hash. From it, the roster and a broadcast every encoding of
the session follows by rule (`encoding_of`, `counts_encoding_of`), on either side alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    BeforeValidator,
    Field,
    FiniteFloat,
    PositiveFloat,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from fed_em.broadcast import Broadcast
from fed_em.candidates import Candidates
from fed_em.columns import BernoulliColumn, CategoricalColumn, ColumnSchema, GaussianColumn, PoissonColumn
from fed_em.columns import Column as DescribedColumn
from fed_em.component_counts import counts_layout
from fed_em.em import Total
from fed_em.errors import CallerError
from fed_em.families import build_model
from fed_em.gaussian_mixture import FAMILY as GAUSSIAN_MIXTURE
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.mixed_mixture import FAMILY as MIXED_MIXTURE
from fed_em.mixed_mixture import MixedMixtureModel
from fed_em.model import ComponentModel, CountedModel, Model, Rows, Summand
from fed_em.standardised_fit import first_round
from fed_em.starts import start_candidates
from fed_em.statistic_products import StatisticProducts
from fed_em.stepwise import StepwiseTotal
from fed_em.tenant_mixing import has_own_weights
from fed_em_protocols.configuration import Table, complaint_of
from fed_em_protocols.encoding import Encoding
from fed_em_protocols.limits import MAX_COMPONENTS
from fed_em_protocols.roster import Name
from fed_em_protocols.starts import Starts, most_candidates
from fed_em_protocols.stream import Stream

# Levels of a column, and the largest count that a column can declare.
MAX_LEVELS = 4096
MAX_COUNT = 2**31

# Labels that mean a missing cell in a CSV file, whatever the session declares.
READ_AS_MISSING = frozenset((
    "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "N/A", "NA", "NULL", "NaN", "n/a", "nan",
    "null",
))  # fmt: skip


def _as_label(level: object) -> object:
    """Whole numbers are labels too: `levels = [1, 2, 3]`."""
    return str(level) if isinstance(level, int) and not isinstance(level, bool) else level


ColumnName = Annotated[str, Field(min_length=1, max_length=128)]
Label = Annotated[str, BeforeValidator(_as_label), Field(min_length=1, max_length=128)]

# What each kind of column declares.
_DECLARES: Mapping[str, tuple[str, ...]] = {
    "gaussian": ("low", "high"),
    "categorical": ("levels",),
    "bernoulli": (),
    "poisson": ("upper",),
}


class Column(Table):
    """One column of every tenant's rows: a value that its kind admits in each, or nothing where it may be missing.

    Its kind says which of the other fields there are: `low` and `high` of a Gaussian column, `levels` of a categorical one, `upper` of a
    Poisson one.
    """

    name: ColumnName
    kind: Literal["gaussian", "categorical", "bernoulli", "poisson"] = "gaussian"
    low: FiniteFloat | None = None
    """Least admissible number."""
    high: FiniteFloat | None = None
    """Largest."""
    levels: Annotated[tuple[Label, ...], Field(max_length=MAX_LEVELS)] | None = None
    """All labels that anybody's cells may hold: a public list, in which each has its number."""
    upper: Annotated[int, Field(ge=1, le=MAX_COUNT)] | None = None
    """Largest admissible count."""
    missing: bool = False
    """Whether a cell may be empty. Declared and not seen, as all tenants sum the same statistics, also one without a hole."""

    @model_validator(mode="after")
    def _of_its_kind(self) -> Self:
        declares = _DECLARES[self.kind]
        for name in ("low", "high", "levels", "upper"):
            if (getattr(self, name) is None) == (name in declares):
                raise ValueError(
                    f"column '{self.name}': a {self.kind} column needs `{name}`"
                    if name in declares
                    else f"column '{self.name}': a {self.kind} column has no `{name}`; leave it out, or set another `kind`"
                )
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise ValueError(f"column '{self.name}': low must be below high")
        for level in self.levels or ():
            if level in READ_AS_MISSING or level != level.strip():
                raise ValueError(
                    f"column '{self.name}': no cell of a CSV file reads as the level {level!r}; give it another name, without spaces "
                    "around it, and rename it in the data"
                )
        try:
            _ = self.described
        except CallerError as error:
            raise ValueError(str(error)) from None
        return self

    @property
    def described(self) -> DescribedColumn:
        """As the statistics know it."""
        match self.kind:
            case "gaussian":
                return GaussianColumn(self.name)
            case "categorical":
                return CategoricalColumn(self.name, self.levels or ())
            case "bernoulli":
                return BernoulliColumn(self.name)
            case "poisson":
                return PoissonColumn(self.name, float(self.upper or 0))

    @property
    def ends(self) -> tuple[float, float]:
        """Least and largest admissible number of a cell as the statistics know it."""
        match self.kind:
            case "gaussian":
                return self.low or 0.0, self.high or 0.0
            case "categorical":
                return 0.0, float(len(self.levels or ()) - 1)
            case "bernoulli":
                return 0.0, 1.0
            case "poisson":
                return 0.0, float(self.upper or 0)

    @model_serializer(mode="wrap")
    def _what_is_declared(self, fields: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Complete Gaussian columns are described as they were before there were others: the bytes, and so their hash, stay the same."""
        described: dict[str, Any] = fields(self)
        silent = {"kind": "gaussian", "missing": False}
        return {name: value for name, value in described.items() if value is not None and value != silent.get(name)}


class LabelsColumn(Table):
    """A column that says of rows which components may hold them: the number of one, from 0, or of several, as in "0|2".

    An empty cell leaves all of them open.
    """

    column: ColumnName


class WeightsColumn(Table):
    """A column that says for how many rows each row counts: a number from 0 to `upper`, in every row."""

    column: ColumnName
    upper: PositiveFloat
    """The largest weight there may be, on which the range of every sum rests."""


# What the columns say, and not [model].
_SAID_OF_COLUMNS = {
    "missing": "whether cells may be missing is said of columns: set `missing = true` in their [[columns]]",
    "columns": "declare each column in [[columns]], with its `kind`",
}


class SessionDescription(Table):
    """The columns and the model of one session.

    `model` is a model's own description without its columns, or their number and whether cells may be missing (which `columns`
    give).
    """

    title: Name
    columns: Annotated[tuple[Column, ...], Field(min_length=1, max_length=4096)]
    model: dict[str, Any]
    labels: LabelsColumn | None = None
    weights: WeightsColumn | None = None
    stream: Stream | None = None
    starts: Starts | None = None
    standard_errors: Literal[True] | None = None
    """Whether, once the model is fitted, one sum of statistic products (`fed_em.statistic_products`) is asked for."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = self.file_columns
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            raise ValueError(f"column '{twice}' stands twice")
        for key, remedy in _SAID_OF_COLUMNS.items():
            if key in self.model:
                raise ValueError(f"`{key}` is no matter of [model]: {remedy}")
        self._check_kinds()
        # Building it validates the description. Moments alone are a family too, and nothing to start EM from.
        if not isinstance(self.fitted_model, ComponentModel):
            raise ValueError(f"a model of the family '{self.fitted_model.family}' is no mixture to fit")
        if self.stream is not None and has_own_weights(self.fitted_model):
            raise ValueError(
                "a [stream] has no mixing weights of each tenant's own, which need all of its rows in every round: "
                'set mixing = "shared" in [model], or leave [stream] out'
            )
        if self.standard_errors and self.stream is not None:
            raise ValueError(
                "a [stream] ends at no maximum of a likelihood, and has no standard errors: leave one of them out"
            )
        _ = self.statistic_products  # making them says what there are no standard errors of
        if self.fitted_model.n_components > MAX_COMPONENTS:
            raise ValueError(
                f"a session's model has at most {MAX_COMPONENTS} components, not {self.fitted_model.n_components}"
            )
        self._check_candidates()
        return self

    def _check_candidates(self) -> None:
        if not all(most_candidates(candidates) for candidates in self.candidates):
            raise ValueError("a round of all candidates is more than one message holds: set fewer starts")

    def _check_kinds(self) -> None:
        other = next((column for column in self.columns if column.kind != "gaussian"), None)
        if other is not None and self.model.get("family") == GAUSSIAN_MIXTURE:
            raise ValueError(
                f"column '{other.name}' is {other.kind}, and a {GAUSSIAN_MIXTURE} has Gaussian columns only: "
                f'set family = "{MIXED_MIXTURE}" in [model]'
            )

    @model_serializer(mode="wrap")
    def _what_is_declared(self, fields: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """As of columns: what a session does not have is not described."""
        described: dict[str, Any] = fields(self)
        return {name: value for name, value in described.items() if value is not None}

    @property
    def names(self) -> tuple[str, ...]:
        """Column names, in order; without labels and weights."""
        return tuple(column.name for column in self.columns)

    @property
    def file_columns(self) -> tuple[str, ...]:
        """Names of all columns that a tenant's file has to have: the session's own, labels, weights."""
        others = (self.labels, self.weights)
        return (*self.names, *(other.column for other in others if other is not None))

    @cached_property
    def schema_of_columns(self) -> ColumnSchema:
        """The columns as the statistics know them."""
        return ColumnSchema(tuple(column.described for column in self.columns))

    @property
    def weight_bound(self) -> float:
        """The largest weight of a row; 1 where all count alike."""
        return 1.0 if self.weights is None else self.weights.upper

    @cached_property
    def low(self) -> NDArray[np.float64]:
        """Least admissible value of each column, `(D,)`."""
        return np.array([column.ends[0] for column in self.columns])

    @cached_property
    def high(self) -> NDArray[np.float64]:
        """Largest admissible value of each column, `(D,)`."""
        return np.array([column.ends[1] for column in self.columns])

    def cells_outside(self, rows: Rows) -> NDArray[np.intp]:
        """How many cells of each column of rows `(n, D)` are outside their declared ends, `(D,)`; missing ones are not."""
        outside: NDArray[np.intp] = np.count_nonzero((rows < self.low) | (rows > self.high), axis=0)
        return outside

    def check_cells(self, rows: Rows) -> None:
        """Raise `CallerError`, naming the column, unless all cells of rows `(n, D)` are there and in range, or declared as missing."""
        missing, outside = np.count_nonzero(np.isnan(rows), axis=0), self.cells_outside(rows)
        for d, column in enumerate(self.columns):
            if missing[d] and not column.missing:
                raise CallerError(
                    f"column '{column.name}' has {missing[d]} missing cells among {len(rows)} rows",
                    remedy="leave such rows out, or declare the column with `missing = true`",
                )
            if outside[d]:
                low, high = column.ends
                raise CallerError(
                    f"column '{column.name}' is outside the session's range [{low:g}, {high:g}] in "
                    f"{outside[d]} of {len(rows)} rows",
                    remedy="check units and entries; leave such rows out, or declare a wider range",
                )

    @cached_property
    def fitted_model(self) -> Model:
        """The model that the session fits."""
        if self.model.get("family") == MIXED_MIXTURE:
            return build_model({**self.model, "columns": self.schema_of_columns.describe()})
        may_be_missing = {"missing": True} if self.has_missing else {}
        return build_model({**self.model, "n_columns": len(self.columns), **may_be_missing})

    @cached_property
    def candidates(self) -> tuple[Candidates, ...]:
        """All that rounds of candidates may be of, between the moments and the rounds of the model; always of whole vectors."""
        if self.starts is None:
            return ()
        assert isinstance(self.fitted_model, GaussianMixtureModel | MixedMixtureModel)
        return (start_candidates([self.fitted_model], self.starts.n),)

    @property
    def candidate_rounds(self) -> int:
        """How many sums of candidates the session takes where none fails."""
        return 0 if self.starts is None else self.starts.rounds

    @property
    def last_candidate_round(self) -> int:
        """The number of the last round that may be of candidates: behind the moments, half as many again for rounds that fail.

        The server chooses the parameters of each candidate, so to one that is after more than the fit a round of R of them is worth R of
        the model. The bound is on the number of the round: a tenant that has forgotten what it was asked keeps it too.
        """
        return rounds_with_failures(1 + self.candidate_rounds) if self.candidates else 0

    @cached_property
    def statistic_products(self) -> StatisticProducts | None:
        """What is summed for standard errors; None if there are to be none."""
        if not self.standard_errors:
            return None
        model = self.fitted_model
        assert isinstance(model, GaussianMixtureModel | MixedMixtureModel)
        return StatisticProducts(model)

    @cached_property
    def first_round(self) -> Broadcast:
        """What the first round asks for: the moments that standardise the columns."""
        return first_round(self.fitted_model, self.low, self.high)

    @property
    def has_missing(self) -> bool:
        """Whether cells of any column may be missing."""
        return any(column.missing for column in self.columns)

    def total_of(self, model: Summand, total: Total) -> Total:
        """What EM goes by, given the sums of a round: in a stream their running average, but for the moments and starts before it."""
        if self.stream is None or model.describe() != self.fitted_model.describe():
            return total
        return StepwiseTotal(total, self.stream.schedule)

    def to_json(self) -> bytes:
        """The bytes whose SHA-256 the terms name."""
        return self.model_dump_json().encode()

    @classmethod
    def from_json(cls, data: bytes) -> SessionDescription:
        """Parse what a server sent. Raises `CallerError` naming the field."""
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            raise CallerError(f"the session's description: {complaint_of(error)}") from None

    def asks_for_moments(self, broadcast: Broadcast) -> bool:
        """Whether a broadcast asks for the moments that standardise the columns."""
        first = self.first_round
        return broadcast.model.describe() == first.model.describe() and broadcast.coordinates == first.coordinates

    def asks_for_the_model(self, broadcast: Broadcast) -> bool:
        """Whether a broadcast is about this session's model."""
        return broadcast.model.describe() == self.fitted_model.describe()

    def asks_for_candidates(self, broadcast: Broadcast) -> bool:
        """Whether a broadcast is about candidates that this session has."""
        return isinstance(broadcast.model, Candidates) and broadcast.model in self.candidates

    def asks_for_standard_errors(self, broadcast: Broadcast) -> bool:
        """Whether a broadcast asks for the products that standard errors follow from."""
        products = self.statistic_products
        return products is not None and broadcast.model.describe() == products.describe()


def rounds_with_failures(planned: int) -> int:
    """The most rounds that are admitted where so many sums are planned: half as many again for rounds that fail."""
    return planned + max(20, planned // 2)


def require_gateable(description: SessionDescription, mass_floor: float) -> None:
    """A session with a mass floor has no weights, or whoever chooses their column chooses whose records are summed.

    It is no stream either, and has no rounds of candidates.

    Nor has it standard errors: their sum holds moments of the records between two components, however few, which no count bounds.

    Raises:
        CallerError: it has one of them.
    """
    if mass_floor > 0 and description.candidates:
        raise CallerError(
            f"session '{description.title}' has rounds of candidates, and a mass floor: sums of several candidates "
            f"would differ by the components that the gate of each holds shut",
            remedy="set starts = 0 in [fit], or agree with all tenants on a session with mass_floor = 0",
        )
    if mass_floor > 0 and description.standard_errors:
        raise CallerError(
            f"session '{description.title}' has standard errors and a mass floor: their sum holds moments of the records between two "
            "components, and these may be one record where both components are large",
            remedy="set standard_errors = false in [fit], or agree with all tenants on a session with mass_floor = 0",
        )
    if mass_floor > 0 and description.stream is not None:
        raise CallerError(
            f"session '{description.title}' is a stream, which has no mass gate: components open in one batch and shut in the next "
            f"have no common average",
            remedy="leave out [stream], or agree with all tenants on a session with mass_floor = 0",
        )
    if mass_floor > 0 and description.weights is not None:
        raise CallerError(
            f"session '{description.title}' has weights (column '{description.weights.column}') and a mass floor: weights single out "
            f"the records that have some, in sums that no count of records bounds",
            remedy="leave out [weights], or agree with all tenants on a session with mass_floor = 0",
        )


def encoding_of(description: SessionDescription, broadcast: Broadcast, row_caps: Sequence[int]) -> Encoding:
    """The encoding of the statistics that a broadcast asks for, with its range proved.

    Raises:
        CallerError: the declared ranges and row caps leave too few fraction bits; names the column.
    """
    bounds = broadcast.coordinates.bounds(description.low, description.high)
    layout = broadcast.model.layout(bounds).of_weights_up_to(description.weight_bound)
    try:
        return Encoding.proved(layout, row_caps)
    except CallerError as error:
        gaussian = description.schema_of_columns.gaussian
        if not len(gaussian):
            raise
        widest = description.names[gaussian[int(np.argmax(bounds[gaussian]))]]
        raise CallerError(f"{error.message}; the widest column is '{widest}'", remedy=error.remedy) from None


def counts_encoding_of(model: Summand, row_caps: Sequence[int]) -> Encoding:
    """The encoding of a model's component counts (`fed_em.component_counts`), with its range proved: in the small ring if they fit.

    Raises:
        CallerError: the model has no components, or the row caps leave too few fraction bits.
    """
    if not isinstance(model, CountedModel):
        raise CallerError(
            f"a model of the family '{model.family}' has no components for a mass gate to count",
            remedy="set no mass floor in this session",
        )
    return Encoding.of_counts(counts_layout(model), row_caps)
