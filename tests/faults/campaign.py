"""Many simulated sessions over all cores, and the shrinking of one that fails."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

from tests.faults.plan import Plan, plan_of, smaller_plans
from tests.faults.simulator import simulate
from tests.protocols.remembering import remembered_protocol

_SEEDS_A_TASK = 50


@dataclass(frozen=True)
class Tally:
    """What some sessions came to.

    Attributes:
        sessions: How many.
        faulty: Of those, how many were struck by two faults or more.
        opened: Sums opened, every one of them checked.
        failed: Requests that ended without a sum.
        violations: Plan and complaint of each session in which a property did not hold.
        seconds, cpu: By the clock, and of all processors together.
    """

    sessions: int = 0
    faulty: int = 0
    opened: int = 0
    failed: int = 0
    violations: tuple[tuple[Plan, str], ...] = ()
    seconds: float = 0.0
    cpu: float = 0.0

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.sessions + other.sessions,
            self.faulty + other.faulty,
            self.opened + other.opened,
            self.failed + other.failed,
            self.violations + other.violations,
            self.seconds + other.seconds,
            self.cpu + other.cpu,
        )

    def __str__(self) -> str:
        rate = self.sessions / self.seconds if self.seconds else 0.0
        return (
            f"{self.sessions} sessions ({100 * self.faulty / max(1, self.sessions):.0f} % with two faults or more), "
            f"{self.opened} sums opened and checked, {self.failed} requests without a sum, "
            f"{len(self.violations)} violations; {self.seconds:.0f} s and {self.cpu:.0f} s of CPU, "
            f"{rate:.0f} sessions a second"
        )


def complaint_about(plan: Plan) -> tuple[str, Tally]:
    """Why a session violates a property ("" if it does not), and its tally."""
    try:
        outcome = simulate(plan)
    except Exception as error:
        return f"{type(error).__name__}: {error}", Tally(1, 0)
    return "", Tally(1, int(outcome.struck >= 2), outcome.opened, outcome.failed)


def run_seeds(seeds: Iterable[int]) -> Tally:
    """Simulate the sessions of some seeds, in this process."""
    start, total = time.process_time(), Tally()
    with remembered_protocol():
        for seed in seeds:
            plan = plan_of(seed)
            complaint, tally = complaint_about(plan)
            total += tally
            if complaint:
                total += Tally(violations=((plan, complaint),))
    return total + Tally(cpu=time.process_time() - start)


def run_campaign(first: int, sessions: int) -> Tally:
    """Simulate sessions with consecutive seeds on all cores."""
    start = time.perf_counter()
    starts = range(first, first + sessions, _SEEDS_A_TASK)
    tasks = [range(seed, min(seed + _SEEDS_A_TASK, first + sessions)) for seed in starts]
    with ProcessPoolExecutor(max_workers=os.cpu_count()) as pool:
        total = sum(pool.map(run_seeds, tasks), Tally())
    return total + Tally(seconds=time.perf_counter() - start)


def shrink(plan: Plan) -> Plan:
    """The simplest plan found, one step at a time, that violates a property as this one does."""
    with remembered_protocol():
        while True:
            smaller = next((each for each in smaller_plans(plan) if complaint_about(each)[0]), None)
            if smaller is None:
                return plan
            plan = smaller
