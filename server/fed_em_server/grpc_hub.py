"""Links over gRPC with mutual TLS: one long-lived stream a tenant, dialled by the tenant.

A tenant is who its TLS certificate says: the one that the roster lists, byte for byte. gRPC runs on a thread of its own; messages
wait in a queue until the session asks for them.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

import grpc
import grpc.aio
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fed_em.errors import EnvironmentFault
from fed_em_protocols.limits import MAX_MESSAGE_BYTES
from fed_em_protocols.roster import Roster
from fed_em_protocols.wire.grpc_service import METHOD, SERVICE, channel_options
from fed_em_server.hub import Arrived, HubEvent, Unlinked

T = TypeVar("T")

# The most messages that wait to be read, of one tenant over all links that it dials, and to be sent, on one link. A tenant's others are
# left in its own machine, and one that does not read is cut off.
_MOST_UNREAD, _MOST_UNSENT = 16, 256
# Behind so many bytes of one tenant nothing more of it is read: with one message more that is all that it can make the server keep.
_MOST_UNREAD_BYTES = MAX_MESSAGE_BYTES

# After the last message, tenants get this long to close their ends.
_FAREWELL_SECONDS = 2.0


@dataclass(eq=False)
class _Link:
    """One stream; a tenant that dials again gets a new one, and the old one ends. `cuts`: how often the tenant had been cut before."""

    tenant: int
    cuts: int
    dropped: asyncio.Event = field(default_factory=asyncio.Event)
    outgoing: asyncio.Queue[bytes | None] = field(default_factory=asyncio.Queue)


class _Unread:
    """What waits to be read of one tenant, over all links that it dials; `room` is set while more may come in."""

    def __init__(self) -> None:
        self.room = asyncio.Event()
        self._messages = self._bytes = 0
        self.changed_by(0, 0)

    def changed_by(self, messages: int, size: int) -> None:
        self._messages += messages
        self._bytes += size
        if self._messages < _MOST_UNREAD and self._bytes < _MOST_UNREAD_BYTES:
            self.room.set()
        else:
            self.room.clear()


class GrpcHub:
    """Listens on `address` ("host:port", port 0 for any) until closed.

    Args:
        address: Where to listen.
        roster: Whom to let in.
        tls_key, tls_certificate: The server's own, PEM.

    Raises:
        EnvironmentFault: the port is in use or may not be opened.
    """

    def __init__(self, address: str, roster: Roster, tls_key: bytes, tls_certificate: bytes) -> None:
        self._tenants = {_der(tenant.parsed_certificate): index for index, tenant in enumerate(roster.tenants)}
        roots = "".join(tenant.certificate for tenant in roster.tenants).encode()
        self._credentials = grpc.ssl_server_credentials([(tls_key, tls_certificate)], roots, require_client_auth=True)
        # Each with how often its tenant had been cut when the link was made that it comes from.
        self._events: queue.SimpleQueue[tuple[HubEvent, int]] = queue.SimpleQueue()
        self._unread = [_Unread() for _ in roster.tenants]
        self._cuts = [0] * roster.n
        self._links: dict[int, _Link] = {}
        self._received = self._sent = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="grpc-hub", daemon=True)
        self._thread.start()
        try:
            self.port = self._on_loop(self._listen(address))
        except BaseException:
            self._stop_loop()
            raise

    def now(self) -> float:
        """Seconds on the monotonic clock."""
        return time.monotonic()

    def receive(self, until: float | None) -> HubEvent | None:
        """The next event, or None once the clock shows `until`."""
        while True:
            try:
                event, cuts = self._events.get(timeout=None if until is None else max(0.0, until - self.now()))
            except queue.Empty:
                return None
            if isinstance(event, Arrived):
                self._loop.call_soon_threadsafe(self._unread[event.tenant].changed_by, -1, -len(event.data))
            if cuts == self._cuts[event.tenant]:
                return event

    def send(self, tenant: int, data: bytes) -> None:
        """Queue a message for a tenant's link; lost if there is none."""
        self._loop.call_soon_threadsafe(self._put, tenant, data)

    def traffic(self) -> tuple[int, int]:
        """Bytes of messages received and sent so far."""
        return self._received, self._sent

    def cut(self, tenant: int) -> None:
        """End a tenant's link at once, whether it reads or not, with all that came in on it and on those before."""
        self._cuts[tenant] += 1
        self._loop.call_soon_threadsafe(self._drop, tenant)

    def close(self) -> None:
        """Deliver what is queued, end all links and stop listening."""
        self._on_loop(self._shut_down())
        self._stop_loop()

    def _on_loop(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def _stop_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _listen(self, address: str) -> int:
        # Without this, Linux lets a second server share the port, and each would get some of the tenants.
        self._server = grpc.aio.server(options=[*channel_options(), ("grpc.so_reuseport", 0)])
        handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(self._serve)
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),))
        try:
            port = self._server.add_secure_port(address, self._credentials)
        except RuntimeError:
            port = 0
        if port == 0:
            raise EnvironmentFault(
                f"cannot listen on {address}",
                remedy="the port is in use, or the address is not this machine's: change `listen`, or stop the other process",
            )
        await self._server.start()
        return int(port)

    async def _serve(self, requests: object, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
        del requests  # the reader side of `context` is used, so that reading and writing can be separate tasks
        tenant = self._who(context)
        if tenant is None:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "this certificate is not in the roster")
            return
        link = _Link(tenant, self._cuts[tenant])
        self._drop(tenant)
        self._links[tenant] = link
        writer = asyncio.create_task(self._write(link, context))
        reader = asyncio.create_task(self._read(link, context))
        dropped = asyncio.create_task(link.dropped.wait())
        tasks: set[asyncio.Task[Any]] = {reader, writer, dropped}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            if self._links.get(tenant) is link:
                del self._links[tenant]
                self._events.put((Unlinked(tenant), link.cuts))

    def _who(self, context: grpc.aio.ServicerContext[bytes, bytes]) -> int | None:
        pem = next(iter(context.auth_context().get("x509_pem_cert", ())), b"")
        try:
            return self._tenants.get(_der(x509.load_pem_x509_certificate(pem)))
        except ValueError:
            return None

    async def _read(self, link: _Link, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
        unread = self._unread[link.tenant]
        while await unread.room.wait():
            data = await context.read()
            if not isinstance(data, bytes):
                return
            if self._links.get(link.tenant) is link:
                self._received += len(data)
                unread.changed_by(1, len(data))
                self._events.put((Arrived(link.tenant, data), link.cuts))

    async def _write(self, link: _Link, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
        while (data := await link.outgoing.get()) is not None:
            await context.write(data)
            self._sent += len(data)

    def _put(self, tenant: int, data: bytes) -> None:
        link = self._links.get(tenant)
        if link is not None and link.outgoing.qsize() < _MOST_UNSENT:
            link.outgoing.put_nowait(data)
        elif link is not None:
            link.dropped.set()

    def _end(self, tenant: int) -> None:
        if tenant in self._links:
            self._links[tenant].outgoing.put_nowait(None)

    def _drop(self, tenant: int) -> None:
        link = self._links.pop(tenant, None)
        if link is not None:
            link.dropped.set()

    async def _shut_down(self) -> None:
        for tenant in list(self._links):
            self._end(tenant)
        await self._server.stop(_FAREWELL_SECONDS)


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)
