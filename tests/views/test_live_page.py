"""The page tells what a session told, and only to a browser of this machine that has the token."""

from __future__ import annotations

import http.client
import io
import json
import re
import socket
import stat
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fed_em.errors import CallerError, EnvironmentFault
from fed_em_protocols.coordinator_state import Notice, NoticeKind
from fed_em_protocols.privacy.accounting import noise_for
from fed_em_protocols.privacy.promise import SAMPLING_SLACK, Privacy
from fed_em_server.live_page import page_server
from fed_em_server.live_page.live_page import ADDRESS_FILE, LivePage
from fed_em_server.live_page.page_access import Access, loopback, names_this_machine, page_token
from fed_em_server.live_page.page_server import MOST_CONNECTIONS, MOST_STREAMS
from fed_em_server.live_page.page_state import state_of
from fed_em_server.live_picture import Picture, PictureKeeper
from fed_em_server.record import Participation, RoundRecord, SessionRecord
from tests.views.clinics import KILLED, TROUBLE, tell
from tests.views.conftest import Session


def kept(session: Session, count: int | None = None) -> PictureKeeper:
    keeper = PictureKeeper(lambda: 0.0)
    tell(keeper, session.told[:count])
    return keeper


def picture_of(session: Session) -> Picture:
    picture = kept(session).picture
    assert picture is not None
    return picture


