"""Service level objectives: what the operators of a federation promise each other, as shares of events that may be bad.

The one place for their numbers. Recording rules, burn-rate alerts, dashboards and the documentation follow from it.

An error budget is 1 − objective, over 30 days. At burn rate b it is gone after 30/b days. An alert needs the rate in a long and in a
short window (Beyer et al., The Site Reliability Workbook, chapter 5): the long one says that it matters, the short one that it still
goes on.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

BUDGET_DAYS = 30


class Severity(StrEnum):
    """What an alert asks of people."""

    PAGE = "page"
    """Somebody looks now."""
    TICKET = "ticket"
    """Somebody looks on the next working day."""


@dataclass(frozen=True)
class Burn:
    """When an objective's alert fires.

    Attributes:
        rate: How many times faster than allowed the budget is used up.
        long, short: Windows, as PromQL writes them.
        severity: What it asks.
    """

    rate: float
    long: str
    short: str
    severity: Severity


# Rounds come by the minute: an hour's budget at 14.4 times is 2 % of a month's, six hours' at 4 times 3.3 %.
OF_ROUNDS = (Burn(14.4, "1h", "5m", Severity.PAGE), Burn(4.0, "6h", "30m", Severity.TICKET))
# Sessions come by the day, and a model grows old by the day: no page is worth it.
OF_SESSIONS = (Burn(4.0, "3d", "6h", Severity.TICKET),)


@dataclass(frozen=True)
class Objective:
    """One objective.

    Attributes:
        name: In labels.
        objective: The share of events that must be good, below 1.
        says: What is promised, in a sentence.
        bad: PromQL of the share of bad events in the window `$window`; no sample where there were no events.
        burns: Its alerts, the most urgent first.
        quiet: Whether a planned retrain is expected to spend this budget: its alerts keep quiet meanwhile.
    """

    name: str
    objective: float
    says: str
    bad: str
    burns: tuple[Burn, ...]
    quiet: bool = True

    @property
    def budget(self) -> float:
        """The share that may be bad."""
        return 1 - self.objective

    @property
    def windows(self) -> tuple[str, ...]:
        """All windows that its alerts look at and that of the budget, each once, shortest first."""
        found = {f"{BUDGET_DAYS}d", *(window for burn in self.burns for window in (burn.short, burn.long))}
        return tuple(sorted(found, key=lambda window: ("mhd".index(window[-1]), int(window[:-1]))))


# Numbers that objectives are about; those that a histogram answers are among its buckets.
ROUNDS_TO_CONVERGE = 200
SECONDS_A_ROUND = 60
MODEL_DAYS = 30

# Whether the newest of the served models is too old, as a series of zeros and ones.
MODEL_IS_STALE = "fed_em:model_is_stale:bool"


def _share(bad: str, of: str) -> str:
    return f"({bad}) / (({of}) > 0)"


_ROUNDS = "sum(rate(fed_em_round_seconds_count[$window]))"
_FAST = f'sum(rate(fed_em_round_seconds_bucket{{le="{SECONDS_A_ROUND:.1f}"}}[$window]))'
_SESSIONS = "sum(rate(fed_em_session_rounds_count[$window]))"
_CONVERGED = f'sum(rate(fed_em_session_rounds_bucket{{outcome="converged",le="{ROUNDS_TO_CONVERGE:.1f}"}}[$window]))'
_LOST = 'sum(rate(fed_em_parts_total{part=~"late|away"}[$window])) + sum(rate(fed_em_refusals_total[$window]))'
_PARTS = "sum(rate(fed_em_parts_total[$window])) + sum(rate(fed_em_refusals_total[$window]))"

OBJECTIVES = (
    Objective(
        "convergence",
        0.95,
        f"95 % of sessions converge within {ROUNDS_TO_CONVERGE} rounds",
        _share(f"{_SESSIONS} - {_CONVERGED}", _SESSIONS),
        OF_SESSIONS,
    ),
    Objective(
        "latency",
        0.99,
        f"99 % of rounds open within {SECONDS_A_ROUND} seconds",
        _share(f"{_ROUNDS} - {_FAST}", _ROUNDS),
        OF_ROUNDS,
    ),
    Objective(
        "freshness",
        0.95,
        f"95 % of the time, the model that is served is younger than {MODEL_DAYS} days",
        f"avg_over_time({MODEL_IS_STALE}[$window])",
        OF_SESSIONS,
    ),
    Objective(
        "refusals",
        0.95,
        "95 % of the roster's parts in rounds are neither refused nor lost (late, or away)",
        _share(_LOST, _PARTS),
        OF_ROUNDS,
        quiet=False,
    ),
)
