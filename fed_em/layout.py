"""The layout of a statistic vector: which named arrays stand where, and how much one record can add to each.

Encoding and privacy ask nothing else of a model.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

from fed_em.errors import CallerError


@dataclass(frozen=True)
class Block:
    """One named array of sufficient statistics.

    Attributes:
        name: The statistic's name, unique in its layout.
        shape: Its shape; `()` for a scalar.
        bound: What one record of weight one can add to any entry at most, in absolute value; positive,
            finite.
        source: What the bound comes from, for people ("column 'age'"); may be empty.
        norm: The largest L2 norm that one record of weight one can add to the whole block; at most bound · √size, which is taken
            where nothing smaller is known. 0 if no record adds anything: whoever sums sends exact zeros, which need no noise.
    """

    name: str
    shape: tuple[int, ...]
    bound: float
    source: str = ""
    norm: float = math.inf

    def __post_init__(self) -> None:
        if not (math.isfinite(self.bound) and self.bound > 0):
            raise CallerError(
                f"the per-record bound {self.bound} of statistic '{self.name}' is not positive and finite",
                remedy="declare finite column bounds",
            )
        if not self.norm >= 0:
            raise CallerError(f"the per-record norm {self.norm} of statistic '{self.name}' is negative or no number")
        object.__setattr__(self, "norm", min(self.norm, self.bound * math.sqrt(self.size)))

    @property
    def size(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Layout:
    """An ordered set of blocks, laid end to end in one vector of `size` float64 entries."""

    blocks: tuple[Block, ...]
    offsets: dict[str, slice] = field(init=False, repr=False, compare=False, hash=False)

    def __post_init__(self) -> None:
        offsets: dict[str, slice] = {}
        start = 0
        for block in self.blocks:
            if block.name in offsets:
                raise CallerError(f"statistic '{block.name}' stands twice in one layout")
            offsets[block.name] = slice(start, start + block.size)
            start += block.size
        object.__setattr__(self, "offsets", offsets)

    @cached_property
    def size(self) -> int:
        """Length of the whole vector."""
        return sum(block.size for block in self.blocks)

    def __getitem__(self, name: str) -> Block:
        for block in self.blocks:
            if block.name == name:
                return block
        raise CallerError(f"no statistic '{name}' in this layout (it has {', '.join(self.offsets)})")

    def of_weights_up_to(self, weight_bound: float) -> Layout:
        """The same statistics of records that count for at most `weight_bound` each, positive."""
        if weight_bound == 1:
            return self
        return Layout(
            tuple(
                replace(block, bound=block.bound * weight_bound, norm=block.norm * weight_bound)
                for block in self.blocks
            )
        )

    def __iter__(self) -> Iterator[Block]:
        return iter(self.blocks)
