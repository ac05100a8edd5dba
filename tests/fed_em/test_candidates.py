"""Several models in one payload: the statistics of each are its own, whatever kind of model stands beside it."""

from __future__ import annotations

import numpy as np
import pytest

from fed_em.broadcast import Broadcast
from fed_em.candidates import MAX_CANDIDATES, Candidates
from fed_em.columns import BernoulliColumn, ColumnSchema, GaussianColumn
from fed_em.coordinates import Coordinates
from fed_em.covariance import COVARIANCE_STRUCTURES, CovarianceStructure
from fed_em.errors import CallerError
from fed_em.families import build_model, build_summand
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.imputed_reach import records_beyond_reach
from fed_em.initialisation import standard_gaussian
from fed_em.mixed_mixture import MixedMixtureModel
from fed_em.model import COUNT
from fed_em.parameters import Parameters
from fed_em.records import Records
from tests.fed_em import mixtures

STRUCTURES: tuple[CovarianceStructure, ...] = ("full", "diag", "full")
SPREADS = (1.0, 2.0, 0.5)
TOGETHER = Candidates(tuple(mixtures.mixture(structure) for structure in STRUCTURES))
POINTS = [
    mixtures.parameters_of(structure, spread=spread) for structure, spread in zip(STRUCTURES, SPREADS, strict=True)
]
ROWS, _ = TOGETHER.models[0].sample(POINTS[0], 50, np.random.default_rng(0))


def one(n_columns: int, missing: bool = False) -> GaussianMixtureModel:
    return GaussianMixtureModel(1, n_columns, missing=missing)


def test_each_has_its_own_statistics() -> None:
    joined = TOGETHER.joined(POINTS)
    TOGETHER.validate(joined)
    for mine, point in zip(TOGETHER.parameters_of(joined), POINTS, strict=True):
        assert mine.distance(point) == 0.0
    apart = TOGETHER.statistics_of(TOGETHER.e_step(joined, ROWS))
    for model, mine, point in zip(TOGETHER.models, apart, POINTS, strict=True):
        np.testing.assert_array_equal(mine.vector, model.e_step(point, ROWS).vector)


@pytest.mark.parametrize("structure", COVARIANCE_STRUCTURES)
@pytest.mark.parametrize("far", [0.0, 1e3, 1e6])
def test_mixtures_alike_are_evaluated_by_one_product(structure: CovarianceStructure, far: float) -> None:
    """Also where rows are far from the origin, and where a component is narrow; each as it is alone, to rounding."""
    model, spreads = mixtures.mixture(structure), (1.0, 1e-3, 4.0)
    points = [mixtures.parameters_of(structure, spread=spread) for spread in spreads]
    points = [Parameters({**each, "means": each["means"] + far}) for each in points]
    weighted = Records(ROWS + far, weights=np.linspace(0.0, 1.0, len(ROWS)))
    for rows in (ROWS + far, Records(ROWS + far), weighted, ROWS[:0]):
        for mine, point in zip(model.e_steps(points, rows), points, strict=True):
            alone = model.e_step(point, rows)
            for block in alone.layout:
                scale = np.abs(alone[block.name]).max(initial=1.0)
                np.testing.assert_allclose(mine[block.name], alone[block.name], rtol=1e-9, atol=1e-11 * scale)


def test_they_add_up_and_count_records_once() -> None:
    joined, layout = TOGETHER.joined(POINTS), TOGETHER.layout(np.full(2, 9.0))
    parts = [TOGETHER.e_step(joined, part, layout) for part in (ROWS[:20], ROWS[20:])]
    summed = parts[0] + parts[1]
    np.testing.assert_allclose(summed.vector, TOGETHER.e_step(joined, ROWS, layout).vector, rtol=1e-12)
    assert summed[COUNT] == 50
    assert layout.size == sum(model.layout().size for model in TOGETHER.models) - 2


def test_bounds_are_those_of_each_model() -> None:
    bounds = np.full(2, 9.0)
    layout = TOGETHER.layout(bounds).of_weights_up_to(3.0)
    for model, own in zip(TOGETHER.models, TOGETHER.layouts_of(layout), strict=True):
        assert own == model.layout(bounds).of_weights_up_to(3.0)


