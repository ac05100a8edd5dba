"""Sessions in which every tenant has mixing weights of its own: through the secure sum as in one place, and kept at home."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mixed_federation import LABELS, WEIGHTS, mixed_session, mixed_tables, write_mixed_federation
from small_federation import Recorder, clustered_rows, memory_hub, session_toml, write_small_federation
from small_federation import write_three_blocks as three_blocks
from test_dropouts import TIMES, Deaths, Trouble, nine_tenants
from test_streams import STREAM, records_of, summed_in

from fed_em.component_counts import component_counts, counts_layout
from fed_em.em import Fit, Stopping, fit
from fed_em.errors import CallerError
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.model_file import load_model, save_model
from fed_em.records import Records
from fed_em.standardised_fit import StandardisedFit
from fed_em.statistics import Statistics
from fed_em.tenant_mixing import at_home
from fed_em.totals import IncrementalTotal
from fed_em_client.own_weights import compare_weights
from fed_em_client.take_part import MODEL_FOLDER, OWN_MODEL_FOLDER, keep_model, open_tenant
from fed_em_protocols.mass_gate import held_components
from fed_em_protocols.messages import Mode
from fed_em_server.configuration import read_server_configuration
from fed_em_server.serve import open_server
from fed_em_server.session import SessionOutcome, run_session
from fed_em_simulations.federation_folder import FederationFolder
from fed_em_simulations.memory_hub import Fate, MemoryHub

OWN = '\nmixing = "tenant"\nmixing_records = 1.5\n'
MODEL = 'family = "gaussian-mixture"\nn_components = 3\ncovariance = "{}"' + OWN


def run(federation: FederationFolder, hub: MemoryHub | None = None) -> SessionOutcome:
    return run_session(open_server(federation.server).plan("memory"), hub or memory_hub(federation), Recorder())


def in_one_place(
    federation: FederationFolder,
    records: Mapping[str, Records],
    result: StandardisedFit,
    rounds: list[frozenset[str]],
) -> Fit:
    """EM over tenants in memory from where a session started, of whom in each iteration those answer that were in its sum."""
    model = federation.server.description.fitted_model
    there = {name: replace(one, rows=result.coordinates.apply(one.rows)) for name, one in records.items()}
    total = IncrementalTotal(model, there, lambda number: rounds[number - 1])
    return fit(model, total, result.start, Stopping(0.0, len(rounds)))


def assert_equals_one_place(federation: FederationFolder, outcome: SessionOutcome) -> None:
    pooled = in_one_place(federation, records_of(federation), outcome.result, list(summed_in(outcome).values()))
    assert len(pooled.iterations) > 4
    for ours, theirs in zip(outcome.result.fit.iterations, pooled.iterations, strict=True):
        assert ours.parameters.distance(theirs.parameters) < 1e-8, f"iteration {ours.number}"
        assert ours.objective == pytest.approx(theirs.objective, abs=1e-8)
        assert ours.stale == theirs.stale
    assert np.diff([i.objective for i in outcome.result.fit.iterations]).min() > -1e-8


@pytest.mark.parametrize("covariance", ["full", "spherical"])
def test_a_federation_is_the_same_fit_as_in_one_place(tmp_path: Path, covariance: str) -> None:
    session = session_toml(MODEL.format(covariance), "tolerance = 1e-3")
    federation = write_small_federation(tmp_path / "f", clustered_rows((120, 40, 9)), session)
    outcome = run(federation)
    assert outcome.result.fit.converged
    assert_equals_one_place(federation, outcome)
    assert outcome.record.model == (
        f"Gaussian mixture with 3 components and {covariance} covariances, and mixing weights of each tenant's own"
    )


def test_mixed_columns_with_holes_labels_and_weights_too(tmp_path: Path) -> None:
    session = mixed_session(more=OWN + LABELS + WEIGHTS)
    federation = write_mixed_federation(tmp_path / "f", mixed_tables((80, 60, 90)), session)
    assert_equals_one_place(federation, run(federation))


@pytest.mark.slow
def test_a_restarted_tenant_has_lost_nothing(tmp_path: Path) -> None:
    """Its base is computed again, weights and all, to the same integers: or the total would be off for good."""
    session = session_toml(MODEL.format("full"), fit="tolerance = 0\nmax_iterations = 22", times=TIMES)
    federation = three_blocks(tmp_path / "f", nine_tenants(), session)
    deaths = Deaths(4, 5, back_after=0.02)
    trouble = Trouble(deaths)
    deaths.hub = memory_hub(federation, interfere=trouble)
    outcome = run(federation, deaths.hub)
    assert {who for who, _ in trouble.asked_for_base} == {4}
    assert Mode.WHOLE not in {trouble.modes[record.round] for record in outcome.record.rounds[2:]}
    assert any(i.stale for i in outcome.result.fit.iterations) and outcome.result.fit.iterations[-1].complete
    assert_equals_one_place(federation, outcome)


def test_a_mass_gate_counts_at_the_tenants_own_weights(tmp_path: Path) -> None:
    """Each step by brute force: who is held, and where the M-step goes."""
    tenants = clustered_rows((40, 40, 75, 30, 50))
    session = session_toml(MODEL.format("full"), "max_iterations = 6\ntolerance = 0", trust="mass_floor = 70")
    federation = write_small_federation(tmp_path / "f", tenants, session, policy="mass_floor = 70")
    plan = open_server(federation.server).plan("memory")
    outcome = run_session(plan, memory_hub(federation), Recorder())
    model, before = plan.description.fitted_model, outcome.result.start
    assert isinstance(model, GaussianMixtureModel)
    parts = [outcome.result.coordinates.apply(rows) for rows in tenants.values()]
    for iteration in outcome.result.fit.iterations:
        counts = [component_counts(model, at_home(model, before, rows), rows) for rows in parts]
        summed = sum(counts, start=Statistics.zero(counts_layout(model)))
        assert iteration.held == held_components(summed, plan.terms.mass_floor, plan.terms.colluders + 2)
        moments = sum((model.e_step(before, rows) for rows in parts), start=Statistics.zero(model.layout()))
        after = model.m_step(moments, before, iteration.held)
        assert iteration.parameters.distance(after) < 1e-8
        before = iteration.parameters
    assert any(iteration.held for iteration in outcome.result.fit.iterations)
    assert any(len(iteration.held) < 3 for iteration in outcome.result.fit.iterations)


def test_the_weights_of_a_tenant_stay_in_its_folder(tmp_path: Path) -> None:
    """Beside the model that all received: the same but for the weights, which are the best for its rows."""
    tenants = clustered_rows((120, 140, 175))
    federation = write_small_federation(tmp_path / "f", tenants, session_toml(MODEL.format("full"), "tolerance = 1e-2"))
    sent: list[bytes] = []

    def listen(passing: object) -> Fate:
        sent.append(passing.data)  # type: ignore[attr-defined]
        return Fate.DELIVER

    hub = memory_hub(federation, interfere=listen)
    outcome = run(federation, hub)
    traffic = b"".join(sent)
    shared = outcome.fitted.parameters
    assert shared["means"].tobytes() in traffic, "as the server sent it to all"
    for index, (name, rows) in enumerate(tenants.items()):
        session = hub.session_of(index)
        assert session is not None
        work = open_tenant(federation.tenant(name)).work()
        work.prepare(federation.server.description.to_json(), 0)
        state = tmp_path / name
        assert keep_model(session, work, state / MODEL_FOLDER) == state / OWN_MODEL_FOLDER
        received, own = load_model(state / MODEL_FOLDER), load_model(state / OWN_MODEL_FOLDER)
        for array in shared:
            np.testing.assert_array_equal(received.parameters[array], shared[array])
            assert np.array_equal(own.parameters[array], shared[array]) == (array != "weights")
        expected = at_home(own.model, shared, outcome.result.coordinates.apply(rows))["weights"]
        np.testing.assert_array_equal(own.parameters["weights"], expected)
        assert own.score_samples(rows).mean() > received.score_samples(rows).mean()
        for weight in own.parameters["weights"]:
            assert weight.tobytes() not in traffic
    assert_compared_at_home(federation, tmp_path)


def assert_compared_at_home(federation: FederationFolder, states: Path) -> None:
    """Held-out rows of t0's kind are likelier at its own weights, those of t1's at the shared ones; told by its command alone."""
    tenant = federation.tenant("t0").model_copy(update={"state": states / "t0"})
    shared, own = (load_model(tenant.state / name) for name in (MODEL_FOLDER, OWN_MODEL_FOLDER))
    held_out = clustered_rows((300, 300, 300), seed=9)
    for name, sign in (("t0", 1), ("t1", -1)):
        path = states / f"{name}.npy"
        np.save(path, held_out[name])
        found = compare_weights(tenant, [path])
        gains = own.score_samples(held_out[name]) - shared.score_samples(held_out[name])
        assert found.rows == 300 and sign * (found.own - found.shared) > 3 * found.error
        assert found.own - found.shared == pytest.approx(gains.mean())
        assert found.error == pytest.approx(gains.std(ddof=1) / np.sqrt(300))
    assert compare_weights(tenant.model_copy(update={"fresh": (path, path)})).rows == 600
    assert f"own weights lose {-gains.mean():.4f} (standard error" in found.in_words
    with pytest.raises(CallerError, match="names no rows that no model was fitted to"):
        compare_weights(tenant)
    with pytest.raises(CallerError, match="no model with mixing weights of this tenant's own"):
        compare_weights(tenant.model_copy(update={"state": states}), [path])
    save_model(tenant.state / "other", replace(shared, provenance={"session": "another"}))
    (tenant.state / MODEL_FOLDER).rename(tenant.state / "before")
    (tenant.state / "other").rename(tenant.state / MODEL_FOLDER)
    with pytest.raises(CallerError, match="of different sessions"):
        compare_weights(tenant, [path])


@pytest.mark.slow
def test_what_the_documentation_shows_is_what_comes_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of the session that docs/federation.md describes; there it ran as four processes."""
    names = ("north", "south", "east")
    rows, fresh = clustered_rows((600, 500, 700)).values(), clustered_rows((400, 400, 400), seed=1).values()
    session = session_toml(MODEL.format("full").replace("mixing_records = 1.5\n", ""), start="starts = 4")
    federation = write_small_federation(tmp_path / "f", dict(zip(names, rows, strict=True)), session)
    hub = memory_hub(federation)
    run(federation, hub)
    told = list[str]()
    for index, (name, table) in enumerate(zip(names, fresh, strict=True)):
        ended, tenant = hub.session_of(index), federation.tenant(name)
        assert ended is not None
        work = open_tenant(tenant).work()
        work.prepare(federation.server.description.to_json(), 0)
        keep_model(ended, work, tenant.state / MODEL_FOLDER)
        np.save(tmp_path / f"{name}.npy", table)
    for name, of in (("north", "north"), ("south", "south"), ("north", "east")):
        told.append(f"{name}: {compare_weights(federation.tenant(name), [tmp_path / f'{of}.npy']).in_words}")
    page = (Path(__file__).parents[2] / "docs" / "federation.md").read_text(encoding="utf-8")
    assert [line for line in page.splitlines() if " nats a row at this tenant's own weights" in line] == told


def test_a_stream_has_none(tmp_path: Path) -> None:
    (tmp_path / "session.toml").write_text(session_toml(MODEL.format("full") + STREAM, "max_iterations = 3"))
    with pytest.raises(CallerError, match="need all of its rows in every round"):
        read_server_configuration(tmp_path / "session.toml")
