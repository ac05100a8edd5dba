"""A server that is started again when its session is over, as supervisors do: it says so and ends well, and makes up for a report only."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest
from click.testing import Result
from processes import Crashed, Death, World
from small_federation import clustered_rows, write_small_federation
from test_resuming import PLAIN, POLICY, SIZES
from typer.testing import CliRunner

from fed_em.errors import CallerError, EnvironmentFault
from fed_em_server.record import RECORD_FILE
from fed_em_server.report import REPORT_FILE, write_report
from fed_em_server.serve import MODEL_FOLDER, keep_outcome
from fed_em_server.session import SessionOutcome
from fed_em_simulations.command_line import app
from fed_em_simulations.federation_folder import FederationFolder


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[FederationFolder, SessionOutcome]:
    """A session whose server was struck behind its last commit: it has its outcome, and no report."""
    folder = tmp_path_factory.mktemp("ended")
    federation = write_small_federation(folder / "f", clustered_rows(SIZES), PLAIN, policy=POLICY)
    world = World.of(federation)
    world.place = ""  # as a server's own file of checkpoints has it
    outcome = world.process()
    keep_outcome(federation.server.output, outcome)
    return federation, outcome


@pytest.fixture
def ended(first: tuple[FederationFolder, SessionOutcome], tmp_path: Path) -> FederationFolder:
    """A copy of it."""
    federation, _ = first
    shutil.copytree(federation.folder, tmp_path / "f")
    names = {
        name: tmp_path / "f" / path.relative_to(federation.folder) for name, path in federation.tenant_files.items()
    }
    return FederationFolder(tmp_path / "f", federation.roster, tmp_path / "f" / "server" / "session.toml", names)


def started(federation: FederationFolder, *options: str) -> Result:
    return CliRunner().invoke(app, ["server", str(federation.session_file), *options])


def files_of(folder: Path) -> dict[Path, tuple[bytes, int]]:
    """What is in each file, and when it was written."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder): (path.read_bytes(), path.stat().st_mtime_ns) for path in found}


def test_a_report_is_made_up_for_and_then_nothing_is_touched(
    ended: FederationFolder, first: tuple[FederationFolder, SessionOutcome], tmp_path: Path
) -> None:
    before = files_of(ended.folder)
    report = (ended.server.output.resolve() / REPORT_FILE).relative_to(ended.folder)
    assert report not in before
    again = started(ended)
    assert again.exit_code == 0 and "is over: its model is in" in again.output, again.output
    assert "its report was missing, and is now" in again.output
    after = files_of(ended.folder)
    expected = write_report(tmp_path / "expected", first[1].record, first[1].fitted).read_bytes()
    assert after[report][0] == expected, "the very one that the first process would have written"
    assert {path: data for path, (data, _) in after.items()} == {
        **{path: data for path, (data, _) in before.items()}, report: expected
    }  # fmt: skip
    once_more = started(ended)
    assert once_more.exit_code == 0 and "nothing is left to do" in once_more.output
    assert files_of(ended.folder) == after


def test_a_report_that_the_disk_does_not_take_is_named_and_made_later(
    ended: FederationFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as disk:
        disk.setattr("fed_em_server.report.write_whole", full)
        failed = started(ended)
    assert isinstance(failed.exception, EnvironmentFault) and "cannot write a report" in failed.exception.message
    assert not (ended.server.output / REPORT_FILE).exists()
    assert "its report was missing, and is now" in started(ended).output


def test_it_needs_no_certificate_that_is_valid(ended: FederationFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a session that is over nobody dials."""

    def expired(*_: object) -> None:
        raise CallerError("the certificate has expired")

    monkeypatch.setattr("fed_em_server.serve.check_certificate", expired)
    (ended.server.output / REPORT_FILE).touch()
    assert started(ended).exit_code == 0


def test_another_session_in_its_folder_is_refused_as_ever(ended: FederationFolder) -> None:
    for options in (["--new"], []):
        refused = started(ended, *options)
        assert isinstance(refused.exception, CallerError), refused.output
        assert "holds the model of an earlier session" in refused.exception.message
        ended.session_file.write_text(PLAIN.replace("max_iterations = 3", "max_iterations = 4"))


def test_a_folder_whose_files_are_not_of_one_session_is_refused(ended: FederationFolder) -> None:
    record = ended.server.output / RECORD_FILE
    whole = record.read_text()
    record.write_text(whole[: len(whole) // 2])
    refused = started(ended)
    assert isinstance(refused.exception, EnvironmentFault) and "is no record of a session" in refused.exception.message
    manifest = ended.server.output / MODEL_FOLDER / "manifest.json"
    session = manifest.read_text().split('"session": "')[1][:32]
    record.write_text(whole.replace(session, "0" * 32))
    refused = started(ended)
    assert isinstance(refused.exception, CallerError)
    assert "holds the model of an earlier session" in refused.exception.message


def test_of_a_session_that_is_not_over_nothing_is_said(tmp_path: Path) -> None:
    """It was struck between its model and its last commit, and goes on."""
    federation = write_small_federation(tmp_path / "f", clustered_rows(SIZES), PLAIN, policy=POLICY)
    world = World.of(federation)
    world.place = ""
    with pytest.raises(Crashed):
        world.process(Death("after commit", 3))
    (federation.server.output / MODEL_FOLDER).mkdir()
    federation.session_file.write_text(
        federation.session_file.read_text().replace('title = "small"', 'title = "other"')
    )
    refused = started(federation)
    assert isinstance(refused.exception, CallerError) and "is not over" in refused.exception.message
