"""The server's arithmetic of one round: a running masked sum, and everything that is taken off it.

For U the survivors and d the dropped participants,

    Σ_U y_i  =  Σ_U x_i  +  Σ_U self_i  +  Σ_{i ∈ U, d} ± pair_{i,d}       (mod 2^64)

Each upload is added when it comes and then forgotten, so the server holds one vector, not n.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from fed_em_protocols.masks import RingVector, add_masks
from fed_em_protocols.round_keys import self_mask_key


@dataclass(frozen=True)
class RoundSum:
    """The running sum of a round.

    Attributes:
        vector: Σ of what was uploaded, less the masks removed so far. Never changed in place.
        pair_keys: Keys of pair masks taken off on the word of a survivor, by (survivor, dropped).
    """

    vector: RingVector = field(repr=False)
    pair_keys: Mapping[tuple[int, int], bytes] = field(default_factory=dict, repr=False)

    @classmethod
    def zero(cls, length: int) -> RoundSum:
        """The sum of no uploads."""
        return cls(np.zeros(length, dtype=np.uint64))

    def with_upload(self, upload: RingVector) -> RoundSum:
        """One more upload in the sum."""
        return replace(self, vector=self.vector + upload)

    def without_masks(
        self, survivor: int, self_seed: bytes, pair_keys: Mapping[int, bytes], context: bytes
    ) -> RoundSum:
        """The sum less one survivor's own mask and its masks with the dropped (keys by dropped index)."""
        vector = self.vector.copy()
        added, subtracted = _removal((survivor, dropped, key) for dropped, key in pair_keys.items())
        add_masks(vector, added=added, subtracted=[self_mask_key(self_seed, context), *subtracted])
        known = {**self.pair_keys, **{(survivor, dropped): key for dropped, key in pair_keys.items()}}
        return RoundSum(vector, known)

    def corrected(self, true_keys: Mapping[tuple[int, int], bytes]) -> tuple[RoundSum, frozenset[int]]:
        """Replace wrong pair keys by true ones (rebuilt from shares).

        Returns:
            The corrected sum, and the survivors who had given a wrong key.
        """
        vector = self.vector.copy()
        liars = set()
        for (survivor, dropped), key in true_keys.items():
            claimed = self.pair_keys[survivor, dropped]
            if claimed != key:
                liars.add(survivor)
                taken, given = _removal([(survivor, dropped, claimed)])
                added, subtracted = _removal([(survivor, dropped, key)])
                add_masks(vector, added=added + given, subtracted=subtracted + taken)
        return RoundSum(vector, {**self.pair_keys, **true_keys}), frozenset(liars)


def _removal(keys: Iterable[tuple[int, int, bytes]]) -> tuple[list[bytes], list[bytes]]:
    """Keys whose masks are (added, subtracted) to take off what survivors put on: the smaller index had added."""
    added: list[bytes] = []
    subtracted: list[bytes] = []
    for survivor, dropped, key in keys:
        (subtracted if survivor < dropped else added).append(key)
    return added, subtracted
