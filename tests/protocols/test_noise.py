"""Noise inside the sum: how much there is, that it hides what it promises to hide, and that nothing else moves."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from fed_em.component_counts import SUPPORTING, counts_layout
from fed_em.errors import CallerError
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.layout import Block, Layout
from fed_em.model import LOG_LIKELIHOOD
from fed_em.statistics import Statistics
from fed_em_protocols.privacy.accounting import noise_for
from fed_em_protocols.privacy.noise import is_silent, noise_of, private_encoding, without_silent
from fed_em_protocols.privacy.promise import SAMPLING_SLACK, Privacy
from fed_em_simulations.simulated_parties import seeded_randomness

CAPS = (400, 100, 250, 250)
MODEL = GaussianMixtureModel(2, 3)
LAYOUT = MODEL.layout(np.full(3, 5.0), 2.5)


def promise(**changes: object) -> Privacy:
    """ε = 1 at δ = 1e-6 over ten sums, unless it is said otherwise."""
    noise = noise_for(1.0, 1e-6, 10, 10 * SAMPLING_SLACK)
    said = {"epsilon": 1.0, "delta": 1e-6, "radius": 2.5, "noise_multiplier": noise, "sums": 10, **changes}
    return Privacy.model_validate(said)


def test_the_multiplier_is_as_promised_and_hardly_more() -> None:
    privacy = promise()
    noise = noise_of(private_encoding(LAYOUT, CAPS, privacy), privacy, 3)
    assert privacy.noise_multiplier <= noise.multiplier <= 1.001 * privacy.noise_multiplier


@settings(deadline=None, max_examples=60)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    norms=st.lists(st.floats(1e-3, 1e4), min_size=5, max_size=5),
    multiplier=st.floats(0.5, 500.0),
    shares=st.integers(1, 5000),
    unit=st.sampled_from(["record", "tenant"]),
)
def test_one_neighbour_moves_the_integers_by_at_most_one_part_in_z(
    sizes: list[int], norms: list[float], multiplier: float, shares: int, unit: str
) -> None:
    """Σ_b (D_b / σ_b)² ≤ 1/z², with D_b from its definition in whole numbers, for any layout."""
    blocks = tuple(Block(f"b{k}", (size,), norms[k], norm=norms[k]) for k, size in enumerate(sizes))
    privacy = promise(noise_multiplier=multiplier, unit=unit)
    encoding = private_encoding(Layout(blocks), CAPS, privacy)
    noise = noise_of(encoding, privacy, shares)
    records = max(CAPS) if unit == "tenant" else 1
    moved = 0.0
    for block, bits, sigma in zip(encoding.layout, encoding.bits, noise.sigmas, strict=True):
        change = block.norm * records * 2.0**bits + math.sqrt(block.size)
        moved += change**2 / (shares * sigma**2 - 36)
    assert moved <= 1 / multiplier**2
    assert noise.multiplier >= multiplier


def test_a_tenant_of_many_records_takes_as_many_times_the_noise() -> None:
    record, tenant = (promise(unit=unit) for unit in ("record", "tenant"))
    of_record, of_tenant = (private_encoding(LAYOUT, CAPS, each) for each in (record, tenant))
    few, many = noise_of(of_record, record, 3), noise_of(of_tenant, tenant, 3)
    for k, block in enumerate(LAYOUT):
        if not is_silent(block):
            ratio = (many.sigmas[k] * 2.0 ** -of_tenant.bits[k]) / (few.sigmas[k] * 2.0 ** -of_record.bits[k])
            assert ratio == pytest.approx(max(CAPS), rel=0.01)


@pytest.mark.slow
def test_the_noise_of_all_shares_has_the_variance_that_the_multiplier_asks_for() -> None:
    """Of 4 shares, over 4000 sums, for each block: χ² with a false-alarm rate of 1e-6 a block; noise of a tenth less is caught."""
    privacy = promise()
    encoding = private_encoding(LAYOUT, CAPS, privacy)
    noise, draw = noise_of(encoding, privacy, 4), seeded_randomness("variance")
    sums = np.zeros((4000, encoding.length), dtype=np.uint64)
    for k in range(len(sums)):
        for _ in range(4):
            sums[k] += noise.added(np.zeros(encoding.length, dtype=np.uint64), draw)
    signed = sums.view(np.int64).astype(np.float64)

    def is_credible(block: Block, sigma: float) -> bool:
        values = signed[:, encoding.layout.offsets[block.name]]
        excess = (values**2).sum() / sigma**2 - values.size
        return bool(abs(excess) < NormalDist().inv_cdf(1 - 5e-7) * math.sqrt(2 * values.size) * 1.05)

    for block, sigma in zip(encoding.layout, noise.sigmas, strict=True):
        if sigma:
            assert is_credible(block, 2 * sigma)
            assert not is_credible(block, 2 * sigma / 0.9)


def test_what_is_silent_stays_zero_and_so_do_the_check_words() -> None:
    privacy = promise()
    encoding = private_encoding(LAYOUT, CAPS, privacy)
    noised = noise_of(encoding, privacy, 3).added(np.zeros(encoding.length, dtype=np.uint64), seeded_randomness(1))
    assert not noised[LAYOUT.offsets[LOG_LIKELIHOOD]].any() and not noised[LAYOUT.size :].any()
    assert np.count_nonzero(noised) > 0.9 * LAYOUT.size
    statistics = Statistics(LAYOUT, np.ones(LAYOUT.size))
    assert without_silent(statistics).vector.sum() == LAYOUT.size - 1
    assert is_silent(counts_layout(MODEL)[SUPPORTING])


def test_no_noise_is_left_where_all_may_collude() -> None:
    privacy = promise()
    with pytest.raises(CallerError, match="no noise is left"):
        noise_of(private_encoding(LAYOUT, CAPS, privacy), privacy, 0)


def test_a_promise_that_its_noise_does_not_keep_is_refused() -> None:
    promise().require_kept()
    with pytest.raises(CallerError, match=r"promises ε = 1 .* its 11 sums"):
        promise(sums=11).require_kept()
    with pytest.raises(CallerError, match=r"promises ε = 0\.9"):
        promise(epsilon=0.9).require_kept()


def test_an_encoding_without_noise_is_as_it_was() -> None:
    """A grid coarser than one has a digest too, another than a finer one."""
    coarse = private_encoding(LAYOUT, CAPS, promise(noise_multiplier=1e8))
    assert min(coarse.bits) < 0
    fine = private_encoding(LAYOUT, CAPS, promise())
    assert coarse.digest != fine.digest


@pytest.mark.parametrize("norm", [5e-324, 1e-100, 1e100, 1e308])
def test_a_norm_that_floats_cannot_square_is_refused_in_words(norm: float) -> None:
    """A server chooses ranges and weights, and is no cause for a tenant's process to end."""
    with pytest.raises(CallerError, match="no noise can be computed"):
        private_encoding(Layout((Block("b", (2,), norm, norm=norm),)), CAPS, promise())


def test_noise_beyond_all_sense_is_refused_in_words() -> None:
    with pytest.raises(ValidationError, match="noise_multiplier"):
        promise(noise_multiplier=1e300)
