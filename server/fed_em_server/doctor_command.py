"""The command `fed-em doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.text import Text

    from fed_em_protocols.checks import Finding


def doctor(
    configuration: Annotated[Path, typer.Argument(help="A tenant's TOML file, or a server's.")],
) -> None:
    """Test apart everything that a session needs: files, keys, certificates, clock, network, data."""
    from rich.console import Console

    console = Console(highlight=False)
    failed = 0
    for finding in _examine(configuration):
        console.print(_line(finding), soft_wrap=True)
        failed += finding.failed
    console.print("all is well" if not failed else f"{failed} of these checks failed")
    raise typer.Exit(1 if failed else 0)


def _examine(path: Path) -> Iterator[Finding]:
    """The findings on a file, which says by its keys whose it is."""
    from datetime import UTC, datetime

    from fed_em.errors import CallerError
    from fed_em_client.configuration import TenantConfiguration
    from fed_em_client.tenant_doctor import examine_tenant
    from fed_em_protocols.configuration import read_toml
    from fed_em_server.configuration import ServerConfiguration
    from fed_em_server.server_doctor import examine_server

    keys = set(read_toml(path))
    now = datetime.now(UTC)
    tenant = len(keys & (TenantConfiguration.model_fields.keys() - ServerConfiguration.model_fields.keys()))
    server = len(keys & (ServerConfiguration.model_fields.keys() - TenantConfiguration.model_fields.keys()))
    if tenant == server:
        raise CallerError(
            f"{path} is neither a tenant's file nor a server's",
            remedy="a tenant's has name, roster_hash and data; a server's title, columns and model",
        )
    return examine_tenant(path, now) if tenant > server else examine_server(path, now)


def _line(finding: Finding) -> Text:
    from rich.text import Text

    verdict = ("FAIL", "bold red") if finding.failed else (" ok ", "green")
    line = Text.assemble(verdict, f"  {finding.what:<14}", finding.detail)
    if finding.remedy:
        line.append(f"\n      {'remedy:':<14}{finding.remedy}")
    return line
