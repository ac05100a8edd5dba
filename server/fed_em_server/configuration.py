"""The server's configuration: one TOML file a session. Paths in it are relative to the file."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, FiniteFloat, PositiveFloat, SecretStr, ValidationError, model_validator

from fed_em.beginnings import Beginning, BestCentres, BestOf, FromLabels, FromModel, OneDraw
from fed_em.candidates import Candidates
from fed_em.em import Stopping
from fed_em.errors import CallerError
from fed_em.gaussian_mixture import FAMILY as GAUSSIAN_MIXTURE
from fed_em.mixed_mixture import FAMILY as MIXED_MIXTURE
from fed_em.model import ComponentModel, Model
from fed_em.model_file import load_model
from fed_em.moderate import LEAST_VARIANCE, MOST_RADIUS
from fed_em.optimiser import EM, L_BFGS, can_leap
from fed_em.own_model import StartingModel
from fed_em.priors import NONE
from fed_em.tenant_mixing import has_own_weights
from fed_em.tracks import MAX_TRACKS, TRACKS
from fed_em_client.observability.settings import LogTable, SessionMetricsTable, TracesTable
from fed_em_protocols.addresses import Address
from fed_em_protocols.configuration import Table, complaint_of, read_configuration
from fed_em_protocols.coordinator_state import Timetable
from fed_em_protocols.description import (
    MAX_REPLICATES,
    Column,
    LabelsColumn,
    SessionDescription,
    WeightsColumn,
    require_gateable,
)
from fed_em_protocols.final_components import FinalComponents
from fed_em_protocols.graph_parameters import CORRECTNESS_BITS, SECURITY_BITS
from fed_em_protocols.limits import MAX_GRAPH_BITS, MAX_WINDOW_ROUNDS
from fed_em_protocols.privacy.accounting import noise_for
from fed_em_protocols.privacy.promise import SAMPLING_SLACK, Privacy, Unit
from fed_em_protocols.roster import Name
from fed_em_protocols.selection import Selection
from fed_em_protocols.starts import MAX_GENERATIONS, MAX_STARTS, Starts, most_candidates, starts_by_centres
from fed_em_protocols.stream import Stream
from fed_em_protocols.terms import Trust
from fed_em_server.default_prior import named_prior, weak_prior
from fed_em_server.registry.canary_rule import CanaryRule

_SQLITE = "sqlite:///"

# Of `[fit] start`, what names no folder.
LABELS = "labels"

# Of a fit with noise in its sums, where nothing else is said.
PRIVATE_STOPPING = Stopping(tolerance=0.0, max_iterations=10)
_PRIVATE_STARTS = 5

# Tracks of a fit at most, where nothing else is said: what more of them lead to is hardly ever better (docs/adr/0023).
_TRACKS = 6

# Of a private measurement, that may fail after the tenants answered.
_SPARE_MEASUREMENTS = 1


class TrustTable(Table):
    """Against whom the session protects, and how. Each tenant's own policy must admit it."""

    mode: Literal["malicious-server", "semi-honest"] = "malicious-server"
    """`semi-honest` saves a trip a round, and a server that breaks the protocol could learn more than sums."""
    colluders: Annotated[int, Field(ge=0)] | None = None
    """f; by default ⌊(n − 1)/3⌋, and ⌊n/20⌋ of more than 64 tenants."""
    minimum_cohort: Annotated[int, Field(ge=2)] | None = None
    """m; by default f + 2."""
    minimum_survivors: Annotated[int, Field(ge=3)] | None = None
    """u_min; see `fed_em_protocols.session_numbers.default_survivors`."""
    difference_guard: Literal["blocks", "off"] = "blocks"
    """Whether every sum holds each block of the roster whole or not at all."""
    mass_floor: Annotated[FiniteFloat, Field(ge=0)] = 0.0
    """The least mass of a component whose moments are opened, in records; 0 = no gate."""
    dropouts: Annotated[FiniteFloat, Field(ge=0, lt=1)] | None = None
    """δ, of more than 64 tenants: the share that may be missing from a round, blocks included; by default a tenth."""
    graph: Literal["auto", "complete"] = "auto"
    """`complete`: every two tenants share masks though they are more than 64, up to 128; that costs more, and withstands more."""
    security_bits: Annotated[int, Field(ge=1, le=MAX_GRAPH_BITS)] = SECURITY_BITS
    """σ of a sparse graph: each draw of it may be unsafe with a probability of 2^−σ. Tenants' policies demand as much by default."""
    correctness_bits: Annotated[int, Field(ge=1, le=MAX_GRAPH_BITS)] = CORRECTNESS_BITS
    """η of a sparse graph: a round with no more missing than `dropouts` fails with a probability of 2^−η."""
    window_rounds: Annotated[int, Field(ge=1, le=MAX_WINDOW_ROUNDS)] = 64
    """W."""

    @property
    def trust(self) -> Trust:
        """As the protocol names it."""
        return Trust[self.mode.upper().replace("-", "_")]

    @model_validator(mode="after")
    def _says_it_once(self) -> Self:
        if self.dropouts is not None and self.minimum_survivors is not None:
            raise ValueError("dropouts and minimum_survivors say the same: give one of them")
        return self


