"""What an adversary knows of the noise in a sum: its size is public, block by block."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from fed_em.model import LOG_LIKELIHOOD
from fed_em_protocols.transcript.released import ReleasedSum

# Standard deviation of the noise on each entry of a block, by the block's name, positive. Blocks that are not there say nothing.
Noise = Callable[[ReleasedSum], Mapping[str, float]]

# Sums without noise are rounded: less of a record's largest share than this is not told apart.
_ROUNDING = 2.0**-18


def rounding(released: ReleasedSum) -> Mapping[str, float]:
    """Of sums without noise: as if they were rounded far more coarsely than they are."""
    return {block.name: _ROUNDING * block.bound for block in released.statistics.layout if block.name != LOG_LIKELIHOOD}


def precisions(released: ReleasedSum, noise: Noise) -> NDArray[np.float64]:
    """One over the noise's standard deviation, of each entry of the statistics, `(size,)`; 0 of those that say nothing."""
    sigma = noise(released)
    layout = released.statistics.layout
    return np.repeat(
        [1.0 / sigma[block.name] if block.name in sigma else 0.0 for block in layout], [block.size for block in layout]
    )