class TestState:
    def test_it_holds_every_round_as_it_was_recorded(self, session: Session) -> None:
        state = state_of(picture_of(session), 12.5)
        assert [r["round"] for r in state["rounds"]] == [r.round for r in session.record.rounds]
        for told, opened in zip(state["rounds"], session.record.rounds, strict=True):
            assert [list(Participation)[int(part)] for part in told["parts"]] == list(opened.participation)
            assert told["fit"] == opened.log_likelihood
            assert told["bytes"] == [opened.bytes_up, opened.bytes_down]
            assert told["weights"] == pytest.approx(opened.weights, abs=1e-5)
        assert state["session"]["tenants"] == list(session.record.tenants)
        assert state["session"]["tolerance"] == session.record.tolerance > 0
        assert state["now"]["second"] == 12.5

    def test_it_is_json_without_numbers_that_json_has_not(self, session: Session) -> None:
        picture = picture_of(session)
        spoiled = picture.rounds[-1].model_copy(update={"log_likelihood": float("nan"), "objective": float("-inf")})
        state = state_of(picture.after_round(spoiled, 1.0), 1.0)
        assert json.loads(json.dumps(state, allow_nan=False))["rounds"][-1]["fit"] is None

    def test_rounds_that_are_known_are_left_out(self, session: Session) -> None:
        picture = picture_of(session)
        whole, rest = state_of(picture, 0.0), state_of(picture, 0.0, known=7)
        assert rest["first"] == 7
        assert rest["rounds"] == whole["rounds"][7:]

    def test_the_objective_never_falls_between_rounds_that_are_gone_on_from(self, session: Session) -> None:
        told = [r for r in state_of(picture_of(session), 0.0)["rounds"] if r["onward"] and r["objective"] is not None]
        gains = [after["objective"] - before["objective"] for before, after in pairwise(told)]
        assert len(gains) > 20
        assert min(gains) > -1e-9
        assert gains[-1] < session.record.tolerance  # type: ignore[operator]  it converged

    def test_troubles_are_counted(self, session: Session) -> None:
        troubles = state_of(picture_of(session), 0.0)["now"]["troubles"]
        kinds = [news.kind for news in session.told if isinstance(news, Notice)]
        assert troubles["lost links"] == kinds.count(NoticeKind.LEFT) > 0
        assert troubles["failed rounds"] == kinds.count(NoticeKind.ROUND_FAILED)
        joined = Counter(
            name
            for news in session.told
            if isinstance(news, Notice) and news.kind is NoticeKind.JOINED
            for name in news.tenants
        )
        killed = {name for (name, _), what in TROUBLE.items() if what == KILLED}
        assert {name for name, times in joined.items() if times > 1} == killed
        assert troubles["restarts"] == joined.total() - len(joined) == len(killed)
        assert troubles["refusals"] == 0

    def test_a_paused_session_tells_for_whom_it_waits(self, session: Session) -> None:
        keeper = kept(session)
        keeper.noticed(Notice(NoticeKind.PAUSED, 6, ("elm", "oak"), "7 of 9 answer"))
        now = state_of(keeper.picture, 3.0)["now"]
        assert (now["stage"], now["waiting"], now["troubles"]["pauses"]) == ("paused", ["elm", "oak"], 1)

    def test_the_end_stays(self, session: Session) -> None:
        page = LivePage("127.0.0.1:0", lambda: 0.0)
        with page:
            tell(page, session.told)
            page.ended(session.record, Path("result"), ["model", "record.json"])
        now = state_of(page.picture, 99.0)["now"]
        assert now["second"] == 0.0
        assert re.match(r"Converged.* at −\d+\.\d{4} nats a row\.", now["ending"][0])
        assert now["ending"][1] == "In result: model, record.json."
        assert not now["failed"]

    def test_an_error_is_the_end_too_in_its_own_words_if_it_is_ours(self, session: Session) -> None:
        for error, *said in (
            (EnvironmentFault("the disk is full", remedy="make room"), "The disk is full.", "Make room."),
            (KeyboardInterrupt("s3cret"), "The server was stopped."),
        ):
            page = LivePage("127.0.0.1:0")
            tell(page, session.told[:5])
            with pytest.raises(type(error)), page:
                raise error
            now = state_of(page.picture, 0.0)["now"]
            assert now["failed"]
            assert now["ending"] == ["The session ended without a model.", *said]

    def test_privacy_is_spent_by_rounds_that_were_started(self, session: Session) -> None:
        noise = noise_for(1.0, 1e-6, 10, 10 * SAMPLING_SLACK)
        promise = Privacy(epsilon=1.0, delta=1e-6, radius=2.0, noise_multiplier=noise, sums=10)
        first = session.told[0]
        assert isinstance(first, SessionRecord)
        keeper = PictureKeeper(lambda: 0.0)
        keeper.session_started(first.model_copy(update={"privacy": promise}))
        spent = []
        for number in (0, 1, 5, 10):
            if number:
                keeper.noticed(Notice(NoticeKind.ROUND_STARTED, number, first.tenants))
            told = state_of(keeper.picture, 0.0)["now"]["privacy"]
            assert (told["started"], told["sums"], told["epsilon"]) == (number, 10, 1.0)
            spent.append(told["spent"])
        assert spent[0] == 0.0
        assert sorted(spent) == spent
        assert spent[-1] == pytest.approx(1.0, rel=1e-3)

    def test_two_hundred_tenants_and_five_hundred_rounds_are_no_burden(self, session: Session) -> None:
        opened = session.record.rounds[-1]
        n = 200
        many = opened.model_copy(
            update={"participation": (Participation.SUMMED,) * n, "bases": (opened.round,) * n}
        )  # fmt: skip
        first = session.told[0]
        assert isinstance(first, SessionRecord)
        names = tuple(f"tenant-{i:03}" for i in range(n))
        keeper = PictureKeeper(lambda: 0.0)
        keeper.session_started(first.model_copy(update={"tenants": names, "blocks": ()}))
        for number in range(500):
            keeper.round_opened(RoundRecord.model_construct(**{**many.__dict__, "round": number + 1}))
        assert len(json.dumps(state_of(keeper.picture, 0.0))) < 500_000
        assert len(json.dumps(state_of(keeper.picture, 0.0, known=499))) < 12_000


