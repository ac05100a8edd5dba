"""Clients of a served model in a process of their own: `python -m tests.bench.serving_client FACE PORT METHOD ROWS CLIENTS REQUESTS`.

ROWS is a JSON file of rows. Prints "ready", waits for a line, asks, and prints the seconds of each request and from the first to the
last as JSON.
"""

from __future__ import annotations

import http.client
import json
import socket
import sys
import threading
import time
from collections.abc import Callable
from itertools import chain, cycle, islice
from pathlib import Path
from typing import Any

import grpc

from fed_em_protocols.wire import serving_pb2 as wire

WARM_UP = 50


def main() -> None:
    """Ask, as the arguments say."""
    face, port, method, rows, clients, requests = sys.argv[1:]
    payloads = _payloads(face, method, json.loads(Path(rows).read_text(encoding="utf-8")))
    asks = [CLIENTS[face](int(port), method) for _ in range(int(clients))]
    for ask in asks:
        for payload in islice(cycle(payloads), WARM_UP):
            ask(payload)
    print("ready", flush=True)
    sys.stdin.readline()
    seconds: list[list[float]] = [[] for _ in asks]
    each = int(requests) // len(asks)
    threads = [
        threading.Thread(target=_run, args=(ask, payloads[i:] + payloads[:i], each, seconds[i]))
        for i, ask in enumerate(asks)
    ]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps({"seconds": [*chain.from_iterable(seconds)], "took": time.perf_counter() - began}))


def _run(ask: Callable[[bytes], None], payloads: list[bytes], times: int, seconds: list[float]) -> None:
    for payload in islice(cycle(payloads), times):
        began = time.perf_counter()
        ask(payload)
        seconds.append(time.perf_counter() - began)


def _payloads(face: str, method: str, rows: list[dict[str, Any]]) -> list[bytes]:
    if face != "gRPC":
        return [json.dumps({"rows": [row]}).encode() for row in rows]
    kind = getattr(wire, f"{method.capitalize()}Request")
    return [kind(table=_table(row)).SerializeToString() for row in rows]


def _table(row: dict[str, Any]) -> wire.Table:
    cells = (wire.Cell(level=cell) if isinstance(cell, str) else wire.Cell(number=cell) for cell in row.values())
    return wire.Table(columns=row, rows=[wire.Row(cells=cells)])


def _grpc_client(port: int, method: str) -> Callable[[bytes], None]:
    channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=(("grpc.use_local_subchannel_pool", 1),))
    call = channel.unary_unary(f"/fedem.serving.v1.Serving/{method.capitalize()}")
    reply = getattr(wire, f"{method.capitalize()}Reply")

    def ask(payload: bytes) -> None:
        assert reply.FromString(call(payload, timeout=30)).version

    return ask


def _http_client(port: int, method: str) -> Callable[[bytes], None]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.connect()
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(payload: bytes) -> None:
        connection.request("POST", f"/{method}", payload, {"Content-Type": "application/json"})
        assert json.loads(connection.getresponse().read())["version"]

    return ask


def _echo_client(port: int, method: str) -> Callable[[bytes], None]:
    line = socket.create_connection(("127.0.0.1", port), timeout=30)
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(payload: bytes) -> None:
        line.sendall(payload)
        left = len(payload)
        while left:
            left -= len(line.recv(65536))

    return ask


CLIENTS = {"gRPC": _grpc_client, "HTTP": _http_client, "echo": _echo_client}


if __name__ == "__main__":
    main()
