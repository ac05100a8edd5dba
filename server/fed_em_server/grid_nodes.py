"""The nodes of a Flower run, as the ServerApp reaches them.

Flower delivers messages to a node in no certain order and starts a process for each, one after another; so the next request to a
node waits until the one before it was answered, or is lost. Nobody tells of one that is lost: a SuperNode gives the SuperLink five
seconds to hand a message out, asks again if that was too short, and never gets the one that had been handed out; one that is
killed takes its message along. So a request that does no harm when it is heard twice is repeated long before it counts as lost.

What a call to the Grid raises is the SuperLink's trouble, a locked database say, and passes: it is told, and tried again.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.common.constant import ErrorCode
from flwr.common.logger import log
from flwr.serverapp import Grid

from fed_em_protocols.wire.grid_messages import CODE, DATA, MAX_REQUEST_BYTES, RECORD, Action, AnswerCode

T = TypeVar("T")

# Nodes register late, and go: the list is read anew this often, in seconds.
_LOOK_SECONDS = 2.0
# Flower itself tells of a message that expired; this much later nobody waits for that any more.
_GRACE_SECONDS = 15.0
# After a call that failed, the Grid is left alone so long.
_RESPITE_SECONDS = 1.0
# The operator is told of a node that has not answered so many repeated requests.
_UNANSWERED = 3


@dataclass
class _Node:
    """One node: the requests under way to it, with when each was made, since when it owes an answer, and until when it is left alone."""

    requests: dict[str, float] = field(default_factory=dict)
    owes_since: float = math.inf
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
        ttl: Seconds until a request without an answer is lost. A node dates its answer by its own clock: ahead by more than this,
            it cannot answer.
        again: Seconds after which a request that has no answer may be made again beside it; by default it may not. Whichever is
            answered first counts, and of the others nothing more is heard.
    """

    def __init__(self, grid: Grid, action: Action, ttl: float, again: float = math.inf) -> None:
        self._grid = grid
        self._action = action
        self._ttl = ttl
        self._again = again
        self._nodes: dict[int, _Node] = {}
        self._not_taken: list[int] = []
        self._looked = self._grid_rests_until = float("-inf")
        self._grid_fails = False
        self._distrustful: set[int] = set()
        self._silent: set[int] = set()

    def look(self) -> frozenset[int]:
        """Read the list of nodes anew if it is time to; the nodes that are gone since the last look."""
        now = time.monotonic()
        if now - self._looked < _LOOK_SECONDS:
            return frozenset()
        self._looked = now
        there = self._called(lambda: frozenset(int(node) for node in self._grid.get_node_ids()), frozenset(self._nodes))
        gone = frozenset(self._nodes) - there
        self._nodes = {node: self._nodes.get(node) or _Node() for node in sorted(there)}
        return gone

    def idle(self) -> tuple[int, ...]:
        """Nodes that are not at rest, and have no request under way that may not be made again yet; none while the Grid is left alone."""
        now = time.monotonic()
        if now < self._grid_rests_until:
            return ()
        return tuple(
            node
            for node, state in self._nodes.items()
            if state.rests_until <= now and (not state.requests or max(state.requests.values()) + self._again <= now)
        )

    def under_way(self) -> frozenset[int]:
        """Nodes that have not answered yet."""
        return frozenset(node for node, state in self._nodes.items() if state.requests)

    def rest(self, node: int, seconds: float) -> None:
        """Leave a node alone for a while."""
        if node in self._nodes:
            self._nodes[node].rests_until = time.monotonic() + seconds

    def ask(self, requests: Mapping[int, bytes]) -> None:
        """Send requests to idle nodes."""
        if not requests:
            return
        messages = [self._message(node, data) for node, data in requests.items()]
        numbers: list[str | None] = self._called(lambda: list(self._grid.push_messages(messages)), [])
        # None, or nothing at all, stands for a message that Flower does not take.
        numbers += [None] * (len(requests) - len(numbers))
        now = time.monotonic()
        for node, number in zip(requests, numbers, strict=True):
            if number:
                state = self._nodes[node]
                state.requests[number] = now
                state.owes_since = min(state.owes_since, now)
            else:
                self._not_taken.append(node)

    def answers(self) -> tuple[Answered, ...]:
        """Answers that have come in, and requests that are lost."""
        found = [Answered(node, None, b"") for node in self._not_taken]
        self._not_taken.clear()
        asked = {request: node for node, state in self._nodes.items() for request in state.requests}
        nothing: list[Message] = []
        for reply in self._called(lambda: list(self._grid.pull_messages(list(asked))), nothing) if asked else nothing:
            node = asked.get(reply.metadata.reply_to_message_id)
            if node is not None and self._nodes[node].requests:
                self._nodes[node].requests.clear()
                self._nodes[node].owes_since = math.inf
                self._silent.discard(node)
                found.append(Answered(node, *_read(reply)))
                self._tell_of_distrust(node, reply)
        found += [Answered(node, None, b"") for node in self._lost()]
        return tuple(found)

    def _lost(self) -> tuple[int, ...]:
        """Nodes whose last request is lost; what is lost is forgotten."""
        lost = []
        now = time.monotonic()
        for node, state in self._nodes.items():
            if state.owes_since + _UNANSWERED * self._again <= now and node not in self._silent:
                self._silent.add(node)
                owes = now - state.owes_since
                log(logging.WARNING, "node %d has not answered for %.0f s: look at its SuperNode", node, owes)
            had = len(state.requests)
            state.requests = {
                request: made for request, made in state.requests.items() if made + self._ttl + _GRACE_SECONDS > now
            }
            if had and not state.requests:
                lost.append(node)
        return tuple(lost)

    def _called(self, call: Callable[[], T], otherwise: T) -> T:
        """What a call to the Grid gives, or this if it fails, or failed a moment ago."""
        if time.monotonic() < self._grid_rests_until:
            return otherwise
        try:
            given = call()
        except Exception as error:
            self._grid_rests_until = time.monotonic() + _RESPITE_SECONDS
            if not self._grid_fails:
                log(logging.WARNING, "the SuperLink did not do what it was asked (%s): trying again", error)
            self._grid_fails = True
            return otherwise
        if self._grid_fails:
            log(logging.INFO, "the SuperLink answers again")
        self._grid_fails = False
        return given

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
