"""How far one machine carries the real protocol: sums over thousands of simulated tenants, all of whom do all their work.

    python -m tests.bench.scale [--tenants N …] [--rounds R] [--workers W] [--trust T] [--share γ=δ] [--seconds S] [--plot FILE]

Every tenant agrees on keys at its own end of each pair, deals and opens its boxes, masks and opens; checks of the same public bytes are
made once a process. The model has about a thousand statistics and a tenant twenty rows, so that nearly all work is the protocol's.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import re
import resource
import sys
import textwrap
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fed_em.em import Stopping
from fed_em.errors import EnvironmentFault
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em_protocols.coordinator_state import Notice, NoticeKind
from fed_em_protocols.terms import Trust
from fed_em_server.configuration import TimesTable
from fed_em_server.record import RoundRecord, SessionRecord
from fed_em_simulations import Federation

# Nobody is late: keys of ten thousand tenants' neighbours keep the server's virtual line busy for longer than the usual deadlines.
_DEADLINES = TimesTable(gather=3600, set_up=3600, upload=3600, straggler=3600, open=3600, pause=3600)

# What is told on standard error, and how often memory is looked at besides.
_DONE = {NoticeKind.WINDOW_OPENED: "the window is set up", NoticeKind.SUMMED: "round {} is summed"}
_SECONDS_BETWEEN = 1.0

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
        memory: The peaks of all processes' resident memory, added up, in bytes: no less than the most that they ever had together. Pages
            that they share count in each.
        virtual: Seconds of the simulated session.
        agreements, remembered: X25519 operations of all tenants, and checks that a process had made before.
    """

    tenants: int
    neighbours: int
    trust: str
    rounds: int
    failure: str
    wall: float
    server_cpu: float
    tenants_cpu: float
    memory: int
    virtual: float
    agreements: int
    remembered: int

    @property
    def milliseconds(self) -> float:
        """Of processor time a tenant, the server's part included."""
        return 1000 * (self.server_cpu + self.tenants_cpu) / self.tenants

    @property
    def kibibytes(self) -> float:
        """Of memory a tenant."""
        return self.memory / self.tenants / 1024

    def __str__(self) -> str:
        return (
            f"{self.trust}, n = {self.tenants}, k = {self.neighbours}, L = {_LENGTH}, {self.rounds} rounds: {self.wall:.0f} s; "
            f"processor {self.server_cpu:.0f} s server + {self.tenants_cpu:.0f} s tenants, {self.milliseconds:.0f} ms a tenant; "
            f"memory {self.memory / 2**20:.0f} MiB, {self.kibibytes:.0f} KiB a tenant; {self.agreements} agreements; "
            f"{self.remembered} checks of public bytes remembered; {self.virtual:.1f} virtual seconds"
        ) + (f"; ended early: {textwrap.shorten(self.failure, 200)}" if self.failure else "")


class _TimeIsUp(EnvironmentFault):
    """The bench has had its time."""


class _Scales:
    """A watcher that adds up the peaks of all processes, says so on standard error, and ends the session when its time is up."""

    def __init__(self, seconds: float) -> None:
        _forget_peak()
        self._peaks: dict[int, int] = {}
        self._began = self._weighed = time.monotonic()
        self._until = self._began + seconds

    @property
    def memory(self) -> int:
        """Bytes, as far as the processes' peaks have been read."""
        return sum(self._peaks.values())

    def session_started(self, record: SessionRecord) -> None:
        """Nothing to weigh yet."""

    def noticed(self, notice: Notice) -> None:
        """Look at the clock; weigh now and then, and whenever a step is done. Peaks do not fall, so none is missed in between."""
        now = time.monotonic()
        done = _DONE.get(notice.kind)
        if done or now > self._weighed + _SECONDS_BETWEEN:
            self._weighed = now
            workers = [child.pid for child in multiprocessing.active_children() if child.pid is not None]
            for each in (os.getpid(), *workers):
                self._peaks[each] = max(_peak(each), self._peaks.get(each, 0))
        if done:
            said = f"{now - self._began:6.0f} s: {done.format(notice.round)}; {self.memory / 2**20:.0f} MiB"
            print(said, file=sys.stderr, flush=True)
        if now > self._until:
            self._until = math.inf  # what follows is the end, of which there are notices as well
            raise _TimeIsUp("time is up")

    def round_opened(self, record: RoundRecord) -> None:
        """Nothing to weigh."""


