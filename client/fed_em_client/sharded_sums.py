"""A tenant's statistics, summed over shards of its records by several processes, before anything is masked.

Shards are cut by the number of records alone and added in their order. So the sum is the same, bit for bit, for any number of
processes, in whatever order they finish, and when one of them is lost and another does its shards again: a running total
of increments rests on that.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from fed_em.errors import EnvironmentFault
from fed_em.layout import Layout
from fed_em.model import Rows, Summand
from fed_em.parameters import Parameters
from fed_em.records import Records
from fed_em.row_blocks import e_step_threads
from fed_em.statistics import Statistics
from fed_em.tenant_mixing import TenantMixedModel, e_step_at_home
from fed_em_client.shard_worker import (
    evaluate_frame,
    read_answer,
    receive_frame,
    send_frame,
    shards_frame,
    sum_shard,
)

# Records of a shard: enough to make handing it out cheap. Another number gives sums that differ by rounding.
SHARD_RECORDS = 2**16

# Times that shards are given out in one sum before it is given up.
_ATTEMPTS = 3


class ShardedSums:
    """E-steps over shards, by worker processes that live from one to the next.

    Args:
        workers: How many processes; 1 for none besides this one. They start when they are first needed.
    """

    def __init__(self, workers: int = 1) -> None:
        self._held: object = None
        self._shards: list[Records] = []
        self._workers = [_Worker(max(e_step_threads() // workers, 1)) for _ in range(workers)] if workers > 1 else []
        weakref.finalize(self, _end_all, self._workers)

    @property
    def process_ids(self) -> tuple[int, ...]:
        """Of the worker processes that were started."""
        return tuple(worker.process.pid for worker in self._workers if worker.process is not None)

    def e_step(self, model: Summand, parameters: Parameters, records: Rows | Records, layout: Layout) -> Statistics:
        """As `model.e_step`, over shards. Workers are sent records only when these are other ones than the last time.

        Raises:
            FedEmError: as `model.e_step`; the first shard's that has something to complain of.
            EnvironmentFault: worker processes end again and again.
        """
        if getattr(model, "mixing", None) is not None and isinstance(model, TenantMixedModel):
            # A tenant's own weights are of all its records, and not of a shard's.
            return e_step_at_home(model, parameters, records, layout, self.e_step)
        if records is not self._held:
            self._hold(records)
        alone = len(self._shards) == 1 or not self._workers
        total = np.zeros(layout.size)
        for vector in self._alone(model, parameters) if alone else self._by_workers(model, parameters):
            total += vector
        return Statistics(layout, total)

    def _alone(self, model: Summand, parameters: Parameters) -> Iterator[NDArray[np.float64]]:
        return (sum_shard(model, parameters, shard, number).vector for number, shard in enumerate(self._shards))

    def _hold(self, records: Rows | Records) -> None:
        self._held, all_of_them = records, Records.of(records)
        starts = range(0, max(len(all_of_them), 1), SHARD_RECORDS)
        self._shards = [all_of_them[start : start + SHARD_RECORDS] for start in starts]
        for worker in self._workers:
            worker.forget()

    def _by_workers(self, model: Summand, parameters: Parameters) -> list[NDArray[np.float64]]:
        answers: dict[int, bytes] = {}
        for _ in range(_ATTEMPTS):
            open_shards = [[n for n in self._numbers(place) if n not in answers] for place in range(len(self._workers))]
            for place, worker in enumerate(self._workers):
                shards = {number: self._shards[number] for number in self._numbers(place)}
                worker.ask(shards, model, parameters, open_shards[place])
            for worker, numbers in zip(self._workers, open_shards, strict=True):
                answers |= worker.collect(numbers)
            if len(answers) == len(self._shards):
                return [read_answer(answers[number]) for number in range(len(self._shards))]
        raise EnvironmentFault(
            f"worker processes ended {_ATTEMPTS} times before they had summed their rows",
            remedy="see whether the machine runs out of memory; set `workers = 1` in the tenant's file",
        )

    def _numbers(self, place: int) -> range:
        """Which shards a worker holds."""
        return range(place, len(self._shards), len(self._workers))


@dataclass
class _Worker:
    """One worker's process, if it runs.

    Attributes:
        threads: Of its E-steps.
        process: None before the first start, and after it was lost.
        holds: Whether it has been sent its shards.
    """

    threads: int
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    holds: bool = False

    def ask(self, shards: dict[int, Records], model: Summand, parameters: Parameters, numbers: Sequence[int]) -> None:
        """Ask for some of its shards; it is started, and sent its shards, if need be."""
        if not numbers:
            return
        if self.process is None:
            self.process, self.holds = _start(self.threads), False
        stream = cast(BinaryIO, self.process.stdin)
        try:
            if not self.holds:
                send_frame(stream, shards_frame(shards))
                self.holds = True
            send_frame(stream, evaluate_frame(model, parameters, numbers))
        except OSError:
            self.end()

    def collect(self, numbers: Sequence[int]) -> dict[int, bytes]:
        """Its answers for these shards, as many as it gives."""
        answers: dict[int, bytes] = {}
        for number in numbers:
            if self.process is None:
                break
            try:
                answers[number] = receive_frame(cast(BinaryIO, self.process.stdout))
            except (EOFError, OSError):
                self.end()
        return answers

    def forget(self) -> None:
        """Its shards are not those of the records any more."""
        self.holds = False

    def end(self) -> None:
        """End its process."""
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            for stream in (process.stdin, process.stdout):
                # What is still to be flushed has nobody to read it.
                with contextlib.suppress(OSError):
                    cast(BinaryIO, stream).close()
            process.wait()


def _start(threads: int) -> subprocess.Popen[bytes]:
    # The worker finds the packages where this process did.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-m", "fed_em_client.shard_worker", str(threads)]
    # In a session of its own: an interrupt from the keyboard is this process's business.
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, start_new_session=True
    )


def _end_all(workers: Sequence[_Worker]) -> None:
    for worker in workers:
        worker.end()
