"""Links between a tenant's process and its shards in other places: TLS 1.3 by one key that only they have.

The key's certificate is on both sides the only one that is trusted, so who does not hold it is neither a shard nor the tenant.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, cast

from cryptography.exceptions import UnsupportedAlgorithm

from fed_em.errors import CallerError, EnvironmentFault
from fed_em_client.shard_worker import receive_frame, send_frame
from fed_em_protocols.addresses import split_address
from fed_em_protocols.party import SHARDS_HOST, TLS_CERTIFICATE, TLS_KEY, load_shard_keys

_HANDSHAKE_SECONDS = 10.0
_KEEPALIVE = (
    ((socket.TCP_KEEPIDLE, 20), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3))
    if hasattr(socket, "TCP_KEEPIDLE")
    else ()
)


class ShardLink:
    """One link, for frames.

    Args:
        connection: Behind its handshake.
        silence: Seconds that the other side may say nothing while it is waited for; None for ever. That its machine is gone, the kernel
            finds out sooner.
    """

    def __init__(self, connection: ssl.SSLSocket, silence: float | None = None) -> None:
        connection.settimeout(silence)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for option, value in _KEEPALIVE:
            connection.setsockopt(socket.IPPROTO_TCP, option, value)
        self._connection = connection
        self._stream = cast(BinaryIO, connection.makefile("rwb"))

    def send(self, frame: bytes) -> None:
        """Raises `OSError` when it is broken."""
        send_frame(self._stream, frame)

    def receive(self) -> bytes:
        """Raises `OSError` or `EOFError` when it is broken."""
        return receive_frame(self._stream)

    def close(self) -> None:
        """Whoever waits at it is woken."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError):
            self._connection.close()


def dial(address: str, keys: Path) -> ShardLink:
    """A link to the tenant's process at "host:port".

    Raises:
        OSError: it is not there, or does not hold the shards' key.
        CallerError: the key folder is not as `fed-em shard-keys` makes it.
    """
    raw = socket.create_connection(split_address(address), timeout=_HANDSHAKE_SECONDS)
    try:
        return ShardLink(_context(keys, ssl.PROTOCOL_TLS_CLIENT).wrap_socket(raw, server_hostname=SHARDS_HOST))
    except OSError:
        raw.close()
        raise


class ShardListener:
    """Takes shards' links in, each in a thread of its own.

    Args:
        address: "host:port" to listen at; port 0 for any that is free.
        keys: The key folder.
        welcome: Called with each link that shows the key.
        silence: As `ShardLink`.

    Raises:
        CallerError: as `dial`.
        EnvironmentFault: the address cannot be listened at.
    """

    def __init__(self, address: str, keys: Path, welcome: Callable[[ShardLink], None], silence: float) -> None:
        self._context = _context(keys, ssl.PROTOCOL_TLS_SERVER)
        self._welcome, self._silence = welcome, silence
        try:
            self._socket = socket.create_server(split_address(address))
        except OSError as error:
            raise EnvironmentFault(
                f"shards cannot be listened for at {address}: {error.strerror}",
                remedy="set `listen` under [shards] to an address of this machine that is free",
            ) from None
        host, port = self._socket.getsockname()[:2]
        self.address = f"{host}:{port}"
        threading.Thread(target=self._accept, name="shards", daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                raw, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._take, args=(raw,), name="shard", daemon=True).start()

    def _take(self, raw: socket.socket) -> None:
        raw.settimeout(_HANDSHAKE_SECONDS)
        try:
            self._welcome(ShardLink(self._context.wrap_socket(raw, server_side=True), self._silence))
        except (OSError, EOFError):
            raw.close()

    def close(self) -> None:
        """No more links are taken in."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def _context(keys: Path, side: int) -> ssl.SSLContext:
    load_shard_keys(keys)
    context = ssl.SSLContext(side)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_cert_chain(keys / TLS_CERTIFICATE, keys / TLS_KEY)
        context.load_verify_locations(keys / TLS_CERTIFICATE)
    except (OSError, UnsupportedAlgorithm):
        raise CallerError(
            f"the key and the certificate in {keys} are no pair", remedy="make new ones with `fed-em shard-keys`"
        ) from None
    context.verify_mode = ssl.CERT_REQUIRED
    return context
