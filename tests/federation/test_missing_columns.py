"""Sessions over columns whose cells may be missing: the same fit as of all rows in one place, and a published one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from small_federation import (
    COLUMNS,
    TABLES,
    Recorder,
    clustered_rows,
    memory_hub,
    session_toml,
    write_small_federation,
    write_three_blocks,
)
from test_dropouts import SIZES, TIMES, Deaths, die, optimum, pool
from test_equals_pooled import MODELS, assert_same_path, pooled_from_same_start
from test_gated_session import FOUR, OUTLIER
from typer.testing import CliRunner

from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.model_file import load_model, save_model
from fed_em_protocols.description import SessionDescription
from fed_em_protocols.messages import Mode
from fed_em_server.pooled import fit_pooled
from fed_em_server.serve import open_server
from fed_em_server.session import SessionOutcome, run_session
from fed_em_simulations import command_line
from fed_em_simulations.federation_folder import FederationFolder, Matrix, write_federation_folder

WITH_MISSING = TABLES.replace("high = 20", "high = 20\nmissing = true")
IN_B_ALONE = TABLES.replace('name = "b"', 'name = "b"\nmissing = true')


def with_holes(sizes: tuple[int, ...], columns: tuple[int, ...] = (0, 1, 2), seed: int = 3) -> dict[str, Matrix]:
    """Clustered rows with 20 % of the cells of some columns missing; of the first tenant's second row, all of these."""
    generator, tenants = np.random.default_rng(seed), clustered_rows(sizes)
    for rows in tenants.values():
        for d in columns:
            rows[generator.random(len(rows)) < 0.2, d] = np.nan
    tenants["t0"][1, list(columns)] = np.nan
    return tenants


def run(federation: FederationFolder) -> SessionOutcome:
    return run_session(open_server(federation.server).plan("memory"), memory_hub(federation), Recorder())


# All in memory take as long as a dozen other tests; every structure's statistics with holes are `tests/fed_em`'s.
@pytest.mark.parametrize(
    "covariance", [each if each == "full" else pytest.param(each, marks=pytest.mark.slow) for each in MODELS]
)
def test_memory_federation_is_pooled_em(tmp_path: Path, covariance: str) -> None:
    tenants = with_holes((120, 40, 75, 9, 200))
    session = session_toml(MODELS[covariance], "tolerance = 1e-7\nmax_iterations = 20", columns=WITH_MISSING)
    federation = write_small_federation(tmp_path / "f", tenants, session)
    outcome = run(federation)
    assert cast(GaussianMixtureModel, outcome.fitted.model).missing
    pooled = pooled_from_same_start(federation, outcome.result, pool(tenants))
    assert len(pooled.iterations) > 5
    assert_same_path(outcome, pooled)


def test_the_first_round_standardises_by_observed_cells(tmp_path: Path) -> None:
    """A tenant that observed nothing of a column takes part in the others."""
    tenants = with_holes((50, 60, 70), columns=(1,))
    tenants["t2"][:, 1] = np.nan
    session = session_toml(fit="max_iterations = 1", columns=IN_B_ALONE)
    outcome = run(write_small_federation(tmp_path / "f", tenants, session))
    np.testing.assert_allclose(outcome.result.coordinates.location, np.nanmean(pool(tenants), axis=0), rtol=1e-9)
    np.testing.assert_allclose(outcome.result.coordinates.scale, np.nanstd(pool(tenants), axis=0), rtol=1e-9)
    assert outcome.result.fit.iterations[0].records == 180


@pytest.mark.parametrize("covariance", ["full", "diag"])
def test_a_tenant_that_misses_a_column_of_the_narrowest_range(tmp_path: Path, covariance: str) -> None:
    """Values at both ends of their ranges have a bound of 1 once standardised, and the one component starts far beyond it."""
    generator = np.random.default_rng(0)
    tenants = {f"t{k}": generator.choice([-1.0, 1.0], (60, 3)) for k in range(3)}
    tenants["t1"][:, 1] = np.nan
    columns = WITH_MISSING.replace("20", "1")
    session = session_toml(MODELS[covariance].replace("3", "1"), "max_iterations = 5\nseed = 3", columns=columns)
    federation = write_federation_folder(tmp_path / "f", "small", session, COLUMNS, tenants, 60, "127.0.0.1:1")
    outcome = run(federation)
    assert np.abs(outcome.result.start["means"][0, 1]) > 2.0
    assert_same_path(outcome, pooled_from_same_start(federation, outcome.result, pool(tenants)))


