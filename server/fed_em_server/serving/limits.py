"""How much a server of models takes in."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from fed_em.description import check_real, check_whole_number


@dataclass(frozen=True)
class ServingLimits:
    """Bounds of one request, and of all together.

    Attributes:
        rows: The most rows of a request.
        drawn: The most rows that are drawn for one: rows times draws, or samples.
        bytes: The largest request, and reply.
        at_once: How many requests are worked on at a time.
        waiting: How many wait for that; those that come then are told to come again.
        connections: How many HTTP connections are open, each with a thread of its own; and how many calls over gRPC there are, those that
            wait for a message included.
        held: The most bytes of requests over HTTP, but for small ones, that are received, waiting and worked on at a time.
        seconds: How long a request takes at most, waiting included, if it does not say so itself.
        drain_seconds: How long requests in flight may take once the server is to stop.

    Raises:
        CallerError: one is out of its range.
    """

    rows: int = 1000
    drawn: int = 10_000
    bytes: int = 4 * 2**20
    at_once: int = field(default_factory=lambda: os.cpu_count() or 1)
    waiting: int = 64
    connections: int = 256
    held: int = 64 * 2**20
    seconds: float = 10.0
    drain_seconds: float = 10.0

    def __post_init__(self) -> None:
        for name in ("rows", "drawn", "bytes", "at_once", "connections", "held"):
            check_whole_number(name, getattr(self, name), 1)
        check_whole_number("waiting", self.waiting, 0)
        check_real("seconds", self.seconds, 0.0, strict=True)
        check_real("drain_seconds", self.drain_seconds, 0.0)
