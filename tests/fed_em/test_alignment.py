"""Distances of components against numerical integrals; orders; alignment of two fits; pruning and merging."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.integrate import dblquad, quad
from scipy.stats import multivariate_normal, norm, poisson

from fed_em.alignment import align, canonical_order, reordered
from fed_em.columns import CategoricalColumn, ColumnSchema, GaussianColumn, PoissonColumn
from fed_em.covariance import COVARIANCE_STRUCTURES, CovarianceStructure
from fed_em.divergence import component_distances
from fed_em.errors import CallerError
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.mixed_mixture import MixedMixtureModel
from fed_em.parameters import Parameters
from fed_em.pruning import merge, merge_to, prune
from tests.fed_em.mixtures import mixture
from tests.fed_em.mixtures import parameters_of as gaussian_parameters
from tests.fed_em.test_mixed_mixture import mixed, parameters_of

Vector = NDArray[np.float64]

EVERY_STRUCTURE = pytest.mark.parametrize("structure", COVARIANCE_STRUCTURES)


class TestDistances:
    def test_of_gaussians_in_one_dimension_it_is_the_integral(self) -> None:
        model = GaussianMixtureModel(2, 1, "diag")
        at = Parameters({"weights": [0.5, 0.5], "means": [[0.0], [1.5]], "covariances": [[1.0], [0.3]]})
        p, q = norm(0.0, 1.0), norm(1.5, np.sqrt(0.3))
        affinity = quad(lambda x: np.sqrt(p.pdf(x) * q.pdf(x)), -20, 20)[0]
        distances = component_distances(model, at, model, at)
        np.testing.assert_allclose(distances, [[0, -np.log(affinity)], [-np.log(affinity), 0]], atol=1e-9)

    def test_of_gaussians_in_two_dimensions_too(self) -> None:
        model, at = mixture("full"), gaussian_parameters("full", spread=0.4)
        p, q = (multivariate_normal(at["means"][k], at["covariances"][k]).pdf for k in (0, 2))
        affinity = dblquad(lambda x, y: np.sqrt(p([x, y]) * q([x, y])), -9, 9, -9, 9, epsabs=1e-8)[0]
        assert component_distances(model, at, model, at)[0, 2] == pytest.approx(-np.log(affinity), abs=1e-6)

    def test_it_adds_up_over_columns_of_other_kinds(self) -> None:
        model, at = mixed(), parameters_of()
        gaussian = GaussianMixtureModel(2, 2)
        part = Parameters({name: at[name] for name in ("weights", "means", "covariances")})
        expected = component_distances(gaussian, part, gaussian, part)[0, 1]
        first, second = at["level_probabilities"]
        for levels in model.schema.level_slices:
            expected -= np.log(np.sqrt(first[levels] * second[levels]).sum())
        for yes, other in at["success_probabilities"].T:
            expected -= np.log(np.sqrt(yes * other) + np.sqrt((1 - yes) * (1 - other)))
        counts = np.arange(100)
        expected -= np.log(np.sqrt(poisson(6.0).pmf(counts) * poisson(2.0).pmf(counts)).sum())
        distances = component_distances(model, at, model, at)
        assert distances[0, 1] == pytest.approx(expected, rel=1e-9)
        np.testing.assert_allclose(np.diagonal(distances), 0.0, atol=1e-12)
        np.testing.assert_allclose(distances, distances.T)

    def test_components_that_exclude_each_other_are_infinitely_far(self) -> None:
        model = MixedMixtureModel(2, ColumnSchema((CategoricalColumn("a", ("x", "y")),)))
        at = Parameters({"weights": [0.5, 0.5], "level_probabilities": [[1.0, 0.0], [0.0, 1.0]]})
        assert component_distances(model, at, model, at)[0, 1] == np.inf
        assert align(model, at, model, reordered(model, at, np.array([1, 0]))).order.tolist() == [1, 0]

    def test_other_columns_are_refused(self) -> None:
        with pytest.raises(CallerError, match="different columns"):
            component_distances(mixed(), parameters_of(), mixture("full"), gaussian_parameters("full"))


class TestOrder:
    def test_it_is_by_weight_then_by_mean(self) -> None:
        at = Parameters(
            {
                "weights": [0.2, 0.3, 0.2, 0.3],
                "means": [[1.0, 0], [5.0, 0], [-1.0, 0], [5.0, -1]],
                "covariances": np.eye(2),
            }
        )
        assert canonical_order(at).tolist() == [3, 1, 2, 0]

    @EVERY_STRUCTURE
    def test_reordering_changes_names_and_no_density(self, structure: CovarianceStructure) -> None:
        model, at = mixture(structure), gaussian_parameters(structure)
        turned = reordered(model, at, np.array([2, 0, 1]))
        rows = model.sample(at, 50, np.random.default_rng(0))[0]
        np.testing.assert_allclose(model.log_prob(turned, rows), model.log_prob(at, rows))
        np.testing.assert_array_equal(turned["means"], at["means"][[2, 0, 1]])

    @given(seed=st.integers(0, 999), size=st.floats(0, 0.05))
    def test_a_fit_is_aligned_with_a_shuffled_and_slightly_different_one(self, seed: int, size: float) -> None:
        model, at, generator = mixture("full"), gaussian_parameters("full"), np.random.default_rng(seed)
        order = generator.permutation(3)
        moved = Parameters({**at, "means": at["means"] + size * generator.standard_normal((3, 2))})
        found = align(model, at, model, reordered(model, moved, order))
        np.testing.assert_array_equal(order[found.order], [0, 1, 2])
        assert found.distances.max() < 0.1

    def test_fits_of_different_size_leave_some_without_a_match(self) -> None:
        larger, smaller = (
            gaussian_parameters("full"),
            reordered(mixture("full"), gaussian_parameters("full"), np.array([2, 0])),
        )
        found = align(mixture("full"), larger, mixture("full", n_components=2), smaller)
        assert found.order.tolist() == [1, -1, 0]
        assert np.isnan(found.distances[1])
        assert align(mixture("full", n_components=2), smaller, mixture("full"), larger).order.tolist() == [2, 0]


class TestPruning:
    def test_light_components_go_and_the_heaviest_stays(self) -> None:
        model, at = mixture("full"), gaussian_parameters("full")
        at = Parameters({**at, "weights": [0.02, 0.9, 0.08]})
        fewer, kept = prune(model, at, 0.05)
        assert fewer == mixture("full", n_components=2)
        np.testing.assert_allclose(kept["weights"], [0.9 / 0.98, 0.08 / 0.98])
        np.testing.assert_array_equal(kept["means"], at["means"][1:])
        fewer.validate(kept)
        assert prune(model, at, 0.0) == (model, at)
        assert prune(model, at, 1.0)[0].n_components == 1

    @EVERY_STRUCTURE
    def test_two_equal_components_become_one_without_a_change_of_density(self, structure: CovarianceStructure) -> None:
        model, at = mixture(structure), gaussian_parameters(structure)
        order = np.array([0, 1, 1, 2])
        doubled = dict(reordered(model, at, order))
        doubled["weights"] = at["weights"][order] * [1.0, 0.3, 0.7, 1.0]
        fewer, merged = merge(mixture(structure, n_components=4), Parameters(doubled), 0.01)
        assert fewer == model
        assert merged.distance(at) < 1e-12

    def test_merging_down_to_a_number_merges_the_nearest_and_no_more(self) -> None:
        model, at = mixture("full"), gaussian_parameters("full")
        order = np.array([0, 1, 1, 2])
        doubled = {**reordered(model, at, order), "weights": at["weights"][order] * [1.0, 0.3, 0.7, 1.0]}
        four, joined = mixture("full", n_components=4), Parameters(doubled)
        assert merge_to(four, joined, 4) == (four, joined)
        fewer, merged = merge_to(four, joined, 3)
        assert fewer == model and merged.distance(at) < 1e-12
        assert merge_to(four, joined, 1)[0].n_components == 1
        with pytest.raises(CallerError, match="n_components"):
            merge_to(four, joined, 0)

    @EVERY_STRUCTURE
    def test_merging_keeps_the_moments(self, structure: CovarianceStructure) -> None:
        model, at = mixture(structure, n_components=2), gaussian_parameters(structure, 2)
        fewer, one = merge(model, at, 1e6)
        assert fewer.n_components == 1
        np.testing.assert_allclose(one["means"][0], at["weights"] @ at["means"])
        rows = model.sample(at, 400_000, np.random.default_rng(0))[0]
        covariance = np.cov(rows.T)
        if structure == "full":
            np.testing.assert_allclose(one["covariances"][0], covariance, atol=0.03)
        elif structure == "diag":
            np.testing.assert_allclose(one["covariances"][0], np.diagonal(covariance), atol=0.03)
        elif structure == "spherical":
            np.testing.assert_allclose(one["covariances"][0], np.trace(covariance) / 2, atol=0.03)
        else:
            np.testing.assert_array_equal(one["covariances"], at["covariances"])
        fewer.validate(one)

    def test_discrete_columns_are_averaged(self) -> None:
        schema = ColumnSchema((GaussianColumn("g"), PoissonColumn("p", 50), CategoricalColumn("c", ("x", "y"))))
        at = Parameters(
            {
                "weights": [0.25, 0.75],
                "means": [[0.0], [0.1]],
                "covariances": [[[1.0]], [[1.0]]],
                "level_probabilities": [[0.5, 0.5], [0.6, 0.4]],
                "rates": [[4.0], [4.4]],
            }
        )
        fewer, one = merge(MixedMixtureModel(2, schema), at, 0.05)
        assert fewer.n_components == 1
        assert one["rates"][0, 0] == pytest.approx(4.3)
        np.testing.assert_allclose(one["level_probabilities"], [[0.575, 0.425]])
        assert merge(MixedMixtureModel(2, schema), at, 1e-6)[1] is at
