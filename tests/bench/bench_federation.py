"""A federation on disk to measure with, and its tenants as processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from fed_em_client.configuration import TenantConfiguration
from fed_em_protocols.terms import Trust
from fed_em_simulations.federation_folder import FederationFolder, write_federation_folder
from tests.bench.sizes import Sizes

_REPOSITORY = Path(__file__).resolve().parents[2]
_ROWS, _ROW_CAP = 100, 1000
# Terms cap the rounds of a session at half as many again, and tenants by default admit 1000.
_MOST_ROUNDS = 600
_FAREWELL_SECONDS = 10.0


def write_bench_federation(folder: Path, sizes: Sizes) -> FederationFolder:
    """Keys, roster and configurations of `sizes.tenants` parties, and some rows each for the sessions that need them."""
    generator = np.random.default_rng(0)
    columns = [f"c{k}" for k in range(sizes.columns)]
    tenants = {f"t{k}": generator.standard_normal((_ROWS, sizes.columns)) for k in range(sizes.tenants)}
    session = session_toml(sizes, "result", iterations=_MOST_ROUNDS)
    return write_federation_folder(
        folder, "bench", session, columns, tenants, _ROW_CAP, "127.0.0.1:1", policy="allow_semi_honest = true"
    )


def with_trust(federation: FederationFolder, trust: Trust) -> None:
    """Let the next session of a federation run under this trust."""
    text = federation.session_file.read_text(encoding="utf-8").partition("[trust]")[0]
    federation.session_file.write_text(f'{text}[trust]\nmode = "{trust.label}"\n', encoding="utf-8")


def session_toml(sizes: Sizes, output: str, iterations: int, trust: Trust = Trust.MALICIOUS_SERVER) -> str:
    """A session of the mixture in `sizes`, which never converges before its last iteration."""
    columns = "\n".join(f'[[columns]]\nname = "c{k}"\nlow = -20\nhigh = 20' for k in range(sizes.columns))
    return f"""\
title = "bench"
listen = "127.0.0.1:0"
output = "../{output}"
[fit]
tolerance = 0.0
max_iterations = {iterations}
optimiser = "em"
starts = 0
[model]
family = "gaussian-mixture"
n_components = {sizes.components}
covariance = "full"
{columns}
[trust]
mode = "{trust.label}"
"""


class TenantProcesses(AbstractContextManager["TenantProcesses"]):
    """All tenants of a federation as processes; when the block ends they have ended, or are killed.

    Args:
        federation: Their configurations.
        mode: See `tenant_process`.
        where: What a tenant's process is told: an address, or its own socket.
    """

    def __init__(self, federation: FederationFolder, mode: str, where: Callable[[TenantConfiguration], str]) -> None:
        self._federation = federation
        self._mode = mode
        self._where = where
        self._processes: list[subprocess.Popen[bytes]] = []

    def cpu_seconds(self) -> float | None:
        """Processor time of all of them so far, where the system tells it (Linux does, in hundredths)."""
        ticks = 0
        with suppress(OSError):
            for process in self._processes:
                fields = Path(f"/proc/{process.pid}/stat").read_text(encoding="ascii").rpartition(") ")[2].split()
                ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK") if ticks else None

    def _start(self, file: Path) -> None:
        where = self._where(self._federation.tenant(file.parent.name))
        command = [sys.executable, "-m", "tests.bench.tenant_process", self._mode, str(file), where]
        # One thread of linear algebra each: they share this machine.
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        with (file.parent / f"{self._mode}.log").open("wb") as log:
            self._processes.append(
                subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=_REPOSITORY, env=environment
                )
            )

    def __enter__(self) -> Self:
        for file in self._federation.tenant_files.values():
            self._start(file.resolve())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        deadline = time.monotonic() + (_FAREWELL_SECONDS if error is None else 0.0)
        for process in self._processes:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