def test_the_fit_in_one_place_starts_where_the_federation_does(tmp_path: Path) -> None:
    tenants = with_holes((120, 40, 75))
    federation = write_small_federation(tmp_path / "f", tenants, session_toml(columns=WITH_MISSING))
    outcome, server = run(federation), federation.server
    fitted, _ = fit_pooled(server.description, pool(tenants), server.fit.stopping, server.fit.seed)
    assert fitted.parameters.distance(outcome.fitted.parameters) < 1e-6


@pytest.mark.slow
def test_around_a_dropout_the_free_energy_never_falls_and_the_fit_is_that_of_all_rows(tmp_path: Path) -> None:
    tenants = with_holes(SIZES)
    fit = "tolerance = 1e-7\nmax_iterations = 600"
    federation = write_three_blocks(tmp_path / "f", tenants, session_toml(fit=fit, times=TIMES, columns=WITH_MISSING))
    outcome, trouble = die(federation, Deaths(4, 8, back_after=0.05))
    iterations = outcome.result.fit.iterations
    assert outcome.result.fit.converged and iterations[-1].complete
    assert any(iteration.stale for iteration in iterations)
    assert Mode.INCREMENT in trouble.modes.values()
    assert np.diff([iteration.objective for iteration in iterations[1:]]).min() > -1e-9
    model, best, rows = optimum(outcome, pool(tenants))
    at = iterations[-2].parameters
    np.testing.assert_allclose(iterations[-1].log_likelihood, model.log_prob(at, rows).mean(), rtol=1e-9)
    assert best - model.log_prob(outcome.result.fit.parameters, rows).mean() < 1e-4


def test_a_mass_gate_counts_rows_with_holes(tmp_path: Path) -> None:
    tenants = with_holes((120, 90, 75, 60, 200, 80))
    fit = "tolerance = 1e-7\nmax_iterations = 8"
    session = session_toml(fit=fit, columns=WITH_MISSING, trust="mass_floor = 10")
    federation = write_small_federation(tmp_path / "f", tenants, session)
    outcome = run(federation)
    assert all(record.counted is not None for record in outcome.record.rounds[1:])
    assert not any(iteration.held for iteration in outcome.result.fit.iterations)
    assert_same_path(outcome, pooled_from_same_start(federation, outcome.result, pool(tenants)))


@pytest.mark.slow
def test_a_mass_gate_holds_what_is_small_among_rows_with_holes(tmp_path: Path) -> None:
    tenants = with_holes((60, 50, 40, 30, 45, 35))
    tenants["t2"][7] = OUTLIER
    fit = "tolerance = 1e-7\nmax_iterations = 20"
    # Without a floor, so that every M-step is a maximiser.
    four = FOUR.format("full").replace("1e-2", "0.0")
    session = session_toml(four, fit, columns=WITH_MISSING, trust="mass_floor = 10")
    outcome = run(write_small_federation(tmp_path / "f", tenants, session))
    model, iterations = cast(GaussianMixtureModel, outcome.fitted.model), outcome.result.fit.iterations
    assert any(iteration.held for iteration in iterations)
    rows, before = outcome.result.coordinates.apply(pool(tenants)), outcome.result.start
    for iteration in iterations:
        pooled = model.m_step(model.e_step(before, rows), before, iteration.held)
        assert iteration.parameters.distance(pooled) < 1e-9
        before = iteration.parameters
    distances = np.abs(outcome.fitted.parameters["means"] - outcome.result.coordinates.apply(OUTLIER[np.newaxis]))
    assert distances.max(axis=1).min() > 0.1, "nobody's record is a mean"
    assert np.diff([iteration.log_likelihood for iteration in iterations]).min() > -1e-9


@pytest.mark.parametrize(
    ("d", "cell", "complaint"),
    [
        (0, np.nan, "column 'a' has 1 values that are missing or not finite"),
        (1, np.inf, "column 'b' has 1 values that are infinite"),
    ],
)
def test_a_tenant_whose_rows_the_session_does_not_admit_stays_out_of_it(
    tmp_path: Path, d: int, cell: float, complaint: str
) -> None:
    tenants = with_holes((20, 20, 20, 20, 20, 20), columns=(1,))
    tenants["t1"][5, d] = cell
    session = session_toml(fit="max_iterations = 2", times=TIMES, columns=IN_B_ALONE)
    federation = write_small_federation(tmp_path / "f", tenants, session)
    hub = memory_hub(federation)
    outcome = run_session(open_server(federation.server).plan("memory"), hub, Recorder())
    assert outcome.result.fit.iterations[-1].missing == ("t1", "t3", "t5")
    assert complaint in str(hub.error_of(1))


