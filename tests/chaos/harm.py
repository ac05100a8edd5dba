"""What a process comes to, and where: the words that the harness and the processes under it share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Deed = Literal["kill", "stop", "full", "clock", "tell"]


@dataclass(frozen=True)
class Fault:
    """One of them.

    Attributes:
        place: Where, as `Places` names it: "before send Header", "after commit".
        number: At which time that the process comes there, from 1.
        deed: `kill` it as a power cut does; `stop` it for `amount` seconds; let its disk be `full` for files beyond `amount` bytes; set its
            wall `clock` on by `amount` seconds; `tell` the harness a `word`, and wait for its answer.
        amount, word: See there.
    """

    place: str
    number: int = 1
    deed: Deed = "kill"
    amount: float = 0.0
    word: str = ""


@dataclass(frozen=True)
class Script:
    """All that one process needs to know.

    Attributes:
        harness: Port on this machine where the harness listens.
        faults: In any order.
        clock: Seconds that its wall clock is ahead from the start.
        pings: Whether links that are dead are found after three seconds and not thirty.
    """

    harness: int
    faults: tuple[Fault, ...] = ()
    clock: float = 0.0
    pings: bool = False


def kills(places: Sequence[str]) -> list[tuple[Fault, ...]]:
    """One life each: the first process dies at the first place, the next at the second. "place 3" is the third time it comes there."""
    return [(fault_at(place),) for place in places]


def fault_at(place: str, deed: Deed = "kill", amount: float = 0.0, word: str = "") -> Fault:
    """At "before send Header", or at "before send Header 3" for the third."""
    name, _, last = place.rpartition(" ")
    return Fault(name, int(last), deed, amount, word) if last.isdigit() else Fault(place, 1, deed, amount, word)
