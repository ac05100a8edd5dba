"""The command `fed-em simulate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from fed_em_simulations.results import Results
    from fed_em_simulations.scenario import Scenario

# Lines at most that say how far the runs are where there is no terminal for a bar.
_TOLD = 20


def simulate(
    scenario: Annotated[str, typer.Argument(help="A TOML file, or the name of a shipped scenario.")] = "",
    output: Annotated[
        Path | None, typer.Option(help="Folder of results; by default simulate-result/ and the scenario's name.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=0, help="Processes; 0 = as many as there are cores.")] = 0,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Another value, or list of swept ones: data.rows=500."),
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Run again what is finished.")] = False,
    show: Annotated[bool, typer.Option("--list", help="List the shipped scenarios.")] = False,
    report: Annotated[bool, typer.Option(help="Write report.html; needs the extra `plots`.")] = True,
) -> None:
    """What becomes of model, time and privacy when tenants differ, lag and drop: run a scenario, see a report.

    Runs that are finished are kept and not run again.
    """
    from rich.console import Console

    from fed_em.errors import CallerError
    from fed_em.row_blocks import allowed_cores
    from fed_em_simulations.scenario import read_scenario
    from fed_em_simulations.shipped import scenario_path, shipped_scenarios

    console = Console()
    if show:
        shipped = tuple(shipped_scenarios())
        width = max(len(name) for name, _ in shipped) + 2
        for name, title in shipped:
            console.print(f"{name:<{width}}{title}", highlight=False)
        return
    if not scenario:
        raise CallerError(
            "no scenario is named", remedy="give a TOML file or a name that `fed-em simulate --list` shows"
        )
    path = scenario_path(scenario)
    found = read_scenario(path, field_changes(changes or []))
    folder = output or Path("simulate-result") / path.stem
    if report:
        from fed_em_simulations.simulation_report import require_plots

        require_plots()
    results = _with_progress(console, found, folder, jobs or allowed_cores(), fresh)
    for note in filter(None, (*found.experiment.notes(results), results.failures)):
        typer.echo(f"{note}\n")
    typer.echo(str(results))
    if report:
        from fed_em_simulations.simulation_report import write_simulation_report

        typer.echo(f"\n{write_simulation_report(folder, found, results)}")


def _with_progress(console: Console, scenario: Scenario, folder: Path, jobs: int, fresh: bool) -> Results:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from fed_em_simulations.run_scenario import simulate as run

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(scenario.title, total=None)

        def finished(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)
            if not console.is_terminal and _TOLD * done // total > _TOLD * (done - 1) // total:
                typer.echo(f"{done} of {total} runs are done", err=True)

        return run(scenario, folder, jobs, fresh, finished)


def field_changes(told: list[str]) -> dict[str, object]:
    """`a.b=3` and so on, values as TOML writes them; a bare word is text."""
    import tomllib

    from fed_em.errors import CallerError

    found: dict[str, object] = {}
    for one in told:
        name, equals, value = one.partition("=")
        if not equals or not name:
            raise CallerError(f"'{one}' sets nothing", remedy="write FIELD=VALUE, such as data.rows=500")
        try:
            found[name] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            found[name] = value
    return found
