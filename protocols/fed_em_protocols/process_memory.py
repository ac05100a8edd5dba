"""Keys live in memory only: so a process that has some writes no core file, and lets no other process of its user read its memory.

Python drops references and overwrites nothing, so what was erased may stand in freed memory for a while, and whatever gets at the
memory gets at it too. Swap is the machine's own matter; `fed-em doctor` tells of it.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

from fed_em_protocols.checks import Finding

if sys.platform != "win32":
    import resource

# Of linux/prctl.h. Programs that core_pattern pipes into take no notice of a limit of 0; of this they do.
_PR_SET_DUMPABLE = 4
_SWAPS = Path("/proc/swaps")


def keep_memory_private() -> None:
    """No core files of this process and its children; on Linux no debugger of the same user either (see prctl(2), PR_SET_DUMPABLE).

    Where a system has neither, nothing happens.
    """
    if sys.platform != "win32":
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def check_swap(swaps: Path = _SWAPS) -> Finding:
    """Whether this machine may write memory to a disk.

    Args:
        swaps: The kernel's list of swap areas.
    """
    try:
        areas = [line.split()[0] for line in swaps.read_text(encoding="utf-8").splitlines()[1:] if line.strip()]
    except OSError:
        return Finding("swap", "whether this machine swaps cannot be seen here; if it does, swap should be encrypted")
    if not areas:
        return Finding("swap", "none: keys and rows in memory are not written to a disk")
    return Finding(
        "swap",
        f"on {', '.join(areas)}: keys and rows in memory may be written there; encrypt it with a key that is lost when the machine "
        "stops, or do without (`MemorySwapMax=0` in a systemd unit)",
    )
