"""The command `fed-em audit attack`."""

from __future__ import annotations

from typing import Annotated

import typer


def attack(
    scenario: Annotated[str, typer.Argument(help="A TOML file, or the name of a shipped scenario.")] = "",
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
    """What an adversary gets who reads all of a session: run sessions in virtual time, attack them, and say it in figures and words."""
    import json
    import warnings

    from rich.console import Console

    from fed_em_simulations.attacks.run_attacks import run_attacks
    from fed_em_simulations.attacks.scenario import AttackScenario, read_attack, shipped_attacks
    from fed_em_simulations.simulate_command import field_changes

    console = Console()
    if show:
        shipped = shipped_attacks()
        width = max(len(name) for name, _ in shipped) + 2
        for name, title in shipped:
            console.print(f"{name:<{width}}{title}", highlight=False)
        return
    found = read_attack(scenario) if scenario else AttackScenario()
    told = {"tenants": tenants, "dropout": dropout, "blocks": blocks, "epsilon": epsilon}
    found = found.with_changes(
        {**field_changes(changes or []), **{name: value for name, value in told.items() if value is not None}}
    )
    with console.status("") as status, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = run_attacks(found, status.update)
    if as_json:
        typer.echo(json.dumps(report.to_json(), indent=2, ensure_ascii=False))
    else:
        console.print(report)
