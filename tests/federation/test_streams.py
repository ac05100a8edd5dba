"""Sessions that are streams: minibatches of every tenant's rows, whole sums, averaged by the server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mixed_federation import mixed_session, mixed_tables, write_mixed_federation
from small_federation import (
    COLUMNS,
    Recorder,
    clustered_rows,
    memory_hub,
    session_toml,
    write_small_federation,
    write_three_blocks,
)
from test_dropouts import TIMES

from fed_em.em import Fit, Stopping, Summed, fit
from fed_em.errors import CallerError
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.parameters import Parameters
from fed_em.records import Records
from fed_em.standardised_fit import StandardisedFit
from fed_em.statistics import Statistics
from fed_em.stepwise import StepwiseTotal
from fed_em.totals import TotalOfRows
from fed_em_client.rows import read_records
from fed_em_client.take_part import open_tenant
from fed_em_protocols.envelope import unseal
from fed_em_protocols.keys import KEY_BYTES, derive
from fed_em_protocols.messages import Certificate, Header, Mode, Upload
from fed_em_protocols.stream import Stream
from fed_em_server.configuration import ServerConfiguration, read_server_configuration
from fed_em_server.pooled import fit_pooled
from fed_em_server.report_words import ending_in_words
from fed_em_server.serve import open_server
from fed_em_server.session import SessionOutcome, SessionPlan, run_session
from fed_em_simulations.federation_folder import FederationFolder
from fed_em_simulations.memory_hub import Direction, Fate, MemoryHub, Passing

STREAM = "\n[stream]\nbatches = 5\ndecay = 0.7\n"
ROUNDS = "max_iterations = 8"
MODEL = 'family = "gaussian-mixture"\nn_components = 3\ncovariance = "full"'


def records_of(federation: FederationFolder) -> dict[str, Records]:
    """What each tenant reads from its own file."""
    description, caps = federation.server.description, federation.roster.row_caps
    found = {}
    for name, cap in zip(federation.tenant_files, caps, strict=True):
        tenant = federation.tenant(name)
        found[name] = read_records(tenant.data, description, tenant.columns, cap)
    return found


def in_one_place(
    plan: SessionPlan,
    federation: FederationFolder,
    result: StandardisedFit,
    rounds: Mapping[int, frozenset[str]],
    batches: Mapping[str, Mapping[int, int]] | None = None,
) -> Fit:
    """Stepwise EM over the same minibatches of all rows, without a tenant or a server: from where the session started.

    Args:
        plan: The session's.
        federation: Its tenants.
        result: The session's, for its coordinates and its start.
        rounds: The numbers of its rounds of the model, in order, and who was in each sum.
        batches: By tenant, the minibatch that it took in each round; None: all took one after the other.
    """
    description = plan.description
    model, stream, asked = description.fitted_model, description.stream, iter(rounds.items())
    assert stream is not None
    records = records_of(federation)
    there = {name: replace(one, rows=result.coordinates.apply(one.rows)) for name, one in records.items()}
    secrets = {name: open_tenant(federation.tenant(name)).draws for name in there}
    keys = {
        name: derive("minibatches", secret, KEY_BYTES, plan.terms.session, plan.terms.schema)
        for name, secret in secrets.items()
    }

    def total(parameters: Parameters) -> Summed:
        number, names = next(asked)
        summed = Statistics.zero(model.layout())
        for name in names:
            batch = list(rounds).index(number) if batches is None else batches[name][number]
            rows = stream.minibatches(keys[name]).rows_of(batch, len(there[name]))
            summed = summed + model.e_step(parameters, there[name][rows])
        return Summed(summed)

    return fit(model, StepwiseTotal(total, stream.schedule), result.start, Stopping(0.0, len(rounds)))


def run(federation: FederationFolder, hub: MemoryHub | None = None) -> tuple[SessionPlan, SessionOutcome, Recorder]:
    plan, watcher = open_server(federation.server).plan("memory"), Recorder()
    return plan, run_session(plan, hub or memory_hub(federation), watcher), watcher


def summed_in(outcome: SessionOutcome) -> dict[int, frozenset[str]]:
    """Who was in the sum of each round of the model."""
    tenants = outcome.record.tenants
    return {
        opened.round: frozenset(name for name, base in zip(tenants, opened.bases, strict=True) if base == opened.round)
        for opened in outcome.record.rounds[1:]
    }


def assert_equal(outcome: SessionOutcome, pooled: Fit) -> None:
    for ours, theirs in zip(outcome.result.fit.iterations, pooled.iterations, strict=True):
        assert ours.parameters.distance(theirs.parameters) < 1e-9, f"iteration {ours.number}"
        assert ours.objective == pytest.approx(theirs.objective, abs=1e-9)
        assert ours.log_likelihood == pytest.approx(theirs.log_likelihood, abs=1e-9)


@pytest.mark.parametrize("stream", [STREAM, "\n[stream]\nbatches = 3\nstep_size = 0.4\n"])
def test_a_stream_over_a_federation_is_one_over_the_same_batches_in_one_place(tmp_path: Path, stream: str) -> None:
    federation = write_small_federation(
        tmp_path / "f", clustered_rows((120, 40, 75, 26, 200)), session_toml(MODEL + stream, ROUNDS)
    )
    plan, outcome, watcher = run(federation)
    pooled = in_one_place(plan, federation, outcome.result, summed_in(outcome))
    assert_equal(outcome, pooled)
    assert len(pooled.iterations) == 8 and not outcome.result.fit.converged
    batches = {iteration.records for iteration in outcome.result.fit.iterations}
    assert len(batches) > 1, "and each is worth more records than it holds"
    assert outcome.record.stream and ending_in_words(outcome.record) == "a stream, to its last round"
    assert all(opened.complete for opened in watcher.rounds)


def test_mixed_columns_labels_and_weights_stream_too(tmp_path: Path) -> None:
    more = STREAM + '\n[labels]\ncolumn = "subtype"\n\n[weights]\ncolumn = "counts"\nupper = 20\n'
    session = mixed_session(more=more, fit="max_iterations = 6")
    federation = write_mixed_federation(tmp_path / "f", mixed_tables((60, 90, 45), missing=0.1), session)
    plan, outcome, _ = run(federation)
    assert_equal(outcome, in_one_place(plan, federation, outcome.result, summed_in(outcome)))


@pytest.mark.slow
def test_a_stream_ends_near_the_fit_of_all_rows(tmp_path: Path) -> None:
    """Eight passes of five batches each, against plain EM to its end."""
    tenants = clustered_rows((300, 200, 250))
    rows = np.concatenate(list(tenants.values()))
    two = MODEL.replace("n_components = 3", "n_components = 2") + STREAM
    federation = write_small_federation(tmp_path / "f", tenants, session_toml(two, "max_iterations = 40\nseed = 2"))
    _, outcome, _ = run(federation)
    description = federation.server.description.model_copy(update={"stream": None})
    best, _ = fit_pooled(description, rows, Stopping(1e-9, 500), 2)
    streamed, _ = fit_pooled(federation.server.description, rows, Stopping(0.0, 40), 2)
    optimum = best.score_samples(rows).mean()
    for fitted in (outcome.fitted, streamed):
        assert -1e-9 < optimum - fitted.score_samples(rows).mean() < 0.03


@pytest.mark.slow
def test_whoever_is_away_is_left_out_and_comes_back_without_a_base_round(tmp_path: Path) -> None:
    """Every vector on the wire is whole, so a tenant that was killed needs nothing but its rows."""
    tenants = clustered_rows((60, 80, 70, 50, 90, 40, 55, 65, 75))
    session = session_toml(MODEL + STREAM, "max_iterations = 40")
    federation = write_three_blocks(tmp_path / "f", tenants, session)
    modes: set[int] = set()
    uploads: dict[str, list[int]] = {f"t{index}": [] for index in range(9)}

    def interfere(passing: Passing) -> Fate:
        content = unseal(passing.data, "").content
        if isinstance(content, Header):
            modes.add(content.mode)
        if passing.direction is Direction.TO_SERVER and isinstance(content, Upload):
            uploads[f"t{passing.tenant}"].append(content.round)
            if passing.tenant == 4 and len(uploads["t4"]) == 5:
                hub.restart(4, 0.05)
                return Fate.KILL
        return Fate.DELIVER

    hub = memory_hub(federation, interfere=interfere)
    plan, outcome, _ = run(federation, hub)
    rounds = summed_in(outcome)
    assert modes == {Mode.WHOLE}
    assert any(len(names) == 6 for names in rounds.values()), "without the block of the one that was killed"
    assert len(list(rounds.values())[-1]) == 9
    # The first upload is of the moments. The killed one goes on by the number of the first round that it is asked for.
    batches = {name: {each: batch - 1 for batch, each in enumerate(mine)} for name, mine in uploads.items()}
    back = uploads["t4"][5]
    batches["t4"] |= {each: back + k for k, each in enumerate(uploads["t4"][5:])}
    assert len({mine[back] for mine in batches.values()}) == 3, (
        "its own, those of its block, which missed a round, and the others'"
    )
    assert_equal(outcome, in_one_place(plan, federation, outcome.result, rounds, batches))


class Drifting:
    """Populations that change between two rounds: behind the first third of a session all clusters have moved.

    Rows come with each process, so every tenant is started anew at the change, with other rows under the same file.
    """

    MOVED = np.array([1.5, -1.5, 1.5])

    def __init__(self, folder: Path, stream: str, changes_in: int, rounds: int) -> None:
        self.before = clustered_rows((150, 120, 130), seed=1)
        self.after = {name: rows + self.MOVED for name, rows in clustered_rows((150, 120, 130), seed=2).items()}
        session = session_toml(MODEL + stream, f"max_iterations = {rounds}\nseed = 2", times=TIMES)
        self.federation = write_small_federation(folder / "f", self.before, session)
        self.changes_in, self.changed = changes_in, set[int]()
        self.hub = memory_hub(self.federation, interfere=self)

    def __call__(self, passing: Passing) -> Fate:
        content = unseal(passing.data, "").content
        late = isinstance(content, Certificate) and content.round >= self.changes_in
        if not late or passing.direction is not Direction.TO_TENANT or passing.tenant in self.changed:
            return Fate.DELIVER
        self.changed.add(passing.tenant)
        name = f"t{passing.tenant}"
        columns = dict(zip(COLUMNS, self.after[name].T, strict=True))
        pq.write_table(pa.table(columns), self.federation.tenant(name).data)
        self.hub.restart(passing.tenant, 0.01)
        return Fate.KILL

    def gaps(self) -> tuple[float, float]:
        """How far the model is below where EM climbs to from it over the rows of now, and over those before, in nats a row."""
        _, outcome, _ = run(self.federation, self.hub)
        assert self.changed == {0, 1, 2} and len(outcome.result.fit.iterations) > 2 * self.changes_in
        model, ended, found = outcome.fitted.model, outcome.result.fit.parameters, []
        assert isinstance(model, GaussianMixtureModel)
        for tenants in (self.after, self.before):
            rows = outcome.result.coordinates.apply(np.concatenate(list(tenants.values())))
            best = fit(model, TotalOfRows(model, rows), ended, Stopping(1e-9, 2000)).parameters
            found.append(float((model.log_prob(best, rows) - model.log_prob(ended, rows)).mean()))
        return found[0], found[1]


@pytest.mark.slow
def test_a_constant_step_follows_populations_that_change_between_rounds(tmp_path: Path) -> None:
    now, before = Drifting(tmp_path, "\n[stream]\nbatches = 4\nstep_size = 0.3\n", 20, 100).gaps()
    assert now < 0.1
    assert before > 1.0


@pytest.mark.slow
def test_steps_that_shrink_stay_behind_with_what_they_averaged_before(tmp_path: Path) -> None:
    """1/t weighs all rounds alike: a third of them are of populations that are no more."""
    now, _ = Drifting(tmp_path, "\n[stream]\nbatches = 4\ndecay = 1.0\n", 20, 60).gaps()
    assert now > 0.2


class TestConfiguration:
    def read(self, tmp_path: Path, text: str) -> ServerConfiguration:
        (tmp_path / "session.toml").write_text(text)
        return read_server_configuration(tmp_path / "session.toml")

    def test_a_mass_gate_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(CallerError, match="no mass gate"):
            self.read(tmp_path, session_toml(MODEL + STREAM, ROUNDS, trust="mass_floor = 3"))

    def test_a_tolerance_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(CallerError, match="does not converge"):
            self.read(tmp_path, session_toml(MODEL + STREAM, "tolerance = 1e-3"))

    @pytest.mark.parametrize("table", [STREAM, '\nmixing = "tenant"\n'])
    def test_its_steps_are_those_of_plain_em(self, tmp_path: Path, table: str) -> None:
        text = session_toml(MODEL + table, ROUNDS)
        for said, optimiser in (('optimiser = "em"', "em"), ("", "em")):
            assert self.read(tmp_path, text.replace('optimiser = "em"', said)).optimiser == optimiser
        assert self.read(tmp_path, session_toml(MODEL).replace('optimiser = "em"', "")).optimiser == "lbfgs"
        for other in ("squarem", "lbfgs"):
            with pytest.raises(CallerError, match=rf'no optimiser \'{other}\'.*set optimiser = "em" in \[fit\]'):
                self.read(tmp_path, session_toml(MODEL + table, ROUNDS, optimiser=other))

    @pytest.mark.parametrize(
        ("stream", "complaint"),
        [
            ("batches = 0", "batches"),
            ("decay = 0.7", "batches"),
            ("batches = 2\nstep_size = 1.5", "step_size"),
            ("batches = 2\ndecay = 0.5", "decay"),
            ("batches = 2\nstep_size = 0.5\noffset = 1", "give one of them"),
            ("batches = 2\nstepsize = 0.5", "step_size"),
        ],
    )
    def test_what_is_wrong_is_named(self, tmp_path: Path, stream: str, complaint: str) -> None:
        with pytest.raises(CallerError, match=complaint):
            self.read(tmp_path, session_toml(f"{MODEL}\n[stream]\n{stream}\n", ROUNDS))

    def test_tenants_pin_it_and_sessions_without_it_are_described_as_before(self, tmp_path: Path) -> None:
        tenants = clustered_rows((9, 9, 9))
        plain = write_small_federation(tmp_path / "a", tenants, session_toml(MODEL)).server.description
        stream = write_small_federation(
            tmp_path / "b", tenants, session_toml(MODEL + STREAM, ROUNDS)
        ).server.description
        assert b"stream" not in plain.to_json() and plain.to_json() != stream.to_json()
        assert type(stream).from_json(stream.to_json()) == stream
        assert stream.stream == Stream(batches=5, decay=0.7)