def test_the_commands_take_the_rows_that_the_session_took(tmp_path: Path) -> None:
    tenants = with_holes((60, 50, 40))
    session = session_toml(fit="max_iterations = 5", columns=WITH_MISSING)
    federation = write_small_federation(tmp_path / "f", tenants, session)
    data = [str(federation.tenant(name).data) for name in tenants]
    model = str(tmp_path / "model")

    def said(*arguments: str) -> str:
        result = CliRunner().invoke(command_line.app, list(arguments), catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    assert "150 rows" in said("fit", str(federation.session_file), *data, "--output", model)
    fitted = load_model(model)
    mean = fitted.score_samples(tenants["t0"]).mean()
    assert f"60 rows, mean log density {mean:.6f} nats" in said("score", model, data[0])
    assert said("predict", model, data[0]).count("\n") == 61
    assert said("sample", model, "5").count("\n") == 6


def test_a_session_file_says_which_columns_may_be_missing(tmp_path: Path) -> None:
    tenants = clustered_rows((5, 5, 5))
    with_b = write_small_federation(tmp_path / "b", tenants, session_toml(columns=IN_B_ALONE)).server.description
    without = write_small_federation(tmp_path / "none", tenants, session_toml()).server.description
    assert [column.missing for column in with_b.columns] == [False, True, False]
    assert SessionDescription.from_json(with_b.to_json()) == with_b
    assert with_b.to_json().count(b'"missing":true') == 1
    assert b"missing" not in without.to_json(), "the hash that tenants pinned stays what it was"
    assert not cast(GaussianMixtureModel, without.fitted_model).missing


HEART = ("age", "trestbps", "chol", "thalach", "oldpeak")
HOSPITALS = ("cleveland", "hungarian", "switzerland", "va")
HEART_SESSION = """\
title = "heart-disease"
listen = "127.0.0.1:0"
output = "../result"
[fit]
tolerance = 1e-11
max_iterations = 400
[model]
family = "gaussian-mixture"
n_components = 1
covariance = "full"
covariance_floor = 0.0
prior = "none"
"""
HEART_RANGES = {"age": (0, 120), "trestbps": (50, 250), "chol": (50, 700), "thalach": (40, 250), "oldpeak": (-5, 10)}


def heart_of(path: Path) -> Matrix:
    """One hospital's rows, NaN for what it writes as "?", and for a blood pressure or a cholesterol of zero."""
    table = np.genfromtxt(path, delimiter=",", missing_values="?", filling_values=np.nan)
    rows = np.asarray(table[:, [0, 3, 4, 7, 9]])
    rows[:, 1:3][rows[:, 1:3] == 0] = np.nan
    return rows


def test_four_hospitals_reach_the_published_likelihood_of_all_their_rows(
    tmp_path: Path, shared_data: Callable[[str], Path]
) -> None:
    tenants = {name: heart_of(shared_data(f"processed.{name}.data")) for name in HOSPITALS}
    assert [len(rows) for rows in tenants.values()] == [303, 294, 123, 200]
    assert np.isnan(tenants["switzerland"][:, 2]).all(), "a hospital that never measured cholesterol"
    assert not np.isnan(pool(tenants)[:, 0]).any()
    tables = [
        f'[[columns]]\nname = "{name}"\nlow = {low}\nhigh = {high}\nmissing = {str(name != "age").lower()}'
        for name, (low, high) in HEART_RANGES.items()
    ]
    session = HEART_SESSION + "\n".join(tables)
    federation = write_federation_folder(tmp_path / "f", "hospitals", session, HEART, tenants, 400, "127.0.0.1:1")
    outcome = run(federation)
    assert outcome.record.converged
    save_model(tmp_path / "model", outcome.fitted)
    log_likelihood = load_model(tmp_path / "model").score_samples(pool(tenants)).sum()
    assert log_likelihood == pytest.approx(-16242.668078, abs=1e-3)
