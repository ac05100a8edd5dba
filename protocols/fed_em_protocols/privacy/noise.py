"""Noise inside the sum: how much each tenant adds to each integer of its statistics.

Block b of a layout has a norm Δ_b, the most that one record of weight one can add to it (`fed_em.layout.Block.norm`). In a sum with
noise multiplier z it gets Gaussian noise of

    σ_b = z Δ_b / √a_b    with  Σ_b a_b = 1,

so that Σ_b (Δ_b / σ_b)² = 1/z²: scaled by its noise, the whole vector moves by at most 1/z. Among all such shares, those with
a_b ∝ Δ_b √(size of b) make the sum of the variances of all entries least (Cauchy and Schwarz), and are taken.

A block is encoded with as many fraction bits f_b as make its noise about 2^16 units: the grid is then finer than the noise by so much
that rounding costs next to nothing. In these units one record changes block b by at most

    D_b = Δ_b 2^f_b + √(size of b) + slack

the second term for rounding, the third for what another order of additions does to float64. Each of the m tenants that are honest and
left in the smallest sum that opens, m = u_min − f, adds a discrete Gaussian of whole σ, and Σ_b D_b² / (m σ² − 36) ≤ 1/z²: see
`fed_em_protocols.privacy.accounting.gaussian_noise_multiplier` for the 36. Sources: Dwork et al. 2006 (our data, ourselves); Kairouz, Liu
and Steinke 2021 (distributed discrete Gaussian), with ADR 31.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fed_em.component_counts import OBSERVED_SUPPORTING, SUPPORTING
from fed_em.errors import CallerError
from fed_em.layout import Block, Layout
from fed_em.model import LOG_LIKELIHOOD
from fed_em.statistics import Statistics
from fed_em_protocols.encoding import MAX_FRACTION_BITS, Encoding
from fed_em_protocols.masks import RingVector
from fed_em_protocols.privacy.accounting import LEAST_SHARE_SIGMA, ROUNDING_VARIANCE
from fed_em_protocols.privacy.discrete_gaussian import DiscreteGaussian
from fed_em_protocols.privacy.promise import Privacy
from fed_em_protocols.ring import RING_64, Ring
from fed_em_protocols.window import Randomness

# Statistics that are sent as zero in a private session. A log-likelihood has no bound a record, and follows from the others
# (`fed_em.model.Model.free_energy`); how many tenants support a component is a small number that noise would drown.
_SILENT = frozenset({LOG_LIKELIHOOD, SUPPORTING, OBSERVED_SUPPORTING})

# The noise of a sum, in units of its grid, is between half of this and this.
_NOISE_UNITS = 2.0**16

# How much what a record adds may change, relatively, by its place among the others: sums of float64 depend on their order, and so do
# densities a little (`fed_em.moderate`).
_FLOAT_SLACK = 2.0**-28

# Of a block; beyond its inverse, or below it, products of floats are none.
_LEAST_NORM = 1e-60

# No draw of any tenant's is farther out than this many standard deviations.
_TAIL = 16.0


def is_silent(block: Block) -> bool:
    """Whether a private session sends zeros for a block; of several models side by side, the name stands behind "r.".

    So it does of what no record adds anything to: there is no noise on it.
    """
    return block.name.rsplit(".", 1)[-1] in _SILENT or not block.norm


def without_silent(statistics: Statistics) -> Statistics:
    """The same with zeros in the silent blocks."""
    vector = statistics.vector.copy()
    for block in statistics.layout:
        if is_silent(block):
            vector[statistics.layout.offsets[block.name]] = 0.0
    return Statistics(statistics.layout, vector)


def _shares(layout: Layout) -> tuple[float, ...]:
    """a_b of each block, of those that are not silent: least total variance."""
    for block in layout:
        if block.norm and not _LEAST_NORM <= block.norm <= 1 / _LEAST_NORM:
            raise CallerError(
                f"one record can add {block.norm:.3g} to statistic '{block.name}', for which no noise can be computed",
                remedy="declare ranges and weights in other units",
            )
    weights = [0.0 if is_silent(block) else block.norm * math.sqrt(block.size) for block in layout]
    total = sum(weights)
    if not total:
        raise CallerError("a private sum needs a statistic that is released")
    return tuple(weight / total for weight in weights)


def _units_of(privacy: Privacy, row_caps: Sequence[int]) -> int:
    """How many records of weight one a neighbour can change."""
    return max(row_caps) if privacy.unit == "tenant" else 1


def private_encoding(layout: Layout, row_caps: Sequence[int], privacy: Privacy, ring: Ring = RING_64) -> Encoding:
    """The encoding whose grid suits the noise, with its range proved, in a ring of 64 bits: both sides derive it.

    Raises:
        CallerError: sums and noise together could leave the ring.
    """
    units, bits = _units_of(privacy, row_caps), []
    for block, share in zip(layout, _shares(layout), strict=True):
        sigma = privacy.noise_multiplier * block.norm * units / math.sqrt(share) if share else 1.0
        bits.append(min(math.floor(math.log2(_NOISE_UNITS / sigma)), MAX_FRACTION_BITS))
        reach = sum(row_caps) * block.bound * 2.0 ** bits[-1] + len(row_caps) * (1 + 2 * _TAIL * _NOISE_UNITS)
        if not reach < 2.0**62:
            raise CallerError(
                f"statistic '{block.name}' and its noise can leave the ring of 64 bits over {sum(row_caps)} rows",
                remedy="declare narrower column ranges or smaller row caps",
            )
    return Encoding(layout, tuple(row_caps), tuple(bits), ring)


@dataclass(frozen=True)
class Noise:
    """What tenants add to the integers of one encoding.

    Attributes:
        encoding: As `private_encoding` gives it.
        sigmas: By block, of one tenant's share, in units of the grid; 0 for a silent block.
        multiplier: z, as the sum really has it, at least what was asked for.
    """

    encoding: Encoding
    sigmas: tuple[int, ...]
    multiplier: float

    def of_statistics(self, tenants: int) -> dict[str, float]:
        """Standard deviation of the noise of an entry of a sum over so many tenants, by block."""
        blocks = zip(self.encoding.layout, self.sigmas, self.encoding.bits, strict=True)
        return {block.name: math.sqrt(tenants) * sigma * 2.0**-bits for block, sigma, bits in blocks}

    def added(self, vector: RingVector, randomness: Randomness) -> RingVector:
        """A tenant's vector and its share of the noise. Each call draws anew: never call it twice for one round."""
        noised = vector.copy()
        for block, sigma in zip(self.encoding.layout, self.sigmas, strict=True):
            if sigma:
                place = self.encoding.layout.offsets[block.name]
                drawn = DiscreteGaussian(sigma).sample(block.size, randomness)
                noised[place] += drawn.view(np.uint64)
        return noised


