"""EM by noised sums ends near EM without noise: what projections, averaging and the radius are for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.fed_em.noised_em import Setting, World, losses


@pytest.fixture(scope="module")
def worlds() -> list[World]:
    return [World.of(3, 4, 20_000, seed) for seed in range(4)]


@pytest.fixture(scope="module")
def below(worlds: list[World]) -> NDArray[np.float64]:
    """What the default setting loses in each world."""
    return losses(worlds, Setting())[0]


def test_noised_em_ends_near_em_without_noise(below: NDArray[np.float64]) -> None:
    """ε = 1 over 15 sums of 20 000 rows: of 20 such runs the median was 0.026 nats and the worst 0.13 (ADR 32).

    Worlds and noise are drawn by fixed seeds: it fails where the code changes what is computed, or numpy its streams.
    """
    assert np.median(below) < 0.1
    # Noise there is: without any, the rows in the ball lose less than this.
    assert np.median(below) > 0.002


def test_the_average_of_sums_loses_less_than_the_last_one(worlds: list[World], below: NDArray[np.float64]) -> None:
    alone, _ = losses(worlds, replace(Setting(), averaged_from=None))
    assert below.mean() < alone.mean() / 2


def test_little_noise_loses_little(worlds: list[World]) -> None:
    below, projected = losses(worlds[:2], replace(Setting(), epsilon=100.0, known=False))
    assert below.max() < 0.01
    assert projected == 0
