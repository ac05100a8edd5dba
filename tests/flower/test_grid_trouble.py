"""What becomes of requests to nodes when messages are lost, and when the SuperLink fails calls."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Message
from flwr.supercore.run import RunNotRunningException
from small_federation import MODEL, Recorder, clustered_rows, session_toml, write_small_federation
from test_equals_pooled import assert_same_path, pooled_from_same_start

from fed_em_client import flower_tenant
from fed_em_protocols.wire.grid_messages import Action, AnswerCode
from fed_em_server import flower_app, grid_nodes, relay_hub, ticket_office
from fed_em_server.grid_nodes import Answered, GridNodes
from fed_em_simulations.federation_folder import FederationFolder
from tests.flower.fake_grid import FakeGrid, Node, node_at, node_of, run_over
from tests.flower.tenants import Restarting, tenants_at

SIZES = (60, 40, 50)
WITHIN = 60.0


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid_nodes, "_LOOK_SECONDS", 0.02)
    monkeypatch.setattr(grid_nodes, "_RESPITE_SECONDS", 0.02)
    monkeypatch.setattr(ticket_office, "_POLL_SECONDS", 0.02)
    monkeypatch.setattr(relay_hub, "_POLL_SECONDS", 0.002)
    monkeypatch.setattr(relay_hub, "_FIRST_REST", 0.1)
    monkeypatch.setattr(flower_tenant, "_GLANCE", 0.02)


class LossyGrid(FakeGrid):
    """Takes messages, and loses the first ones to each node: they are handed out, and come to nobody."""

    def __init__(self, nodes: Mapping[int, Node], lost: int) -> None:
        super().__init__(nodes)
        self.pushed: dict[int, int] = dict.fromkeys(nodes, 0)
        self._lost = lost

    def push_messages(self, messages: Iterable[Message]) -> list[str | None]:
        return [self._push_or_lose(message) for message in messages]

    def _push_or_lose(self, message: Message) -> str | None:
        node = message.metadata.dst_node_id
        self.pushed[node] += 1
        return super()._push(message) if self.pushed[node] > self._lost else f"lost-{node}-{self.pushed[node]}"


class FailingGrid(FakeGrid):
    """Fails each n-th call of a kind; what was to be pushed has been taken by then."""

    def __init__(self, nodes: Mapping[int, Node], every: int) -> None:
        super().__init__(nodes)
        self._every = every
        self.failed: dict[str, int] = {"look": 0, "push": 0, "pull": 0}
        self._calls = dict.fromkeys(self.failed, 0)

    def get_node_ids(self) -> list[int]:
        self._count("look")
        return super().get_node_ids()

    def push_messages(self, messages: Iterable[Message]) -> list[str | None]:
        pushed = super().push_messages(messages)
        self._count("push")
        return pushed

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        self._count("pull")
        return super().pull_messages(message_ids)

    def _count(self, kind: str) -> None:
        self._calls[kind] += 1
        if self._calls[kind] % self._every == 1:
            self.failed[kind] += 1
            raise OSError("database is locked")


def nodes_of(grid: FakeGrid, ttl: float = WITHIN, again: float = math.inf) -> GridNodes:
    nodes = GridNodes(grid, Action.JOIN, ttl, again)  # type: ignore[arg-type]
    nodes.look()
    return nodes


def until(found: Callable[[], tuple[Answered, ...]]) -> tuple[Answered, ...]:
    deadline = time.monotonic() + WITHIN
    while not (answers := found()):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return answers


def greet(action: Action, data: bytes) -> tuple[AnswerCode, bytes]:
    del action
    return AnswerCode.DONE, data


def federation_of(tmp_path: Path) -> FederationFolder:
    session = session_toml(MODEL, "tolerance = 0\nmax_iterations = 4")
    return write_small_federation(tmp_path / "f", clustered_rows(SIZES), session)


def test_a_request_is_made_again_beside_one_that_has_no_answer_and_the_first_answer_counts() -> None:
    nodes = nodes_of(grid := LossyGrid({7: node_of(greet)}, lost=2), again=0.05)
    answers: tuple[Answered, ...] = ()
    deadline = time.monotonic() + WITHIN
    while not answers:
        assert time.monotonic() < deadline
        nodes.ask(dict.fromkeys(nodes.idle(), b"hello"))
        answers = nodes.answers()
        time.sleep(0.005)
    assert answers == (Answered(7, AnswerCode.DONE, b"hello"),)
    assert grid.pushed[7] >= 3 and not nodes.under_way(), "of the others nothing more is heard"


def test_a_request_that_may_not_be_made_again_waits_until_it_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid_nodes, "_GRACE_SECONDS", 0.1)
    nodes = nodes_of(LossyGrid({7: node_of(greet)}, lost=1), ttl=0.1)
    nodes.ask({7: b"hello"})
    assert not nodes.idle() and nodes.under_way() == {7}
    assert until(nodes.answers) == (Answered(7, None, b""),)
    assert nodes.idle() == (7,)


def test_the_operator_is_told_once_of_a_node_that_is_silent(caplog: pytest.LogCaptureFixture) -> None:
    nodes = nodes_of(LossyGrid({7: node_of(greet)}, lost=1000), again=0.01)
    with caplog.at_level(logging.WARNING, logger="flwr"):
        for _ in range(20):
            nodes.ask(dict.fromkeys(nodes.idle(), b"hello"))
            nodes.answers()
            time.sleep(0.01)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1 and told[0].startswith("node 7 has not answered")


def test_calls_that_fail_are_told_once_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    nodes = GridNodes(FailingGrid({7: node_of(greet)}, every=2), Action.JOIN, WITHIN)  # type: ignore[arg-type]
    with caplog.at_level(logging.INFO, logger="flwr"):
        while not nodes.idle():
            nodes.look()
            time.sleep(0.005)
        nodes.ask({7: b"hello"})
        assert until(nodes.answers) == (Answered(7, None, b""),), "nobody knows whether it was taken"
    said = [record.getMessage() for record in caplog.records]
    assert said[0] == "the SuperLink did not do what it was asked (database is locked): trying again"
    assert said[1] == "the SuperLink answers again"


def test_tickets_that_are_lost_are_replaced(tmp_path: Path, doors: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flower_app, "_TICKET_AGAIN", 0.1)
    federation = federation_of(tmp_path)
    grid = LossyGrid({100 + k: node_at(doors / name) for k, name in enumerate(federation.tenant_files)}, lost=2)
    with tenants_at(federation, doors):
        outcome = run_over(grid, federation, Recorder())
    assert len(outcome.result.fit.iterations) == 4 and min(grid.pushed.values()) >= 3


def test_a_streamed_session_under_a_superlink_that_fails_every_second_call(tmp_path: Path, doors: Path) -> None:
    federation = federation_of(tmp_path)
    grid = FailingGrid({100 + k: node_at(doors / name) for k, name in enumerate(federation.tenant_files)}, every=2)
    with tenants_at(federation, doors):
        outcome = run_over(grid, federation, Recorder())
    assert len(outcome.result.fit.iterations) == 4
    assert grid.failed["look"] > 0 and grid.failed["push"] > 0


def test_a_relayed_session_under_a_superlink_that_fails_now_and_then_is_pooled_em(tmp_path: Path) -> None:
    federation = federation_of(tmp_path)
    answers = [Restarting(federation, name).answer for name in federation.tenant_files]
    grid = FailingGrid({100 + k: node_of(answer) for k, answer in enumerate(answers)}, every=10)
    outcome = run_over(grid, federation, Recorder(), link="relay")
    rows = np.concatenate(list(clustered_rows(SIZES).values()))
    assert_same_path(outcome, pooled_from_same_start(federation, outcome.result, rows))
    assert grid.failed["push"] > 0 and grid.failed["pull"] > 0


def test_a_run_that_flower_counts_as_ended_goes_on_with_the_tenants_that_are_linked(
    tmp_path: Path, doors: Path, caplog: pytest.LogCaptureFixture
) -> None:
    federation = federation_of(tmp_path)
    linked = threading.Event()

    class Ended(FakeGrid):
        def get_node_ids(self) -> list[int]:
            if linked.is_set():
                raise RunNotRunningException
            return super().get_node_ids()

    class Linked(Recorder):
        def round_opened(self, record: object) -> None:
            linked.set()
            time.sleep(0.1)

    grid = Ended({100 + k: node_at(doors / name) for k, name in enumerate(federation.tenant_files)})
    with tenants_at(federation, doors), caplog.at_level(logging.WARNING, logger="flwr"):
        outcome = run_over(grid, federation, Linked())
    assert len(outcome.result.fit.iterations) == 4
    assert "Flower counts this run as ended" in caplog.text
