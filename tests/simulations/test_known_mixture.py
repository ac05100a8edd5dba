"""Mixtures of known truth: they overlap as much as was asked, and their moments are those of their rows."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.integrate import quad
from scipy.stats import norm

from fed_em.covariance import COVARIANCE_STRUCTURES, CovarianceStructure, covariance_matrices
from fed_em.errors import CallerError
from fed_em_simulations.known_mixture import KnownMixture
from fed_em_simulations.random_streams import stream


@pytest.mark.parametrize("structure", COVARIANCE_STRUCTURES)
@pytest.mark.parametrize("overlap", [0.01, 0.1, 0.4])
def test_the_largest_overlap_is_the_one_asked_for(structure: CovarianceStructure, overlap: float) -> None:
    for seed in range(3):
        truth = KnownMixture(components=5, columns=3, overlap=overlap, covariance=structure).truth(seed)
        truth.model.validate(truth.parameters)
        assert truth.overlap == pytest.approx(overlap, rel=1e-6)
        matrices = covariance_matrices(structure, truth.parameters["covariances"], truth.parameters["means"])
        np.testing.assert_allclose(np.linalg.det(matrices), 1.0)


def test_the_overlap_is_the_integral_of_the_root_of_both_densities() -> None:
    truth = KnownMixture(components=2, columns=1, overlap=0.3).truth(1)
    (low, high), (first, second) = truth.parameters["means"].ravel(), truth.parameters["covariances"].ravel()
    densities = norm(low, np.sqrt(first)), norm(high, np.sqrt(second))
    ends = (min(low, high) - 12, max(low, high) + 12)
    integral = quad(lambda x: np.sqrt(densities[0].pdf(x) * densities[1].pdf(x)), *ends)[0]
    assert integral == pytest.approx(0.3, abs=1e-6)


def test_its_moments_are_those_of_its_rows() -> None:
    """False alarms: z of 2 × 3 means and deviations below 5, about 4e-6."""
    truth, n = KnownMixture(components=4, columns=3, overlap=0.05).truth(2), 40_000
    rows, _ = truth.model.sample(truth.parameters, n, stream(0, "test"))
    assert (np.abs(rows.mean(axis=0) - truth.mean) / truth.deviation * np.sqrt(n)).max() < 5
    fourth = ((rows - truth.mean) ** 4).mean(axis=0) / truth.deviation**4
    spread = np.sqrt((fourth - 1) / n)
    assert (np.abs(rows.var(axis=0) / truth.deviation**2 - 1) / spread).max() < 5


def test_components_of_unlike_shapes_cannot_overlap_more_than_they_do_at_one_place() -> None:
    with pytest.raises(CallerError, match="give an overlap below"):
        KnownMixture(components=4, columns=8, overlap=0.999).truth(0)


def test_a_single_component_overlaps_with_nothing() -> None:
    assert KnownMixture(components=1, columns=2).truth(0).overlap == 0


@pytest.mark.parametrize(
    "wrong", [{"components": 0}, {"overlap": 0.0}, {"overlap": 1.0}, {"covariance": "round"}, {"k": 3}]
)
def test_what_is_out_of_range_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        KnownMixture.model_validate(wrong)


def test_streams_are_told_apart_by_seed_and_path() -> None:
    seen = {
        stream(seed, *path).integers(2**62)
        for seed in (0, 1)
        for path in ([], ["a"], ["a", "b"], ["ab"], ["a", 1], ["a", 11], ["a/b", "c"])
    }
    assert len(seen) == 14
    assert stream(3, "rows", "t1").random() == stream(3, "rows", "t1").random()
    with pytest.raises(CallerError, match="seed"):
        stream(-1, "a")
