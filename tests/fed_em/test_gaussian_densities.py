"""Log-densities by one matrix product, and from differences where that would cancel, against a longer arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fed_em import gaussian_densities
from fed_em.covariance import COVARIANCE_STRUCTURES, CovarianceStructure, covariance_matrices
from fed_em.feature_map import features_of
from fed_em.gaussian_densities import GaussianDensities
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.kernels import kernels_for
from fed_em.parameters import Parameters
from tests.fed_em.kernel_choice import both_kernels as both_kernels  # noqa: PLC0414  every test runs twice
from tests.fed_em.mixtures import parameters_of

Vector = NDArray[np.float64]
Long = NDArray[np.longdouble]

pytestmark = pytest.mark.skipif(np.finfo(np.longdouble).eps > 1e-18, reason="no arithmetic longer than float64 here")
EPSILON = float(np.finfo(np.float64).eps)
INHERITED = settings(max_examples=60, deadline=None)


def joint_by_definition(structure: CovarianceStructure, parameters: Parameters, rows: Vector) -> tuple[Long, Long]:
    """log w_k N(x; μ_k, Σ_k) and the squared Mahalanobis distances, `(n, K)` each, in long double."""
    means = parameters["means"]
    matrices = covariance_matrices(structure, parameters["covariances"], means).astype(np.longdouble)
    joint, distances = np.empty((2, len(rows), len(means)), dtype=np.longdouble)
    for k, matrix in enumerate(matrices):
        lower = cholesky(matrix)
        whitened = (rows.astype(np.longdouble) - means[k]).T
        for i in range(len(lower)):
            whitened[i] = (whitened[i] - lower[i, :i] @ whitened[:i]) / lower[i, i]
        distances[:, k] = (whitened**2).sum(axis=0)
        log_determinant = 2 * np.log(np.diag(lower)).sum() + len(lower) * np.log(2 * np.longdouble(np.pi))
        joint[:, k] = np.log(np.longdouble(parameters["weights"][k])) - (log_determinant + distances[:, k]) / 2
    return joint, distances


def cholesky(matrix: Long) -> Long:
    """L with LLᵀ = matrix; LAPACK knows no long double."""
    lower = np.zeros_like(matrix)
    for j in range(len(matrix)):
        lower[j, j] = np.sqrt(matrix[j, j] - (lower[j, :j] ** 2).sum())
        for i in range(j + 1, len(matrix)):
            lower[i, j] = (matrix[i, j] - lower[i, :j] @ lower[j, :j]) / lower[j, j]
    return lower


def log_density_by_definition(structure: CovarianceStructure, parameters: Parameters, rows: Vector) -> Vector:
    joint, _ = joint_by_definition(structure, parameters, rows)
    return np.asarray(np.logaddexp.reduce(joint, axis=1), dtype=np.float64)


def prepared(structure: CovarianceStructure, parameters: Parameters) -> GaussianDensities:
    model = GaussianMixtureModel(*parameters["means"].shape, structure)
    return GaussianDensities.of(parameters, model.whitening(parameters))


def scaled(structure: CovarianceStructure, widths: tuple[float, float, float], offset: float = 0.0) -> Parameters:
    """Three components in two columns, each of its own width, about `offset`. A tied covariance has the first width."""
    base = parameters_of(structure)
    factors = np.array(widths) ** 2
    covariances = base["covariances"]
    each = factors[0] if structure == "tied" else factors.reshape(3, *(1,) * (covariances.ndim - 1))
    return Parameters({**base, "means": base["means"] + offset, "covariances": each * covariances})


def rows_near(structure: CovarianceStructure, parameters: Parameters, n: int = 300) -> Vector:
    """Rows of the mixture, every fifth of them far out."""
    model = GaussianMixtureModel(*parameters["means"].shape, structure)
    generator = np.random.default_rng(0)
    rows = model.sample(parameters, n, generator)[0]
    rows[::5] += generator.normal(size=(len(rows[::5]), rows.shape[1]))
    return rows


CASES = {
    # widths, offset; whether there is a shift; which components are whitened where covariances are not tied
    "ordinary": ((1.0, 1.0, 1.0), 0.0, False, ()),
    "a hundredth": ((1.0, 1e-2, 1.0), 0.0, False, ()),
    "one narrow": ((1.0, 1e-6, 1.0), 0.0, False, (1,)),
    "all narrow": ((1e-6, 1e-6, 1e-6), 0.0, False, (0, 1, 2)),
    "far off": ((1.0, 1.0, 1.0), 1e4, True, ()),
    "very far off": ((1.0, 0.5, 2.0), 1e9, True, ()),
    "far off and one narrow": ((1.0, 1e-6, 1.0), 1e4, True, (1,)),
}


@pytest.mark.parametrize("structure", COVARIANCE_STRUCTURES)
@pytest.mark.parametrize("case", CASES)
def test_log_densities_are_those_by_definition(case: str, structure: CovarianceStructure) -> None:
    widths, offset, shifted, whitened = CASES[case]
    parameters = scaled(structure, widths, offset)
    densities = prepared(structure, parameters)
    if structure != "tied":
        assert ((densities.shift is not None), densities.whitened) == (shifted, whitened)
    rows = rows_near(structure, parameters)
    expected = log_density_by_definition(structure, parameters, rows)
    found = GaussianMixtureModel(3, 2, structure).log_prob(parameters, rows)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)
    # From differences next to nothing is lost.
    if len(densities.whitened) == 3:
        np.testing.assert_allclose(found, expected, rtol=1e-14, atol=1e-14)


def test_a_nearly_singular_covariance_is_no_worse_than_its_factors() -> None:
    """With factors that are exact in float64, so that only the E-step rounds."""
    small = 2.0**-15
    lower = np.array([[1.0, 0.0, 0.0], [1.0, small, 0.0], [1.0, 0.0, small]])
    covariances = np.stack((lower @ lower.T, np.eye(3)))
    means = np.array([[0.5, 0.25, 0.0], [1.0, -1.0, 0.0]])
    parameters = Parameters({"weights": [0.5, 0.5], "means": means, "covariances": covariances})
    assert np.linalg.cond(covariances[0]) > 1e9
    assert prepared("full", parameters).whitened == (0,)
    rows = rows_near("full", parameters)
    expected = log_density_by_definition("full", parameters, rows)
    np.testing.assert_allclose(GaussianMixtureModel(2, 3).log_prob(parameters, rows), expected, rtol=1e-10)


@given(
    structure=st.sampled_from(COVARIANCE_STRUCTURES),
    logs=st.tuples(*[st.floats(-7.0, 2.0)] * 3),
    offset=st.sampled_from([0.0, 1.0, -30.0, 1e4, 1e7]),
)
@INHERITED
def test_log_densities_of_any_widths_and_offsets(
    structure: CovarianceStructure, logs: tuple[float, float, float], offset: float
) -> None:
    parameters = scaled(structure, (10.0 ** logs[0], 10.0 ** logs[1], 10.0 ** logs[2]), offset)
    rows = rows_near(structure, parameters, 60)
    expected = log_density_by_definition(structure, parameters, rows)
    found = GaussianMixtureModel(3, 2, structure).log_prob(parameters, rows)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


@given(
    structure=st.sampled_from(COVARIANCE_STRUCTURES),
    n_columns=st.integers(1, 6),
    spread=st.floats(0.0, 4.0),
    seed=st.integers(0, 2**32 - 1),
)
@INHERITED
def test_rounding_stays_below_the_condition(
    structure: CovarianceStructure, n_columns: int, spread: float, seed: int
) -> None:
    """The bound behind the switch: ε (C_k max(1, q) + |a_k|) up to a small factor, also where the switch would forbid it."""
    generator = np.random.default_rng(seed)
    factors = generator.normal(size=(2, n_columns, 2 * n_columns))
    matrices = factors @ np.swapaxes(factors, 1, 2)
    variances = np.diagonal(matrices, axis1=1, axis2=2)
    covariances = {"full": matrices, "tied": matrices[0], "diag": variances, "spherical": variances[:, 0]}[structure]
    means = 10**spread * generator.normal(size=(2, n_columns))
    parameters = Parameters({"weights": [0.3, 0.7], "means": means, "covariances": covariances})
    rows = rows_near(structure, parameters, 30)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gaussian_densities, "LARGEST_CONDITION", np.inf)
        densities = prepared(structure, parameters)
    assert densities.whitened == () and densities.shift is None
    kernels = kernels_for(len(rows))
    block, joint = np.empty((kernels.n_entries(structure, n_columns), len(rows))), np.empty((2, len(rows)))
    kernels.prepare(structure, rows, None, block)
    densities.write(rows, block, kernels, joint)
    expected, distances = joint_by_definition(structure, parameters, rows)
    condition = gaussian_densities.conditions(densities.whitening, means, parameters["covariances"])
    bound = EPSILON * (condition * np.maximum(1.0, distances) + np.abs(densities.constants) + 1.0)
    # The factors themselves carry errors of the order of the condition of Σ, on either path; here it is small.
    assert (np.abs(joint.T - expected) <= 8 * bound).all()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("structure", COVARIANCE_STRUCTURES)
def test_statistics_are_about_the_origin_on_every_path(structure: CovarianceStructure, case: str) -> None:
    widths, offset, _, _ = CASES[case]
    parameters = scaled(structure, widths, offset)
    rows = rows_near(structure, parameters)
    model = GaussianMixtureModel(3, 2, structure)
    posterior = model.responsibilities(parameters, rows)
    statistics = model.e_step(parameters, rows)
    features = posterior.T @ features_of(structure, rows).T
    np.testing.assert_allclose(statistics["responsibilities"], features[:, 0], rtol=1e-12)
    scale = np.abs(features_of(structure, rows)).T
    atol = 1e-13 * (posterior.T @ scale)
    assert (np.abs(statistics["first"] - features[:, 1:3]) <= atol[:, 1:3]).all()
    assert (np.abs(statistics["second"] - features[:, 3:]) <= atol[:, 3:]).all()
    joint, _ = joint_by_definition(structure, parameters, rows)
    expected = np.exp(joint - np.logaddexp.reduce(joint, axis=1)[:, np.newaxis])
    np.testing.assert_allclose(posterior, np.asarray(expected, dtype=np.float64), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("structure", COVARIANCE_STRUCTURES)
def test_both_paths_agree_where_both_are_accurate(
    structure: CovarianceStructure, monkeypatch: pytest.MonkeyPatch
) -> None:
    parameters, model = parameters_of(structure), GaussianMixtureModel(3, 2, structure)
    rows = rows_near(structure, parameters)
    by_features = model.e_step(parameters, rows)
    monkeypatch.setattr(gaussian_densities, "LARGEST_CONDITION", 0.0)
    assert prepared(structure, parameters).whitened == (0, 1, 2)
    from_differences = model.e_step(parameters, rows)
    np.testing.assert_allclose(by_features.vector, from_differences.vector, rtol=1e-11, atol=1e-11)


def test_a_component_of_weight_zero_is_impossible_on_either_path() -> None:
    for width in (1.0, 1e-6):
        parameters = Parameters({**scaled("full", (1.0, width, 1.0)), "weights": [0.5, 0.0, 0.5]})
        posterior = GaussianMixtureModel(3, 2).responsibilities(parameters, rows_near("full", parameters))
        np.testing.assert_array_equal(posterior[:, 1], 0.0)
