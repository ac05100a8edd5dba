"""The nodes of a Flower run, as the ServerApp reaches them: at most one request is under way to each.

Flower delivers messages to a node in no certain order and starts a process for each, one after another; so the next request to a
node waits until the one before it was answered, or is lost.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.common.constant import ErrorCode
from flwr.common.logger import log
from flwr.serverapp import Grid

from fed_em_protocols.wire.grid_messages import CODE, DATA, MAX_REQUEST_BYTES, RECORD, Action, AnswerCode

# Nodes register late, and go: the list is read anew this often, in seconds.
_LOOK_SECONDS = 2.0
# Flower itself tells of a message that expired; this much later nobody waits for that any more.
_GRACE_SECONDS = 15.0


@dataclass
class _Node:
    """One node: the id of the request under way to it, when it counts as lost, and until when the node is left alone."""

    request: str = ""
    lost_at: float = 0.0
    rests_until: float = 0.0


@dataclass(frozen=True)
class Answered:
    """A node's answer; `code` is None if the request was lost, or answered by Flower with an error of its own."""

    node: int
    code: AnswerCode | None
    data: bytes = field(repr=False)


class GridNodes:
    """Requests of one kind to the nodes of a run. Not for use by several threads.

    Args:
        grid: Of the run.
        action: What is asked.
        ttl: Seconds until a request without an answer is lost.
    """

    def __init__(self, grid: Grid, action: Action, ttl: float) -> None:
        self._grid = grid
        self._action = action
        self._ttl = ttl
        self._nodes: dict[int, _Node] = {}
        self._not_taken: list[int] = []
        self._looked = float("-inf")
        self._distrustful: set[int] = set()

    def look(self) -> frozenset[int]:
        """Read the list of nodes anew if it is time to; the nodes that are gone since the last look."""
        now = time.monotonic()
        if now - self._looked < _LOOK_SECONDS:
            return frozenset()
        self._looked = now
        there = frozenset(int(node) for node in self._grid.get_node_ids())
        gone = frozenset(self._nodes) - there
        self._nodes = {node: self._nodes.get(node) or _Node() for node in sorted(there)}
        return gone

    def idle(self) -> tuple[int, ...]:
        """Nodes without a request under way that are not at rest."""
        now = time.monotonic()
        return tuple(node for node, state in self._nodes.items() if not state.request and state.rests_until <= now)

    def under_way(self) -> frozenset[int]:
        """Nodes that have not answered yet."""
        return frozenset(node for node, state in self._nodes.items() if state.request)

    def rest(self, node: int, seconds: float) -> None:
        """Leave a node alone for a while."""
        if node in self._nodes:
            self._nodes[node].rests_until = time.monotonic() + seconds

    def ask(self, requests: Mapping[int, bytes]) -> None:
        """Send requests to idle nodes."""
        if not requests:
            return
        messages = [self._message(node, data) for node, data in requests.items()]
        numbers: list[str | None] = list(self._grid.push_messages(messages))
        # None, or nothing at all, stands for a message that Flower does not take.
        numbers += [None] * (len(requests) - len(numbers))
        lost_at = time.monotonic() + self._ttl + _GRACE_SECONDS
        for node, number in zip(requests, numbers, strict=True):
            if number:
                self._nodes[node].request, self._nodes[node].lost_at = number, lost_at
            else:
                self._not_taken.append(node)

    def answers(self) -> tuple[Answered, ...]:
        """Answers that have come in, and requests that are lost."""
        found = [Answered(node, None, b"") for node in self._not_taken]
        self._not_taken.clear()
        asked = {state.request: node for node, state in self._nodes.items() if state.request}
        for reply in self._grid.pull_messages(list(asked)) if asked else ():
            node = asked.get(reply.metadata.reply_to_message_id)
            if node is not None:
                self._nodes[node].request = ""
                found.append(Answered(node, *_read(reply)))
                self._tell_of_distrust(node, reply)
        now = time.monotonic()
        for node, state in self._nodes.items():
            if state.request and state.lost_at <= now:
                state.request = ""
                found.append(Answered(node, None, b""))
        return tuple(found)

    def _tell_of_distrust(self, node: int, reply: Message) -> None:
        """A line in the run's log, once for a node that does not run this bundle. The session waits, for one that does."""
        if reply.has_error() and reply.error.code == ErrorCode.INVALID_FAB and node not in self._distrustful:
            self._distrustful.add(node)
            log(
                logging.WARNING,
                "node %d refuses this bundle: nobody whom it trusts has signed it. Remedy: fed-em flower-app --sign, then "
                "run the signed bundle from fed-em flower-hub (docs/flower-deployment.md)",
                node,
            )

    def _message(self, node: int, data: bytes) -> Message:
        content = RecordDict({RECORD: ConfigRecord({DATA: data})})
        return Message(content, node, self._action.message_type, ttl=self._ttl)


def _read(reply: Message) -> tuple[AnswerCode | None, bytes]:
    """The code and the bytes of a reply, whatever a node has put into it."""
    if not reply.has_content() or RECORD not in reply.content:
        return None, b""
    record: Any = reply.content[RECORD]
    code, data = record.get(CODE), record.get(DATA)
    if not isinstance(code, int) or code not in set(AnswerCode) or not isinstance(data, bytes):
        return None, b""
    if len(data) > MAX_REQUEST_BYTES:
        return None, b""
    return AnswerCode(code), data