class FitTable(Table):
    """How the model is fitted."""

    tolerance: Annotated[FiniteFloat, Field(ge=0)] = 1e-6
    """Converged when the objective changes by less than this, in nats a row, between two complete rounds."""
    max_iterations: Annotated[int, Field(ge=1)] = 200
    seed: Annotated[int, Field(ge=0)] = 0
    starts: Annotated[int, Field(ge=0, le=MAX_STARTS)] | None = None
    """How many starts are drawn, evaluated side by side and followed for a few rounds before the best goes on; 0: one draw goes on as it
    is. By default 20, or as many as one message holds; 0 where there is nothing to choose or it cannot be: with one component, in a
    stream, or with a mass floor."""
    generations: Annotated[int, Field(ge=0, le=MAX_GENERATIONS)] = 0
    """How often moves between the best of these starts take the place of the others, which is 15 sums more each time: where many
    components overlap in few columns, eighteen sums seldom find the best optimum."""
    finer_starts: bool = False
    """Whether starts are half as many of twice as many components at first, which are then reduced to starts of the model: as many sums,
    of as much payload. Where many components overlap in few columns it finds the best optimum more often. Of Gaussian mixtures; tenants'
    policies must admit twice the components."""
    start: Annotated[str, Field(min_length=1)] | None = None
    """Where to start instead: "labels" for the components of labelled rows, or the folder of a model that was fitted before."""
    optimiser: Literal["em", "squarem", "lbfgs"] | None = None
    """What proposes the parameters of the next round; in rounds whose sum is not whole it is EM (`fed_em.optimiser`). By default
    L-BFGS, and EM where there is nothing else: in a stream, with mixing weights of each tenant's own, of a model without a `chart`."""
    tracks: Annotated[int, Field(ge=1, le=MAX_TRACKS)] | None = None
    """On how many tracks L-BFGS runs at most (`fed_em.tracks`): two from the best start, and one from each of the next starts that are
    unlike those before. They are of the same rounds, each of as many times the payload as there are tracks, and at most one for each
    start that is drawn. By default six where it can be, and two without starts to choose from; one with another optimiser, one component,
    a mass floor or a model of one's own, and where one message does not hold two."""
    standard_errors: bool = False
    """Whether one more sum, once the model is fitted, gives standard errors of its parameters; never with a mass floor."""
    bootstrap: Annotated[int, Field(ge=2, le=MAX_REPLICATES)] | None = None
    """How many replicates of the rows give them instead, by some thirty sums more of all of them; never with a mass floor."""
    least_weight: Annotated[FiniteFloat, Field(ge=0, lt=1)] = 0.0
    """Components of less weight are left out once the fit has ended, and it goes on without them, within max_iterations in all; never with
    labels, a mass floor, mixing weights of each tenant's own, in a stream or a private session."""
    least_distance: Annotated[FiniteFloat, Field(ge=0)] = 0.0
    """Components nearer to each other than this Bhattacharyya distance are merged, likewise."""

    @property
    def stopping(self) -> Stopping:
        """As the EM loop takes it."""
        return Stopping(self.tolerance, self.max_iterations)


