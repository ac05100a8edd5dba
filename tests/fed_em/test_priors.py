"""The conjugate prior: its density against scipy's, its posterior mode against Fraley and Raftery's formulas."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import dirichlet, invgamma, invwishart, multivariate_normal

from fed_em.coordinates import Coordinates
from fed_em.covariance import CovarianceStructure, covariance_matrices
from fed_em.errors import CallerError
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.parameters import Parameters
from fed_em.priors import GaussianMixturePrior

PRIOR = GaussianMixturePrior((0.5, -0.2), (0.6, 1.1), 0.7, 5.0, 2.5)
STRUCTURES: tuple[CovarianceStructure, ...] = ("full", "tied", "diag", "spherical")


def random_parameters(structure: CovarianceStructure, seed: int) -> Parameters:
    generator = np.random.default_rng(seed)
    factors = generator.normal(size=(3, 2, 2)) + 1.5 * np.eye(2)
    matrices = factors @ np.swapaxes(factors, 1, 2) + 0.5 * np.eye(2)
    return Parameters(
        {
            "weights": generator.dirichlet(np.ones(3)),
            "means": generator.normal(size=(3, 2)),
            "covariances": {
                "full": matrices,
                "tied": matrices[0],
                "diag": generator.gamma(3.0, size=(3, 2)),
                "spherical": generator.gamma(3.0, size=3),
            }[structure],
        }
    )


def log_density_by_scipy(structure: CovarianceStructure, parameters: Parameters) -> float:
    covariances, means = parameters["covariances"], parameters["means"]
    total = dirichlet(np.full(3, 2.5)).logpdf(parameters["weights"])
    for mean, matrix in zip(means, covariance_matrices(structure, covariances, means), strict=True):
        total += multivariate_normal(PRIOR.mean, matrix / 0.7).logpdf(mean)
    if structure == "full":
        total += sum(invwishart(5.0, np.diag(PRIOR.scale)).logpdf(matrix) for matrix in covariances)
    elif structure == "tied":
        total += invwishart(5.0, np.diag(PRIOR.scale)).logpdf(covariances)
    elif structure == "diag":
        total += invgamma(2.5, scale=np.array(PRIOR.scale) / 2).logpdf(covariances).sum()
    else:
        total += invgamma(2.5, scale=np.mean(PRIOR.scale) / 2).logpdf(covariances).sum()
    return float(total)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_the_log_density_is_scipys_up_to_a_constant(structure: CovarianceStructure) -> None:
    model = GaussianMixtureModel(3, 2, structure, prior=PRIOR)
    differences = []
    for seed in range(6):
        parameters = random_parameters(structure, seed)
        differences.append(model.log_prior(parameters) - log_density_by_scipy(structure, parameters))
    np.testing.assert_allclose(differences, differences[0], rtol=0, atol=1e-9)


def test_the_posterior_mode_is_that_of_fraley_and_raftery() -> None:
    """Table 2, unconstrained covariances: the published form, with scatter W_k about the component's own mean."""
    rows = np.random.default_rng(0).normal(size=(40, 2)) @ [[1.0, 0.4], [0.0, 0.8]]
    model = GaussianMixtureModel(1, 2, "full", covariance_floor=0.0, prior=PRIOR)
    start = Parameters({"weights": [1.0], "means": [[0.0, 0.0]], "covariances": [np.eye(2)]})
    mode = model.m_step(model.e_step(start, rows), start)
    own_mean, n, kappa = rows.mean(axis=0), 40, 0.7
    own_scatter = (rows - own_mean).T @ (rows - own_mean)
    between = own_mean - PRIOR.mean
    shrinkage = kappa * n / (kappa + n) * np.outer(between, between)
    expected = (np.diag(PRIOR.scale) + shrinkage + own_scatter) / (5.0 + n + 2 + 2)
    np.testing.assert_allclose(mode["covariances"][0], expected, rtol=1e-12)
    np.testing.assert_allclose(mode["means"][0], (n * own_mean + kappa * np.array(PRIOR.mean)) / (n + kappa))


def test_the_weights_are_shrunk_towards_equality() -> None:
    model = GaussianMixtureModel(2, 2, prior=PRIOR)
    rows = np.random.default_rng(0).normal(size=(10, 2))
    responsibilities = np.repeat([[1.0, 0.0]], 10, axis=0)
    weights = model.m_step_of_responsibilities(responsibilities, rows)["weights"]
    np.testing.assert_allclose(weights, [11.5 / 13, 1.5 / 13])


@pytest.mark.parametrize("structure", ["full", "tied", "diag"])
def test_the_mode_does_not_depend_on_the_units(structure: CovarianceStructure) -> None:
    rows = np.random.default_rng(3).normal(size=(80, 2)) * [3.0, 0.2] + [100.0, -4.0]
    coordinates = Coordinates(rows.mean(axis=0), rows.std(axis=0))
    responsibilities = np.random.default_rng(4).dirichlet([1.0, 1.0], size=80)
    prior = GaussianMixturePrior.weakly_informative(2, [99.0, -4.0], [8.0, 0.05])
    original = GaussianMixtureModel(2, 2, structure, covariance_floor=0.0, prior=prior)
    standard = GaussianMixtureModel(2, 2, structure, 0.0, prior.in_coordinates(coordinates))
    ours = original.m_step_of_responsibilities(responsibilities, rows)
    theirs = standard.m_step_of_responsibilities(responsibilities, coordinates.apply(rows))
    scale = np.diag(coordinates.scale)
    restored = {
        "full": lambda c: scale @ c @ scale,
        "tied": lambda c: scale @ c @ scale,
        "diag": lambda c: c * coordinates.scale**2,
    }[structure](theirs["covariances"])
    np.testing.assert_allclose(restored, ours["covariances"], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(coordinates.restore(theirs["means"]), ours["means"], rtol=1e-12)


def test_the_weak_prior_is_that_of_the_paper() -> None:
    prior = GaussianMixturePrior.weakly_informative(4, [1.0, 2.0], [3.0, 5.0])
    assert prior == GaussianMixturePrior((1.0, 2.0), (0.75, 1.25), 0.01, 4.0, 1.0)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"mean": (1.0, float("nan"))}, "mean of column 1"),
        ({"mean": ()}, "mean"),
        ({"mean": 3.0}, "mean"),
        ({"mean": "ab"}, "mean"),
        ({"scale": (1.0, 0.0)}, "scale of column 1"),
        ({"scale": (1.0,)}, "columns"),
        ({"mean_precision": 0.0}, "mean_precision"),
        ({"degrees_of_freedom": -1.0}, "degrees_of_freedom"),
        ({"weight_concentration": 0.5}, "weight_concentration"),
        ({"weight_concentration": 10**400}, "weight_concentration"),
    ],
)
def test_a_value_out_of_range_is_named(fields: dict[str, object], named: str) -> None:
    good = {"mean": (0.0, 0.0), "scale": (1.0, 1.0), "mean_precision": 0.1, "degrees_of_freedom": 4.0}
    with pytest.raises(CallerError, match=named):
        GaussianMixturePrior.from_description({**good, **fields})


def test_an_improper_wishart_is_refused_where_it_matters() -> None:
    prior = GaussianMixturePrior((0.0,) * 4, (1.0,) * 4, 0.1, 3.0)
    GaussianMixtureModel(2, 4, "diag", prior=prior)
    with pytest.raises(CallerError, match="degrees_of_freedom"):
        GaussianMixtureModel(2, 4, "full", prior=prior)
