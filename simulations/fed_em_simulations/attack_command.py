"""The command `fed-em audit attack`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from fed_em_simulations.attacks.attack_report import AttackReport


def attack(
    scenario: Annotated[
        str,
        typer.Argument(help="A TOML file, the name of a shipped scenario, or the folder of a session's transcript."),
    ] = "",
    roster: Annotated[Path | None, typer.Option(help="Of a transcript: the roster that you pinned.")] = None,
    tenant_log: Annotated[
        list[Path] | None, typer.Option(help="Of a transcript: a tenant's own log (log.jsonl); any number.")
    ] = None,
    tenants: Annotated[int | None, typer.Option(help="How many tenants.")] = None,
    dropout: Annotated[float | None, typer.Option(help="How likely each is out of each sum.")] = None,
    blocks: Annotated[bool | None, typer.Option("--blocks/--no-blocks", help="Whether sums hold whole blocks.")] = None,
    epsilon: Annotated[float | None, typer.Option(help="ε of each session, for each record.")] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Another value of a scenario's field: rows=50."),
    ] = None,
    show: Annotated[bool, typer.Option("--list", help="List the shipped scenarios.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """What an adversary gets who reads all of a session, in figures and words: of sessions in virtual time, or of a recorded one."""
    import json

    from rich.console import Console

    from fed_em_simulations.attacks.scenario import shipped_attacks

    console = Console()
    if show:
        shipped = shipped_attacks()
        width = max(len(name) for name, _ in shipped) + 2
        for name, title in shipped:
            console.print(f"{name:<{width}}{title}", highlight=False)
        return
    if roster is not None:
        report = _on_transcript(Path(scenario), roster, tenant_log or [])
    else:
        told = {"tenants": tenants, "dropout": dropout, "blocks": blocks, "epsilon": epsilon}
        report = _on_scenario(scenario, told, changes or [], console)
    if as_json:
        typer.echo(json.dumps(report.to_json(), indent=2, ensure_ascii=False))
    else:
        console.print(report)


def _on_transcript(folder: Path, roster: Path, tenant_logs: list[Path]) -> AttackReport:
    """Attack a recorded session by its transcript, once that is verified."""
    from fed_em_protocols.roster import load_roster
    from fed_em_protocols.transcript.tenant_log import read_tenant_log
    from fed_em_server.transcript_folder import read_log, read_session
    from fed_em_simulations.audit_report.attacks_found import report_on

    pinned = load_roster(roster)
    session = read_session(folder, pinned)
    logs = [read_tenant_log(read_log(path), str(path), pinned) for path in tenant_logs]
    return report_on(session, {lines[0].tenant: lines for lines in logs if lines})


def _on_scenario(
    scenario: str, told: dict[str, int | float | bool | None], changes: list[str], console: Console
) -> AttackReport:
    """Run the sessions of a scenario and attack them."""
    import warnings

    from fed_em_simulations.attacks.run_attacks import run_attacks
    from fed_em_simulations.attacks.scenario import AttackScenario, read_attack
    from fed_em_simulations.simulate_command import field_changes

    found = read_attack(scenario) if scenario else AttackScenario()
    found = found.with_changes(
        {**field_changes(changes), **{name: value for name, value in told.items() if value is not None}}
    )
    with console.status("") as status, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return run_attacks(found, status.update)