def _peak(process: int) -> int:
    """The most memory that a process of this machine ever had resident, in bytes; 0 if it is gone."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    return 1024 * int(found[1]) if found else 0


def _forget_peak() -> None:
    """Let this process' peak begin at what it has now; a smaller federation may come behind a larger one."""
    with suppress(OSError):  # then the bound is as high as what came before
        Path("/proc/self/clear_refs").write_text("5")


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
        window_rounds=rounds,
        deadlines=_DEADLINES,
        optimiser="em",
        starts=0,
        stopping=Stopping(0.0, rounds - 1),
        workers=workers,
        watchers=(scales,),
    )
    before, began = _processor(), time.monotonic()
    outcome = federation.fit(GaussianMixtureModel(_COMPONENTS, _COLUMNS))
    wall, after = time.monotonic() - began, _processor()
    assert outcome.terms is not None
    return ScaleFigures(
        tenants=n,
        neighbours=outcome.terms.neighbours,
        trust=trust.label,
        rounds=len(outcome.rounds),
        failure=outcome.failure,
        wall=wall,
        server_cpu=after[0] - before[0],
        tenants_cpu=after[1] - before[1],
        memory=scales.memory,
        virtual=outcome.seconds,
        agreements=outcome.tenant_work.agreements,
        remembered=outcome.tenant_work.remembered,
    )


def _processor() -> tuple[float, float]:
    """Seconds of this process and of its children that have ended."""
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    own, children = (each.ru_utime + each.ru_stime for each in spent)
    return own, children


def draw(figures: Sequence[ScaleFigures], path: Path) -> None:
    """Processor time and memory a tenant over n, and the number of neighbours that explains their growth."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    tenants = [each.tenants for each in figures]
    drawing, (time_axes, memory_axes) = pyplot.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    time_axes.plot(tenants, [each.milliseconds for each in figures], "o-", label="processor time a tenant, ms")
    time_axes.plot(
        tenants, [10 * each.milliseconds / each.neighbours for each in figures], "s--", label="for ten neighbours"
    )
    memory_axes.plot(tenants, [each.kibibytes for each in figures], "o-", label="memory a tenant, KiB")
    memory_axes.plot(
        tenants, [10 * each.kibibytes / each.neighbours for each in figures], "s--", label="for ten neighbours"
    )
    for axes in (time_axes, memory_axes):
        axes.set(xscale="log", xlabel="tenants", ylim=(0, None))
        axes.legend()
    drawing.savefig(path)
    pyplot.close(drawing)


def main() -> None:
    """Print a line for each size, as it comes."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.scale", description=__doc__)
    parser.add_argument("--tenants", type=int, nargs="+", default=[10_000])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--trust", choices=[each.label for each in Trust], default=Trust.SEMI_HONEST.label)
    parser.add_argument("--share", type=float, default=0.05, help="of corrupt tenants, and of missing ones")
    parser.add_argument(
        "--seconds", type=float, default=math.inf, help="the session ends at the first notice behind them"
    )
    parser.add_argument("--plot", type=Path, help="an image of costs a tenant")
    given = parser.parse_args()
    trust = next(each for each in Trust if each.label == given.trust)
    figures = []
    for n in given.tenants:
        figures.append(measure_scale(n, given.rounds, given.workers, trust, given.share, given.seconds))
        print(figures[-1], flush=True)
    if given.plot:
        draw(figures, given.plot)


if __name__ == "__main__":
    main()
