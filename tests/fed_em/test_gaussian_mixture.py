"""Gaussian mixtures against their definition, against scikit-learn, and at their edges."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import multivariate_normal
from sklearn.mixture import GaussianMixture as ScikitLearn

from fed_em.covariance import COVARIANCE_STRUCTURES, CovarianceStructure, covariance_matrices, unvech
from fed_em.em import Stopping, fit
from fed_em.errors import CallerError, FedEmError
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.initialisation import standard_gaussian
from fed_em.parameters import Parameters
from fed_em.priors import GaussianMixturePrior
from fed_em.totals import TotalOfRows
from tests.fed_em.conformance import ModelConformance
from tests.fed_em.kernel_choice import both_kernels as both_kernels  # noqa: PLC0414  every test runs twice
from tests.fed_em.row_statistics import gaussian_statistics

Vector = NDArray[np.float64]

MATRIX = np.array([[1.0, 0.3, -0.1], [0.3, 0.7, 0.2], [-0.1, 0.2, 0.5]])
COVARIANCES: dict[CovarianceStructure, Vector] = {
    "full": np.stack((MATRIX, 1.5 * np.eye(3) - 0.2)),
    "tied": MATRIX,
    "diag": np.array([[1.0, 0.7, 0.5], [0.4, 1.2, 0.9]]),
    "spherical": np.array([0.8, 1.3]),
}
PRIOR = GaussianMixturePrior(
    mean=(0.5, -0.2, 0.1),
    scale=(0.6, 1.1, 0.9),
    mean_precision=0.7,
    degrees_of_freedom=6.0,
    weight_concentration=2.5,
)


def two_components(structure: CovarianceStructure, distance: float = 2.5) -> Parameters:
    return Parameters(
        {
            "weights": np.array([0.35, 0.65]),
            "means": distance * np.array([[1.0, -0.6, 0.5], [-0.8, 0.7, -0.4]]),
            "covariances": COVARIANCES[structure],
        }
    )


def components(structure: CovarianceStructure, parameters: Parameters) -> list[tuple[float, Vector, Vector]]:
    matrices = covariance_matrices(structure, parameters["covariances"], parameters["means"])
    return list(zip(parameters["weights"].tolist(), parameters["means"], matrices, strict=True))


class GaussianMixtureConformance(ModelConformance):
    structure: CovarianceStructure
    prior: GaussianMixturePrior | None = None

    def model(self) -> GaussianMixtureModel:
        return GaussianMixtureModel(2, 3, self.structure, covariance_floor=0.0, prior=self.prior)

    def truth(self) -> Parameters:
        return two_components(self.structure)

    def start(self) -> Parameters:
        truth = self.truth()
        return Parameters(
            {
                "weights": np.array([0.5, 0.5]),
                "means": truth["means"] + np.array([0.6, 0.5, -0.7]),
                "covariances": 1.8 * truth["covariances"],
            }
        )

    def log_density_by_definition(self, parameters: Parameters, row: Vector) -> float:
        densities = [
            weight * multivariate_normal(mean, matrix).pdf(row)
            for weight, mean, matrix in components(self.structure, parameters)
        ]
        return math.log(sum(densities))

    def statistics_by_definition(self, parameters: Parameters, row: Vector, component: int) -> dict[str, Vector]:
        return gaussian_statistics(self.structure, parameters, row, component, self.model().missing)

    def nearby(self, parameters: Parameters, generator: np.random.Generator, size: float) -> Parameters:
        weights = parameters["weights"] * np.exp(size * generator.standard_normal(2))
        covariances = parameters["covariances"]
        noise = size * generator.standard_normal(covariances.shape)
        if self.structure in ("full", "tied"):
            noise = (noise + np.swapaxes(noise, -1, -2)) / 2
        return Parameters(
            {
                "weights": weights / weights.sum(),
                "means": parameters["means"] + size * generator.standard_normal((2, 3)),
                "covariances": covariances + noise,
            }
        )


class TestFull(GaussianMixtureConformance):
    structure = "full"


class TestTied(GaussianMixtureConformance):
    structure = "tied"


class TestDiag(GaussianMixtureConformance):
    structure = "diag"


class TestSpherical(GaussianMixtureConformance):
    structure = "spherical"


class TestFullWithPrior(GaussianMixtureConformance):
    structure = "full"
    prior = PRIOR


class TestTiedWithPrior(GaussianMixtureConformance):
    structure = "tied"
    prior = PRIOR


class TestDiagWithPrior(GaussianMixtureConformance):
    structure = "diag"
    prior = PRIOR


class TestSphericalWithPrior(GaussianMixtureConformance):
    structure = "spherical"
    prior = PRIOR


@pytest.mark.parametrize("structure", COVARIANCE_STRUCTURES)
def test_statistics_are_those_by_definition(structure: CovarianceStructure) -> None:
    model, parameters = GaussianMixtureModel(2, 3, structure), two_components(structure, distance=0.6)
    rows = model.sample(parameters, 25, np.random.default_rng(0))[0]
    joint = np.array(
        [[w * multivariate_normal(m, c).pdf(row) for w, m, c in components(structure, parameters)] for row in rows]
    )
    posterior = joint / joint.sum(axis=1, keepdims=True)
    statistics = model.e_step(parameters, rows)
    second = np.einsum("nk,ni,nj->kij", posterior, rows, rows)
    if structure in ("full", "tied"):
        np.testing.assert_allclose(unvech(statistics["second"], 3), second, rtol=1e-12)
    else:
        np.testing.assert_allclose(statistics["second"], np.diagonal(second, axis1=1, axis2=2), rtol=1e-12)
    np.testing.assert_allclose(statistics["first"], posterior.T @ rows, rtol=1e-11)
    np.testing.assert_allclose(statistics["responsibilities"], posterior.sum(axis=0), rtol=1e-12)
    np.testing.assert_allclose(statistics["entropy"], -(posterior * np.log(posterior)).sum(), rtol=1e-11)
    np.testing.assert_allclose(model.responsibilities(parameters, rows), posterior, rtol=1e-11)


@pytest.mark.parametrize("structure", COVARIANCE_STRUCTURES)
@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning:sklearn")
@pytest.mark.parametrize("share", [0.3, 1e-17, 0.0], ids=["ordinary", "one nearly empty", "one empty"])
def test_the_m_step_is_that_of_scikit_learn(structure: CovarianceStructure, share: float) -> None:
    rows = np.random.default_rng(2).normal(size=(300, 3)) * [1.0, 0.5, 2.0]
    reference = ScikitLearn(3, covariance_type=structure, max_iter=2, tol=1e9, random_state=0).fit(rows)
    reference.weights_ = np.array([0.4, 0.6 - share, share])
    parameters = Parameters(
        {"weights": reference.weights_, "means": reference.means_, "covariances": reference.covariances_}
    )
    _, log_responsibilities = reference._e_step(rows)
    reference._m_step(rows, log_responsibilities)
    model = GaussianMixtureModel(3, 3, structure, covariance_floor=1e-6)
    updated = model.m_step(model.e_step(parameters, rows), parameters)
    expected = {
        "weights": reference.weights_,
        "means": reference.means_,
        "covariances": reference.covariances_,
    }
    assert updated.distance(Parameters(expected)) < 1e-11


def test_a_count_just_below_zero_counts_as_zero() -> None:
    """The rounding of an encoded sum may leave such a count."""
    model, parameters = GaussianMixtureModel(2, 3), two_components("full")
    statistics = model.e_step(
        Parameters({**parameters, "weights": np.array([1.0, 0.0])}), np.random.default_rng(1).normal(size=(50, 3))
    )
    statistics["responsibilities"][1] = -1e-9
    updated = model.m_step(statistics, parameters)
    model.validate(updated)
    assert 0 <= updated["weights"][1] < 1e-15


@pytest.mark.parametrize("structure", COVARIANCE_STRUCTURES)
def test_a_collapsed_component_stays_a_number(structure: CovarianceStructure) -> None:
    model = GaussianMixtureModel(2, 3, structure)
    start = dict(two_components(structure))
    start["means"] = np.array([[0.0, 0.0, 0.0], [1e4, 1e4, 1e4]])
    rows = np.random.default_rng(1).normal(size=(50, 3))
    updated = model.m_step(model.e_step(Parameters(start), rows), Parameters(start))
    model.validate(updated)
    assert updated["weights"][1] < 1e-15
    again = model.m_step(model.e_step(updated, rows), updated)
    model.validate(again)


def test_a_component_of_weight_zero_gets_nothing() -> None:
    model = GaussianMixtureModel(2, 3)
    parameters = Parameters({**two_components("full"), "weights": np.array([1.0, 0.0])})
    model.validate(parameters)
    statistics = model.e_step(parameters, np.random.default_rng(1).normal(size=(50, 3)))
    assert statistics["responsibilities"][1] == 0.0
    assert statistics["entropy"] == 0.0
    assert np.isfinite(statistics.vector).all()


def test_a_component_that_is_not_positive_definite_is_named() -> None:
    model = GaussianMixtureModel(2, 3)
    covariances = COVARIANCES["full"].copy()
    covariances[1] = np.ones((3, 3))
    parameters = Parameters({**two_components("full"), "covariances": covariances})
    with pytest.raises(FedEmError, match="component 1") as caught:
        model.e_step(parameters, np.zeros((1, 3)))
    assert "covariance floor" in caught.value.remedy
    with pytest.raises(CallerError, match=r"covariances.*component 1"):
        model.validate(parameters)


@pytest.mark.parametrize("structure", COVARIANCE_STRUCTURES)
def test_identical_rows_need_a_floor_or_a_prior(structure: CovarianceStructure) -> None:
    rows = np.zeros((20, 3))
    parameters = two_components(structure)
    bare = GaussianMixtureModel(2, 3, structure, covariance_floor=0.0)
    with pytest.raises(FedEmError, match=r"covariance|variance"):
        bare.m_step(bare.e_step(parameters, rows), parameters)
    for model in (
        GaussianMixtureModel(2, 3, structure, covariance_floor=1e-3),
        GaussianMixtureModel(2, 3, structure, covariance_floor=0.0, prior=PRIOR),
    ):
        model.validate(model.m_step(model.e_step(parameters, rows), parameters))


def test_a_prior_bounds_a_likelihood_that_has_no_maximum() -> None:
    rows = np.concatenate((np.zeros((30, 1)), np.random.default_rng(0).normal(size=(70, 1))))
    start = Parameters({"weights": [0.5, 0.5], "means": [[0.0], [0.1]], "covariances": [[[1e-4]], [[1.0]]]})
    bare = GaussianMixtureModel(2, 1, covariance_floor=0.0)
    with pytest.raises(FedEmError):
        fit(bare, TotalOfRows(bare, rows), start, Stopping(0.0, 500))
    prior = GaussianMixturePrior.weakly_informative(2, [0.0], [1.0])
    model = GaussianMixtureModel(2, 1, covariance_floor=0.0, prior=prior)
    run = fit(model, TotalOfRows(model, rows), start, Stopping(1e-12, 500))
    assert run.converged
    assert run.parameters["covariances"].min() > 1e-3


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_rows_that_are_not_finite_are_refused(value: float) -> None:
    rows = np.zeros((700, 3))
    rows[699, 1] = value
    model = GaussianMixtureModel(2, 3)
    with pytest.raises(CallerError, match="not finite"):
        model.e_step(two_components("full"), rows)
    if np.isnan(value):
        return  # a missing cell, of which a density is
    for evaluate in (model.log_prob, model.responsibilities):
        with pytest.raises(CallerError, match="not finite"):
            evaluate(two_components("full"), rows)


def test_a_row_beyond_all_density_is_an_error_and_not_a_number() -> None:
    model = GaussianMixtureModel(2, 3)
    with pytest.raises(FedEmError, match="far from every component"):
        model.e_step(two_components("full"), np.full((1, 3), 1e200))


@pytest.mark.parametrize("shape", [(3,), (4, 2), (2, 2, 3)])
def test_rows_of_another_width_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(CallerError, match="columns"):
        GaussianMixtureModel(2, 3).e_step(two_components("full"), np.zeros(shape))


def test_statistics_of_no_record_have_no_maximum() -> None:
    model = GaussianMixtureModel(2, 3)
    with pytest.raises(CallerError, match="no record"):
        model.m_step(model.e_step(two_components("full"), np.empty((0, 3))), two_components("full"))


def test_wide_and_many_components_are_treated_in_parts() -> None:
    """More components and columns than one workspace holds."""
    generator = np.random.default_rng(3)
    model = GaussianMixtureModel(11, 60)
    factors = 0.1 * generator.normal(size=(11, 60, 60)) + np.eye(60)
    parameters = Parameters(
        {
            "weights": generator.dirichlet(np.ones(11)),
            "means": generator.normal(size=(11, 60)),
            "covariances": factors @ np.swapaxes(factors, 1, 2),
        }
    )
    rows = generator.normal(size=(300, 60))
    expected = np.logaddexp.reduce(
        [math.log(w) + multivariate_normal(m, c).logpdf(rows) for w, m, c in components("full", parameters)]
    )
    np.testing.assert_allclose(model.log_prob(parameters, rows), expected, rtol=1e-9)


def test_a_distant_origin_costs_few_digits() -> None:
    near = two_components("full")
    far = Parameters({**near, "means": near["means"] + 1e4})
    model = GaussianMixtureModel(2, 3)
    rows = model.sample(near, 500, np.random.default_rng(0))[0]
    np.testing.assert_allclose(model.log_prob(far, rows + 1e4), model.log_prob(near, rows), atol=1e-9)


class TestLayout:
    def test_bounds_are_those_of_the_widest_column(self) -> None:
        layout = GaussianMixtureModel(4, 3).layout(np.array([0.5, 1.0, 3.0]))
        assert [(block.name, block.shape) for block in layout] == [
            ("count", ()),
            ("log_likelihood", ()),
            ("entropy", ()),
            ("responsibilities", (4,)),
            ("first", (4, 3)),
            ("second", (4, 6)),
        ]
        assert layout["first"].bound == 3.0
        assert layout["second"].bound == 9.0
        assert layout["second"].source == "column 2"
        assert layout["entropy"].bound == math.log(4)
        assert layout["log_likelihood"].bound == 65536.0

    @pytest.mark.parametrize("structure", ["diag", "spherical"])
    def test_only_squares_are_summed_where_no_covariance_is_modelled(self, structure: CovarianceStructure) -> None:
        assert GaussianMixtureModel(4, 3, structure).layout()["second"].shape == (4, 3)

    @pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
    def test_a_useless_bound_names_its_column(self, bad: float) -> None:
        with pytest.raises(CallerError, match="column 1"):
            GaussianMixtureModel(2, 3).layout(np.array([1.0, bad, 1.0]))

    def test_a_missing_bound_is_refused(self) -> None:
        with pytest.raises(CallerError, match="3 columns"):
            GaussianMixtureModel(2, 3).layout(np.ones(2))


@pytest.mark.parametrize(
    ("structure", "expected"), [("full", 2 * 6 + 7), ("tied", 6 + 7), ("diag", 6 + 7), ("spherical", 2 + 7)]
)
def test_free_parameters_are_counted(structure: CovarianceStructure, expected: int) -> None:
    assert GaussianMixtureModel(2, 3, structure).n_free_parameters == expected


class TestValidation:
    def test_weights_are_probabilities(self) -> None:
        model = GaussianMixtureModel(2, 3)
        for weights in ([0.5, 0.6], [1.5, -0.5]):
            with pytest.raises(CallerError, match="weights"):
                model.validate(Parameters({**two_components("full"), "weights": np.array(weights)}))

    def test_covariances_are_symmetric(self) -> None:
        covariances = COVARIANCES["full"].copy()
        covariances[0, 0, 1] += 0.01
        with pytest.raises(CallerError, match="symmetric"):
            GaussianMixtureModel(2, 3).validate(Parameters({**two_components("full"), "covariances": covariances}))

    @pytest.mark.parametrize(
        "fields",
        [
            {"n_components": 0},
            {"n_components": 2.0},
            {"n_components": True},
            {"n_columns": -1},
            {"covariance": "fulll"},
            {"covariance_floor": -1e-9},
            {"covariance_floor": float("nan")},
            {"prior": PRIOR, "n_columns": 4},
            {"prior": {"mean": [0.0]}},
        ],
    )
    def test_a_description_out_of_range_is_refused(self, fields: dict[str, object]) -> None:
        with pytest.raises(CallerError):
            GaussianMixtureModel(**{"n_components": 2, "n_columns": 3, **fields})  # type: ignore[arg-type]


def test_given_responsibilities_lead_to_their_m_step() -> None:
    rows = np.random.default_rng(4).normal(size=(60, 3))
    for structure in COVARIANCE_STRUCTURES:
        for prior in (None, PRIOR):
            model = GaussianMixtureModel(2, 3, structure, prior=prior)
            at = two_components(structure, distance=0.5)
            one_pass = model.m_step(model.e_step(at, rows), at)
            two_pass = model.m_step_of_responsibilities(model.responsibilities(at, rows), rows)
            assert two_pass.distance(one_pass) < 1e-12


def test_single_rows_can_make_components_even_on_a_wide_scale() -> None:
    """The variance of a component of one row is the floor, although the rows spread over 1e6."""
    rows = 1e6 * np.random.default_rng(4).normal(size=(5, 3))
    model = GaussianMixtureModel(5, 3, covariance_floor=1e-6)
    parameters = model.m_step_of_responsibilities(np.eye(5), rows)
    np.testing.assert_allclose(parameters["covariances"], np.tile(1e-6 * np.eye(3), (5, 1, 1)), rtol=1e-6, atol=1e-12)


def test_one_gaussian_has_the_sample_moments() -> None:
    rows = np.random.default_rng(5).normal(size=(100, 3)) @ MATRIX
    model = GaussianMixtureModel(1, 3, covariance_floor=0.0)
    moments = model.m_step(model.e_step(standard_gaussian(3), rows), standard_gaussian(3))
    np.testing.assert_allclose(moments["means"][0], rows.mean(axis=0), atol=1e-13)
    np.testing.assert_allclose(moments["covariances"][0], np.cov(rows.T, bias=True), atol=1e-13)
