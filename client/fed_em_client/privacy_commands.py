"""Commands `fed-em privacy`: what a tenant's ledger says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from datetime import datetime

    from rich.table import Table

    from fed_em_client.privacy_statement import PrivacyStatement
    from fed_em_protocols.privacy.demands import EpsilonBudget

privacy = typer.Typer(
    help="What sessions with differential privacy cost, and what a tenant has spent.", no_args_is_help=True
)

Configuration = Annotated[Path, typer.Argument(help="The tenant's TOML file.")]

# δ at which ε is shown where a tenant has no budget and names none.
_DELTA = 1e-6

# Of a session's number: enough to tell one tenant's sessions apart.
_DIGITS = 12


@privacy.command()
def ledger(
    configuration: Configuration,
    delta: Annotated[
        float | None, typer.Option("--delta", help="δ at which ε is shown, instead of the policy's (1e-6 without one).")
    ] = None,
) -> None:
    """What was spent and reserved in the policy's period, when and in which sessions, and what is left; read only."""
    from datetime import UTC, datetime

    from rich.console import Console

    from fed_em.errors import CallerError
    from fed_em_client.configuration import read_tenant_configuration
    from fed_em_client.privacy_ledger import ledger_files, read_spends
    from fed_em_client.privacy_statement import statement

    parsed = read_tenant_configuration(configuration)
    budget = parsed.policy.privacy.demands().budget
    if delta is None:
        delta = _DELTA if budget is None else budget.delta
    if not 0 < delta < 1:
        raise CallerError(f"δ lies between 0 and 1, which {delta:g} does not", remedy="give another --delta")
    now = datetime.now(UTC)
    found = statement(read_spends(ledger_files(parsed)), now, None if budget is None else budget.period, delta)
    console = Console(highlight=False)
    if found.sessions:
        console.print(_table(found))
    for line in _balance(found, budget, delta, now):
        console.print(line, soft_wrap=True)


@privacy.command()
def release(
    configuration: Configuration,
    session: Annotated[
        str, typer.Argument(help="The session's number, or how it begins; `fed-em privacy ledger` shows it.")
    ],
) -> None:
    """Give back what a session that was given up reserved and did not charge."""
    from fed_em.errors import CallerError
    from fed_em_client.configuration import read_tenant_configuration
    from fed_em_client.privacy_ledger import PrivacyLedger, ledger_files

    parsed = read_tenant_configuration(configuration)
    with PrivacyLedger(ledger_files(parsed), parsed.policy.privacy.demands()) as opened:
        found = [number for number in opened.spends.sessions if number.hex().startswith(session.lower())]
        given_back = opened.release(found[0]) if len(found) == 1 else None
    if given_back is None:
        raise CallerError(
            f"{len(found)} sessions have numbers that begin with {session}"
            if len(found) > 1
            else f"nothing is reserved for session {session}",
            remedy="`fed-em privacy ledger` shows what is reserved, and for which sessions",
        )
    typer.echo(f"{given_back.sums} sums of session {found[0].hex()} are given back; what was charged stays spent")


@privacy.command()
def mend(configuration: Configuration) -> None:
    """Write the ledger's head anew, when it was lost or an older copy of it was put back: only after a ledger that is the newest copy."""
    from fed_em_client.configuration import read_tenant_configuration
    from fed_em_client.privacy_ledger import ledger_files, mend_head

    files = ledger_files(read_tenant_configuration(configuration))
    typer.echo(f"{files.head} is written anew, after the {mend_head(files)} entries of {files.ledger}")


def _table(found: PrivacyStatement) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(title="Sessions that count", box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("session", no_wrap=True)
    for name in ("noise", "planned", "charged", "reserved", "ε charged"):
        table.add_column(name, justify="right")
    table.add_column("last charged")
    table.add_column("leaves")
    for line in found.sessions:
        table.add_row(
            line.session.hex()[:_DIGITS],
            f"{line.plan.noise_multiplier:.4g}",
            str(line.plan.sums),
            str(line.charged),
            str(line.reserved),
            f"{line.epsilon:.4g}",
            _day(line.last),
            _day(line.leaves),
        )
    return table


def _day(time: datetime | None) -> str:
    return "never" if time is None else f"{time:%Y-%m-%d %H:%M}"


def _balance(found: PrivacyStatement, budget: EpsilonBudget | None, delta: float, now: datetime) -> Iterator[str]:
    span = "ever" if budget is None else f"in the {budget.period_days} days to {_day(now)} UTC"
    yield f"charged {span}: ε = {found.charged:.4g} at δ = {delta:g}"
    yield f"reserved and not charged: ε = {found.reserved:.4g}; together ε = {found.together:.4g}"
    if budget is None:
        yield "the policy has no budget: epsilon and delta in [policy.privacy] make one"
    elif delta == budget.delta:
        yield f"left of the policy's ε = {budget.epsilon:g}: {max(budget.epsilon - found.together, 0):.4g}"
