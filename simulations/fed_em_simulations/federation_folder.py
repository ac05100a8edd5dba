"""Writes a whole federation to disk, as its parties would have it: keys, cards, roster, configurations, rows."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fed_em.errors import CallerError, EnvironmentFault
from fed_em_client.configuration import TenantConfiguration, read_tenant_configuration
from fed_em_protocols.party import create_server_keys, create_tenant_keys, make_roster
from fed_em_protocols.roster import Roster
from fed_em_protocols.roster_shape import dealt_blocks, default_block_size
from fed_em_server.configuration import ServerConfiguration, read_server_configuration

Matrix = NDArray[np.float64]

_MARKER = ".fed-em-federation"


@dataclass(frozen=True)
class FederationFolder:
    """Where everything of a federation on this machine lies.

    Attributes:
        folder: The root; the model, the record and the report go here.
        roster: All parties.
        session_file: The server's configuration.
        tenant_files: Each tenant's configuration, by name.
    """

    folder: Path
    roster: Roster
    session_file: Path
    tenant_files: dict[str, Path]

    @property
    def server(self) -> ServerConfiguration:
        """The server's configuration."""
        return read_server_configuration(self.session_file)

    def tenant(self, name: str) -> TenantConfiguration:
        """One tenant's configuration."""
        return read_tenant_configuration(self.tenant_files[name])


def write_federation_folder(
    folder: Path,
    federation: str,
    session_toml: str,
    columns: Sequence[str],
    tenants: Mapping[str, Matrix | pa.Table],
    row_cap: int,
    address: str,
    block_size: int | None = None,
    policy: str = "",
) -> FederationFolder:
    """Write a federation. An earlier one in `folder` is replaced; anything else is left alone.

    Args:
        folder: Made if need be.
        federation: Its name.
        session_toml: The server's configuration file.
        columns: Column names of the rows.
        tenants: Rows `(n_i, D)` by tenant name, or tables that have these columns.
        row_cap: Of every tenant.
        address: The server's "host:port", as tenants dial it.
        block_size: The least tenants of a block; by default f + 2.
        policy: Every tenant's `[policy]`, where it is not the default one.

    Raises:
        CallerError: the folder holds something else.
    """
    _make_empty(folder)
    now = datetime.now(UTC)
    server_card = create_server_keys(folder / "server" / "keys", now)
    cards = [create_tenant_keys(folder / "tenants" / name / "keys", name, row_cap, now) for name in tenants]
    least = default_block_size(len(cards)) if block_size is None else block_size
    roster = make_roster(federation, server_card, cards, blocks=dealt_blocks(len(cards), least))
    session_file = folder / "server" / "session.toml"
    session_file.write_text(session_toml, encoding="utf-8")
    for home in (folder / "server", *(folder / "tenants" / name for name in tenants)):
        (home / "roster.json").write_text(roster.to_json(), encoding="utf-8")
    tenant_files = {}
    for tenant, rows in tenants.items():
        home = folder / "tenants" / tenant
        table = rows if isinstance(rows, pa.Table) else pa.table({name: rows[:, k] for k, name in enumerate(columns)})
        pq.write_table(table, home / "rows.parquet")
        tenant_files[tenant] = home / "tenant.toml"
        tenant_files[tenant].write_text(_tenant_toml(tenant, address, roster, policy), encoding="utf-8")
    return FederationFolder(folder, roster, session_file, tenant_files)


def _make_empty(folder: Path) -> None:
    try:
        _empty(folder)
    except OSError as error:
        raise EnvironmentFault(f"cannot use the folder {folder}: {error.strerror}", remedy="name another one") from None


def _empty(folder: Path) -> None:
    if folder.exists() and any(folder.iterdir()):
        if not (folder / _MARKER).exists():
            raise CallerError(
                f"{folder} holds files that are no federation of this program", remedy="name another folder"
            )
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _MARKER).touch()


def _tenant_toml(name: str, address: str, roster: Roster, policy: str) -> str:
    return f"""\
name = "{name}"
server = "{address}"
roster_hash = "{roster.digest.hex()}"
data = "rows.parquet"

[policy]
{policy}
"""
