"""Fixed-point encoding of statistics into the integers modulo 2^64 or 2^32, with its range proved before the first round.

A block with per-record bound B is encoded as round(s · 2^f). With row caps R_i the decoded sum is exact as long as

    Σ_i round(R_i · B · (1 + slack) · 2^f)  <  2^63   (2^31 in the small ring),

computed in whole numbers (floating point would let single bounds next to the edge through), and f is the largest such
integer, at most 52 (float64 holds no more) and at least 20 (below that, statistics lose meaning, and the encoder
refuses). Nothing is ever clipped. The vector ends with a word in which a tenant that cannot compute its statistics counts itself (the
statistics that it sends are noise: `Ring.fault_vector`), and with check words, zero at every tenant: a sum whose
check words are not zero was unmasked with a wrong seed (probability 2^-128 of missing it), long before a range check would notice.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fed_em.errors import CallerError
from fed_em.layout import Block, Layout
from fed_em.statistics import Statistics
from fed_em_protocols.hashing import digest
from fed_em_protocols.masks import RingVector
from fed_em_protocols.ring import RING_32, RING_64, Ring

MIN_FRACTION_BITS = 20
MAX_FRACTION_BITS = 52

# Float64 rounding of sums of bounded terms, generously: relative, on top of the exact bound.
_ROUNDING_SLACK = 2.0**-20


def _limit(block: Block, row_cap: int) -> float:
    """The largest absolute value that one tenant may encode."""
    return row_cap * block.bound * (1 + _ROUNDING_SLACK)


def _fits(block: Block, row_caps: Sequence[int], f: int, ring: Ring) -> bool:
    # Scaling by a power of two is exact, and so is everything after it.
    scaled = [(_limit(block, row_cap) * 2.0**f, times) for row_cap, times in Counter(row_caps).items()]
    finite = all(math.isfinite(limit) for limit, _ in scaled)
    return finite and sum(round(limit) * times for limit, times in scaled) < 2 ** (ring.bits - 1)


def fraction_bits(block: Block, row_caps: Sequence[int], ring: Ring = RING_64) -> int:
    """The largest f for which no sum over rows within `row_caps` can leave [−2^63, 2^63), or [−2^31, 2^31) in the small ring.

    Raises:
        CallerError: f would be below `MIN_FRACTION_BITS`; names the statistic, its bound, and what to change.
    """
    f = MAX_FRACTION_BITS
    while f >= MIN_FRACTION_BITS and not _fits(block, row_caps, f, ring):
        f -= 1
    if f < MIN_FRACTION_BITS:
        origin = f" (from {block.source})" if block.source else ""
        raise CallerError(
            f"statistic '{block.name}' can reach {_limit(block, sum(row_caps)):.3g} over {sum(row_caps)} rows with its per-record bound "
            f"{block.bound:.3g}{origin}: fewer than {MIN_FRACTION_BITS} fraction bits would be left",
            remedy="declare narrower column ranges or smaller row caps",
        )
    return f


@dataclass(frozen=True)
class Encoding:
    """How the statistics of one layout become ring vectors, fixed for all rounds that use it.

    Attributes:
        layout: The statistics.
        row_caps: The most rows each tenant may hold, by roster index.
        bits: Fraction bits f of each block, in the layout's order.
        ring: What the vectors are in.
    """

    layout: Layout
    row_caps: tuple[int, ...]
    bits: tuple[int, ...]
    ring: Ring = RING_64

    @classmethod
    def proved(cls, layout: Layout, row_caps: Sequence[int], ring: Ring = RING_64) -> Encoding:
        """The finest encoding in a ring whose range is proved. Raises `CallerError` as `fraction_bits` does."""
        return cls(layout, tuple(row_caps), tuple(fraction_bits(block, row_caps, ring) for block in layout), ring)

    @classmethod
    def of_counts(cls, layout: Layout, row_caps: Sequence[int]) -> Encoding:
        """Of counts, which need no more than the fewest bits: in the small ring if its range is proved there, else in the large."""
        try:
            return cls.proved(layout, row_caps, RING_32.for_counts)
        except CallerError:
            return cls.proved(layout, row_caps, RING_64.for_counts)

    @cached_property
    def length(self) -> int:
        """Length of a ring vector: the layout's size, the word that counts faults, and the check words."""
        return self.layout.size + self.ring.tail_words

    @cached_property
    def digest(self) -> bytes:
        """H(encoding): ring, names, shapes, exact bounds, bits and row caps."""
        fields: list[bytes | str | int] = [self.ring.bits, len(self.row_caps), *self.row_caps]
        for block, bits in zip(self.layout, self.bits, strict=True):
            # Negative on a grid that is coarser than one (`fed_em_protocols.privacy.noise`).
            fields += [block.name, len(block.shape), *block.shape, block.bound.hex(), bits % 2**64]
        return digest("encoding", *fields)

    def rounding(self, n_tenants: int) -> dict[str, float]:
        """Standard deviation of what rounding does to an entry of a sum over so many tenants, by block."""
        scale = math.sqrt(n_tenants / 12.0)
        return {block.name: scale * 2.0**-bits for block, bits in zip(self.layout, self.bits, strict=True)}

    @cached_property
    def _scale(self) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return np.repeat([2.0**f for f in self.bits], [block.size for block in self.layout])

    @cached_property
    def _limits(self) -> dict[int, np.ndarray[tuple[int], np.dtype[np.float64]]]:
        """Of the row caps asked for so far."""
        return {}

    def _limits_of(self, row_cap: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """The largest absolute value of each entry that a tenant with such a row cap may encode."""
        if row_cap not in self._limits:
            limits = [_limit(block, row_cap) for block in self.layout]
            self._limits[row_cap] = np.repeat(limits, [block.size for block in self.layout])
        return self._limits[row_cap]

    def encode(self, statistics: Statistics, tenant: int) -> RingVector:
        """The ring vector of one tenant's statistics.

        Raises:
            CallerError: the statistics have another layout, are not finite, or exceed what the tenant's row cap and the per-record
                bounds admit. Names the statistic and the bound, never the value.
        """
        if statistics.layout != self.layout:
            raise CallerError("these statistics have another layout than the session's encoding")
        beyond = ~(np.abs(statistics.vector) <= self._limits_of(self.row_caps[tenant]))  # NaN is beyond any
        if beyond.any():
            block = next(block for block in self.layout if beyond[self.layout.offsets[block.name]].any())
            raise CallerError(
                f"statistic '{block.name}' is beyond its declared bound of {block.bound:.6g} a record "
                f"over at most {self.row_caps[tenant]} rows, or not finite",
                remedy=f"check {block.source or 'the rows'} against the session's schema, and the row cap in the roster",
            )
        vector = self.ring.zeros(self.length)
        scaled = np.rint(statistics.vector * self._scale).astype(self.ring.signed)
        vector[: self.layout.size] = scaled.view(self.ring.dtype)
        return vector

    def decode(self, vector: RingVector) -> Statistics:
        """The statistics of a summed ring vector. Its check words must have been verified before."""
        return Statistics(self.layout, vector[: self.layout.size].view(self.ring.signed) / self._scale)
