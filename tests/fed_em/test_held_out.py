"""Held-out rows: which they are, and what is summed of them."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from fed_em.candidates import Candidates
from fed_em.columns import BernoulliColumn, ColumnSchema
from fed_em.draws import keyed_share
from fed_em.errors import CallerError
from fed_em.families import build_summand
from fed_em.held_out import HeldOut
from fed_em.mixed_mixture import MixedMixtureModel
from fed_em.model import COUNT, LOG_LIKELIHOOD
from fed_em.parameters import Parameters
from fed_em.records import Records
from tests.fed_em import mixtures

MODELS = (mixtures.mixture("full"), mixtures.mixture("diag", n_components=2))
POINTS = [mixtures.parameters_of("full"), mixtures.parameters_of("diag", n_components=2)]
HELD = HeldOut(0.3, b"session")
TOGETHER = Candidates(MODELS, HELD)
ROWS, _ = MODELS[0].sample(POINTS[0], 200, np.random.default_rng(0))


def mask(n: int) -> NDArray[np.bool_]:
    return keyed_share(HELD.key, HELD.share, n)


def test_a_key_draws_the_same_rows_and_another_key_others() -> None:
    drawn = keyed_share(b"a", 0.25, 20_000)
    np.testing.assert_array_equal(drawn, keyed_share(b"a", 0.25, 20_000))
    assert (drawn != keyed_share(b"b", 0.25, 20_000)).any()
    # Five standard deviations: false alarms are rarer than one key in a million.
    assert abs(drawn.sum() - 5000) < 5 * np.sqrt(20_000 * 0.25 * 0.75)


@pytest.mark.parametrize("weights", [None, np.random.default_rng(1).uniform(0, 2, 200)])
def test_the_fit_is_of_the_others_and_the_score_of_those_held_out(weights: NDArray[np.float64] | None) -> None:
    records, held = Records(ROWS, weights, weight_bound=2.0), mask(200)
    summed = TOGETHER.e_step(TOGETHER.joined(POINTS), records)
    n, scores = TOGETHER.held_out_of(summed)
    counts = np.ones(200) if weights is None else weights
    assert n == pytest.approx(counts[held].sum())
    assert summed[COUNT] == pytest.approx(counts[~held].sum())
    for model, point, own, score in zip(MODELS, POINTS, TOGETHER.statistics_of(summed), scores, strict=True):
        np.testing.assert_array_equal(own.vector, model.e_step(point, records[~held]).vector)
        assert score == pytest.approx(counts[held] @ model.log_prob(point, ROWS[held]), rel=1e-12)


def test_parties_add_up_and_one_without_rows_adds_nothing() -> None:
    joined, layout = TOGETHER.joined(POINTS), TOGETHER.layout(np.full(2, 9.0))
    summed = sum(
        (TOGETHER.e_step(joined, ROWS[:n], layout) for n in (120, 0, 80)),
        start=TOGETHER.e_step(joined, ROWS[:0], layout),
    )
    n, scores = TOGETHER.held_out_of(summed)
    held = [ROWS[:size][mask(size)] for size in (120, 80)]
    assert n == sum(map(len, held))
    assert scores[0] == pytest.approx(sum(MODELS[0].log_prob(POINTS[0], part).sum() for part in held))


def test_a_description_says_which() -> None:
    assert build_summand(TOGETHER.describe()) == TOGETHER
    assert "held_out" not in Candidates(MODELS).describe()


@pytest.mark.parametrize(
    ("described", "message"),
    [
        (3, "mapping"),
        ({"share": 0.2}, "lacks 'key'"),
        ({"share": 0.2, "key": 3}, "held-out rows"),
        ({"share": 0.2, "key": "zz"}, "held-out rows"),
        ({"share": 0.2, "key": "00" * 65}, "64 bytes"),
        ({"share": 0.0, "key": ""}, "share"),
        ({"share": 1.0, "key": ""}, "below 1"),
        ({"share": "x", "key": ""}, "finite"),
    ],
)
def test_what_describes_no_held_out_rows_is_refused(described: object, message: str) -> None:
    with pytest.raises(CallerError, match=message):
        build_summand({**TOGETHER.describe(), "held_out": described})


def test_a_held_out_row_that_a_candidate_finds_impossible_costs_it_the_bound() -> None:
    model = MixedMixtureModel(1, ColumnSchema((BernoulliColumn("ill"),)))
    never = Parameters({"weights": np.ones(1), "success_probabilities": np.zeros((1, 1))})
    held = HeldOut(0.5, b"k")
    rows = np.where(keyed_share(b"k", 0.5, 40), 1.0, 0.0)[:, np.newaxis]
    one = Candidates((model,), held)
    n, scores = one.held_out_of(one.e_step(one.joined([never]), rows))
    assert scores == (-n * model.layout()[LOG_LIKELIHOOD].bound,)