class PrivacyTable(Table):
    """Differential privacy of all that the session opens, by noise inside its sums."""

    epsilon: Annotated[FiniteFloat, Field(gt=0)]
    delta: Annotated[FiniteFloat, Field(gt=0, lt=0.01)]
    unit: Unit = "record"
    """Whose presence is hidden: each record's, or each tenant's with all its records."""
    radius: Annotated[FiniteFloat, Field(gt=0, le=MOST_RADIUS)] | None = None
    """R, of the ball that standardised records are scaled into; by default √D + 1 for D Gaussian columns."""
    spare_sums: Annotated[int, Field(ge=0)] = 2
    """How many sums may fail after the tenants answered; each that does is paid for."""
    measurement_epsilon: Annotated[FiniteFloat, Field(gt=0)] | None = None
    """ε of each measurement of fitted models (`fed-em measure`, `operate`, `registry canary`), at the same δ and of the same unit; without
    it there are none."""


class TimesTable(Table):
    """How long the server waits, in seconds; see `fed_em_protocols.coordinator_state.Timetable`."""

    gather: PositiveFloat = 60.0
    patience: Annotated[FiniteFloat, Field(ge=0)] = 2.0
    set_up: PositiveFloat = 15.0
    upload: PositiveFloat = 60.0
    quorum: Annotated[FiniteFloat, Field(gt=0, le=1)] = 0.75
    straggler: PositiveFloat = 5.0
    open: PositiveFloat = 10.0
    pause: PositiveFloat = 600.0

    def timetable(self) -> Timetable:
        """As the protocol takes it."""
        return Timetable(**self.model_dump())


class DashboardTable(Table):
    """A page that shows the session while it runs, to this machine alone; see `fed_em_server.live_page`."""

    listen: Address = "127.0.0.1:0"
    """Port 0 for any that is free."""


class CheckpointsTable(Table):
    """Where the server keeps what another process of it needs to go on with a session."""

    url: SecretStr | None = None
    """A database: "sqlite:///FILE", or "postgresql+psycopg://USER@HOST/DATABASE". By default `checkpoints.sqlite` in `output`."""


