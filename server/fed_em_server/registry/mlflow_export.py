"""A version as a run of MLflow: parameters, what every round came to, lineage as tags, files as artifacts, and a registered model.

A run is known by the version's id in a tag, so a version is exported once; a run that an export left unfinished is deleted, and made
anew. MLflow is asked to send nothing to anybody, and to log warnings only. It needs the extra `mlflow`.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from fed_em.errors import CallerError, EnvironmentFault
from fed_em_server.record import SessionRecord
from fed_em_server.registry.store import Registry
from fed_em_server.registry.version import MODEL_FOLDER, Version

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

VERSION_TAG = "fed_em.version"
ARTIFACTS = "version"

# What stores answer that keep runs and no registered models.
_WITHOUT_MODELS = {"FEATURE_DISABLED", "NOT_IMPLEMENTED", "ENDPOINT_NOT_FOUND"}
# Of a batch, by MLflow's limits.
_MOST_METRICS = 1000


@dataclass(frozen=True)
class Exported:
    """Where a version is in MLflow.

    Attributes:
        run: The run's id.
        is_new: Whether it was made now.
        model: The registered model's name and the number of its version; None if the store keeps no registered models.
    """

    run: str
    is_new: bool
    model: tuple[str, str] | None


def export(
    registry: Registry,
    version: Version,
    tracking_uri: str,
    experiment: str = "fed-em",
    artifacts: str | None = None,
    name: str | None = None,
) -> Exported:
    """Log a version to a tracking store, once.

    Args:
        registry, version: Which.
        tracking_uri: Of the store, such as `https://mlflow.example.org` or `sqlite:////var/lib/mlflow.db`.
        experiment: Its name; made if it is not there.
        artifacts: Where a new experiment keeps artifacts; None: where the store does by default.
        name: Of the registered model; by default the federation's and the session's.

    Raises:
        CallerError: MLflow is not installed, or a file of the version is not its manifest's.
        EnvironmentFault: the store does not answer, or refuses.
    """
    registry.require_intact(version)
    client = _client(tracking_uri)
    lineage = version.lineage
    name = name or "-".join(filter(None, (lineage.federation, lineage.title))) or "fed-em"
    with _refusals(tracking_uri):
        run = _finished(client, experiment, version)
        is_new = run is None
        if run is None:
            run = _logged(client, _experiment_id(client, experiment, artifacts), registry, version)
        return Exported(run.info.run_id, is_new, _registered(client, run, name, registry, version))


def _client(tracking_uri: str) -> MlflowClient:
    # Read when MLflow is imported.
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["DO_NOT_TRACK"] = "true"
    for logger in ("mlflow", "alembic"):
        logging.getLogger(logger).setLevel(logging.WARNING)
    try:
        from mlflow import MlflowClient  # noqa: PLC0415  needs an extra

        for logger in ("mlflow", "alembic"):  # MLflow sets its own level as it is imported
            logging.getLogger(logger).setLevel(logging.WARNING)
        with _refusals(tracking_uri):
            return MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)
    except ImportError as error:
        raise CallerError(
            f"an export to MLflow needs the package '{error.name}', which is not installed",
            remedy="pip install 'fed-em[mlflow]'",
        ) from error


@contextmanager
def _refusals(tracking_uri: str) -> Iterator[None]:
    """Make MLflow's errors an `EnvironmentFault` that names the store."""
    from mlflow.exceptions import MlflowException  # noqa: PLC0415  needs an extra

    try:
        yield
    except MlflowException as error:
        raise EnvironmentFault(
            f"MLflow at {_without_password(tracking_uri)}: {error.message}",
            remedy="check the address, and whether the store is there",
        ) from error


def _without_password(uri: str) -> str:
    return re.sub(r"//[^/@]*@", "//…@", uri)


def _finished(client: MlflowClient, experiment: str, version: Version) -> Run | None:
    """The run of a version; those that are unfinished are deleted."""
    found = client.get_experiment_by_name(experiment)
    if found is None:
        return None
    runs = client.search_runs([found.experiment_id], f"tags.`{VERSION_TAG}` = '{version.id}'")
    for run in runs:
        if run.info.status == "FINISHED":
            return run
        client.delete_run(run.info.run_id)
    return None


def _experiment_id(client: MlflowClient, name: str, artifacts: str | None) -> str:
    found = client.get_experiment_by_name(name)
    return str(client.create_experiment(name, artifacts) if found is None else found.experiment_id)


