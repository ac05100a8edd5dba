"""Both links of a Flower session over a Grid without engines: real ServerApp, ClientApp, doors and tenants, in one process."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Message
from flwr.supernode.start_client_internal import FAB_VERIFICATION_ERROR
from small_federation import MODEL, Recorder, clustered_rows, session_toml, write_small_federation
from test_equals_pooled import assert_same_path, pooled_from_same_start

from fed_em.model_file import load_model
from fed_em_client import flower_tenant
from fed_em_client.tenant_log_file import LOG_FILE
from fed_em_protocols.coordinator_state import NoticeKind, Timetable
from fed_em_protocols.envelope import seal
from fed_em_protocols.grid_payloads import Parcel
from fed_em_protocols.keys import SigningKey
from fed_em_protocols.messages import Hello
from fed_em_protocols.wire.grid_messages import Action, AnswerCode
from fed_em_server import relay_hub
from fed_em_server.audit.verify import verify
from fed_em_server.grid_nodes import GridNodes
from fed_em_server.hub import Arrived
from fed_em_server.record import Participation
from fed_em_server.session import SessionOutcome
from fed_em_server.transcript_folder import read_transcript
from fed_em_simulations.federation_folder import FederationFolder, Matrix
from tests.flower.fake_grid import FakeGrid, Node, app, context_of, node_at, node_of, run_over
from tests.flower.tenants import Restarting, tenants_at

SIZES = (60, 40, 50, 30)
# Relayed sessions would wait longer than any test. What is lost is missed at once; all other waits are limits for a busy machine.
SHORT = Timetable(gather=8.0, patience=1.0, set_up=5.0, upload=5.0, straggler=2.0, open=2.0)
TIMES = "gather = 300\npatience = 1\nstraggler = 20\nset_up = 60\nupload = 60\nopen = 60"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_hub, "_POLL_SECONDS", 0.002)
    monkeypatch.setattr(relay_hub, "_FIRST_REST", 0.1)
    monkeypatch.setattr(relay_hub, "_AT_LEAST", SHORT)
    monkeypatch.setattr(flower_tenant, "_GLANCE", 0.02)


def federation_of(tmp_path: Path, iterations: int) -> tuple[FederationFolder, Matrix]:
    tenants = clustered_rows(SIZES)
    session = session_toml(MODEL, f"tolerance = 1e-7\nmax_iterations = {iterations}", TIMES)
    return write_small_federation(tmp_path / "f", tenants, session), np.concatenate(list(tenants.values()))


def grid_of(federation: FederationFolder, doors: Path) -> FakeGrid:
    return FakeGrid({100 + k: node_at(doors / name) for k, name in enumerate(federation.tenant_files)})


def relay(grid: FakeGrid, federation: FederationFolder, watcher: Recorder) -> SessionOutcome:
    return run_over(grid, federation, watcher, link="relay")


def stream(grid: FakeGrid, federation: FederationFolder, watcher: Recorder, simulated: str = "") -> SessionOutcome:
    return run_over(grid, federation, watcher, federation=simulated)


def assert_verified(federation: FederationFolder) -> None:
    """The transcript is there, replays, and agrees with every tenant's own log."""
    logs = {name: (federation.tenant(name).state / LOG_FILE).read_bytes() for name in federation.tenant_files}
    found = verify(read_transcript(federation.server.output), federation.roster, logs)
    assert found.passed, found.to_json()
    assert found.session is not None and found.session.closed is not None


def kinds(watcher: Recorder, kind: NoticeKind) -> list[tuple[str, ...]]:
    return [notice.tenants for notice in watcher.notices if notice.kind is kind]


def test_a_relayed_session_is_pooled_em(tmp_path: Path, doors: Path) -> None:
    federation, rows = federation_of(tmp_path, 6)
    grid = grid_of(federation, doors)
    with tenants_at(federation, doors) as served:
        outcome = relay(grid, federation, Recorder())
        models = {name: load_model(future.result(20)) for name, future in served.items()}
    assert_same_path(outcome, pooled_from_same_start(federation, outcome.result, rows))
    assert len(outcome.result.fit.iterations) == 6
    assert all(kept.parameters.distance(outcome.fitted.parameters) == 0 for kept in models.values())
    assert outcome.record.transport == "flower, relayed"
    assert_verified(federation)
    assert all(record.bytes_up > 0 and record.bytes_down > 0 for record in outcome.record.rounds)
    assert not grid.errors


