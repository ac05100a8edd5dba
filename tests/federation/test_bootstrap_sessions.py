"""Sessions with a bootstrap: every tenant's counts are its own secret, and the errors are those of all rows so counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_federation import Recorder, clustered_rows, memory_hub, session_toml, write_small_federation
from test_selection import picking_session, pooled_fit

from fed_em.bootstrap import bootstrap, replicates_of
from fed_em.em import Summed
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.model_file import load_model, save_model
from fed_em.parameters import Parameters
from fed_em.statistics import Statistics
from fed_em_client.take_part import open_tenant
from fed_em_protocols.keys import KEY_BYTES, derive
from fed_em_server.report_page import report_page
from fed_em_server.serve import open_server
from fed_em_server.session import SessionOutcome, run_session
from fed_em_simulations.federation_folder import FederationFolder, Matrix

pytestmark = pytest.mark.usefixtures("remembered_keys")

REPLICATES = 4
FIT = f"tolerance = 1e-5\nmax_iterations = 30\nbootstrap = {REPLICATES}"


def run(federation: FederationFolder) -> tuple[SessionOutcome, tuple[bytes, bytes]]:
    plan = open_server(federation.server).plan("memory")
    return run_session(plan, memory_hub(federation), Recorder()), (plan.terms.session, plan.terms.schema)


class SumOfTenants:
    """The statistics of all tenants' rows, each resampled by its own key."""

    def __init__(
        self,
        federation: FederationFolder,
        tenants: dict[str, Matrix],
        outcome: SessionOutcome,
        session: tuple[bytes, bytes],
    ) -> None:
        self.parts = []
        for name, rows in tenants.items():
            secret = derive("rows", open_tenant(federation.tenant(name)).keys.identity.seed, KEY_BYTES)
            key = derive("resampled rows", secret, KEY_BYTES, *session)
            model = outcome.fitted.model
            assert isinstance(model, GaussianMixtureModel)
            self.parts.append((replicates_of(model, REPLICATES, key), outcome.result.coordinates.apply(rows)))

    def __call__(self, parameters: Parameters) -> Summed:
        zero = Statistics.zero(self.parts[0][0].layout())
        return Summed(sum((each.e_step(parameters, rows) for each, rows in self.parts), start=zero))


@pytest.mark.slow
def test_errors_are_those_of_all_rows_resampled_in_place(tmp_path: Path) -> None:
    tenants = clustered_rows((90, 80, 100))
    federation = write_small_federation(tmp_path / "f", tenants, session_toml(fit=FIT, optimiser="lbfgs"))
    outcome, session = run(federation)
    model, errors = outcome.fitted.model, outcome.fitted.errors
    assert isinstance(model, GaussianMixtureModel) and errors is not None
    total, parameters = SumOfTenants(federation, tenants, outcome, session), outcome.fitted.parameters
    expected = bootstrap(replicates_of(model, REPLICATES), total, parameters, 270)
    for name, error in expected.errors.items():
        np.testing.assert_allclose(errors.errors[name], error, rtol=1e-3)
    done = outcome.record.standard_errors
    assert done is not None and done.replicates == REPLICATES and not done.failure
    assert done.sums > 2 and done.tenants == tuple(tenants) and done.records == 270
    save_model(tmp_path / "model", outcome.fitted)
    kept = load_model(tmp_path / "model").errors
    assert kept is not None
    np.testing.assert_array_equal(kept.errors["means"], errors.errors["means"])
    told = " ".join(report_page(outcome.record, outcome.fitted).split())
    assert f"the spread of the model over {REPLICATES} replicates of the rows" in told


@pytest.mark.slow
def test_the_picked_model_is_bootstrapped_as_pooled_rows_are_and_errors_differ_from_key_to_key(tmp_path: Path) -> None:
    tenants = clustered_rows((120, 110, 130))
    # As many components as there are clusters: of fewer, replicates have several optima, and errors long tails.
    selection = '\n[selection]\ncomponents = [1, 3]\ncovariances = ["diag"]\nmax_iterations = 10\n'
    session = picking_session(selection, fit="tolerance = 1e-6\nmax_iterations = 60\nbootstrap = 30")
    federation = write_small_federation(tmp_path / "f", tenants, session)
    outcome, _ = run(federation)
    pooled, _ = pooled_fit(federation, np.concatenate(list(tenants.values())))
    assert outcome.fitted.model == pooled.model
    assert outcome.fitted.errors is not None and pooled.errors is not None
    ours, theirs = outcome.fitted.errors.errors["means"], pooled.errors.errors["means"]
    assert (ours != theirs).all()
    # The ratio of two estimates from 30 replicates each is off by 0.18: 0.9 on the scale of logarithms is five times that, and of six
    # numbers one is beyond by chance in 300 000 runs.
    assert np.abs(np.log(ours / theirs)).max() < 0.9


@pytest.mark.parametrize(
    ("session", "message"),
    [
        (session_toml(fit=f"{FIT}\nstandard_errors = true"), "leave out .stream. and standard_errors"),
        (session_toml(fit=FIT, trust="mass_floor = 5"), "a bootstrap and a mass floor"),
    ],
)
def test_what_has_no_bootstrap_is_refused(tmp_path: Path, session: str, message: str) -> None:
    with pytest.raises(Exception, match=message):
        write_small_federation(tmp_path / "f", clustered_rows((20, 20, 20)), session).server  # noqa: B018
