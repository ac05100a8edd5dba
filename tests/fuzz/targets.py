"""All fuzz targets: functions of bytes that raise for a defect only, each with the inputs that a search starts from."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.fuzz.network import network
from tests.fuzz.parsing import message_seeds, messages, parse, parsing_seeds
from tests.fuzz.server import server
from tests.fuzz.tenants import tenant

# Enough to decide everything that a stateful target asks.
LONGEST_SCRIPT = 512


@dataclass(frozen=True)
class Target:
    """A function to be fuzzed.

    Attributes:
        check: Raises, whatever it raises, if the input shows a defect.
        seeds: Inputs to start from.
        scripted: Whether any bytes are a meaningful input (see `choices`); otherwise seeds must be mutated to be any.
        longest: Bytes of an input.
    """

    check: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]
    scripted: bool = True
    longest: int = LONGEST_SCRIPT

    @property
    def name(self) -> str:
        """Its name on the command line."""
        return self.check.__name__


def scripts() -> list[bytes]:
    """Scripts of no meaning, of several lengths, the same each time."""
    draw = random.Random(0)
    return [draw.randbytes(length) for length in (0, 4, 8, 16, 32, 64, 128, 256) for _ in range(8)]


TARGETS = {
    target.name: target
    for target in (
        Target(parse, parsing_seeds, scripted=False, longest=4096),
        Target(messages, message_seeds),
        Target(tenant, scripts),
        Target(server, scripts),
        Target(network, scripts),
    )
}


def blind_inputs(target: Target, seed: int) -> Iterator[bytes]:
    """Inputs without end, drawn without looking at what they do."""
    draw, seeds = random.Random(seed), target.seeds()
    yield from seeds
    while True:
        if target.scripted:
            yield draw.randbytes(draw.randrange(target.longest // 2))
            continue
        data = bytearray(draw.choice(seeds))
        for _ in range(draw.randrange(1, 4)):
            place = draw.randrange(len(data) + 1)
            data[place : place + draw.randrange(3)] = draw.randbytes(draw.randrange(3))
        yield bytes(data)
