"""The commands of `fed-em registry`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

registry = typer.Typer(
    name="registry",
    help="Versions of models: where each comes from, which is in use, and what was in use before.",
    no_args_is_help=True,
)

Folder = Annotated[
    Path, typer.Option("--registry", envvar="FED_EM_REGISTRY", help="The registry's folder; made if it is not there.")
]
Named = Annotated[
    str, typer.Argument(help="A version: its number, the first digits of its id, or a stage as @production.")
]
Stage = Annotated[str, typer.Option("--stage", help="production, canary, or any other name.")]
StageArgument = Annotated[str, typer.Argument(help="production, canary, or any other name.")]
Reason = Annotated[str, typer.Option("--reason", help="Why, for the history.")]

_FOLDER = Path("registry")


@registry.command()
def add(
    output: Annotated[Path, typer.Argument(help="A session's output folder, or the folder of a model.")],
    roster: Annotated[
        Path | None, typer.Option(help="The roster that you pinned: a session is verified against it.")
    ] = None,
    reason: Reason = "",
    folder: Folder = _FOLDER,
) -> None:
    """Add a session's model with its lineage, which is verified while it is read. The same content is one version."""
    from fed_em_protocols.roster import load_roster
    from fed_em_server.registry.session_lineage import add_output
    from fed_em_server.registry.store import Registry

    kept = Registry(folder)
    before = len(kept.read().entries)
    version = add_output(kept, output, None if roster is None else load_roster(roster), reason)
    is_new = len(kept.read().entries) > before
    typer.echo(f"{version.name} {'is added' if is_new else 'was there already'}: {version.id}")


@registry.command("list")
def list_versions(folder: Folder = _FOLDER) -> None:
    """All versions, and the stages that they are in."""
    from rich.console import Console

    from fed_em_server.registry.store import Registry
    from fed_em_server.registry.views import versions_table

    kept = Registry(folder)
    Console(highlight=False, markup=False).print(versions_table(kept.versions(), kept.read()))


@registry.command()
def show(version: Named, folder: Folder = _FOLDER) -> None:
    """Which data made a version: hashes, who took part in which rounds, its parents up to the first, and how to verify it."""
    from rich.console import Console

    from fed_em_server.registry.store import Registry
    from fed_em_server.registry.views import version_page

    kept = Registry(folder)
    Console(highlight=False, markup=False).print(version_page(kept, kept.version(version), kept.read()))


@registry.command()
def diff(first: Named, second: Named, folder: Folder = _FOLDER) -> None:
    """How two versions differ: columns, roster, fit, and each component from the one that it became."""
    from rich.console import Console

    from fed_em_server.registry.difference import difference
    from fed_em_server.registry.store import Registry
    from fed_em_server.registry.views import difference_page

    kept = Registry(folder)
    one, other = kept.version(first), kept.version(second)
    found = difference(one, kept.load(one), other, kept.load(other))
    Console(highlight=False, markup=False).print(difference_page(one, other, found))


@registry.command()
def promote(version: Named, stage: Stage = "production", reason: Reason = "", folder: Folder = _FOLDER) -> None:
    """Put a version into a stage."""
    from fed_em_server.registry.store import Registry

    kept = Registry(folder)
    found, before = kept.version(version), kept.current(stage)
    kept.promote(found, stage, reason)
    was = "" if before is None else f"; before, it was {before.name}"
    typer.echo(f"{stage} is {found.name} already" if before == found else f"{stage} is {found.name} now{was}")


@registry.command()
def rollback(stage: StageArgument = "production", reason: Reason = "", folder: Folder = _FOLDER) -> None:
    """Go back to the version that was in a stage before; once more, and it is the one before that."""
    from fed_em_server.registry.store import Registry

    typer.echo(f"{stage} is {Registry(folder).rollback(stage, reason).name} again")


@registry.command()
def withdraw(stage: StageArgument, reason: Reason = "", folder: Folder = _FOLDER) -> None:
    """Leave a stage empty."""
    from fed_em_server.registry.store import Registry

    Registry(folder).withdraw(stage, reason)
    typer.echo(f"{stage} is empty now")


