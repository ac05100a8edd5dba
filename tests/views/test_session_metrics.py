"""What a server's metrics say of a session is what its record says, and every sample is one that the catalogue declares."""

from __future__ import annotations

import math
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest

from fed_em.errors import CollapsedComponent, NotEvaluated
from fed_em_client.observability.settings import SessionMetricsTable
from fed_em_protocols.coordinator_state import Notice, NoticeKind
from fed_em_protocols.metric_catalogue import Side
from fed_em_protocols.metric_catalogue import metrics_of as listed
from fed_em_protocols.privacy.promise import Privacy
from fed_em_server.checkpoints.resumable_sum import SessionPaused
from fed_em_server.observability.session_metrics import SessionMetrics
from fed_em_server.record import Participation, RoundRecord, SessionRecord
from tests.observability.scrapes import undeclared
from tests.observability.watched import metrics_of, run, scraped, small
from tests.views.clinics import tell
from tests.views.conftest import Session

EXPIRES = datetime(2027, 1, 1, tzinfo=UTC)


@pytest.fixture
def told(session: Session) -> SessionMetrics:
    """Nine clinics with trouble, seen by metrics."""
    metrics = SessionMetrics(SessionMetricsTable(), dict.fromkeys(("server", *session.record.tenants), EXPIRES))
    with metrics:
        tell(metrics, session.told)
        metrics.finished(session.record)
    return metrics


def test_a_troubled_session_is_counted_as_its_record_has_it(session: Session, told: SessionMetrics) -> None:
    found, record = scraped(told.metrics), session.record
    rounds = record.rounds
    parts = Counter(part for opened in rounds for part in opened.participation)
    assert set(parts) >= {Participation.SUMMED, Participation.LATE, Participation.RECOVERED}
    for part in Participation:
        assert found[f"fed_em_parts_total{{part={part.value}}}"] == parts[part]
        assert found[f"fed_em_cohort{{part={part.value}}}"] == rounds[-1].participation.count(part)
        for index, name in enumerate(record.tenants):
            expected = sum(opened.participation[index] is part for opened in rounds)
            assert found[f"fed_em_tenant_parts_total{{part={part.value},tenant={name}}}"] == expected
    assert found["fed_em_bytes_total{direction=up,party=server}"] == sum(opened.bytes_up for opened in rounds)
    assert found["fed_em_bytes_total{direction=down,party=server}"] == sum(opened.bytes_down for opened in rounds)
    assert found["fed_em_rounds_total{outcome=opened}"] == len(rounds) == found["fed_em_round_seconds_count"]
    assert found["fed_em_round_seconds_sum"] == pytest.approx(sum(opened.seconds for opened in rounds))
    assert found["fed_em_iterations_total"] == sum(opened.iteration > 0 for opened in rounds)
    late = [each for each in record.happenings if each.kind == "late" and not each.text]
    assert found["fed_em_stragglers_total"] == sum(len(each.tenants) for each in late) > 0
    assert found["fed_em_links_total{change=down}"] == sum(each.kind == "left" for each in record.happenings) > 0


