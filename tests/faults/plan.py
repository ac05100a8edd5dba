"""What happens in one simulated session: who takes part, and which faults strike when. A plan follows from its seed alone."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from enum import Enum

from fed_em_protocols.terms import Trust, default_colluders

SPARSE_TENANTS = 9


class FaultKind(Enum):
    """What goes wrong with one message, or at the moment that it is to be delivered."""

    DROP = "drop"
    DELAY = "delay"
    REORDER = "reorder"
    DUPLICATE = "duplicate"
    CORRUPT = "corrupt"
    BREAK_LINK = "break-link"
    CRASH_TENANT = "crash-tenant"
    CRASH_SERVER = "crash-server"


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        kind: What happens.
        message: The number of the message it strikes, counted over the whole session from 0.
        seconds: How much later a delayed message comes, or how long a crashed side is away.
        place: Which bit of a corrupted message is turned, as a fraction of its length in [0, 1).
    """

    kind: FaultKind
    message: int
    seconds: float = 0.0
    place: float = 0.0

    def __str__(self) -> str:
        return f"{self.kind.value}@{self.message}" + (f"+{self.seconds:g}s" if self.seconds else "")


@dataclass(frozen=True)
class Plan:
    """One session.

    Attributes:
        seed: Of all randomness in it.
        n: Tenants, 3 to 9.
        trust, colluders, blocks, window_rounds: Of its terms.
        gated: Whether each sum stands behind a mass gate, and is two: counts and moments.
        rounds: Sums that are asked for, at least 3.
        faults: By message, ascending.
        change: Before which sum, counted from 0, an operator gives which tenant other rows and starts it anew: a base round follows.
        sparse: Whether tenants share masks with six neighbours only, and five witnesses certify.
    """

    seed: int
    n: int
    trust: Trust
    colluders: int
    blocks: int
    window_rounds: int
    gated: bool
    rounds: int
    faults: tuple[Fault, ...]
    change: tuple[int, int] | None = None
    sparse: bool = False

    def __str__(self) -> str:
        shape = f"n={self.n} {self.trust.label} f={self.colluders} blocks={self.blocks} W={self.window_rounds}"
        shape += " gated" if self.gated else ""
        shape += " sparse" if self.sparse else ""
        shape += f" rows of {self.change[1]} change at {self.change[0]}" if self.change else ""
        return f"seed {self.seed}: {shape} rounds={self.rounds}; {', '.join(map(str, self.faults)) or 'no fault'}"


def plan_of(seed: int) -> Plan:
    """The plan of a seed. Three in four have a fault, about half have two or more; in one in four some rows change."""
    draw = random.Random(seed)
    # A session costs as much as n²: small federations come more often, of every size there are hundreds in ten thousand.
    (n,) = draw.choices(range(3, 10), weights=(10, 8, 4, 2, 1, 1, 1))
    colluders = draw.randint(0, default_colluders(n))
    least = max(3, colluders + 2)
    blocks = draw.choice([0, 1, n // least, n // least])
    rounds = draw.choice((3, 3, 3, 3, 4, 5))
    trust = Trust.MALICIOUS_SERVER if draw.random() < 0.7 else Trust.SEMI_HONEST
    gated = trust is Trust.MALICIOUS_SERVER and draw.random() < 0.3
    # Messages of a session without faults, roughly: faults must strike while it runs.
    messages = n * (9 + 8 * rounds * (2 if gated else 1))
    count = draw.choice([0, 1, 2, 2, 3, 5])
    faults = sorted((_fault(draw, messages) for _ in range(count)), key=lambda fault: fault.message)
    window_rounds = draw.randint(2, 4)
    change = (draw.randrange(1, rounds), draw.randrange(n)) if draw.random() < 0.25 else None
    # The fewest tenants with a graph whose tenants have not everybody for a neighbour, and one to spare.
    sparse = n == SPARSE_TENANTS and draw.random() < 0.7
    if sparse:
        colluders = blocks = 0
    return Plan(seed, n, trust, colluders, blocks, window_rounds, gated, rounds, tuple(faults), change, sparse)


def _fault(draw: random.Random, messages: int) -> Fault:
    kind = draw.choice(list(FaultKind))
    seconds = draw.choice([0.05, 0.5, 2.0, 5.0])
    return Fault(kind, draw.randrange(messages), seconds, draw.random())


def smaller_plans(plan: Plan) -> tuple[Plan, ...]:
    """Plans that are simpler by one step, for shrinking one that fails."""
    fewer = [replace(plan, faults=plan.faults[:k] + plan.faults[k + 1 :]) for k in range(len(plan.faults))]
    earlier = [
        replace(plan, faults=(*plan.faults[:k], replace(fault, seconds=0.05), *plan.faults[k + 1 :]))
        for k, fault in enumerate(plan.faults)
        if fault.seconds > 0.05
    ]
    shorter = [replace(plan, rounds=plan.rounds - 1)] if plan.rounds > 3 else []
    plainer = [replace(plan, gated=False)] if plan.gated else []
    plainer += [replace(plan, change=None)] if plan.change else []
    plainer += [replace(plan, sparse=False)] if plan.sparse else []
    return (*fewer, *plainer, *shorter, *earlier)