@registry.command()
def canary(
    session: Annotated[Path, typer.Argument(help="The TOML file of the session that such models are fitted in.")],
    candidate: Annotated[
        str, typer.Option("--candidate", help="The version to judge; by default the one in the stage canary.")
    ] = "@canary",
    stage: Stage = "production",
    folder: Folder = _FOLDER,
) -> None:
    """Measure a candidate beside the version in use, on fresh rows of all tenants, and promote it, keep it, or roll it back."""
    import sys

    from fed_em.reference import load_reference
    from fed_em_protocols.roster import load_roster
    from fed_em_server.configuration import read_server_configuration
    from fed_em_server.measurement import measure
    from fed_em_server.plain_log import PlainLog
    from fed_em_server.registry.canary import apply, baseline_of, decide
    from fed_em_server.registry.store import Registry
    from fed_em_server.registry.version import MODEL_FOLDER

    kept, configuration = Registry(folder), read_server_configuration(session)
    judged = kept.version(candidate)
    baseline = baseline_of(kept, judged, stage)
    models = [kept.load(baseline), kept.load(judged)]
    reference = load_reference(kept.path(baseline) / MODEL_FOLDER)
    found = measure(configuration, models, reference.edges if reference else None, PlainLog(sys.stderr))
    verdict = decide(configuration.canary, found, load_roster(configuration.roster).n)
    done = apply(kept, baseline, judged, verdict, stage)
    typer.echo(f"{verdict.outcome.value}: {verdict.reason}")
    typer.echo(done)


@registry.command()
def history(stage: StageArgument = "production", folder: Folder = _FOLDER) -> None:
    """What became of a stage: when, from which version to which, who did it and why."""
    from rich.console import Console

    from fed_em_server.registry.store import Registry
    from fed_em_server.registry.views import history_table

    kept = Registry(folder)
    Console(highlight=False, markup=False).print(history_table(kept.history(stage), kept.versions()))


@registry.command()
def remove(version: Named, reason: Reason = "", folder: Folder = _FOLDER) -> None:
    """Delete the files of a version that never was in a stage and is nobody's parent."""
    from fed_em_server.registry.store import Registry

    kept = Registry(folder)
    found = kept.version(version)
    kept.remove(found, reason)
    typer.echo(f"{found.name} is removed; that it was there stays in the history")


@registry.command("export-mlflow")
def export_mlflow(
    version: Named,
    tracking_uri: Annotated[
        str, typer.Option("--tracking-uri", envvar="MLFLOW_TRACKING_URI", help="The address of MLflow's store.")
    ],
    experiment: Annotated[str, typer.Option("--experiment", help="Made if it is not there.")] = "fed-em",
    artifacts: Annotated[
        str | None,
        typer.Option("--artifacts", help="Where a new experiment keeps files; by default, where the store does."),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--name", help="Of the registered model; by default, the federation's and the session's."),
    ] = None,
    folder: Folder = _FOLDER,
) -> None:
    """Log a version to MLflow, once: rounds, lineage, files, and a registered model with an alias for each stage."""
    from fed_em_server.registry.mlflow_export import export
    from fed_em_server.registry.store import Registry

    kept = Registry(folder)
    found = kept.version(version)
    done = export(kept, found, tracking_uri, experiment, artifacts, name)
    typer.echo(f"{found.name} is run {done.run}{'' if done.is_new else ', as it was before'}")
    typer.echo(
        "the store keeps no registered models"
        if done.model is None
        else f"registered as {done.model[0]}, version {done.model[1]}"
    )


@registry.command()
def verify(
    head: Annotated[
        str, typer.Option("--head", help="A head of the history that was noted before: it must still be in it.")
    ] = "",
    folder: Folder = _FOLDER,
) -> None:
    """Hold the whole registry against its hashes. Exit status 1 if anything does not fit, and what."""
    from rich.console import Console

    from fed_em_server.audit.checklist import checklist
    from fed_em_server.registry.store import Registry
    from fed_em_server.registry.verification import verified

    found = verified(Registry(folder), head)
    Console(highlight=False, soft_wrap=True).print(checklist(found))
    if not found.passed:
        raise typer.Exit(1)
