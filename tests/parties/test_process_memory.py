"""Processes that hold keys leave no memory to others: no core files, no debugger of the same user, and a word about swap."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import pytest
from typer.testing import CliRunner

from fed_em.errors import FedEmError
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.records import Records
from fed_em_client import shard_worker
from fed_em_client.shard_worker import evaluate_frame, read_answer, receive_frame, send_frame, shards_frame
from fed_em_protocols import process_memory
from fed_em_protocols.process_memory import check_swap
from fed_em_simulations.command_line import app
from tests.fed_em.mixtures import parameters_of

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="prctl and /proc are Linux's")


@pytest.mark.parametrize(
    "arguments",
    [
        ("tenant", "x.toml"),
        ("server", "x.toml"),
        ("operate", "x.toml"),
        ("measure", "x.toml", "--model", "x"),
        ("shard", "127.0.0.1:1", "--patience", "1"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_commands_that_hold_keys_begin_with_it(arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Before they look for their files, which are not there."""
    begun: list[str] = []
    monkeypatch.setattr(process_memory, "keep_memory_private", lambda: begun.append("private"))
    failed = CliRunner().invoke(app, arguments).exception
    assert isinstance(failed, FedEmError)
    assert begun == ["private"]


def test_workers_that_are_sent_rows_begin_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before they read their input, which ends here: what a process has asked for does not outlast the start of another program."""
    begun: list[str] = []
    monkeypatch.setattr(shard_worker, "keep_memory_private", lambda: begun.append("private"))
    monkeypatch.setattr(sys, "argv", ["shard_worker", "1"])
    with (
        (tmp_path / "out").open("w") as out,
        (tmp_path / "errors").open("w") as errors,
        Path(os.devnull).open() as nothing,
    ):
        for name, stream in (("stdin", nothing), ("stdout", out), ("stderr", errors)):
            monkeypatch.setattr(sys, name, stream)
        shard_worker.main()
        monkeypatch.undo()
    assert begun == ["private"]


# A process of a user without privileges, whose memory another process of that user reads: what a debugger begins with.
_VICTIM = """
import ctypes, os, resource, sys
from fed_em_protocols.process_memory import keep_memory_private

if os.getuid() == 0:
    os.setgid(65534), os.setuid(65534)
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # as of a process that began as that user
if sys.argv[1] == "private":
    keep_memory_private()
print("core", *resource.getrlimit(resource.RLIMIT_CORE), "dumpable", ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), flush=True)
sys.stdin.read()
"""
# The same with a worker, which answers nothing before it has begun.
_WORKER = """
import ctypes, os, sys
from fed_em_client import shard_worker

if os.getuid() == 0:
    os.setgid(65534), os.setuid(65534)
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
sys.argv = ["shard_worker", "1"]
shard_worker.main()
"""
_READER = """
import os, sys

if os.getuid() == 0:
    os.setgid(65534), os.setuid(65534)
try:
    open(f"/proc/{sys.argv[1]}/environ", "rb").read()
    print("read")
except PermissionError:
    print("refused")
"""


@on_linux
@pytest.mark.parametrize(("kept", "dumpable", "outcome"), [("private", 0, "refused"), ("open", 1, "read")])
def test_no_process_of_the_same_user_reads_it(kept: str, dumpable: int, outcome: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _VICTIM, kept], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as victim:
        assert victim.stdin is not None and victim.stdout is not None
        told = victim.stdout.readline()
        assert told.endswith(f" dumpable {dumpable}\n") and (dumpable or told.startswith("core 0 0 "))
        read = _read_by_another(victim.pid)
        victim.stdin.close()
    assert read.stdout == f"{outcome}\n", read.stderr


def _read_by_another(process: int) -> subprocess.CompletedProcess[str]:
    reader = [sys.executable, "-c", _READER, str(process)]
    return subprocess.run(reader, check=False, capture_output=True, text=True, timeout=300)


@on_linux
@pytest.mark.slow
def test_no_process_of_the_same_user_reads_a_worker() -> None:
    model, rows = GaussianMixtureModel(3, 2), np.zeros((4, 2))
    worker = subprocess.Popen([sys.executable, "-c", _WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with worker:
        into, out = cast(BinaryIO, worker.stdin), cast(BinaryIO, worker.stdout)
        send_frame(into, shards_frame({0: Records(rows)}))
        send_frame(into, evaluate_frame(model, parameters_of("full"), (0,)))
        assert np.any(read_answer(receive_frame(out)))
        read = _read_by_another(worker.pid)
        into.close()
    assert read.stdout == "refused\n", read.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Filename\tType\tSize\tUsed\tPriority\n", "none: "),
        (
            "Filename\tType\tSize\tUsed\tPriority\n/dev/dm-1   partition\t1\t0\t-2\n/swap file 1 0 -3\n",
            "on /dev/dm-1, /swap: ",
        ),
        (None, "whether this machine swaps cannot be seen here"),
    ],
)
def test_swap_is_told(tmp_path: Path, text: str | None, said: str) -> None:
    swaps = tmp_path / "swaps"
    if text is not None:
        swaps.write_text(text)
    finding = check_swap(swaps)
    assert finding.detail.startswith(said) and not finding.failed
