"""Tenant processes on this machine: started, killed, frozen and waited for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from fed_em_simulations.federation_folder import FederationFolder


class TenantFleet:
    """Tenant processes on this machine, each with its own log file.

    Args:
        federation: Whose tenants they are.
        arguments: More arguments of `fed-em tenant`, by the tenant's name.
    """

    def __init__(self, federation: FederationFolder, arguments: Callable[[str], Sequence[str]]) -> None:
        self._federation = federation
        self._arguments = arguments
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        """Start a tenant's process."""
        config = self._federation.tenant_files[name]
        command = [
            sys.executable,
            "-m",
            "fed_em_simulations.command_line",
            "tenant",
            str(config),
            *self._arguments(name),
        ]
        # One thread of linear algebra each: nine processes share this machine.
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        with (config.parent / "log.txt").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environment
            )

    def restart(self, name: str) -> None:
        """Kill a tenant as a power cut would, and start it again."""
        self._processes[name].kill()
        self._processes[name].wait()
        self.start(name)

    def stop(self, name: str) -> None:
        """Freeze a tenant."""
        self._processes[name].send_signal(signal.SIGSTOP)

    def resume(self, name: str) -> None:
        """Let a frozen tenant go on."""
        self._processes[name].send_signal(signal.SIGCONT)

    def wait(self, seconds: float) -> None:
        """Wait until all have ended by themselves; those that do not are killed."""
        deadline = time.monotonic() + seconds
        for process in self._processes.values():
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def tenant_processes(federation: FederationFolder, arguments: Callable[[str], Sequence[str]]) -> Iterator[TenantFleet]:
    """All tenants of a federation, running; they are gone when the block ends."""
    fleet = TenantFleet(federation, arguments)
    try:
        for name in federation.tenant_files:
            fleet.start(name)
        yield fleet
    except BaseException:
        fleet.wait(0.0)
        raise
    fleet.wait(10.0)
