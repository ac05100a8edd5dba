"""The command `fed-em audit report`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fed_em_simulations.audit_report.guarantees import OwnLedger

# δ at which ε is shown where a tenant's policy has no budget.
_DELTA = 1e-6


def report(
    transcript: Annotated[Path, typer.Argument(help="A session's transcript, or the output folder that it is in.")],
    roster: Annotated[Path, typer.Option(help="The roster that you pinned.")],
    output: Annotated[
        Path | None, typer.Option(help="Folder of audit.html and audit.json; by default where the transcript is.")
    ] = None,
    tenant_log: Annotated[
        list[Path] | None, typer.Option(help="A tenant's own log (log.jsonl in its state folder); any number.")
    ] = None,
    ledger: Annotated[
        list[Path] | None, typer.Option(help="A tenant's TOML file, for what its own privacy ledger says; any number.")
    ] = None,
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option(help="A file with checkpoints from elsewhere, such as an earlier copy; any number."),
    ] = None,
    tenant: Annotated[
        list[Path] | None,
        typer.Option(
            help="A tenant's TOML file, with its keys at hand: the session is held against its policy; any number."
        ),
    ] = None,
    also: Annotated[
        list[Path] | None,
        typer.Option(
            help="Another session's transcript, under the same roster, that an attacker has as well; any number."
        ),
    ] = None,
) -> None:
    """What left, to whom, under which guarantee, what an attacker gets and what is not protected: a page for people, and JSON.

    Exit status 1 if the transcript does not hold; the page says where.
    """
    from fed_em_client.configuration import read_tenant_configuration
    from fed_em_protocols.roster import load_roster
    from fed_em_server.audit.policies import OwnPolicy
    from fed_em_server.transcript_folder import read_checkpoints, read_log, read_session, read_transcript
    from fed_em_simulations.audit_report.build import Evidence, audit_report
    from fed_em_simulations.audit_report.writing import write_audit_report
    from fed_em_simulations.simulation_report import require_plots

    require_plots()
    pinned = load_roster(roster)
    evidence = Evidence(
        read_transcript(transcript),
        pinned,
        str(transcript),
        str(roster),
        logs={str(path): read_log(path) for path in tenant_log or ()},
        ledgers=dict(_own_ledger(path) for path in ledger or ()),
        known=[each for path in checkpoint or () for each in read_checkpoints(path)],
        checkpoint_paths=[str(path) for path in checkpoint or ()],
        others=[read_session(path, pinned) for path in also or ()],
        policies=[OwnPolicy.of(read_tenant_configuration(path)) for path in tenant or ()],
        policy_paths=[str(path) for path in tenant or ()],
    )
    made = audit_report(evidence)
    for path in write_audit_report(output or transcript, made):
        typer.echo(str(path))
    if made.shown is not None:
        typer.echo(f"attacks: {made.shown.attacks.severity}")
    typer.echo("verified" if made.passed else "NOT verified")
    if not made.passed:
        raise typer.Exit(1)


def _own_ledger(path: Path) -> tuple[str, OwnLedger]:
    """A tenant's name, and what its ledger says now."""
    from datetime import UTC, datetime

    from fed_em_client.configuration import read_tenant_configuration
    from fed_em_client.privacy_ledger import ledger_files, read_spends
    from fed_em_client.privacy_statement import statement
    from fed_em_simulations.audit_report.guarantees import OwnLedger

    own = read_tenant_configuration(path)
    budget = own.policy.privacy.demands().budget
    delta, period = (_DELTA, None) if budget is None else (budget.delta, budget.period)
    found = statement(read_spends(ledger_files(own)), datetime.now(UTC), period, delta)
    return own.name, OwnLedger(found, delta, None if budget is None else budget.epsilon)
