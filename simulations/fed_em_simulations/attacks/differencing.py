"""Differencing: which combinations of opened sums, over rounds and sessions, are about few tenants, or one.

A sum is of terms: of one tenant, at the parameters of its base round. Two terms of a tenant are the same if their parameters are, and
nearly the same if these are nearly equal. So the combinations are searched with a *tolerance*, in units of the E-step's coordinates: terms
at parameters that differ by no more, in any entry, count as one. At the least what is said holds exactly, at infinity it is the worst
case; increments give most away between the two, where a late term stands out among terms that hardly change any more.

The rows of zeros and ones over all terms are searched in whole numbers (`fed_em_simulations.attacks.survivor_exposure`). Sums combine only
with sums of the same model in the same coordinates.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import ClassVar

import numpy as np

from fed_em.broadcast import Broadcast
from fed_em.statistics import Statistics
from fed_em_protocols.transcript.released import ReleasedSum
from fed_em_simulations.attacks.finding import Figure, Severity, counted, listed
from fed_em_simulations.attacks.overheard import Overheard
from fed_em_simulations.attacks.survivor_exposure import Exposure, exposure_of_terms

# Parameters that differ by no more are equal in every case: sums are rounded to about as much.
_RESOLUTION = 1e-9

# At most so many tolerances are tried.
_MOST_LEVELS = 64


@dataclass(frozen=True, eq=False)
class Reading:
    """What a combination of sums comes to.

    Attributes:
        tenants: Whose terms are in it.
        weight: How often each of their terms is; 0 if not all are in it alike: it is a change then, of terms at several parameters.
        at: The last sum in it: whose parameters the terms are nearly at.
        statistics: The combination, divided by the weight unless that is 0.
    """

    tenants: tuple[str, ...]
    weight: int
    at: ReleasedSum = field(repr=False)
    statistics: Statistics = field(repr=False)


@dataclass(frozen=True, eq=False)
class Level:
    """What differences give away at one tolerance.

    Attributes:
        tolerance: By how much parameters may differ and count as equal.
        span: Dimension of the span of the sums, added over models and coordinates.
        least_support: The fewest tenants that a combination involves; 0 without a sum.
        exposed: Tenants that a combination is about by themselves.
        exact: Whether no search was cut off.
        reading: The combination of least support; None if the search was cut off.
    """

    tolerance: float
    span: int
    least_support: int
    exposed: tuple[str, ...]
    exact: bool
    reading: Reading | None = field(repr=False)

    @property
    def of_changes(self) -> bool:
        """Whether what is read is how statistics changed between rounds, and not the statistics."""
        return self.reading is not None and not self.reading.weight

    def differs(self, other: Level) -> bool:
        """Whether it gives something else away than another level."""
        return (self.least_support, self.exposed, self.of_changes) != (
            other.least_support,
            other.exposed,
            other.of_changes,
        )


@dataclass(frozen=True, eq=False)
class Differencing:
    """What differences of sums give away.

    Attributes:
        sums: How many were heard, of how many sessions.
        sessions: Likewise.
        least_cohort: The fewest tenants in any one sum.
        colluders: f, who can subtract their own.
        levels: By tolerance, ascending: where it begins to matter.
    """

    attack: ClassVar[str] = "differencing"

    sums: int
    sessions: int
    least_cohort: int
    colluders: int
    levels: tuple[Level, ...]

    @property
    def worst(self) -> Level:
        """The level at which most is given away; of several the one with the least tolerance."""
        return min(self.levels, key=lambda level: level.least_support or math.inf)

    @property
    def exposed(self) -> tuple[str, ...]:
        """Tenants that a combination is about by themselves, at any tolerance."""
        return tuple(dict.fromkeys(name for level in self.levels for name in level.exposed))

    @property
    def severity(self) -> Severity:
        """Exposed if f colluding tenants leave one alone, bounded if a combination involves fewer than any sum."""
        if not self.worst.least_support:
            return Severity.NONE
        if self.worst.least_support <= self.colluders + 1:
            return Severity.EXPOSED
        return Severity.BOUNDED if self.worst.least_support < self.least_cohort else Severity.NONE

    @property
    def sentence(self) -> str:
        """See `Finding`."""
        level, sums = self.worst, counted(self.sums, "sum")
        if not level.least_support:
            return "No sum was opened."
        if level.least_support == 1:
            what = "a change of its own statistics" if level.of_changes else "its own statistics"
            more = len(self.exposed) - len(level.exposed)
            others = f"; so can {more} more with a larger tolerance" if more else ""
            return f"{listed(level.exposed)}: {what} can be read from {sums} by subtraction{_condition(level)}{others}."
        if self.severity is Severity.EXPOSED:
            return (
                f"A combination of {sums} is about {level.least_support} tenants{_condition(level)}: {counted(self.colluders, 'colluder')} "
                "among them would leave one alone."
            )
        if self.severity is Severity.BOUNDED:
            return f"No combination of {sums} is about fewer than {level.least_support} tenants, {_stated(self.colluders)}."
        return f"No combination of {sums} is about fewer tenants than a sum itself, {self.least_cohort}."

    @property
    def figures(self) -> Mapping[str, Figure]:
        """See `Finding`."""
        return {
            "sums": self.sums,
            "sessions": self.sessions,
            "least_cohort": self.least_cohort,
            "exposed": list(self.exposed),
            "levels": [
                {
                    "tolerance": None if math.isinf(level.tolerance) else level.tolerance,
                    "span": level.span,
                    "least_support": level.least_support,
                    "exact": level.exact,
                    "exposed": list(level.exposed),
                }
                for level in self.levels
            ],
        }


def differencing(heard: Overheard) -> Differencing:
    """Search combinations of sums for those about few tenants, at every tolerance that merges some terms."""
    families: dict[tuple[object, ...], list[ReleasedSum]] = defaultdict(list)
    for released in heard.sums:
        at = released.broadcast
        families[released.kind == "counts", json.dumps(at.model.describe(), sort_keys=True), at.coordinates].append(
            released
        )
    apart = [[each.broadcast for each in sums] for sums in families.values()]
    heights = sorted({height for points in apart for height in _heights(points) if height > _RESOLUTION})
    chosen = heights[:: 1 + len(heights) // _MOST_LEVELS]
    levels = [_level(heard, list(families.values()), tolerance) for tolerance in (_RESOLUTION, *chosen, math.inf)]
    return Differencing(
        sums=len(heard.sums),
        sessions=len({released.session for released in heard.sums}),
        least_cohort=min((len(heard.members(released)) for released in heard.sums), default=0),
        colluders=max((known.colluders for known in heard.facts.values()), default=0),
        levels=(levels[0], *(level for before, level in pairwise(levels) if level.differs(before))),
    )


def _condition(level: Level) -> str:
    if level.tolerance <= _RESOLUTION:
        return ", exactly"
    if math.isinf(level.tolerance):
        return ", as if statistics did not change between rounds"
    return f", where parameters within {level.tolerance:.1g} count as equal"


def _stated(colluders: int) -> str:
    return f"more than the {colluders + 1} that f = {colluders} would leave alone"


def _level(heard: Overheard, families: Sequence[Sequence[ReleasedSum]], tolerance: float) -> Level:
    found = [_exposure(heard, sums, tolerance) for sums in families]
    exposed = {name for exposure, _ in found for name in exposure.exposed}
    worst = min(found, key=lambda pair: pair[0].least_support or math.inf, default=None)
    return Level(
        tolerance,
        sum(exposure.span for exposure, _ in found),
        0 if worst is None else worst[0].least_support,
        tuple(name for name in heard.tenants if name in exposed),
        all(exposure.exact for exposure, _ in found),
        None if worst is None else worst[1],
    )


def _exposure(heard: Overheard, sums: Sequence[ReleasedSum], tolerance: float) -> tuple[Exposure, Reading | None]:
    """Of sums of one model in the same coordinates."""
    group = _groups([released.broadcast for released in sums], tolerance)
    of_round = {(released.session, released.round): number for released, number in zip(sums, group, strict=True)}
    number = {name: k for k, name in enumerate(heard.tenants)}
    terms: dict[tuple[int, object], int] = {}
    places: list[list[int]] = []
    for released in sums:
        # The base round of a term may not have been heard: then nothing else is equal to it but terms of the same base.
        at = {
            name: of_round.get((released.session, base), (released.session, base))
            for name, base in heard.members(released).items()
        }
        places.append([terms.setdefault((number[name], where), len(terms)) for name, where in at.items()])
    matrix = np.zeros((len(sums), len(terms)), dtype=np.int8)
    for row, columns in zip(matrix, places, strict=True):
        row[columns] = 1
    found = exposure_of_terms(matrix, [owner for owner, _ in terms], heard.tenants)
    return found, _reading(found, matrix, sums) if found.combination else None


def _reading(
    found: Exposure, matrix: np.ndarray[tuple[int, int], np.dtype[np.int8]], sums: Sequence[ReleasedSum]
) -> Reading:
    weights = found.combination
    of_terms = {w for w in (matrix.T.astype(object) @ np.array(weights, dtype=object)).tolist() if w}
    weight = of_terms.pop() if len(of_terms) == 1 else 0
    vector = np.sum([w * each.statistics.vector for w, each in zip(weights, sums, strict=True) if w], axis=0)
    last = [each for w, each in zip(weights, sums, strict=True) if w][-1]
    return Reading(found.involved, weight, last, Statistics(last.statistics.layout, vector / (weight or 1)))


def _heights(points: Sequence[Broadcast]) -> list[float]:
    """The tolerances at which groups of points merge: the edges of their minimum spanning tree."""
    if len(points) < 2:
        return []
    near = np.array([_distance(points[0], point) for point in points])
    left, heights = set(range(1, len(points))), []
    while left:
        nearest = min(left, key=near.__getitem__)
        heights.append(float(near[nearest]))
        left.discard(nearest)
        near = np.minimum(near, [_distance(points[nearest], point) for point in points])
    return heights


def _groups(points: Sequence[Broadcast], tolerance: float) -> list[int]:
    """The group of each point, if points that are no further apart than the tolerance, directly or by others between, are one."""
    group = list(range(len(points)))
    for i, point in enumerate(points):
        for j in range(i):
            if group[i] != group[j] and _distance(point, points[j]) <= tolerance:
                merged, into = group[i], group[j]
                group = [into if number == merged else number for number in group]
    return group


def _distance(one: Broadcast, other: Broadcast) -> float:
    """The largest difference of any two parameters, of the same model."""
    return max(float(np.abs(one.parameters[name] - other.parameters[name]).max(initial=0.0)) for name in one.parameters)
