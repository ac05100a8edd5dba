"""The command `fed-em serve`."""

from __future__ import annotations

import gc
import signal
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fed_em_server.serving.model_source import ModelSource
    from fed_em_server.serving.service import TlsFiles

_OFF = "off"


def serve(
    model: Annotated[
        Path | None, typer.Argument(help="Folder of a fitted model; read again when it is written anew.")
    ] = None,
    registry: Annotated[Path | None, typer.Option(help="A registry, in place of a folder.")] = None,
    stage: Annotated[str, typer.Option(help="Whose version is served, of a registry.")] = "production",
    grpc: Annotated[str, typer.Option(help="HOST:PORT of gRPC, or off.")] = "127.0.0.1:8461",
    http: Annotated[str, typer.Option(help="HOST:PORT of HTTP with JSON, or off.")] = "127.0.0.1:8462",
    tls_certificate: Annotated[Path | None, typer.Option(help="PEM; without it there is no TLS.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM, of the certificate.")] = None,
    tls_clients: Annotated[
        Path | None, typer.Option(help="PEM: only clients with a certificate of it are let in.")
    ] = None,
    insecure: Annotated[bool, typer.Option(help="Listen to other machines without TLS.")] = False,
    anomaly_threshold: Annotated[
        float | None, typer.Option(help="Log-density in nats below which a complete row is an anomaly.")
    ] = None,
    every: Annotated[float, typer.Option(min=0.05, help="Seconds between two looks for another version.")] = 1.0,
    rows: Annotated[int, typer.Option(min=1, help="Most rows of a request.")] = 1000,
    waiting: Annotated[int, typer.Option(min=0, help="Most requests that wait.")] = 64,
    seconds: Annotated[float, typer.Option(min=0.001, help="How long a request may take.")] = 10.0,
    drain_seconds: Annotated[float, typer.Option(min=0, help="How long requests may take at the end.")] = 10.0,
    metrics: Annotated[str | None, typer.Option(help="HOST:PORT of metrics for Prometheus.")] = None,
) -> None:
    """Serve a fitted mixture over gRPC and HTTP: predict, score, impute, sample; a new version takes over by itself."""
    from fed_em_client.observability.endpoint import MetricsEndpoint
    from fed_em_server.serving.limits import ServingLimits
    from fed_em_server.serving.live_model import LiveModel
    from fed_em_server.serving.service import ServingService
    from fed_em_server.serving.serving_metrics import ServingMetrics
    from fed_em_server.serving.watcher import LineWatcher, ServingWatchers

    source, tls = _source(model, registry, stage), _tls(tls_certificate, tls_key, tls_clients)
    grpc_address, http_address = (None if address == _OFF else address for address in (grpc, http))
    if tls is None and not insecure:
        _require_loopback(grpc_address, http_address)
    limits = ServingLimits(rows=rows, waiting=waiting, seconds=seconds, drain_seconds=drain_seconds)
    measured = None if metrics is None else ServingMetrics(source.made_at)
    lines = LineWatcher(lambda line: typer.echo(line, err=True))
    watcher = ServingWatchers((lines,) if measured is None else (lines, measured))
    live = LiveModel(source, watcher, anomaly_threshold, every)
    # A thread that answers gives way to another that waits every 5 ms; a row takes a hundredth of that.
    sys.setswitchinterval(0.001)
    # Nor need the collector go through all that was imported, again and again: each time takes tens of milliseconds.
    gc.collect()
    gc.freeze()
    asked_to_stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked_to_stop.set())
    with ExitStack() as stack:
        if measured is not None and metrics is not None:
            typer.echo(f"metrics are at {stack.enter_context(MetricsEndpoint(measured.metrics, metrics)).url}")
        service = stack.enter_context(ServingService(live, limits, watcher, grpc_address, http_address, tls))
        for name, face in (("gRPC", service.grpc), ("HTTP", service.http)):
            if face is not None:
                typer.echo(f"{name} on port {face.port}")
        sys.stdout.flush()
        if live.served is None:
            typer.echo("waiting for a model", err=True)
        asked_to_stop.wait()
        typer.echo("stopping: requests in flight are answered", err=True)


def _source(model: Path | None, registry: Path | None, stage: str) -> ModelSource:
    from fed_em.errors import CallerError
    from fed_em_server.serving.model_source import FolderSource, RegistrySource

    if (model is None) == (registry is None):
        raise CallerError("name what to serve", remedy="give the folder of a model, or --registry and --stage")
    if registry is not None:
        from fed_em_server.registry import Registry

        source: ModelSource = RegistrySource(Registry(registry), stage)
        source.version()  # a stage that cannot be is told now
        return source
    assert model is not None
    source = FolderSource(model)
    source.current()  # so is a model that is damaged
    if source.version() is None:
        raise CallerError(f"there is no model in '{model}'", remedy="name the folder that a model was saved to")
    return source


def _tls(certificate: Path | None, key: Path | None, clients: Path | None) -> TlsFiles | None:
    from fed_em.errors import CallerError
    from fed_em_server.serving.service import TlsFiles

    if certificate is not None and key is not None:
        return TlsFiles(certificate, key, clients)
    if certificate is not None or key is not None or clients is not None:
        raise CallerError("TLS needs a certificate and its key", remedy="give --tls-certificate and --tls-key")
    return None


def _require_loopback(*addresses: str | None) -> None:
    from ipaddress import ip_address

    from fed_em.errors import CallerError
    from fed_em_protocols.addresses import split_address

    for address in addresses:
        host = "localhost" if address is None else split_address(address)[0]
        try:
            loopback = host == "localhost" or ip_address(host).is_loopback
        except ValueError:  # a name
            loopback = False
        if not loopback:
            raise CallerError(
                f"{address} can be reached from other machines, and there is no TLS",
                remedy="give --tls-certificate and --tls-key, or --insecure behind a proxy that has it",
            )
