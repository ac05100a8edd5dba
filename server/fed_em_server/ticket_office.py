"""Sends the nodes of a Flower run tickets to the coordinator's gRPC service, for as long as a session runs.

Every node gets one when it registers, and another one while its tenant is not linked: tenants restart, and nodes come late. What
tenant is behind a node is known from its answer to the last ticket; that answer proves nothing, and nothing but the next ticket
depends on it. A ticket that is heard twice does no harm: a tenant that has dialled says so.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self

from flwr.common.logger import log
from flwr.serverapp import Grid
from flwr.supercore.run import RunNotRunningException

from fed_em_protocols.coordinator_state import Notice, NoticeKind
from fed_em_protocols.wire.grid_messages import Action, AnswerCode
from fed_em_server.grid_nodes import Answered, GridNodes
from fed_em_server.record import RoundRecord, SessionRecord

_POLL_SECONDS = 0.25
# Before another ticket: a tenant that has one dials, so it gets some time; one that was not there may come up any moment.
_REST, _REST_WITHOUT_TENANT = 15.0, 1.0
# A call to a Grid whose SuperLink is gone tries again for long; a session that is over does not wait for that.
_GRID_SECONDS = 10.0


class TicketOffice(AbstractContextManager["TicketOffice"]):
    """Sends tickets in a thread of its own until the block ends. A `fed_em_server.session.Watcher`: it must see who is linked.

    Args:
        grid: Of the run; nobody else may use it meanwhile.
        ticket: As `fed_em_protocols.grid_payloads.sign_ticket` gives it.
        ttl: Seconds until a ticket without an answer is lost.
        again: Seconds until a node whose answer is missing is sent another one beside it; infinite for never.
        farewell: Seconds to wait at the end for answers that are under way.
    """

    def __init__(self, grid: Grid, ticket: bytes, ttl: float, again: float, farewell: float) -> None:
        self._nodes = GridNodes(grid, Action.JOIN, ttl, again)
        self._ticket = ticket
        self._farewell = farewell
        self._names: dict[int, str] = {}
        self._linked: frozenset[str] = frozenset()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ticket-office", daemon=True)

    def session_started(self, record: SessionRecord) -> None:
        """Nobody is linked yet."""

    def noticed(self, notice: Notice) -> None:
        """Remember who is linked."""
        if notice.kind is NoticeKind.LINKED:
            self._linked |= frozenset(notice.tenants)
        elif notice.kind is NoticeKind.LEFT:
            self._linked -= frozenset(notice.tenants)

    def round_opened(self, record: RoundRecord) -> None:
        """Rounds need no tickets."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        self._thread.join(self._farewell + _GRID_SECONDS)

    def _run(self) -> None:
        try:
            self._serve()
        except RunNotRunningException:
            log(logging.WARNING, "Flower counts this run as ended: tenants that are not linked get no more tickets")

    def _serve(self) -> None:
        while not self._closed.wait(_POLL_SECONDS):
            self._nodes.look()
            self._nodes.ask(
                {node: self._ticket for node in self._nodes.idle() if self._names.get(node) not in self._linked}
            )
            self._take(self._nodes.answers())
        deadline = time.monotonic() + self._farewell
        while self._nodes.under_way() and time.monotonic() < deadline:
            self._take(self._nodes.answers())
            time.sleep(_POLL_SECONDS)

    def _take(self, answers: tuple[Answered, ...]) -> None:
        for answered in answers:
            if answered.data:
                self._names[answered.node] = answered.data.decode("utf-8", "replace")
            there = answered.code in {AnswerCode.DONE, AnswerCode.BUSY}
            self._nodes.rest(answered.node, _REST if there else _REST_WITHOUT_TENANT)
