"""A leap at which a tenant cannot compute its statistics is refused: the session goes on from the EM point that it knows."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from small_federation import clustered_rows, memory_hub, session_toml, write_small_federation, write_three_blocks
from test_dropouts import TIMES, Deaths, Trouble, nine_tenants, pool, run
from test_optimised_session import OVERLAPPING, gap

from fed_em.alignment import reordered
from fed_em.broadcast import Broadcast
from fed_em.em import Step
from fed_em.errors import CallerError, NotEvaluated
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.lbfgs import WARM_UP
from fed_em.parameters import Parameters
from fed_em.starts import EM_ROUNDS, GENERATION_ROUNDS, LLOYD_ROUNDS, ROUNDS, rounds_of
from fed_em_client import tenant_session
from fed_em_client.rows_work import RowsWork
from fed_em_protocols.envelope import unseal
from fed_em_protocols.errors import NotComputed, SumFailed
from fed_em_protocols.masks import RingVector
from fed_em_protocols.messages import Header, Mode
from fed_em_protocols.tenant_state import Evaluate
from fed_em_protocols.transcript.memory_transcript import MemoryTranscript
from fed_em_server import federated_total
from fed_em_server.audit.verify import Verdict, verify
from fed_em_server.federated_total import FederatedTotal
from fed_em_server.report_words import starts_in_words
from fed_em_server.serve import open_server
from fed_em_server.session import SessionOutcome, run_session
from fed_em_simulations.federation_folder import FederationFolder, Matrix
from fed_em_simulations.memory_hub import Fate, Passing

FIT = "tolerance = 1e-7\nmax_iterations = 100"
NOT_COMPUTED, SAID = "not-computed", "could not compute their statistics"


@pytest.fixture
def fail_in(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Has tenant 1 fail to compute its statistics in the rounds that are named later."""
    failing = SimpleNamespace(tenant=1, rounds=frozenset[int]())
    evaluate = RowsWork.evaluate

    def at(work: RowsWork, asked: Evaluate) -> RingVector:
        if work._index == failing.tenant and asked.round in failing.rounds:
            raise CallerError("the covariance of component 2 is singular on these rows")
        return evaluate(work, asked)

    monkeypatch.setattr(RowsWork, "evaluate", at)
    return failing


@dataclass
class Asked:
    """What was asked for in each round."""

    points: dict[int, Broadcast] = field(default_factory=dict)

    def __call__(self, passing: Passing) -> Fate:
        sealed = unseal(passing.data, "")
        if isinstance(sealed.content, Header) and sealed.content.round not in self.points:
            self.points[sealed.content.round] = Broadcast.from_bytes(sealed.attachment, "a header")
        return Fate.DELIVER


def three_tenants(folder: Path, tracks: int, fit: str = FIT) -> tuple[FederationFolder, dict[str, Matrix]]:
    tenants = clustered_rows((60, 50, 70))
    session = session_toml(OVERLAPPING, f"tracks = {tracks}\n{fit}", optimiser="lbfgs")
    return write_small_federation(folder / "f", tenants, session), tenants


def first_leap(outcome: SessionOutcome) -> int:
    """Its place among the rounds, which are of the moments and then of iterations."""
    return [opened.step for opened in outcome.record.rounds].index(Step.LEAP)


def asked_at(outcome: SessionOutcome, iteration: int) -> Parameters:
    """The parameters of an iteration, numbered as in its round: the outcome has components in canonical order."""
    found, order = outcome.result, outcome.result.order
    model, parameters = found.model, found.fit.iterations[iteration].parameters
    assert isinstance(model, GaussianMixtureModel)
    return parameters if order is None else reordered(model, parameters, np.argsort(order))


def told_of(outcome: SessionOutcome) -> list[tuple[int, tuple[str, ...], str]]:
    found = [each for each in outcome.record.happenings if each.kind == NOT_COMPUTED]
    return [(each.round, each.tenants, each.text) for each in found]


