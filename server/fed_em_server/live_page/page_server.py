"""The page's own HTTP server: a few files, the state as JSON, and a stream of events, all of them read-only.

It runs on threads of its own and reads one reference; a session neither waits for it nor hears of its troubles.
"""

from __future__ import annotations

import io
import json
import socket
import socketserver
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from importlib.resources import files
from threading import BoundedSemaphore, Event, Thread
from typing import Any
from urllib.parse import urlsplit

from fed_em.errors import EnvironmentFault
from fed_em_server.live_page.page_access import Access, loopback, names_this_machine, page_token
from fed_em_server.live_page.page_state import state_of
from fed_em_server.live_picture import Picture, PictureKeeper
from fed_em_server.timed_connection import TimedConnection

# Connections at once; of these, so many may be streams of events.
MOST_CONNECTIONS, MOST_STREAMS = 32, 12
# A browser is told at most so often, in seconds, and hears from here at least so often, so that a dead link is noticed.
_BETWEEN_EVENTS, _SIGN_OF_LIFE = 0.4, 10.0
# A request has to come within so many seconds, and what is sent has to be taken within them.
_PATIENCE = 10.0
# What a closing page waits for browsers to take its last state, in seconds.
_FAREWELL = 2.0

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}

_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


def _assets() -> Mapping[str, tuple[str, bytes]]:
    """Every file of the page by its path: type and content. The report's style sheet is the base of the page's."""
    package = files("fed_em_server")
    sheet = package / "templates" / "report.css"
    found = {"/report.css": sheet} | {f"/{file.name}": file for file in (package / "live_page" / "assets").iterdir()}
    return {
        path.replace("/page.html", "/"): (_TYPES[path.rpartition(".")[2]], file.read_bytes())
        for path, file in found.items()
    }


