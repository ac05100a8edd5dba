"""The command `fed-em`, assembled from the commands of every room."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version
from typing import Annotated

import typer

from fed_em_client.own_weights_command import own_weights
from fed_em_client.policy_commands import policy
from fed_em_client.privacy_commands import privacy
from fed_em_client.roster_command import accept
from fed_em_client.shard_command import shard, shard_keys
from fed_em_client.tenant_command import tenant
from fed_em_protocols.roster_commands import keygen, roster
from fed_em_server.audit_commands import audit
from fed_em_server.bundle_command import flower_app, flower_hub
from fed_em_server.doctor_command import doctor
from fed_em_server.measure_command import measure
from fed_em_server.model_commands import estimates, impute, predict, sample, schema, score
from fed_em_server.operate_command import operate
from fed_em_server.privacy_plan_command import plan
from fed_em_server.provisioning_commands import provision
from fed_em_server.registry_commands import registry
from fed_em_server.serving_command import serve
from fed_em_server.session_commands import fit, server
from fed_em_simulations.attack_command import attack
from fed_em_simulations.audit_report_command import report
from fed_em_simulations.demo_command import demo
from fed_em_simulations.game_day.command import game_day
from fed_em_simulations.simulate_command import simulate

# gRPC tells of every broken handshake in its own words on standard error; ours say what to do.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

app = typer.Typer(
    name="fed-em",
    help="Latent-variable models trained across organisations that may not show each other their data.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for command in (
    demo,
    simulate,
    game_day,
    keygen,
    doctor,
    server,
    tenant,
    own_weights,
    shard,
    shard_keys,
    flower_app,
    flower_hub,
    fit,
    measure,
    operate,
    schema,
    estimates,
    predict,
    score,
    impute,
    sample,
    serve,
):
    app.command()(command)
privacy.command()(plan)
app.add_typer(privacy, name="privacy")
roster.command()(accept)
app.add_typer(roster, name="roster")
app.add_typer(policy, name="policy")
app.add_typer(provision, name="provision")
audit.command()(attack)
audit.command()(report)
app.add_typer(audit)
app.add_typer(registry)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fed-em {version('fed-em')}")
        raise typer.Exit


@app.callback()
def options(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options of the program itself."""
    del show_version


def main() -> None:
    """Run the command line; an error becomes two lines and an exit status, never a traceback."""
    try:
        app()
    except Exception as error:
        status = _report(error)
        if status is None:
            raise
        sys.exit(status)


def _report(error: Exception) -> int | None:
    """Tell of an error that was raised on purpose; its exit status says whose fault it is. None for any other error."""
    # Imported only here: the statistics take a third of a second to load, and `--help` needs none of them.
    from fed_em.errors import CallerError, EnvironmentFault, FedEmError
    from fed_em_protocols.errors import PeerFault
    from fed_em_server.checkpoints.resumable_sum import SessionPaused

    if not isinstance(error, FedEmError):
        return None
    typer.echo(f"fed-em: {error.diagnostics()}", err=True)
    by_fault: tuple[tuple[type[FedEmError], int], ...] = (
        (CallerError, 2), (PeerFault, 3), (SessionPaused, 5), (EnvironmentFault, 4),
    )  # fmt: skip
    return next((status for kind, status in by_fault if isinstance(error, kind)), 1)


if __name__ == "__main__":
    main()