def answer(
    page: LivePage, path: str, method: str = "GET", headers: Mapping[str, str] | None = None, body: bytes | None = None
) -> tuple[int, dict[str, str], bytes]:
    port = int(page.url.split(":")[2].split("/")[0])
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        link.request(method, path, body, dict(headers or {}))
        found = link.getresponse()
        return found.status, {name.lower(): value for name, value in found.getheaders()}, found.read()
    finally:
        link.close()


def token_of(page: LivePage) -> str:
    return page.url.partition("token=")[2]


def cookie_of(page: LivePage) -> dict[str, str]:
    status, headers, _ = answer(page, f"/?token={token_of(page)}")
    assert (status, headers["location"]) == (303, "/")
    return {"Cookie": headers["set-cookie"].partition(";")[0]}


@pytest.fixture(scope="module")
def page(session: Session) -> Iterator[LivePage]:
    with LivePage("127.0.0.1:0", lambda: 0.0) as shown:
        tell(shown, session.told)
        yield shown


class TestAccess:
    @pytest.mark.parametrize(
        "path", ["/", "/state", "/events", "/page.js", "/report.css", "/nothing", "/?token=", "/?token=x"]
    )
    def test_nothing_is_shown_without_the_token(self, page: LivePage, path: str) -> None:
        for headers in ({}, {"Cookie": f"fed-em-page-1={token_of(page)}"}, {"Cookie": "fed-em-page=;=\x01"}):
            status, _, body = answer(page, path, headers=headers)
            assert status == 401
            assert b"token" in body and token_of(page).encode() not in body

    def test_the_token_counts_in_the_address_of_the_page_only(self, page: LivePage) -> None:
        assert answer(page, f"/state?token={token_of(page)}")[0] == 401

    def test_the_token_becomes_a_cookie_out_of_reach_of_scripts_and_other_sites(self, page: LivePage) -> None:
        _, headers, body = answer(page, f"/?token={token_of(page)}")
        assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(headers["set-cookie"].split("; "))
        assert "token" not in headers["location"]
        assert body == b""

    @pytest.mark.parametrize(
        "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil.example:1", "", "[::2]:1"]
    )
    def test_another_name_of_this_machine_is_refused_even_with_the_token(self, page: LivePage, host: str) -> None:
        given = {**cookie_of(page), "Host": host}
        assert answer(page, f"/?token={token_of(page)}", headers=given)[0] == 403
        assert answer(page, "/state", headers=given)[0] == 403

    @pytest.mark.parametrize("host", ["localhost", "localhost:9000", "127.0.0.1:1", "[::1]:8080", "LOCALHOST:80"])
    def test_names_of_the_loopback_are_good_at_any_port(self, page: LivePage, host: str) -> None:
        assert answer(page, "/state", headers={**cookie_of(page), "Host": host})[0] == 200

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "BREW"])
    def test_it_is_only_read(self, page: LivePage, method: str) -> None:
        status, headers, _ = answer(page, "/state", method, cookie_of(page))
        assert (status, headers["allow"]) == (405, "GET")

    def test_every_answer_forbids_what_is_not_ours(self, page: LivePage) -> None:
        answers = [answer(page, path, headers=cookie_of(page)) for path in ("/", "/state", "/page.js", "/nothing")]
        for _, headers, _ in (*answers, answer(page, "/"), answer(page, "/", "POST")):
            policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
            assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
            assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
            assert headers["referrer-policy"] == "no-referrer"
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["cache-control"] == "no-store"
            assert not any(name.startswith("access-control") for name in headers)

    def test_tokens_are_long_and_differ(self) -> None:
        tokens = {page_token() for _ in range(64)}
        assert len(tokens) == 64
        assert min(map(len, tokens)) == 43

    def test_the_token_is_shown_by_nothing_but_the_address(
        self, page: LivePage, capfd: pytest.CaptureFixture[str]
    ) -> None:
        access = Access(token_of(page), 1)
        answer(page, f"/?token={token_of(page)}")
        answer(page, f"/nothing?token={token_of(page)}", headers=cookie_of(page))
        told = capfd.readouterr()
        assert token_of(page) not in told.out + told.err + repr(access) + repr(page)
        assert told.out + told.err == ""

    @pytest.mark.parametrize(
        ("request_line", "begins"),
        [
            (b"GET http://[ HTTP/1.1", b"HTTP/1.0 400"),
            (b"GET /?" + b"&".join([b"token=x"] * 99) + b" HTTP/1.1", b"HTTP/1.0 401"),
            (b"GET /?token=%ff%00 HTTP/1.1", b"HTTP/1.0 401"),
            (b"GET / HTTP/9.9", b"HTTP Version Not Supported"),
            (b"\x16\x03\x01\x00", b"Bad Request"),
            (b"GET /" + b"a" * 70_000 + b" HTTP/1.1", b"HTTP/1.0 414"),
            (b"GET /state HTTP/1.1\r\n" + b"a: b\r\n" * 200, b"HTTP/1.0 431"),
        ],
    )
    def test_what_is_no_request_is_refused_in_silence(
        self, page: LivePage, capfd: pytest.CaptureFixture[str], request_line: bytes, begins: bytes
    ) -> None:
        port = int(page.url.split(":")[2].split("/")[0])
        with socket.create_connection(("127.0.0.1", port), timeout=5) as link:
            link.sendall(request_line + b"\r\nHost: localhost\r\n\r\n")
            assert link.makefile("rb").readline().startswith(begins)
        told = capfd.readouterr()
        assert told.out + told.err == ""

    @pytest.mark.parametrize("address", ["0.0.0.0:0", "192.168.1.4:80", "example.org:80", "[::]:0"])
    def test_it_listens_for_this_machine_alone(self, address: str) -> None:
        with pytest.raises(CallerError, match="this machine alone") as refused:
            loopback(address)
        assert "ssh -L" in refused.value.remedy

    def test_a_port_in_use_is_told(self, page: LivePage) -> None:
        port = page.url.split(":")[2].split("/")[0]
        with socket.create_server(("127.0.0.1", 0)) as other:
            taken = other.getsockname()[1]
            with pytest.raises(EnvironmentFault, match=f"cannot listen on 127.0.0.1:{taken}"):
                LivePage(f"127.0.0.1:{taken}")
        assert port.isdecimal()

    def test_hosts_that_are_no_addresses(self) -> None:
        assert not names_this_machine(None)
        assert not names_this_machine("localhost:port")
        assert not names_this_machine("user@localhost:80")