def noise_of(encoding: Encoding, privacy: Privacy, shares: int) -> Noise:
    """Each tenant's share of the noise, where at least `shares` of them are in every sum and keep theirs secret.

    Args:
        encoding: As `private_encoding` gives it for the same promise.
        privacy: The promise.
        shares: m = u_min − f, at least 1.

    Raises:
        CallerError: no noise is left when those that collude remove theirs.
    """
    if shares < 1:
        raise CallerError(
            "in the smallest sum that opens all tenants may collude, and no noise is left",
            remedy="agree on more minimum_survivors, or on fewer colluders",
        )
    cap, units = max(encoding.row_caps), _units_of(privacy, encoding.row_caps)
    sigmas, moved = [], 0.0
    for block, bits, share in zip(encoding.layout, encoding.bits, _shares(encoding.layout), strict=True):
        if not share:
            sigmas.append(0)
            continue
        largest = block.norm * 2.0**bits * (units + cap * _FLOAT_SLACK) + math.sqrt(block.size)
        total = (privacy.noise_multiplier * largest) ** 2 / share + ROUNDING_VARIANCE
        sigmas.append(max(math.ceil(math.sqrt(total / shares)), LEAST_SHARE_SIGMA))
        moved += largest**2 / (shares * sigmas[-1] ** 2 - ROUNDING_VARIANCE)
    return Noise(encoding, tuple(sigmas), 1 / math.sqrt(moved))
