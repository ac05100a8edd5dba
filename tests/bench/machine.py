"""The machine and the versions that a run's figures belong to."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

_PACKAGES = ("fed-em", "cryptography", "grpcio", "protobuf", "numpy", "scikit-learn", "flwr")


@dataclass(frozen=True)
class Machine:
    """Where and when figures were measured.

    Attributes:
        cpu, cores: The processor's name, and how many cores this process may use.
        load: Processes that were busy on average in the minute before; figures of a busy machine mean little.
        versions: Of Python, and of packages by name.
    """

    cpu: str
    cores: int
    load: float
    system: str
    versions: dict[str, str]
    started: str

    @classmethod
    def here(cls) -> Machine:
        """This machine, now."""
        versions = {"Python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        started = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(
            _processor(), cores, os.getloadavg()[0], f"{platform.system()} {platform.machine()}", versions, started
        )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())
