"""Rounds over gRPC with tenant processes on loopback: mutual TLS, signatures, durable marks, everything but an E-step."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fed_em_client.round_marks import FileRoundMarks
from fed_em_protocols.coordinator import coordinator_start
from fed_em_protocols.coordinator_state import Notice, NoticeKind, SumRequest
from fed_em_protocols.messages import CloseReason
from fed_em_protocols.terms import Trust
from fed_em_server.federated_sum import FederatedSum
from fed_em_server.grpc_hub import GrpcHub
from fed_em_server.hub import Arrived
from fed_em_server.serve import Server, open_server
from fed_em_simulations.federation_folder import FederationFolder
from tests.bench.bench_federation import TenantProcesses, with_trust, write_bench_federation
from tests.bench.figures import EchoFigures, GrpcFigures, RoundFigures, Spread
from tests.bench.fixed_work import fixed_sum
from tests.bench.sizes import LengthOfRounds, Sizes
from tests.bench.tenant_process import SIZE_BYTES
from tests.bench.traffic import WINDOW_ROUNDS

_MARKS = 50
_LINKING_SECONDS = 60.0
# A certificate, an opening, and what a header and an upload hold beside their vectors have about this size.
_SMALL_BYTES = 180


@dataclass(frozen=True)
class _Timed:
    """One round: when it was asked for, when its uploads were in, when its sum was there; and the set-up before it, if any."""

    asked: float
    uploaded: float
    summed: float
    window: float | None


class _RoundClock:
    """Notes when things happen at the server."""

    def __init__(self) -> None:
        self._last: dict[NoticeKind, float] = {}

    def __call__(self, notice: Notice) -> None:
        self._last[notice.kind] = time.perf_counter()

    def sum(self, sums: FederatedSum, length: int) -> _Timed:
        """One sum, timed and checked."""
        self._last.clear()
        asked = time.perf_counter()
        # As many bytes of parameters as of statistics, about what a mixture broadcasts.
        opened = sums.sum(SumRequest(bytes(8 * length), length.to_bytes(32, "little"), length))
        summed = time.perf_counter()
        assert not opened.missing
        assert np.array_equal(opened.vector, fixed_sum(opened.survivors, length)), "the sum is exact"
        window = None
        if NoticeKind.WINDOW_OPENED in self._last:
            # Tenants still joined when the first set-up was asked for.
            window = self._last[NoticeKind.WINDOW_OPENED] - self._last.get(NoticeKind.JOINED, asked)
        return _Timed(asked, self._last[NoticeKind.SURVIVORS], summed, window)


class _CpuMeter:
    """Processor time of this process and of the tenants', from now on."""

    def __init__(self, processes: TenantProcesses) -> None:
        self._processes = processes
        self._server, self._tenants = time.process_time(), processes.cpu_seconds()

    def per_round(self, rounds: int, tenants: int) -> tuple[float, float | None]:
        """Of the server, and of one tenant."""
        server, now = time.process_time() - self._server, self._processes.cpu_seconds()
        if now is None or self._tenants is None:
            return server / rounds, None
        return server / rounds, (now - self._tenants) / (rounds * tenants)


def measure_grpc(folder: Path, sizes: Sizes) -> GrpcFigures:
    """Measure everything over gRPC; `folder` should be on the disk where tenants would keep their state."""
    federation = write_bench_federation(folder, sizes)
    server = open_server(federation.server)
    echoes = [_measure_echo(federation, server, sizes, wanted) for wanted in sizes.rounds]
    windows: list[float] = []
    rounds = [
        each
        for trust in Trust.__members__.values()
        for each in _measure_session(federation, trust, sizes, echoes, windows)
    ]
    rounds.sort(key=lambda figures: figures.length)
    mark = _measure_marks(folder / "marks")
    return GrpcFigures(sizes.tenants, WINDOW_ROUNDS, Spread.of(windows), mark, tuple(rounds))


