"""A server process: its configuration opened and checked, one session run or taken up again, the outcome kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryFile

from sqlalchemy.engine import URL

from fed_em.errors import CallerError, EnvironmentFault
from fed_em.model_file import FittedModel, load_model, save_model
from fed_em_protocols.errors import SERVER
from fed_em_protocols.party import PartyKeys, check_certificate, load_keys
from fed_em_protocols.roster import Roster, load_roster
from fed_em_protocols.transcript.recorder import TranscriptStore
from fed_em_server.checkpoints.session_checkpoint import SessionCheckpoint
from fed_em_server.checkpoints.store import CheckpointStore, checkpoint_url
from fed_em_server.checkpoints.taking_up import ended_well, take_up
from fed_em_server.configuration import ServerConfiguration
from fed_em_server.grpc_hub import GrpcHub
from fed_em_server.record import SessionRecord, read_record, write_record
from fed_em_server.session import SessionOutcome, SessionPlan, Watcher, plan_session, run_session
from fed_em_server.transcript_folder import TranscriptFolder

MODEL_FOLDER = "model"
CHECKPOINTS_FILE = "checkpoints.sqlite"


@dataclass(frozen=True)
class Server:
    """A server, opened: its configuration, its roster and its keys, checked against each other."""

    configuration: ServerConfiguration
    roster: Roster
    keys: PartyKeys

    def hub(self) -> GrpcHub:
        """Start to listen where the configuration says. Raises `EnvironmentFault` if the port is in use."""
        return GrpcHub(self.configuration.listen, self.roster, self.keys.tls_key, self.keys.tls_certificate)

    def plan(self, transport: str) -> SessionPlan:
        """A fresh session."""
        return plan_session(self.configuration, self.roster, self.keys.identity, transport)

    def transcript(self, name: str | None = None) -> TranscriptFolder:
        """A new transcript in the output folder, or the one of that name. Raises `EnvironmentFault` if the disk does not take it."""
        return TranscriptFolder(self.configuration.output, self.configuration.transcript_uploads, name)

    def checkpoints(self) -> CheckpointStore:
        """The database of checkpoints, locked. Raises as `checkpoint_url` and `CheckpointStore`."""
        return CheckpointStore(*checkpoints_of(self.configuration, self.roster))

    def lapsed(self) -> list[CallerError]:
        """A complaint for each tenant whose certificate is not valid now."""
        return [fault for tenant in self.roster.tenants if (fault := _lapse_of(self.roster, tenant.name)) is not None]


# Runs a session, or goes on with it, from its plan to its outcome.
Coordinate = Callable[[Server, SessionPlan, TranscriptStore, SessionCheckpoint], SessionOutcome]


def checkpoints_of(configuration: ServerConfiguration, roster: Roster) -> tuple[URL, str]:
    """Where a session's checkpoints go, and the place that they have there. Raises as `checkpoint_url`."""
    output, url = configuration.output, configuration.checkpoints.url
    if url is None:
        return checkpoint_url(f"sqlite:///{output / CHECKPOINTS_FILE}"), ""
    # Others may share it: a server's sessions are those of its identity and its output folder.
    return checkpoint_url(url.get_secret_value()), f"{roster.server.identity_key.hex()} {output.resolve()}"


def _lapse_of(roster: Roster, name: str) -> CallerError | None:
    try:
        check_certificate(roster, name, datetime.now(UTC))
    except CallerError as fault:
        return fault
    return None


def open_server(configuration: ServerConfiguration) -> Server:
    """Load and check what a configuration names.

    Raises:
        CallerError: a file is missing or wrong, a key is not the roster's, or a certificate of anybody has expired.
    """
    server = _opened(configuration)
    for fault in server.lapsed():
        raise fault
    return server


def _opened(configuration: ServerConfiguration) -> Server:
    """As `open_server`, whatever tenants' certificates are."""
    server = _loaded(configuration)
    check_certificate(server.roster, SERVER, datetime.now(UTC))
    return server


def _loaded(configuration: ServerConfiguration) -> Server:
    """As `open_server`, whatever anybody's certificates are."""
    roster = load_roster(configuration.roster)
    keys = load_keys(configuration.keys)
    keys.check_against(roster, SERVER)
    return Server(configuration, roster, keys)


