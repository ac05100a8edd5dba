"""`fed-em keygen`, `fed-em roster new` and what the program does with errors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from fed_em.errors import CallerError, EnvironmentFault, FedEmError
from fed_em_protocols.errors import PeerFault
from fed_em_protocols.party import create_tenant_keys, load_keys
from fed_em_protocols.roster import load_pinned_roster, load_roster
from fed_em_protocols.roster_shape import drawn_witnesses
from fed_em_simulations import command_line
from tests.parties.forest import NAMES, MakeParties, Parties

RUN = CliRunner()


def run(*arguments: object) -> str:
    """What a command prints; it must succeed."""
    result = RUN.invoke(command_line.app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def refused(*arguments: object) -> CallerError:
    """The error of a command that must be refused."""
    with pytest.raises(CallerError) as caught:
        RUN.invoke(command_line.app, [str(argument) for argument in arguments], catch_exceptions=False)
    return caught.value


def cards(parties: Parties, *names: str) -> list[object]:
    """The options that give a server's card and some tenants' cards."""
    options: list[object] = ["--federation", "forest", "--server", parties.folder / "server" / "card.json"]
    for name in names:
        options += ["--tenant", parties.folder / name / "card.json"]
    return options


def more_tenants(parties: Parties, count: int) -> list[str]:
    """Tenants with keys beside those of the forest."""
    names = [f"x{number}" for number in range(count)]
    for name in names:
        create_tenant_keys(parties.folder / name, name, 10, datetime.now(UTC))
    return names


class TestKeygen:
    def test_a_tenants_keys(self, tmp_path: Path) -> None:
        output = run("keygen", tmp_path / "ash", "--name", "ash", "--row-cap", 500)
        load_keys(tmp_path / "ash")
        card = json.loads((tmp_path / "ash" / "card.json").read_text())
        assert (card["role"], card["name"], card["row_cap"]) == ("tenant", "ash", 500)
        assert str(tmp_path / "ash" / "card.json") in output
        assert "valid until" in output

    def test_a_servers_keys(self, tmp_path: Path) -> None:
        run("keygen", tmp_path / "keys", "--server")
        load_keys(tmp_path / "keys")
        assert json.loads((tmp_path / "keys" / "card.json").read_text())["role"] == "server"

    @pytest.mark.parametrize(
        "options",
        [
            (),
            ("--name", "ash"),
            ("--row-cap", 5),
            ("--server", "--name", "ash"),
            ("--server", "--row-cap", 5),
            ("--server", "--name", "ash", "--row-cap", 5),
        ],
    )
    def test_it_must_be_said_whose_they_are(self, tmp_path: Path, options: tuple[object, ...]) -> None:
        error = refused("keygen", tmp_path / "keys", *options)
        assert "--name and --row-cap for a tenant, or --server alone" in error.remedy
        assert not (tmp_path / "keys").exists()

    def test_existing_keys_are_kept(self, parties: Parties) -> None:
        before = load_keys(parties.folder / "ash").identity
        error = refused("keygen", parties.folder / "ash", "--name", "ash", "--row-cap", 5)
        assert "keys are never overwritten" in error.message
        assert load_keys(parties.folder / "ash").identity == before


class TestRoster:
    def test_its_hash_can_be_pinned(self, parties: Parties, tmp_path: Path) -> None:
        output = run("roster", "new", tmp_path / "new.json", *cards(parties, *NAMES), "--version-number", 2)
        pin = output.rsplit('roster_hash = "', 1)[1].split('"')[0]
        roster = load_pinned_roster(tmp_path / "new.json", pin)
        assert (roster.version, roster.names(range(3))) == (2, NAMES)
        assert "federation 'forest', version 2, 3 tenants" in output
        assert all(f"{name} " in output for name in NAMES)

    def test_the_same_cards_give_the_same_hash(self, parties: Parties, tmp_path: Path) -> None:
        output = run("roster", "new", tmp_path / "again.json", *cards(parties, *NAMES))
        assert parties.roster.digest.hex() in output

    def test_another_order_is_another_roster(self, parties: Parties, tmp_path: Path) -> None:
        output = run("roster", "new", tmp_path / "other.json", *cards(parties, *reversed(NAMES)))
        assert parties.roster.digest.hex() not in output

    def test_three_tenants_are_one_block(self, parties: Parties, tmp_path: Path) -> None:
        output = run("roster", "new", tmp_path / "new.json", *cards(parties, *NAMES))
        assert "one block: every sum needs all tenants, and whoever drops out pauses the session" in output
        assert "--block-size" not in output
        assert len(load_roster(tmp_path / "new.json").blocks) == 1

    def test_blocks_by_size(self, parties: Parties, tmp_path: Path) -> None:
        names = [*NAMES, *more_tenants(parties, 6)]
        output = run("roster", "new", tmp_path / "threes.json", *cards(parties, *names), "--block-size", 3)
        roster = load_roster(tmp_path / "threes.json")
        assert [roster.names(block) for block in roster.blocks] == [
            ("ash", "x0", "x3"), ("beech", "x1", "x4"), ("cedar", "x2", "x5"),
        ]  # fmt: skip
        assert "3 blocks, each of which is in a sum whole or not at all" in output
        assert "  beech, x1, x4" in output
        assert "sessions must say colluders = 1 or less" in output
        output = run("roster", "new", tmp_path / "default.json", *cards(parties, *names))
        assert sorted(map(len, load_roster(tmp_path / "default.json").blocks)) == [4, 5]
        assert "sessions must say" not in output

    def test_so_many_that_one_block_could_be_several(self, parties: Parties, tmp_path: Path) -> None:
        names = [*NAMES, *more_tenants(parties, 4)]
        output = run("roster", "new", tmp_path / "new.json", *cards(parties, *names))
        assert "--block-size 3 makes 2 blocks, of which the others go on, for f = 1 colluding tenant" in output

    def test_blocks_by_name(self, parties: Parties, tmp_path: Path) -> None:
        names = [*NAMES, *more_tenants(parties, 3)]
        options = [*cards(parties, *names), "--block", "ash,x2,x1", "--block", "beech,cedar,x0"]
        run("roster", "new", tmp_path / "new.json", *options)
        roster = load_roster(tmp_path / "new.json")
        assert [roster.names(block) for block in roster.blocks] == [("ash", "x1", "x2"), ("beech", "cedar", "x0")]
        error = refused("roster", "new", tmp_path / "other.json", *options[:-2])
        assert "'beech' is in no block" in error.message
        error = refused("roster", "new", tmp_path / "other.json", *options, "--block-size", 3)
        assert error.remedy == "give one of the two"

    def test_witnesses_are_for_large_rosters(self, parties: Parties, tmp_path: Path) -> None:
        error = refused("roster", "new", tmp_path / "new.json", *cards(parties, *NAMES), "--witnesses", 3)
        assert "every one of up to 64 tenants is a witness" in error.message

    def test_a_large_roster_has_witnesses_that_its_names_draw(self, parties: Parties, tmp_path: Path) -> None:
        names = [*NAMES, *more_tenants(parties, 63)]
        output = run("roster", "new", tmp_path / "new.json", *cards(parties, *names))
        roster = load_roster(tmp_path / "new.json")
        assert frozenset(roster.witnesses) == drawn_witnesses("forest", names, 44)
        assert "44 witnesses certify rounds, as the hash of all names draws them: " in output
        run("roster", "new", tmp_path / "few.json", *cards(parties, *names), "--witnesses", 20)
        assert len(load_roster(tmp_path / "few.json").witnesses) == 20

    def test_an_existing_roster_is_kept(self, parties: Parties) -> None:
        error = refused("roster", "new", parties.roster_file, *cards(parties, *NAMES))
        assert "roster.json exists" in error.message
        assert "roster-1.json" in error.remedy

    def test_one_card_twice(self, parties: Parties, tmp_path: Path) -> None:
        error = refused("roster", "new", tmp_path / "new.json", *cards(parties, "ash", "ash", "beech"))
        assert "two parties have the same name 'ash'" in error.message
        assert not (tmp_path / "new.json").exists()

    def test_too_few_tenants(self, parties: Parties, tmp_path: Path) -> None:
        assert (
            "a roster of 2 tenants"
            in refused("roster", "new", tmp_path / "new.json", *cards(parties, *NAMES[:2])).message
        )

    def test_a_tenants_card_for_the_servers(self, parties: Parties, tmp_path: Path) -> None:
        options = cards(parties, *NAMES)
        options[3] = parties.folder / "ash" / "card.json"
        assert (
            "the card of 'ash' is that of a tenant" in refused("roster", "new", tmp_path / "new.json", *options).message
        )

    def test_a_missing_card(self, parties: Parties, tmp_path: Path) -> None:
        error = refused("roster", "new", tmp_path / "new.json", *cards(parties, *NAMES[:2], "elm"))
        assert "elm/card.json" in error.message

    def test_an_expired_certificate(self, parties: Parties, make_parties: MakeParties, tmp_path: Path) -> None:
        create_tenant_keys(parties.folder / "elm", "elm", 10, datetime(2020, 1, 1, tzinfo=UTC))
        error = refused("roster", "new", tmp_path / "new.json", *cards(parties, *NAMES, "elm"))
        assert "the certificate of 'elm' expired on 2022-04-" in error.message
        assert not (tmp_path / "new.json").exists()


class TestErrors:
    @pytest.mark.parametrize(
        ("error", "status"),
        [
            (CallerError("no such column", remedy="rename it"), 2),
            (PeerFault("beech", "sent garbage", proves="its software is faulty"), 3),
            (EnvironmentFault("the disk is full", remedy="make room"), 4),
            (FedEmError("something else", remedy="look"), 1),
        ],
    )
    def test_two_lines_and_a_status_that_says_whose_fault_it_is(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: FedEmError, status: int
    ) -> None:
        def fail() -> None:
            raise error

        failing = typer.Typer()
        failing.command()(fail)
        monkeypatch.setattr(command_line, "app", failing)
        monkeypatch.setattr(sys, "argv", ["fed-em"])
        with pytest.raises(SystemExit) as caught:
            command_line.main()
        shown = capsys.readouterr()
        assert caught.value.code == status
        assert shown.err == f"fed-em: {error.diagnostics()}\n"
        assert len(shown.err.splitlines()) == 2
        assert shown.out == ""

    def test_a_bug_is_not_dressed_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail() -> None:
            raise ZeroDivisionError

        failing = typer.Typer()
        failing.command()(fail)
        monkeypatch.setattr(command_line, "app", failing)
        monkeypatch.setattr(sys, "argv", ["fed-em"])
        with pytest.raises(ZeroDivisionError):
            command_line.main()


class TestProgram:
    def program(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "fed_em_simulations.command_line", *(str(argument) for argument in arguments)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def test_help_names_every_command(self) -> None:
        done = self.program("--help")
        assert done.returncode == 0
        for command in ("keygen", "roster", "doctor"):
            assert command in done.stdout

    def test_an_error_without_a_traceback(self, tmp_path: Path) -> None:
        done = self.program("doctor", tmp_path / "tenant.toml")
        assert done.returncode == 2
        assert done.stderr.startswith(f"fed-em: there is no file {tmp_path / 'tenant.toml'}")
        assert "Traceback" not in done.stderr

    def test_from_keys_to_a_checked_federation(self, parties: Parties) -> None:
        made = self.program("keygen", parties.folder / "elm", "--name", "elm", "--row-cap", 9)
        assert made.returncode == 0, made.stderr
        parties.roster_file.unlink()
        made = self.program("roster", "new", parties.roster_file, *cards(parties, *NAMES, "elm"))
        assert made.returncode == 0, made.stderr
        checked = self.program("doctor", parties.server_file())
        assert checked.returncode == 0, checked.stdout
        assert checked.stdout.splitlines()[-1] == "all is well"
        assert "4 tenants" in checked.stdout

    def test_help_is_not_kept_waiting_for_the_statistics(self) -> None:
        """Loading numpy and the rest would take most of a second."""
        program = (
            "import sys, fed_em_simulations.command_line\n"
            "print({'numpy', 'scipy', 'grpc', 'pyarrow', 'pydantic', 'cryptography', 'flwr'} & set(sys.modules))"
        )
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.stdout, done.stderr) == ("set()\n", "")
