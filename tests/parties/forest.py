"""A federation's parties on disk: keys, cards, a roster, and a tenant's and a server's file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from fed_em_protocols.party import Card, create_server_keys, create_tenant_keys, make_roster
from fed_em_protocols.roster import Roster

NAMES = ("ash", "beech", "cedar")
ROW_CAP = 50


@dataclass(frozen=True)
class Parties:
    """Three tenants and a server; every party's keys are in the folder of its name."""

    folder: Path
    cards: dict[str, Card]
    roster: Roster

    @property
    def roster_file(self) -> Path:
        return self.folder / "roster.json"

    def tenant_file(self, name: str = "ash", **changes: str) -> Path:
        """A tenant's configuration with sound rows; `changes` replace whole values, as TOML."""
        rows = self.folder / f"{name}.csv"
        if not rows.exists():
            rows.write_text("age,weight\n30,70.5\n41,80\n")
        values = {
            "name": f'"{name}"',
            "server": '"127.0.0.1:1"',
            "roster": '"roster.json"',
            "roster_hash": f'"{self.roster.digest.hex()}"',
            "keys": f'"{name}"',
            "data": f'"{rows.name}"',
        }
        return self._write(f"{name}.toml", {**values, **changes})

    def server_file(self, **changes: str) -> Path:
        """A session's configuration; `changes` replace whole values, as TOML."""
        values = {
            "title": '"growth"',
            "listen": '"127.0.0.1:0"',
            "roster": '"roster.json"',
            "keys": '"server"',
            "model": '{family = "gaussian-mixture", n_components = 2}',
            "columns": '[{name = "age", low = 0, high = 120}, {name = "weight", low = 0, high = 300}]',
        }
        return self._write("session.toml", {**values, **changes})

    def _write(self, name: str, values: dict[str, str]) -> Path:
        path = self.folder / name
        path.write_text("".join(f"{key} = {value}\n" for key, value in values.items()), encoding="utf-8")
        return path


MakeParties = Callable[..., Parties]


def found_parties(folder: Path, now: datetime) -> Parties:
    """Parties in a new folder, all of whose keys are made at the given time of day."""
    cards = {name: create_tenant_keys(folder / name, name, ROW_CAP, now) for name in NAMES}
    server = create_server_keys(folder / "server", now)
    roster = make_roster("forest", server, cards.values())
    roster.write_new(folder / "roster.json")
    return Parties(folder, {**cards, "server": server}, roster)
