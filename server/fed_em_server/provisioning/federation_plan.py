"""A federation as its coordinator plans it: one TOML file with its parties and the session's own tables."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from fed_em.errors import CallerError
from fed_em_protocols.addresses import Address
from fed_em_protocols.configuration import Table, read_toml, validated
from fed_em_protocols.enrolment import Invitation
from fed_em_protocols.errors import SERVER
from fed_em_protocols.limits import MAX_ROW_CAP, MAX_TENANTS, MIN_TENANTS
from fed_em_protocols.roster import Name
from fed_em_server.configuration import ServerConfiguration

PLAN = "federation.toml"

# Of the session's file, what is the same in every folder that is provisioned.
_OURS = ("listen", "roster", "keys")


# What goes into the parties' files between quotes.
_Plain = Field(min_length=1, pattern=r'^[^"\\\x00-\x1f\x7f]+$')


class PlannedTenant(Table):
    """One tenant to be invited."""

    name: Name
    row_cap: Annotated[int, Field(ge=1, le=MAX_ROW_CAP)]
    """The most rows that it may ever hold."""
    data: Annotated[str, _Plain] = "rows.parquet"
    """Where its file looks for its rows, until it says otherwise."""


class PlannedFederation(Table):
    """Who is invited into what."""

    federation: Name
    address: Annotated[Address, _Plain]
    """Where tenants dial the server."""
    listen: Annotated[Address, _Plain] = "0.0.0.0:8443"
    """Where the server listens."""
    block_size: Annotated[int, Field(ge=2)] | None = None
    """The least tenants of a block; by default f + 2."""
    tenants: Annotated[tuple[PlannedTenant, ...], Field(min_length=MIN_TENANTS, max_length=MAX_TENANTS)]
    session: dict[str, Any]
    """The tables of the server's session file."""

    @model_validator(mode="after")
    def _names_each_once(self) -> Self:
        names = [SERVER, *(tenant.name for tenant in self.tenants)]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"'{twice}' is the name of two parties")
        ours = next((key for key in _OURS if key in self.session), None)
        if ours is not None:
            raise ValueError(f"'{ours}' of the session is written by provisioning: leave it out of [session]")
        return self

    def invitations(self) -> dict[str, Invitation]:
        """What each party is invited to, by name, the server first."""
        common = {"federation": self.federation, "address": self.address}
        server = Invitation.model_validate({**common, "role": "server", "name": SERVER})
        tenants = [
            Invitation.model_validate({**common, "role": "tenant", "name": each.name, "row_cap": each.row_cap})
            for each in self.tenants
        ]
        return {each.name: each for each in (server, *tenants)}


@dataclass(frozen=True)
class FederationPlan:
    """A plan, its file's text, and the session file that follows from it."""

    parsed: PlannedFederation
    text: str
    session_text: str
    session: ServerConfiguration


def read_plan(path: Path) -> FederationPlan:
    """Read a plan and check all of it, the session's tables too.

    Raises:
        CallerError: the file is missing or wrong; names the key.
        EnvironmentFault: it cannot be read.
    """
    parsed = validated(path, read_toml(path), PlannedFederation)
    text = path.read_text(encoding="utf-8")
    own = "\n".join(_session_lines(text)).strip("\n")
    if _read(own) != parsed.session:
        raise CallerError(
            f"{path}: the session's tables cannot be told from the others",
            remedy="write them as [session], [session.fit], [[session.columns]] and so on, a line for each heading",
        )
    session_text = f"""\
# The session of '{parsed.federation}', for `fed-em server session.toml`. Paths are relative to this file.
listen = "{parsed.listen}"
roster = "roster.json"
keys = "keys"
{own}
"""
    return FederationPlan(parsed, text, session_text, validated(path, tomllib.loads(session_text), ServerConfiguration))


def _read(text: str) -> object:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return None


def _session_lines(text: str) -> Iterator[str]:
    """The lines of [session] and of the tables in it, with their comments, as they stand in a file of their own."""
    inside = False
    for line in text.splitlines():
        heading = re.match(r"\s*(\[\[?)\s*([A-Za-z0-9_-]+)\s*(?:\.\s*([^\]]+?)\s*)?(\]\]?)(.*)$", line)
        if heading is None or "=" in line.split("[")[0]:
            if inside:
                yield line
            continue
        opening, first, rest, closing, after = heading.groups()
        inside = first == "session"
        if inside and rest is not None:
            yield f"{opening}{rest}{closing}{after}"
