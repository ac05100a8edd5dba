"""The commands `fed-em flower-app` and `fed-em flower-hub`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def flower_app(
    folder: Annotated[Path, typer.Argument(help="Where to write it; `flwr run` takes the path that is printed.")],
    sign: Annotated[
        Path | None,
        typer.Option("--sign", help="Ed25519 key of `ssh-keygen`: build and sign the bundle there, for `flower-hub`."),
    ] = None,
) -> None:
    """Write the Flower app that `flwr run` submits: a shim without code, which names installed modules."""
    from fed_em_server.bundle import write_bundle

    if sign is None:
        typer.echo(write_bundle(folder))
        return
    from fed_em_server.bundle_signature import sign_bundle

    signed = sign_bundle(folder, sign)
    typer.echo(f"{signed.bundle}\n{signed.signature}\n{signed.trusted}: for tenants that trust this signer")


def flower_hub(
    folder: Annotated[Path, typer.Argument(help="With what `fed-em flower-app --sign` wrote.")],
    listen: Annotated[str, typer.Option("--listen", help="host:port, on the SuperLink's machine.")] = "127.0.0.1:9095",
) -> None:
    """Hand signed bundles to the SuperLink whose `FLWR_SUPERGRID_API_URL` names this address, until interrupted."""
    from fed_em_server.bundle_hub import BundleHub

    with BundleHub(folder, listen, typer.echo) as hub:
        typer.echo(f"FLWR_SUPERGRID_API_URL={hub.url}")
        hub.serve_forever()
