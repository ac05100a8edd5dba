"""The report says what the record says, needs nothing else, and trusts no text."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from fed_em.coordinates import Coordinates
from fed_em.errors import CallerError, EnvironmentFault
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.model_file import FittedModel
from fed_em.parameters import Parameters
from fed_em_server.record import Participation, RoundRecord, SessionRecord
from fed_em_server.report import write_report
from fed_em_server.report_clusters import planar_mixture
from fed_em_server.report_page import report_page
from fed_em_server.report_words import bytes_in_words, decimal
from tests.views.clinics import Onlooker, train
from tests.views.conftest import Session

CHARTS = {"convergence", "weights", "participation", "traffic", "seconds", "clusters"}
VOID = {"meta", "img"}


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    inside: tuple[str, ...]
    text: str = ""


@dataclass
class Page(HTMLParser):
    """A parsed page: its elements in order, each with the text directly and indirectly within it."""

    elements: list[Element] = field(default_factory=list)
    open: list[Element] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {key: value or "" for key, value in attrs}, tuple(e.tag for e in self.open))
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag if self.open else ''}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element.text += data

    def all(self, tag: str) -> list[Element]:
        return [element for element in self.elements if element.tag == tag]


def parsed(html: str) -> Page:
    page = Page()
    page.feed(html)
    page.close()
    assert not page.open
    return page


def words(text: str) -> str:
    return " ".join(text.split())


@pytest.fixture(scope="module")
def html(session: Session) -> str:
    return report_page(session.record, session.fitted, session.images)


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return parsed(html)


def test_all_kinds_of_participation_occur(session: Session) -> None:
    assert {part for r in session.record.rounds for part in r.participation} == set(Participation)


def test_headline_and_key_figures_are_the_records(session: Session, page: Page) -> None:
    record = session.record
    assert [words(e.text) for e in page.all("h1")] == [record.title]
    lead = next(words(e.text) for e in page.all("p") if e.attributes.get("class") == "lead")
    assert "Gaussian mixture with 10 components and full covariances" in lead
    assert "8 columns" in lead
    assert "9 tenants" in lead
    names = [words(e.text) for e in page.all("dt")]
    values = [words(e.text) for e in page.all("dd") if e.attributes.get("class") == "value"]
    figures = dict(zip(names, values, strict=False))
    last = record.rounds[-1].log_likelihood
    assert last is not None
    assert figures["log-likelihood"] == decimal(last)
    assert figures["sums"] == str(len(record.rounds))
    assert figures["stale terms"] == f"{100 * sum(r.stale for r in record.rounds) / (9 * len(record.rounds)):.1f} %"
    assert figures["tenants"] == "9"
    notes = [words(e.text) for e in page.all("dd") if e.attributes.get("class") == "about"]
    assert f"{sum(r.complete for r in record.rounds)} with every tenant" in notes
    assert "3 blocks of 3, f = 1" in notes
    assert figures["to the server"] == bytes_in_words(sum(r.bytes_up for r in record.rounds))
    assert figures["from the server"] == bytes_in_words(sum(r.bytes_down for r in record.rounds))


def test_trust_banner_is_told(session: Session, page: Page) -> None:
    (banner,) = [words(e.text) for e in page.all("p") if e.attributes.get("class", "").startswith("trust")]
    assert banner.startswith("malicious-server ")
    assert session.record.banner.endswith(banner.removeprefix("malicious-server "))


def test_less_protection_is_told_in_amber(exposed: Session) -> None:
    page = parsed(report_page(exposed.record, exposed.fitted, exposed.images))
    told = [words(e.text) for e in page.all("p") if e.attributes.get("class") == "trust"]
    assert len(told) == 2
    assert exposed.record.banner.endswith(told[0].removeprefix("semi-honest "))
    assert told[1] == f"exposed {exposed.record.warnings[0]}"
    sets = [{i for i, p in enumerate(r.participation) if p.in_sum} for r in exposed.record.rounds]
    times = sum(len(before ^ after) == 1 for before, after in pairwise(sets))
    items = [words(e.text) for e in page.all("li")]
    assert times > 1
    assert any(f"differ by one tenant {times} times: elm (" in item for item in items)


def test_every_chart_is_there_once_and_has_a_title_and_a_description(page: Page) -> None:
    charts = page.all("svg")
    assert Counter(e.attributes["aria-labelledby"].split("-")[0] for e in charts) == Counter(CHARTS)
    texts = {e.attributes["id"]: e.text for e in page.elements if e.tag in {"title", "desc"} and "id" in e.attributes}
    for chart in charts:
        assert chart.attributes["role"] == "img"
        assert all(len(texts[label]) > 10 for label in chart.attributes["aria-labelledby"].split())


def test_ids_are_unique_and_references_lead_somewhere(html: str, page: Page) -> None:
    ids = Counter(e.attributes["id"] for e in page.elements if "id" in e.attributes)
    assert max(ids.values()) == 1
    references = {e.attributes["href"].removeprefix("#") for e in page.elements if "href" in e.attributes}
    references |= set(re.findall(r"url\(#([^)]*)\)", html))
    assert references <= set(ids)


def test_every_tenant_has_a_line_in_the_chart_and_in_numbers(session: Session, page: Page) -> None:
    rows = [tuple(row) for row in table_rows(page, "tenants")]
    chart_texts = [words(e.text) for e in page.all("text")]
    for index, name in enumerate(session.record.tenants):
        parts = Counter(r.participation[index] for r in session.record.rounds)
        assert rows.count((name, *(str(parts[part]) for part in Participation))) == 1
        assert chart_texts.count(name) == 1


def table_rows(page: Page, table: str) -> list[list[str]]:
    """The cells of every row in the body of the table of a class."""
    here, rows = False, list[list[str]]()
    for element in page.elements:
        if element.tag == "table":
            here = table in element.attributes["class"].split()
        if here and element.tag == "tr" and element.inside[-1] == "tbody":
            rows.append([])
        if here and element.tag == "td":
            rows[-1].append(words(element.text))
    return rows


def test_comparison_is_the_records(session: Session, page: Page) -> None:
    rows = {row[0]: row[1:4] for row in table_rows(page, "comparison")}
    pooled = next(c.held_out_log_likelihood for c in session.record.comparison if c.name == "pooled")
    assert set(rows) == {"federated", "pooled", *(f"{name} alone" for name in session.record.tenants)}
    for line in session.record.comparison:
        held_out = line.held_out_log_likelihood
        difference = "" if line.name == "pooled" else decimal(held_out - pooled, 6, signed=True)
        assert rows[line.name] == [str(line.rows), decimal(held_out, 3), difference]


def test_happenings_are_told_in_sentences(session: Session, page: Page) -> None:
    told = [tuple(row[1:]) for row in table_rows(page, "happenings")]
    assert told[0] == ("", "ash, birch, cedar and 6 more joined the session.")
    sentences = {
        "recovering": "elm fell silent after upload; its mask came off with shares.",
        "late": "maple missed the cut-off; the sum goes on without it.",
    }
    for kind, sentence in sentences.items():
        happening = next(h for h in session.record.happenings if h.kind == kind)
        assert (str(happening.round), sentence) in told
    assert "elm came in, for the next window of keys." in [sentence for _, sentence in told]


def test_components_have_weights_and_images(session: Session, page: Page) -> None:
    images = page.all("img")
    assert [e.attributes["alt"] for e in images] == [f"mean of component c{k}" for k in range(10)]
    assert all(e.attributes["src"].startswith("data:image/png;base64,") for e in images)
    shown = [words(e.text) for e in page.all("span") if e.attributes.get("class") == "weight"]
    assert shown == [f"{100 * weight:.1f} %" for weight in session.record.rounds[-1].weights]


def test_what_is_not_protected_is_told_with_this_sessions_own_exposure(session: Session, html: str, page: Page) -> None:
    items = [words(e.text) for e in page.all("li")]
    for topic in ("Poisoned inputs.", "Differencing.", "Consecutive sums.", "Small components."):
        assert sum(item.startswith(topic) for item in items) == 1
    sets = [{i for i, p in enumerate(r.participation) if p.in_sum} for r in session.record.rounds]
    assert any("give the sum over a block, of 3 tenants or more" in item for item in items)
    assert any(f"The smallest sum of this session was over {min(map(len, sets))} tenants" in item for item in items)
    assert "drawn from the model" in words(re.sub("<[^>]*>", "", html))


def test_page_needs_nothing_else(html: str, page: Page) -> None:
    assert not page.all("script")
    assert not page.all("link")
    assert "http" not in html
    assert "@import" not in html
    for element in page.elements:
        assert element.attributes.get("src", "data:").startswith("data:")
        assert element.attributes.get("href", "#").startswith("#")
        assert not any(key.startswith("on") for key in element.attributes)
    assert set(re.findall(r"url\((.)", html)) <= {"#"}


def test_page_follows_light_and_dark(html: str) -> None:
    style = html[html.index("<style>") : html.index("</style>")]
    light, dark = style.split("prefers-color-scheme: dark", 1)
    defined = set(re.findall(r"(--[a-z0-9-]+):", light))
    used = set(re.findall(r"var\((--[a-z0-9-]+)\)", html))
    assert used <= defined
    assert {"--paper", "--ink", "--curve"} <= set(re.findall(r"(--[a-z0-9-]+):", dark))
    charts = html[html.index("</style>") :]
    assert not re.findall(r"(?:fill|stroke): #", charts)


HOSTILE = (
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "$\\frac{1}{$", "#010101", "a & b", "{{ 7 * 7 }}",
    "url(#x)", "id=\"y\"", "&lt;b&gt;",
)  # fmt: skip


def test_hostile_names_are_only_text(session: Session) -> None:
    renamed = dict(zip(session.record.tenants, HOSTILE, strict=True))
    happenings = tuple(
        h.model_copy(update={"tenants": tuple(renamed[name] for name in h.tenants), "text": f"{h.text}<b onclick=x>"})
        for h in session.record.happenings
    )
    record = session.record.model_copy(
        update={
            "title": "</title><script>alert(2)</script>", "federation": HOSTILE[1], "banner": HOSTILE[0],
            "tenants": HOSTILE, "columns": HOSTILE[:8], "model": HOSTILE[0], "transport": HOSTILE[1],
            "happenings": happenings,
        }
    )  # fmt: skip
    page = parsed(report_page(record, session.fitted, session.images))
    assert not page.all("script")
    assert not page.all("b")
    assert len(page.all("img")) == 10
    assert not any(key.startswith("on") for e in page.elements for key in e.attributes)
    chart_texts = [e.text for e in page.all("text")]
    first_cells = [row[0] for row in table_rows(page, "tenants")]
    for name in HOSTILE:
        assert name in chart_texts
        assert name in first_cells


def test_report_is_written_with_its_record(session: Session, tmp_path: Path) -> None:
    path = write_report(tmp_path / "new" / "folder", session.record, session.fitted, session.images)
    assert path == tmp_path / "new" / "folder" / "report.html"
    record = SessionRecord.model_validate(json.loads((path.parent / "record.json").read_text(encoding="utf-8")))
    assert record == session.record
    again = write_report(tmp_path / "again", session.record, session.fitted, session.images)
    assert again.read_bytes() == path.read_bytes()


def test_a_folder_that_cannot_be_made_is_the_environments_fault(session: Session, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentFault, match="cannot write a report"):
        write_report(tmp_path / "file", session.record, session.fitted)


@pytest.mark.parametrize("package", ["matplotlib", "jinja2"])
def test_without_the_extra_the_error_names_it(
    package: str, session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in [name for name in sys.modules if name.startswith("fed_em_server.report_")]:
        monkeypatch.delitem(sys.modules, module)
    for module in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(CallerError) as raised:
        write_report(tmp_path, session.record, session.fitted)
    assert raised.value.remedy == "pip install 'fed-em[plots]'"
    assert package in raised.value.message
    assert not list(tmp_path.iterdir())


def test_images_must_be_one_for_each_component(session: Session) -> None:
    with pytest.raises(CallerError, match="3 images for a mixture of 10 components"):
        report_page(session.record, session.fitted, session.images[:3])
    with pytest.raises(CallerError, match="must be finite"):
        report_page(session.record, session.fitted, np.full((10, 8, 8), np.nan))


def test_a_round_that_opened_no_sum_is_marked(session: Session) -> None:
    # One of each block, so that there is no whole one.
    trouble = {(name, 3): 10.0 for name in session.record.tenants[:3]}
    outcome = train(Onlooker(), 4, trouble)
    page = parsed(report_page(outcome.record, outcome.fitted))
    assert [r.round for r in outcome.record.rounds] != list(range(1, 6))
    assert "✕" in [e.text for e in page.all("text")]
    assert not page.all("img")
    told = "no sum was opened: 6 uploads, needed are 3 in whole blocks; missing: ash, birch, cedar"
    assert any(told in row[-1] for row in table_rows(page, "happenings"))


def test_the_round_of_counts_belongs_to_the_sum_that_follows(session: Session) -> None:
    """Every second number was spent on counts; none of them is a failure."""
    gated = tuple(
        opened.model_copy(
            update={"round": 2 * opened.round, "counted": 2 * opened.round - 1, "held": (3,), "bases": ()}
        )
        for opened in session.record.rounds
    )
    record = session.record.model_copy(update={"rounds": gated, "mass_floor": 2.5})
    page = parsed(report_page(record, session.fitted, session.images))
    assert "✕" not in [e.text for e in page.all("text")]
    told = "fewer than 2.5 rows, or cells of a column, or of too few tenants, were kept shut: up to 1 of 10 in a sum, at the end c3."
    assert any(told in words(e.text) for e in page.all("li"))


def test_one_block_is_told_to_pause(session: Session) -> None:
    record = session.record.model_copy(update={"blocks": (0,) * 9})
    page = parsed(report_page(record, session.fitted, session.images))
    assert any("when one drops out, the session pauses" in words(e.text) for e in page.all("p"))
    assert "block 1" not in [e.text for e in page.all("text")]


def test_bases_must_fit_the_round(session: Session) -> None:
    opened = session.record.rounds[3].model_dump()
    for bases in ((1,) * 8, (*opened["bases"][:-1], opened["round"] + 1)):
        with pytest.raises(ValidationError, match="bases must be rounds up to this one"):
            RoundRecord.model_validate({**opened, "bases": bases})


def test_terms_keep_the_round_that_they_were_last_summed_in(session: Session) -> None:
    """As far as the parts of a round tell: everybody in a sum has its round as base, the others theirs of before."""
    before = (0,) * 9
    for opened in session.record.rounds:
        expected = tuple(
            opened.round if part.in_sum else base for part, base in zip(opened.participation, before, strict=True)
        )
        assert opened.bases == expected
        assert opened.stale == sum(not part.in_sum for part in opened.participation)
        for block in session.record.block_members():
            assert len({opened.bases[index] for index in block}) == 1
        before = expected


@pytest.mark.parametrize("covariance", ["full", "tied", "diag", "spherical"])
@pytest.mark.parametrize("k", [1, 2, 5])
def test_the_plane_holds_the_components(covariance: str, k: int) -> None:
    fitted = mixture_of(k, 4, covariance)
    planar = planar_mixture(fitted)
    assert planar is not None
    assert planar.means.shape == (k, 2)
    assert planar.shares[0] >= planar.shares[1] >= -1e-12
    for j in range(k):
        own = planar.points[planar.labels == j]
        assert np.allclose(own.mean(axis=0), planar.means[j], atol=0.4)
        width, height, _ = planar.ellipse(j, 2.0)
        assert width >= height > 0
        whitened = np.linalg.solve(np.linalg.cholesky(planar.covariances[j]), (own - planar.means[j]).T)
        inside = float(np.mean((whitened**2).sum(axis=0) < 4))
        assert inside == pytest.approx(1 - np.exp(-2), abs=0.12)


def mixture_of(k: int, d: int, covariance: str) -> FittedModel:
    shapes = {"full": np.eye(d)[np.newaxis].repeat(k, axis=0), "tied": np.eye(d), "diag": np.ones((k, d))}
    model = GaussianMixtureModel(k, d, covariance)  # type: ignore[arg-type]
    parameters = Parameters(
        {
            "weights": np.full(k, 1 / k),
            "means": np.random.default_rng(0).normal(0, 3, (k, d)),
            "covariances": shapes.get(covariance, np.ones(k)),
        }
    )
    return FittedModel(model, Coordinates.identity(d), tuple(f"x{i}" for i in range(d)), parameters, {})


def test_one_column_has_no_plane() -> None:
    assert planar_mixture(mixture_of(3, 1, "full")) is None