def _measure_session(
    federation: FederationFolder, trust: Trust, sizes: Sizes, echoes: list[EchoFigures], windows: list[float]
) -> list[RoundFigures]:
    """A session of rounds of all lengths, under one trust."""
    with_trust(federation, trust)
    server = open_server(federation.server)
    hub = server.hub()
    plan = server.plan("grpc")
    with TenantProcesses(federation, "sum", lambda _: f"127.0.0.1:{hub.port}") as processes:
        clock = _RoundClock()
        state = coordinator_start(
            plan.roster, plan.identity, plan.terms, plan.description.to_json(), plan.timetable, hub.now()
        )
        sums = FederatedSum(state, hub, clock)
        try:
            return [
                _measure_rounds(sums, hub, processes, clock, sizes, wanted, echo, windows, trust)
                for wanted, echo in zip(sizes.rounds, echoes, strict=True)
            ]
        finally:
            sums.close(CloseReason.FINISHED)


def _measure_rounds(
    sums: FederatedSum,
    hub: GrpcHub,
    processes: TenantProcesses,
    clock: _RoundClock,
    sizes: Sizes,
    wanted: LengthOfRounds,
    echo: EchoFigures,
    windows: list[float],
    trust: Trust,
) -> RoundFigures:
    """Rounds of one length. Set-ups of windows on the way go to `windows`, and their rounds do not count."""
    warm = [clock.sum(sums, wanted.length) for _ in range(sizes.warm_up)]
    (up, down), meter = hub.traffic(), _CpuMeter(processes)
    timed = [clock.sum(sums, wanted.length) for _ in range(wanted.rounds)]
    server_cpu, tenant_cpu = meter.per_round(len(timed), sizes.tenants)
    up_after, down_after = hub.traffic()
    windows += [each.window for each in warm + timed if each.window is not None]
    counted = [each for each in timed if each.window is None]
    parts = len(timed) * sizes.tenants
    return RoundFigures(
        trust=trust.label,
        length=wanted.length,
        round=Spread.of([each.summed - each.asked for each in counted]),
        upload=Spread.of([each.uploaded - each.asked for each in counted]),
        opening=Spread.of([each.summed - each.uploaded for each in counted]),
        bytes_up=(up_after - up) / parts,
        bytes_down=(down_after - down) / parts,
        server_cpu=server_cpu,
        tenant_cpu=tenant_cpu,
        echo=echo,
    )


def _measure_echo(federation: FederationFolder, server: Server, sizes: Sizes, wanted: LengthOfRounds) -> EchoFigures:
    """The floor: two trips with as many bytes as a round has, over the same kind of links."""
    hub = server.hub()
    try:
        with TenantProcesses(federation, "echo", lambda _: f"127.0.0.1:{hub.port}") as processes:
            _gather(hub, sizes.tenants)
            for _ in range(sizes.warm_up):
                _echo_round(hub, sizes.tenants, wanted.length)
            meter = _CpuMeter(processes)
            spread = Spread.of([_echo_round(hub, sizes.tenants, wanted.length) for _ in range(wanted.rounds)])
            figures = EchoFigures(spread, *meter.per_round(wanted.rounds, sizes.tenants))
            _send_all(hub, sizes.tenants, bytes(SIZE_BYTES))
            return figures
    finally:
        hub.close()


def _echo_round(hub: GrpcHub, tenants: int, length: int) -> float:
    began = time.perf_counter()
    for size in (8 * length + _SMALL_BYTES, _SMALL_BYTES):
        _send_all(hub, tenants, size.to_bytes(SIZE_BYTES, "little") + bytes(size - SIZE_BYTES))
        _gather(hub, tenants)
    return time.perf_counter() - began


def _send_all(hub: GrpcHub, tenants: int, data: bytes) -> None:
    for tenant in range(tenants):
        hub.send(tenant, data)


def _gather(hub: GrpcHub, tenants: int) -> None:
    """Wait for one message of each tenant."""
    for _ in range(tenants):
        event = hub.receive(hub.now() + _LINKING_SECONDS)
        assert isinstance(event, Arrived), f"an echoing tenant is lost: {event}"


def _measure_marks(folder: Path) -> Spread:
    seconds = []
    with FileRoundMarks(folder) as marks:
        marks.record(bytes(16), 1)
        for number in range(2, 2 + _MARKS):
            began = time.perf_counter()
            marks.record(bytes(16), number)
            seconds.append(time.perf_counter() - began)
    return Spread.of(seconds)
