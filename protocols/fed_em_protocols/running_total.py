"""The running total of increments: T = Σ_i enc(s_i(θ at the last opened round with i in U)), in the ring.

Incremental EM (Neal and Hinton 1998): a tenant that does not answer keeps the term that it gave last, so parameters do not follow
whoever happens to answer. A round of increments adds Σ_U (enc(s_i(θ_t)) − enc(s_i(θ_base))), exactly, so with everybody in U the
total is the sum of whole vectors, integer for integer. Only T is ever decoded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fed_em_protocols.envelope import Sealed
from fed_em_protocols.hashing import digest
from fed_em_protocols.masks import RingVector
from fed_em_protocols.messages import Header
from fed_em_protocols.records import replace


@dataclass(frozen=True)
class RunningTotal:
    """T, and which round each unit's term in it belongs to.

    Attributes:
        encoding, length: Of the vectors summed.
        vector: T.
        bases: Base round of each unit, in the order of the difference guard's units; 0 if T holds nothing of it.
        headers: Headers of the base rounds, parameters attached, by round.
    """

    encoding: bytes
    length: int
    vector: RingVector = field(repr=False)
    bases: tuple[int, ...]
    headers: Mapping[int, Sealed[Header]] = field(repr=False)

    @property
    def digest(self) -> bytes:
        """H(T)."""
        return digest("sum", self.vector.tobytes())

    @property
    def contexts(self) -> bytes:
        """Contexts of the distinct base rounds, ascending."""
        return b"".join(self.headers[number].digest for number in sorted(self.headers))

    def with_increment(
        self, header: Sealed[Header], units: Sequence[frozenset[int]], survivors: frozenset[int], opened: RingVector
    ) -> RunningTotal:
        """T after an opened round of increments."""
        number = header.content.round
        bases = tuple(number if unit <= survivors else base for unit, base in zip(units, self.bases, strict=True))
        headers = {**self.headers, number: header}
        kept = {base: headers[base] for base in set(bases) if base}
        return replace(self, vector=self.vector + opened, bases=bases, headers=kept)

    def members(self, units: Sequence[frozenset[int]]) -> frozenset[int]:
        """Tenants of whom T holds a term."""
        return frozenset().union(*(unit for unit, base in zip(units, self.bases, strict=True) if base))


def restarted_total(
    header: Sealed[Header], units: Sequence[frozenset[int]], survivors: frozenset[int], opened: RingVector
) -> RunningTotal:
    """T after an opened base round: everybody in it gave a whole vector."""
    content = header.content
    bases = tuple(content.round if unit <= survivors else 0 for unit in units)
    return RunningTotal(content.encoding, content.length, opened, bases, {content.round: header})
