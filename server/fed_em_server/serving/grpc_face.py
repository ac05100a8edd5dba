"""The desk over gRPC: the service of `wire/serving.proto`, health (grpc.health.v1) and reflection.

One event loop takes requests and gives replies; they are answered by threads, each for as long as it works or waits at the desk's gate. So
a call on which nothing comes, as a stream of reflection may be or a request whose message is never sent, holds no thread, and ends with its
connection: at the latest `_CONNECTION_SECONDS` after it was opened.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from fed_em.errors import CallerError, EnvironmentFault
from fed_em.named_cells import NamedCells
from fed_em_protocols.wire import serving_pb2 as wire
from fed_em_server.serving.desk import Desk, NamedRows, Vector
from fed_em_server.serving.limits import ServingLimits
from fed_em_server.serving.refusals import Overloaded, Refusal
from fed_em_server.serving.served_model import ServedModel

SERVICE = "fedem.serving.v1.Serving"

# Calls of one connection; those that wait for a message are among them, as they are among those of all connections.
_CALLS_OF_A_CONNECTION = 64

# A connection is told to go after so long, and what is still in flight on it is cut off after some grace: clients connect anew by
# themselves. One on which nothing is asked goes sooner, and one whose other end is gone by itself.
_CONNECTION_SECONDS, _GRACE_SECONDS, _IDLE_SECONDS, _PING_SECONDS = 300.0, 30.0, 120.0, 60.0

R = TypeVar("R", bound=Message)
T = TypeVar("T")
_Answer = Callable[[bytes, float | None], bytes]
_Handler = Callable[[bytes, grpc.aio.ServicerContext[bytes, bytes]], Awaitable[bytes]]


def _options(limits: ServingLimits) -> list[tuple[str, int]]:
    """Of the server."""
    seconds = {
        "max_connection_age_ms": _CONNECTION_SECONDS,
        "max_connection_age_grace_ms": max(_GRACE_SECONDS, limits.seconds),
        "max_connection_idle_ms": _IDLE_SECONDS,
        "keepalive_time_ms": _PING_SECONDS,
    }
    return [
        ("grpc.max_receive_message_length", limits.bytes),
        ("grpc.max_send_message_length", limits.bytes),
        ("grpc.max_concurrent_streams", _CALLS_OF_A_CONNECTION),
        # Without this, Linux lets a second server share the port, and each would get some of the requests.
        ("grpc.so_reuseport", 0),
        *((f"grpc.{name}", round(1000 * value)) for name, value in seconds.items()),
    ]


class GrpcFace:
    """Listens until stopped.

    Args:
        desk: Answers.
        address: "host:port", port 0 for any.
        credentials: Of TLS; None for none.

    Raises:
        EnvironmentFault: the port is in use or may not be opened.
        CallerError: the extra `serving` is not installed.
    """

    def __init__(self, desk: Desk, address: str, credentials: grpc.ServerCredentials | None = None) -> None:
        self._desk = desk
        limits = desk.limits
        self._room = limits.at_once + limits.waiting
        self._threads = ThreadPoolExecutor(self._room, thread_name_prefix="serving-grpc")
        self._inside = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="serving-grpc-loop", daemon=True)
        self._thread.start()
        try:
            self.port = self._done(self._listening(address, credentials))
        except BaseException:
            self._end()
            raise

    def start(self) -> None:
        """Begin to answer."""
        self._done(self._server.start())
        self.tell_health()

    def tell_health(self) -> None:
        """Say whether there is a model."""
        self._done(self._health(self._desk.live.served is not None))

    def stop(self, seconds: float) -> None:
        """Answer no new request, and wait for those in flight, so long."""
        self._done(self._health(None))
        self._done(self._server.stop(seconds))
        self._end()

    def _done(self, work: Coroutine[Any, Any, T]) -> T:
        """What comes of work on the loop, from any other thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._threads.shutdown(wait=False)

    async def _listening(self, address: str, credentials: grpc.ServerCredentials | None) -> int:
        self._server = grpc.aio.server(
            maximum_concurrent_rpcs=self._desk.limits.connections, options=_options(self._desk.limits)
        )
        handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            name: grpc.unary_unary_rpc_method_handler(self._handler(answer)) for name, answer in self._methods().items()
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        self._health = await _with_health_and_reflection(self._server)
        try:
            port = (
                self._server.add_insecure_port(address)
                if credentials is None
                else self._server.add_secure_port(address, credentials)
            )
        except RuntimeError:
            port = 0
        if port == 0:
            raise EnvironmentFault(f"cannot listen on {address}", remedy="is the port in use, or below 1024?")
        return port

    def _handler(self, answer: _Answer) -> _Handler:
        """Answers on a thread; whoever is more than work or wait is told so here, and none of it is kept."""

        async def handler(data: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
            try:
                if self._inside >= self._room:
                    raise Overloaded("the server has more requests than it can take", remedy="ask again, less often")
                self._inside += 1
                work = self._loop.run_in_executor(self._threads, answer, data, context.time_remaining())
                work.add_done_callback(self._left)
                # A caller that hangs up leaves its work behind: until that is done, it is one of those that are inside.
                return await asyncio.shield(work)
            except Exception as error:
                refusal = Refusal.of(error)
                if refusal.retry_after is not None:
                    context.set_trailing_metadata((("retry-after", str(refusal.retry_after)),))
                remedy = f" ({refusal.remedy})" if refusal.remedy else ""
                await context.abort(getattr(grpc.StatusCode, refusal.code), refusal.message + remedy)
                raise  # `abort` has raised

        return handler

    def _left(self, work: asyncio.Future[bytes]) -> None:
        self._inside -= 1
        if not work.cancelled():
            work.exception()  # nobody may be there any more to hear of it

    def _methods(self) -> Mapping[str, _Answer]:
        desk = self._desk

        def named(table: wire.Table) -> NamedRows:
            desk.check_asked(len(table.rows))
            return rows_of(table)

        def seed_of(asked: wire.ImputeRequest | wire.SampleRequest) -> int | None:
            return asked.seed if asked.HasField("seed") else None

        def predict(data: bytes, seconds: float | None) -> Message:
            found = desk.predict(lambda: named(_parsed(wire.PredictRequest, data).table), seconds)
            predictions = (
                wire.Prediction(component=int(shares.argmax()), probabilities=shares.tolist())
                for shares in found.probabilities
            )
            return wire.PredictReply(version=found.model.version, predictions=predictions)

        def score(data: bytes, seconds: float | None) -> Message:
            found = desk.score(lambda: named(_parsed(wire.ScoreRequest, data).table), seconds)
            each = zip(found.log_densities.tolist(), found.anomalies, strict=True)
            scores = (wire.Score(log_density=density, anomaly=anomaly) for density, anomaly in each)
            return wire.ScoreReply(version=found.model.version, scores=scores, threshold=found.model.threshold)

        def impute(data: bytes, seconds: float | None) -> Message:
            def read() -> tuple[NamedRows, int, int | None]:
                asked = _parsed(wire.ImputeRequest, data)
                return named(asked.table), asked.draws, seed_of(asked)

            found = desk.impute(read, seconds)
            columns, done = found.model.columns, found.imputation
            rows = (
                wire.ImputedRow(
                    cells=_cells(columns, done.rows[i]),
                    filled=(
                        wire.Filled(column=name, standard_deviation=deviation, probability=probability)
                        for name, deviation, probability in found.filled(i)
                    ),
                    probabilities=found.probabilities[i].tolist(),
                    draws=(wire.Row(cells=_cells(columns, drawn[i])) for drawn in done.draws),
                )
                for i in range(len(found.rows))
            )
            return wire.ImputeReply(version=found.model.version, columns=columns.schema.names, rows=rows)

        def sample(data: bytes, seconds: float | None) -> Message:
            def read() -> tuple[int, int | None]:
                asked = _parsed(wire.SampleRequest, data)
                return asked.n, seed_of(asked)

            found = desk.sample(read, seconds)
            schema = found.model.columns.schema
            rows = (wire.Row(cells=_cells(found.model.columns, row)) for row in found.rows)
            components = found.components.tolist()
            return wire.SampleReply(version=found.model.version, columns=schema.names, rows=rows, components=components)

        def describe(data: bytes, seconds: float | None) -> Message:  # noqa: ARG001  all have one signature
            _parsed(wire.DescribeRequest, data)
            return _described(desk.live.require(), desk)

        answers = {"Predict": predict, "Score": score, "Impute": impute, "Sample": sample, "Describe": describe}
        return {name: _in_bytes(answer) for name, answer in answers.items()}


def _in_bytes(answer: Callable[[bytes, float | None], Message]) -> _Answer:
    return lambda data, seconds: answer(data, seconds).SerializeToString()


def _parsed(kind: type[R], data: bytes) -> R:
    """A request; parsed here, so that garbage is the caller's error and not the server's."""
    try:
        return kind.FromString(data)
    except DecodeError:
        raise CallerError(f"this is no {kind.__name__}", remedy="use wire/serving.proto, or reflection") from None


def rows_of(table: wire.Table) -> NamedRows:
    """The rows of a table by the names of its columns.

    Raises:
        CallerError: a row is not as long as there are columns, naming the row; or a column stands twice.
    """
    names = list(table.columns)
    if len(set(names)) < len(names):
        raise CallerError("a column stands twice in the table", remedy="give each column once")
    rows = []
    for number, row in enumerate(table.rows):
        if len(row.cells) != len(names):
            raise CallerError(
                f"row {number} has {len(row.cells)} cells, the table {len(names)} columns",
                remedy="give one cell for each column, an empty one where it is missing",
            )
        rows.append({name: _value(cell) for name, cell in zip(names, row.cells, strict=True)})
    return rows


def _value(cell: wire.Cell) -> Any:
    kind = cell.WhichOneof("value")
    return None if kind is None else getattr(cell, kind)


def _cells(columns: NamedCells, row: Vector) -> list[wire.Cell]:
    return [
        wire.Cell(level=cell) if isinstance(cell, str) else wire.Cell(number=cell)
        for cell in columns.cells(row).values()
    ]


def _described(model: ServedModel, desk: Desk) -> wire.DescribeReply:
    refused, columns = desk.live.refused, model.columns.schema.describe()
    inner = model.fitted.model
    return wire.DescribeReply(
        version=model.version,
        family=inner.family,
        components=int(model.fitted.parameters["weights"].size),
        covariance=inner.describe()["covariance"],
        columns=(wire.Column(**column) for column in columns),
        threshold=model.threshold,
        refused_version=None if refused is None else refused.version,
        refused_reason=None if refused is None else refused.reason,
    )


async def _with_health_and_reflection(server: grpc.aio.Server) -> Callable[[bool | None], Coroutine[Any, Any, None]]:
    """Add both services; gives what sets the health: None says that the server is going, for good."""
    try:
        from grpc_health.v1 import health, health_pb2, health_pb2_grpc  # noqa: PLC0415  an extra
        from grpc_reflection.v1alpha import reflection  # noqa: PLC0415  an extra
    except ImportError:
        raise CallerError(
            "serving over gRPC needs the extra `serving`", remedy="pip install 'fed-em[serving]', or serve HTTP alone"
        ) from None
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    status = health_pb2.HealthCheckResponse

    async def tell(healthy: bool | None) -> None:
        if healthy is None:
            await servicer.enter_graceful_shutdown()
            return
        for service in ("", SERVICE):
            await servicer.set(service, status.SERVING if healthy else status.NOT_SERVING)

    await tell(False)
    return tell
