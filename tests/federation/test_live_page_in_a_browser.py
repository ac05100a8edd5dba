"""The live page of a real session, in headless Chromium: what it shows, whom it asks, and that it is quick when there is much."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import HTTPCookieProcessor, OpenerDirector, build_opener

import pytest
from small_federation import clustered_rows, memory_hub, session_toml, write_small_federation

from fed_em_protocols.coordinator_state import Notice, NoticeKind
from fed_em_server.live_page.live_page import ADDRESS_FILE, LivePage
from fed_em_server.record import Participation, RoundRecord, SessionRecord
from fed_em_server.serve import open_server
from fed_em_server.session import SessionOutcome, run_session
from fed_em_server.watchers import Watchers
from fed_em_simulations.federation_folder import FederationFolder
from fed_em_simulations.pace import Pace

pytestmark = pytest.mark.slow

ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
SIZES = (60, 50, 40, 30, 20, 45)


@pytest.fixture(scope="module")
def browser(program: Callable[[str], Path]) -> Iterator[Any]:
    chromium = program("chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as tools:
        started = tools.chromium.launch(executable_path=str(chromium), args=ARGUMENTS)
        yield started
        started.close()


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> FederationFolder:
    folder = tmp_path_factory.mktemp("federation") / "small"
    return write_small_federation(folder, clustered_rows(SIZES), session_toml(fit="tolerance = 1e-4"))


class Tab:
    """A tab that remembers what it asked for and what it complained of."""

    def __init__(self, browser: Any, width: int = 1280, scheme: str = "light") -> None:
        self.context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.page = self.context.new_page()
        self.asked: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", lambda told: self.complaints.append(told.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def text(self, selector: str) -> str:
        return str(self.page.locator(selector).inner_text())

    def figure(self, name: str) -> str:
        boxes = self.page.locator("#figures div")
        found = {
            boxes.nth(k).locator("dt").inner_text(): boxes.nth(k).locator(".value").inner_text()
            for k in range(boxes.count())
        }
        return str(found[name])


def until(condition: Callable[[], bool]) -> None:
    """Wait: the page's policy lets nobody evaluate text, playwright's own waiting included."""
    deadline = time.monotonic() + 180
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@contextmanager
def running(federation: FederationFolder, page: LivePage, seconds_a_round: float) -> Iterator[list[SessionOutcome]]:
    """A session of six tenants in a thread; its outcome is in the list once it is over."""
    outcomes: list[SessionOutcome] = []

    def run() -> None:
        server = open_server(federation.server)
        watchers = Watchers([page, Pace(seconds_a_round)])
        outcomes.append(run_session(server.plan("memory"), memory_hub(federation), watchers))

    session = threading.Thread(target=run)
    session.start()
    try:
        yield outcomes
    finally:
        session.join()


def test_a_running_session_is_shown_to_its_end(
    browser: Any, federation: FederationFolder, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tab, names = Tab(browser), federation.roster.tenants
    origin = ""
    with LivePage("127.0.0.1:0") as page:
        origin = page.url.partition("?")[0]
        with running(federation, page, 0.15) as outcomes:
            tab.page.goto(page.url)
            assert tab.page.url == origin  # without the token
            tab.page.wait_for_selector("#tenants tbody tr")
            assert [tab.page.locator("#tenants tbody th").nth(k).inner_text() for k in range(len(names))] == [
                t.name for t in names
            ]
            until(lambda: tab.page.locator("#fit circle").count() >= 2)
            earlier = int(tab.figure("sums opened"))
            until(lambda: int(tab.figure("sums opened")) > earlier)
            assert not outcomes  # it went on by itself, while the session ran
            assert "malicious-server" in tab.text("#banners")
            assert tab.page.locator("#participation svg").text_content().count("t0") == 1
        record = outcomes[0].record
        page.ended(record, tmp_path, ["model", "record.json"])
    tab.page.wait_for_selector(".stage.done")
    assert tab.text("#doing").startswith("Converged at −")
    assert f"In {tmp_path}: model, record.json." in tab.text("#waiting")
    until(lambda: tab.figure("sums opened") == str(len(record.rounds)))
    counted = tab.page.locator("#tenants tbody tr").first.locator("td.number").all_inner_texts()
    assert [int(cell) for cell in counted] == [
        sum(r.participation[0] is part for r in record.rounds) for part in Participation
    ]
    tab.page.locator("#numbers summary").click()
    until(lambda: tab.page.locator("#numbers tbody tr").count() == len(record.rounds))
    time.sleep(0.5)  # the server is gone: no complaint, and the picture stays
    assert tab.page.locator("#lost").is_hidden()
    assert tab.complaints == []
    assert {asked.startswith(origin) for asked in tab.asked} == {True}
    assert page.url.partition("token=")[2] not in capfd.readouterr().out


# Where the tests run in a shell's background, interrupts are ignored, and so they would be by the processes they start.
INTERRUPTIBLE = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from fed_em_simulations.command_line import main
main()
"""


