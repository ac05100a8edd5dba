"""Sessions that pick their model: the pick and the parameters are those of all rows in one place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mixed_federation import WEIGHTS, mixed_session, mixed_tables, records_of, write_mixed_federation
from small_federation import (
    FIT,
    Recorder,
    clustered_rows,
    memory_hub,
    session_toml,
    write_small_federation,
    write_three_blocks,
)
from test_dropouts import TIMES, Trouble, nine_tenants, pool
from test_processes import federate
from test_published_mixed import carcinoma_of, declared
from typer.testing import CliRunner

from fed_em.draws import keyed_share
from fed_em.errors import CallerError
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.model_file import FittedModel, load_model
from fed_em.records import Records
from fed_em.standardised_fit import StandardisedFit
from fed_em_client.take_part import open_tenant
from fed_em_protocols.keys import KEY_BYTES, derive
from fed_em_protocols.messages import Mode
from fed_em_server.configuration import read_server_configuration
from fed_em_server.pooled import fit_pooled
from fed_em_server.serve import open_server
from fed_em_server.session import SessionOutcome, run_session
from fed_em_simulations import command_line
from fed_em_simulations.federation_folder import FederationFolder, Matrix
from fed_em_simulations.memory_hub import Fate, MemoryHub

FAMILY = 'family = "gaussian-mixture"\nprior = "none"'
SELECTION = '\n[selection]\ncomponents = [2, 3]\ncovariances = ["full", "diag"]\nmax_iterations = 12\n'


def picking_session(selection: str = SELECTION, fit: str = FIT, starts: int = 0) -> str:
    return session_toml(FAMILY + selection, fit, times=TIMES, optimiser="lbfgs", start=f"starts = {starts}")


def run(federation: FederationFolder, hub: MemoryHub) -> SessionOutcome:
    return run_session(open_server(federation.server).plan("memory"), hub, Recorder())


def pooled_fit(federation: FederationFolder, rows: Matrix | Records) -> tuple[FittedModel, StandardisedFit]:
    server = federation.server
    return fit_pooled(
        server.description, rows, server.fit.stopping, server.fit.seed, server.optimiser, server.beginning()
    )


def test_the_pick_and_its_parameters_are_those_of_the_pooled_rows(tmp_path: Path) -> None:
    tenants = clustered_rows((120, 40, 75, 90, 200))
    federation = write_small_federation(tmp_path / "f", tenants, picking_session(starts=1))
    outcome = run(federation, memory_hub(federation))
    fitted, pooled = pooled_fit(federation, pool(tenants))
    picked, expected = outcome.result.picked, pooled.picked
    assert picked is not None and expected is not None and picked.complete
    assert outcome.result.model == expected.model == GaussianMixtureModel(3, 3, "diag")
    assert outcome.fitted.model == fitted.model
    assert outcome.fitted.parameters.distance(fitted.parameters) < 1e-6
    for ours, theirs in zip(picked.evidence, expected.evidence, strict=True):
        assert ours is not None and theirs is not None
        assert ours.bic == pytest.approx(theirs.bic, abs=0.05)
    assert outcome.fitted.provenance["picked_by"] == "bic"
    assert outcome.fitted.provenance["picked_from"] == 4


def test_the_record_tells_the_course_and_the_reason(tmp_path: Path) -> None:
    tenants = clustered_rows((60, 70, 80))
    watcher = Recorder()
    selection = '\n[selection]\ncomponents = [1, 3]\ncovariances = ["diag"]\nmax_iterations = 30\n'
    session = picking_session(selection, f"{FIT}\nstandard_errors = true")
    federation = write_small_federation(tmp_path / "f", tenants, session)
    outcome = run_session(open_server(federation.server).plan("memory"), memory_hub(federation), watcher)
    assert watcher.record is not None and watcher.record.selection is None
    assert watcher.record.model == (
        "one of 2 models, from a Gaussian mixture with 1 component and diag covariances to a Gaussian mixture with 3 components and "
        "diag covariances"
    )
    record = outcome.record
    assert outcome.fitted.errors is not None and outcome.fitted.errors.errors["means"].shape == (3, 3)
    assert record.model == "Gaussian mixture with 3 components and diag covariances"
    assert record.selection is not None and record.selection.rows == 210
    together = [opened for opened in watcher.rounds if opened.fitted_together]
    assert [opened.round for opened in watcher.rounds] == list(range(1, len(record.rounds) + 1))
    assert [bool(opened.picked) for opened in together] == [False] * (len(together) - 1) + [True]
    assert together[-1].picked.startswith(f"{record.model}: BIC ")
    # One component stands still after its second sum, and is not fitted any more.
    assert [one for one, _ in (opened.fitted_together for opened in together)][1:4].count(None) >= 1
    afterwards = record.rounds[len(together) + 1 :]
    assert len(afterwards) >= 2 and all(opened.weights for opened in afterwards)
    climbed = [opened.log_likelihood for opened in record.rounds if opened.log_likelihood is not None]
    assert climbed[-1] == max(climbed)


def test_held_out_rows_are_each_tenants_own_and_the_picked_model_goes_on_over_all(tmp_path: Path) -> None:
    tenants = clustered_rows((150, 120, 200))
    selection = '\n[selection]\ncomponents = [1, 3]\ncriterion = "held-out"\nheld_out = 0.3\nmax_iterations = 8\n'
    federation = write_small_federation(tmp_path / "f", tenants, picking_session(selection))
    plan = open_server(federation.server).plan("memory")
    outcome = run_session(plan, memory_hub(federation), Recorder())
    picked = outcome.result.picked
    assert picked is not None and picked.number == 1
    secrets = {name: open_tenant(federation.tenant(name)).draws for name in tenants}
    keys = {
        name: derive("held-out rows", secret, KEY_BYTES, plan.terms.session, plan.terms.schema)
        for name, secret in secrets.items()
    }
    masks = {name: keyed_share(keys[name], 0.3, len(rows)) for name, rows in tenants.items()}
    held = np.concatenate([rows[masks[name]] for name, rows in tenants.items()])
    kept = np.concatenate([rows[~masks[name]] for name, rows in tenants.items()])
    evidence = picked.evidence[1]
    assert evidence is not None and evidence.held_out is not None
    assert evidence.records == len(kept)
    there = outcome.result.coordinates.apply
    assert evidence.log_likelihood == pytest.approx(
        picked.model.log_prob(picked.parameters, there(kept)).sum(), abs=1e-4
    )
    assert evidence.held_out == pytest.approx(picked.model.log_prob(picked.parameters, there(held)).mean(), abs=1e-6)
    assert outcome.result.fit.iterations[-1].records == len(held) + len(kept) == 470
    assert outcome.result.fit.converged


@pytest.mark.slow
def test_with_tenants_that_come_and_go_the_pick_and_the_optimum_are_those_of_everybody(tmp_path: Path) -> None:
    tenants = nine_tenants()
    selection = '\n[selection]\ncomponents = [2, 3]\ncovariances = ["full", "diag"]\nmax_iterations = 12\n'
    session = picking_session(selection, fit="tolerance = 1e-6\nmax_iterations = 60")
    federation = write_three_blocks(tmp_path / "f", tenants, session)
    trouble = Trouble(lambda tenant, number: Fate.BREAK if number % 7 == 3 and tenant == number % 9 else Fate.DELIVER)
    outcome = run(federation, memory_hub(federation, latency=0.02, interfere=trouble))
    fitted, pooled = pooled_fit(federation, pool(tenants))
    together = [opened for opened in outcome.record.rounds if opened.fitted_together]
    assert sum(opened.stale > 0 for opened in together) > 3
    assert {trouble.modes[opened.round] for opened in together[2:]} == {Mode.INCREMENT}
    picked, expected = outcome.result.picked, pooled.picked
    assert picked is not None and expected is not None and picked.number == expected.number
    assert outcome.result.fit.converged
    rows = outcome.result.coordinates.apply(pool(tenants))
    for ours, theirs in ((outcome.fitted, fitted),):
        gap = ours.model.log_prob(ours.parameters, rows).mean() - theirs.model.log_prob(theirs.parameters, rows).mean()
        assert abs(gap) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("over_grpc", [False, True])
def test_carcinoma_has_three_latent_classes_by_the_published_bic(
    tmp_path: Path, shared_data: Callable[[str], Path], over_grpc: bool
) -> None:
    """poLCA (Linzer and Lewis 2011, J. Stat. Soft. 42/10) has BIC 706.0739 and 697.1357 for two and three classes of seven pathologists."""
    tables = carcinoma_of(shared_data("carcinoma.csv"))
    columns = declared([(name, 'kind = "categorical"\nlevels = ["1", "2"]') for name in "ABCDEFG"])
    model = 'family = "mixed-mixture"\nprior = "none"\n[selection]\ncomponents = [1, 2, 3, 4]\nmax_iterations = 60'
    session = session_toml(model, "tolerance = 1e-9", columns=columns, optimiser="lbfgs", start="starts = 8")
    federation = write_mixed_federation(tmp_path / "f", tables, session)
    outcome = federate(federation)[0] if over_grpc else run(federation, memory_hub(federation))
    picked = outcome.result.picked
    assert picked is not None and picked.number == 2
    two, three = picked.evidence[1:3]
    assert two is not None and three is not None
    assert two.bic == pytest.approx(706.0739, abs=1e-3)
    assert three.bic == pytest.approx(697.1357, abs=1e-3)
    if over_grpc:
        kept = load_model(federation.tenant("t0").state / "model")
        assert kept.model == outcome.result.model
        assert kept.parameters.distance(outcome.fitted.parameters) == 0.0


def test_mixed_columns_with_holes_and_weights_are_picked_from_as_pooled_ones_are(tmp_path: Path) -> None:
    tables = mixed_tables((60, 50, 70))
    more = (
        WEIGHTS + '\n[selection]\ncomponents = [1, 2]\ncovariances = ["diag"]\ncriterion = "icl"\nmax_iterations = 5\n'
    )
    session = mixed_session("diag", more).replace('n_components = 3\ncovariance = "diag"', "")
    federation = write_mixed_federation(tmp_path / "f", tables, session)
    outcome = run(federation, memory_hub(federation))
    records = records_of(federation)
    fitted, pooled = pooled_fit(federation, records)
    assert outcome.result.picked is not None and pooled.picked is not None
    assert outcome.fitted.model == fitted.model
    assert outcome.fitted.parameters.distance(fitted.parameters) < 1e-6
    for ours, theirs in zip(outcome.result.picked.evidence, pooled.picked.evidence, strict=True):
        assert ours is not None and theirs is not None
        assert ours.icl == pytest.approx(theirs.icl, rel=1e-6)
        assert ours.records == pytest.approx(records.total_weight)


@pytest.mark.parametrize("criterion", ["bic", "held-out"])
def test_a_table_of_files_is_fitted_as_the_rows_in_memory_are(tmp_path: Path, criterion: str) -> None:
    rows = pool(clustered_rows((60, 50, 40)))
    selection = f'\n[selection]\ncomponents = [1, 3]\ncriterion = "{criterion}"\nmax_iterations = 10\n'
    path = tmp_path / "session.toml"
    path.write_text(picking_session(selection))
    pq.write_table(pa.table(dict(zip("abc", rows.T, strict=True))), tmp_path / "rows.parquet")
    arguments = ["fit", str(path), str(tmp_path / "rows.parquet"), "--output", str(tmp_path / "model")]
    result = CliRunner().invoke(command_line.app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert result.output.startswith("picked a Gaussian mixture with 3 components and full covariances: ")
    assert "3 components are the most that were tried" in result.output
    parsed = read_server_configuration(path)
    expected, _ = fit_pooled(
        parsed.description, rows, parsed.fit.stopping, parsed.fit.seed, parsed.optimiser, parsed.beginning()
    )
    assert load_model(tmp_path / "model").parameters.distance(expected.parameters) < 1e-9


def test_a_configuration_says_what_does_not_go_together(tmp_path: Path) -> None:
    path = tmp_path / "session.toml"
    for session, message in (
        (picking_session().replace("starts = 0", 'start = "labels"'), "leave `start` out"),
        (picking_session().replace("[trust]", "[trust]\nmass_floor = 5"), "rounds of candidates, and a mass floor"),
        (picking_session("\n[selection]\ncomponents = [1, 2]\n[stream]\nbatches = 2\n"), "leave out .selection."),
    ):
        path.write_text(session)
        with pytest.raises(CallerError, match=message):
            read_server_configuration(path)


@pytest.mark.slow
def test_a_private_session_picks_by_sums_with_noise(tmp_path: Path) -> None:
    """Three clusters or none; the noise of ε = 36 is small beside 2850 rows, whatever is drawn."""
    private = "\n[privacy]\nepsilon = 36\ndelta = 1e-4\n[selection]\ncomponents = [1, 3]\nmax_iterations = 3\n"
    session = session_toml(FAMILY + private, "max_iterations = 2", times=TIMES, start="starts = 1")
    federation = write_small_federation(tmp_path / "f", clustered_rows((950, 950, 950)), session)
    outcome = run(federation, memory_hub(federation))
    selection, promised = outcome.record.selection, outcome.record.privacy
    assert selection is not None and promised is not None
    assert selection.candidates[selection.picked].components == 3
    assert len(outcome.record.rounds) <= promised.sums
    assert all(opened.bases == (opened.round,) * 3 for opened in outcome.record.rounds)
