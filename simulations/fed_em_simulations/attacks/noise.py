"""What an adversary knows of the noise in a sum: its size is public, block by block."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from fed_em.model import LOG_LIKELIHOOD
from fed_em_protocols.description import counts_encoding_of, encoding_of
from fed_em_protocols.privacy.noise import noise_of
from fed_em_protocols.transcript.released import ReleasedSum
from fed_em_simulations.attacks.overheard import Overheard

# Standard deviation of the noise on each entry of a block, by the block's name. Blocks that are not there, or have none, say nothing.
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
    told = [1.0 / sigma[block.name] if sigma.get(block.name) else 0.0 for block in layout]
    return np.repeat(told, [block.size for block in layout])


def noise_of_sessions(heard: Overheard) -> Noise | None:
    """What is known of the noise in private sessions: what all in a sum have added, less what those that collude know of theirs.

    Args:
        heard: The sums.

    Returns:
        None if one of the sessions is not private.
    """
    private = [
        known.description is not None and known.description.privacy is not None for known in heard.facts.values()
    ]
    if not all(private):
        return None

    def noise(released: ReleasedSum) -> Mapping[str, float]:
        known = heard.facts[released.session]
        assert known.description is not None and known.description.privacy is not None, "a private session"
        privacy, at = known.description.privacy, released.broadcast
        encoding = (
            counts_encoding_of(at.model, known.row_caps, privacy)
            if released.kind == "counts"
            else encoding_of(known.description, at, known.row_caps)
        )
        # What those that collude have added they know, and can take off.
        hidden = max(sum(base > 0 for base in released.bases) - known.colluders, 1)
        return noise_of(encoding, privacy, known.cohort - known.colluders).of_statistics(hidden)

    return noise
