"""Sessions over mixed columns, with labels and with weights: through the secure sum, the same fit as of all records in one place."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from mixed_federation import (
    COLUMNS,
    FIT,
    LABELS,
    WEIGHTS,
    mixed_session,
    mixed_tables,
    pooled_from_same_start,
    records_of,
    run,
    write_mixed_federation,
)
from small_federation import session_toml, write_three_blocks
from test_dropouts import SIZES as NINE
from test_dropouts import TIMES, Deaths, die
from test_equals_pooled import assert_same_path
from typer.testing import CliRunner

from fed_em.em import Stopping, fit
from fed_em.mixed_mixture import MixedMixtureModel
from fed_em.parameters import Parameters
from fed_em.totals import TotalOfRows
from fed_em_protocols.messages import Mode
from fed_em_server.pooled import fit_pooled
from fed_em_server.report_page import report_page
from fed_em_server.session import SessionOutcome
from fed_em_simulations import command_line
from fed_em_simulations.federation_folder import FederationFolder

SIZES = (120, 40, 9, 160)
PRIOR = """
[model.prior]
weight_concentration = 1.2
level_records = 1.0
bernoulli_records = 1.0
poisson_records = 0.5
poisson_rates = [5.0]
"""
GAUSSIAN = 'family = "gaussian-mixture"\nn_components = 3\ncovariance = "{}"'


def only(*names: str) -> str:
    """The declarations of some columns."""
    tables = [f"[[columns]]{part}" for part in COLUMNS.split("[[columns]]")[1:]]
    return "\n".join(table for table in tables if any(f'name = "{name}"' in table for name in names))


GAUSSIANS = only("height", "weight")
COMPLETE = GAUSSIANS.replace("missing = true", "")
SESSIONS = {
    "full": (mixed_session("full"), 0.2),
    "tied": (mixed_session("tied"), 0.2),
    "diag": (mixed_session("diag"), 0.2),
    "spherical": (mixed_session("spherical"), 0.2),
    "complete": (mixed_session("full", columns=COLUMNS.replace("missing = true", "")), 0.0),
    "with a prior": (mixed_session("full", PRIOR), 0.2),
    "latent classes": (mixed_session(columns=only("ward", "smoker")), 0.2),
    "counts": (mixed_session(columns=only("visits")), 0.2),
    "labels": (mixed_session("full", LABELS), 0.2),
    "weights": (mixed_session("full", WEIGHTS), 0.2),
    "latent classes with labels and weights": (mixed_session("full", LABELS + WEIGHTS, columns=only("ward")), 0.2),
    "Gaussian with labels": (session_toml(GAUSSIAN.format("full") + LABELS, FIT, columns=COMPLETE), 0.0),
    "Gaussian with weights": (session_toml(GAUSSIAN.format("diag") + WEIGHTS, FIT, columns=COMPLETE), 0.0),
    "Gaussian with holes": (session_toml(GAUSSIAN.format("full"), FIT, columns=GAUSSIANS), 0.2),
    "Gaussian with holes, labels and weights": (
        session_toml(GAUSSIAN.format("full") + LABELS + WEIGHTS, FIT, columns=GAUSSIANS),
        0.2,
    ),
}


FAST = ("full", "diag", "latent classes", "Gaussian with labels", "Gaussian with holes, labels and weights")


@pytest.mark.parametrize(
    "name", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in SESSIONS]
)
def test_memory_federation_is_pooled_em(tmp_path: Path, name: str) -> None:
    session, missing = SESSIONS[name]
    federation = write_mixed_federation(tmp_path / "f", mixed_tables(SIZES, missing), session)
    outcome = run(federation)
    pooled = pooled_from_same_start(federation, outcome.result)
    assert len(pooled.iterations) > 1
    assert_same_path(outcome, pooled)


def fitted(folder: Path, session: str) -> tuple[FederationFolder, SessionOutcome]:
    federation = write_mixed_federation(folder, mixed_tables(SIZES), session)
    return federation, run(federation)


def test_the_fit_in_one_place_starts_where_the_federation_does(tmp_path: Path) -> None:
    federation, outcome = fitted(tmp_path / "f", mixed_session("full", LABELS + WEIGHTS))
    server = federation.server
    pooled, _ = fit_pooled(server.description, records_of(federation), server.fit.stopping, server.fit.seed)
    assert pooled.parameters.distance(outcome.fitted.parameters) < 1e-7
    np.testing.assert_allclose(pooled.coordinates.scale, outcome.fitted.coordinates.scale, rtol=1e-9)


def test_the_first_round_standardises_gaussian_columns_by_weight(tmp_path: Path) -> None:
    federation, outcome = fitted(tmp_path / "f", mixed_session("diag", WEIGHTS, "max_iterations = 1"))
    records, coordinates = records_of(federation), outcome.result.coordinates
    assert records.weights is not None
    seen = ~np.isnan(records.rows[:, 1])
    mean = np.average(records.rows[seen, 1], weights=records.weights[seen])
    assert coordinates.location == pytest.approx([0, mean, 0, 0, coordinates.location[4]], rel=1e-9)
    assert coordinates.scale[[0, 2, 3]].tolist() == [1, 1, 1]
    assert outcome.result.fit.iterations[0].records == pytest.approx(records.weights.sum(), rel=1e-9)


def test_a_mass_gate_over_mixed_columns(tmp_path: Path) -> None:
    session = mixed_session("full", LABELS, trust="mass_floor = 10")
    federation = write_mixed_federation(tmp_path / "f", mixed_tables((120, 90, 75, 60, 160, 80)), session)
    outcome = run(federation)
    model, records, before = outcome.fitted.model, records_of(federation), outcome.result.start
    assert isinstance(model, MixedMixtureModel) and records.admissible is not None
    rows = outcome.result.coordinates.apply(records.rows)
    for iteration in outcome.result.fit.iterations:
        pooled = model.m_step(
            model.e_step(before, type(records)(rows, None, records.admissible)), before, iteration.held
        )
        assert iteration.parameters.distance(pooled) < 1e-9
        before = cast(Parameters, iteration.parameters)


def test_the_report_shows_what_each_class_is_like(tmp_path: Path) -> None:
    _, outcome = fitted(tmp_path / "f", mixed_session("full", fit="max_iterations = 4"))
    page = report_page(outcome.record, outcome.fitted)
    assert "mixture over columns of mixed kinds with 3 components and full covariances" in page
    parameters, coordinates = outcome.fitted.parameters, outcome.fitted.coordinates
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))
    for k in range(3):
        mean = coordinates.location[1] + coordinates.scale[1] * parameters["means"][k, 0]
        spread = coordinates.scale[1] * np.sqrt(parameters["covariances"][k, 0, 0])
        assert f"{mean:.4g} ± {spread:.2g}" in text
    of_wards = [[f"{100 * p:.0f} %" for p in parameters["level_probabilities"][:, level]] for level in range(3)]
    assert " ".join(["ward north", *of_wards[0], "south", *of_wards[1], "west", *of_wards[2]]) in text
    yes = [f"{100 * p:.0f} %" for p in parameters["success_probabilities"][:, 0]]
    assert " ".join(["smoker yes", *yes]) in text
    assert " ".join(["visits rate", *(f"{rate:.3g}" for rate in parameters["rates"][:, 0])]) in text
    assert "The components on a plane" in page, "of the two columns of numbers"


def test_the_report_of_latent_classes(tmp_path: Path) -> None:
    _, outcome = fitted(tmp_path / "f", mixed_session("full", columns=only("ward"), fit="max_iterations = 2"))
    page = report_page(outcome.record, outcome.fitted)
    assert "latent class model with 3 classes" in page and "What the components are like" in page
    assert "The components on a plane" not in page


def test_the_pooled_fit_and_the_doctor_take_the_same_session(tmp_path: Path) -> None:
    federation = write_mixed_federation(
        tmp_path / "f", mixed_tables((30, 40, 50)), mixed_session("full", LABELS + WEIGHTS)
    )
    data = [str(federation.tenant(name).data) for name in federation.tenant_files]
    pooled = CliRunner().invoke(
        command_line.app, ["fit", str(federation.session_file), *data, "--output", str(tmp_path / "m")]
    )
    assert pooled.exit_code == 0 and "120 rows" in pooled.output
    doctor = CliRunner().invoke(command_line.app, ["doctor", str(federation.session_file)])
    assert "the moments of at most 3000 rows are exact to" in re.sub(r"\s+", " ", doctor.output)


@pytest.mark.slow
def test_around_a_dropout_the_free_energy_never_falls_and_the_fit_is_that_of_all_records(tmp_path: Path) -> None:
    more, how = PRIOR + LABELS + WEIGHTS, "tolerance = 1e-10\nmax_iterations = 600"
    session = mixed_session("full", more, how).replace("patience = 0.3\nstraggler = 0.5\nset_up = 5", TIMES)
    session = session.replace("\nupload = 10\nopen = 2", "")
    federation = write_mixed_federation(tmp_path / "f", mixed_tables(NINE), session, write_three_blocks)
    outcome, trouble = die(federation, Deaths(4, 8, back_after=0.05))
    iterations = outcome.result.fit.iterations
    assert outcome.result.fit.converged and iterations[-1].complete
    assert any(iteration.stale for iteration in iterations)
    assert Mode.INCREMENT in trouble.modes.values()
    assert np.diff([iteration.objective for iteration in iterations[1:]]).min() > -1e-9
    model, records = cast(MixedMixtureModel, outcome.fitted.model), records_of(federation)
    there = replace(records, rows=outcome.result.coordinates.apply(records.rows))
    best = fit(model, TotalOfRows(model, there), outcome.result.fit.parameters, Stopping(1e-13, 5000))
    assert best.iterations[-1].objective - iterations[-1].objective < 1e-4
