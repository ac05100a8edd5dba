"""A model that is ready for rows: few and many rows, all families, and whose fault an error is."""

from __future__ import annotations

import numpy as np
import pytest

from fed_em.coordinates import Coordinates
from fed_em.covariance import COVARIANCE_STRUCTURES, CovarianceStructure
from fed_em.errors import CallerError, NotEvaluated
from fed_em.model_file import FittedModel
from fed_em.observed_moments import ObservedMomentsModel
from fed_em.parameters import Parameters
from fed_em_server.serving.served_model import FEW_ROWS, ServedModel
from tests.fed_em.random_mixtures import random_mixture, rows_with_holes

CASES: list[tuple[str, CovarianceStructure]] = [
    *(("gaussian", structure) for structure in COVARIANCE_STRUCTURES),
    *(("mixed", structure) for structure in COVARIANCE_STRUCTURES),
    ("latent class", "full"),
]


@pytest.mark.parametrize(("family", "structure"), CASES)
def test_few_rows_and_many_give_what_the_model_gives(family: str, structure: CovarianceStructure) -> None:
    fitted = random_mixture(family, structure, seed=4)
    served = ServedModel.of("v", fitted)
    rows = rows_with_holes(fitted, FEW_ROWS + 8, 1)
    for part in (rows[:8], rows):
        np.testing.assert_allclose(served.probabilities(part), fitted.predict_proba(part), atol=1e-10)
        np.testing.assert_allclose(served.log_densities(part), fitted.score_samples(part), rtol=1e-10, atol=1e-10)
        found, probabilities = served.impute(part, 0, None)
        expected = fitted.impute(part, 0, np.random.default_rng(0))
        np.testing.assert_allclose(probabilities, fitted.predict_proba(part), atol=1e-10)
        for name in ("rows", "means", "deviations", "probabilities"):
            np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-10, atol=1e-10)
        assert found.draws.shape == (0, *part.shape)


def test_draws_follow_from_their_seed() -> None:
    fitted = random_mixture("mixed", seed=2)
    served, rows = ServedModel.of("v", fitted), rows_with_holes(fitted, 4, 1)
    first, again, other = (served.impute(rows, 3, seed)[0].draws for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other) and not np.isnan(first).any()


@pytest.mark.parametrize("n", [3, FEW_ROWS + 3])
def test_a_row_that_no_component_can_show_is_named(n: int) -> None:
    fitted = random_mixture("gaussian")
    rows = fitted.sample(n, 0)[0]
    rows[2] = 1e200
    served = ServedModel.of("v", fitted)
    for ask in (served.probabilities, served.log_densities, lambda rows: served.impute(rows, 1, 0)):
        with pytest.raises(NotEvaluated, match="row 2: no component"):
            ask(rows)


def test_rare_complete_rows_are_anomalies_and_of_others_it_is_not_known() -> None:
    fitted = random_mixture("gaussian")
    rows = rows_with_holes(fitted, 40, 1, share=0.0)
    densities = fitted.score_samples(rows)
    threshold = float(np.median(densities[[0, *range(2, 40)]]))
    served = ServedModel.of("v", fitted, threshold)
    assert served.anomalies(rows, densities) == [
        None if i == 1 else bool(density < threshold) for i, density in enumerate(densities)
    ]


def test_a_threshold_may_be_in_the_models_provenance() -> None:
    fitted = random_mixture("gaussian")
    fits = FittedModel(fitted.model, fitted.coordinates, fitted.columns, fitted.parameters, {"anomaly_threshold": -7})
    assert ServedModel.of("v", fits).threshold == -7.0 and ServedModel.of("v", fits, -1.0).threshold == -1.0
    assert ServedModel.of("v", fitted).threshold is None
    wrong = FittedModel(fitted.model, fitted.coordinates, fitted.columns, fitted.parameters, {"anomaly_threshold": "x"})
    with pytest.raises(CallerError, match="anomaly_threshold"):
        ServedModel.of("v", wrong)


def test_what_is_no_mixture_is_refused() -> None:
    parameters = Parameters({"weights": [1.0], "means": [[0.0]], "covariances": [[[1.0]]]})
    fitted = FittedModel(ObservedMomentsModel(1), Coordinates.identity(1), ("a",), parameters, {})
    with pytest.raises(CallerError, match="cannot be served"):
        ServedModel.of("v", fitted)
