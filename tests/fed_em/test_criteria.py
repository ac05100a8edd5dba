"""Criteria from sums, against scikit-learn and against published values."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.mixture import GaussianMixture as Peer

from fed_em.covariance import COVARIANCE_STRUCTURES, CovarianceStructure
from fed_em.criteria import AIC, BIC, CRITERIA, HELD_OUT, ICL, Evidence, best_of, check_criterion
from fed_em.em import Stopping, Summed, fit
from fed_em.errors import CallerError
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.initialisation import standard_gaussian
from fed_em.parameters import Parameters
from fed_em.records import Records
from fed_em.selection import Choice, pick
from fed_em.statistics import Statistics
from fed_em.totals import TotalOfRows

IRIS = np.asarray(load_iris().data)


def fitted_peer(n_components: int, structure: CovarianceStructure) -> tuple[Peer, GaussianMixtureModel, Parameters]:
    peer = Peer(n_components, covariance_type=structure, random_state=0, tol=1e-8, max_iter=500).fit(IRIS)
    parameters = {"weights": peer.weights_, "means": peer.means_, "covariances": peer.covariances_}
    return peer, GaussianMixtureModel(n_components, 4, structure), Parameters(parameters)


@pytest.mark.parametrize("structure", COVARIANCE_STRUCTURES)
def test_bic_and_aic_are_scikit_learns(structure: CovarianceStructure) -> None:
    peer, model, parameters = fitted_peer(3, structure)
    evidence = Evidence.of(model, model.e_step(parameters, IRIS))
    assert evidence.bic == pytest.approx(peer.bic(IRIS), rel=1e-10)
    assert evidence.aic == pytest.approx(peer.aic(IRIS), rel=1e-10)


def test_icl_adds_twice_the_entropy_of_the_posteriors() -> None:
    peer, model, parameters = fitted_peer(3, "full")
    posteriors = peer.predict_proba(IRIS)
    entropy = -float(np.sum(posteriors * np.log(np.maximum(posteriors, 1e-300))))
    evidence = Evidence.of(model, model.e_step(parameters, IRIS))
    assert entropy > 1
    assert evidence.icl == pytest.approx(peer.bic(IRIS) + 2 * entropy, rel=1e-10)


@pytest.mark.parametrize(
    ("n_components", "log_likelihood", "bic"), [(2, -214.354704, 574.0178), (3, -180.185477, 580.8389)]
)
def test_published_values_of_iris(n_components: int, log_likelihood: float, bic: float) -> None:
    """mclust 6 has −574.0178 and −580.8389 for its VVV models: 2 log L − p log n."""
    _, model, parameters = fitted_peer(n_components, "full")
    run = fit(model, TotalOfRows(model, IRIS), parameters, Stopping(1e-10, 500))
    evidence = Evidence.of(model, model.e_step(run.parameters, IRIS))
    assert evidence.log_likelihood == pytest.approx(log_likelihood, abs=2e-3)
    assert evidence.bic == pytest.approx(bic, abs=4e-3)


def test_a_row_of_weight_two_is_two_rows() -> None:
    _, model, parameters = fitted_peer(2, "diag")
    twice = Evidence.of(model, model.e_step(parameters, np.concatenate((IRIS, IRIS))))
    weighted = Evidence.of(model, model.e_step(parameters, Records(IRIS, np.full(150, 2.0), weight_bound=2.0)))
    assert weighted.records == 300
    for criterion in (BIC, AIC, ICL):
        assert weighted.value(criterion) == pytest.approx(twice.value(criterion), rel=1e-12)


ONE = Evidence(-100.0, 50.0, 5, 3.0, -2.1)


def test_the_least_loss_wins() -> None:
    better = Evidence(-99.0, 50.0, 5, 3.5, -2.2)
    for criterion in CRITERIA:
        assert best_of(criterion, [ONE, None, better]) == (0 if criterion == HELD_OUT else 2)


def test_a_tie_goes_to_the_fewest_parameters_and_then_to_the_first() -> None:
    lean = replace(ONE, n_free_parameters=4, log_likelihood=ONE.log_likelihood - 0.5 * math.log(50))
    assert lean.bic == pytest.approx(ONE.bic, rel=1e-14)
    assert best_of(BIC, [ONE, lean, lean]) == 1
    assert best_of(HELD_OUT, [ONE, lean]) == 1


def test_no_held_out_rows_no_such_criterion_and_no_candidate_left_are_told() -> None:
    with pytest.raises(CallerError, match="held out"):
        best_of(HELD_OUT, [replace(ONE, held_out=None)])
    with pytest.raises(CallerError, match="every candidate collapsed"):
        best_of(BIC, [None, None])
    with pytest.raises(CallerError, match=r"no criterion 'bik'.*bic"):
        check_criterion("bik")


@pytest.mark.parametrize("count", [0.0, -1.0])
def test_a_last_sum_of_no_records_is_named(count: float) -> None:
    """As whoever sends any numbers for its own can bring about."""
    rows = np.random.default_rng(0).standard_normal((50, 1))
    choice = Choice((GaussianMixtureModel(1, 1), GaussianMixtureModel(1, 1, covariance_floor=0.1)), max_iterations=2)
    layout, total, asked = choice.candidates.layout(), TotalOfRows(choice.candidates, rows), iter((True, True, False))

    def last_is_empty(parameters: Parameters) -> Summed:
        return total(parameters) if next(asked) else Summed(Statistics(layout, np.full(layout.size, count)))

    with pytest.raises(CallerError, match="summed no records at all"):
        pick(choice, last_is_empty, [standard_gaussian(1)] * 2, 0.0)
