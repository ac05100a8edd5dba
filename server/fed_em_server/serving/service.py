"""A server of models: both faces of one desk, started together and drained together."""

from __future__ import annotations

import ssl
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc

from fed_em.blas import single_threaded_blas
from fed_em.errors import CallerError, EnvironmentFault
from fed_em_server.serving.desk import Desk
from fed_em_server.serving.grpc_face import GrpcFace
from fed_em_server.serving.http_face import HttpFace
from fed_em_server.serving.limits import ServingLimits
from fed_em_server.serving.live_model import LiveModel
from fed_em_server.serving.watcher import ServingWatcher


@dataclass(frozen=True)
class TlsFiles:
    """The server's certificate and key, PEM, and the authority whose clients alone it lets in, if it is to ask them."""

    certificate: Path
    key: Path
    clients: Path | None = None

    def for_grpc(self) -> grpc.ServerCredentials:
        """What gRPC takes. Raises `CallerError` if a file is missing."""
        clients = None if self.clients is None else _read(self.clients)
        pair = [(_read(self.key), _read(self.certificate))]
        return grpc.ssl_server_credentials(pair, clients, require_client_auth=clients is not None)

    def for_http(self) -> ssl.SSLContext:
        """What the standard library takes. Raises `CallerError` if a file is missing or no such file."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self.certificate, self.key)
            if self.clients is not None:
                context.load_verify_locations(self.clients)
                context.verify_mode = ssl.CERT_REQUIRED
        except (ssl.SSLError, OSError) as error:
            raise CallerError(
                f"the TLS files do not do: {error.strerror or error.args[0]}",
                remedy="give PEM files that belong together",
            ) from None
        return context


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise CallerError(f"there is no file '{path}'") from None
    except OSError as error:
        raise EnvironmentFault(f"cannot read '{path}': {error.strerror}", remedy="check its rights") from None


class ServingService:
    """Serves while it is entered; leaving it drains: health says so, nothing new is taken, what is in flight is answered.

    Args:
        live: Gives the model.
        limits: What is taken in.
        watcher: Told what happens.
        grpc_address, http_address: "host:port", port 0 for any; None for not at all, but not both.
        tls: None for none.
    """

    def __init__(
        self,
        live: LiveModel,
        limits: ServingLimits,
        watcher: ServingWatcher,
        grpc_address: str | None,
        http_address: str | None,
        tls: TlsFiles | None = None,
    ) -> None:
        if grpc_address is None and http_address is None:
            raise CallerError("nothing to listen on", remedy="serve gRPC, HTTP or both")
        self._live, self._limits, self.desk = live, limits, Desk(live, limits, watcher)
        self._grpc_address, self._http_address, self._tls = grpc_address, http_address, tls
        self._stack = ExitStack()
        self.grpc: GrpcFace | None = None
        self.http: HttpFace | None = None

    def __enter__(self) -> Self:
        """Begin. Raises `EnvironmentFault` if a port cannot be had, `CallerError` if a file of TLS will not do."""
        tls = self._tls
        if self._grpc_address is not None:
            self.grpc = GrpcFace(self.desk, self._grpc_address, None if tls is None else tls.for_grpc())
            self._live.changed = self.grpc.tell_health
        if self._http_address is not None:
            self.http = HttpFace(self.desk, self._http_address, None if tls is None else tls.for_http())
        # The products of one row are too small to be divided, and threads of BLAS would wait for each other.
        self._stack.enter_context(single_threaded_blas())
        self._live.start()
        for face in (self.grpc, self.http):
            if face is not None:
                face.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Drain and end."""
        self._live.stop()
        if self.grpc is not None:
            self.grpc.stop(self._limits.drain_seconds)
        if self.http is not None:
            self.http.stop(self._limits.drain_seconds)
        self._stack.close()