def test_a_streamed_session_is_pooled_em_and_a_late_tenant_gets_a_ticket(tmp_path: Path, doors: Path) -> None:
    federation, rows = federation_of(tmp_path, 15)
    grid = grid_of(federation, doors)
    with tenants_at(federation, doors, late=1.5) as served:
        outcome = stream(grid, federation, Recorder())
        models = {name: load_model(future.result(20)) for name, future in served.items()}
    assert len(outcome.record.rounds) == 16
    assert_verified(federation)
    assert_same_path(outcome, pooled_from_same_start(federation, outcome.result, rows))
    assert all(kept.parameters.distance(outcome.fitted.parameters) == 0 for kept in models.values())
    assert not grid.errors


def test_tenants_inside_client_apps(tmp_path: Path) -> None:
    """As in the simulation runtime: no sockets, the whole session is a ClientApp's answer."""
    federation, rows = federation_of(tmp_path, 15)
    run_config = {"federation": str(federation.folder)}

    def partition(k: int) -> Node:
        context = context_of({"partition-id": k, "num-partitions": len(SIZES)}, run_config)
        return lambda message: app(message, context)

    grid = FakeGrid({100 + k: partition(k) for k in range(len(SIZES))})
    outcome = stream(grid, federation, Recorder(), str(federation.folder))
    assert_same_path(outcome, pooled_from_same_start(federation, outcome.result, rows))
    for name in federation.tenant_files:
        kept = load_model(federation.tenant(name).state / "model")
        assert kept.parameters.distance(outcome.fitted.parameters) == 0


# Answers: hello, join, advertisement, deposit, ready, and from then on an upload, an endorsement and an opening a round.
@pytest.mark.slow
@pytest.mark.parametrize(("after", "recovered_in"), [(2, None), (4, None), (8, None), (9, 1), (10, 1)])
def test_a_tenant_that_restarts_is_recognised_by_its_next_answer(
    tmp_path: Path, after: int, recovered_in: int | None
) -> None:
    federation, _ = federation_of(tmp_path, 6)
    tenants = [Restarting(federation, name, after if name == "t1" else 0) for name in federation.tenant_files]
    grid = FakeGrid({100 + k: node_of(tenant.answer) for k, tenant in enumerate(tenants)})
    watcher = Recorder()
    outcome = relay(grid, federation, watcher)
    assert kinds(watcher, NoticeKind.LINKED).count(("t1",)) == 2
    assert not kinds(watcher, NoticeKind.FAULT)
    assert len(outcome.record.rounds) == 7
    if recovered_in is not None:
        assert outcome.record.rounds[recovered_in].participation[1] is Participation.RECOVERED
    assert outcome.record.rounds[-1].complete


def test_a_node_that_fails_for_a_while_costs_the_others_nothing_but_time(tmp_path: Path) -> None:
    federation, rows = federation_of(tmp_path, 6)
    answers = [Restarting(federation, name).answer for name in federation.tenant_files]
    nodes = {100 + k: node_of(answer) for k, answer in enumerate(answers)}
    asked = 0

    def flaky(action: Action, data: bytes) -> tuple[AnswerCode, bytes]:
        nonlocal asked
        asked += 1
        if asked == 7:
            raise RuntimeError("the ClientApp's process died")
        if asked == 8:
            return AnswerCode.NO_TENANT, b""
        return answers[2](action, data)

    grid = FakeGrid({**nodes, 102: node_of(flaky)})
    watcher = Recorder()
    outcome = relay(grid, federation, watcher)
    assert kinds(watcher, NoticeKind.LEFT) == [("t2",)]
    assert_same_path(outcome, pooled_from_same_start(federation, outcome.result, rows))