class ServerConfiguration(Table):
    """A session, as the server's operator writes it."""

    title: Name
    listen: Address = "127.0.0.1:8443"
    roster: Path = Path("roster.json")
    keys: Path = Path("keys")
    """Folder with `identity.key` and `tls.key`, as `fed-em keygen` makes it."""
    output: Path = Path("result")
    """Folder for the model, the record of the session, its transcript and the report."""
    transcript_uploads: bool = False
    """Whether the transcript keeps the masked vectors too, and not their hashes alone: sums can then be unmasked again by whoever
    verifies it. They are as large as all that tenants upload."""
    columns: Annotated[tuple[Column, ...], Field(min_length=1)]
    model: dict[str, Any]
    """Its description without columns; `prior` may also be a name (`fed_em_server.default_prior`), by default "weak"."""
    labels: LabelsColumn | None = None
    """The column that says which components may hold a row, if there is one."""
    weights: WeightsColumn | None = None
    """The column that says for how many rows each counts, if there is one; never in a session with a mass floor."""
    stream: Stream | None = None
    """Stepwise EM over minibatches; without it, every round is over all rows. Never in a session with a mass floor."""
    selection: Selection | None = None
    """Several models to pick one from; without it, there is the one of [model]. Never in a session with a mass floor, or a stream."""
    privacy: PrivacyTable | None = None
    """Without it, sums are opened as they are."""
    trust: TrustTable = TrustTable()
    fit: FitTable = FitTable()
    times: TimesTable = TimesTable()
    dashboard: DashboardTable | None = None
    """Without it, there is a page only where the command asks for one."""
    canary: CanaryRule = CanaryRule()
    """When a version of the model replaces the one in use (`fed-em registry canary`)."""
    metrics: SessionMetricsTable = SessionMetricsTable()
    log: LogTable = LogTable()
    traces: TracesTable = TracesTable()
    checkpoints: CheckpointsTable = CheckpointsTable()

    @model_validator(mode="before")
    @classmethod
    def _private_defaults(cls, said: Any) -> Any:
        """Every sum costs: fewer of them, and no waiting for a log-likelihood with noise in it to stand still."""
        if not isinstance(said, dict) or said.get("privacy") is None:
            return said
        fit = said.get("fit", {})
        fit = fit.model_dump(exclude_unset=True) if isinstance(fit, FitTable) else fit
        model = said.get("model")
        if not isinstance(fit, dict) or not isinstance(model, dict):
            return said
        # At parameters where a variance is smaller nothing is evaluated.
        floored = {**model, "covariance_floor": max(LEAST_VARIANCE, model.get("covariance_floor", LEAST_VARIANCE))}
        return {**said, "fit": {**asdict(PRIVATE_STOPPING), **fit}, "model": floored}

    @model_validator(mode="after")
    def _describes_a_session(self) -> Self:
        try:
            require_gateable(self.description, self.trust.mass_floor)  # making the description validates the model
        except ValidationError as error:
            raise ValueError(complaint_of(error)) from None
        except CallerError as error:
            raise ValueError(str(error)) from None
        return self

    @model_validator(mode="after")
    def _says_where_to_start(self) -> Self:
        if self.fit.start is not None and self.fit.starts:
            raise ValueError("a start is chosen from many (starts) or given (start): set one of them in [fit]")
        if self.fit.generations and not self.n_starts:
            raise ValueError(
                "generations are of starts that are drawn, and there are none: leave generations out of [fit]"
            )
        if self.fit.finer_starts and not self.n_starts:
            raise ValueError("finer starts are drawn, and there are none: leave finer_starts out of [fit]")
        if self.fit.generations and self.privacy is not None:
            raise ValueError("each sum of a [privacy] session is paid for: leave generations out of [fit]")
        if self.fit.start is not None and self.selection is not None and len(self.selection.components) > 1:
            raise ValueError(
                "models with different numbers of components do not start from one model, or from the same labels: leave `start` out of "
                "[fit], or name one number in `components` of [selection]"
            )
        if self.fit.start == LABELS and (self.labels is None or has_own_weights(self.description.fitted_model)):
            raise ValueError(
                'start = "labels" needs [labels], and mixing weights that all tenants share: leave it out of [fit]'
            )
        if self.fit.start == LABELS and self._one_component:
            raise ValueError("a mixture of one component has no use for labels: leave start out of [fit]")
        return self

    @model_validator(mode="after")
    def _suits_a_stream(self) -> Self:
        if self.stream is not None and "tolerance" in self.fit.model_fields_set:
            raise ValueError(
                "a [stream] does not converge, it goes on for [fit] max_iterations rounds: leave tolerance out of [fit]"
            )
        return self

    @model_validator(mode="after")
    def _can_be_optimised(self) -> Self:
        if self._plain_em and self.fit.optimiser not in (None, EM):
            raise ValueError(
                f'a [stream], [privacy], mixing = "tenant" or a model without a `chart` takes steps of EM, and no optimiser '
                f"'{self.fit.optimiser}': "
                f'set optimiser = "{EM}" in [fit], or leave it out'
            )
        return self

    @model_validator(mode="after")
    def _has_tracks_of_lbfgs(self) -> Self:
        if (self.fit.tracks or 1) > 1 and self.optimiser != L_BFGS:
            raise ValueError(f"tracks are of L-BFGS, and not of '{self.optimiser}': leave tracks out of [fit]")
        return self

    @property
    def n_starts(self) -> int:
        """How many starts are drawn and compared; 0 if none are."""
        if self.fit.starts is not None:
            return self.fit.starts
        models = self._models
        unsuited = (
            self._one_component
            or self.stream is not None
            or self.trust.mass_floor > 0
            or self.fit.start is not None
            or isinstance(models[0], StartingModel)
        )
        together = models[0] if len(models) == 1 else Candidates(models)
        wanted = Starts().n if self.privacy is None else _PRIVATE_STARTS
        return 0 if unsuited else min(wanted, max(most_candidates(together) - 1, 0))

    def beginning(self) -> Beginning:
        """Where the fit starts.

        Raises:
            CallerError: the model to start from is not there, or is no model.
            EnvironmentFault: it cannot be read.
        """
        if self.fit.start == LABELS:
            return FromLabels()
        if self.fit.start is not None:
            return FromModel(load_model(self.fit.start), self.description.names)
        if not self.n_starts:
            return OneDraw()
        described = self.description
        if described.privacy is not None and described.by_centres:
            return BestCentres(self.n_starts, described.privacy.radius)
        return BestOf(self.n_starts, self.fit.generations, self.fit.finer_starts)

    @property
    def _one_component(self) -> bool:
        return all(isinstance(model, ComponentModel) and model.n_components == 1 for model in self._models)

    @property
    def _models(self) -> tuple[Model, ...]:
        return self._declaring(None, promised=False).models

    @property
    def _plain_em(self) -> bool:
        return self.stream is not None or self.privacy is not None or not can_leap(self._models[0])

    @property
    def optimiser(self) -> str:
        """One of `fed_em.optimiser.OPTIMISERS`."""
        return self.fit.optimiser or (EM if self._plain_em else L_BFGS)

    @property
    def n_tracks(self) -> int:
        """On how many tracks the model is fitted at most."""
        if self.fit.tracks is not None:
            return self.fit.tracks
        models = self._models
        unsuited = (
            self._plain_em
            or self.optimiser != L_BFGS
            or self.trust.mass_floor > 0
            or self.n_starts == 1
            or isinstance(models[0], StartingModel)
        )
        several = any(isinstance(model, ComponentModel) and model.n_components > 1 for model in models)
        held = min(most_candidates(model) for model in models)
        if unsuited or not several or held < TRACKS:
            return 1
        # A model that is picked goes on from where it was picked.
        return min(_TRACKS, self.n_starts, held) if self.n_starts and self.selection is None else TRACKS

    @property
    def description(self) -> SessionDescription:
        """What tenants are told of the session."""
        return self._declaring(self._starts, self.n_tracks)

    @property
    def _starts(self) -> Starts | None:
        if not self.n_starts:
            return None
        return Starts(n=self.n_starts, generations=self.fit.generations, finer=self.fit.finer_starts)

    def _declaring(self, starts: Starts | None, tracks: int = 1, promised: bool = True) -> SessionDescription:
        return SessionDescription(
            title=self.title,
            columns=self.columns,
            model=self._model_under_a_prior(),
            labels=self.labels,
            weights=self.weights,
            stream=self.stream,
            starts=starts,
            selection=self.selection,
            tracks=None if tracks == 1 else tracks,
            standard_errors=True if self.fit.standard_errors else None,
            bootstrap=self.fit.bootstrap,
            final_components=self._final_components,
            privacy=self._promise(starts) if promised else None,
        )

    @property
    def _final_components(self) -> FinalComponents | None:
        """Canonical order of a mixture's components, unless they have numbers already; what cannot be is for the description to refuse."""
        asked = FinalComponents(least_weight=self.fit.least_weight, least_distance=self.fit.least_distance)
        numbered = self.labels is not None or self.model.get("mixing", "shared") != "shared"
        mixture = self.model.get("family") in (GAUSSIAN_MIXTURE, MIXED_MIXTURE)
        return asked if asked.simplification.wanted or (mixture and not numbered) else None

    def _model_under_a_prior(self) -> dict[str, Any]:
        """The model's description with a prior that the file names in numbers."""
        named = named_prior(self.model)
        if named is None:
            return self.model
        bare = {key: value for key, value in self.model.items() if key != "prior"}
        if named == NONE:
            return bare
        described = SessionDescription(title=self.title, columns=self.columns, model=bare, selection=self.selection)
        return {**bare, "prior": weak_prior(described).describe()}

    def _promise(self, starts: Starts | None) -> Privacy | None:
        """What all sums of the session keep together."""
        asked = self.privacy
        if asked is None:
            return None
        return self._promised(asked, asked.epsilon, sum(self._planned_sums(starts).values()))

    def promise_of_a_measurement(self) -> Privacy | None:
        """What the sum of a session that measures keeps, one that may fail before it included; None without [privacy].

        Raises:
            CallerError: the session is private, and does not say what a measurement may cost.
        """
        asked = self.privacy
        if asked is None:
            return None
        if asked.measurement_epsilon is None:
            raise CallerError(
                "the session is private, and does not say what a measurement of its models may cost",
                remedy="set measurement_epsilon in [privacy]; each measurement spends as much of every tenant's budget",
            )
        gated = 2 if self.trust.mass_floor else 1
        return self._promised(asked, asked.measurement_epsilon, gated * (1 + _SPARE_MEASUREMENTS))

    def _promised(self, asked: PrivacyTable, epsilon: float, sums: int) -> Privacy:
        gaussian = sum(column.kind == "gaussian" for column in self.columns)
        return Privacy(
            unit=asked.unit,
            epsilon=epsilon,
            delta=asked.delta,
            radius=asked.radius or math.sqrt(gaussian) + 1,
            noise_multiplier=noise_for(epsilon, asked.delta, sums, SAMPLING_SLACK * sums),
            sums=sums,
        )

    @property
    def planned_sums(self) -> dict[str, int]:
        """How many sums the session takes at most, for what; those of a private session all have noise."""
        return self._planned_sums(self._starts)

    def _planned_sums(self, starts: Starts | None) -> dict[str, int]:
        """Each twice behind a gate, but for those that may fail."""
        by_centres = starts_by_centres(self._models, self.privacy is not None)
        start = starts.rounds(by_centres) if starts else FromLabels().rounds if self.fit.start == LABELS else 0
        pick = self.selection.rounds if self.selection else 0
        planned = {
            "for the moments": 1,
            "for the start": start,
            "to pick a model": pick,
            "of the fit": self.fit.max_iterations,
        }
        gated = 2 if self.trust.mass_floor else 1
        spare = {} if self.privacy is None else {"spare, for rounds that fail": self.privacy.spare_sums}
        return {what: gated * number for what, number in planned.items()} | spare


def read_server_configuration(path: Path) -> ServerConfiguration:
    """Read a session's file; relative paths are taken from where it lies. Raises as `read_configuration`."""
    found = read_configuration(path, ServerConfiguration)
    base = path.parent
    moved: dict[str, object] = {name: base / getattr(found, name) for name in ("roster", "keys", "output")}
    if found.fit.start not in (None, LABELS):
        moved["fit"] = found.fit.model_copy(update={"start": str(base / str(found.fit.start))})
    moved["checkpoints"] = _moved(found.checkpoints, base)
    return found.model_copy(update=moved)


def _moved(table: CheckpointsTable, base: Path) -> CheckpointsTable:
    """With the path of a SQLite file taken from where the session's file lies."""
    url = "" if table.url is None else table.url.get_secret_value()
    if not url.startswith(_SQLITE) or not url.removeprefix(_SQLITE):
        return table
    return CheckpointsTable(url=SecretStr(f"{_SQLITE}{(base / url.removeprefix(_SQLITE)).as_posix()}"))
