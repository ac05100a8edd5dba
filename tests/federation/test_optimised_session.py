"""Sessions with an optimiser: the pooled optimum in fewer rounds, and plain EM steps, said so, while not everybody answers."""

from __future__ import annotations

import io
import tomllib
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from small_federation import clustered_rows, memory_hub, session_toml, write_small_federation, write_three_blocks
from test_dropouts import TIMES, Deaths, die, nine_tenants, pool, run

from fed_em.em import Step, Stopping, fit
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.starts import ROUNDS
from fed_em.totals import TotalOfRows
from fed_em_server.configuration import ServerConfiguration
from fed_em_server.plain_log import PlainLog
from fed_em_server.pooled import fit_pooled
from fed_em_server.record import SessionRecord
from fed_em_server.session import SessionOutcome

FIT = "tolerance = 1e-7\nmax_iterations = 100"
OVERLAPPING = 'family = "gaussian-mixture"\nn_components = 4\ncovariance = "full"\nprior = "none"'


def gap(outcome: SessionOutcome, rows: np.ndarray) -> float:
    """How far, in nats a row, the model is below the optimum that EM finds from where it ended."""
    model = cast(GaussianMixtureModel, outcome.fitted.model)
    standardised = outcome.result.coordinates.apply(rows)
    ended = outcome.result.fit.parameters
    best = fit(model, TotalOfRows(model, standardised), ended, Stopping(1e-11, 500)).parameters
    return float((model.log_prob(best, standardised) - model.log_prob(ended, standardised)).mean())


def test_a_session_takes_fewer_rounds_to_a_better_model(tmp_path: Path) -> None:
    tenants = clustered_rows((60, 50, 70))
    session = session_toml(OVERLAPPING, "tracks = 1\n" + FIT, optimiser="lbfgs")
    federation = write_small_federation(tmp_path / "f", tenants, session)
    ours = run(federation, memory_hub(federation))
    server = federation.server
    _, pooled = fit_pooled(server.description, pool(tenants), server.fit.stopping, server.fit.seed, "em")
    assert ours.result.fit.converged
    assert len(ours.result.fit.iterations) < 0.7 * len(pooled.fit.iterations)
    steps = [record.step for record in ours.record.rounds[1:]]
    assert steps == [iteration.step for iteration in ours.result.fit.iterations]
    assert steps[0] is Step.EM and Step.LEAP in steps
    risen = [i.objective for i in ours.result.fit.iterations if i.step.is_gone_on_from]
    assert np.diff(risen).min() > -1e-9
    assert gap(ours, pool(tenants)) < 1e-7
    assert SessionRecord.model_validate_json(ours.record.model_dump_json()) == ours.record


@pytest.mark.slow
def test_on_several_tracks_it_is_the_pooled_fit_on_as_many(tmp_path: Path) -> None:
    tenants, how = clustered_rows((60, 50, 70)), "tolerance = 1e-7\nmax_iterations = 35"
    session = session_toml(OVERLAPPING, how, optimiser="lbfgs", start="starts = 3")
    federation = write_small_federation(tmp_path / "f", tenants, session)
    server = federation.server
    assert server.description.tracks == 3
    ours = run(federation, memory_hub(federation))
    how_pooled = (server.fit.stopping, server.fit.seed, server.optimiser, server.beginning())
    _, pooled = fit_pooled(server.description, pool(tenants), *how_pooled)
    assert len(ours.result.fit.iterations) == len(pooled.fit.iterations) == len(ours.record.rounds) - 1 - ROUNDS
    assert Step.LEAP in {iteration.step for iteration in ours.result.fit.iterations}
    assert ours.result.fit.parameters.distance(pooled.fit.parameters) < 1e-8


def test_a_session_has_tracks_only_where_they_can_be() -> None:
    def tracks_in(toml: str) -> int | None:
        return ServerConfiguration.model_validate(tomllib.loads(toml)).description.tracks

    one = OVERLAPPING.replace("n_components = 4", "n_components = 1")
    assert tracks_in(session_toml(OVERLAPPING, optimiser="lbfgs")) == 2
    assert tracks_in(session_toml(OVERLAPPING).replace('optimiser = "em"', "")) == 2
    assert tracks_in(session_toml(OVERLAPPING, optimiser="lbfgs", start="")) == 6
    assert tracks_in(session_toml(OVERLAPPING, optimiser="lbfgs", start="starts = 4")) == 4
    assert tracks_in(session_toml(OVERLAPPING, "tracks = 9", optimiser="lbfgs", start="")) == 9
    for toml in (
        session_toml(OVERLAPPING),
        session_toml(one, optimiser="lbfgs"),
        session_toml(OVERLAPPING, optimiser="lbfgs", trust="mass_floor = 10"),
        session_toml(OVERLAPPING, optimiser="lbfgs", start="starts = 1"),
        session_toml(OVERLAPPING, "tracks = 1", optimiser="lbfgs"),
    ):
        assert tracks_in(toml) is None
    for refused in (
        session_toml(OVERLAPPING, "tracks = 2"),
        session_toml(OVERLAPPING, "tracks = 2", optimiser="lbfgs", trust="mass_floor = 10"),
        session_toml(OVERLAPPING, "tracks = 2", optimiser="lbfgs", start="starts = 1"),
    ):
        with pytest.raises(ValueError, match="tracks"):
            tracks_in(refused)


@pytest.mark.slow
@pytest.mark.parametrize(("tracks", "starts", "number"), [(1, 0, 8), (2, 0, 8), (3, 3, 8 + ROUNDS)])
def test_it_is_off_while_a_tenant_is_away_and_says_so(tmp_path: Path, tracks: int, starts: int, number: int) -> None:
    how = f"tracks = {tracks}\n{FIT}"
    session = session_toml(OVERLAPPING, how, TIMES, optimiser="lbfgs", start=f"starts = {starts}")
    federation = write_three_blocks(tmp_path / "f", nine_tenants(), session)
    outcome, _ = die(federation, Deaths(4, number, back_after=0.05))
    for iteration in outcome.result.fit.iterations:
        assert iteration.complete == (iteration.step not in (Step.PAUSED, Step.ABANDONED))
    steps = [iteration.step for iteration in outcome.result.fit.iterations]
    assert Step.PAUSED in steps
    # On several tracks, one that still takes steps of EM may be ahead at first.
    assert tracks > 1 or Step.LEAP in steps[: steps.index(Step.PAUSED)]
    assert Step.LEAP in steps[steps.index(Step.PAUSED) :]
    assert outcome.result.fit.converged
    assert gap(outcome, pool(nine_tenants())) < 1e-6
    stream = io.StringIO()
    log = PlainLog(stream)
    for record in outcome.record.rounds:
        log.round_opened(record)
    assert stream.getvalue().count("the optimiser is off") == sum(s in (Step.PAUSED, Step.ABANDONED) for s in steps)


@pytest.mark.slow
def test_behind_a_mass_gate_that_holds_nothing_it_works(tmp_path: Path) -> None:
    tenants = clustered_rows((120, 90, 75, 60, 200, 80))
    toml = session_toml(fit=FIT, trust="mass_floor = 10", optimiser="lbfgs")
    federation = write_small_federation(tmp_path / "f", tenants, toml)
    outcome = run(federation, memory_hub(federation))
    assert outcome.result.fit.converged
    assert Step.LEAP in {iteration.step for iteration in outcome.result.fit.iterations}
    assert gap(outcome, pool(tenants)) < 1e-6
