"""What a session is about, in words that both sides check: columns with their kinds and ranges, and the model.

The server sends it as JSON with the terms, which name its hash. From it, the roster and a broadcast every encoding of
the session follows by rule (`encoding_of`, `counts_encoding_of`), on either side alike.
"""

from __future__ import annotations

import math
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

from fed_em.bootstrap import MOST_SUMS, replicates_of
from fed_em.broadcast import Broadcast
from fed_em.candidates import Candidates
from fed_em.centres import Centres
from fed_em.columns import BernoulliColumn, CategoricalColumn, ColumnSchema, GaussianColumn, PoissonColumn
from fed_em.columns import Column as DescribedColumn
from fed_em.component_counts import counts_layout
from fed_em.coordinates import Coordinates
from fed_em.divergence import Mixture
from fed_em.em import Total
from fed_em.errors import CallerError
from fed_em.families import build_model
from fed_em.final_components import Simplification
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.measured_models import MeasuredModels
from fed_em.mixed_mixture import FAMILY as MIXED_MIXTURE
from fed_em.mixed_mixture import MixedMixtureModel
from fed_em.mixed_priors import MixedMixturePrior
from fed_em.model import ComponentModel, CountedSummand, Model, Rows, Summand
from fed_em.moderate import LEAST_VARIANCE, MOST_COUNTS
from fed_em.own_model import StartingModel
from fed_em.selection import Choice
from fed_em.standardised_fit import first_round
from fed_em.starts import FINER, fine_candidates, start_candidates
from fed_em.statistic_products import StatisticProducts
from fed_em.stepwise import StepwiseTotal
from fed_em.tenant_mixing import has_own_weights
from fed_em.tracks import MAX_TRACKS, TRACKS, tracks_of
from fed_em_protocols.configuration import Table, complaint_of
from fed_em_protocols.encoding import Encoding
from fed_em_protocols.final_components import FinalComponents, has_fewer_components
from fed_em_protocols.limits import MAX_COMPONENTS
from fed_em_protocols.measured import Measured
from fed_em_protocols.privacy.noise import private_encoding
from fed_em_protocols.privacy.promise import Privacy
from fed_em_protocols.ring import RING_64
from fed_em_protocols.roster import Name
from fed_em_protocols.selection import Selection
from fed_em_protocols.starts import Starts, most_candidates, starts_by_centres
from fed_em_protocols.stream import Stream

# Levels of a column, and the largest count that a column can declare.
MAX_LEVELS = 4096
MAX_COUNT = 2**31

