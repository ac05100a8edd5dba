"""The command `fed-em game-day`."""

from __future__ import annotations

from typing import Annotated

import typer


def game_day(
    drill: Annotated[list[str] | None, typer.Argument(help="Which drills; all by default.")] = None,
    log: Annotated[bool, typer.Option("--log", help="Print the lines that the trouble left in the log, too.")] = False,
) -> None:
    """Provoke what goes wrong in practice in small federations, see its symptom, apply the runbook's remedy, see whether it helps."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from fed_em.description import nearest
    from fed_em.errors import CallerError
    from fed_em_simulations.game_day.drills import DRILLS

    console, failed = Console(), []
    for name in drill or ():
        if name not in DRILLS:
            raise CallerError(f"there is no drill '{name}'", remedy=nearest(name, DRILLS))
    table = Table("drill", "symptom", "seen", "remedy", "helped")
    for name in drill or DRILLS:
        each, found = DRILLS[name], DRILLS[name].run()
        if log:
            console.print(f"── {name}", *found.log, sep="\n", highlight=False, markup=False)
        seen, helped = ("yes" if said else "NO" for said in (found.shown, found.helped))
        cells = (name, each.symptom, f"{seen}: {found.before}", each.remedy, f"{helped}: {found.after}")
        table.add_row(*map(Text, cells))
        if not (found.shown and found.helped):
            failed.append(name)
    console.print(table)
    if failed:
        console.print(f"not as their runbooks say: {', '.join(failed)}", highlight=False)
        raise typer.Exit(1)
