"""The server's arithmetic of one round: a running masked sum, and everything that is taken off it.

For U the survivors and d the dropped participants,

    Σ_U y_i  =  Σ_U x_i  +  Σ_U self_i  +  Σ_{i ∈ U, d ∈ N(i)} ± pair_{i,d}       (in the ring)

Uploads are added as they come and then forgotten; a unit of the difference guard joins the sum once all of it has come, so the
server holds one vector, and one more for each unit that is still incomplete. Masks come off together at the end, in one pass.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from fed_em_protocols.masks import RingVector, add_masks
from fed_em_protocols.ring import Ring
from fed_em_protocols.round_keys import self_mask_key


@dataclass(frozen=True)
class RoundSum:
    """The running sum of a round's uploads.

    Attributes:
        vector: Σ over complete units. Never changed in place.
        incomplete: By unit: Σ of what has come, and from whom.
    """

    vector: RingVector = field(repr=False)
    incomplete: Mapping[frozenset[int], tuple[RingVector, frozenset[int]]] = field(default_factory=dict, repr=False)

    @classmethod
    def zero(cls, ring: Ring, length: int) -> RoundSum:
        """The sum of no uploads."""
        return cls(ring.zeros(length))

    def with_upload(self, index: int, unit: frozenset[int], upload: RingVector) -> RoundSum:
        """One more upload in the sum; `unit` is the sender's."""
        known, members = self.incomplete.get(unit, (None, frozenset()))
        vector = upload if known is None else known + upload
        others = {key: value for key, value in self.incomplete.items() if key != unit}
        if members | {index} == unit:
            return RoundSum(self.vector + vector, others)
        return RoundSum(self.vector, {**others, unit: (vector, members | {index})})


def unmasked(
    vector: RingVector, self_seeds: Iterable[bytes], pair_keys: Mapping[tuple[int, int], bytes], context: bytes
) -> RingVector:
    """A masked sum less the survivors' own masks and their masks with the dropped, by (survivor, dropped)."""
    clear = vector.copy()
    added, subtracted = removal((survivor, dropped, key) for (survivor, dropped), key in pair_keys.items())
    own = [self_mask_key(seed, context) for seed in self_seeds]
    add_masks(clear, added=added, subtracted=[*own, *subtracted], threads=os.cpu_count() or 1)
    return clear


def removal(keys: Iterable[tuple[int, int, bytes]]) -> tuple[list[bytes], list[bytes]]:
    """Keys of (survivor, dropped) whose masks are (added, subtracted) to take off what survivors put on.

    The smaller index had added.
    """
    added: list[bytes] = []
    subtracted: list[bytes] = []
    for survivor, dropped, key in keys:
        (subtracted if survivor < dropped else added).append(key)
    return added, subtracted
