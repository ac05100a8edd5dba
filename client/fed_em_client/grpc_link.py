"""The tenant's end of gRPC: dials the coordinator, trusts exactly the certificate that the roster lists, and dials again."""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import grpc

from fed_em.errors import EnvironmentFault
from fed_em_client.tenant_session import SessionLeft, TenantSession
from fed_em_protocols.errors import SERVER, PeerFault
from fed_em_protocols.party import SERVER_HOST
from fed_em_protocols.roster import Roster
from fed_em_protocols.wire.grpc_service import PATH, channel_options

_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0
_FAREWELL_SECONDS = 2.0


@dataclass(frozen=True)
class Endpoint:
    """Where the coordinator listens, and how to prove who dials.

    Attributes:
        address: "host:port".
        roster: Lists the server's certificate.
        tls_key, tls_certificate: The tenant's own, PEM.
    """

    address: str
    roster: Roster
    tls_key: bytes = field(repr=False)
    tls_certificate: bytes = field(repr=False)

    def channel(self) -> grpc.Channel:
        """A channel that connects to nobody but the roster's server."""
        credentials = grpc.ssl_channel_credentials(
            self.roster.server.certificate.encode(), self.tls_key, self.tls_certificate
        )
        # The certificate is pinned, so the host's own name says nothing; the roster's certificate has this one.
        name = ("grpc.ssl_target_name_override", SERVER_HOST)
        return grpc.secure_channel(self.address, credentials, options=[*channel_options(), name])


class GrpcLink(AbstractContextManager["GrpcLink"]):
    """One stream to the coordinator. Iterate over it for messages; `grpc.RpcError` when it breaks."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._outgoing: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._channel = endpoint.channel()
        open_stream: grpc.StreamStreamMultiCallable[bytes, bytes] = self._channel.stream_stream(PATH)
        self._call = open_stream(iter(self._outgoing.get, None))

    def send(self, data: bytes) -> None:
        """Queue a message."""
        self._outgoing.put(data)

    def finish(self, seconds: float) -> None:
        """Say that nothing more comes, and wait until the server has read what did, at most so long."""
        self._outgoing.put(None)
        timer = threading.Timer(seconds, self._call.cancel)
        timer.start()
        try:
            for _ in self._call:
                pass
        except grpc.RpcError:
            return
        finally:
            timer.cancel()

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._call)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._outgoing.put(None)
        self._call.cancel()
        self._channel.close()


def serve_session(
    session: TenantSession,
    endpoint: Endpoint,
    patience: float,
    report: Callable[[str], None],
    loyalty: float = 0.0,
) -> None:
    """Take part in a session until it ends, dialling again whenever the link breaks.

    Args:
        session: This tenant's session; it survives any number of links.
        endpoint: The coordinator.
        patience: Seconds to keep dialling without success.
        report: Told, in a sentence, of links that come and go.
        loyalty: The same once the session was joined, if that is longer: a server that was killed, or that paused, may be away for long,
            and goes on with those who are still there.

    Raises:
        EnvironmentFault: no link came about for so long.
        PeerFault: the server broke the protocol, or does not know this tenant.
        SessionLeft: the session does not suit this tenant.
    """
    heard, pause, trouble = time.monotonic(), _FIRST_PAUSE, ""
    told: str | None = None
    while True:
        up = False
        with GrpcLink(endpoint) as link:
            try:
                for message in session.greet():
                    link.send(message)
                for data in link:
                    heard, pause = time.monotonic(), _FIRST_PAUSE
                    if not up:
                        session.watcher.linked()
                        up = True
                    _answer(session, link, data)
                    if session.over:
                        return
            except grpc.RpcError as error:
                trouble = _trouble(error)
        if up:
            session.watcher.unlinked()
        longest = max(patience, loyalty) if session.joined else patience
        if time.monotonic() - heard > longest:
            raise EnvironmentFault(
                f"no link to the server at {endpoint.address} for {longest:.0f} seconds: {trouble or 'it hangs up'}",
                remedy="check that the server runs and that both sides use one roster; `fed-em doctor` tests each step",
            )
        if trouble != told:
            report(
                f"no link to {endpoint.address} ({trouble or 'it hangs up'}); dialling again for {longest:.0f} seconds"
            )
            told = trouble
        time.sleep(pause * random.uniform(0.5, 1.0))
        pause = min(2 * pause, _LONGEST_PAUSE)


def _answer(session: TenantSession, link: GrpcLink, data: bytes) -> None:
    try:
        for message in session.handle(data):
            link.send(message)
    except SessionLeft as left:
        for message in left.messages:
            link.send(message)
        link.finish(_FAREWELL_SECONDS)
        raise


def _trouble(error: grpc.RpcError) -> str:
    """What broke a link, in words. Raises `PeerFault` where dialling again cannot help."""
    if error.code() is grpc.StatusCode.UNAUTHENTICATED:
        raise PeerFault(SERVER, "does not find this tenant's certificate in its roster") from None
    return str(error.details())
