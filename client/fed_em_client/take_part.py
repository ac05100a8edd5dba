"""A tenant process: everything of its configuration opened and checked, one session served, the model kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

from fed_em.broadcast import Broadcast
from fed_em.errors import CallerError, EnvironmentFault, FedEmError
from fed_em.model_file import FittedModel, save_model
from fed_em_client.configuration import TenantConfiguration
from fed_em_client.data_files import check_data_file, data_paths
from fed_em_client.grpc_link import Endpoint, serve_session
from fed_em_client.measured_sessions import MEASURED_FILE, MeasuredSessions
from fed_em_client.policy_checks import Permit
from fed_em_client.privacy_account import PrivacyAccount
from fed_em_client.privacy_ledger import PrivacyLedger, ledger_files
from fed_em_client.remote_shards import RemoteShards
from fed_em_client.round_marks import FileRoundMarks
from fed_em_client.rows_work import RowsWork, WorkMarks
from fed_em_client.tenant_log_file import TenantLogFile
from fed_em_client.tenant_session import TenantSession
from fed_em_client.tenant_watcher import UNWATCHED, TenantWatcher
from fed_em_protocols.addresses import split_address
from fed_em_protocols.clock import time_in_words, time_of_day
from fed_em_protocols.envelope import Sealed
from fed_em_protocols.errors import SERVER, PeerFault
from fed_em_protocols.keys import KEY_BYTES, derive
from fed_em_protocols.messages import Close, CloseReason
from fed_em_protocols.party import PartyKeys, check_certificate, load_keys
from fed_em_protocols.roster import Roster, load_pinned_roster
from fed_em_protocols.tenant_state import RoundMarks, TenantSelf
from fed_em_protocols.transcript.tenant_log import TenantLog

MODEL_FOLDER = "model"
OWN_MODEL_FOLDER = "own-model"


class SessionFailed(FedEmError):
    """The server ended the session without a model."""


class StatisticsFailed(CallerError):
    """This tenant could not compute what a session asked for; neither the server nor anybody else knows which tenant it was."""


class TenantMarks(RoundMarks, WorkMarks, Protocol):
    """All that a tenant remembers of a session for ever."""


@dataclass(frozen=True)
class Tenant:
    """One tenant, opened: its configuration, the roster it approved, its keys."""

    configuration: TenantConfiguration
    roster: Roster
    keys: PartyKeys = field(repr=False)
    watcher: TenantWatcher = UNWATCHED

    @property
    def index(self) -> int:
        """Its roster index."""
        return self.roster.index(self.configuration.name)

    def endpoint(self, address: str) -> Endpoint:
        """The coordinator at an address."""
        return Endpoint(address, self.roster, self.keys.tls_key, self.keys.tls_certificate)

    @property
    def draws(self) -> bytes:
        """The secret that rows are drawn by, of the key that this tenant has anyway: a process that starts anew draws the same."""
        return derive("rows", self.keys.identity.seed, KEY_BYTES)

    def ledger(self) -> PrivacyLedger:
        """What it spent of its rows' privacy, locked until it is closed. Raises as `PrivacyLedger`."""
        opened = PrivacyLedger(ledger_files(self.configuration), self.configuration.policy.privacy.demands())
        self.watcher.ledger_opened(opened)
        return opened

    @contextmanager
    def shards(self, report: Callable[[str], None] = lambda _: None) -> Iterator[RemoteShards | None]:
        """Who holds its rows elsewhere, told at the end that the session is over; None where they are in its own files."""
        if self.configuration.shards is None:
            yield None
            return
        with RemoteShards(self.configuration.shards, report) as shards:
            report(f"{self.configuration.name}: {shards.settings.count} shards may dial {shards.address}")
            yield shards

    def measured(self) -> MeasuredSessions:
        """What sessions have measured models over its rows, in its state folder, whose lock must be held. Raises as the class."""
        own = self.configuration
        return MeasuredSessions(own.policy.measuring, time_of_day, own.state / MEASURED_FILE)

    def work(
        self,
        marks: WorkMarks | None = None,
        budget: PrivacyAccount | None = None,
        shards: RemoteShards | None = None,
        measured: MeasuredSessions | None = None,
        report: Callable[[str], None] = lambda _: None,
    ) -> RowsWork:
        """Its rows, read when a session describes itself. Without marks, a later process cannot tell whether they changed; without its
        ledger as the budget, it does not know what they spent of the rows' privacy; nor, without `measured`, how often they were measured.
        """
        own = self.configuration
        if own.shards is not None and shards is None:
            raise CallerError(
                "rows that [shards] hold are summed in sessions over gRPC only", remedy="name them as `data`, in files"
            )
        return RowsWork(
            own.data,
            own.columns,
            self.roster,
            self.index,
            marks,
            own.workers,
            self.draws,
            budget,
            policy=own.policy,
            fresh=own.fresh,
            shards=shards,
            measured=measured,
            growing=own.growing,
            report=lambda said: report(f"{own.name}: {said}"),
        )

    @contextmanager
    def log(self) -> Iterator[TenantLog]:
        """Its own log, in its state folder, whose lock must be held: one for all sessions of a process."""
        with TenantLogFile(self.configuration.state) as file:
            yield TenantLog(file, self.configuration.name, self.roster, time_in_words, file.last)

    def session(
        self,
        marks: RoundMarks,
        work: RowsWork,
        report: Callable[[str], None] = lambda _: None,
        log: TenantLog | None = None,
    ) -> TenantSession:
        """A fresh session over this tenant's rows; `report` is told at once of statistics that cannot be computed."""
        policy = self.configuration.policy.terms_policy()
        me = TenantSelf(self.roster, self.index, self.keys.identity, policy, software=f"fed-em {version('fed-em')}")

        def complain(fault: CallerError) -> None:
            report(f"{me.name}: these statistics cannot be computed, and the sum will count one tenant at fault")
            report(fault.diagnostics())

        permit = Permit(self.configuration, time_of_day)
        return TenantSession(me, work, marks, complain=complain, permit=permit, log=log, watcher=self.watcher)