def test_the_command_shows_its_page_and_logs_no_token(federation: FederationFolder) -> None:
    """A process without a terminal, whose tenants do not come; no browser is needed."""
    command = [sys.executable, "-c", INTERRUPTIBLE, "server", str(federation.session_file)]
    address = federation.server.output / ADDRESS_FILE
    with subprocess.Popen(
        [*command, "--dashboard", "127.0.0.1:0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        until(address.exists)
        until(lambda: "?token=" in address.read_text())
        url = address.read_text().strip()
        opener = build_opener(HTTPCookieProcessor())
        with opener.open(url) as shown:
            assert shown.status == 200 and "token" not in shown.geturl()
        until(lambda: _state(opener, url)["session"] is not None)
        state = _state(opener, url)
        assert state["session"]["title"] == "small"
        assert state["now"]["standings"] == ["expected"] * len(SIZES)
        process.send_signal(signal.SIGINT)
        told, _ = process.communicate(timeout=120)
    assert str(address) in told.replace("\n", "")
    assert url.partition("token=")[2] not in told
    assert not address.exists()


def _state(opener: OpenerDirector, url: str) -> Any:
    with opener.open(url.replace("/?", "/state?")) as answer:
        return json.load(answer)


def test_without_the_token_nothing_is_shown(browser: Any) -> None:
    with LivePage("127.0.0.1:0") as page:
        tab = Tab(browser)
        refused = tab.page.goto(page.url.partition("?")[0])
        assert refused.status == 401
        assert "token" in tab.text("body")
        assert tab.page.locator("script").count() == 0


def test_a_lost_server_is_told(browser: Any, federation: FederationFolder) -> None:
    tab = Tab(browser)
    with LivePage("127.0.0.1:0") as page:
        page.session_started(_record_of(federation.roster.tenants[0].name, 4))
        tab.page.goto(page.url)
        tab.page.wait_for_selector("#tenants tbody tr")
        assert tab.page.locator("#lost").is_hidden()
    tab.page.wait_for_selector("#lost:not([hidden])", timeout=60_000)
    assert "The server does not answer" in tab.text("#lost")


def _record_of(prefix: str, n: int) -> SessionRecord:
    return SessionRecord(
        title="<b>a & b</b>", federation="f", session="0" * 32, started="2026-01-01T00:00:00+00:00", transport="memory",
        trust="malicious-server", banner="b", tenants=tuple(f"{prefix}-{i:03}" for i in range(n)), blocks=(), columns=("a",),
        model="m", colluders=1, minimum_survivors=3, tolerance=1e-6,
    )  # fmt: skip


def _many_rounds(n: int, rounds: int) -> Iterator[RoundRecord]:
    parts = list(Participation)
    for number in range(1, rounds + 1):
        # Every cell of a line differs from the one before: nothing can be drawn in one piece.
        participation = tuple(parts[(index + number) % len(parts)] for index in range(n))
        yield RoundRecord.model_construct(
            round=number, iteration=number, participation=participation, bases=(0,) * n, seconds=0.5 + number % 3, bytes_up=1000,
            bytes_down=5000, log_likelihood=-10.0 - 1.0 / number, objective=-10.0 - 1.0 / number, weights=(0.2,) * 5,
        )  # fmt: skip


def test_two_hundred_tenants_and_five_hundred_rounds_are_drawn_quickly(browser: Any) -> None:
    tab, n = Tab(browser), 200
    with LivePage("127.0.0.1:0") as page:
        page.session_started(_record_of("clinic", n))
        names = tuple(f"clinic-{i:03}" for i in range(n))
        page.noticed(Notice(NoticeKind.JOINED, 0, names))
        for opened in _many_rounds(n, 500):
            page.round_opened(opened)
        tab.page.goto(page.url)
        until(lambda: tab.page.locator("#participation svg path").count() >= 5)
        assert tab.text("#title") == "<b>a & b</b>"
        assert tab.page.locator("#tenants tbody tr").count() == 24
        tab.page.locator("#more").click()
        assert tab.page.locator("#tenants tbody tr").count() == n
        for opened in _many_rounds(n, 505):
            if opened.round > 500:
                page.round_opened(opened)
        until(lambda: tab.figure("sums opened") == "505")
        # The longest that the browser was busy with anything, in milliseconds: a whole drawing is one piece.
        took = tab.page.evaluate(
            "new Promise(done => new PerformanceObserver(list => done(Math.max(...list.getEntries().map(e => e.duration))))"
            ".observe({type: 'longtask', buffered: true}))"
        )
        assert tab.complaints == []
    assert took < 10_000  # some 200 on a quiet machine; ten tests at once may be at work


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 390)])
def test_it_fits_its_window_in_both_schemes(browser: Any, tmp_path: Path, scheme: str, width: int) -> None:
    tab = Tab(browser, width, scheme)
    with LivePage("127.0.0.1:0") as page:
        page.session_started(_record_of("clinic", 12))
        for opened in _many_rounds(12, 40):
            page.round_opened(opened)
        page.noticed(Notice(NoticeKind.PAUSED, 41, ("clinic-003",), "11 of 12 answer"))
        tab.page.goto(page.url)
        tab.page.wait_for_selector(".stage.paused")
        assert "until clinic-003 is back" in tab.text("#waiting")
        assert tab.page.evaluate("document.documentElement.scrollWidth") == width
        paper, ink = tab.page.evaluate(
            "['backgroundColor', 'color'].map(name => getComputedStyle(document.body)[name])"
        )
        light = [sum(int(part) for part in colour.strip("rgb()").split(",")) for colour in (paper, ink)]
        assert (light[0] > light[1]) is (scheme == "light")
        shot = tab.page.screenshot(path=tmp_path / "page.png", full_page=True)
        assert shot.startswith(b"\x89PNG")
        assert tab.complaints == []
        unlabelled = tab.page.evaluate(
            "[...document.querySelectorAll('.live-chart svg')].filter(s => !s.getAttribute('aria-label')).length"
        )
        assert unlabelled == 0
