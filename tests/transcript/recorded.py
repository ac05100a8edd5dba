"""A small session in memory with its transcript, and every tenant's own log of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from small_federation import Recorder, clustered_rows, session_toml, write_small_federation

from fed_em_client.take_part import open_tenant
from fed_em_client.tenant_log_file import LOG_FILE
from fed_em_client.tenant_session import TenantSession
from fed_em_protocols.envelope import unseal
from fed_em_protocols.keys import SigningKey
from fed_em_protocols.merkle import leaf_hash
from fed_em_protocols.messages import Opening, Upload
from fed_em_protocols.roster import Roster
from fed_em_protocols.transcript.entries import Entry, Opened, entry_from_bytes, entry_to_bytes
from fed_em_protocols.transcript.log import Checkpoint, Frontier, signed_checkpoint
from fed_em_protocols.transcript.memory_transcript import MemoryTranscript
from fed_em_protocols.transcript.reading import TranscriptFiles
from fed_em_protocols.transcript.tenant_log import TenantLog
from fed_em_server.serve import open_server
from fed_em_server.session import run_session
from fed_em_simulations.memory_hub import Fate, Interference, MemoryHub, Passing
from fed_em_simulations.volatile_marks import VolatileMarks

SIZES = (30, 25, 20, 35, 28, 22)
TRUST = 'difference_guard = "off"\ncolluders = 1\nminimum_survivors = 3'
POLICY = 'difference_guard = "off"\ncolluders = 1'
TIME = "2026-01-01T00:00:00+00:00"


class Lines:
    """A tenant's log in memory."""

    def __init__(self) -> None:
        self.data = b""

    def append(self, lines: Sequence[bytes]) -> None:
        self.data += b"".join(line + b"\n" for line in lines)


@dataclass(frozen=True)
class Recorded:
    """A session as it is found later."""

    files: TranscriptFiles
    roster: Roster
    logs: Mapping[str, bytes]
    server: SigningKey

    @property
    def lines(self) -> list[bytes]:
        return self.files.entries.split(b"\n")[:-1]

    @property
    def entries(self) -> list[Entry]:
        return [entry_from_bytes(line, "an entry") for line in self.lines]

    @property
    def checkpoints(self) -> list[Checkpoint]:
        return [Checkpoint.from_bytes(line, "it") for line in self.files.checkpoints.split(b"\n")[:-1]]

    def signed_anew(self, lines: list[bytes]) -> TranscriptFiles:
        """What a server that lies from the beginning has: other lines under checkpoints of its own."""
        frontier, leaves = Frontier(), [leaf_hash(line) for line in lines]
        for leaf in leaves:
            frontier = frontier.with_leaf(leaf)
        opened = entry_from_bytes(self.lines[0], "the first")
        assert isinstance(opened, Opened)
        signed = signed_checkpoint(self.checkpoints[0].session, frontier, leaves, TIME, self.server)
        return replace(self.files, entries=lines_to_bytes(lines), checkpoints=signed.to_bytes() + b"\n")


def lines_to_bytes(lines: list[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)


def entries_to_lines(entries: list[Entry]) -> list[bytes]:
    return [entry_to_bytes(entry) for entry in entries]


def trouble() -> Interference:
    """Tenant 1 falls silent after its upload of round 2, tenant 2 before its upload of round 3, and of round 4 there are two uploads."""

    def fate(passing: Passing) -> Fate:
        content = unseal(passing.data, "").content
        if passing.tenant == 1 and isinstance(content, Opening) and content.round == 2:
            return Fate.LOSE
        if passing.tenant == 2 and isinstance(content, Upload) and content.round == 3:
            return Fate.LOSE
        if passing.tenant > 1 and isinstance(content, Upload) and content.round == 4:
            return Fate.BREAK
        return Fate.DELIVER

    return fate


def record(
    folder: Path,
    interfere: Interference | None = None,
    session: str = "",
    keeps: bool = True,
    sizes: Sequence[int] = SIZES,
) -> Recorded:
    """Run a session in memory and keep everything."""
    session = session or session_toml(fit="max_iterations = 3", trust=TRUST)
    session = session.replace("window_rounds = 16", "window_rounds = 5")
    federation = write_small_federation(folder, clustered_rows(sizes), session, policy=POLICY)
    server, stores = open_server(federation.server), {name: Lines() for name in federation.tenant_files}

    def start(name: str) -> Callable[[], TenantSession]:
        tenant, marks = open_tenant(federation.tenant(name)), VolatileMarks()
        log = TenantLog(stores[name], name, tenant.roster, lambda: TIME)
        return lambda: tenant.session(marks, tenant.work(marks), log=log)

    store = MemoryTranscript(keeps)
    starts = [start(name) for name in federation.tenant_files]
    hub = MemoryHub(starts, 0.001, interfere) if interfere else MemoryHub(starts, 0.001)
    run_session(server.plan("memory"), hub, Recorder(), store=store)
    logs = {f"{name}/{LOG_FILE}": stores[name].data for name in stores}
    return Recorded(store.files, federation.roster, logs, server.keys.identity)


@cache
def recorded() -> Recorded:
    """Most tests look at this one: with a tenant recovered, one late, a round that failed, increments, and uploads kept."""
    with TemporaryDirectory() as folder:
        return record(Path(folder) / "f", trouble())
