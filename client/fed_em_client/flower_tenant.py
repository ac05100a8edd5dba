"""A tenant process behind a SuperNode: it serves what comes in at its door.

A ticket makes it dial the coordinator, in a thread of its own; a parcel's messages go into the session that the parcel names. It
is in one session at a time. Whatever comes through the door came through code that the tenant does not trust: nothing that is
malformed, unsigned or out of turn ends a session, or is answered with more than a code.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fed_em.errors import EnvironmentFault, FedEmError
from fed_em_client.configuration import TenantConfiguration
from fed_em_client.grpc_link import Endpoint, serve_session
from fed_em_client.privacy_account import PrivacyAccount
from fed_em_client.round_marks import FileRoundMarks
from fed_em_client.rows_work import RowsWork
from fed_em_client.socket_door import SocketDoor
from fed_em_client.take_part import MODEL_FOLDER, Tenant, TenantMarks, keep_model, open_tenant
from fed_em_client.tenant_session import SessionLeft, TenantSession
from fed_em_client.tenant_watcher import UNWATCHED, TenantWatcher
from fed_em_client.trusted_entities import read_trusted_entities
from fed_em_protocols.errors import SERVER, PeerFault
from fed_em_protocols.grid_payloads import Parcel, read_ticket
from fed_em_protocols.transcript.tenant_log import TenantLog
from fed_em_protocols.wire.grid_messages import Action, AnswerCode

# Seconds to keep dialling a coordinator that does not answer, before another ticket is taken.
_PATIENCE = 60.0

# How often the door looks whether a session that runs over gRPC has ended.
_GLANCE = 0.2


def serve_flower(
    configuration: TenantConfiguration,
    socket_path: Path,
    report: Callable[[str], None],
    sessions: int = 1,
    watcher: TenantWatcher = UNWATCHED,
) -> Path:
    """Serve sessions that a Flower ClientApp announces at a Unix socket, one after another.

    Args:
        configuration: The tenant's.
        socket_path: Where to listen: what the SuperNode's `--node-config 'socket="…"'` names.
        report: Told in sentences what goes on.
        sessions: How many sessions to serve.
        watcher: Who looks on.

    Returns:
        The folder of the last session's model.

    Raises:
        CallerError: the SuperNode's trusted entities, if the configuration names them, let any bundle run.
        FedEmError: as `take_part`, at the first session that fails. A coordinator that cannot be reached is reported only: the
            next ticket may lead to another.
    """
    tenant = open_tenant(configuration, watcher)
    if configuration.flower.trusted_entities is not None:
        read_trusted_entities(configuration.flower.trusted_entities)
    kept = folder = configuration.state / MODEL_FOLDER
    with (
        FileRoundMarks(configuration.state) as marks,
        tenant.ledger() as ledger,
        tenant.log() as log,
        SocketDoor(socket_path) as door,
    ):
        report(f"{configuration.name}: waiting at {socket_path}")
        for _ in range(sessions):
            flower_tenant = FlowerTenant(tenant, marks, report, ledger, log)
            while (session := flower_tenant.ended()) is None:
                door.answer_one(flower_tenant.answer, _GLANCE)
            kept = keep_model(session, flower_tenant.work, folder) or kept
    return kept


@dataclass(frozen=True)
class _Relayed:
    """A session whose messages come as parcels; `number` is the one that they carry."""

    number: bytes
    session: TenantSession


class _Dialled(threading.Thread):
    """A session over the coordinator's own stream."""

    def __init__(self, session: TenantSession, endpoint: Endpoint, report: Callable[[str], None]) -> None:
        super().__init__(name="coordinator", daemon=True)
        self.session = session
        self.error: BaseException | None = None
        self._endpoint = endpoint
        self._report = report

    def run(self) -> None:
        try:
            serve_session(self.session, self._endpoint, _PATIENCE, self._report)
        except BaseException as error:  # raised again in the door's thread
            self.error = error


class FlowerTenant:
    """This tenant until one session has ended: what it answers, and how it ended.

    Several nodes may lead to it. It answers one request after another, whichever threads they come in: two at once could start
    two sessions, and the server would hear the Hello of one and the answers of the other.
    """

    def __init__(
        self,
        tenant: Tenant,
        marks: TenantMarks,
        report: Callable[[str], None],
        budget: PrivacyAccount | None = None,
        log: TenantLog | None = None,
    ) -> None:
        self.work: RowsWork = tenant.work(marks, budget, measured=tenant.measured(), report=report)
        self._tenant = tenant
        self._marks = marks
        self._report = report
        self._log = log
        self._relayed: _Relayed | None = None
        self._dialled: _Dialled | None = None
        self._failure: FedEmError | None = None
        self._one_at_a_time = threading.Lock()

    def ended(self) -> TenantSession | None:
        """The session that has ended, if one has. Raises what ended it, if it did not end well."""
        if self._failure is not None:
            raise self._failure
        if self._relayed is not None and self._relayed.session.over:
            return self._relayed.session
        dialled = self._dialled
        if dialled is None or dialled.is_alive():
            return None
        self._dialled = None
        if isinstance(dialled.error, EnvironmentFault):
            self._report(dialled.error.diagnostics())
            return None
        if dialled.error is not None:
            raise dialled.error
        return dialled.session

    def answer(self, action: Action, data: bytes) -> tuple[AnswerCode, bytes]:
        """Answer one request."""
        with self._one_at_a_time:
            try:
                return self._answered(action, data)
            except PeerFault as fault:
                self._report(f"refused what came through the door: {fault.diagnostics()}")
                return AnswerCode.REFUSED, self._name
            except FedEmError as error:
                self._failure = error
                return AnswerCode.FAILED, self._name

    def _answered(self, action: Action, data: bytes) -> tuple[AnswerCode, bytes]:
        if self._dialled is not None:
            return AnswerCode.BUSY, self._name
        return self._take_ticket(data) if action is Action.JOIN else self._take_parcel(data)

    @property
    def _name(self) -> bytes:
        return self._tenant.configuration.name.encode()

    def _take_ticket(self, data: bytes) -> tuple[AnswerCode, bytes]:
        address = read_ticket(data, self._tenant.roster)
        self._report(f"a ticket came: dialling {address}")
        self._relayed = None
        self._dialled = _Dialled(self._fresh(), self._tenant.endpoint(address), self._report)
        self._dialled.start()
        return AnswerCode.DONE, self._name

    def _take_parcel(self, data: bytes) -> tuple[AnswerCode, bytes]:
        parcel = Parcel.from_bytes(data, SERVER)
        if self._relayed is None or self._relayed.number != parcel.session:
            # Messages that come along were meant for a process that is no more.
            self._relayed = _Relayed(parcel.session, self._fresh())
            answers = self._relayed.session.greet()
        elif not parcel.messages:
            answers = self._relayed.session.greet()
        else:
            answers = self._handled(self._relayed.session, parcel.messages)
        return AnswerCode.DONE, Parcel(parcel.session, answers).to_bytes()

    def _handled(self, session: TenantSession, messages: tuple[bytes, ...]) -> tuple[bytes, ...]:
        answers: tuple[bytes, ...] = ()
        for message in messages:
            try:
                answers += session.handle(message)
            except SessionLeft as left:
                self._failure = left
                return answers + left.messages
        return answers

    def _fresh(self) -> TenantSession:
        return self._tenant.session(self._marks, self.work, self._report, self._log)
