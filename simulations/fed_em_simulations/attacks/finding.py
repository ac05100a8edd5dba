"""What an attack came to, in a form that all attacks share."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Protocol, TypeAlias

Figure: TypeAlias = "bool | int | float | str | list[Figure] | dict[str, Figure] | None"


class Severity(Enum):
    """How much an attack got."""

    NONE = "none"
    """Nothing beyond what the sums are for."""
    BOUNDED = "bounded"
    """Something, about groups or by chance; nobody's record or table."""
    EXPOSED = "exposed"
    """A tenant's statistics, a record, who is in the data, or more than was promised."""


class Finding(Protocol):
    """What one attack came to."""

    @property
    def attack(self) -> str:
        """The attack's name."""
        ...

    @property
    def severity(self) -> Severity:
        """How much it got."""
        ...

    @property
    def sentence(self) -> str:
        """What it got, in plain words."""
        ...

    @property
    def figures(self) -> Mapping[str, Figure]:
        """The same in figures, JSON-able; no row and no statistic of anybody is among them."""
        ...


def listed(names: tuple[str, ...], most: int = 4) -> str:
    """Names for a sentence: all, or the first few and how many more."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def counted(number: int, noun: str) -> str:
    """ "1 sum", "3 sums"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
