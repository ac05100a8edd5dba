"""The components that sessions end with: without those too light or too near, in canonical order, as of the pooled rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_federation import (
    LIKELIEST,
    MODEL,
    Recorder,
    clustered_rows,
    memory_hub,
    session_toml,
    write_small_federation,
)
from test_dropouts import pool

from fed_em.alignment import canonical_order
from fed_em.em import Stopping, fit
from fed_em.errors import CallerError
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.totals import TotalOfRows
from fed_em_server.configuration import ServerConfiguration, read_server_configuration
from fed_em_server.pooled import fit_pooled
from fed_em_server.report_page import report_page
from fed_em_server.serve import open_server
from fed_em_server.session import SessionOutcome, run_session
from fed_em_simulations.federation_folder import FederationFolder

FIVE = LIKELIEST.replace("n_components = 3", "n_components = 5")
FIT = "tolerance = 1e-5\nmax_iterations = 300\nleast_weight = 0.03\nleast_distance = 0.5"
TENANTS = clustered_rows((150, 120, 200))


def run(federation: FederationFolder, watcher: Recorder | None = None) -> SessionOutcome:
    return run_session(open_server(federation.server).plan("memory"), memory_hub(federation), watcher or Recorder())


def configured(folder: Path, text: str) -> ServerConfiguration:
    (folder / "session.toml").write_text(text)
    return read_server_configuration(folder / "session.toml")


@pytest.mark.parametrize("optimiser", ["lbfgs", pytest.param("em", marks=pytest.mark.slow)])
def test_what_is_left_is_what_the_pooled_rows_leave(tmp_path: Path, optimiser: str) -> None:
    text = session_toml(FIVE, f"{FIT}\nstandard_errors = true", optimiser=optimiser)
    federation = write_small_federation(tmp_path / "f", TENANTS, text)
    server, watcher = federation.server, Recorder()
    outcome = run(federation, watcher)
    result, record, rows = outcome.result, outcome.record, pool(TENANTS)
    assert result.model.n_components == 5 - result.n_pruned - result.n_merged == 3
    pooled, _ = fit_pooled(
        server.description, rows, server.fit.stopping, server.fit.seed, server.optimiser, server.beginning()
    )
    assert outcome.fitted.model == pooled.model
    assert outcome.fitted.parameters.distance(pooled.parameters) < 1e-5
    assert pooled.errors is not None and outcome.fitted.errors is not None
    for name, errors in pooled.errors.errors.items():
        np.testing.assert_allclose(outcome.fitted.errors.errors[name], errors, rtol=1e-2, err_msg=name)
    # EM of three components from what was left of five comes to the same end.
    inner = result.coordinates.apply(rows)
    three = fit(result.model, TotalOfRows(result.model, inner), result.start, Stopping(1e-10, 2000))
    assert result.fit.iterations[-1].log_likelihood == pytest.approx(three.iterations[-1].log_likelihood, abs=1e-4)
    assert record.model == "Gaussian mixture with 3 components and full covariances"
    assert outcome.fitted.provenance["components_merged"] == result.n_merged
    assert [len(opened.weights) for opened in record.rounds[1:]][:: len(record.rounds) - 2] == [5, 3]
    assert record.rounds[-1].weights == tuple(result.fit.parameters["weights"])
    assert "3 components" in report_page(record, outcome.fitted)


def test_components_are_in_canonical_order_whatever_the_seed(tmp_path: Path) -> None:
    rows, ends = pool(TENANTS), []
    for seed in range(4):
        text = session_toml(
            LIKELIEST,
            f"tolerance = 1e-9\nmax_iterations = 300\nseed = {seed}",
            start="starts = 4",
            optimiser="lbfgs",
        )
        server = configured(tmp_path, text)
        fitted, result = fit_pooled(
            server.description, rows, server.fit.stopping, seed, server.optimiser, server.beginning()
        )
        assert canonical_order(fitted.parameters).tolist() == [0, 1, 2]
        ends.append((result.order, fitted.parameters))
    assert len({order for order, _ in ends}) > 1
    assert max(parameters.distance(ends[0][1]) for _, parameters in ends) < 1e-3


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (session_toml(FIVE, FIT) + '[labels]\ncolumn = "group"\n', r"components that \[labels\] name"),
        (session_toml(FIVE + '\nmixing = "tenant"', FIT), "mixing weights of their own"),
        (session_toml(FIVE, FIT, trust="mass_floor = 5"), "leaves out or merges components, and has a mass floor"),
        (
            session_toml(FIVE, FIT.replace("tolerance = 1e-5\n", "")) + "[stream]\nbatches = 4\n",
            r"components of a \[stream\]",
        ),
        (session_toml(FIVE, "least_weight = 1.0"), "least_weight"),
        (session_toml(FIVE, "least_distance = -1"), "least_distance"),
    ],
)
def test_where_components_cannot_go_it_is_refused(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(CallerError, match=told):
        configured(tmp_path, text)


def test_components_that_have_numbers_keep_them(tmp_path: Path) -> None:
    assert configured(tmp_path, session_toml()).description.final_components is not None
    labelled = session_toml() + '[labels]\ncolumn = "group"\n'
    assert configured(tmp_path, labelled).description.final_components is None
    assert configured(tmp_path, session_toml(MODEL + '\nmixing = "tenant"')).description.final_components is None


def test_a_tenant_answers_for_what_is_left_and_for_nothing_else(tmp_path: Path) -> None:
    left = configured(tmp_path, session_toml(FIVE, FIT)).description
    whole = left.fitted_model
    assert isinstance(whole, GaussianMixtureModel)
    fewer, wider = GaussianMixtureModel(3, 3), GaussianMixtureModel(6, 3)
    assert left.may_go_on(whole, fewer) and left.may_go_on(fewer, fewer)
    assert not left.may_go_on(fewer, whole) and not left.may_go_on(whole, wider)
    assert not left.may_go_on(whole, GaussianMixtureModel(3, 3, "diag"))
    silent = configured(tmp_path, session_toml(FIVE)).description
    assert not silent.may_go_on(whole, fewer)
