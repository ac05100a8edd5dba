"""Where sessions start: from the best of several candidates, from labels, from a fitted model; as a fit to all rows in one place does."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mixed_federation import LABELS, mixed_session, mixed_tables, records_of, write_mixed_federation
from mixed_federation import run as run_mixed
from rich.console import Console
from small_federation import (
    LIKELIEST,
    Recorder,
    clustered_rows,
    memory_hub,
    session_toml,
    write_small_federation,
    write_three_blocks,
)
from test_dropouts import TIMES, Trouble, nine_tenants, pool
from test_refused_leaps import Asked

from fed_em.beginnings import BestOf
from fed_em.errors import CallerError
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.model_file import FittedModel, save_model
from fed_em.starts import FINE_ROUNDS, GENERATION_ROUNDS, LLOYD_ROUNDS, ROUNDS, rounds_of
from fed_em.table_files import open_table
from fed_em_protocols.messages import Mode
from fed_em_protocols.transcript.memory_transcript import MemoryTranscript
from fed_em_server.audit.verify import verify
from fed_em_server.configuration import ServerConfiguration, read_server_configuration
from fed_em_server.live_picture import Picture
from fed_em_server.live_view import Frame
from fed_em_server.plain_log import PlainLog
from fed_em_server.pooled import fit_pooled, fit_table
from fed_em_server.report import write_report
from fed_em_server.report_words import starts_in_words
from fed_em_server.serve import open_server
from fed_em_server.session import SessionOutcome, run_session
from fed_em_simulations.federation_folder import FederationFolder
from fed_em_simulations.memory_hub import Fate

SELECTION = '\n[selection]\ncomponents = [3]\ncovariances = ["full", "diag"]\nmax_iterations = 3\n'
FOUR, FIT = "starts = 4", "tolerance = 1e-7\nmax_iterations = 5"


def pooled_of(federation: FederationFolder, server: ServerConfiguration | None = None) -> FittedModel:
    """The same fit of what all tenants hold, in one place."""
    server = server or federation.server
    records, fit = records_of(federation), server.fit
    return fit_pooled(server.description, records, fit.stopping, fit.seed, server.optimiser, server.beginning())[0]


def assert_same_end(outcome: SessionOutcome, pooled: FittedModel) -> None:
    assert outcome.fitted.parameters.distance(pooled.parameters) < 1e-8


def test_a_session_starts_from_the_best_of_several_as_a_fit_in_one_place_does(tmp_path: Path) -> None:
    tenants = clustered_rows((60, 40, 75, 80))
    session = session_toml(LIKELIEST, FIT, start=f"{FOUR}\ngenerations = 1")
    federation = write_small_federation(tmp_path / "f", tenants, session)
    plan, log = open_server(federation.server).plan("memory"), io.StringIO()
    of_starts = rounds_of(1)
    climbing = of_starts - LLOYD_ROUNDS
    assert of_starts == ROUNDS + GENERATION_ROUNDS == 33
    assert plan.terms.round_cap == 1 + of_starts + 5 + 20
    trouble = Trouble(lambda _tenant, _number: Fate.DELIVER)
    outcome = run_session(plan, memory_hub(federation, interfere=trouble), PlainLog(log))
    assert_same_end(outcome, pooled_of(federation))

    rounds = outcome.record.rounds
    assert [opened.start for opened in rounds] == [None, *range(1, of_starts + 1), *[None] * 5]
    assert [opened.iteration for opened in rounds] == [0] * (1 + of_starts) + [1, 2, 3, 4, 5]
    assert [len(opened.candidates) for opened in rounds] == [0] * (1 + LLOYD_ROUNDS) + [5] * climbing + [0] * 5
    assert {trouble.modes[opened.round] for opened in rounds[: of_starts + 2]} == {Mode.WHOLE}
    best = outcome.record.start_rounds[-1].best_candidate
    assert best is not None
    first = outcome.result.fit.iterations[0].objective
    assert first == pytest.approx(best, abs=1e-3)
    assert starts_in_words(outcome.record).startswith("best of 5 in 33 sums, at ")
    assert log.getvalue().count(", best of 5 candidates at -") == climbing
    console = Console(width=120, height=40, record=True, file=io.StringIO())
    console.print(Frame(replace(Picture.of(outcome.record), rounds=rounds[:15], round=15), 1.0))
    assert "round 15  start 14, best of 5 candidates at " in console.export_text()
    page = write_report(tmp_path / "report", outcome.record, outcome.fitted).read_text(encoding="utf-8")
    assert "The start" in page and starts_in_words(outcome.record) in page


@pytest.mark.slow
def test_finer_starts_take_as_many_sums_and_tenants_know_of_them(tmp_path: Path) -> None:
    tenants = clustered_rows((60, 40, 75, 80))
    session = session_toml(LIKELIEST, "tolerance = 1e-7\nmax_iterations = 3", start=f"{FOUR}\nfiner_starts = true")
    federation = write_small_federation(tmp_path / "f", tenants, session)
    asked, store = Asked(), MemoryTranscript()
    hub = memory_hub(federation, interfere=asked)
    plan = open_server(federation.server).plan("memory")
    outcome = run_session(plan, hub, Recorder(), store=store)
    assert_same_end(outcome, pooled_of(federation))
    of = [asked.points[opened.round].model for opened in outcome.record.start_rounds]
    shapes = [(len(each.models), each.models[0].n_components) for each in of]
    assert shapes == [(3, 6)] * FINE_ROUNDS + [(5, 3)] * (ROUNDS - FINE_ROUNDS)
    assert plan.description.most_components == 6, "which a tenant's policy may refuse"
    assert [len(opened.candidates) for opened in outcome.record.start_rounds] == [0] * FINE_ROUNDS + [5] * 8
    assert verify(store.files, federation.roster, {}).passed


@pytest.mark.parametrize(
    ("session", "why"),
    [
        (session_toml(start="starts = 0\nfiner_starts = true"), "there are none: leave finer_starts out"),
        (mixed_session().replace("starts = 0", "starts = 4\nfiner_starts = true"), "of Gaussian mixtures alone"),
    ],
)
def test_finer_starts_that_cannot_be_are_refused(tmp_path: Path, session: str, why: str) -> None:
    with pytest.raises(CallerError, match=why):
        configured(tmp_path, session)


@pytest.mark.slow
def test_who_drops_out_in_a_round_of_candidates_is_left_out_of_it_and_comes_back(tmp_path: Path) -> None:
    session = session_toml(fit=FIT, times=TIMES, start=FOUR)
    federation = write_three_blocks(tmp_path / "f", nine_tenants(), session)
    struck: list[int] = []

    def fate(tenant: int, number: int) -> Fate:
        if tenant == 4 and number == 6 and not struck:
            struck.append(number)
            hub.restart(4, 0.1)
            return Fate.KILL
        return Fate.DELIVER

    hub = memory_hub(federation, latency=0.02, interfere=Trouble(fate))
    outcome = run_session(open_server(federation.server).plan("memory"), hub, Recorder())
    lacking = [opened for opened in outcome.record.start_rounds if opened.missing]
    assert struck and lacking and {opened.missing for opened in lacking} == {3}, "its whole block"
    assert not any(opened.stale for opened in outcome.record.start_rounds)
    assert len(outcome.record.start_rounds) == ROUNDS
    last = outcome.result.fit.iterations[-1]
    assert last.complete and last.records == len(pool(nine_tenants()))


def test_mixed_columns_with_holes_and_labels_start_so_too(tmp_path: Path) -> None:
    session = mixed_session("diag", LABELS, FIT).replace("starts = 0", "starts = 2")
    federation = write_mixed_federation(tmp_path / "f", mixed_tables((60, 90, 45)), session)
    assert_same_end(run_mixed(federation), pooled_of(federation))


def test_tenants_with_weights_of_their_own_share_a_start(tmp_path: Path) -> None:
    model = 'family = "gaussian-mixture"\nn_components = 3\nmixing = "tenant"'
    federation = write_small_federation(
        tmp_path / "f", clustered_rows((60, 70, 80)), session_toml(model, FIT, start=FOUR)
    )
    outcome = run_session(open_server(federation.server).plan("memory"), memory_hub(federation), Recorder())
    assert len(outcome.record.start_rounds) == ROUNDS
    objectives = [iteration.objective for iteration in outcome.result.fit.iterations]
    assert np.all(np.diff(objectives) > -1e-9)


class TestFromLabels:
    def test_components_begin_at_the_records_that_are_labelled_as_theirs(self, tmp_path: Path) -> None:
        session = mixed_session("diag", LABELS, "max_iterations = 3").replace("starts = 0", 'start = "labels"')
        federation = write_mixed_federation(tmp_path / "f", mixed_tables((120, 150, 130), missing=0.0), session)
        outcome = run_mixed(federation)
        assert_same_end(outcome, pooled_of(federation))
        assert [opened.start for opened in outcome.record.start_rounds] == [1, 2]
        assert starts_in_words(outcome.record) == "2 sums"
        records = records_of(federation)
        assert records.admissible is not None
        there = outcome.result.coordinates.apply(records.rows)[:, [1, 4]]
        for k in range(3):
            # Records that admit another component besides go there if it leads in the sum of this one, else half to each.
            leading = 0 if k else 1
            own = records.admissible[:, k] & ~records.admissible[:, leading]
            shares = own / records.admissible.sum(axis=1)
            assert set(shares.tolist()) == {0.0, 0.5, 1.0}
            # The prior of the starts holds a hundredth of a record at 0.
            expected = shares @ there / (shares.sum() + 0.01)
            np.testing.assert_allclose(outcome.result.start["means"][k], expected, rtol=1e-5)

    def test_models_that_differ_in_their_covariances_begin_there_together(self, tmp_path: Path) -> None:
        """In as many sums as one; each where it would begin alone."""
        session = mixed_session("diag", SELECTION + LABELS, "max_iterations = 2")
        session = session.replace('n_components = 3\ncovariance = "diag"', "")
        session = session.replace("starts = 0", 'start = "labels"')
        tables = mixed_tables((60, 75, 65), missing=0.0)
        federation = write_mixed_federation(tmp_path / "f", tables, session)
        asked = Asked()
        hub = memory_hub(federation, interfere=asked)
        outcome = run_session(open_server(federation.server).plan("memory"), hub, Recorder())
        assert_same_end(outcome, pooled_of(federation))
        assert [opened.start for opened in outcome.record.start_rounds] == [1, 2]
        first = asked.points[outcome.record.start_rounds[-1].round + 1]
        assert outcome.result.picked is not None
        for covariance, start in zip(("full", "diag"), first.model.parameters_of(first.parameters), strict=True):
            alone = mixed_session(covariance, LABELS, "max_iterations = 1").replace("starts = 0", 'start = "labels"')
            path = tmp_path / covariance
            path.mkdir()
            server, records = configured(path, alone), records_of(federation)
            how = (server.fit.stopping, server.fit.seed, server.optimiser, server.beginning())
            assert start.distance(fit_pooled(server.description, records, *how)[1].start) < 1e-6

    def test_without_labels_it_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(CallerError, match=r"needs \[labels\]"):
            configured(tmp_path, session_toml(start='start = "labels"'))

    def test_one_component_is_refused_before_anybody_is_asked(self, tmp_path: Path) -> None:
        session = (
            mixed_session("diag", LABELS)
            .replace("starts = 0", 'start = "labels"')
            .replace("n_components = 3", "n_components = 1")
        )
        with pytest.raises(CallerError, match="no use for labels"):
            configured(tmp_path, session)


class TestFromAModel:
    def test_a_fit_goes_on_where_another_ended(self, tmp_path: Path) -> None:
        tenants = clustered_rows((120, 90, 150))
        before = write_small_federation(tmp_path / "a", tenants, session_toml())
        earlier = pooled_of(before)
        save_model(tmp_path / "earlier", earlier)
        session = session_toml(start=f'start = "{tmp_path / "earlier"}"')
        federation = write_small_federation(tmp_path / "b", tenants, session)
        outcome = run_session(open_server(federation.server).plan("memory"), memory_hub(federation), Recorder())
        assert outcome.record.converged and len(outcome.result.fit.iterations) <= 3
        assert outcome.result.start.distance(earlier.parameters) < 1e-8
        assert_same_end(outcome, pooled_of(federation))

    def test_models_that_differ_in_their_covariances_may_all_begin_at_one_model(self, tmp_path: Path) -> None:
        tenants = clustered_rows((40, 50, 60))
        save_model(
            tmp_path / "earlier", pooled_of(write_small_federation(tmp_path / "a", tenants, session_toml(fit=FIT)))
        )
        start = f'start = "{tmp_path / "earlier"}"'
        session = session_toml('family = "gaussian-mixture"\n' + SELECTION, "max_iterations = 2", start=start)
        federation = write_small_federation(tmp_path / "b", tenants, session)
        outcome = run_session(open_server(federation.server).plan("memory"), memory_hub(federation), Recorder())
        assert outcome.result.picked is not None and not outcome.record.start_rounds
        assert_same_end(outcome, pooled_of(federation))

    def test_models_with_other_numbers_of_components_do_not(self, tmp_path: Path) -> None:
        several = SELECTION.replace("[3]", "[2, 3]")
        session = session_toml('family = "gaussian-mixture"\n' + several, start='start = "earlier"')
        with pytest.raises(CallerError, match="name one number in `components`"):
            configured(tmp_path, session)

    def test_another_model_is_refused_and_said_why(self, tmp_path: Path) -> None:
        federation = write_small_federation(tmp_path / "f", clustered_rows((30, 30, 30)), session_toml(fit=FIT))
        fitted = pooled_of(federation)
        for column, changed, why in (
            ("b", replace(fitted, columns=("a", "x", "c")), "has the columns a, x, c; this one has a, b, c"),
            ("k", _with_one_component(fitted), "has 1 components, this one has 3"),
        ):
            save_model(tmp_path / column, changed)
            server = configured(tmp_path, session_toml(fit=FIT, start=f'start = "{column}"'))
            with pytest.raises(CallerError, match=why):
                pooled_of(federation, server)
        with pytest.raises(CallerError, match="there is no file"):
            configured(tmp_path, session_toml(start='start = "nowhere"')).beginning()


def _with_one_component(fitted: FittedModel) -> FittedModel:
    model = GaussianMixtureModel(1, 3)
    arrays = {name: array[:1] for name, array in fitted.parameters.items()}
    return replace(fitted, model=model, parameters=type(fitted.parameters)({**arrays, "weights": np.ones(1)}))


def configured(folder: Path, text: str) -> ServerConfiguration:
    (folder / "session.toml").write_text(text)
    return read_server_configuration(folder / "session.toml")


class TestConfiguration:
    @pytest.mark.parametrize(
        ("text", "n"),
        [
            (session_toml(start=""), 20),
            (session_toml(start="starts = 7"), 7),
            (session_toml(start="", trust="mass_floor = 3"), 0),
            (session_toml('family = "gaussian-mixture"\nn_components = 1', start=""), 0),
            (session_toml('family = "gaussian-mixture"\nn_components = 3\n[stream]\nbatches = 2', "", start=""), 0),
            (session_toml('family = "gaussian-mixture"\nn_components = 20000', start=""), 8),
            (session_toml(start='start = "somewhere"'), 0),
        ],
    )
    def test_there_are_twenty_unless_they_do_not_suit(self, tmp_path: Path, text: str, n: int) -> None:
        found = configured(tmp_path, text)
        assert found.n_starts == n
        assert (found.description.starts is None) == (n == 0)
        assert n == 0 or found.beginning() == BestOf(n)

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            (session_toml(start="starts = 3", trust="mass_floor = 3"), "starts = 0"),
            (session_toml(start='starts = 3\nstart = "labels"'), "set one of them"),
            (session_toml(start="starts = 1000"), "starts"),
            (session_toml(start="starts = 0\ngenerations = 1"), "leave generations out"),
            (session_toml(start="starts = 3\ngenerations = 21"), "generations"),
        ],
    )
    def test_what_does_not_go_together_is_refused(self, tmp_path: Path, text: str, why: str) -> None:
        with pytest.raises(CallerError, match=why):
            configured(tmp_path, text)


def test_rows_that_are_read_from_files_start_so_too(tmp_path: Path) -> None:
    rows = pool(clustered_rows((90, 110)))
    np.savetxt(tmp_path / "rows.csv", rows, delimiter=",", header=",".join("abc"), comments="", fmt="%.17g")
    server = configured(tmp_path, session_toml(LIKELIEST, FIT, start=FOUR))
    how = (server.fit.stopping, server.fit.seed, server.optimiser, server.beginning())
    read, _ = fit_table(server.description, open_table(tmp_path / "rows.csv"), *how)
    held, result = fit_pooled(server.description, rows, *how)
    assert read.parameters.distance(held.parameters) < 1e-9
    assert len(result.fit.iterations) == 5
