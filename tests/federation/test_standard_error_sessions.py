"""Sessions with standard errors: one more sum, the same numbers as from all records in one place, and what tenants refuse."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mixed_federation import LABELS, WEIGHTS, mixed_session, mixed_tables, records_of, write_mixed_federation
from small_federation import (
    LIKELIEST,
    clustered_rows,
    memory_hub,
    session_toml,
    write_small_federation,
    write_three_blocks,
)
from test_dropouts import TIMES, Trouble, nine_tenants, pool, run
from typer.testing import CliRunner

from fed_em.errors import CallerError
from fed_em.estimates import Estimates
from fed_em.model_file import FittedModel, load_model, save_model
from fed_em.records import Records
from fed_em.standard_errors import StandardErrors, standard_errors
from fed_em.statistic_products import StatisticProducts
from fed_em_protocols.messages import Mode
from fed_em_server.pooled import fit_pooled
from fed_em_server.report_page import report_page
from fed_em_simulations import command_line
from fed_em_simulations.memory_hub import Fate

FIT = "tolerance = 1e-9\nmax_iterations = 300\nstandard_errors = true"


def in_one_place(fitted: FittedModel, records: Records) -> StandardErrors:
    model, coordinates = fitted.model, fitted.coordinates
    products = StatisticProducts(model)  # type: ignore[arg-type]
    there = replace(records, rows=coordinates.apply(records.rows))
    return standard_errors(products, fitted.parameters, products.e_step(fitted.parameters, there))


def assert_same_errors(found: StandardErrors, expected: StandardErrors, relative: float = 1e-6) -> None:
    for name, errors in expected.errors.items():
        np.testing.assert_allclose(found.errors[name], errors, rtol=relative)
        np.testing.assert_array_equal(found.remarks[name], expected.remarks[name])
    assert found.records == pytest.approx(expected.records)


def test_they_are_those_of_all_records_in_one_place_by_one_more_sum(tmp_path: Path) -> None:
    tenants = clustered_rows((120, 40, 75, 9, 200))
    federation = write_small_federation(tmp_path / "f", tenants, session_toml(LIKELIEST, FIT, optimiser="lbfgs"))
    trouble = Trouble(lambda _tenant, _number: Fate.DELIVER)
    outcome = run(federation, memory_hub(federation, interfere=trouble))
    told = outcome.record.standard_errors
    assert outcome.fitted.errors is not None and told is not None
    assert_same_errors(outcome.fitted.errors, in_one_place(outcome.fitted, Records(pool(tenants))))
    assert outcome.fitted.errors.shift < 0.05
    assert told.round == outcome.record.rounds[-1].round + 1 == max(trouble.modes)
    assert trouble.modes[told.round] == Mode.WHOLE
    assert told.tenants == outcome.record.tenants
    assert told.records == 444
    assert told.bytes_up > 0


@pytest.mark.slow
def test_of_mixed_columns_with_holes_labels_and_weights_too(tmp_path: Path) -> None:
    session = mixed_session("full", LABELS + WEIGHTS, FIT.replace("300", "25"))
    federation = write_mixed_federation(tmp_path / "f", mixed_tables((120, 40, 160)), session)
    outcome = run(federation, memory_hub(federation))
    assert outcome.fitted.errors is not None
    assert_same_errors(outcome.fitted.errors, in_one_place(outcome.fitted, records_of(federation)), 1e-4)
    server = federation.server
    pooled, _ = fit_pooled(server.description, records_of(federation), server.fit.stopping, server.fit.seed, "em")
    assert pooled.errors is not None
    assert_same_errors(outcome.fitted.errors, pooled.errors, 1e-3)


def test_a_sum_over_some_tells_of_whom_it_is(tmp_path: Path) -> None:
    """A block that is late for the one sum is not in it: errors and number of records are those of the others."""
    tenants = nine_tenants()
    session = session_toml(fit=FIT.replace("300", "8"), times=TIMES)
    federation = write_three_blocks(tmp_path / "f", tenants, session)
    trouble = Trouble(lambda tenant, number: Fate.LOSE if tenant == 4 and number == 10 else Fate.DELIVER)
    outcome = run(federation, memory_hub(federation, interfere=trouble))
    told = outcome.record.standard_errors
    assert told is not None and outcome.fitted.errors is not None
    assert len(outcome.record.rounds) == 9
    assert len(told.tenants) == 6
    assert "t4" not in told.tenants
    rows = np.concatenate([tenants[name] for name in told.tenants])
    assert_same_errors(outcome.fitted.errors, in_one_place(outcome.fitted, Records(rows)))
    assert told.records == len(rows)


def test_the_model_is_kept_if_the_sum_cannot_be_taken(tmp_path: Path) -> None:
    session = session_toml(fit=FIT.replace("300", "3"), times=TIMES + "\npause = 1")
    federation = write_small_federation(tmp_path / "f", clustered_rows((60, 50, 40)), session)
    trouble = Trouble(lambda _tenant, number: Fate.LOSE if number > 4 else Fate.DELIVER)
    outcome = run(federation, memory_hub(federation, interfere=trouble))
    told = outcome.record.standard_errors
    assert told is not None
    assert outcome.fitted.errors is None
    assert "missing" in told.failure or "uploads" in told.failure
    assert len(outcome.record.rounds) == 4
    assert told.failure in report_page(outcome.record, outcome.fitted).replace("&#39;", "'")


@pytest.mark.slow
def test_model_file_report_and_command_show_them(tmp_path: Path) -> None:
    federation = write_small_federation(
        tmp_path / "f", clustered_rows((120, 90, 150)), session_toml(fit=FIT, optimiser="lbfgs")
    )
    outcome = run(federation, memory_hub(federation))
    save_model(tmp_path / "model", outcome.fitted)
    assert Estimates.of(load_model(tmp_path / "model")) == Estimates.of(outcome.fitted)
    shown = CliRunner().invoke(command_line.app, ["estimates", str(tmp_path / "model")])
    assert shown.exit_code == 0
    mean = Estimates.of(outcome.fitted)["mean of b in c1"]
    line = next(line for line in shown.output.splitlines() if line.startswith(mean.name + " "))
    assert mean.error is not None
    assert line.endswith(f"± {mean.error:.3g}")
    assert "standard errors of 360 records" in shown.output
    table = tmp_path / "estimates.csv"
    assert (
        CliRunner().invoke(command_line.app, ["estimates", str(tmp_path / "model"), "--output", str(table)]).exit_code
        == 0
    )
    assert len(table.read_text().splitlines()) == 1 + len(Estimates.of(outcome.fitted))
    page = report_page(outcome.record, outcome.fitted)
    assert "standard errors" in page
    assert f"± {mean.error:.2g}" in page


def refusals() -> Iterator[tuple[str, str]]:
    model = 'family = "gaussian-mixture"\nn_components = {}\ncovariance = "full"'
    yield session_toml(fit=FIT, trust="mass_floor = 5"), "between two"
    yield session_toml(model.format(2) + "\n[stream]\nbatches = 2", FIT.replace("tolerance = 1e-9", "")), "stream"
    yield session_toml(model.format(2) + '\nmixing = "tenant"', FIT), "each tenant's own"
    yield session_toml(model.format(300), FIT), "products of 3000 statistics"


@pytest.mark.parametrize(("session", "named"), list(refusals()))
def test_sessions_that_cannot_have_them_are_refused_before_they_begin(tmp_path: Path, session: str, named: str) -> None:
    federation = write_small_federation(tmp_path / "f", clustered_rows((30, 30, 30)), session)
    with pytest.raises(CallerError, match=named):
        _ = federation.server