def test_a_description_names_models_alike_once() -> None:
    many = Candidates((*(TOGETHER.models[0],) * 20, TOGETHER.models[1]))
    described = many.describe()
    assert [entry["copies"] for entry in described["models"]] == [20, 1]
    assert build_summand(described) == many


def test_a_model_is_described_as_before() -> None:
    assert build_summand(TOGETHER.models[0].describe()) == TOGETHER.models[0]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (3, "must be a list"),
        ("ab", "must be a list"),
        ([], "1 to"),
        ([3], "mapping"),
        ([{"model": one(2).describe()}], "lacks 'copies'"),
        ([{"model": one(2).describe(), "copies": 0}], "copies"),
        ([{"model": one(2).describe(), "copies": MAX_CANDIDATES + 1}], "at most"),
        ([{"model": {"family": "candidates", "models": []}, "copies": 1}], "candidates"),
        ([{"model": one(2).describe(), "copies": 1}, {"model": one(3).describe(), "copies": 1}], "same columns"),
        ([{"model": {**one(2).describe(), "mixing": "tenant"}, "copies": 1}], "each tenant"),
    ],
)
def test_what_no_candidates_describe_is_refused(entries: object, message: str) -> None:
    with pytest.raises(CallerError, match=message):
        build_summand({"family": "candidates", "models": entries})


def test_no_model_is_built_of_candidates() -> None:
    with pytest.raises(CallerError, match="candidates"):
        build_model(TOGETHER.describe())


def test_parameters_of_nobody_and_inadmissible_ones_are_named() -> None:
    with pytest.raises(CallerError, match=r"'3\.means'"):
        TOGETHER.validate(Parameters({**TOGETHER.joined(POINTS), "3.means": np.zeros((2, 2))}))
    with pytest.raises(CallerError, match=r"candidate 1: .*means"):
        TOGETHER.validate(TOGETHER.joined([POINTS[0], Parameters({**POINTS[1], "means": np.zeros((1, 2))}), POINTS[2]]))


class TestBroadcast:
    def test_it_carries_them(self) -> None:
        sent = Broadcast(TOGETHER, Coordinates.identity(2), TOGETHER.joined(POINTS))
        received = Broadcast.from_bytes(sent.to_bytes())
        assert received.model == TOGETHER
        assert received.parameters.distance(sent.parameters) == 0.0

    def test_they_are_no_one_model(self) -> None:
        sent = Broadcast(TOGETHER, Coordinates.identity(2), TOGETHER.joined(POINTS))
        with pytest.raises(CallerError, match="no one model"):
            _ = sent.one_model

    def test_columns_that_are_not_gaussian_keep_their_coordinates(self) -> None:
        mixed = MixedMixtureModel(1, ColumnSchema((GaussianColumn("age"), BernoulliColumn("ill"))))
        both = Candidates((mixed, mixed))
        point = Parameters(
            {
                "weights": np.ones(1),
                "means": np.zeros((1, 1)),
                "covariances": np.ones((1, 1, 1)),
                "ill": np.full((1,), 0.5),
            }
        )
        with pytest.raises(CallerError, match="ill"):
            Broadcast(both, Coordinates(np.zeros(2), np.array([1.0, 2.0])), both.joined([point, point]))


def test_the_reach_of_missing_cells_is_that_of_the_worst_candidate() -> None:
    both = Candidates((one(2, missing=True),) * 2)
    near = Parameters({"weights": np.ones(1), **standard_gaussian(2)})
    far = Parameters({**near, "means": np.full((1, 2), 1e9)})
    records, bounds = Records(np.array([[0.5, np.nan], [0.1, 0.2]])), np.ones(2)
    layout = both.layout(bounds)
    assert records_beyond_reach(both, both.joined([near, near]), records, bounds, layout).tolist() == [0, 0]
    assert records_beyond_reach(both, both.joined([near, far]), records, bounds, layout).tolist() == [0, 1]
