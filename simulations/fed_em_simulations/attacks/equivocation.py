"""Equivocation search: did two tenants see different headers, and so different parameters, for one round?

A server that asks tenants for their statistics at different parameters learns more than a sum. The certificate of a round is there to
prevent it; tenants that lay their logs side by side find it afterwards too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

from fed_em_simulations.attacks.finding import Figure, Severity, counted, listed


class HeaderSeen(Protocol):
    """One line of a tenant's log: which header it was shown for a round."""

    @property
    def tenant(self) -> str:
        """Whose log."""
        ...

    @property
    def session(self) -> bytes:
        """The session's number."""
        ...

    @property
    def round(self) -> int:
        """t."""
        ...

    @property
    def header(self) -> bytes:
        """Hash of the header, parameters included."""
        ...


@dataclass(frozen=True)
class Conflict:
    """One round of which tenants saw different headers.

    Attributes:
        session, round: Which.
        sides: The tenants that saw the same one, by name, the most numerous first.
    """

    session: bytes
    round: int
    sides: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Equivocations:
    """What logs of several tenants say of each other.

    Attributes:
        tenants: Whose logs.
        rounds: Of how many rounds two tenants or more saw a header.
        conflicts: Where they differ.
    """

    attack: ClassVar[str] = "equivocation"

    tenants: tuple[str, ...]
    rounds: int
    conflicts: tuple[Conflict, ...]

    @property
    def severity(self) -> Severity:
        """Exposed if headers differ."""
        return Severity.EXPOSED if self.conflicts else Severity.NONE

    @property
    def sentence(self) -> str:
        """See `Finding`."""
        if not self.conflicts:
            tenants = counted(len(self.tenants), "tenant")
            return f"In {counted(self.rounds, 'round')} that several of {tenants} saw, all saw the same header."
        first = self.conflicts[0]
        return (
            f"The server showed different headers in {counted(len(self.conflicts), 'round')}: in round {first.round} one to "
            f"{listed(first.sides[0])}, another to {listed(first.sides[1])}."
        )

    @property
    def figures(self) -> Mapping[str, Figure]:
        """See `Finding`."""
        conflicts: list[Figure] = [
            {"session": each.session.hex(), "round": each.round, "sides": [list(side) for side in each.sides]}
            for each in self.conflicts
        ]
        return {"tenants": len(self.tenants), "rounds": self.rounds, "conflicts": conflicts}


def equivocations(seen: Iterable[HeaderSeen]) -> Equivocations:
    """Lay logs side by side.

    Args:
        seen: All lines of all logs, in any order. A tenant that saw two headers for one round is on both sides.
    """
    rounds: dict[tuple[bytes, int], dict[bytes, set[str]]] = defaultdict(lambda: defaultdict(set))
    tenants: set[str] = set()
    for line in seen:
        rounds[line.session, line.round][line.header].add(line.tenant)
        tenants.add(line.tenant)
    conflicts = [
        Conflict(
            session, number, tuple(sorted((tuple(sorted(side)) for side in sides.values()), key=lambda s: (-len(s), s)))
        )
        for (session, number), sides in sorted(rounds.items())
        if len(sides) > 1
    ]
    shared = sum(len(set().union(*sides.values())) > 1 or len(sides) > 1 for sides in rounds.values())
    return Equivocations(tuple(sorted(tenants)), shared, tuple(conflicts))