def test_a_parcel_holds_no_more_messages_than_it_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others go with the next one."""
    monkeypatch.setattr(relay_hub, "MAX_PARCEL_MESSAGES", 1)
    federation, _ = federation_of(tmp_path, 3)
    tenant = Restarting(federation, "t0")
    heard: list[int] = []

    def counting(action: Action, data: bytes) -> tuple[AnswerCode, bytes]:
        heard.append(len(Parcel.from_bytes(data, "server").messages))
        return tenant.answer(action, data)

    hub = relay_hub.RelayHub(FakeGrid({100: node_of(counting)}), federation.roster, bytes(16), 5.0)  # type: ignore[arg-type]
    assert isinstance(hub.receive(hub.now() + 5.0), Arrived)
    for _ in range(3):
        hub.send(0, b"")
    hub.receive(hub.now() + 1.0)
    assert heard[0] == 0 and heard[1:] and set(heard[1:]) == {1}


def test_nodes_that_are_nobodys_are_kept_out(tmp_path: Path) -> None:
    federation, rows = federation_of(tmp_path, 3)
    tenants = [Restarting(federation, name) for name in federation.tenant_files]
    heard: list[bytes] = []

    def impostor(action: Action, data: bytes) -> tuple[AnswerCode, bytes]:
        parcel = Parcel.from_bytes(data, "server")
        heard.extend(parcel.messages)
        hello = Hello("t0", federation.roster.digest, bytes(16), "impostor", bytes(32))
        return AnswerCode.DONE, Parcel(parcel.session, (seal(hello, SigningKey(bytes(32))).to_bytes(),)).to_bytes()

    def echo(action: Action, data: bytes) -> tuple[AnswerCode, bytes]:
        return tenants[0].answer(action, data)  # the true t0, over another node as well

    def garbage(action: Action, data: bytes) -> tuple[AnswerCode, bytes]:
        return AnswerCode.DONE, b"\xff" * 100

    strangers = {1: node_of(impostor), 2: node_of(garbage), 500: node_of(echo)}
    grid = FakeGrid({**strangers, **{100 + k: node_of(tenant.answer) for k, tenant in enumerate(tenants)}})
    watcher = Recorder()
    outcome = relay(grid, federation, watcher)
    assert_same_path(outcome, pooled_from_same_start(federation, outcome.result, rows))
    assert not kinds(watcher, NoticeKind.FAULT)
    assert not kinds(watcher, NoticeKind.LEFT)
    assert not heard, "an impostor is sent nothing"


def test_a_node_that_leaves_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fed_em_server.grid_nodes._LOOK_SECONDS", 0.05)
    federation, _ = federation_of(tmp_path, 6)
    tenants = [Restarting(federation, name) for name in federation.tenant_files]
    grid = FakeGrid({100 + k: node_of(tenant.answer) for k, tenant in enumerate(tenants)})
    watcher = Recorder()
    away = threading.Event()

    def leave_and_come_back(record: object) -> None:
        if not away.is_set():
            away.set()
            node = grid.nodes.pop(101)
            threading.Thread(target=lambda: (time.sleep(0.3), grid.nodes.update({201: node}))).start()

    monkeypatch.setattr(watcher, "round_opened", leave_and_come_back)
    outcome = relay(grid, federation, watcher)
    assert kinds(watcher, NoticeKind.LEFT) == [("t1",)]
    assert kinds(watcher, NoticeKind.LINKED).count(("t1",)) == 2
    assert outcome.record.rounds[-1].complete


def test_the_operator_is_told_once_of_a_node_that_trusts_nobody_who_signed(caplog: pytest.LogCaptureFixture) -> None:
    nodes = GridNodes(FakeGrid({7: lambda m: Message(FAB_VERIFICATION_ERROR, reply_to=m)}), Action.JOIN, 5.0)  # type: ignore[arg-type]
    nodes.look()
    with caplog.at_level(logging.WARNING, logger="flwr"):
        for _ in range(2):
            nodes.ask({7: b"ticket"})
            deadline = time.monotonic() + 5
            while not (found := nodes.answers()):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            assert [(answered.node, answered.code) for answered in found] == [(7, None)]
    told = [record.getMessage() for record in caplog.records if "refuses this bundle" in record.getMessage()]
    assert len(told) == 1 and told[0].startswith("node 7 ") and "fed-em flower-app --sign" in told[0]
