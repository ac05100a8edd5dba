"""What the views say of a pick: the reason, the doubts, the curves, the numbers."""

from __future__ import annotations

import functools
import io
import re

import numpy as np
import pytest
from pydantic import ValidationError

from fed_em.criteria import HELD_OUT
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.held_out import HeldOut
from fed_em.initialisation import moments_model, standard_gaussian, start_from_moments
from fed_em.selection import Choice, Picked, pick
from fed_em.totals import TotalOfRows
from fed_em_server.live_picture import Picture
from fed_em_server.plain_log import PlainLog
from fed_em_server.record import CandidateRecord, SelectionRecord, SessionRecord
from fed_em_server.report_page import report_page
from fed_em_server.report_words import together_in_words
from fed_em_server.selection_record import doubts_in_words, reason_in_words, selection_record
from tests.views.conftest import Session
from tests.views.test_report import parsed, words


def candidate(
    components: int, bic: float | None, structure: str | None = "full", converged: bool = True
) -> CandidateRecord:
    return CandidateRecord(
        model=f"{components}", components=components, covariance=structure, parameters=10 * components, converged=converged,
        criteria={} if bic is None else {"bic": bic, HELD_OUT: -bic / 1000},
    )  # fmt: skip


def record_of(
    *candidates: CandidateRecord, picked: int = 0, criterion: str = "bic", complete: bool = True
) -> SelectionRecord:
    return SelectionRecord(criterion=criterion, rows=300.0, candidates=candidates, picked=picked, complete=complete)


@functools.cache
def really_picked(criterion: str = "bic") -> Picked:
    generator = np.random.default_rng(3)
    rows = np.concatenate((generator.normal(-1, 0.4, (120, 2)), generator.normal(1, 0.4, (120, 2))))
    models = tuple(GaussianMixtureModel(k, 2, structure) for structure in ("full", "spherical") for k in (1, 2, 3))
    choice = Choice(models, criterion, HeldOut(0.25, b"k"), 30)
    one, gaussian = moments_model(2), standard_gaussian(2)
    moments = one.m_step(one.e_step(gaussian, rows), gaussian)
    starts = [start_from_moments(model, moments, 1) for model in models]
    return pick(choice, TotalOfRows(choice.candidates, rows), starts, 1e-6)


class TestWords:
    def test_the_reason_is_how_far_the_next_is(self) -> None:
        told = reason_in_words(record_of(candidate(2, 1234.5), candidate(3, 1244.7, "diag"), candidate(1, 1300.0)))
        assert told == "BIC 1234.5, 10.2 below the next, 3 components with diag covariances"
        told = reason_in_words(record_of(candidate(2, 1234.5, None), candidate(1, 1300.0, None), criterion=HELD_OUT))
        assert told == "held-out log-likelihood a row \N{MINUS SIGN}1.2345, 0.0655 above the next, 1 component"

    def test_ties_and_being_alone_are_told(self) -> None:
        tied = record_of(candidate(2, 1234.5), candidate(3, 1234.51, "diag"))
        assert reason_in_words(tied) == (
            "BIC 1234.5, as good as the next, 3 components with diag covariances, which has 10 parameters more"
        )
        assert (
            reason_in_words(record_of(candidate(2, 1.0), candidate(3, None))) == "BIC 1.0; every other model collapsed"
        )

    def test_doubts(self) -> None:
        assert doubts_in_words(record_of(candidate(2, 1.0), candidate(3, 2.0))) == ()
        told = doubts_in_words(
            record_of(candidate(1, 4.0), candidate(2, 2.0, converged=False), candidate(3, None, converged=False),
                      candidate(3, 1.0, "diag"), picked=3, complete=False)
        )  # fmt: skip
        assert told == (
            "1 of 4 models (3 components with full covariances) collapsed and could not be picked.",
            "1 of 4 models (2 components with full covariances) had not converged, and could do better than is shown.",
            "3 components are the most that were tried, and more might be better still.",
            "Not every tenant answered at last: some terms in the criteria are of an earlier round.",
        )

    def test_a_pick_without_its_criterion_is_no_record(self) -> None:
        for changes in ({"picked": 1}, {"picked": 2}, {"criterion": "icl"}):
            with pytest.raises(ValidationError, match="must be a candidate"):
                record_of(candidate(2, 1.0), candidate(3, None), **changes)  # type: ignore[arg-type]


