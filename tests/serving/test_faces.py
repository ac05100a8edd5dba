"""gRPC and HTTP: the same answers, the same refusals, each in its own words."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import jsonschema
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from google.protobuf.json_format import MessageToDict
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from fed_em.errors import CallerError, EnvironmentFault
from fed_em_protocols.certificates import self_signed
from fed_em_protocols.wire import serving_pb2 as wire
from fed_em_server.serving import grpc_face, http_documents, http_face
from fed_em_server.serving.http_documents import SCHEMA
from fed_em_server.serving.limits import ServingLimits
from fed_em_server.serving.refusals import Refusal
from fed_em_server.serving.served_model import ServedModel
from fed_em_server.serving.service import TlsFiles
from tests.fed_em.random_mixtures import random_mixture, rows_with_holes
from tests.serving.served import Running, Seen, ToldSource, running

FITTED = random_mixture("mixed", seed=3)
ROWS = rows_with_holes(FITTED, 6, 1)
NAMED = [
    {name: cell for name, cell in zip(FITTED.columns, row, strict=True) if cell is not None}
    for row in zip(*FITTED.schema.decode(ROWS).values(), strict=True)
]
HEALTHY, ILL = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture(scope="module")
def served() -> Iterator[Running]:
    limits = ServingLimits(rows=40, drawn=60, bytes=20_000, connections=8)
    with running(FITTED, limits, threshold=-20.0) as found:
        yield found


def table_of(named: list[Mapping[str, Any]]) -> wire.Table:
    rows = []
    for cells in named:
        values = [cells.get(name) for name in FITTED.columns]
        rows.append(
            wire.Row(
                cells=[
                    wire.Cell()
                    if value is None
                    else wire.Cell(level=value)
                    if isinstance(value, str)
                    else wire.Cell(number=value)
                    for value in values
                ]
            )
        )
    return wire.Table(columns=FITTED.columns, rows=rows)


def ask_grpc(address: str, method: str, asked: Any, timeout: float = 30.0) -> Any:
    with grpc.insecure_channel(address) as channel:
        return call(channel, method, asked, timeout)


def call(channel: grpc.Channel, method: str, asked: Any, timeout: float = 30.0) -> Any:
    data = asked if isinstance(asked, bytes) else asked.SerializeToString()
    reply = channel.unary_unary(f"/fedem.serving.v1.Serving/{method}")(data, timeout=timeout, wait_for_ready=False)
    return getattr(wire, f"{method}Reply").FromString(reply)


def ask_http(
    port: int, path: str, body: Any = None, headers: Mapping[str, str] | None = None
) -> tuple[int, Any, Mapping[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(connection):
        if body is None:
            connection.request("GET", path)
        else:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            connection.request("POST", path, data, {"Content-Type": "application/json", **(headers or {})})
        reply = connection.getresponse()
        return reply.status, json.loads(reply.read()), dict(reply.getheaders())


def fits(document: Any, name: str) -> None:
    jsonschema.validate(document, {**SCHEMA, "$ref": f"#/$defs/{name}"})


class TestAnswers:
    def test_predict(self, served: Running) -> None:
        reply = ask_grpc(served.grpc, "Predict", wire.PredictRequest(table=table_of(NAMED)))
        expected = FITTED.predict_proba(ROWS)
        np.testing.assert_allclose([list(each.probabilities) for each in reply.predictions], expected, atol=1e-10)
        assert [each.component for each in reply.predictions] == FITTED.predict(ROWS).tolist()
        status, document, _ = ask_http(served.http, "/predict", {"rows": NAMED})
        assert status == 200 and document["version"] == reply.version == "first"
        fits(document, "predict_reply")
        assert document["predictions"] == [
            {"component": each.component, "probabilities": list(each.probabilities)} for each in reply.predictions
        ]

    def test_score(self, served: Running) -> None:
        reply = ask_grpc(served.grpc, "Score", wire.ScoreRequest(table=table_of(NAMED)))
        densities = FITTED.score_samples(ROWS)
        np.testing.assert_allclose([each.log_density for each in reply.scores], densities, rtol=1e-10, atol=1e-10)
        assert reply.scores[0].HasField("anomaly") and reply.scores[0].anomaly == (densities[0] < -20.0)
        assert not reply.scores[1].HasField("anomaly") and reply.threshold == -20.0
        _, document, _ = ask_http(served.http, "/score", {"rows": NAMED})
        fits(document, "score_reply")
        assert [each["log_density"] for each in document["scores"]] == [each.log_density for each in reply.scores]
        assert document["scores"][1]["anomaly"] is None and document["threshold"] == -20.0

    def test_impute(self, served: Running) -> None:
        asked = wire.ImputeRequest(table=table_of(NAMED), draws=2, seed=5)
        reply = ask_grpc(served.grpc, "Impute", asked)
        expected = FITTED.impute(ROWS, 2, np.random.default_rng(5))
        _, document, _ = ask_http(served.http, "/impute", {"rows": NAMED, "draws": 2, "seed": 5})
        fits(document, "impute_reply")
        cells = FITTED.schema.decode(expected.rows)
        draws = FITTED.schema.decode(expected.draws[1])
        for i, (row, over_http) in enumerate(zip(reply.rows, document["rows"], strict=True)):
            assert over_http["cells"] == {name: cells[name][i] for name in FITTED.columns}
            assert over_http["draws"][1] == {name: draws[name][i] for name in FITTED.columns}
            assert [getattr(cell, cell.WhichOneof("value")) for cell in row.cells] == list(over_http["cells"].values())
            assert list(over_http["filled"]) == [each.column for each in row.filled]
            assert len(row.draws) == 2 and list(row.probabilities) == over_http["probabilities"]
            for each in row.filled:
                d = FITTED.columns.index(each.column)
                sure = {"standard_deviation": expected.deviations[i, d], "probability": expected.probabilities[i, d]}
                found = MessageToDict(each, preserving_proto_field_name=True)
                del found["column"]
                assert found == over_http["filled"][each.column] == {n: v for n, v in sure.items() if not np.isnan(v)}

    def test_sample(self, served: Running) -> None:
        reply = ask_grpc(served.grpc, "Sample", wire.SampleRequest(n=3, seed=7))
        rows, components = FITTED.sample(3, 7)
        _, document, _ = ask_http(served.http, "/sample", {"n": 3, "seed": 7})
        fits(document, "sample_reply")
        assert document["components"] == list(reply.components) == components.tolist()
        assert [row[FITTED.columns[0]] for row in document["rows"]] == FITTED.schema.decode(rows)[FITTED.columns[0]]

    def test_describe(self, served: Running) -> None:
        reply = ask_grpc(served.grpc, "Describe", wire.DescribeRequest())
        assert (reply.version, reply.family, reply.components, reply.covariance) == (
            "first",
            "mixed-mixture",
            3,
            "full",
        )
        _, document, _ = ask_http(served.http, "/model")
        assert document["columns"] == FITTED.schema.describe() and document["refused"] is None
        assert [column.name for column in reply.columns] == list(FITTED.columns)
        status, document, _ = ask_http(served.http, "/healthz")
        assert (status, document["status"], document["version"]) == (200, "serving", "first")
        assert ask_http(served.http, "/schema")[1] == SCHEMA

    def test_no_rows_no_answers(self, served: Running) -> None:
        assert not ask_grpc(served.grpc, "Predict", wire.PredictRequest()).predictions
        for method in ("predict", "score", "impute"):
            assert ask_http(served.http, f"/{method}", {"rows": []})[0] == 200
        assert ask_http(served.http, "/sample", {"n": 0})[1]["rows"] == []

    def test_one_connection_carries_many_requests(self, served: Running) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", served.http, timeout=30)
        with contextlib.closing(connection):
            local = set()
            for rows, expected in (([{}], 200), ([{"nothing": 1}], 400), ([{}], 200)):
                connection.request("POST", "/predict", json.dumps({"rows": rows}), {"Content-Type": "application/json"})
                reply = connection.getresponse()
                reply.read()
                assert reply.status == expected
                local.add(connection.sock.getsockname())
        assert len(local) == 1

    def test_whoever_looks_on_is_told_of_every_request(self, served: Running) -> None:
        served.seen.requests.clear()
        ask_http(served.http, "/predict", {"rows": [{}, {}]})
        ask_http(served.http, "/score", {"rows": [{"nothing": 1}]})
        assert served.seen.requests == [("predict", "ok", 2), ("score", "refused", 0)]


WRONG_ROWS: list[tuple[list[Any], str]] = [
    ([{}, {"number 0": "SECRET"}], "row 1, column 'number 0'"),
    ([{"level 0": "SECRET"}], "row 0, column 'level 0'"),
    ([{"count 0": 1.5}], "row 0, column 'count 0'"),
    ([{"numbre 0": 1}], "did you mean 'number 0'"),
    ([{}] * 41, "41 rows"),
    ([{"number 0": 1e200}], "row 0: no component"),
]


class TestRefusals:
    @pytest.mark.parametrize(("rows", "named"), WRONG_ROWS)
    def test_a_request_that_must_change_says_where_and_how(self, served: Running, rows: list[Any], named: str) -> None:
        status, document, _ = ask_http(served.http, "/predict", {"rows": rows})
        fits(document, "error")
        error = document["error"]
        assert status in (400, 413, 422) and error["remedy"] and "SECRET" not in json.dumps(document)
        assert named in error["message"] + error["remedy"]
        columns = list({name for row in rows for name in row})
        cells = [
            [
                wire.Cell(level=row[n])
                if isinstance(row.get(n), str)
                else wire.Cell(number=row[n])
                if n in row
                else wire.Cell()
                for n in columns
            ]
            for row in rows
        ]
        table = wire.Table(columns=columns, rows=(wire.Row(cells=each) for each in cells))
        with pytest.raises(grpc.RpcError) as caught:
            ask_grpc(served.grpc, "Predict", wire.PredictRequest(table=table))
        assert caught.value.code().name == error["code"]
        assert named in caught.value.details() and "SECRET" not in caught.value.details()

    @pytest.mark.parametrize(
        ("path", "body", "status", "named"),
        [
            ("/predict", b"{", 400, "JSON"),
            ("/predict", b'{"rows": [{"number 0": NaN}]}', 400, "JSON"),
            ("/predict", {"row": []}, 400, "did you mean 'rows'"),
            ("/predict", {"rows": {}}, 400, "list"),
            ("/predict", {"rows": [3]}, 400, "row 0"),
            ("/impute", {"rows": [], "draws": -1}, 400, "draws"),
            ("/impute", {"rows": [{}], "draws": 61}, 413, "61 drawn rows"),
            ("/impute", {"rows": [], "seed": True}, 400, "seed"),
            ("/sample", {"n": 61}, 413, "61 drawn rows"),
            ("/sample", {}, 400, "lacks 'n'"),
            ("/predict", b"x" * 20_001, 413, "20000 bytes"),
            ("/nothing", {}, 404, "POST /predict"),
            ("/model", {}, 404, "POST /predict"),
        ],
    )
    def test_wrong_requests_over_http(self, served: Running, path: str, body: Any, status: int, named: str) -> None:
        found, document, _ = ask_http(served.http, path, body)
        fits(document, "error")
        assert found == status and named in document["error"]["message"] + document["error"]["remedy"]

    @pytest.mark.parametrize(
        ("headers", "status", "named"),
        [
            ({"Content-Type": "text/plain"}, 400, "Content-Type"),
            ({"X-Request-Timeout": "soon"}, 400, "X-Request-Timeout"),
            ({"X-Request-Timeout": "-1"}, 400, "X-Request-Timeout"),
            ({"X-Request-Timeout": "1e-9"}, 504, "time is up"),
            ({"Transfer-Encoding": "chunked"}, 400, "Content-Length"),
        ],
    )
    def test_wrong_headers(self, served: Running, headers: dict[str, str], status: int, named: str) -> None:
        found, document, _ = ask_http(served.http, "/predict", {"rows": []}, headers)
        assert found == status and named in document["error"]["message"] + document["error"]["remedy"]

    def test_what_is_no_http_is_told_so(self, served: Running) -> None:
        with socket.create_connection(("127.0.0.1", served.http), timeout=30) as line:
            line.sendall(b"nonsense\r\n\r\n")
            assert b"INVALID_ARGUMENT" in line.recv(4096)

    @pytest.mark.parametrize(
        ("method", "asked", "code"),
        [
            ("Predict", b"\xff\xff", "INVALID_ARGUMENT"),
            (
                "Predict",
                wire.PredictRequest(table=wire.Table(columns=["number 0"], rows=[wire.Row()])),
                "INVALID_ARGUMENT",
            ),
            ("Score", wire.ScoreRequest(table=wire.Table(columns=["number 0"] * 2)), "INVALID_ARGUMENT"),
            ("Impute", wire.ImputeRequest(table=wire.Table(rows=[wire.Row()]), draws=61), "INVALID_ARGUMENT"),
            ("Predict", b"x" * 20_001, "RESOURCE_EXHAUSTED"),
        ],
    )
    def test_wrong_requests_over_grpc(self, served: Running, method: str, asked: Any, code: str) -> None:
        with pytest.raises(grpc.RpcError) as caught:
            ask_grpc(served.grpc, method, asked)
        assert caught.value.code().name == code

    def test_an_error_that_nobody_foresaw_says_nothing(self, served: Running, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(served.live, "require", lambda: {}["SECRET"])
        served.seen.broken.clear()
        status, document, _ = ask_http(served.http, "/predict", {"rows": []})
        assert (status, document["error"]["message"]) == (500, "the server failed")
        with pytest.raises(grpc.RpcError) as caught:
            ask_grpc(served.grpc, "Predict", wire.PredictRequest())
        assert caught.value.code() == grpc.StatusCode.INTERNAL and "SECRET" not in caught.value.details()
        assert served.seen.broken == [("predict", "KeyError")] * 2

    def test_rows_are_counted_before_they_are_taken_apart(
        self, served: Running, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An empty row is two bytes of a request, and a hundred of memory."""
        monkeypatch.setattr(grpc_face, "rows_of", lambda _: {}["it was taken apart"])
        with pytest.raises(grpc.RpcError) as caught:
            ask_grpc(served.grpc, "Predict", wire.PredictRequest(table=wire.Table(rows=[wire.Row()] * 41)))
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert "41 rows are more than the 40" in caught.value.details()

    def test_draws_of_no_rows_are_bounded_too(self, served: Running, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ServedModel, "impute", lambda *_: {}["it was worked on"])
        status, document, _ = ask_http(served.http, "/impute", {"rows": [], "draws": 10**9})
        assert (status, document["error"]["message"]) == (
            413,
            "1000000000 drawn rows are more than the 60 of a request",
        )
        with pytest.raises(grpc.RpcError) as caught:
            ask_grpc(served.grpc, "Impute", wire.ImputeRequest(draws=10**9))
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


