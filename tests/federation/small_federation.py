"""A small federation on disk, for tests with real processes and for tests in memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from fed_em_client.take_part import open_tenant
from fed_em_client.tenant_session import TenantSession
from fed_em_protocols.coordinator_state import Notice, NoticeKind
from fed_em_server.record import RoundRecord, SessionRecord
from fed_em_simulations.federation_folder import FederationFolder, Matrix, write_federation_folder
from fed_em_simulations.memory_hub import Interference, MemoryHub
from fed_em_simulations.volatile_marks import VolatileMarks

COLUMNS = ("a", "b", "c")

# Tells from the rounds that were opened so far, one at least, and the number of one in which a tenant uploads, whether it is time.
Moment = Callable[[Sequence[RoundRecord], int], bool]
ROW_CAP = 1000


MODEL = 'family = "gaussian-mixture"\nn_components = 3\ncovariance = "full"'
LIKELIEST = f'{MODEL}\nprior = "none"'
FIT = "tolerance = 1e-7\nmax_iterations = 150"
TIMES = "gather = 60\npatience = 0.3\nstraggler = 0.5\nset_up = 5\nupload = 10\nopen = 2"
TABLES = "\n".join(f'[[columns]]\nname = "{name}"\nlow = -20\nhigh = 20' for name in COLUMNS)


def session_toml(
    model: str = MODEL,
    fit: str = FIT,
    times: str = TIMES,
    columns: str = TABLES,
    trust: str = "",
    optimiser: str = "em",
    start: str = "starts = 0",
) -> str:
    """A session over three columns in [−20, 20], by plain EM from one draw; each argument is the text of its table, or a line of [fit]."""
    return f"""\
title = "small"
listen = "127.0.0.1:0"
output = "../result"
[trust]
window_rounds = 16
{trust}
[fit]
optimiser = "{optimiser}"
{start}
{fit}
[times]
{times}
[model]
{model}
{columns}
"""


def clustered_rows(sizes: Sequence[int], seed: int = 0) -> dict[str, Matrix]:
    """Rows around three centres, unevenly spread: tenant k mostly holds cluster k mod 3."""
    generator = np.random.default_rng(seed)
    centres = np.array([[0.0, 0.0, 0.0], [3.0, 1.0, -2.0], [-2.0, 3.0, 2.0]])
    mixing = np.array([[0.7, 0.2, 0.1], [0.1, 0.7, 0.2], [0.2, 0.1, 0.7]])
    tenants = {}
    for k, size in enumerate(sizes):
        labels = generator.choice(3, size=size, p=mixing[k % 3])
        tenants[f"t{k}"] = centres[labels] + generator.standard_normal((size, 3))
    return tenants


def write_small_federation(
    folder: Path, tenants: dict[str, Matrix], session: str = "", block_size: int | None = None, policy: str = ""
) -> FederationFolder:
    """Keys, roster, configurations and rows of a small federation."""
    session, address = session or session_toml(), "127.0.0.1:1"
    return write_federation_folder(
        folder, "small", session, COLUMNS, tenants, ROW_CAP, address, block_size=block_size, policy=policy
    )


def write_three_blocks(folder: Path, tenants: dict[str, Matrix], session: str) -> FederationFolder:
    """Nine tenants in blocks of three, the least that withstands one colluder."""
    session = session.replace("[trust]", "[trust]\ncolluders = 1\nminimum_survivors = 3")
    federation = write_small_federation(folder, tenants, session, block_size=3, policy="colluders = 1")
    assert [len(block) for block in federation.roster.blocks] == [3, 3, 3]
    return federation


def memory_hub(
    federation: FederationFolder, latency: float | Sequence[float] = 0.001, interfere: Interference | None = None
) -> MemoryHub:
    """All tenants of a federation in this process; whenever one starts, it reads its rows anew."""

    def start(name: str) -> Callable[[], TenantSession]:
        tenant, marks = open_tenant(federation.tenant(name)), VolatileMarks()
        return lambda: tenant.session(marks, tenant.work(marks))

    starts = [start(name) for name in federation.tenant_files]
    return MemoryHub(starts, latency, interfere) if interfere else MemoryHub(starts, latency)


class Recorder:
    """A watcher that remembers."""

    def __init__(self) -> None:
        self.record: SessionRecord | None = None
        self.notices: list[Notice] = []
        self.rounds: list[RoundRecord] = []

    def session_started(self, record: SessionRecord) -> None:
        self.record = record

    def noticed(self, notice: Notice) -> None:
        self.notices.append(notice)

    def round_opened(self, record: RoundRecord) -> None:
        self.rounds.append(record)


class Comeback:
    """That of a tenant whose process was killed and started anew: what a session without haste waits for.

    Otherwise it would converge, or come to its last round, before a busy machine has started the process.

    Args:
        log: What all of its processes write.
    """

    def __init__(self, log: Path) -> None:
        self._log, self._dialled, self._pause = log, 0, 0.0

    def wait(self, processes: int = 2, since: float | None = None) -> None:
        """Until so many have begun to dial; from then on a moment, which is longer where that took long since the last was started."""
        if processes > self._dialled:
            began = time.monotonic() if since is None else since
            while self._log.read_text().count(": dialling ") < processes:
                time.sleep(0.05)
            self._dialled, self._pause = processes, max(0.5, (time.monotonic() - began) / 3)
        time.sleep(self._pause)


class Killing(Recorder):
    """Has a tenant killed and started anew, time after time, and is in no hurry while it is away.

    Args:
        tenant: Its name.
        moments: When, each time: at its first upload at which it is time.
        restart: Does it.
        log: What its processes write.
    """

    def __init__(self, tenant: str, moments: Sequence[Moment], restart: Callable[[], None], log: Path) -> None:
        super().__init__()
        self.restarts, self._restarted = 0, 0.0
        self._tenant, self._moments, self._restart = tenant, list(moments), restart
        self._comeback = Comeback(log)

    def noticed(self, notice: Notice) -> None:
        super().noticed(notice)
        its = self._tenant in notice.tenants
        uploaded = notice.kind is NoticeKind.UPLOADED and its
        if uploaded and self.rounds and self._moments and self._moments[0](self.rounds, notice.round):
            self._moments.pop(0)
            self.restarts, self._restarted = self.restarts + 1, time.monotonic()
            self._restart()
        elif notice.kind is NoticeKind.ROUND_STARTED and not its and self.restarts:
            self._comeback.wait(1 + self.restarts, self._restarted)

    def joins(self) -> int:
        """How many of its processes joined the session."""
        joined = (each for each in self.notices if each.kind is NoticeKind.JOINED)
        return sum(self._tenant in each.tenants for each in joined)