class PageServer(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Serves the page on a thread of its own from its making until `close`.

    Args:
        address: "host:port" on this machine; port 0 for any that is free.
        keeper: Who keeps the picture.

    Raises:
        CallerError: the address is not this machine's alone.
        EnvironmentFault: the port is in use.
    """

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = MOST_CONNECTIONS

    def __init__(self, address: str, keeper: PictureKeeper) -> None:
        host, port = loopback(address)
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__((host, port), _Handler)
        except OSError as error:
            raise EnvironmentFault(
                f"the live page cannot listen on {address}: {error.strerror}",
                remedy="end what listens there, or name port 0 for any that is free",
            ) from None
        self.keeper = keeper
        self.access = Access(page_token(), self.server_address[1])
        self.assets = _assets()
        self.closing = Event()
        self._host = f"[{host}]" if ":" in host else host
        self._connections = BoundedSemaphore(MOST_CONNECTIONS)
        self.streams = BoundedSemaphore(MOST_STREAMS)
        self._thread = Thread(target=self.serve_forever, args=(0.1,), name="live-page", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where to look, with the token."""
        return f"http://{self._host}:{self.access.port}/?token={self.access.token}"

    def close(self) -> None:
        """Send all browsers the last picture, and end."""
        self.closing.set()
        until = time.monotonic() + _FAREWELL
        for _ in range(MOST_STREAMS):
            self.streams.acquire(timeout=max(0.0, until - time.monotonic()))
        self.shutdown()
        self.server_close()
        self._thread.join()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer on a thread, if there are not too many."""
        if self._connections.acquire(blocking=False):
            super().process_request(request, client_address)
            return
        with suppress(OSError):
            request.sendall(b"HTTP/1.0 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
        self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer one connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._connections.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Browsers go away as they like."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """One connection with one request."""

    server: PageServer
    server_version, sys_version = "fed-em", ""

    def setup(self) -> None:
        """Read and write against the clock."""
        super().setup()
        self._timed = TimedConnection(self.connection)
        self._timed.allow(_PATIENCE)
        self.rfile, self.wfile = io.BufferedReader(self._timed), io.BufferedWriter(self._timed)

    def do_GET(self) -> None:
        """Answer a request, if it may be."""
        if not names_this_machine(self.headers.get("Host")):
            return self._refuse(HTTPStatus.FORBIDDEN, "This page is for the machine that it runs on alone.")
        try:
            asked, access = urlsplit(self.path), self.server.access
        except ValueError:
            return self._refuse(HTTPStatus.BAD_REQUEST, "This is no address.")
        if asked.path == "/" and access.in_query(asked.query):
            return self._send(HTTPStatus.SEE_OTHER, "", b"", {"Location": "/", "Set-Cookie": access.cookie_to_set})
        if not access.in_cookies(self.headers.get("Cookie")):
            return self._refuse(
                HTTPStatus.UNAUTHORIZED, "Open the whole address that the server printed: it holds the token."
            )
        return self._show(asked.path)

    def _show(self, path: str) -> None:
        answers: Mapping[str, Callable[[], None]] = {"/state": self._state, "/events": self._events}
        if path in answers:
            return answers[path]()
        if path in self.server.assets:
            return self._send(HTTPStatus.OK, *self.server.assets[path])
        return self._refuse(HTTPStatus.NOT_FOUND, "There is no such page.")

    def _state(self) -> None:
        keeper = self.server.keeper
        self._send(HTTPStatus.OK, "application/json", _json(state_of(keeper.picture, keeper.now)))

    def _events(self) -> None:
        if not self.server.streams.acquire(blocking=False):
            return self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "Too many windows show this page.")
        try:
            self._start(HTTPStatus.OK, {"Content-Type": "text/event-stream"})
            for event in self._changes():
                self._timed.allow(_PATIENCE)
                self.wfile.write(event)
                self.wfile.flush()
        finally:
            self.server.streams.release()
        return None

    def _changes(self) -> Iterator[bytes]:
        """The whole state first, then what is new, until the page is closed."""
        keeper, known, shown, quiet = self.server.keeper, 0, _NOT_YET, 0.0
        while True:
            last, picture = self.server.closing.is_set(), keeper.picture
            if picture is not shown:
                if picture is None or len(picture.rounds) < known:  # another session
                    known = 0
                yield b"data: " + _json(state_of(picture, keeper.now, known)) + b"\n\n"
                known, shown, quiet = len(picture.rounds) if picture else 0, picture, 0.0
            elif quiet >= _SIGN_OF_LIFE:
                yield b": still here\n\n"
                quiet = 0.0
            if last:
                return
            self.server.closing.wait(_BETWEEN_EVENTS)
            quiet += _BETWEEN_EVENTS

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the library refuses: requests that are none, and methods there are no answers for."""
        del message, explain
        unknown = code == HTTPStatus.NOT_IMPLEMENTED
        status = HTTPStatus.METHOD_NOT_ALLOWED if unknown else HTTPStatus(code)
        self._refuse(status, "This page is only read." if unknown else status.phrase)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: addresses may hold the token."""

    def _refuse(self, status: HTTPStatus, why: str) -> None:
        allow = {"Allow": "GET"} if status is HTTPStatus.METHOD_NOT_ALLOWED else {}
        self._send(status, "text/plain; charset=utf-8", f"{why}\n".encode(), allow)

    def _send(self, status: HTTPStatus, kind: str, body: bytes, more: Mapping[str, str] | None = None) -> None:
        self._timed.allow(_PATIENCE)
        typed = {"Content-Type": kind} if kind else {}
        self._start(status, {**typed, "Content-Length": str(len(body)), **(more or {})})
        self.wfile.write(body)

    def _start(self, status: HTTPStatus, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in (*_HEADERS.items(), *headers.items()):
            self.send_header(name, value)
        self.end_headers()


# Not even the absence of a picture was shown.
_NOT_YET: Picture | object | None = object()


def _json(state: Mapping[str, Any]) -> bytes:
    return json.dumps(state, separators=(",", ":"), allow_nan=False).encode()