def serve(
    configuration: ServerConfiguration,
    watcher: Watcher,
    new: bool = False,
    report: Callable[[str], None] = lambda _: None,
) -> tuple[SessionOutcome, Path]:
    """Run one session over gRPC, as `serve_over` does."""

    def coordinate(
        server: Server, plan: SessionPlan, store: TranscriptStore, checkpoint: SessionCheckpoint
    ) -> SessionOutcome:
        return run_session(plan, server.hub(), watcher, store=store, checkpoint=checkpoint)

    return serve_over("grpc", coordinate, configuration, new, report)


def serve_over(
    transport: str,
    coordinate: Coordinate,
    configuration: ServerConfiguration,
    new: bool = False,
    report: Callable[[str], None] = lambda _: None,
) -> tuple[SessionOutcome, Path]:
    """Run one session, and keep its outcome in the configuration's output folder. One that is not over goes on.

    Args:
        transport: What the session's record says of how tenants are reached.
        coordinate: Runs the session.
        configuration: Of the session.
        new: Abandon a session that is not over.
        report: Told, in a sentence, if one goes on, and which tenants' certificates have expired meanwhile.

    Returns:
        The outcome, and the folder of its transcript.

    Raises:
        FedEmError: as `open_server`, `take_up` and `coordinate`.
    """
    server = _opened(configuration)
    lapsed = server.lapsed()
    _require_writable(configuration.output)
    with server.checkpoints() as checkpoints:
        if lapsed and (new or checkpoints.unfinished() is None):
            raise lapsed[0]
        plan, checkpoint = take_up(checkpoints, server.plan(transport), new)
        if checkpoint.resumed:
            report(f"session {checkpoint.session} goes on, {checkpoint.last_round} rounds into it")
            for fault in lapsed:
                report(f"{fault.message}: it can take part again in another session only, where {fault.remedy}")
        else:
            claim_output(configuration.output)
        with server.transcript(checkpoint.transcript or None) as store:
            outcome = coordinate(server, plan, store, checkpoint)
        keep_outcome(configuration.output, outcome)
        checkpoint.done()
    return outcome, store.folder


@dataclass(frozen=True)
class EndedSession:
    """A session that ended well, as its output folder has it."""

    record: SessionRecord
    fitted: FittedModel


def ended_session(configuration: ServerConfiguration) -> EndedSession | None:
    """The session of this very configuration that ended with the model in its output folder; None if there is none. Nothing is changed.

    A supervisor starts a server again, whatever it ended with: this says that there is nothing left to do.

    Raises:
        CallerError: the roster, the keys or a setting is wrong, or another server uses the checkpoints.
        EnvironmentFault: the checkpoints, the model or the record cannot be read.
    """
    if not (configuration.output / MODEL_FOLDER).exists():
        return None
    server = _loaded(configuration)
    with server.checkpoints() as checkpoints:
        session = ended_well(checkpoints, server.plan("grpc"))
    if session is None:
        return None
    record, fitted = read_record(configuration.output), load_model(configuration.output / MODEL_FOLDER)
    return EndedSession(record, fitted) if session == record.session == fitted.provenance.get("session") else None


def goes_on(configuration: ServerConfiguration) -> bool:
    """Whether the output folder holds a session of this very configuration that is not over.

    Raises:
        FedEmError: as `open_server` and `CheckpointStore`.
    """
    server = open_server(configuration)
    with server.checkpoints() as checkpoints:
        plan = server.plan("grpc")
        try:
            return take_up(checkpoints, plan)[1].resumed
        except CallerError:
            return False


def claim_output(folder: Path) -> None:
    """Make the output folder before a session begins, so that its outcome is not lost at the end.

    Raises:
        CallerError: it holds the model of another session.
        EnvironmentFault: it cannot be made or written to.
    """
    if (folder / MODEL_FOLDER).exists():
        raise CallerError(f"{folder} holds the model of an earlier session", remedy="name another `output` folder")
    _require_writable(folder)


def _require_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            return
    except OSError as error:
        raise EnvironmentFault(f"cannot write to {folder}: {error.strerror}", remedy="name another `output`") from None


def keep_outcome(folder: Path, outcome: SessionOutcome) -> None:
    """Write the model and the record of a session."""
    save_model(folder / MODEL_FOLDER, outcome.fitted)
    write_record(folder, outcome.record)
