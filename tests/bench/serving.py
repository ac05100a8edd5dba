"""Served models: one row over gRPC and HTTP on loopback, a row by itself, and the cold start of `fed_em.impute_one`."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fed_em.model_file import FittedModel, save_model
from fed_em.row_mixture import RowMixture
from fed_em_server.serving.served_model import ServedModel
from tests.bench.figures import ECHO, ColdStartFigures, LatencyFigures, RowCostFigures, ServingFigures, Spread
from tests.bench.serving_client import WARM_UP
from tests.bench.sizes import ServedRows
from tests.fed_em.random_mixtures import random_mixture, rows_with_holes

_ROWS = 500
# Clients are in so many processes: in one, threads of Python would wait for each other.
_CLIENT_PROCESSES = 2


@dataclass(frozen=True)
class _Case:
    name: str
    method: str
    fitted: FittedModel
    rows: np.ndarray
    holes: bool


def measure_serving(sizes: ServedRows, folder: Path) -> ServingFigures:
    """Everything about served models."""
    cases = _cases()
    requests = tuple(each for case in cases for each in _requests(case, sizes, folder / case.name[:5]))
    rows = tuple(_row_cost(case, sizes.rows_in_process) for case in cases)
    return ServingFigures(requests, rows, _cold_start(folder / "cold", sizes.cold_starts))


def _cases() -> tuple[_Case, ...]:
    gaussian = _of_twenty("gaussian")
    mixed = _of_twenty("mixed")
    return (
        _Case("Gaussian", "predict", gaussian, gaussian.sample(_ROWS, 0)[0], False),
        _Case("mixed, 30% missing", "impute", mixed, rows_with_holes(mixed, _ROWS, 0, share=0.3), True),
    )


def _of_twenty(family: str) -> FittedModel:
    """A mixture of eight components in twenty columns: the first that the seeds give."""
    most = 20 if family == "gaussian" else 8
    for seed in range(10_000):
        fitted = random_mixture(family, seed=seed, n_components=8, n_columns=most)
        if len(fitted.columns) == 20:
            return fitted
    raise AssertionError("no mixture of twenty columns")


def _requests(case: _Case, sizes: ServedRows, folder: Path) -> Iterator[LatencyFigures]:
    save_model(folder / "model", case.fitted)
    table = case.fitted.schema.decode(case.rows)
    rows = [dict(zip(table, cells, strict=True)) for cells in zip(*table.values(), strict=True)]
    asked = folder / "rows.json"
    asked.write_text(
        json.dumps([{name: cell for name, cell in row.items() if cell is not None} for row in rows]), encoding="utf-8"
    )
    with _server(folder / "model") as (server, ports):
        yield _latency(case, ECHO, ports.pop(ECHO), asked, 1, sizes.requests)
        if _may_go_ahead():
            for face, port in ports.items():
                yield _latency(case, face, port, asked, 1, sizes.requests, ahead_of_others=server)
        for face, port in ports.items():
            for clients in sizes.clients:
                before = _cpu_of(server)
                found = _latency(case, face, port, asked, clients, sizes.requests)
                after, asked_in_all = _cpu_of(server), found.requests + clients * WARM_UP
                spent = None if before is None or after is None else (after - before) / asked_in_all
                yield replace(found, server_cpu=spent)


@contextmanager
def _server(model: Path) -> Iterator[tuple[int, dict[str, int]]]:
    """The number of the server's process; and the ports, that of an echo among them."""
    addresses = ("--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0")
    serving = _python("-m", "fed_em_simulations.command_line", "serve", str(model), *addresses)
    with serving as process, _python("-m", "tests.bench.echo_server") as echo:
        yield process.pid, {**_ports(process, 2), **_ports(echo, 1)}


def _ports(process: subprocess.Popen[str], n: int) -> dict[str, int]:
    assert process.stdout is not None
    ports: dict[str, int] = {}
    for _ in range(n):
        line = process.stdout.readline()
        found = re.match(r"(\w+) on port (\d+)", line)
        if found is None:
            raise RuntimeError(f"a server did not start: {line}")
        ports[found[1]] = int(found[2])
    return ports


