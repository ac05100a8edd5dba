"""A small federation provisioned as its parties would: every folder goes to a machine of its own, a request comes back."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fed_em.errors import FedEmError
from fed_em_protocols.roster import load_roster
from fed_em_server.provisioning_commands import provision

NAMES = ("server", "north", "south", "west")

PLAN = """\
federation = "clinics"
address = "127.0.0.1:8443"
listen = "127.0.0.1:0"

[[tenants]]
name = "north"
row_cap = 500
[[tenants]]
name = "south"
row_cap = 500
[[tenants]]
name = "west"
row_cap = 400

[session]                        # a comment that stays with nothing
title = "small"

[session.fit]
tolerance = 1e-5                 # nats a row
seed = 3

[session.model]
family = "gaussian-mixture"
n_components = 2

[[session.columns]]
name = "a"
low = -20
high = 20
[[session.columns]]
name = "b"
low = -20
high = 20
"""


def run(*arguments: object) -> str:
    """What `fed-em provision` prints; it must succeed."""
    result = CliRunner().invoke(provision, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def refused(kind: type[FedEmError], *arguments: object) -> FedEmError:
    """The error of a command that must be refused."""
    with pytest.raises(kind) as caught:
        CliRunner().invoke(provision, [str(argument) for argument in arguments], catch_exceptions=False)
    return caught.value


@dataclass(frozen=True)
class Provisioned:
    """A coordinator's folder, and a machine for each party."""

    folder: Path

    @property
    def desk(self) -> Path:
        """What the coordinator has."""
        return self.folder / "coordinator" / "clinics"

    def machine(self, name: str) -> Path:
        """What a party has."""
        return self.folder / "machines" / name

    def request(self, name: str) -> Path:
        """What it sent."""
        return self.folder / "mail" / f"{name}.json"

    def enrol(self, name: str) -> str:
        """The party's command on its own machine, and its request by mail."""
        told = run("enrol", self.machine(name))
        self.request(name).parent.mkdir(exist_ok=True)
        shutil.copy(self.machine(name) / "request.json", self.request(name))
        return told

    def collect(self, *names: str, more: Sequence[str] = ()) -> str:
        """The coordinator's command on what came by mail."""
        return run("collect", self.desk, *map(self.request, names), *more)

    def publish(self) -> str:
        """The roster, and by mail to all machines."""
        told = run("publish", self.desk)
        for name in NAMES:
            shutil.copy(self.desk / "roster.json", self.machine(name) / "roster.json")
        return told

    def join(self) -> None:
        """All parties pin it."""
        pin = load_roster(self.desk / "roster.json").digest.hex()
        for name in NAMES:
            run("join", self.machine(name), "--pin", pin)


def sent_out(folder: Path, plan: str = PLAN) -> Provisioned:
    """Folders made and sent; nobody has done anything yet."""
    made = Provisioned(folder)
    made.desk.parent.mkdir(parents=True)
    (folder / "plan.toml").write_text(plan)
    run("new", folder / "plan.toml", made.desk)
    for name in NAMES:
        shutil.copytree(made.desk / "parties" / name, made.machine(name))
    return made
