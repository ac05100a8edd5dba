"""How far one machine carries the real protocol: sums over thousands of simulated tenants, all of whom do all their work.

    python -m tests.bench.scale [--tenants N …] [--rounds R] [--workers W] [--trust T] [--share γ=δ] [--seconds S] [--plot FILE]

Every tenant agrees on keys at its own end of each pair, deals and opens its boxes, masks and opens; checks of the same public bytes are
made once a process. The model has about a thousand statistics and a tenant twenty rows, so that nearly all work is the protocol's.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import time
from dataclasses import dataclass

import numpy as np

from fed_em.em import Stopping
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em_protocols.coordinator_state import Notice
from fed_em_protocols.terms import Trust
from fed_em_server.record import RoundRecord, SessionRecord
from fed_em_simulations import Federation, FederationOutcome
from fed_em_simulations.tenant_shards import resident

_COMPONENTS, _COLUMNS, _ROWS = 11, 12, 20
_LENGTH = _COMPONENTS * (1 + _COLUMNS + _COLUMNS * (_COLUMNS + 1) // 2)


@dataclass(frozen=True)
class ScaleFigures:
    """One federation.

    Attributes:
        tenants, neighbours, rounds: n, k, and opened sums.
        failure: Why there are no more.
        wall: Seconds.
        server_cpu, tenants_cpu: Processor seconds of this process, which plays the server, and of the workers.
        memory: The most bytes of all processes together, as seen whenever a round was opened or a window was.
        virtual: Seconds of the simulated session.
    """

    tenants: int
    neighbours: int
    rounds: int
    failure: str
    wall: float
    server_cpu: float
    tenants_cpu: float
    memory: int
    virtual: float

    def __str__(self) -> str:
        done = f"n = {self.tenants}, k = {self.neighbours}, L = {_LENGTH}, {self.rounds} rounds"
        each = 1000 * (self.server_cpu + self.tenants_cpu) / self.tenants
        cost = (
            f"{self.wall:.0f} s, processor {self.server_cpu:.0f} s server + {self.tenants_cpu:.0f} s tenants = {each:.0f} ms a "
            f"tenant, memory {self.memory / 2**20:.0f} MiB = {self.memory / self.tenants / 1024:.0f} KiB a tenant"
        )
        return f"{done}: {cost}; {self.virtual:.1f} virtual seconds" + (
            f"; ended early: {self.failure}" if self.failure else ""
        )


class _TimeIsUp(Exception):
    """The bench has had its time."""


class _Scales:
    """A watcher that weighs all processes, and ends the session when its time is up."""

    def __init__(self, seconds: float) -> None:
        self.memory = self.rounds = 0
        self._until = time.monotonic() + seconds
        self.record: SessionRecord | None = None

    def session_started(self, record: SessionRecord) -> None:
        """Keep it."""
        self.record = record

    def noticed(self, notice: Notice) -> None:
        """Weigh now and then; look at the clock."""
        if notice.kind.value in ("window-opened", "summed", "round-started"):
            workers = [child.pid for child in multiprocessing.active_children() if child.pid is not None]
            self.memory = max(self.memory, sum(map(resident, [os.getpid(), *workers])))
        if time.monotonic() > self._until:
            raise _TimeIsUp

    def round_opened(self, record: RoundRecord) -> None:
        """Count."""
        self.rounds = record.iteration + 1


def measure_scale(n: int, rounds: int, workers: int, trust: Trust, share: float, seconds: float) -> ScaleFigures:
    """Sums over n tenants, in one window, no more of them than time admits."""
    generator = np.random.default_rng(0)
    centres = 3.0 * generator.integers(0, 3, (n, _ROWS, 1))
    tables = generator.standard_normal((n, _ROWS, _COLUMNS)) + centres
    scales = _Scales(seconds)
    federation = Federation(
        list(tables),
        trust="semi-honest" if trust is Trust.SEMI_HONEST else "malicious-server",
        difference_guard="off",
        colluders=int(share * n),
        dropouts=share,
        # The next window would be set up beside the last rounds.
        window_rounds=rounds + rounds // 6 + 1,
        optimiser="em",
        stopping=Stopping(0.0, rounds - 1),
        workers=workers,
        watchers=(scales,),
    )
    before, began = _processor(), time.monotonic()
    failure, virtual = "", 0.0
    try:
        outcome: FederationOutcome = federation.fit(GaussianMixtureModel(_COMPONENTS, _COLUMNS))
        failure, virtual = outcome.failure, outcome.seconds
    except _TimeIsUp:
        failure = f"after {seconds:.0f} seconds"
    after = _processor()
    assert scales.record is not None
    return ScaleFigures(
        tenants=n,
        neighbours=federation.terms_of(scales.record).neighbours,
        rounds=scales.rounds,
        failure=failure,
        wall=time.monotonic() - began,
        server_cpu=after[0] - before[0],
        tenants_cpu=after[1] - before[1],
        memory=scales.memory,
        virtual=virtual,
    )


def _processor() -> tuple[float, float]:
    """Seconds of this process and of its children that have ended."""
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    own, children = (each.ru_utime + each.ru_stime for each in spent)
    return own, children
