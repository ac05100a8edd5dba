"""The desk over gRPC: the service of `wire/serving.proto`, health (grpc.health.v1) and reflection."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from fed_em.errors import CallerError, EnvironmentFault
from fed_em.named_cells import NamedCells
from fed_em_protocols.wire import serving_pb2 as wire
from fed_em_server.serving.desk import Desk, NamedRows, Vector
from fed_em_server.serving.refusals import Refusal
from fed_em_server.serving.served_model import ServedModel

SERVICE = "fedem.serving.v1.Serving"

# Threads beyond those that work or wait: they tell whoever is too many, and answer about health.
_MORE_THREADS = 16

R = TypeVar("R", bound=Message)
_Handler = Callable[[bytes, grpc.ServicerContext], bytes]


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
        threads = limits.at_once + limits.waiting + _MORE_THREADS
        self._server = grpc.server(
            ThreadPoolExecutor(threads, thread_name_prefix="serving-grpc"),
            maximum_concurrent_rpcs=threads,
            options=[
                ("grpc.max_receive_message_length", limits.bytes),
                ("grpc.max_send_message_length", limits.bytes),
                # Without this, Linux lets a second server share the port, and each would get some of the requests.
                ("grpc.so_reuseport", 0),
            ],
        )
        handlers = {name: _unary(handler) for name, handler in self._methods().items()}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        self._health = _with_health_and_reflection(self._server)
        try:
            if credentials is None:
                self.port = self._server.add_insecure_port(address)
            else:
                self.port = self._server.add_secure_port(address, credentials)
        except RuntimeError:
            self.port = 0
        if self.port == 0:
            raise EnvironmentFault(f"cannot listen on {address}", remedy="is the port in use, or below 1024?")

    def start(self) -> None:
        """Begin to answer."""
        self._server.start()
        self.tell_health()

    def tell_health(self) -> None:
        """Say whether there is a model."""
        self._health(self._desk.live.served is not None)

    def stop(self, seconds: float) -> None:
        """Answer no new request, and wait for those in flight, so long."""
        self._health(None)
        self._server.stop(seconds).wait()

    def _methods(self) -> Mapping[str, _Handler]:
        desk = self._desk

        def named(table: wire.Table) -> NamedRows:
            desk.check_asked(len(table.rows))
            return rows_of(table)

        def predict(asked: wire.PredictRequest, seconds: float | None) -> wire.PredictReply:
            found = desk.predict(named(asked.table), seconds)
            predictions = (
                wire.Prediction(component=int(shares.argmax()), probabilities=shares.tolist())
                for shares in found.probabilities
            )
            return wire.PredictReply(version=found.model.version, predictions=predictions)

        def score(asked: wire.ScoreRequest, seconds: float | None) -> wire.ScoreReply:
            found = desk.score(named(asked.table), seconds)
            each = zip(found.log_densities.tolist(), found.anomalies, strict=True)
            scores = (wire.Score(log_density=density, anomaly=anomaly) for density, anomaly in each)
            return wire.ScoreReply(version=found.model.version, scores=scores, threshold=found.model.threshold)

        def impute(asked: wire.ImputeRequest, seconds: float | None) -> wire.ImputeReply:
            seed = asked.seed if asked.HasField("seed") else None
            found = desk.impute(named(asked.table), asked.draws, seed, seconds)
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

        def sample(asked: wire.SampleRequest, seconds: float | None) -> wire.SampleReply:
            found = desk.sample(asked.n, asked.seed if asked.HasField("seed") else None, seconds)
            schema = found.model.columns.schema
            rows = (wire.Row(cells=_cells(found.model.columns, row)) for row in found.rows)
            components = found.components.tolist()
            return wire.SampleReply(version=found.model.version, columns=schema.names, rows=rows, components=components)

        def describe(asked: wire.DescribeRequest, seconds: float | None) -> wire.DescribeReply:  # noqa: ARG001  all have one signature
            return _described(desk.live.require(), desk)

        return {
            "Predict": _answering(wire.PredictRequest, predict),
            "Score": _answering(wire.ScoreRequest, score),
            "Impute": _answering(wire.ImputeRequest, impute),
            "Sample": _answering(wire.SampleRequest, sample),
            "Describe": _answering(wire.DescribeRequest, describe),
        }


def _unary(handler: _Handler) -> grpc.RpcMethodHandler[bytes, bytes]:
    return grpc.unary_unary_rpc_method_handler(handler)


def _answering(kind: type[R], answer: Callable[[R, float | None], Message]) -> _Handler:
    """Bytes to bytes: parsed here, so that garbage is the caller's error and not the server's."""

    def handler(data: bytes, context: grpc.ServicerContext) -> bytes:
        try:
            try:
                asked = kind.FromString(data)
            except DecodeError:
                raise CallerError(
                    f"this is no {kind.__name__}", remedy="use wire/serving.proto, or reflection"
                ) from None
            return answer(asked, context.time_remaining()).SerializeToString()
        except Exception as error:
            refusal = Refusal.of(error)
            if refusal.retry_after is not None:
                context.set_trailing_metadata((("retry-after", str(refusal.retry_after)),))
            remedy = f" ({refusal.remedy})" if refusal.remedy else ""
            context.abort(getattr(grpc.StatusCode, refusal.code), refusal.message + remedy)
            raise  # `abort` has raised

    return handler


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


def _with_health_and_reflection(server: grpc.Server) -> Callable[[bool | None], None]:
    """Add both services; gives what sets the health: None says that the server is going, for good."""
    try:
        from grpc_health.v1 import health, health_pb2, health_pb2_grpc  # noqa: PLC0415  an extra
        from grpc_reflection.v1alpha import reflection  # noqa: PLC0415  an extra
    except ImportError:
        raise CallerError(
            "serving over gRPC needs the extra `serving`", remedy="pip install 'fed-em[serving]', or serve HTTP alone"
        ) from None
    servicer = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    status = health_pb2.HealthCheckResponse

    def tell(healthy: bool | None) -> None:
        if healthy is None:
            servicer.enter_graceful_shutdown()
            return
        for service in ("", SERVICE):
            servicer.set(service, status.SERVING if healthy else status.NOT_SERVING)

    tell(False)
    return tell