def _logged(client: MlflowClient, experiment: str, registry: Registry, version: Version) -> Run:
    from mlflow.entities import Param  # noqa: PLC0415  needs an extra

    record = registry.record(version)
    begun = _milliseconds(version.lineage.created or version.added)
    run = client.create_run(experiment, begun, _tags(version), run_name=version.name)
    client.log_batch(run.info.run_id, params=[Param(*each) for each in _params(version, record).items()])
    metrics = _metrics(version, record, begun)
    while batch := list(islice(metrics, _MOST_METRICS)):
        client.log_batch(run.info.run_id, metrics=batch)
    client.log_artifacts(run.info.run_id, str(registry.path(version)), ARTIFACTS)
    ended = begun + round(1000 * record.seconds) if record else begun
    client.set_terminated(run.info.run_id, "FINISHED", ended)
    return client.get_run(run.info.run_id)


def _milliseconds(time: str) -> int:
    moment = datetime.fromisoformat(time)
    return round(1000 * (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def _tags(version: Version) -> dict[str, str]:
    """The lineage, hash by hash."""
    lineage, transcript = version.lineage, version.lineage.transcript
    found: Mapping[str, object] = {
        "version": version.id,
        "number": version.number,
        "package": lineage.package,
        "session": lineage.session,
        "data_schema": lineage.data_schema,
        "description": lineage.description,
        "terms": lineage.terms,
        "roster": lineage.roster,
        "transcript": transcript and transcript.root,
        "transcript_entries": transcript and transcript.entries,
        "parents": " ".join(version.parents),
        "started_from": lineage.started_from,
    }
    return {f"fed_em.{name}": str(value) for name, value in found.items() if value not in (None, "")}


def _params(version: Version, record: SessionRecord | None) -> dict[str, str]:
    lineage = version.lineage
    found: dict[str, object] = {
        "model": version.manifest.model,
        "columns": ", ".join(version.manifest.columns),
        "title": lineage.title,
        "federation": lineage.federation,
        "tenants": len(lineage.tenants) or "",
        "epsilon": lineage.metrics.epsilon,
        "delta": lineage.metrics.delta,
    }
    if record is not None:
        found |= {"trust": record.trust, "colluders": record.colluders, "transport": record.transport}
    return {name: str(value) for name, value in found.items() if value not in (None, "")}


def _metrics(version: Version, record: SessionRecord | None, begun: int) -> Iterator[Metric]:
    """What every round came to, by its number, and the end."""
    from mlflow.entities import Metric  # noqa: PLC0415  needs an extra

    now = float(begun)
    for opened in record.rounds if record else ():
        now += 1000 * opened.seconds
        seen: dict[str, Any] = {
            "log_likelihood": opened.log_likelihood,
            "tenants_in_sum": opened.summed,
            "tenants_stale": opened.stale,
            "tenants_missing": opened.missing,
            "round_seconds": opened.seconds,
            "bytes_up": opened.bytes_up,
            "bytes_down": opened.bytes_down,
            **{f"weight/{k}": weight for k, weight in enumerate(opened.weights)},
        }
        for name, value in seen.items():
            if value is not None:
                yield Metric(name, float(value), round(now), opened.round)
    metrics = version.lineage.metrics
    for name, value in {"records": metrics.records, "converged": metrics.converged}.items():
        if value is not None:
            yield Metric(name, float(value), round(now), metrics.rounds)


def _registered(
    client: MlflowClient, run: Run, name: str, registry: Registry, version: Version
) -> tuple[str, str] | None:
    """The version of the registered model, with an alias for each stage that this version is in."""
    from mlflow.exceptions import MlflowException  # noqa: PLC0415  needs an extra

    try:
        if not client.search_registered_models(f"name = '{_quoted(name)}'"):
            client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code in _WITHOUT_MODELS:
            return None
        raise
    found = [each for each in client.search_model_versions(f"run_id = '{run.info.run_id}'") if each.name == name]
    if not found:
        source = f"{run.info.artifact_uri}/{ARTIFACTS}/{MODEL_FOLDER}"
        tags = {VERSION_TAG: version.id}
        found = [client.create_model_version(name, source, run.info.run_id, tags, description=version.manifest.model)]
    number = str(found[0].version)
    _set_aliases(client, name, number, registry, version)
    return name, number


def _quoted(name: str) -> str:
    if "'" in name:
        raise CallerError(f"{name!r} cannot be the name of a registered model", remedy="leave the apostrophe out")
    return name


def _set_aliases(client: MlflowClient, name: str, number: str, registry: Registry, version: Version) -> None:
    history = registry.read()
    aliases = client.get_registered_model(name).aliases
    for stage in history.stages:
        alias = stage.replace(".", "-")
        here, there = history.current(stage) == version.id, str(aliases.get(alias)) == number
        if here and not there:
            client.set_registered_model_alias(name, alias, number)
        elif there and not here:
            client.delete_registered_model_alias(name, alias)
