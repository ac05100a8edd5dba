"""What one record can add to each block, in norm: never more than the layout says, and some record adds that much."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fed_em.ball import Reach
from fed_em.candidates import Candidates
from fed_em.component_counts import MASS, OBSERVED_MASS, OBSERVED_SUPPORTING, SUPPORTING, component_counts
from fed_em.covariance import COVARIANCE_STRUCTURES
from fed_em.errors import CallerError
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.layout import Block, Layout
from fed_em.mixed_mixture import MixedMixtureModel
from fed_em.mixed_moments import MixedMomentsModel
from fed_em.model import COUNT, ENTROPY, LOG_LIKELIHOOD, MISSING_ENTROPY
from fed_em.parameters import Parameters
from fed_em.records import Records
from fed_em.resampling import Resampled
from fed_em.statistics import Statistics
from fed_em.tenant_mixing import TenantMixing
from tests.fed_em.summands import (
    DISCRETE,
    MODELS,
    SCHEMA,
    SUMMANDS,
    D,
    K,
    Vector,
    random_parameters,
    random_records,
    schema_of,
)

RADII = st.floats(0.1, 30.0)
SEEDS = st.integers(0, 2**32 - 1)


def norms_of(statistics: Statistics) -> dict[str, float]:
    return {block.name: float(np.linalg.norm(statistics[block.name])) for block in statistics.layout}


@pytest.mark.parametrize("name", SUMMANDS)
@given(seed=SEEDS, radius=RADII, n=st.integers(1, 6))
@settings(max_examples=25, deadline=None)
def test_one_record_changes_no_block_by_more_than_its_norm(name: str, seed: int, radius: float, n: int) -> None:
    summand, generator = SUMMANDS[name], np.random.default_rng(seed)
    parameters, records = random_parameters(summand, generator), random_records(summand, n, radius, generator)
    layout = summand.layout(radius=radius)
    whole, others = summand.e_step(parameters, records, layout), summand.e_step(parameters, records[1:], layout)
    changed = norms_of(whole - others)
    rounding = 1e-9 * n
    for block in layout:
        assert changed[block.name] <= block.norm * (1 + rounding), block.name
        assert block.norm <= block.bound * math.sqrt(block.size)
    # The rule of joint noise: with any shares, Σ share_b (‖Δ_b‖ / norm_b)² ≤ 1.
    noised = [block for block in layout if block.norm > 0 and not block.name.endswith(LOG_LIKELIHOOD)]
    shares = generator.dirichlet(np.full(len(noised), 0.5))
    together = sum(p * (changed[b.name] / b.norm) ** 2 for p, b in zip(shares, noised, strict=True))
    assert together <= (1 + rounding) ** 2


@pytest.mark.parametrize("name", SUMMANDS)
@given(seed=SEEDS, radius=RADII)
@settings(max_examples=10, deadline=None)
def test_columns_narrower_than_the_ball_narrow_the_norms(name: str, seed: int, radius: float) -> None:
    summand, generator = SUMMANDS[name], np.random.default_rng(seed)
    bounds = radius * generator.uniform(0.05, 1.5, summand.n_columns)
    records = random_records(summand, 4, radius, generator)
    schema = schema_of(summand)
    places = np.arange(summand.n_columns) if schema is None else schema.gaussian
    rows = records.rows.copy()
    rows[:, places] = np.clip(rows[:, places], -bounds[places], bounds[places])
    records = Records(rows, records.weights, records.admissible)
    layout, of_ball = summand.layout(bounds, radius), summand.layout(radius=radius)
    changed = norms_of(summand.e_step(random_parameters(summand, generator), records[:1], layout))
    for block in layout:
        assert changed[block.name] <= block.norm * (1 + 1e-9), block.name
        assert block.norm <= of_ball[block.name].norm * (1 + 1e-12), block.name


def certain(model: GaussianMixtureModel | MixedMixtureModel) -> Parameters:
    """Component 0 has all of a record; the others are as likely once they are admissible."""
    parameters = random_parameters(model, np.random.default_rng(1))
    return Parameters({**parameters, "weights": np.eye(model.n_components)[0]})


def blurred(model: GaussianMixtureModel | MixedMixtureModel) -> Parameters:
    """All components are the same, so that each has its part of a record."""
    parameters = random_parameters(model, np.random.default_rng(1))
    shared = () if getattr(model, "covariance", "") != "tied" else ("covariances",)
    alike = {name: np.repeat(array[:1], model.n_components, axis=0) for name, array in parameters.items()}
    arrays = {**alike, **{name: parameters[name] for name in shared}}
    return Parameters({**arrays, "weights": np.full(model.n_components, 1 / model.n_components)})


def extreme_rows(model: GaussianMixtureModel | MixedMixtureModel, radius: float) -> Vector:
    """A row at a pole with every yes and the greatest counts, and one with every no."""
    row = np.zeros(model.n_columns)
    if isinstance(model, GaussianMixtureModel):
        row[0] = radius
    else:
        row[model.schema.gaussian[:1]] = radius
        row[model.schema.bernoulli], row[model.schema.poisson] = 1.0, model.schema.upper_counts
    no = row.copy()
    if isinstance(model, MixedMixtureModel):
        no[model.schema.bernoulli] = 0.0
    return np.stack((row, no))


MIXTURES = [name for name, model in MODELS.items() if isinstance(model, GaussianMixtureModel | MixedMixtureModel)]


@pytest.mark.parametrize("name", MIXTURES)
def test_some_record_reaches_the_norm_of_each_block(name: str) -> None:
    model, radius = MODELS[name], 2.5
    assert isinstance(model, GaussianMixtureModel | MixedMixtureModel)
    layout = model.layout(radius=radius)
    reached = dict.fromkeys(layout.offsets, 0.0)
    for parameters in (certain(model), blurred(model)):
        for row in extreme_rows(model, radius):
            for block, norm in norms_of(model.e_step(parameters, row[np.newaxis], layout)).items():
                reached[block] = max(reached[block], norm)
    for block in layout:
        if block.name == LOG_LIKELIHOOD or (block.name == ENTROPY and model.n_components == 1):
            continue
        np.testing.assert_allclose(reached[block.name], block.norm, rtol=1e-9, err_msg=block.name)


@pytest.mark.parametrize("name", ["observed moments", "mixed moments"])
@pytest.mark.parametrize("radius", [None, 2.5])
def test_some_record_reaches_the_norms_of_moments(name: str, radius: float | None) -> None:
    """In a box at its corner, in a ball at its poles."""
    model, parameters = MODELS[name], random_parameters(MODELS[name], np.random.default_rng(3))
    gaussian = np.arange(D) if not isinstance(model, MixedMomentsModel) else model.schema.gaussian
    rows = np.zeros((2, model.n_columns))
    if radius is None:
        rows[:, gaussian] = 1.0
    else:
        rows[:, gaussian[0]] = radius
    if isinstance(model, MixedMomentsModel):
        rows[0, model.schema.bernoulli] = 1.0
        rows[:, model.schema.poisson] = model.schema.upper_counts
    layout = model.layout(None if radius is not None else np.ones(model.n_columns), radius)
    reached = [norms_of(model.e_step(parameters, row[np.newaxis], layout)) for row in rows]
    for block in layout:
        if block.name != LOG_LIKELIHOOD:
            most = max(norms[block.name] for norms in reached)
            np.testing.assert_allclose(most, block.norm, rtol=1e-9, err_msg=block.name)


@given(bounds=st.lists(st.floats(0.01, 5.0), min_size=1, max_size=6), radius=st.none() | st.floats(0.05, 8.0))
def test_the_reach_is_that_of_a_row_in_box_and_ball(bounds: list[float], radius: float | None) -> None:
    reach = Reach.of(np.array(bounds), radius)
    row = np.sqrt(reach.squares)
    # A square that is the rest of R² has the rounding of R².
    assert (row <= np.sort(bounds)[::-1] + 1e-7 * (radius or 0.0)).all()
    assert radius is None or np.linalg.norm(row) <= radius * (1 + 1e-12)
    upper, right = np.triu_indices(len(row))
    products = np.linalg.norm((row[:, np.newaxis] * row)[upper, right])
    np.testing.assert_allclose(reach.first, np.linalg.norm(row), rtol=1e-12)
    np.testing.assert_allclose(reach.second("full"), products, rtol=1e-12)
    np.testing.assert_allclose(reach.second("diag"), np.linalg.norm(row**2), rtol=1e-12)


@given(bounds=st.lists(st.floats(0.1, 5.0), min_size=1, max_size=5), radius=st.floats(0.1, 8.0), seed=SEEDS)
def test_no_row_in_box_and_ball_is_beyond_the_reach(bounds: list[float], radius: float, seed: int) -> None:
    box = np.array(bounds)
    rows = np.random.default_rng(seed).uniform(-1, 1, (200, len(box))) * box
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    rows *= np.minimum(1.0, radius / np.maximum(lengths, 1e-300))
    reach, (upper, right) = Reach.of(box, radius), np.triu_indices(len(box))
    products = (rows[:, :, np.newaxis] * rows[:, np.newaxis])[:, upper, right]
    for rows_of_moments, norm in (
        (rows, reach.first),
        (rows**2, reach.second("spherical")),
        (products, reach.second("tied")),
    ):
        assert np.linalg.norm(rows_of_moments, axis=1).max() <= norm * (1 + 1e-12)
    assert np.abs(rows).max() <= reach.entry * (1 + 1e-12)


def test_norms_in_a_ball_are_those_of_the_derivation() -> None:
    for structure in COVARIANCE_STRUCTURES:
        layout = GaussianMixtureModel(5, 10, structure).layout(np.full(10, 40.0), 4.0)
        norms = {block.name: block.norm for block in layout if block.name != LOG_LIKELIHOOD}
        expected = {COUNT: 1.0, ENTROPY: math.log(5), "responsibilities": 1.0, "first": 4.0, "second": 16.0}
        assert norms == pytest.approx(expected, rel=1e-15)


def test_in_a_ball_nothing_is_missing() -> None:
    model = GaussianMixtureModel(2, 3, missing=True)
    assert model.layout(radius=2.0)[MISSING_ENTROPY].norm == 0.0
    assert model.layout()[MISSING_ENTROPY].norm == model.layout()[MISSING_ENTROPY].bound
    assert model.layout(np.full(3, 9.0), 2.0)["first"].bound == 2.0


def test_a_norm_is_at_most_what_the_bounds_of_entries_admit() -> None:
    assert Block("s", (2, 8), 3.0).norm == 12.0
    assert Block("s", (4,), 1.0, norm=99.0).norm == 2.0
    assert Block("s", (4,), 1.0, norm=1.0).norm == 1.0
    for norm in (-1.0, math.nan):
        with pytest.raises(CallerError, match=r"norm .* of statistic 's'"):
            Block("s", (4,), 1.0, norm=norm)


def test_norms_grow_with_the_largest_weight() -> None:
    layout = Layout((Block("s", (4,), 1.0, norm=1.5), Block("t", (9,), 2.0)))
    assert [block.norm for block in layout.of_weights_up_to(3.0)] == [4.5, 18.0]
    candidates = Candidates((MODELS["gaussian, full"],), resampled=Resampled(b"k"))
    assert candidates.layout(radius=2.0)["0.first"].norm == candidates.largest_count * 2.0


@pytest.mark.parametrize("radius", [0.0, -1.0, math.inf, math.nan])
def test_a_radius_out_of_range_is_refused(radius: float) -> None:
    with pytest.raises(CallerError, match="radius"):
        MODELS["gaussian, full"].layout(np.ones(D), radius)


@pytest.mark.parametrize(
    "model", [GaussianMixtureModel(K, D), MixedMixtureModel(K, SCHEMA), MixedMixtureModel(K, DISCRETE)]
)
def test_weights_of_each_tenants_own_are_refused_with_a_radius(model: GaussianMixtureModel | MixedMixtureModel) -> None:
    own = _with_own_weights(model)
    with pytest.raises(CallerError, match="each tenant's own"):
        own.layout(radius=2.0)


def _with_own_weights(model: GaussianMixtureModel | MixedMixtureModel) -> GaussianMixtureModel | MixedMixtureModel:
    if isinstance(model, GaussianMixtureModel):
        return GaussianMixtureModel(K, D, mixing=TenantMixing())
    return MixedMixtureModel(K, model.schema, mixing=TenantMixing())


@given(seed=SEEDS, n=st.integers(1, 30))
@settings(max_examples=40, deadline=None)
def test_one_record_changes_counts_by_no_more_than_their_norms(seed: int, n: int) -> None:
    model, generator = MODELS["mixed, full"], np.random.default_rng(seed)
    assert isinstance(model, MixedMixtureModel)
    parameters, records = random_parameters(model, generator), random_records(model, n, 3.0, generator)
    records = Records(records.rows, admissible=records.admissible)
    counts = component_counts(model, parameters, records)
    changed = norms_of(counts - component_counts(model, parameters, records[1:]))
    for block in counts.layout:
        assert changed[block.name] <= block.norm * (1 + 1e-9), block.name


def test_one_record_can_take_all_components_over_the_least_rows() -> None:
    """20 records in equal parts of 4 components: each holds 5, and without any one of them fewer."""
    model = GaussianMixtureModel(4, 2, missing=True)
    parameters, rows = blurred(model), np.zeros((20, 2))
    changed = norms_of(component_counts(model, parameters, rows) - component_counts(model, parameters, rows[1:]))
    layout = component_counts(model, parameters, rows).layout
    assert changed[SUPPORTING] == pytest.approx(layout[SUPPORTING].norm) == pytest.approx(2.0)
    assert changed[OBSERVED_SUPPORTING] == pytest.approx(layout[OBSERVED_SUPPORTING].norm)
    sure = norms_of(component_counts(model, certain(model), rows[:1]))
    assert sure[MASS] == pytest.approx(layout[MASS].norm)
    assert sure[OBSERVED_MASS] == pytest.approx(layout[OBSERVED_MASS].norm) == pytest.approx(math.sqrt(2))