@pytest.mark.parametrize("tracks", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_it_goes_on_from_the_em_point_and_comes_to_the_optimum(
    tmp_path: Path, fail_in: SimpleNamespace, tracks: int
) -> None:
    federation, tenants = three_tenants(tmp_path, tracks)
    plain = run(federation, memory_hub(federation))
    leap = first_leap(plain)
    number, known = plain.record.rounds[leap].round, asked_at(plain, leap - 2)
    fail_in.rounds = {number}
    asked, store = Asked(), MemoryTranscript()
    hub = memory_hub(federation, interfere=asked)
    ours = run_session(open_server(federation.server).plan("memory"), hub, SilentWatcher(), store=store)
    # Who it was is nowhere, and a round without statistics is none of the fit's.
    assert told_of(ours) == [(number, (), f"1 of 3 tenants {SAID}")]
    assert [opened.round for opened in ours.record.rounds][leap - 1 : leap + 1] == [number - 1, number + 1]
    back = asked.points[number + 1]
    of_tracks = back.model.parameters_of(back.parameters) if tracks > 1 else [back.parameters]
    assert min(each.distance(known) for each in of_tracks) == 0.0
    assert Step.LEAP in {each.step for each in ours.result.fit.iterations}
    assert ours.result.fit.converged and gap(ours, pool(tenants)) < 1e-7
    for index in range(3):
        session = hub.session_of(index)
        assert session is not None and session.fault is None, "it could be done without"
    found = verify(store.files, federation.roster, {})
    assert found.passed, [check for check in found.checks if check.verdict is Verdict.FAILED]


class SilentWatcher:
    """Hears nothing."""

    def session_started(self, record: object) -> None: ...

    def noticed(self, notice: object) -> None: ...

    def round_opened(self, record: object) -> None: ...


def test_not_too_often_and_never_where_there_is_no_other_point(
    tmp_path: Path, fail_in: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    federation, _ = three_tenants(tmp_path, 1, "tolerance = 1e-7\nmax_iterations = 12")
    leap = first_leap(run(federation, memory_hub(federation)))
    fail_in.rounds = {leap + 1}
    assert len(told_of(run(federation, memory_hub(federation)))) == 1
    # A server that goes on and on is told of by the tenant, if not by the session's end.
    hub = memory_hub(federation)
    monkeypatch.setattr(tenant_session, "MOST_NOT_COMPUTED", 0)
    run(federation, hub)
    blamed = hub.session_of(1)
    assert blamed is not None and blamed.fault is not None and "component 2" in blamed.fault.message
    said = f"round {leap + 1}: 1 of 3 tenants {SAID}"
    monkeypatch.setattr(federated_total, "MOST_NOT_COMPUTED", 0)
    with pytest.raises(SumFailed, match=said) as too_often:
        run(federation, memory_hub(federation))
    assert not isinstance(too_often.value, NotEvaluated)
    monkeypatch.setattr(federated_total, "MOST_NOT_COMPUTED", 10)
    fail_in.rounds = {leap}
    with pytest.raises(NotComputed, match=f"round {leap}: 1 of 3"):  # an EM point
        run(federation, memory_hub(federation))


def test_a_session_that_ends_at_a_refused_leap_ends_well_for_everybody(
    tmp_path: Path, fail_in: SimpleNamespace
) -> None:
    last = 2 + WARM_UP + 1
    federation, _ = three_tenants(tmp_path, 1, f"tolerance = 1e-7\nmax_iterations = {last - 1}")
    fail_in.rounds = {last}
    hub = memory_hub(federation)
    outcome = run(federation, hub)
    assert told_of(outcome) == [(last, (), f"1 of 3 tenants {SAID}")] and outcome.record.rounds[-1].round == last - 1
    for index in range(3):
        session = hub.session_of(index)
        assert session is not None and session.fault is None and session.closed is not None
        assert session.closed.attachment, "the model"


@pytest.mark.slow
def test_starts_and_moves_that_somebody_cannot_compute_are_out_and_the_others_go_on(
    tmp_path: Path, fail_in: SimpleNamespace
) -> None:
    session = session_toml(OVERLAPPING, f"{FIT}\nstarts = 4\ngenerations = 1", optimiser="lbfgs", start="")
    federation = write_small_federation(tmp_path / "f", clustered_rows((60, 50, 70)), session)
    lloyd, move = 4, 1 + ROUNDS + 2  # behind the moments, and behind a round that was taken again
    fail_in.rounds = {lloyd, move, move + 1}
    store, hub = MemoryTranscript(), memory_hub(federation)
    outcome = run_session(open_server(federation.server).plan("memory"), hub, SilentWatcher(), store=store)
    said = f"1 of 3 tenants {SAID}"
    assert told_of(outcome) == [(number, (), said) for number in (lloyd, move, move + 1)]
    seen = outcome.record.start_rounds
    assert [each.start for each in seen] == list(range(1, rounds_of(1) + 1))
    left = [[each is not None for each in opened.candidates] for opened in seen[LLOYD_ROUNDS:]]
    assert left == [[True, False] * 2 + [True]] * EM_ROUNDS + [[False, True] * 2 + [False]] * GENERATION_ROUNDS
    told = [opened.left_out for opened in seen]
    assert told == [0] * 2 + [2] * (ROUNDS - 2) + [3] * GENERATION_ROUNDS
    assert starts_in_words(outcome.record).startswith(f"best of 2 in {rounds_of(1)} sums, 3 left out, at ")
    assert outcome.result.fit.converged
    for index in range(3):
        ended = hub.session_of(index)
        assert ended is not None and ended.fault is None
    found = verify(store.files, federation.roster, {})
    assert found.passed, [check for check in found.checks if check.verdict is Verdict.FAILED]
    # Nobody looks for it for ever.
    fail_in.rounds = set(range(lloyd, lloyd + 7))
    with pytest.raises(NotComputed, match=f"round {lloyd}: {said}"):
        run(federation, memory_hub(federation))


class AwayAfterwards:
    """A federation of nine, of whom t4 cannot compute its statistics at the first leap, and dies with what it sends instead."""

    def __init__(self, folder: Path, fail_in: SimpleNamespace) -> None:
        self.tenants = nine_tenants()
        session = session_toml(
            OVERLAPPING, "tracks = 1\ntolerance = 1e-4\nmax_iterations = 40", TIMES, optimiser="lbfgs"
        )
        self.federation = write_three_blocks(folder / "f", self.tenants, session)
        # Moments, warm-up, leap.
        self.leap = 2 + WARM_UP + 1
        fail_in.tenant, fail_in.rounds = 4, {self.leap}
        deaths = Deaths(4, self.leap, back_after=0.05)
        self.asked, self.trouble = Asked(), Trouble(deaths)
        self.hub = deaths.hub = memory_hub(self.federation, interfere=self)

    def __call__(self, passing: Passing) -> Fate:
        self.asked(passing)
        return self.trouble(passing)


@pytest.mark.slow
def test_noise_of_who_is_away_afterwards_is_left_by_a_base_round(tmp_path: Path, fail_in: SimpleNamespace) -> None:
    away = AwayAfterwards(tmp_path, fail_in)
    outcome = run(away.federation, away.hub)
    base = away.leap + 2
    assert [number for number, mode in away.trouble.modes.items() if mode is Mode.WHOLE] == [1, 2, base]
    assert told_of(outcome) == [(number, (), f"1 of 9 tenants {SAID}") for number in (away.leap, away.leap + 1)]
    opened = {each.round: each for each in outcome.record.rounds}
    assert opened[base].missing == 3 and opened[base].counted is None and opened[base].step is Step.PAUSED
    iterations = outcome.result.fit.iterations
    assert (
        outcome.result.fit.converged and iterations[-1].complete and iterations[-1].records == len(pool(away.tenants))
    )
    # Nothing of the noise is left: the last sum is that of all rows at its point.
    last, model = away.asked.points[outcome.record.rounds[-1].round], outcome.fitted.model
    assert isinstance(model, GaussianMixtureModel)
    exact = model.log_prob(last.parameters, outcome.result.coordinates.apply(pool(away.tenants))).mean()
    np.testing.assert_allclose(iterations[-1].log_likelihood, exact, rtol=1e-10)


@pytest.mark.slow
def test_without_the_base_round_the_noise_would_end_the_session(
    tmp_path: Path, fail_in: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = AwayAfterwards(tmp_path, fail_in)
    monkeypatch.setattr(FederatedTotal, "_without_old_noise", lambda self, request, _: self.sums.sum(request))
    with pytest.raises(NotComputed, match=f"round {away.leap + 1}: 1 of 9"):
        run(away.federation, away.hub)
