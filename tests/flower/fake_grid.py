"""A Grid without Flower's engines: nodes are functions, each working through its messages one at a time, as a SuperNode does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

from flwr.app import ConfigRecord, Context, Error, Message, RecordDict

from fed_em_client.flower_app import app
from fed_em_protocols.wire.grid_messages import CODE, DATA, RECORD, Action, AnswerCode
from fed_em_server.flower_app import RunConfig, run
from fed_em_server.session import SessionOutcome, Watcher
from fed_em_simulations.federation_folder import FederationFolder

Node = Callable[[Message], Message]


class FakeGrid:
    """What `GridNodes` needs of a Grid. What a node raises comes back as Flower sends it: an error with the exception's text."""

    def __init__(self, nodes: Mapping[int, Node]) -> None:
        self.nodes = dict(nodes)
        self.errors: list[str] = []
        self._pools: dict[int, ThreadPoolExecutor] = {}
        self._numbers = count(1)
        self._replies: dict[str, Future[Message]] = {}
        self._lock = threading.Lock()

    def get_node_ids(self) -> list[int]:
        return list(self.nodes)

    def push_messages(self, messages: Iterable[Message]) -> list[str | None]:
        return [self._push(message) for message in messages]

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        with self._lock:
            ready = [number for number in message_ids if number in self._replies and self._replies[number].done()]
            return [self._replies.pop(number).result() for number in ready]

    def _push(self, message: Message) -> str | None:
        node = message.metadata.dst_node_id
        if node not in self.nodes:
            return None
        number = f"message-{next(self._numbers)}"
        message.metadata.__dict__["_message_id"] = number
        pool = self._pools.setdefault(node, ThreadPoolExecutor(1))
        self._replies[number] = pool.submit(self._deliver, self.nodes[node], message)
        return number

    def _deliver(self, node: Node, message: Message) -> Message:
        try:
            return node(message)
        except Exception as error:
            self.errors.append(str(error))
            return Message(Error(2, f"{type(error)}:<'{error}'>"), reply_to=message)


def context_of(node_config: Mapping[str, Any], run_config: Mapping[str, Any] | None = None) -> Context:
    """A node's context."""
    return Context(
        run_id=1, node_id=1, node_config=dict(node_config), state=RecordDict(), run_config=dict(run_config or {})
    )


def node_at(socket: Path) -> Node:
    """A node that runs the real ClientApp, configured with a tenant's socket."""
    context = context_of({"socket": str(socket)})
    return lambda message: app(message, context)


def node_of(answer: Callable[[Action, bytes], tuple[AnswerCode, bytes]]) -> Node:
    """A node behind which something answers without a socket."""

    def node(message: Message) -> Message:
        action = next(action for action in Action if action.message_type == message.metadata.message_type)
        code, data = answer(action, request_of(message))
        return Message(RecordDict({RECORD: ConfigRecord({CODE: int(code), DATA: data})}), reply_to=message)

    return node


def request_of(message: Message) -> bytes:
    """The bytes that a message carries."""
    data = message.content.config_records[RECORD][DATA]
    assert isinstance(data, bytes)
    return data


def message_to_node(action: Action, data: bytes) -> Message:
    """A message as the ServerApp makes it."""
    message = Message(RecordDict({RECORD: ConfigRecord({DATA: data})}), 1, action.message_type, ttl=30.0)
    message.metadata.__dict__["_message_id"] = "request"
    return message


def run_over(grid: FakeGrid, served: FederationFolder, watcher: Watcher, **settings: Any) -> SessionOutcome:
    """A federation's session as the ServerApp runs it over a Grid, with settings of the run's config."""
    config = RunConfig(session=str(served.session_file), **settings)
    outcome, _ = run(grid, config, served.server, [watcher])  # type: ignore[arg-type]
    return outcome