def _cpu_of(process: int) -> float | None:
    """Processor time of a process so far; None where the system does not tell."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    except OSError:
        return None
    # proc(5): the 14th and the 15th field, of which two stand before the bracket.
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _latency(
    case: _Case, face: str, port: int, asked: Path, clients: int, requests: int, ahead_of_others: int | None = None
) -> LatencyFigures:
    """Args: ahead_of_others: The server's process, if it and its clients are to go ahead of all other programs."""
    processes = min(clients, _CLIENT_PROCESSES)
    shares = (str(clients // processes), str(requests // processes))
    arguments = ("-m", "tests.bench.serving_client", face, str(port), case.method, str(asked), *shares)
    with ExitStack() as stack:
        pipes, ahead = [], [] if ahead_of_others is None else [ahead_of_others]
        for _ in range(processes):
            process = stack.enter_context(_python(*arguments))
            assert process.stdin is not None and process.stdout is not None
            pipes.append((process.stdin, process.stdout))
            ahead += [] if ahead_of_others is None else [process.pid]
        if any(answers.readline() != "ready\n" for _, answers in pipes):
            raise RuntimeError("a client did not start")
        stack.enter_context(_ahead(ahead))
        for go, _ in pipes:
            go.write("\n")
            go.flush()
        found = [json.loads(answers.read()) for _, answers in pipes]
    seconds = np.concatenate([each["seconds"] for each in found])
    median, p99, p999 = np.quantile(seconds, (0.5, 0.99, 0.999)).tolist()
    throughput = len(seconds) / max(each["took"] for each in found)
    return LatencyFigures(
        case.name,
        case.method,
        face,
        clients,
        ahead_of_others is not None,
        len(seconds),
        median,
        p99,
        p999,
        throughput,
        None,
    )


@contextmanager
def _python(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _may_go_ahead() -> bool:
    """Whether the system has real-time priorities and lets us have them: Linux, for root."""
    try:
        with _ahead([os.getpid()]):
            return True
    except (AttributeError, OSError):
        return False


@contextmanager
def _ahead(processes: list[int]) -> Iterator[None]:
    """All threads of some processes, and those that they start, at real-time priority."""

    def schedule(policy: int, priority: int) -> None:
        for process in processes:
            for thread in os.listdir(f"/proc/{process}/task"):
                os.sched_setscheduler(int(thread), policy, os.sched_param(priority))

    if not processes:
        yield
        return
    try:
        schedule(os.SCHED_RR, 1)
        yield
    finally:
        with suppress(OSError):  # those that have ended
            schedule(os.SCHED_OTHER, 0)


def _row_cost(case: _Case, times: int) -> RowCostFigures:
    served, fitted = ServedModel.of("", case.fitted), case.fitted
    generator = np.random.default_rng(0)

    def one(mixture: RowMixture) -> Callable[[np.ndarray], object]:
        if case.method == "predict":
            return mixture.posterior
        return lambda row: mixture.impute(row, mixture.posterior(row).responsibilities)

    def table(rows: np.ndarray) -> object:
        return fitted.predict_proba(rows) if case.method == "predict" else fitted.impute(rows, 0, generator)

    rows = case.rows[:times]
    fresh = _seconds(one(served._rows), rows) if case.holes else None
    one_served = one(served._rows)
    for row in rows:
        one_served(row)
    alone = _seconds(one_served, rows)
    of_table = _seconds(lambda row: table(row[np.newaxis]), rows)
    many = _seconds(table, [case.rows]) / len(case.rows)
    return RowCostFigures(case.name, case.method, alone, fresh, of_table, many, len(case.rows))


def _seconds(work: Callable[[np.ndarray], object], each: Iterable[np.ndarray]) -> float:
    """The median over calls."""
    taken = []
    for one in each:
        began = time.perf_counter()
        work(one)
        taken.append(time.perf_counter() - began)
    return float(np.median(taken))


def _cold_start(folder: Path, times: int) -> ColdStartFigures:
    case = _cases()[1]
    save_model(folder, case.fitted)
    row = case.rows[2]
    cells = {name: values[0] for name, values in case.fitted.schema.decode(row[np.newaxis]).items()}
    small = (
        f"from fed_em.impute_one import impute_one, read_model; model = read_model({str(folder)!r});"
        f"cells = {cells!r}; impute_one(model, cells)"
    )
    repeated = f"""
{small}
import statistics, time
taken = []
for _ in range(1000):
    began = time.perf_counter()
    impute_one(model, cells)
    taken.append(time.perf_counter() - began)
print(statistics.median(taken))
"""
    whole = (
        "import numpy as np; from fed_em.model_file import load_model;"
        f"fitted = load_model({str(folder)!r}); row = np.array({np.nan_to_num(row).tolist()!r})[None];"
        "fitted.impute(row, 0, np.random.default_rng())"
    )
    codes = ("pass", "import numpy", small, whole)
    python, numpy, ready, by_tables = (Spread.of([_process_seconds(code) for _ in range(times)]) for code in codes)
    return ColdStartFigures(python, numpy, ready, by_tables, float(_output(repeated)))


def _process_seconds(code: str) -> float:
    began = time.perf_counter()
    _output(code)
    return time.perf_counter() - began


def _output(code: str) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    ).stdout
