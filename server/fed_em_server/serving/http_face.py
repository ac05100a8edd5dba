"""The desk over HTTP/1.1 with JSON, by the standard library's server: one thread a connection, which stays open.

    POST /predict /score /impute /sample        a request's JSON, by `application/json`
    GET  /model /healthz /schema                which model answers, whether there is one, and what JSON looks like

A request that has a header `X-Request-Timeout` (seconds) is given up then. Only `application/json` is taken, so that no page of another
origin can ask from within somebody's browser.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import socket
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from fed_em.errors import CallerError, EnvironmentFault
from fed_em_protocols.addresses import split_address
from fed_em_server.serving import http_documents
from fed_em_server.serving.desk import Desk
from fed_em_server.serving.http_documents import Document
from fed_em_server.serving.refusals import NoModel, Overloaded, Refusal, TooLarge
from fed_em_server.timed_connection import TimedConnection

_METHODS = ("predict", "score", "impute", "sample")
# A connection on which nothing comes for so long is closed; so is one that takes longer to send a request, or to take a reply.
_IDLE_SECONDS = 60.0
# A body that is no larger is always taken in: of as many as there may be connections they fill little.
_SMALL = 64 * 2**10


class HttpFace:
    """Listens until stopped.

    Args:
        desk: Answers.
        address: "host:port", port 0 for any.
        tls: None for none.

    Raises:
        EnvironmentFault: the port is in use or may not be opened.
    """

    def __init__(self, desk: Desk, address: str, tls: ssl.SSLContext | None = None) -> None:
        host, port = split_address(address)
        try:
            self._server = _Server((host, port), desk, tls)
        except OSError as error:
            raise EnvironmentFault(
                f"cannot listen on {address}: {error.strerror}", remedy="is the port in use, or below 1024?"
            ) from None
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="serving-http", daemon=True
        )

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """Answer no new request, and wait for those in flight, so long."""
        with self._server.changed:
            self._server.going = True
        self._server.shutdown()
        self._thread.join()
        with self._server.changed:
            self._server.changed.wait_for(lambda: not self._server.in_flight, seconds)
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], desk: Desk, tls: ssl.SSLContext | None) -> None:
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        self.desk, self._tls = desk, tls
        self.going, self.in_flight, self.changed = False, 0, threading.Condition()
        self._held, self._room = 0, threading.Semaphore(desk.limits.connections)
        super().__init__(address, _Handler)

    @contextlib.contextmanager
    def answering(self) -> Iterator[None]:
        """A request is in flight until its reply is written. Raises `NoModel` if the server is about to stop."""
        with self.changed:
            if self.going:
                raise NoModel("the server is about to stop", remedy="ask another one, or again in a moment")
            self.in_flight += 1
        try:
            yield
        finally:
            with self.changed:
                self.in_flight -= 1
                self.changed.notify_all()

    @contextlib.contextmanager
    def holding(self, size: int) -> Iterator[None]:
        """So many bytes of a body are to be held. Raises `Overloaded` if large ones fill what there is for them."""
        large = size if size > _SMALL else 0
        with self.changed:
            if self._held + large > self.desk.limits.held:
                raise Overloaded("the server holds as many large requests as it can", remedy="ask again, less often")
            self._held += large
        try:
            yield
        finally:
            with self.changed:
                self._held -= large

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._room.acquire(blocking=False):
            # Without a word: to write one could take as long as its reader likes.
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            with contextlib.suppress(OSError):  # it hung up, or its handshake failed
                request.settimeout(_IDLE_SECONDS)
                if self._tls is not None:
                    # On the connection's own thread: a handshake takes as long as the other side likes.
                    request = self._tls.wrap_socket(request, server_side=True)
                self.finish_request(request, client_address)
        finally:
            self.shutdown_request(request)
            self._room.release()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "fed-em", ""
    disable_nagle_algorithm = True
    server: _Server

    def setup(self) -> None:
        """Read and write against the clock; a reply that fits into one packet is one, at once."""
        super().setup()
        self._timed = TimedConnection(self.connection)
        self.rfile, self.wfile = io.BufferedReader(self._timed), io.BufferedWriter(self._timed)

    def handle_one_request(self) -> None:
        """Wait for a request, and answer it."""
        self._timed.allow(_IDLE_SECONDS)
        super().handle_one_request()

    def do_GET(self) -> None:
        """Answer what needs no body."""
        desk = self.server.desk
        try:
            match self.path:
                case "/healthz":
                    document = http_documents.health(desk)
                    self._reply(200 if document["version"] else 503, document)
                case "/model":
                    self._reply(200, http_documents.described(desk))
                case "/schema":
                    self._reply(200, http_documents.SCHEMA)
                case _:
                    self._nowhere()
        except Exception as error:
            self._refuse(error)

    def do_POST(self) -> None:
        """Answer a request."""
        method = self.path.removeprefix("/")
        if method not in _METHODS:
            self.close_connection = True  # what follows is its body
            self._nowhere()
            return
        try:
            size = self._size()
            with self.server.holding(size):
                body = self._body(size)
                with self.server.answering():
                    try:
                        self._reply(200, http_documents.answer(self.server.desk, method, body, self._seconds()))
                    except Exception as error:
                        self._refuse(error)
        except Exception as error:
            self._refuse(error)

    def _size(self) -> int:
        """How long the body is that is to be taken. Raises `CallerError` if it is not to be."""
        length, kind = self.headers.get("Content-Length", ""), self.headers.get_content_type()
        # Until the body has been read, nothing else can be asked on this connection.
        self.close_connection = True
        if not (length.isascii() and length.isdigit()) or "Transfer-Encoding" in self.headers:
            raise CallerError("a request needs a Content-Length", remedy="send the body whole")
        most = self.server.desk.limits.bytes
        if len(length) > len(str(most)) or int(length) > most:
            raise TooLarge(f"the request is larger than {most} bytes", remedy="ask in several requests")
        if kind != "application/json":
            raise CallerError("the request's body is not application/json", remedy="say so in its Content-Type")
        return int(length)

    def _body(self, size: int) -> bytes:
        body = self.rfile.read(size)
        if len(body) < size:
            raise CallerError("the request's body ended too early", remedy="send all of it")
        self.close_connection = self.headers.get("Connection", "").lower() == "close"
        return body

    def _seconds(self) -> float | None:
        given = self.headers.get("X-Request-Timeout")
        if given is None:
            return None
        try:
            seconds = float(given)
        except ValueError:
            seconds = math.nan
        if not 0 < seconds < math.inf:
            raise CallerError("X-Request-Timeout is no positive number of seconds", remedy="give seconds, as in 0.5")
        return seconds

    def _nowhere(self) -> None:
        message = "there is nothing at this path"
        remedy = "POST /predict, /score, /impute or /sample, or GET /model, /healthz or /schema"
        self._reply(404, Refusal("NOT_FOUND", 404, "refused", message, remedy).describe())

    def _refuse(self, error: Exception) -> None:
        if isinstance(error, OSError):  # the client is gone
            self.close_connection = True
            return
        refusal = Refusal.of(error)
        self._reply(refusal.status, refusal.describe(), refusal.retry_after)

    def _reply(self, status: int, document: Document, retry_after: int | None = None) -> None:
        body = json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
        self._timed.allow(_IDLE_SECONDS)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if retry_after is not None:
            self.send_header("Retry-After", str(retry_after))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002
        """What the standard library refuses by itself, in our words."""
        self.close_connection = True
        self._reply(
            code,
            Refusal(
                "INVALID_ARGUMENT", code, "refused", "this is no request of HTTP/1.1 that is taken here", ""
            ).describe(),
        )

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: paths and lines of strangers belong into no log."""
