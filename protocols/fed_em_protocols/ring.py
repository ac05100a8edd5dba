"""The ring that a round sums in: the integers modulo 2^64, or modulo 2^32 where declared ranges leave room enough.

The encoding decides which, by proof, and the header says it. Half the bits are half the bytes of an upload and half the keystream
of its masks.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from fed_em_protocols.masks import RingVector

# Zero at every tenant: together so many bits that a wrong unmasking passes with probability 2^-128.
_CHECK_BITS = 128

# Whoever shows tenants the keys that open a sum of counts may choose among them: with m keys, a generalised birthday search (Wagner
# 2002) finds some that give zeros in b bits at a cost of 2^(b/(1 + log2 m)). For 10 000 tenants that is more than 2^128 here.
_COUNTS_CHECK_BITS = 2560


@dataclass(frozen=True)
class Ring:
    """The integers modulo 2^bits, as little-endian words.

    Attributes:
        bits: 64 or 32.
        check_bits: Bits at the end of every vector that are zero at every tenant.
    """

    bits: int
    check_bits: int = _CHECK_BITS

    @property
    def for_counts(self) -> Ring:
        """The same for rounds whose sum is recomputed by tenants, from keys that the server shows them."""
        return Ring(self.bits, _COUNTS_CHECK_BITS)

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """Of a vector in memory."""
        return np.dtype(f"<u{self.word_bytes}")

    @cached_property
    def signed(self) -> np.dtype[Any]:
        """Of the same words read as signed integers."""
        return np.dtype(f"<i{self.word_bytes}")

    @property
    def word_bytes(self) -> int:
        """Bytes a word."""
        return self.bits // 8

    @property
    def check_words(self) -> int:
        """Words at the end of every vector that are zero at every tenant."""
        return self.check_bits // self.bits

    @property
    def tail_words(self) -> int:
        """Words behind the statistics: one that counts tenants at fault, and the check words."""
        return 1 + self.check_words

    def zeros(self, length: int) -> RingVector:
        """A vector of zeros."""
        return np.zeros(length, dtype=self.dtype)

    def read(self, data: bytes | memoryview) -> RingVector:
        """A vector from its bytes; it shares them, and cannot be written."""
        return np.frombuffer(data, dtype=self.dtype)

    def is_sum(self, vector: RingVector) -> bool:
        """Whether a vector was unmasked with the right seeds: its check words are zero."""
        return not np.any(vector[-self.check_words :])

    def fault_vector(self, noise: bytes) -> RingVector:
        """What a tenant sends in place of statistics that it cannot compute: noise, one in the word that counts faults, zeros.

        Zeros in place of the noise would be a sum over the others alone, and who is at fault can be the server's choice.

        Args:
            noise: Secret uniform bytes, as many as the statistics have.
        """
        fault = self.zeros(self.tail_words)
        fault[0] = 1
        return np.concatenate((self.read(noise), fault))

    def faults_in(self, vector: RingVector) -> int:
        """How many tenants of a sum could not compute their statistics."""
        return int(vector[-self.tail_words])


RING_64 = Ring(64)
RING_32 = Ring(32)
RINGS = {ring.bits: ring for ring in (RING_64, RING_32)}


def ring_of(bits: int, counts: bool) -> Ring:
    """The ring of a round. `bits` is one of `RINGS`."""
    return RINGS[bits].for_counts if counts else RINGS[bits]