def test_a_process_that_goes_on_counts_what_the_one_before_did_not(session: Session, told: SessionMetrics) -> None:
    rounds = session.record.rounds
    known = rounds[len(rounds) // 2].round
    metrics = SessionMetrics(SessionMetricsTable(), dict.fromkeys(("server", *session.record.tenants), EXPIRES))
    with metrics:
        metrics.session_started(session.record)
        metrics.noticed(Notice(NoticeKind.RESTARTED, known))
        for opened in rounds:
            metrics.round_opened(opened)
        metrics.finished(session.record)
    whole, found = scraped(told.metrics), scraped(metrics.metrics)
    later = [opened for opened in rounds if opened.round > known]
    assert 0 < len(later) < len(rounds)
    assert found["fed_em_restarts_total{how=resumed}"] == 1 and found.get("fed_em_restarts_total{how=new}", 0) == 0
    assert whole["fed_em_restarts_total{how=new}"] == 1
    assert found["fed_em_round_seconds_count"] == len(later)
    assert found["fed_em_iterations_total"] == sum(opened.iteration > 0 for opened in later)
    assert found["fed_em_bytes_total{direction=up,party=server}"] == sum(opened.bytes_up for opened in later)
    outcome = "converged" if session.record.converged else "ended"
    for same in ("log_likelihood", "objective_gain", "smallest_weight", f"session_rounds_sum{{outcome={outcome}}}"):
        assert found[f"fed_em_{same}"] == whole[f"fed_em_{same}"]


def test_a_pause_ends_no_session(session: Session) -> None:
    metrics = SessionMetrics(SessionMetricsTable(), dict.fromkeys(("server", *session.record.tenants), EXPIRES))
    with suppress(SessionPaused), metrics:
        tell(metrics, session.told)
        raise SessionPaused(7, ("oslo",), "6 of 9 tenants answer")
    found = scraped(metrics.metrics)
    assert found["fed_em_session_running"] == 0
    assert not any(value for name, value in found.items() if name.startswith("fed_em_session_rounds_count"))


def test_it_shows_the_fit_as_it_stands_at_the_end(session: Session, told: SessionMetrics) -> None:
    found = scraped(told.metrics)
    curve = [opened for opened in session.record.rounds if opened.objective is not None]
    last, before = curve[-1], curve[-2]
    assert found["fed_em_log_likelihood"] == last.log_likelihood
    assert found["fed_em_objective"] == last.objective and before.objective is not None
    assert last.objective is not None
    assert found["fed_em_objective_gain"] == pytest.approx(last.objective - before.objective)
    assert [found[f"fed_em_component_weight{{component={k}}}"] for k in range(len(last.weights))] == list(last.weights)
    assert found["fed_em_smallest_weight"] == min(last.weights)
    assert found["fed_em_session_running"] == 0
    assert found["fed_em_session_stage{stage=over}"] == 1
    assert sum(value for name, value in found.items() if name.startswith("fed_em_session_stage")) == 1
    outcome = "converged" if session.record.converged else "ended"
    assert found[f"fed_em_session_rounds_sum{{outcome={outcome}}}"] == len(session.record.rounds)
    assert found[f"fed_em_session_rounds_count{{outcome={outcome}}}"] == 1


def test_every_sample_is_declared_and_nearly_all_that_is_declared_is_there(
    session: Session, told: SessionMetrics
) -> None:
    assert not undeclared(told.metrics.registry, told.metrics.values_of)
    seen = {name.split("{")[0] for name in scraped(told.metrics)}
    missing = {entry.name for entry in listed(Side.SERVER) if not {entry.name, f"{entry.name}_count"} & seen}
    # Of sessions with noise, and with a price table.
    assert missing == {
        "fed_em_epsilon_promised",
        "fed_em_epsilon_spent",
        "fed_em_delta",
        "fed_em_cost_total",
    }
    families = {name: value for name, value in scraped(told.metrics).items() if "certificate" in name}
    assert families == {
        f"fed_em_certificate_expiry_timestamp_seconds{{party={name}}}": EXPIRES.timestamp()
        for name in ("server", *session.record.tenants)
    }


def test_a_session_costs_what_its_bytes_and_its_processor_cost(tmp_path: Path) -> None:
    federation = small(tmp_path)
    metrics = metrics_of(federation)
    outcome = run(federation, metrics)
    metrics.finished(outcome.record)
    found, rounds = scraped(metrics.metrics), outcome.record.rounds
    out, into = sum(opened.bytes_down for opened in rounds), sum(opened.bytes_up for opened in rounds)
    network = "fed_em_cost_total{currency=EUR,party=server,resource=network}"
    assert found[network] == pytest.approx((1e3 * out + 1e2 * into) / 1e9)
    # 36 an hour are a hundredth a second.
    assert found["fed_em_cost_total{currency=EUR,party=server,resource=cpu}"] == pytest.approx(
        found["fed_em_cpu_seconds_total{party=server}"] / 100
    )
    assert found["fed_em_cpu_seconds_total{party=server}"] > 0
    assert not undeclared(metrics.metrics.registry, metrics.metrics.values_of)
    # All time of the session is in some phase, but for what it takes to tell of it.
    phases = sum(value for name, value in found.items() if name.startswith("fed_em_phase_seconds_sum"))
    assert phases > 0
    assert found["fed_em_phase_seconds_count{phase=certifying}"] == len(rounds)


def one_round(record: SessionRecord, **said: object) -> RoundRecord:
    base = record.rounds[-1]
    return base.model_copy(update={"round": base.round + 1, "iteration": base.iteration + 1, **said})


def metric_of_rounds(record: SessionRecord, *rounds: RoundRecord) -> dict[str, float]:
    metrics = SessionMetrics(SessionMetricsTable(), {})
    metrics.session_started(record)
    for opened in rounds:
        metrics.round_opened(opened)
    return dict(scraped(metrics.metrics))


def test_a_component_that_falls_below_one_record_has_collapsed_once(session: Session) -> None:
    record = session.record
    weights = [(0.98, 0.02), (0.995, 0.005), (0.996, 0.004), (0.98, 0.02), (0.996, 0.004)]
    rounds = [one_round(record, weights=each, records=100.0) for each in weights]
    assert metric_of_rounds(record, *rounds[:1])["fed_em_collapses_total"] == 0
    assert metric_of_rounds(record, *rounds[:3])["fed_em_collapses_total"] == 1
    assert metric_of_rounds(record, *rounds)["fed_em_collapses_total"] == 2


def test_what_was_not_evaluated_is_counted_by_where(session: Session) -> None:
    record = session.record
    first = one_round(record)
    start = one_round(record, iteration=0, start=1, candidates=(-1.0, None, None), log_likelihood=None, objective=None)
    # Two opened sums at proposals of the optimiser led to nothing that anybody was told of.
    found = metric_of_rounds(record, start, first, one_round(record, iteration=first.iteration + 3))
    assert found["fed_em_not_evaluated_total{where=start}"] == 2
    assert found["fed_em_not_evaluated_total{where=proposal}"] == 2
    assert found["fed_em_start_rounds_total"] == 1
    # Who is out stays out, and is counted once.
    later = [
        start.model_copy(update={"start": k, "candidates": seen})
        for k, seen in ((2, (-1.0, None, None)), (3, (None, None, -2.0)))
    ]
    assert metric_of_rounds(record, start, *later)["fed_em_not_evaluated_total{where=start}"] == 3
    metrics = SessionMetrics(SessionMetricsTable(), {})
    # Where a tenant could not compute, and the fit goes on, that is told; of several tracks it leaves no gap.
    with metrics:
        metrics.session_started(record)
        metrics.round_opened(first)
        metrics.noticed(Notice(NoticeKind.NOT_COMPUTED, 5, (), "1 of 3 tenants could not"))
        metrics.round_opened(one_round(record, iteration=first.iteration + 1))
    went_on = scraped(metrics.metrics)
    assert went_on["fed_em_not_evaluated_total{where=proposal}"] == 1
    assert (
        "fed_em_not_evaluated_total{where=fit}" not in went_on or went_on["fed_em_not_evaluated_total{where=fit}"] == 0
    )
    metrics = SessionMetrics(SessionMetricsTable(), {})
    for error in (NotEvaluated("no number"), CollapsedComponent("singular")):
        with suppress(NotEvaluated), metrics:
            metrics.session_started(record)
            raise error
    ended = scraped(metrics.metrics)
    assert ended["fed_em_not_evaluated_total{where=fit}"] == 2
    assert ended["fed_em_collapses_total"] == 1
    assert ended["fed_em_session_rounds_count{outcome=failed}"] == 2


def test_a_private_session_shows_what_is_promised_and_what_its_rounds_spent(session: Session) -> None:
    privacy = Privacy(epsilon=2.0, delta=1e-6, radius=2.0, noise_multiplier=10.0, sums=4)
    record = session.record.model_copy(update={"privacy": privacy})
    metrics = SessionMetrics(SessionMetricsTable(), {})
    metrics.session_started(record)
    spent = [scraped(metrics.metrics)["fed_em_epsilon_spent"]]
    for number in range(1, 7):
        metrics.noticed(Notice(NoticeKind.ROUND_STARTED, number, record.tenants))
        spent.append(scraped(metrics.metrics)["fed_em_epsilon_spent"])
    assert spent[0] == 0 and all(now > before for before, now in pairwise(spent[:5]))
    # A tenant answers no more sums than were planned.
    assert spent[4] == spent[5] == spent[6]
    metrics.session_started(session.record)
    assert "fed_em_epsilon_spent" not in scraped(metrics.metrics)


def test_a_roster_of_more_than_64_has_no_series_by_tenant(session: Session) -> None:
    names = tuple(f"t{k}" for k in range(65))
    record = session.record.model_copy(update={"tenants": names, "blocks": (0,) * 65})
    parts = (Participation.SUMMED,) * 64 + (Participation.AWAY,)
    found = metric_of_rounds(record, one_round(record, participation=parts, bases=(1,) * 65))
    assert not [name for name in found if "tenant=" in name]
    assert found["fed_em_parts_total{part=summed}"] == 64


def test_the_next_session_begins_with_nothing_of_the_one_before(session: Session, told: SessionMetrics) -> None:
    next_one = session.record.model_copy(update={"session": "0" * 32})
    told.session_started(next_one)
    found = scraped(told.metrics)
    assert [name for name in found if name.startswith("fed_em_session_info")] == [
        f"fed_em_session_info{{federation=nine-clinics,session={'0' * 32},title=handwritten-digits,trust=malicious-server}}"
    ]
    assert not {"fed_em_log_likelihood", "fed_em_objective_gain", "fed_em_smallest_weight"} & set(found)
    assert not [name for name in found if "component=" in name]
    assert found["fed_em_rounds_total{outcome=opened}"] == len(session.record.rounds)
    assert found["fed_em_session_running"] == 1 and math.isfinite(found["fed_em_last_round_timestamp_seconds"])


def test_notices_of_another_version_are_counted_as_unknown(session: Session) -> None:
    metrics = SessionMetrics(SessionMetricsTable(planned_retrain=True), {})
    metrics.session_started(session.record)
    refusal = Notice(NoticeKind.REFUSED, 0, session.record.tenants[:1], "policy")
    for notice in (refusal, replace(refusal, text="code 77")):
        metrics.noticed(notice)
    found = scraped(metrics.metrics)
    assert found["fed_em_refusals_total{rule=policy}"] == found["fed_em_refusals_total{rule=unknown}"] == 1
    assert found["fed_em_planned_retrain"] == 1
    metrics.finished(session.record)
    assert scraped(metrics.metrics)["fed_em_planned_retrain"] == 0
