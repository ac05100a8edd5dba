"""The configuration of `fed-em operate`: one TOML file a model. Paths in it are relative to the file."""

from __future__ import annotations

from datetime import time
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, FiniteFloat, PositiveFloat, model_validator

from fed_em.errors import CallerError
from fed_em_protocols.addresses import Address
from fed_em_protocols.configuration import Table, read_configuration
from fed_em_server.operate.drift import Thresholds
from fed_em_server.operate.operator import Plan
from fed_em_server.operate.schedule import Schedule
from fed_em_server.operate.trigger import TriggerRule
from fed_em_server.registry.history import StageName

_HOUR, _MINUTE = 3600.0, 60.0


class ScheduleTable(Table):
    """When measurements are taken."""

    every_hours: PositiveFloat | None = None
    """Hours from one measurement to the next; by default a day, unless `at` is given."""
    at: tuple[time, ...] = ()
    """Or times of day, in UTC, such as "03:30"."""
    jitter_minutes: Annotated[FiniteFloat, Field(ge=0)] = 0.0
    """Up to so many minutes later each time."""
    retry_minutes: PositiveFloat = 15.0
    """When a step that failed is tried again."""

    def schedule(self) -> Schedule:
        """As the operator takes it. Raises `CallerError` if both, `every_hours` and `at`, are given."""
        hours = 24.0 if self.every_hours is None and not self.at else self.every_hours
        return Schedule(None if hours is None else hours * _HOUR, self.at, self.jitter_minutes * _MINUTE)


class DriftTable(Table):
    """What drift is acted on; see `fed_em_server.operate.drift` and `fed_em_server.operate.trigger`."""

    psi: PositiveFloat = 0.1
    ks: PositiveFloat = 0.1
    likelihood_drop: PositiveFloat = 0.1
    """Nats a record."""
    significance: Annotated[FiniteFloat, Field(gt=0, lt=1)] = 0.01
    """In how large a share of measurements without drift chance may exceed any critical value."""
    low: FiniteFloat = 0.5
    """Below which score drift has gone; it is there from a score of 1 on."""
    k: Annotated[int, Field(ge=1)] = 2
    m: Annotated[int, Field(ge=1)] = 3
    """Drift is there once k of the last m scores say so."""
    quiet_hours: Annotated[FiniteFloat, Field(ge=0)] = 24.0
    """After a retrain was begun, no other one is."""
    same_tenants: bool = True
    """Whether measurements count only with the tenants that the reference is of."""


class RetrainTable(Table):
    """How the model is fitted again."""

    warm: bool = True
    """Whether it starts from the model in use; where the session has a [selection], it never does."""


class OperatorMetricsTable(Table):
    """The operator's own metrics; those of its retrains are served as [metrics] of the session's file says, while they run."""

    listen: Address | None = None
    """Where they are served; no access control: a loopback address, or one that only the scraper reaches."""
    textfile: Path | None = None
    """A file for the textfile collector of a node's exporter, its name ending in .prom: for `--once`, which nobody can scrape."""


class OperateFile(Table):
    """One model under operation, as the server's operator writes it."""

    session: Path
    """The TOML file of the session that fits it."""
    registry: Path
    """The folder of the registry."""
    stage: StageName = "production"
    state: Path = Path("operate")
    """Folder for what the operator remembers, its retrains, and the transcripts of measurements."""
    schedule: ScheduleTable = ScheduleTable()
    drift: DriftTable = DriftTable()
    retrain: RetrainTable = RetrainTable()
    metrics: OperatorMetricsTable = OperatorMetricsTable()

    @model_validator(mode="after")
    def _makes_a_plan(self) -> Self:
        try:
            _ = self.plan
        except CallerError as error:
            raise ValueError(str(error)) from None
        return self

    @property
    def plan(self) -> Plan:
        """As the operator takes it."""
        drift = self.drift
        return Plan(
            self.stage,
            self.schedule.schedule(),
            Thresholds(drift.psi, drift.ks, drift.likelihood_drop, drift.significance),
            TriggerRule(1.0, drift.low, drift.k, drift.m, drift.quiet_hours * _HOUR),
            drift.same_tenants,
            self.schedule.retry_minutes * _MINUTE,
        )


def read_operate_file(path: Path) -> OperateFile:
    """Read it; relative paths are taken from where it lies. Raises as `read_configuration`."""
    found = read_configuration(path, OperateFile)
    moved: dict[str, object] = {name: path.parent / getattr(found, name) for name in ("session", "registry", "state")}
    if found.metrics.textfile is not None:
        moved["metrics"] = found.metrics.model_copy(update={"textfile": path.parent / found.metrics.textfile})
    return found.model_copy(update=moved)
