"""What sums would cost that take hours: a straight line through two shorter ones of the same kind.

Masks are all that grows with L, and their number does not depend on it: each costs a fixed time and so much an integer. Vectors that leave
the caches cost more, so the line is below the truth rather than above it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tests.bench.figures import AbsentSum, Spread, SumFigures


def with_estimates(cases: Sequence[SumFigures | AbsentSum]) -> tuple[SumFigures | AbsentSum, ...]:
    """The same cases, those that were not measured estimated where two shorter ones of the same kind were."""
    measured = [case for case in cases if isinstance(case, SumFigures)]
    return tuple(case if isinstance(case, SumFigures) else _estimated(case, measured) or case for case in cases)


def _estimated(absent: AbsentSum, measured: Sequence[SumFigures]) -> SumFigures | None:
    like = [each for each in measured if _kind(each) == _kind(absent) and each.length < absent.length]
    if len(like) < 2:
        return None
    short, long = sorted(like, key=lambda each: each.length)[-2:]
    share = (absent.length - long.length) / (long.length - short.length)

    def beyond(one: Spread, other: Spread) -> Spread:
        return Spread.of([other.median + share * max(0.0, other.median - one.median)])

    return replace(
        long,
        length=absent.length,
        tenant_cpu=beyond(short.tenant_cpu, long.tenant_cpu),
        server_cpu=beyond(short.server_cpu, long.server_cpu),
        estimated_from=(short.length, long.length),
    )


def _kind(case: SumFigures | AbsentSum) -> tuple[object, ...]:
    return case.system, case.trust, case.graph, case.tenants, case.dropout
