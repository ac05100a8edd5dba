"""The commands `fed-em policy show` and `fed-em policy verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

policy = typer.Typer(help="A tenant's policy, and what its messages say of it.", no_args_is_help=True)

_Hex = Annotated[str, typer.Argument(help="64 hexadecimal digits.")]


@policy.command()
def show(
    configuration: Annotated[Path, typer.Argument(help="The tenant's TOML file.")],
    canonical: Annotated[
        bool, typer.Option("--canonical", help="Print the bytes that are hashed, and nothing else.")
    ] = False,
) -> None:
    """Print the policy in force, defaults included, its digest, and the commitment in every signed message with what opens it."""
    from fed_em_client.configuration import read_tenant_configuration
    from fed_em_protocols.party import load_keys
    from fed_em_protocols.policy import commitment_to, salt_of

    parsed = read_tenant_configuration(configuration)
    if canonical:
        typer.echo(parsed.policy.canonical.decode(), nl=False)
        return
    for name, value in parsed.policy.model_dump(mode="json").items():
        typer.echo(f"{name:<18} {_in_words(value)}")
    digest = parsed.policy.digest
    salt = salt_of(digest, load_keys(parsed.keys).identity)
    typer.echo(f"\n{'digest':<18} {digest.hex()}")
    typer.echo(f"{'salt':<18} {salt.hex()}")
    typer.echo(f"{'commitment':<18} {commitment_to(digest, salt).hex()}")
    typer.echo("messages carry the commitment; whoever is given this policy and its salt can check it, nobody else can")


@policy.command()
def verify(
    file: Annotated[Path, typer.Argument(help="A policy's TOML file, or a tenant's that holds one.")],
    salt: _Hex,
    commitment: _Hex,
) -> None:
    """Check that a commitment in a tenant's messages is to this policy."""
    from fed_em.errors import CallerError
    from fed_em_client.configuration import read_policy
    from fed_em_protocols.policy import commitment_to

    found = read_policy(file)
    try:
        opened = commitment_to(found.digest, bytes.fromhex(salt)) == bytes.fromhex(commitment)
    except ValueError:
        raise CallerError("salt and commitment are 64 hexadecimal digits each") from None
    if not opened:
        raise CallerError(
            f"{file} is not the policy behind this commitment: its digest begins with {found.digest.hex()[:16]}",
            remedy="ask the tenant for the policy of that session and its salt, as `fed-em policy show` prints them",
        )
    typer.echo(f"the commitment is to this policy, of digest {found.digest.hex()}")


def _in_words(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} ({said})" for name, said in value.items()) or "(any)"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "(any)"
    return "(none)" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
