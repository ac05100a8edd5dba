"""Delta adjustment: what is missing is drawn and moved, and the fit follows."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.parameters import Parameters
from fed_em.records import Records
from fed_em_simulations.delta_adjustment import completed
from fed_em_simulations.random_streams import stream
from fed_em_simulations.sensitivity_experiment import SensitivityExperiment

DATA = {
    "tenants": 3,
    "rows": 900,
    "held_out": 20,
    "truth": {"components": 2, "columns": 2, "overlap": 0.02},
    "heterogeneity": {"missing": {"rate": 0.3, "mechanism": "mnar", "strength": 2.0}},
}


def test_missing_cells_are_drawn_from_their_distribution_given_the_observed_ones() -> None:
    """A bivariate normal of correlation ½: mean and deviation within 5 standard errors, 1e-6; observed cells stay."""
    n = 20_000
    covariance = np.array([[[1.0, 0.5], [0.5, 1.0]]])
    parameters = Parameters({"weights": [1.0], "means": [[0.0, 3.0]], "covariances": covariance})
    rows = np.stack([np.full(n, 1.5), np.full(n, np.nan)], axis=1)
    model = GaussianMixtureModel(1, 2, missing=True)
    filled = completed(model, parameters, Records(rows), np.array([9.0, 0.25]), stream(0, "test")).rows
    np.testing.assert_array_equal(filled[:, 0], 1.5)
    deviation = np.sqrt(0.75)
    assert abs(filled[:, 1].mean() - (3 + 0.75 + 0.25)) < 5 * deviation / np.sqrt(n)
    assert abs(filled[:, 1].std() / deviation - 1) < 5 / np.sqrt(2 * n)
    moved = completed(model, parameters, Records(rows), np.array([0.0, 1.25]), stream(0, "test")).rows
    np.testing.assert_allclose(moved[:, 1] - filled[:, 1], 1.0)


def test_values_missing_because_they_are_large_are_found_above_what_is_expected() -> None:
    experiment = SensitivityExperiment.model_validate(
        {"data": DATA, "model": {"components": 2}, "delta": [-0.5, 0.0, 0.5], "draws": 2, "starts": 2}
    )
    below, at_random, above = experiment.run(0)
    means = [float(row["mean"] or 0) for row in (below, at_random, above)]
    assert means[0] < means[1] < -0.05 < means[2]
    assert float(above["means_error"] or 0) < float(at_random["means_error"] or 0) < float(below["means_error"] or 0)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [({"data": {**DATA, "heterogeneity": {}}}, "nothing is missing"), ({"columns": [2]}, "counted from 0 to 1")],
)
def test_nonsense_is_refused(changes: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        SensitivityExperiment.model_validate({"data": DATA, **changes})