@contextlib.contextmanager
def busy(served: Running, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """One request is being worked on until what is given is called; the one that waits is let in then."""
    inside, leave, require = threading.Event(), threading.Event(), served.live.require

    def slow() -> Any:
        inside.set()
        leave.wait(60)
        return require()

    monkeypatch.setattr(served.live, "require", slow)
    replies: list[Any] = []
    thread = threading.Thread(target=lambda: replies.append(ask_http(served.http, "/predict", {"rows": [{}]})))
    thread.start()
    assert inside.wait(60)
    try:
        yield leave.set
    finally:
        leave.set()
        thread.join()
    assert replies[0][0] == 200


class TestTooMuch:
    def test_whoever_is_too_many_is_told_when_to_come_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with running(FITTED, ServingLimits(at_once=1, waiting=0)) as served, busy(served, monkeypatch):
            status, document, headers = ask_http(served.http, "/predict", {"rows": [{}]})
            assert status == 429 and headers["Retry-After"] == "1" and document["error"]["retry_after"] == 1
            with pytest.raises(grpc.RpcError) as caught:
                ask_grpc(served.grpc, "Predict", wire.PredictRequest())
            assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert ("retry-after", "1") in [(key, value) for key, value in caught.value.trailing_metadata()]
            # Who asks whether the server is well is not one of the many.
            assert ask_http(served.http, "/healthz")[0] == 200

    def test_a_request_that_waits_past_its_deadline_is_given_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with running(FITTED, ServingLimits(at_once=1, waiting=4)) as served, busy(served, monkeypatch):
            status, _, _ = ask_http(served.http, "/predict", {"rows": [{}]}, {"X-Request-Timeout": "0.05"})
            assert status == 504
            with pytest.raises(grpc.RpcError) as caught:
                ask_grpc(served.grpc, "Predict", wire.PredictRequest(), timeout=0.1)
            assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED

    @pytest.mark.parametrize(
        "beginning",
        [b"GET /healthz?", b"POST /score HTTP/1.1\r\nContent-Length: 999\r\nContent-Type: application/json\r\n\r\n"],
    )
    def test_whoever_sends_a_byte_now_and_then_holds_no_connection(
        self, beginning: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(http_face, "_IDLE_SECONDS", 0.3)
        with (
            running(FITTED, ServingLimits(connections=1)) as served,
            socket.create_connection(("127.0.0.1", served.http)) as slow,
        ):
            slow.settimeout(0.05)
            slow.sendall(beginning)
            until = time.monotonic() + 10.0
            with contextlib.suppress(ConnectionError):
                while time.monotonic() < until:
                    with contextlib.suppress(TimeoutError):
                        assert slow.recv(1) == b""
                        break
                    slow.sendall(b"a")
            assert time.monotonic() < until

    @pytest.mark.parametrize("which", ["reflection", "a message that never comes"])
    def test_calls_on_which_nothing_comes_hold_no_thread(self, which: str) -> None:
        """40 of them, where three threads answer: before, 19 were as many as there were threads."""
        with (
            running(FITTED, ServingLimits(at_once=1, waiting=2)) as served,
            grpc.insecure_channel(served.grpc) as channel,
        ):
            silent = threading.Event()

            def nothing() -> Iterator[Any]:
                silent.wait(120)
                yield from ()

            if which == "reflection":
                ask = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo
            else:
                ask = channel.stream_unary(f"/{grpc_face.SERVICE}/Predict").future
            over = [ask(nothing()) for _ in range(40)]
            reply = ask_grpc(served.grpc, "Predict", wire.PredictRequest(table=table_of(NAMED)), timeout=60.0)
            assert len(reply.predictions) == len(NAMED)
            for each in over:
                each.cancel()
            silent.set()

    def test_a_connection_on_which_a_call_stays_silent_ends(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(grpc_face, "_CONNECTION_SECONDS", 0.3)
        monkeypatch.setattr(grpc_face, "_GRACE_SECONDS", 0.1)
        silent = threading.Event()

        def nothing() -> Iterator[Any]:
            silent.wait(120)
            yield from ()

        with running(FITTED, ServingLimits(seconds=0.1)) as served, grpc.insecure_channel(served.grpc) as channel:
            replies = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(nothing(), timeout=60.0)
            with pytest.raises(grpc.RpcError) as caught:
                next(replies)
            silent.set()
            assert caught.value.code() == grpc.StatusCode.UNAVAILABLE  # and not the caller's own deadline

    def test_whoever_hangs_up_makes_no_room_before_its_work_is_done(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Else requests that are given up at once pile up, each with its bytes, for as long as threads are busy."""
        leave, asked = threading.Event(), wire.PredictRequest().SerializeToString()
        with (
            running(FITTED, ServingLimits(at_once=1, waiting=1)) as served,
            grpc.insecure_channel(served.grpc) as channel,
        ):
            face, require, predict = served.service.grpc, served.live.require, f"/{grpc_face.SERVICE}/Predict"
            assert face is not None
            monkeypatch.setattr(served.live, "require", lambda: (leave.wait(60), require())[1])
            try:
                over = [channel.unary_unary(predict).future(asked) for _ in range(2)]
                until = time.monotonic() + 60.0
                while face._inside < 2 and time.monotonic() < until:
                    time.sleep(0.01)
                for each in over:
                    each.cancel()
                time.sleep(0.3)  # for as long as the server may take to hear of it
                assert face._inside == 2
                refused = channel.unary_unary(predict).future(asked, timeout=5.0)
                assert refused.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            finally:
                leave.set()
            while face._inside and time.monotonic() < until:
                time.sleep(0.01)
            assert channel.unary_unary(predict)(asked, timeout=60.0) is not None

    def test_requests_are_taken_apart_once_they_are_let_in(self, monkeypatch: pytest.MonkeyPatch) -> None:
        read = http_documents.parse_json
        taken: list[bytes] = []
        monkeypatch.setattr(http_documents, "parse_json", lambda data, what: taken.append(data) or read(data, what))
        with running(FITTED, ServingLimits(at_once=1, waiting=1)) as served, busy(served, monkeypatch):
            replies: list[Any] = []
            waiting = threading.Thread(
                target=lambda: replies.append(
                    ask_http(served.http, "/predict", {"rows": [{}]}, {"X-Request-Timeout": "0.5"})
                )
            )
            waiting.start()
            waiting.join()
            assert replies[0][0] == 504 and not taken
        assert len(taken) == 1

    def test_large_bodies_are_held_up_to_a_bound_together(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(http_face, "_SMALL", 1000)
        large = {"rows": [{}], "padding": "x" * 5000}
        with running(FITTED, ServingLimits(held=8000)) as served:
            assert ask_http(served.http, "/predict", large)[0] == 400  # it is read, and is no request
            beginning = b"POST /score HTTP/1.1\r\nContent-Length: 5000\r\nContent-Type: application/json\r\n\r\n"
            with socket.create_connection(("127.0.0.1", served.http)) as slow:
                slow.sendall(beginning)
                for _ in range(1000):
                    status, document, _ = ask_http(served.http, "/predict", large)
                    if status == 429:
                        break
                assert status == 429 and "large requests" in document["error"]["message"]
                assert ask_http(served.http, "/predict", {"rows": [{}]})[0] == 200  # a small one has room

    def test_requests_in_flight_are_answered_at_the_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with contextlib.ExitStack() as stack:
            served = stack.enter_context(running(FITTED))
            with busy(served, monkeypatch) as leave:
                # The service has to end on the thread that it began on, whose limit of BLAS threads it lifts.
                ended, ended_before = threading.Event(), list[bool]()

                def let_go() -> None:
                    ended_before.append(ended.wait(0.3))
                    leave()

                other = threading.Thread(target=let_go)
                other.start()
                stack.close()
                ended.set()
                other.join()
                assert ended_before == [False]

    def test_connections_beyond_the_limit_are_closed_and_there_is_room_again(self) -> None:
        with running(FITTED, ServingLimits(connections=1)) as served:
            first = http.client.HTTPConnection("127.0.0.1", served.http, timeout=30)
            with contextlib.closing(first):
                first.request("GET", "/healthz")
                first.getresponse().read()
                with pytest.raises((ConnectionError, http.client.HTTPException)):
                    ask_http(served.http, "/healthz")
            for _ in range(1000):
                with contextlib.suppress(ConnectionError, http.client.HTTPException):
                    assert ask_http(served.http, "/healthz")[0] == 200
                    break
            else:
                pytest.fail("the connection that was closed is still counted")


class TestHealth:
    def test_health_follows_the_model_and_the_end(self) -> None:
        with running(None) as served, grpc.insecure_channel(served.grpc) as channel:
            health = health_pb2_grpc.HealthStub(channel)

            def status(service: str = "") -> int:
                return int(health.Check(health_pb2.HealthCheckRequest(service=service), timeout=30).status)

            assert status() == status("fedem.serving.v1.Serving") == ILL
            code, document, _ = ask_http(served.http, "/healthz")
            assert (code, document["status"]) == (503, "waiting")
            code, document, headers = ask_http(served.http, "/predict", {"rows": []})
            assert code == 503 and headers["Retry-After"] == "1" and document["error"]["code"] == "UNAVAILABLE"
            with pytest.raises(grpc.RpcError) as caught:
                call(channel, "Describe", wire.DescribeRequest())
            assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
            served.source.there = ("second", FITTED)
            served.live.look()
            assert status() == status("fedem.serving.v1.Serving") == HEALTHY
            served.source.there = ("third", None)
            served.live.look()
            assert status() == HEALTHY
            refused = {"version": "third", "reason": "version third is damaged"}
            assert ask_http(served.http, "/healthz")[1]["refused"] == refused
            described = call(channel, "Describe", wire.DescribeRequest())
            assert (described.version, described.refused_version) == ("second", "third")

    def test_reflection_shows_the_service(self, served: Running) -> None:
        with grpc.insecure_channel(served.grpc) as channel:
            asked = reflection_pb2.ServerReflectionRequest(list_services="")
            reply = next(
                reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([asked]), timeout=30)
            )
        names = {each.name for each in reply.list_services_response.service}
        assert names == {
            "fedem.serving.v1.Serving",
            "grpc.health.v1.Health",
            "grpc.reflection.v1alpha.ServerReflection",
        }


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    folder, found = tmp_path_factory.mktemp("tls"), {}
    for name in ("server", "client", "stranger"):
        key = ec.generate_private_key(ec.SECP256R1())
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        for suffix, data in (("key", pem), ("crt", self_signed(key, name, "localhost", datetime.now(UTC)))):
            found[f"{name}.{suffix}"] = folder / f"{name}.{suffix}"
            found[f"{name}.{suffix}"].write_bytes(data)
    return found


class TestTls:
    def test_only_known_clients_are_let_in(self, files: Mapping[str, Path]) -> None:
        tls = TlsFiles(files["server.crt"], files["server.key"], files["client.crt"])
        with running(FITTED, tls=tls) as served:
            for name, let_in in (("client", True), ("stranger", False)):
                assert self._asks_grpc(served, files, name) == let_in
                assert self._asks_http(served, files, name) == let_in

    @staticmethod
    def _asks_grpc(served: Running, files: Mapping[str, Path], name: str) -> bool:
        parts = (files[each].read_bytes() for each in ("server.crt", f"{name}.key", f"{name}.crt"))
        options = (("grpc.ssl_target_name_override", "localhost"),)
        with grpc.secure_channel(served.grpc, grpc.ssl_channel_credentials(*parts), options) as channel:
            try:
                return bool(call(channel, "Describe", wire.DescribeRequest(), timeout=10.0).version)
            except grpc.RpcError as error:
                return error.code() != grpc.StatusCode.UNAVAILABLE

    @staticmethod
    def _asks_http(served: Running, files: Mapping[str, Path], name: str) -> bool:
        context = ssl.create_default_context(cafile=files["server.crt"])
        context.load_cert_chain(files[f"{name}.crt"], files[f"{name}.key"])
        connection = http.client.HTTPSConnection("localhost", served.http, timeout=30, context=context)
        with contextlib.closing(connection):
            try:
                connection.request("GET", "/model")
                return connection.getresponse().status == 200
            except (ssl.SSLError, ConnectionError):
                return False

    def test_files_that_will_not_do_are_named(self, files: Mapping[str, Path], tmp_path: Path) -> None:
        with pytest.raises(CallerError, match="TLS files"):
            TlsFiles(files["server.crt"], files["client.key"]).for_http()
        with pytest.raises(CallerError, match="no file"):
            TlsFiles(files["server.crt"], tmp_path / "nothing").for_grpc()


def test_without_the_extra_the_error_names_it_and_http_needs_none(monkeypatch: pytest.MonkeyPatch) -> None:
    from fed_em_server.serving.live_model import LiveModel
    from fed_em_server.serving.service import ServingService

    monkeypatch.setitem(sys.modules, "grpc_health.v1", None)
    live, seen = LiveModel(ToldSource(("first", FITTED)), Seen()), Seen()
    with (
        pytest.raises(CallerError, match="extra `serving`"),
        ServingService(live, ServingLimits(), seen, "127.0.0.1:0", None),
    ):
        pass
    with ServingService(live, ServingLimits(), seen, None, "127.0.0.1:0") as service:
        assert service.http is not None and ask_http(service.http.port, "/healthz")[0] == 200


def test_a_port_in_use_is_named(served: Running) -> None:
    from fed_em_server.serving.service import ServingService

    for addresses in ((served.grpc, None), (None, f"127.0.0.1:{served.http}")):
        service = ServingService(served.live, ServingLimits(), served.seen, *addresses)
        with pytest.raises(EnvironmentFault, match="cannot listen"), service:
            pass


def test_every_code_is_one_of_grpcs() -> None:
    from fed_em_server.serving.refusals import _KINDS

    assert {code for _, code, _, _ in _KINDS} <= {each.name for each in grpc.StatusCode}
    assert Refusal.of(RuntimeError("SECRET")).message == "the server failed"
