"""Noised statistics become admissible; those of real rows stay as they are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fed_em.admissible import admissible
from fed_em.admissible_moments import Moments
from fed_em.candidates import Candidates
from fed_em.coordinates import Coordinates
from fed_em.covariance import COVARIANCE_STRUCTURES, CovarianceStructure, covariance_matrices
from fed_em.errors import CallerError, FedEmError
from fed_em.free_energy import with_log_likelihood
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.lloyd import clustered, guarded, sharpened
from fed_em.mixed_mixture import MixedMixtureModel
from fed_em.mixed_priors import MixedMixturePrior
from fed_em.model import COUNT, ENTROPY, LOG_LIKELIHOOD, MISSING_ENTROPY, Model, Summand
from fed_em.parameters import Parameters
from fed_em.priors import GaussianMixturePrior
from fed_em.records import Records
from fed_em.statistic_products import StatisticProducts
from fed_em.statistics import Statistics
from fed_em.tenant_mixing import TenantMixing
from tests.fed_em.summands import MODELS, SCHEMA, SUMMANDS, D, K, Vector, random_parameters, random_records

SEEDS = st.integers(0, 2**32 - 1)
RADII = st.floats(0.2, 20.0)

PRIOR = GaussianMixturePrior.weakly_informative(K, [0.0] * D, [1.0] * D)
OF_PRIOR: dict[str, Summand] = {
    f"{structure}, prior, no floor": GaussianMixtureModel(K, D, structure, 0.0, PRIOR)
    for structure in ("full", "tied", "diag", "spherical")
}
NO_FLOOR: dict[str, Summand] = {
    f"{structure}, no floor": GaussianMixtureModel(K, D, structure, 0.0)
    for structure in ("full", "tied", "diag", "spherical")
}
ALL = {**SUMMANDS, **OF_PRIOR, **NO_FLOOR}


def m_steps(summand: Summand, statistics: Statistics, parameters: Parameters) -> Parameters:
    """The M-step, of each candidate if there are several; validated."""
    if isinstance(summand, Candidates):
        apart = zip(summand.models, summand.statistics_of(statistics), summand.parameters_of(parameters), strict=True)
        estimate = summand.joined([model.m_step(own, at) for model, own, at in apart])
    else:
        assert isinstance(summand, Model)
        estimate = summand.m_step(statistics, parameters)
    summand.validate(estimate)
    return estimate


def wild(size: int, generator: np.random.Generator) -> Vector:
    """Any finite values: of one magnitude, of all magnitudes, at the edges of float64, or zeros."""
    signs = generator.choice([-1.0, 1.0], size)
    match int(generator.integers(0, 5)):
        case 0:
            return generator.standard_normal(size) * 10.0 ** generator.uniform(-3, 6)
        case 1:
            return signs * 10.0 ** generator.uniform(-320, 308, size)
        case 2:
            return signs * generator.choice([0.0, 5e-324, 1.0, 2.0**60, np.finfo(np.float64).max], size)
        case 3:
            return np.abs(generator.standard_normal(size)) * 10.0 ** generator.uniform(-3, 6)
        case _:
            return np.zeros(size)


@pytest.mark.parametrize("name", ALL)
@given(seed=SEEDS, radius=RADII, noised=st.booleans())
@settings(max_examples=25, deadline=None)
def test_any_finite_vector_becomes_one_that_an_m_step_can_use(
    name: str, seed: int, radius: float, noised: bool
) -> None:
    summand, generator = ALL[name], np.random.default_rng(seed)
    parameters, layout = random_parameters(summand, generator), summand.layout()
    vector = wild(layout.size, generator)
    if noised:
        # Noise on real sums, from nearly none to nothing else.
        records = random_records(summand, 50, radius, generator)
        real = summand.e_step(parameters, records).vector
        vector = real + 10.0 ** generator.uniform(-9, 3) * generator.standard_normal(layout.size)
    projected, changed = admissible(summand, Statistics(layout, vector), radius)
    assert 0 <= changed <= layout.size
    again, none = admissible(summand, projected, radius)
    assert again.vector.tobytes() == projected.vector.tobytes()
    assert none == 0
    estimate = m_steps(summand, projected, parameters)
    if isinstance(summand, GaussianMixtureModel):
        assert (np.linalg.norm(estimate["means"], axis=1) <= radius * (1 + 1e-6)).all()
        assert (estimate["covariances"] <= radius**2 * (1 + 1e-6) + 1 + 1e-6).all()


@pytest.mark.parametrize("name", ALL)
@given(seed=SEEDS, radius=RADII, n=st.integers(1, 80))
@settings(max_examples=25, deadline=None)
def test_statistics_of_real_rows_stay_as_they_are(name: str, seed: int, radius: float, n: int) -> None:
    summand, generator = ALL[name], np.random.default_rng(seed)
    parameters, records = random_parameters(summand, generator), random_records(summand, n, radius, generator)
    try:
        statistics = summand.e_step(parameters, records, summand.layout(radius=radius))
        estimate = m_steps(summand, statistics, parameters)
    except FedEmError:
        assume(False)  # the M-step cannot use them
    if name in NO_FLOOR or "moments" in name:
        # Not regular by the chance of rounding, nor by the guard of empty components.
        structure = summand.covariance if isinstance(summand, GaussianMixtureModel) else "full"
        matrices = covariance_matrices(structure, estimate["covariances"], estimate["means"])
        assume(np.linalg.eigvalsh(matrices).min() > 1e-11 * radius**2)
        assume(name not in NO_FLOOR or statistics["responsibilities"].min() > 1e-6)
    same, changed = admissible(summand, statistics, radius)
    assert changed == 0
    assert same.layout == statistics.layout
    assert same.vector.tobytes() == statistics.vector.tobytes()


@pytest.mark.parametrize("name", [name for name, model in MODELS.items() if hasattr(model, "component_blocks")])
@given(seed=SEEDS, radius=RADII)
@settings(max_examples=15, deadline=None)
def test_every_part_ends_in_its_range(name: str, seed: int, radius: float) -> None:
    model, generator = MODELS[name], np.random.default_rng(seed)
    assert isinstance(model, GaussianMixtureModel | MixedMixtureModel)
    layout = model.layout()
    statistics, _ = admissible(model, Statistics(layout, wild(layout.size, generator)), radius)
    counts, slack = statistics["responsibilities"], 1 + 1e-8
    total = float(counts.sum())
    assert (counts >= 0).all()
    assert float(statistics[COUNT]) == pytest.approx(total, rel=1e-8)
    assert -1e-8 * total <= float(statistics[ENTROPY]) <= total * (np.log(model.n_components) + 1e-8)
    if model.gaussian is not None:
        assert (np.linalg.norm(statistics["first"], axis=1) <= counts * radius * slack + 1e-200).all()
    if MISSING_ENTROPY in layout.offsets:
        assert statistics[MISSING_ENTROPY] == 0
    if not isinstance(model, MixedMixtureModel):
        return
    column = counts[:, np.newaxis] * slack + 1e-200
    for levels in model.schema.level_slices:
        shown = statistics["level_counts"][:, levels]
        assert (shown >= 0).all()
        assert (shown.sum(axis=1, keepdims=True) <= column).all()
    yes, no = statistics["successes"], statistics["failures"]
    assert ((yes >= 0) & (no >= 0) & (yes + no <= column)).all()
    events, exposure = statistics["events"], statistics["exposure"]
    assert ((exposure >= 0) & (exposure <= column)).all()
    assert ((events >= 0) & (events <= exposure * model.schema.upper_counts * slack + 1e-200)).all()


def noised(model: Summand, parameters: Parameters, changes: dict[str, Vector], n: int = 60) -> Statistics:
    """Of `n` real records, some parts of which are replaced."""
    statistics = model.e_step(parameters, random_records(model, n, 3.0, np.random.default_rng(11)).rows)
    parts = {block.name: statistics[block.name].copy() for block in statistics.layout}
    for name, values in changes.items():
        parts[name][:] = values
    return Statistics.of(statistics.layout, parts)


def test_a_component_without_mass_gets_the_moments_of_the_others() -> None:
    model = GaussianMixtureModel(K, D)
    parameters = Parameters(
        {
            "weights": np.array([0.3, 0.3, 0.4]),
            "means": np.array([[-1.0, 0, 0], [1, 0, 0], [0, 1, 0]]),
            "covariances": np.tile(np.eye(D), (K, 1, 1)),
        }
    )
    real = noised(model, parameters, {})
    statistics = noised(
        model, parameters, {"responsibilities": real["responsibilities"] * [1.0, 0.0, 1.0] - [0.0, 7.0, 0.0]}
    )
    projected, changed = admissible(model, statistics, 3.0)
    assert changed == 1
    others = [0, 2]
    mass = real["responsibilities"][others].sum()
    assert projected["responsibilities"][1] == 1.0
    np.testing.assert_allclose(projected["first"][1], real["first"][others].sum(axis=0) / mass)
    np.testing.assert_allclose(projected["second"][1], real["second"][others].sum(axis=0) / mass)
    np.testing.assert_array_equal(projected["second"][others], real["second"][others])
    assert float(projected[COUNT]) == pytest.approx(mass + 1)


def test_an_indefinite_covariance_is_clipped_where_it_is_and_only_there() -> None:
    """By hand: masses 10, means 0, second moments diag(4, 1, −2); R = 3, so the last becomes 0.04 · 9 / 3 = 0.12."""
    model = GaussianMixtureModel(1, D)
    layout = model.layout()
    parts = {
        **{name: np.zeros(layout[name].shape) for name in layout.offsets},
        COUNT: np.array(10.0),
        "responsibilities": np.array([10.0]),
        "second": np.array([[40.0, 0, 0, 10.0, 0, -20.0]]),
    }
    projected, changed = admissible(model, Statistics.of(layout, parts), 3.0)
    assert changed == 1
    np.testing.assert_allclose(projected["second"], [[40.0, 0, 0, 10.0, 0, 1.2]], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("structure", COVARIANCE_STRUCTURES)
def test_variances_that_noise_hides_are_raised_to_what_it_does_not(structure: CovarianceStructure) -> None:
    """Of K = 2 components with 5 000 rows each, whose last column is nearly constant; noise of σ = 100 on each second moment."""
    model, generator = GaussianMixtureModel(2, 4, structure), np.random.default_rng(4)
    rows = generator.standard_normal((10_000, 4)) * ([0.03] * 4 if structure == "spherical" else [1.0, 0.8, 0.5, 0.01])
    labels = np.repeat(np.eye(2, dtype=np.bool_), 5000, axis=0)
    statistics = model.e_step(random_parameters(model, generator), Records(np.clip(rows, -2, 2), admissible=labels))
    same, none = admissible(model, statistics, 6.0)
    projected, changed = admissible(model, statistics, 6.0, {"second": 100.0})
    assert none == 0
    assert same.vector.tobytes() == statistics.vector.tobytes()
    assert changed == 2
    again, none = admissible(model, projected, 6.0, {"second": 100.0})
    assert none == 0
    assert again.vector.tobytes() == projected.vector.tobytes()
    moments = Moments(structure, *(projected[name] for name in ("responsibilities", "first", "second")))
    before = Moments(structure, *(statistics[name] for name in ("responsibilities", "first", "second")))
    edge = {"full": 0.08, "tied": 0.04 * np.sqrt(2), "diag": 0.04, "spherical": 0.02}[structure]
    np.testing.assert_allclose(np.min(spectra(moments)), edge, rtol=1e-9)
    larger = spectra(before) > edge
    np.testing.assert_allclose(spectra(moments)[larger], spectra(before)[larger], rtol=1e-9)


def spectra(moments: Moments) -> Vector:
    covariances = moments.covariances
    return np.linalg.eigvalsh(covariances) if moments.structure in ("full", "tied") else covariances


def test_noise_of_candidates_is_that_of_each() -> None:
    model = GaussianMixtureModel(K, D)
    both = Candidates((model, model))
    parameters = random_parameters(both, np.random.default_rng(5))
    statistics = noised(both, parameters, {}, n=5000)
    _, changed = admissible(both, statistics, 3.0, {"1.second": 1e9})
    _, of_one = admissible(model, both.statistics_of(statistics)[1], 3.0, {"second": 1e9})
    assert changed == of_one > 0


def test_levels_are_projected_onto_the_simplex() -> None:
    """By hand, of mass 10: (8, 6, −3) is beyond it by 4, which both positive ones give up in equal parts."""
    model = MixedMixtureModel(1, SCHEMA)
    parameters = random_parameters(model, np.random.default_rng(1))
    mass = 10.0
    statistics = noised(model, parameters, {"level_counts": np.array([[8.0, 6.0, -3.0, 4.0, -1.0]])}, n=10)
    projected, changed = admissible(model, statistics, 3.0)
    assert changed == 1
    assert float(projected["responsibilities"][0]) == pytest.approx(mass)
    np.testing.assert_allclose(projected["level_counts"], [[6.0, 4.0, 0.0, 4.0, 0.0]], atol=1e-12)


def test_the_count_may_be_left_out_of_a_sum() -> None:
    for name in ("gaussian, full", "discrete", "observed moments", "moments"):
        model = MODELS[name]
        parameters = random_parameters(model, np.random.default_rng(1))
        real = noised(model, parameters, {})
        vector = real.vector.copy()
        vector[real.layout.offsets[COUNT]] = 0.0
        found, changed = admissible(model, Statistics(real.layout, vector), 3.0)
        assert changed == 0
        np.testing.assert_allclose(found.vector, real.vector, rtol=1e-12)


def test_candidates_count_the_same_records() -> None:
    """Each is scaled to their mean, which leaves its parameters."""
    model = GaussianMixtureModel(K, D)
    both = Candidates((model, model))
    parameters = random_parameters(both, np.random.default_rng(5))
    real = noised(both, parameters, {})
    moved = noised(both, parameters, {"1.responsibilities": real["1.responsibilities"] + 1.0})
    projected, _ = admissible(both, moved, 3.0)
    assert float(projected[COUNT]) == pytest.approx(60 + K / 2)
    for own in both.statistics_of(projected):
        assert own["responsibilities"].sum() == pytest.approx(60 + K / 2)
    before, after = (
        model.m_step(both.statistics_of(each)[0], both.parameters_of(parameters)[0]) for each in (moved, projected)
    )
    assert before.distance(after) < 1e-9


@given(seed=SEEDS)
@settings(max_examples=20, deadline=None)
def test_rounds_of_lloyd_go_on_from_noise(seed: int) -> None:
    generator = np.random.default_rng(seed)
    for name in ("gaussian, full", "gaussian, diag", "mixed, full"):
        model = MODELS[name]
        assert isinstance(model, GaussianMixtureModel | MixedMixtureModel)
        moments = {"rates": np.ones((1, 2))}
        safe = guarded(model, Parameters(moments))
        before = sharpened(model, random_parameters(model, generator))
        projected, _ = admissible(safe, Statistics(model.layout(), wild(model.layout().size, generator)), 3.0)
        model.validate(clustered(safe, projected, before))


def test_noised_moments_standardise() -> None:
    for name in ("moments", "observed moments"):
        model = MODELS[name]
        for seed in range(20):
            generator = np.random.default_rng(seed)
            vector = wild(model.layout().size, generator)
            projected, _ = admissible(model, Statistics(model.layout(), vector), np.sqrt(D))
            estimate = m_steps(model, projected, random_parameters(model, generator))
            Coordinates.standardising(estimate, Coordinates.identity(D))


@pytest.mark.parametrize("name", ALL)
@given(seed=SEEDS, radius=RADII, n=st.integers(1, 60))
@settings(max_examples=15, deadline=None)
def test_the_free_energy_stands_in_for_the_log_likelihood(name: str, seed: int, radius: float, n: int) -> None:
    summand, generator = ALL[name], np.random.default_rng(seed)
    parameters = random_parameters(summand, generator)
    rows = random_records(summand, n, radius, generator).rows
    try:
        whole = summand.e_step(parameters, Records(rows))
    except FedEmError:
        assume(False)
    places = [whole.layout.offsets[name] for name in whole.layout.offsets if name.endswith(LOG_LIKELIHOOD)]
    vector = whole.vector.copy()
    for place in places:
        vector[place] = 0.0
    found = with_log_likelihood(summand, Statistics(whole.layout, vector), parameters)
    # Relative to the sum of absolute log-densities, which may cancel.
    scale = max(1.0, n, float(np.abs(whole.vector).max()))
    for place in places:
        np.testing.assert_allclose(found.vector[place], whole.vector[place], rtol=1e-9, atol=1e-9 * scale)
        vector[place] = found.vector[place]
    assert found.vector.tobytes() == vector.tobytes()


def test_what_cannot_be_projected_is_refused() -> None:
    model = GaussianMixtureModel(K, D)
    statistics = Statistics.zero(model.layout())
    with pytest.raises(CallerError, match="radius"):
        admissible(model, statistics, 0.0)
    with pytest.raises(CallerError, match="not finite"):
        admissible(model, Statistics(model.layout(), np.full(model.layout().size, np.nan)), 1.0)
    products = StatisticProducts(model)
    with pytest.raises(CallerError, match="statistic-products"):
        admissible(products, Statistics.zero(products.layout()), 1.0)
    with pytest.raises(CallerError, match="no log-likelihood"):
        with_log_likelihood(
            products, Statistics.zero(products.layout()), random_parameters(model, np.random.default_rng(1))
        )
    own = GaussianMixtureModel(K, D, mixing=TenantMixing())
    with pytest.raises(CallerError, match="each tenant's own"):
        admissible(own, Statistics.zero(own.layout()), 1.0)


def test_priors_of_mixed_models_admit_what_is_flat() -> None:
    """Without a floor, a prior alone keeps covariances regular: two equal rows stay as they are."""
    prior = MixedMixturePrior(gaussian=GaussianMixturePrior.weakly_informative(K, [0.0] * 2, [1.0] * 2))
    model = MixedMixtureModel(K, SCHEMA, covariance_floor=0.0, prior=prior)
    parameters = random_parameters(model, np.random.default_rng(2))
    rows = np.repeat(random_records(model, 1, 3.0, np.random.default_rng(3)).rows, 2, axis=0)
    statistics = model.e_step(parameters, rows)
    same, changed = admissible(model, statistics, 3.0)
    assert changed == 0
    assert same.vector.tobytes() == statistics.vector.tobytes()