class TestServer:
    def test_it_serves_the_page_and_all_that_it_names(self, page: LivePage) -> None:
        cookie = cookie_of(page)
        _, headers, body = answer(page, "/", headers=cookie)
        assert headers["content-type"] == "text/html; charset=utf-8"
        named = re.findall(r'(?:href|src)="([^"]+)"', body.decode())
        assert {"report.css", "page.css", "page.js", "icon.svg"} <= set(named)
        imported = re.findall(r'from "\./([^"]+)"', answer(page, "/page.js", headers=cookie)[2].decode())
        for name in (*named, *imported):
            status, headers, content = answer(page, f"/{name}", headers=cookie)
            assert status == 200 and content
            assert not re.search(rb"https?://(?!www\.w3\.org/2000/svg)", content)
        assert not re.search(r"<style|style=|onclick|<script(?! type=\"module\" src)", body.decode())

    def test_the_state_is_that_of_the_picture(self, page: LivePage) -> None:
        _, headers, body = answer(page, "/state", headers=cookie_of(page))
        assert headers["content-type"] == "application/json"
        assert json.loads(body) == json.loads(json.dumps(state_of(page.picture, page.now)))

    def test_paths_lead_to_nothing_else(self, page: LivePage) -> None:
        cookie = cookie_of(page)
        for path in ("/../page_server.py", "/..%2fpage_server.py", "/page.html/", "//etc/passwd", "/page_state.py"):
            assert answer(page, path, headers=cookie)[0] == 404

    def test_events_tell_what_is_new_and_end_with_the_end(self, session: Session) -> None:
        opened = [place for place, news in enumerate(session.told) if isinstance(news, RoundRecord)]
        page = LivePage("127.0.0.1:0", lambda: 0.0)
        with page:
            tell(page, session.told[: opened[3]])
            stream = Stream(page)
            first = stream.event()
            assert (first["first"], len(first["rounds"])) == (0, 3)
            tell(page, session.told[opened[3] : opened[5]])
            second = stream.event()
            while second["first"] + len(second["rounds"]) < 5:
                assert second["first"] >= 3
                second = stream.event()
            page.ended(session.record, Path("result"), [])
        last = stream.event()
        while not last["now"]["ending"]:
            last = stream.event()
        assert stream.rest() == b""
        stream.close()

    def test_a_page_before_the_session_waits(self) -> None:
        with LivePage("127.0.0.1:0") as page:
            assert json.loads(answer(page, "/state", headers=cookie_of(page))[2])["session"] is None

    def test_connections_are_bounded(self, session: Session) -> None:
        with LivePage("127.0.0.1:0", lambda: 0.0) as page:
            tell(page, session.told[:1])
            cookie = cookie_of(page)
            streams = [Stream(page, cookie) for _ in range(MOST_STREAMS)]
            for stream in streams:
                stream.event()
            assert answer(page, "/events", headers=cookie)[0] == 503
            port = int(page.url.split(":")[2].split("/")[0])
            idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(MOST_CONNECTIONS)]
            with socket.create_connection(("127.0.0.1", port), timeout=5) as one_more:
                assert one_more.recv(64).startswith(b"HTTP/1.0 503")
            for link in (*idle, *streams):
                link.close()

    def test_whoever_sends_a_byte_now_and_then_holds_no_connection(
        self, page: LivePage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(page_server, "_PATIENCE", 0.3)
        until = time.monotonic() + 10.0
        with socket.create_connection(("127.0.0.1", page._server.access.port)) as slow, suppress(ConnectionError):
            slow.settimeout(0.05)
            slow.sendall(b"GET /")
            while time.monotonic() < until:
                with suppress(TimeoutError):
                    assert slow.recv(1) == b""
                    break
                slow.sendall(b"a")
        assert time.monotonic() < until

    def test_the_address_goes_to_a_terminal_or_into_a_file_of_its_owner(self, tmp_path: Path) -> None:
        with LivePage("127.0.0.1:0") as page:
            terminal, log = io.StringIO(), io.StringIO()
            page.tell_address(Console(file=terminal, force_terminal=True, width=20), tmp_path)
            assert page.url in terminal.getvalue()
            assert not list(tmp_path.iterdir())
            page.tell_address(Console(file=log, width=20), tmp_path / "result")
            kept = tmp_path / "result" / ADDRESS_FILE
            assert kept.read_text() == f"{page.url}\n"
            assert stat.S_IMODE(kept.stat().st_mode) == 0o600
            assert token_of(page) not in log.getvalue()
        assert not kept.exists()


class Stream:
    """A stream of events, read one by one."""

    def __init__(self, page: LivePage, cookie: Mapping[str, str] | None = None) -> None:
        cookie = cookie or cookie_of(page)
        self._link = http.client.HTTPConnection("127.0.0.1", int(page.url.split(":")[2].split("/")[0]), timeout=5)
        self._link.request("GET", "/events", headers=dict(cookie))
        self._answer = self._link.getresponse()
        assert self._answer.getheader("Content-Type") == "text/event-stream"

    def event(self) -> Any:
        line = self._answer.readline()
        while not line.startswith(b"data: "):
            assert line
            line = self._answer.readline()
        return json.loads(line.removeprefix(b"data: "))

    def rest(self) -> bytes:
        return self._answer.read().strip()

    def close(self) -> None:
        self._link.close()