def open_tenant(configuration: TenantConfiguration, watcher: TenantWatcher = UNWATCHED) -> Tenant:
    """Load and check what a configuration names: the pinned roster, the keys, the certificates' validity.

    Args:
        configuration: The tenant's.
        watcher: Who looks on.

    Raises:
        CallerError: names the file or the key that is wrong.
    """
    roster = load_pinned_roster(configuration.roster, configuration.roster_hash)
    fitted_to = configuration.data if configuration.shards is None else None
    for data in (fitted_to, configuration.fresh):
        for path in () if data is None else data_paths(data):
            check_data_file(path)
    keys = load_keys(configuration.keys)
    keys.check_against(roster, configuration.name)
    for name in (configuration.name, SERVER):
        check_certificate(roster, name, datetime.now(UTC))
    return Tenant(configuration, roster, keys, watcher)


def take_part(
    configuration: TenantConfiguration,
    report: Callable[[str], None],
    patience: float,
    address: str | None = None,
    watcher: TenantWatcher = UNWATCHED,
    loyalty: float = 0.0,
) -> Path | None:
    """Serve one session over gRPC, to its end.

    Args:
        configuration: The tenant's.
        report: Told in sentences what goes on.
        patience: Seconds to keep dialling a server that does not answer.
        address: The coordinator's "host:port"; the configuration's by default.
        watcher: Who looks on.
        loyalty: See `serve_session`.

    Returns:
        The folder of the final model; None if the session measured models, and fitted none.

    Raises:
        FedEmError: as `serve_session` and `keep_model`.
    """
    tenant = open_tenant(configuration, watcher)
    with (
        FileRoundMarks(configuration.state) as marks,
        tenant.ledger() as ledger,
        tenant.log() as log,
        tenant.shards(report) as shards,
    ):
        work = tenant.work(marks, ledger, shards, tenant.measured(), report)
        session = tenant.session(marks, work, report, log)
        where = configuration.server if address is None else address
        split_address(where)
        report(f"{configuration.name}: dialling {where}")
        serve_session(session, tenant.endpoint(where), patience, report, loyalty)
        return keep_model(session, work, configuration.state / MODEL_FOLDER)


def keep_model(session: TenantSession, work: RowsWork, folder: Path) -> Path | None:
    """Save the model that a session ended with; what it reserved of the rows' privacy and did not use is given back.

    Where mixing weights are each tenant's own, the same model with this tenant's is saved beside it, as `OWN_MODEL_FOLDER`: it is the
    one to use on this tenant's rows, and never sent.

    Returns:
        The folder of the model to use; None if the session measured models, and fitted none.

    Raises:
        StatisticsFailed: this tenant could not compute something that it was asked for; a model, if there is one, is saved.
        SessionFailed: it ended without one.
    """
    closed = session.closed
    if closed is not None:
        work.end(closed.content.session)
    over = closed is not None and closed.content.reason == CloseReason.FINISHED
    measured = over and work.description.measured is not None
    finished = measured or (over and closed is not None and bool(closed.attachment))
    if closed is not None and finished and not measured:
        try:
            folder = _save(closed, work, folder)
        except EnvironmentFault as fault:
            known = "the session is over, and its server's operator has the same model"
            raise EnvironmentFault(fault.message, remedy=f"{fault.remedy}; {known}") from fault
    if session.fault is not None:
        raise StatisticsFailed(
            f"this tenant could not compute its statistics: {session.fault.message}", remedy=session.fault.remedy
        )
    if not finished:
        raise SessionFailed("the server ended the session without a model", remedy="ask its operator for the reason")
    return None if measured else folder


def _save(closed: Sealed[Close], work: RowsWork, folder: Path) -> Path:
    final = Broadcast.from_bytes(closed.attachment, "the server's final model")
    if not work.description.asks_for_the_model(final):
        raise PeerFault(SERVER, "ended the session with a model that the session was not about")
    provenance = {"session": closed.content.session.hex(), "rounds": closed.content.rounds}
    names = work.description.names
    save_model(folder, FittedModel(final.one_model, final.coordinates, names, final.parameters, provenance))
    own = work.at_home(final)
    if own is None:
        return folder
    beside = folder.with_name(OWN_MODEL_FOLDER)
    save_model(
        beside, FittedModel(own.one_model, own.coordinates, names, own.parameters, {**provenance, "weights": "own"})
    )
    return beside