# Of a bootstrap.
MAX_REPLICATES = 256

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
    selection: Selection | None = None
    tracks: Annotated[int, Field(ge=TRACKS, le=MAX_TRACKS)] | None = None
    """Of how many tracks of its fit sums of the model may be at most (`fed_em.tracks`); None if they are of the model alone."""
    standard_errors: Literal[True] | None = None
    """Whether, once the model is fitted, one sum of statistic products (`fed_em.statistic_products`) is asked for."""
    bootstrap: Annotated[int, Field(ge=2, le=MAX_REPLICATES)] | None = None
    """How many replicates (`fed_em.bootstrap`) are fitted once the model is; None for no bootstrap."""
    final_components: FinalComponents | None = None
    """What becomes of components at the end; None: all stay, in the order of the start."""
    privacy: Privacy | None = None
    """What noise in every sum promises of records or tenants; None if sums are opened as they are."""
    measured: Measured | None = None
    """What the session measures, if it measures fitted models in one sum and fits nothing: `model` is then that of the first."""

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
        self._check_selection()
        # Building them validates the description. Moments alone are a family too, and nothing to start EM from.
        if isinstance(self.fitted_model, StartingModel):
            self._check_own_model(self.fitted_model)
        elif not isinstance(self.fitted_model, ComponentModel):
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
        if self.bootstrap and (self.stream is not None or self.standard_errors):
            raise ValueError(
                "a bootstrap is of a fit to all rows, and gives standard errors: leave out [stream] and standard_errors"
            )
        self._check_tracks()
        self._check_final_components()
        for model in self.models:
            self.products_of(model)  # making them says what there are no standard errors of
        self._check_finer()
        if self.most_components > MAX_COMPONENTS:
            raise ValueError(
                f"a session sums at most {MAX_COMPONENTS} components, not {self.most_components}: its model's, or those of finer starts"
            )
        self._check_candidates()
        self._check_privacy()
        self._check_measured()
        return self

    def _check_own_model(self, model: StartingModel) -> None:
        """What is worked out for mixtures in the box alone has no place in a session that fits another model."""
        asked_too = {
            "labels": self.labels,
            "weights": self.weights,
            "a [selection]": self.selection,
            "starts": self.starts,
            "tracks of its fit": self.tracks,
            "standard errors": self.standard_errors,
            "a bootstrap": self.bootstrap,
            "components that are left out or merged": self.final_components,
            "[privacy]": self.privacy,
            "measurements": self.measured,
        }
        for what, asked in asked_too.items():
            if asked:
                raise ValueError(f"a session that fits a model of the family '{model.family}' cannot have {what}")
        if model.n_columns != len(self.columns):
            raise ValueError(f"the model has {model.n_columns} columns, the session {len(self.columns)}")
        if self.has_missing and not model.missing:
            raise ValueError(f"a model of the family '{model.family}' admits no missing cells: leave such rows out")

    def _check_measured(self) -> None:
        if self.measured is None:
            return
        asked_too = (
            self.labels,
            self.stream,
            self.starts,
            self.selection,
            self.tracks,
            self.standard_errors,
            self.bootstrap,
        )
        if any(asked_too):
            raise ValueError("a measurement is of one sum of rows and weights: it has nothing else that a fit may have")
        models = self.measured.summand.models
        agreed = [build_model({**_without_columns(model.describe()), **self._columns_described}) for model in models]
        if list(models) != agreed:
            raise ValueError("the models that are measured are over other columns than the session")
        if models[0] != build_model({**self.model, **self._columns_described}):
            raise ValueError("the model of a measurement is the first one that it measures")

    def _check_privacy(self) -> None:
        """What has no bound a record, or sums that are no fit's, has no place in a session that promises something of records.

        Of a measurement everything has one, whatever the models and the records are (`fed_em.measured_models`).
        """
        if self.privacy is None or self.measured is not None:
            return
        hole = next((column for column in self.columns if column.missing and column.kind == "gaussian"), None)
        held_out = self.selection is not None and self.selection.share is not None
        counts = sum(column.upper or 0 for column in self.columns)
        refusals = (
            (self.stream is not None, "a [stream]"),
            (self.tracks is not None, "tracks of its fit"),
            (self.standard_errors is not None, "standard errors"),
            (self.bootstrap is not None, "a bootstrap"),
            (held_out, "held-out rows, whose log-likelihood one record can change without bound"),
            (has_own_weights(self.fitted_model), "mixing weights of each tenant's own"),
            (
                hole is not None,
                f"a Gaussian column with missing cells ('{hole.name if hole else ''}'), of which a record may expect anything",
            ),
            (counts > MOST_COUNTS, f"counts up to {counts:,} together, more than {MOST_COUNTS:,}"),
        )
        for has, what in refusals:
            if has:
                raise ValueError(f"a session with [privacy] cannot have {what}: leave one of them out")
        self._check_floor()
        self._check_prior()

    def _check_prior(self) -> None:
        """Noise can leave a level, an answer or a count without any records: a prior keeps them possible."""
        model = self.fitted_model
        prior = (model.prior if isinstance(model, MixedMixtureModel) else None) or MixedMixturePrior()
        schema = self.schema_of_columns
        needed = {
            "level_records": len(schema.categorical) > 0 and not prior.level_records,
            "bernoulli_records": len(schema.bernoulli) > 0 and not prior.bernoulli_records,
            "poisson_records": len(schema.poisson) > 0
            and not (prior.poisson_records and all(rate > 0 for rate in prior.poisson_rates)),
        }
        lacking = [f"{name} = 1.0" for name, lacks in needed.items() if lacks]
        if lacking:
            rates = " with positive poisson_rates, one of each count column" if needed["poisson_records"] else ""
            raise ValueError(
                "a session with [privacy] over discrete columns needs a prior, as noise can leave a level without any records: "
                f"set {', '.join(lacking)}{rates} in [model.prior]"
            )

    def _check_floor(self) -> None:
        """At parameters where a variance is smaller, no tenant evaluates anything (`fed_em.moderate`)."""
        floor = min(getattr(model, "covariance_floor", LEAST_VARIANCE) for model in self.models)
        if len(self.schema_of_columns.gaussian) and floor < LEAST_VARIANCE:
            raise ValueError(
                f"a session with [privacy] needs a covariance_floor of {LEAST_VARIANCE:g} or more in [model], not {floor:g}"
            )

    def _check_selection(self) -> None:
        if self.selection is None:
            return
        self.selection.check_model(self.model)
        if self.stream is not None:
            raise ValueError(
                "a [stream] does not converge, and nothing says which model is best: leave out [selection]"
            )
        if self.labels is not None and len(self.selection.components) > 1:
            raise ValueError("[labels] are of components, and say how many there are: name one number in [selection]")
        if self.selection.covariances is not None and not len(self.schema_of_columns.gaussian):
            raise ValueError("no column is Gaussian: leave `covariances` out of [selection]")
        if has_own_weights(self.fitted_model):
            raise ValueError(
                "models to pick from have no mixing weights of each tenant's own: leave `mixing` out of [model]"
            )

    def _check_tracks(self) -> None:
        if self.tracks is None:
            return
        if self.stream is not None or has_own_weights(self.fitted_model):
            raise ValueError(
                "a [stream], or mixing weights of each tenant's own, have no optimiser to run on tracks: set tracks = 1 in [fit]"
            )
        if self.tracks > TRACKS and self.starts is None:
            raise ValueError(
                f"more than {TRACKS} tracks are from several starts, and there are none: set tracks = {TRACKS} in [fit]"
            )
        if self.starts is not None and self.starts.n < self.tracks:
            raise ValueError(
                f"{self.tracks} tracks could be summed as {self.starts.n + 1} starts are: set tracks = 1 in [fit], or no more than starts"
            )

    def _check_final_components(self) -> None:
        if self.final_components is None:
            return
        if self.labels is not None or has_own_weights(self.fitted_model):
            raise ValueError(
                "components that [labels] name, or that tenants have mixing weights of their own of, keep their numbers: "
                "set least_weight = 0 and least_distance = 0 in [fit]"
            )
        if self.simplifies and (self.stream is not None or self.privacy is not None):
            raise ValueError(
                "components of a [stream] or of a session with [privacy] are not left out or merged, as no sums come after its last: "
                "set least_weight = 0 and least_distance = 0 in [fit]"
            )

    def _check_finer(self) -> None:
        if self.starts is None or not self.starts.finer:
            return
        others = (
            (not all(isinstance(model, GaussianMixtureModel) for model in self.models), "of Gaussian mixtures alone"),
            (self.labels is not None, "of other components than [labels] are"),
            (self.privacy is not None, "no sets of centres, as those of a [privacy] session are"),
        )
        for refused, why in others:
            if refused:
                raise ValueError(f"finer starts are {why}: leave finer_starts out of [fit]")

    def _check_candidates(self) -> None:
        of_models = [each for model in self.models for each in (self.replicates_of(model), self.most_tracks_of(model))]
        if not all(most_candidates(each) for each in (*self._all_candidates, *of_models) if each is not None):
            raise ValueError(
                "a round of all candidates is more than one message holds: set fewer starts, replicates or tracks, or fewer models in "
                "[selection]"
            )

    def _check_kinds(self) -> None:
        other = next((column for column in self.columns if column.kind != "gaussian"), None)
        family = self.model.get("family")
        if other is not None and family != MIXED_MIXTURE:
            raise ValueError(
                f"column '{other.name}' is {other.kind}, and a {family} has Gaussian columns only: "
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
    def models(self) -> tuple[Model, ...]:
        """The model that the session fits, or all that it picks one from."""
        described = [self.model] if self.selection is None else self.selection.models(self.model)
        if self.measured is not None:
            return self.measured.summand.models
        return tuple(build_model({**each, **self._columns_described}) for each in described)

    @property
    def fitted_model(self) -> Model:
        """The model that the session fits; the first of those that it picks from, which differ in components and structure alone."""
        return self.models[0]

    @property
    def most_components(self) -> int:
        """Of any model that the session may fit, or start from; 0 where none has components."""
        times = FINER if self.starts is not None and self.starts.finer else 1
        return times * max(getattr(model, "n_components", 0) for model in self.models)

    @cached_property
    def _columns_described(self) -> Mapping[str, Any]:
        """The columns as the description of a model has them."""
        if self.model.get("family") == MIXED_MIXTURE:
            return {"columns": self.schema_of_columns.describe()}
        may_be_missing = {"missing": True} if self.has_missing else {}
        return {"n_columns": len(self.columns), **may_be_missing}

    def choice(self, key: bytes = b"") -> Choice | None:
        """What the session picks its model from; None if it has one model.

        Args:
            key: What held-out rows are drawn from. What is sent has an empty one: each tenant has its own.
        """
        if self.selection is None:
            return None
        held_out = self.selection.held_out_rows(key)
        return Choice(self.models, self.selection.criterion, held_out, self.selection.max_iterations)

    @cached_property
    def candidates(self) -> tuple[Candidates | Centres, ...]:
        """All that rounds of starts may be of, between the moments and the rounds of the model; always of whole vectors."""
        if self.starts is None:
            return ()
        if self.by_centres:
            model = self.fitted_model
            assert isinstance(model, GaussianMixtureModel)
            return (Centres(self.starts.n, model.n_components, model.n_columns),)
        mixtures = [model for model in self.models if isinstance(model, Mixture)]
        candidates = start_candidates(mixtures, self.starts.n)
        if not self.starts.finer:
            return (candidates,)
        gaussian = [model for model in mixtures if isinstance(model, GaussianMixtureModel)]
        return (candidates, fine_candidates(gaussian, self.starts.n))

    @property
    def by_centres(self) -> bool:
        """Whether starts are sets of centres."""
        return starts_by_centres(self.models, self.privacy is not None)

    @property
    def candidate_rounds(self) -> int:
        """How many sums of candidates the session takes at most where none fails."""
        of_starts = 0 if self.starts is None else self.starts.rounds(self.by_centres)
        return of_starts + (0 if self.selection is None else self.selection.rounds)

    def takes_whole_vectors(self, model: Summand) -> bool:
        """Whether no sums of a model are of increments.

        In a stream each is of other rows, and of products there is one sum only. In increments noise would pile up. Starts go on from
        the sums of whoever is there; fits to pick from, as the fit of one model, from the last terms of everybody.
        """
        whole = self.stream is not None or self.privacy is not None
        return whole or isinstance(model, StatisticProducts | MeasuredModels) or model in self.candidates

    def radius_of(self, model: Summand, coordinates: Coordinates) -> float | None:
        """R, of the ball that records are scaled into where a model is summed in some coordinates; None without privacy.

        That of the first moments is the ball around the declared ranges, which are [−1, 1] there. Records that are measured stay where
        they are.
        """
        if self.privacy is None or isinstance(model, MeasuredModels):
            return None
        return (
            math.sqrt(max(len(self.schema_of_columns.gaussian), 1))
            if self._is_first(model, coordinates)
            else self.privacy.radius
        )

    @property
    def noise_multiplier(self) -> float | None:
        """z of each sum, which is what a tenant spends by answering; None without privacy."""
        return None if self.privacy is None else self.privacy.noise_multiplier

    @property
    def last_candidate_round(self) -> int:
        """The last round that may be of candidates: behind the moments, half as many again for rounds that fail or come to nothing.

        The server chooses the parameters of each candidate, so to one that is after more than the fit a round of R of them is worth R of
        the model. The bound is on the number of the round: a tenant that has forgotten what it was asked keeps it too.
        """
        return rounds_with_failures(1 + self.candidate_rounds) if self.candidate_rounds else 0

    def products_of(self, model: Summand) -> StatisticProducts | None:
        """What is summed for standard errors of a model that the session ends with; None if there are to be none."""
        if not self.standard_errors:
            return None
        assert isinstance(model, Mixture)
        return StatisticProducts(model)

    def replicates_of(self, model: Summand) -> Candidates | None:
        """The replicates of a model that the session ends with, without anybody's key; None if there are to be none."""
        if not self.bootstrap:
            return None
        assert isinstance(model, Mixture)
        return replicates_of(model, self.bootstrap)

    def most_tracks_of(self, model: Model) -> Candidates | None:
        """What the sums of a model that the session fits are of at most; None if they are of the model itself."""
        return tracks_of(model, self.tracks) if self.tracks else None

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
        """Whether a broadcast asks for the moments that standardise the columns; in a session that measures, none does."""
        return self.measured is None and self._is_first(broadcast.model, broadcast.coordinates)

    def _is_first(self, model: Summand, coordinates: Coordinates) -> bool:
        first = self.first_round
        return model.describe() == first.model.describe() and coordinates == first.coordinates

    def asks_for_the_model(self, broadcast: Broadcast) -> bool:
        """Whether a broadcast is about this session's model, or any that it picks from; in a session that measures, none is."""
        return self.measured is None and self._may_end_with(broadcast.model)

    @property
    def final(self) -> Simplification | None:
        """As the fit takes it."""
        return None if self.final_components is None else self.final_components.simplification

    @property
    def simplifies(self) -> bool:
        """Whether the fit may go on with fewer components."""
        return self.final is not None and self.final.wanted

    def may_go_on(self, before: Summand, after: Summand) -> bool:
        """Whether rounds of one model may be followed by rounds of another: of the same, or of what is left of it."""
        return before == after or (self.simplifies and has_fewer_components(after, before))

    def _may_end_with(self, model: Summand) -> bool:
        """Whether it is this session's model, any that it picks from, or what may be left of one."""
        described = model.describe()
        if any(described == each.describe() for each in self.models):
            return True
        return self.simplifies and any(has_fewer_components(model, each) for each in self.models)

    def asks_for_candidates(self, broadcast: Broadcast) -> bool:
        """Whether a broadcast is about candidates that the session has, without anybody's key."""
        return isinstance(broadcast.model, Candidates | Centres) and broadcast.model in self._all_candidates

    @cached_property
    def _all_candidates(self) -> tuple[Candidates | Centres, ...]:
        choice = self.choice()
        return self.candidates if choice is None else (*self.candidates, choice.candidates)

    def asks_for_tracks(self, broadcast: Broadcast) -> bool:
        """Whether a broadcast is about the tracks of this session's model, or of any that it picks from."""
        asked = broadcast.model
        if self.tracks is None or not isinstance(asked, Candidates) or not TRACKS <= len(asked.models) <= self.tracks:
            return False
        return any(asked == tracks_of(model, len(asked.models)) for model in self.models)

    def asks_for_standard_errors(self, broadcast: Broadcast) -> bool:
        """Whether a broadcast asks for the products that standard errors follow from."""
        asked = broadcast.model
        return (
            isinstance(asked, StatisticProducts)
            and self._may_end_with(asked.model)
            and asked == self.products_of(asked.model)
        )

    def asks_to_measure(self, broadcast: Broadcast) -> bool:
        """Whether a broadcast is the one that this session measures, all of it: models, parameters, coordinates and edges."""
        return self.measured is not None and self.measured.is_of(broadcast)

    def asks_for_replicates(self, broadcast: Broadcast) -> bool:
        """Whether a broadcast is about replicates of a model that the session may end with."""
        asked = broadcast.model
        return (
            isinstance(asked, Candidates)
            and self._may_end_with(asked.models[0])
            and asked == self.replicates_of(asked.models[0])
        )


def _without_columns(described: Mapping[str, Any]) -> dict[str, Any]:
    """A model's description as a session has it, whose columns say the rest."""
    return {name: value for name, value in described.items() if name not in ("n_columns", "missing", "columns")}


def measuring(
    title: str,
    columns: tuple[Column, ...],
    weights: WeightsColumn | None,
    broadcast: Broadcast,
    privacy: Privacy | None = None,
) -> SessionDescription:
    """The description of a session that measures what a broadcast asks for (`fed_em.reference.broadcast_of`).

    Args:
        title, columns, weights: Of the session that fits such models.
        broadcast: What is asked for.
        privacy: What noise in the sum promises of records or tenants; None if it is opened as it is.

    Raises:
        CallerError: the models do not fit the columns.
    """
    summand = broadcast.model
    if not isinstance(summand, MeasuredModels):
        raise CallerError(f"a '{summand.family}' is no measurement")
    try:
        return SessionDescription(
            title=title,
            columns=columns,
            model=_without_columns(summand.models[0].describe()),
            weights=weights,
            privacy=privacy,
            measured=Measured.of(broadcast),
        )
    except ValidationError as error:
        raise CallerError(f"the session that measures: {complaint_of(error)}") from None


def rounds_with_failures(planned: int) -> int:
    """The most rounds that are admitted where so many sums are planned: half as many again for rounds that fail or come to nothing."""
    return planned + max(20, planned // 2)


# The most rounds from the first of replicates to the last.
REPLICATE_ROUNDS = rounds_with_failures(MOST_SUMS)


def require_gateable(description: SessionDescription, mass_floor: float) -> None:
    """A session with a mass floor has no weights, or whoever chooses their column chooses whose records are summed.

    It is no stream either, and has no rounds of candidates or tracks.

    Nor has it standard errors: their sum holds moments of the records between two components, however few, which no count bounds.

    Raises:
        CallerError: it has one of them.
    """
    if mass_floor <= 0:
        return
    weights = "" if description.weights is None else description.weights.column
    refusals = (
        (
            not isinstance(description.fitted_model, CountedSummand),
            "fits a model with no components to count, and has a mass floor",
            "fit a mixture",
        ),
        (
            description.candidate_rounds,
            "has rounds of candidates, and a mass floor: sums of several candidates would differ by the components that the gate of each "
            "holds shut",
            "set starts = 0 in [fit] and leave out [selection]",
        ),
        (
            description.tracks,
            "has tracks of its fit, and a mass floor: their sums would differ by the components that the gate of each holds shut",
            "set tracks = 1 in [fit]",
        ),
        (
            description.bootstrap,
            "has a bootstrap and a mass floor: how much a component holds in a replicate is no number of records",
            "leave bootstrap out of [fit]",
        ),
        (
            description.simplifies,
            "leaves out or merges components, and has a mass floor: the gate of what is left would let other moments through",
            "set least_weight = 0 and least_distance = 0 in [fit]",
        ),
        (
            description.standard_errors,
            "has standard errors and a mass floor: their sum holds moments of the records between two components, and these may be one "
            "record where both components are large",
            "set standard_errors = false in [fit]",
        ),
        (
            description.stream,
            "is a stream, which has no mass gate: components open in one batch and shut in the next have no common average",
            "leave out [stream]",
        ),
        (
            description.weights,
            f"has weights (column '{weights}') and a mass floor: weights single out the records that have some, in sums that no count of "
            "records bounds",
            "leave out [weights]",
        ),
    )
    for has, what, without in refusals:
        if has:
            raise CallerError(
                f"session '{description.title}' {what}",
                remedy=f"{without}, or agree with all tenants on a session with mass_floor = 0",
            )


def encoding_of(description: SessionDescription, broadcast: Broadcast, row_caps: Sequence[int]) -> Encoding:
    """The encoding of the statistics that a broadcast asks for. Raises as `encoding_for`."""
    return encoding_for(description, broadcast.model, broadcast.coordinates, row_caps)


def encoding_for(
    description: SessionDescription, model: Summand, coordinates: Coordinates, row_caps: Sequence[int]
) -> Encoding:
    """The encoding of a model's statistics in some coordinates, with its range proved.

    Raises:
        CallerError: the declared ranges and row caps leave too few fraction bits; names the column.
    """
    bounds, radius = coordinates.bounds(description.low, description.high), description.radius_of(model, coordinates)
    if description.privacy is not None:
        _require_finite(description, bounds)
    layout = model.layout(bounds, radius).of_weights_up_to(description.weight_bound)
    if description.privacy is not None:
        return private_encoding(layout, row_caps, description.privacy)
    try:
        return Encoding.proved(layout, row_caps)
    except CallerError as error:
        gaussian = description.schema_of_columns.gaussian
        if not len(gaussian):
            raise
        widest = description.names[gaussian[int(np.argmax(bounds[gaussian]))]]
        raise CallerError(f"{error.message}; the widest column is '{widest}'", remedy=error.remedy) from None


def _require_finite(description: SessionDescription, bounds: NDArray[np.float64]) -> None:
    """Where some value of a range is beyond all numbers, only a record that has it could not be summed, and no noise hides a fault."""
    for d in np.flatnonzero(~np.isfinite(bounds)):
        raise CallerError(
            f"in the server's coordinates column '{description.names[d]}' has no finite range",
            remedy="ask the server's operator; this tenant answers nothing there, whatever its rows are",
        )


def counts_encoding_of(model: Summand, row_caps: Sequence[int], privacy: Privacy | None = None) -> Encoding:
    """The encoding of a model's component counts (`fed_em.component_counts`), with its range proved: in the small ring if they fit.

    Private counts are in the large ring, on the grid of their noise.

    Raises:
        CallerError: the model has no components, or the row caps leave too few fraction bits.
    """
    if not isinstance(model, CountedSummand):
        raise CallerError(
            f"a model of the family '{model.family}' has no components for a mass gate to count",
            remedy="set no mass floor in this session",
        )
    if privacy is not None:
        return private_encoding(counts_layout(model), row_caps, privacy, RING_64.for_counts)
    return Encoding.of_counts(counts_layout(model), row_caps)