def with_pick(session: Session, criterion: str = "bic") -> SessionRecord:
    """The record of a session as if its first rounds had been of six models."""
    selection = selection_record(really_picked(criterion))
    rounds = [
        opened.model_copy(update={"fitted_together": (-3.0, None, -2.5)}) if 0 < opened.iteration < 4 else opened
        for opened in session.record.rounds
    ]
    rounds[4] = rounds[4].model_copy(update={"fitted_together": (-3.0, -2.4, -2.5), "picked": "model: BIC 1.0"})
    return session.record.model_copy(update={"selection": selection, "rounds": tuple(rounds)})


class TestPage:
    def test_the_section_has_the_reason_the_curves_and_the_numbers(self, exposed: Session) -> None:
        record = with_pick(exposed)
        assert record.selection is not None
        page = parsed(report_page(record, exposed.fitted))
        section = next(e for e in page.all("section") if e.attributes.get("id") == "selection-section")
        told = words(section.text)
        assert reason_in_words(record.selection) in told
        assert "6 models were fitted side by side" in told and "25 % of every tenant's rows" in told
        titles = [e.text for e in page.all("title") if "svg" in e.inside]
        assert "Criteria over the numbers of components" in titles
        for label in (
            "BIC, decided",
            "AIC",
            "ICL",
            "held-out log-likelihood",
            "full covariances",
            "spherical covariances",
        ):
            assert label in told
        rows = [e for e in page.all("tr") if "picked" in e.text]
        assert len(rows) == 1 and rows[0].attributes["class"] == "picked"
        for one in record.selection.candidates:
            assert f"{one.criteria['bic']:.1f}" in told

    def test_with_one_number_of_components_there_is_a_dot_for_each_structure(self, exposed: Session) -> None:
        selection = record_of(
            candidate(2, 1.0), candidate(2, 2.0, "tied"), candidate(2, None, "diag"), candidate(2, 3.0, "spherical")
        )
        html = report_page(exposed.record.model_copy(update={"selection": selection}), exposed.fitted)
        page = parsed(html)
        assert "Criteria of the covariance structures" in [e.text for e in page.all("title") if "svg" in e.inside]
        section = next(e for e in page.all("section") if e.attributes.get("id") == "selection-section")
        figure = words(section.text.split("All values are in the table")[1])
        for structure in ("full", "tied", "diag", "spherical", "BIC, decided", "the higher the better"):
            assert structure in figure
        assert "<details open>" not in html
        # Of each structure that did not collapse, in each of two panels.
        svg = html.split('id="selection-title"')[1].split("</svg>")[0]
        dots = re.findall(r'<use [^>]*style="[^"]*var\(--component-0\)', svg)
        assert len(dots) == 2 * 3

    def test_one_model_alone_has_numbers_and_no_chart(self, exposed: Session) -> None:
        html = report_page(
            exposed.record.model_copy(update={"selection": record_of(candidate(2, 1.0))}), exposed.fitted
        )
        assert "selection-title" not in html
        assert "<details open>" in html

    def test_a_session_with_one_model_has_no_such_section(self, exposed: Session) -> None:
        assert "Which model" not in report_page(exposed.record, exposed.fitted)


def test_log_and_live_view_tell_how_many_are_fitted_and_what_was_picked(exposed: Session) -> None:
    record = with_pick(exposed)
    log, picture = io.StringIO(), Picture.of(record)
    plain = PlainLog(log, lambda: 0.0)
    plain.session_started(record)
    for opened in record.rounds[:5]:
        plain.round_opened(opened)
        picture = picture.after_round(opened, 0.0)
    lines = log.getvalue().splitlines()
    assert "3 models, 2 of them still fitted, the best of these at -2.5000 nats a row" in lines[-2]
    assert "picked a model: BIC 1.0" in lines[-1]
    assert picture.record.model == "model: BIC 1.0"
    waiting = record.rounds[2].model_copy(update={"fitted_together": (None, None)})
    assert together_in_words(waiting) == "2 models, all fitted: waiting for every tenant's terms"
