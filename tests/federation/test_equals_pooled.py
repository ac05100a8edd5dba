"""The test that guards the house: the same data through each `total` gives the same parameters."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import pytest
from small_federation import Recorder, clustered_rows, memory_hub, session_toml, write_small_federation

from fed_em.em import Fit, fit
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.standardised_fit import StandardisedFit
from fed_em.totals import TotalOfRows
from fed_em_protocols.terms import Trust
from fed_em_server.serve import open_server
from fed_em_server.session import SessionOutcome, run_session
from fed_em_simulations.federation_folder import FederationFolder, Matrix

pytestmark = pytest.mark.usefixtures("remembered_keys")

MODELS = {
    "full": 'family = "gaussian-mixture"\nn_components = 3\ncovariance = "full"',
    "tied": 'family = "gaussian-mixture"\nn_components = 3\ncovariance = "tied"',
    "diag": 'family = "gaussian-mixture"\nn_components = 3\ncovariance = "diag"',
    "spherical": 'family = "gaussian-mixture"\nn_components = 3\ncovariance = "spherical"',
}


def pooled_from_same_start(federation: FederationFolder, result: StandardisedFit, rows: Matrix) -> Fit:
    """Plain EM over all rows, from where the federation started, in its coordinates."""
    model = cast(GaussianMixtureModel, federation.server.description.fitted_model)
    total = TotalOfRows(model, result.coordinates.apply(rows))
    return fit(model, total, result.start, federation.server.fit.stopping)


def assert_same_path(outcome: SessionOutcome, pooled: Fit, tolerance: float = 1e-9) -> None:
    """Every iteration's parameters agree, normwise per array."""
    federated = outcome.result.fit
    assert len(federated.iterations) == len(pooled.iterations)
    for ours, theirs in zip(federated.iterations, pooled.iterations, strict=True):
        assert ours.complete
        assert ours.parameters.distance(theirs.parameters) < tolerance, f"iteration {ours.number}"
        assert ours.log_likelihood == pytest.approx(theirs.log_likelihood, abs=1e-9)


@pytest.mark.parametrize("covariance", MODELS)
def test_memory_federation_is_pooled_em(tmp_path: Path, covariance: str) -> None:
    tenants = clustered_rows((120, 40, 75, 9, 200))
    federation = write_small_federation(tmp_path / "f", tenants, session_toml(MODELS[covariance]))
    plan = open_server(federation.server).plan("memory")
    assert plan.terms.trust == Trust.MALICIOUS_SERVER and plan.terms.blocks > 0
    outcome = run_session(plan, memory_hub(federation), Recorder())
    pooled = pooled_from_same_start(federation, outcome.result, np.concatenate(list(tenants.values())))
    assert len(pooled.iterations) > 5
    assert_same_path(outcome, pooled)


def test_the_moments_standardise_as_pooled_ones_do(tmp_path: Path) -> None:
    tenants = clustered_rows((50, 60, 70))
    rows = np.concatenate(list(tenants.values()))
    federation = write_small_federation(tmp_path / "f", tenants, session_toml(fit="max_iterations = 1"))
    outcome = run_session(open_server(federation.server).plan("memory"), memory_hub(federation), Recorder())
    np.testing.assert_allclose(outcome.result.coordinates.location, rows.mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(outcome.result.coordinates.scale, rows.std(axis=0), rtol=1e-9)
