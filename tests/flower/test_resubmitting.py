"""A run whose coordinator dies leaves a session that is not over: the next run of it goes on, to the same model, bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_federation import MODEL, Recorder, clustered_rows, memory_hub, session_toml, write_small_federation

from fed_em.errors import CallerError
from fed_em.model import Parameters
from fed_em.model_file import load_model
from fed_em_client import flower_tenant
from fed_em_client.tenant_log_file import LOG_FILE
from fed_em_server import relay_hub
from fed_em_server.audit.verify import verify
from fed_em_server.record import RoundRecord
from fed_em_server.serve import open_server
from fed_em_server.session import run_session
from fed_em_server.transcript_folder import read_transcript
from fed_em_simulations.federation_folder import FederationFolder
from fed_em_simulations.unused_ports import unused_ports
from tests.flower.fake_grid import FakeGrid, node_at, node_of, run_over
from tests.flower.tenants import Restarting, tenants_at

SIZES = (60, 40, 50)
TIMES = "gather = 300\npatience = 1\nstraggler = 20\nset_up = 60\nupload = 60\nopen = 60"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_hub, "_POLL_SECONDS", 0.002)
    monkeypatch.setattr(relay_hub, "_FIRST_REST", 0.1)
    monkeypatch.setattr(flower_tenant, "_GLANCE", 0.02)


@pytest.fixture
def federation(tmp_path: Path) -> FederationFolder:
    """Its server listens at the same port in every run, where tenants dial it again."""
    (port,) = unused_ports(1)
    session = session_toml(MODEL, "tolerance = 0\nmax_iterations = 6", TIMES).replace(
        "127.0.0.1:0", f"127.0.0.1:{port}"
    )
    return write_small_federation(tmp_path / "f", clustered_rows(SIZES), session)


class Killed(BaseException):
    """Instead of SIGKILL."""


class Killing(Recorder):
    """Ends the coordinator when so many rounds have been opened while it looked on."""

    def __init__(self, rounds: int) -> None:
        super().__init__()
        self._rounds = rounds

    def round_opened(self, record: RoundRecord) -> None:
        super().round_opened(record)
        if len(self.rounds) == self._rounds:
            raise Killed


def undisturbed(federation: FederationFolder) -> Parameters:
    outcome = run_session(open_server(federation.server).plan("memory"), memory_hub(federation), Recorder())
    return outcome.result.fit.parameters


def assert_one_session(federation: FederationFolder) -> None:
    """Of one transcript, whose model is that of a session without a death."""
    assert load_model(federation.server.output / "model").parameters.distance(undisturbed(federation)) == 0
    logs = {name: federation.tenant(name).state / LOG_FILE for name in federation.tenant_files}
    kept = {name: log.read_bytes() for name, log in logs.items() if log.exists()}
    found = verify(read_transcript(federation.server.output), federation.roster, kept)
    assert found.passed, found.to_json()


def test_over_the_stream(federation: FederationFolder, doors: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(watcher: Recorder) -> None:
        grid = FakeGrid({100 + k: node_at(doors / name) for k, name in enumerate(federation.tenant_files)})
        run_over(grid, federation, watcher)

    with tenants_at(federation, doors) as served:
        for rounds in (2, 5):
            with pytest.raises(Killed):
                run(Killing(rounds))
        run(Recorder())
        for name, future in served.items():
            assert load_model(future.result(60)).parameters.distance(undisturbed(federation)) == 0, name
    assert_one_session(federation)
    assert capsys.readouterr().out.count(" goes on, ") == 2


def test_over_grid_messages_and_new_begins_another(federation: FederationFolder) -> None:
    answers = [Restarting(federation, name).answer for name in federation.tenant_files]

    def run(watcher: Recorder, new: bool = False) -> None:
        grid = FakeGrid({100 + k: node_of(answer) for k, answer in enumerate(answers)})
        run_over(grid, federation, watcher, link="relay", new=new)

    abandoned, begun, gone_on = Killing(2), Killing(3), Recorder()
    for killing, new in ((abandoned, False), (begun, True)):
        with pytest.raises(Killed):
            run(killing, new)
    run(gone_on)
    assert abandoned.record and begun.record and gone_on.record
    assert abandoned.record.session != begun.record.session == gone_on.record.session
    assert_one_session(federation)
    with pytest.raises(CallerError, match="holds the model of an earlier session"):
        run(Recorder())
