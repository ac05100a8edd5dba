"""Rows that other processes of a tenant read from an object store: the same bits as rows in the tenant's own process."""

from __future__ import annotations

import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from small_federation import COLUMNS, Recorder, clustered_rows, memory_hub, session_toml, write_small_federation

from fed_em.coordinates import Coordinates
from fed_em.errors import CallerError, EnvironmentFault
from fed_em.imputed_reach import records_beyond_reach
from fed_em.model import COUNT
from fed_em.moderate import LEAST_VARIANCE
from fed_em.parameters import Parameters
from fed_em.records import Records
from fed_em_client import sharded_sums
from fed_em_client.configuration import ShardsTable, read_tenant_configuration
from fed_em_client.object_files import object_files, part_of
from fed_em_client.remote_shards import RemoteShards, require_for_shards
from fed_em_client.rows import read_parts
from fed_em_client.shard_frames import HELLO, word
from fed_em_client.shard_links import dial
from fed_em_client.shard_pod import serve_shard
from fed_em_client.sharded_sums import ShardedSums
from fed_em_client.take_part import open_tenant
from fed_em_client.tenant_doctor import examine_tenant
from fed_em_protocols.description import SessionDescription
from fed_em_protocols.party import create_shard_keys
from fed_em_server.serve import open_server
from fed_em_server.session import run_session
from fed_em_simulations.memory_hub import MemoryHub
from fed_em_simulations.volatile_marks import VolatileMarks

ROWS = clustered_rows((700,))["t0"]


def write_parts(folder: Path, rows: np.ndarray = ROWS) -> Path:
    """Three files: two of Parquet in small row groups, one of CSV."""
    folder.mkdir(parents=True)
    table = pa.table(dict(zip(COLUMNS, rows.T, strict=True)))
    pyarrow.parquet.write_table(table.slice(0, 310), folder / "a.parquet", row_group_size=50)
    pyarrow.csv.write_csv(table.slice(310, 140), folder / "b.csv")
    pyarrow.parquet.write_table(table.slice(450), folder / "c.parquet", row_group_size=97)
    (folder / "notes.txt").write_text("not a table")
    return folder


@pytest.fixture
def description(tmp_path: Path) -> SessionDescription:
    federation = write_small_federation(tmp_path / "federation", clustered_rows((20, 20, 20)), session_toml())
    return federation.server.description


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("house") / "shard-keys"
    create_shard_keys(folder, datetime.now(UTC))
    return folder


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eleven sums of the 700 rows."""
    monkeypatch.setattr(sharded_sums, "SHARD_RECORDS", 64)


@dataclass
class House:
    """A tenant's process, and its shards as threads of this one."""

    shards: RemoteShards
    pods: list[threading.Thread]


@pytest.fixture
def house(tmp_path: Path, keys: Path) -> Iterator[House]:
    with house_of(write_parts(tmp_path / "rows").as_uri(), keys, 3) as found:
        yield found


def house_of(uri: str, keys: Path, count: int, patience: float = 20.0) -> _HouseOpened:
    return _HouseOpened(ShardsTable(listen="127.0.0.1:0", keys=keys, count=count, data=(uri,), patience=patience))


class _HouseOpened:
    def __init__(self, settings: ShardsTable) -> None:
        self.settings = settings

    def __enter__(self) -> House:
        self.shards = RemoteShards(self.settings)
        arguments = [
            (self.shards.address, self.settings.keys, k, 20.0, lambda _: None) for k in range(self.settings.count)
        ]
        pods = [threading.Thread(target=serve_shard, args=each, daemon=True) for each in arguments]
        for pod in pods:
            pod.start()
        with self.shards._changed:
            assert self.shards._changed.wait_for(lambda: len(self.shards._links) == self.settings.count, 20)
        self.house = House(self.shards, pods)
        return self.house

    def __exit__(self, *error: object) -> None:
        self.shards.__exit__(None, None, None)
        for pod in self.house.pods:
            pod.join(10)
            assert not pod.is_alive(), "a shard outlived the session"


class TestParts:
    def test_every_number_of_shards_reads_the_same_records_once(
        self, tmp_path: Path, description: SessionDescription
    ) -> None:
        files = object_files([write_parts(tmp_path / "rows").as_uri()])
        assert [file.n_rows for file in files] == [310, 140, 250]
        for count in (1, 2, 3, 7, 11, 15):
            numbers, rows = [], []
            for index in range(count):
                shards, parts = part_of(files, index, count, 64)
                numbers += list(shards)
                rows += [read_parts(parts, description, {}, 1000).rows] if parts else []
            assert numbers == list(range(11))
            assert np.array_equal(np.concatenate(rows), ROWS)

    def test_a_complaint_names_the_part_and_quotes_nothing(
        self, tmp_path: Path, description: SessionDescription
    ) -> None:
        wild = ROWS.copy()
        wild[333, 1] = 4711.5
        files = object_files([write_parts(tmp_path / "rows", wild).as_uri()])
        _, parts = part_of(files, 1, 2, 64)
        assert "4711" not in str(parts[0])
        with pytest.raises(CallerError, match=r"b\.csv \(rows \d+ to 140\): column 'b' is outside") as told:
            read_parts(parts, description, {}, 1000)
        assert "4711" not in str(told.value)

    def test_what_is_not_there_or_no_table(self, tmp_path: Path) -> None:
        with pytest.raises(CallerError, match="nothing at file://"):
            object_files([(tmp_path / "none").as_uri()])
        (tmp_path / "empty").mkdir()
        with pytest.raises(CallerError, match="holds no"):
            object_files([(tmp_path / "empty").as_uri()])
        (tmp_path / "broken.parquet").write_bytes(b"PAR1 no table")
        with pytest.raises(CallerError, match="no readable table"):
            object_files([(tmp_path / "broken.parquet").as_uri()])

    def test_uris_hold_no_credentials(self, tmp_path: Path) -> None:
        for uri, told in (("s3://key:secret@bucket/rows", "credentials"), ("/mnt/rows", "no URI")):
            with pytest.raises(ValueError, match=told) as raised:
                ShardsTable(listen="127.0.0.1:0", count=1, data=(uri,))
            assert "secret@" not in str(raised.value.errors()[0]["msg"])  # type: ignore[attr-defined]


class TestSums:
    def test_no_bit_differs_from_rows_in_the_own_process(self, house: House, description: SessionDescription) -> None:
        model = description.fitted_model
        coordinates = Coordinates(ROWS.mean(axis=0), ROWS.std(axis=0))
        there = coordinates.apply(ROWS)
        parameters = start_of(there)
        layout = model.layout(np.full(3, 20.0))
        records = house.shards.read(description, {}, 1000)
        assert len(records) == 700
        found = records.at(coordinates, labels=False, radius=None).e_step(model, parameters, layout)
        assert found.vector.tobytes() == ShardedSums(1).e_step(model, parameters, there, layout).vector.tobytes()

    def test_a_shard_that_is_lost_is_waited_for(
        self, house: House, description: SessionDescription, tmp_path: Path
    ) -> None:
        model, parameters = description.fitted_model, start_of(ROWS)
        plain = Coordinates(np.zeros(3), np.ones(3))
        records = house.shards.read(description, {}, 1000).at(plain, labels=False, radius=None)
        before = records.e_step(model, parameters, model.layout())
        house.shards._links[1].link.close()
        assert records.e_step(model, parameters, model.layout()).vector.tobytes() == before.vector.tobytes()
        again = house.shards.read(description, {}, 1000)
        assert again.fingerprint == records.fingerprint

    def test_rows_that_change_under_a_session_are_found(
        self, house: House, description: SessionDescription, tmp_path: Path
    ) -> None:
        model, parameters = description.fitted_model, start_of(ROWS)
        records = house.shards.read(description, {}, 1000).at(
            Coordinates(np.zeros(3), np.ones(3)), labels=False, radius=None
        )
        table = pa.table(dict(zip(COLUMNS, (ROWS[310:450] + 0.5).T, strict=True)))
        pyarrow.csv.write_csv(table, tmp_path / "rows" / "b.csv")
        house.shards._links[1].link.close()
        with pytest.raises(CallerError, match="shard 1 reads other rows than before"):
            records.e_step(model, parameters, model.layout())

    def test_what_a_shard_has_to_complain_of_is_told(self, house: House, description: SessionDescription) -> None:
        with pytest.raises(CallerError, match="row cap"):
            house.shards.read(description, {}, 600)
        with pytest.raises(CallerError, match=r"maps 'x'"):
            house.shards.read(description, {"x": "a"}, 1000)
        assert len(house.shards.read(description, {}, 1000)) == 700

    def test_records_beyond_reach_are_counted(self, tmp_path: Path, keys: Path) -> None:
        federation = write_small_federation(
            tmp_path / "federation", clustered_rows((20, 20, 20)), session_toml(columns=missing_columns())
        )
        own = federation.server.description
        holes = ROWS.copy()
        holes[::9, 0] = np.nan
        model, parameters = own.fitted_model, start_of(ROWS)
        bounds = np.full(3, 1e-3)
        layout = model.layout(bounds)
        parameters = Parameters({**parameters, "means": parameters["means"] * 1e6})
        expected = records_beyond_reach(model, parameters, Records(holes), bounds, layout)
        assert expected[0] > 0
        with house_of(write_parts(tmp_path / "rows", holes).as_uri(), keys, 2) as house:
            records = house.shards.read(own, {}, 1000).at(
                Coordinates(np.zeros(3), np.ones(3)), labels=False, radius=None
            )
            assert np.array_equal(records.beyond_reach(model, parameters, bounds, layout), expected)

    @pytest.mark.parametrize("unfit", [64, 700])
    def test_rows_that_count_for_nothing_leave_every_sum_there(
        self, tmp_path: Path, keys: Path, description: SessionDescription, unfit: int
    ) -> None:
        """Fewer than eleven sums have rows then; that a row does not fit is nobody else's business."""
        said = json.loads(description.to_json())
        said["model"]["covariance_floor"] = LEAST_VARIANCE
        promise = {"epsilon": 5, "delta": 1e-5, "radius": 2, "noise_multiplier": 50, "sums": 3}
        private = SessionDescription.model_validate({**said, "privacy": promise})
        rows = ROWS.copy()
        rows[:unfit] = np.nan
        uri = write_parts(tmp_path / "rows", rows).as_uri()
        with house_of(uri, keys, 2) as house:
            records = house.shards.read(private, {}, 1000)
            assert [number for each in records.held for number in each.shards] == list(range(11))
            model = private.fitted_model
            layout = model.layout(np.ones(3))
            there = records.at(Coordinates(np.zeros(3), np.full(3, 100.0)), True, 2.0)
            statistics = there.e_step(model, start_of(rows[unfit:] if unfit < 700 else ROWS), layout)
        assert statistics[COUNT] == 700 - unfit

    def test_more_shards_than_there_are_sums(self, tmp_path: Path, keys: Path, description: SessionDescription) -> None:
        rows = ROWS[:100]
        pyarrow.parquet.write_table(pa.table(dict(zip(COLUMNS, rows.T, strict=True))), tmp_path / "few.parquet")
        model, parameters = description.fitted_model, start_of(ROWS)
        with house_of((tmp_path / "few.parquet").as_uri(), keys, 5) as house:
            records = house.shards.read(description, {}, 1000).at(
                Coordinates(np.zeros(3), np.ones(3)), labels=False, radius=None
            )
            found = records.e_step(model, parameters, model.layout())
        assert found.vector.tobytes() == ShardedSums(1).e_step(model, parameters, rows, model.layout()).vector.tobytes()


class TestLinks:
    def test_nobody_without_the_key_is_a_shard_or_a_tenant(self, house: House, tmp_path: Path) -> None:
        other = tmp_path / "other-keys"
        create_shard_keys(other, datetime.now(UTC))
        with pytest.raises(OSError, match=r"(?i)verify"):
            dial(house.shards.address, other)

    def test_a_client_that_shows_nothing_is_cut_off(self, house: House) -> None:
        import socket
        import ssl

        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        host, port = house.shards.address.split(":")
        with (
            socket.create_connection((host, int(port)), 5) as raw,
            context.wrap_socket(raw) as link,
            pytest.raises(OSError, match=r"(?i)certificate"),
        ):
            link.recv(1)

    def test_a_number_that_there_is_not_is_refused(self, house: House, keys: Path) -> None:
        with pytest.raises(CallerError, match="shard 7 is not taken: there are shards 0 to 2"):
            serve_shard(house.shards.address, keys, 7, 5.0, lambda _: None)

    def test_a_shard_that_never_comes_is_named(
        self, tmp_path: Path, keys: Path, description: SessionDescription
    ) -> None:
        settings = ShardsTable(listen="127.0.0.1:0", keys=keys, count=1, data=(tmp_path.as_uri(),), patience=0.1)
        with RemoteShards(settings) as shards, pytest.raises(EnvironmentFault, match="shard 0 of 1 has not come"):
            shards.read(description, {}, 1000)

    def test_a_shard_that_says_nothing_counts_as_lost(
        self, tmp_path: Path, keys: Path, description: SessionDescription
    ) -> None:
        """It is linked, and frozen: nobody comes in its place."""
        settings = ShardsTable(
            listen="127.0.0.1:0", keys=keys, count=1, data=(tmp_path.as_uri(),), patience=0.3, silence=0.3
        )
        told: list[str] = []
        with RemoteShards(settings, told.append) as shards:
            link = dial(shards.address, keys)
            link.send(word(HELLO, index=0, version=version("fed-em")))
            with pytest.raises(EnvironmentFault, match="shard 0 of 1 has not come"):
                shards.read(description, {}, 1000)
            link.close()
        assert told == ["shard 0 is here", "shard 0 is lost; whoever comes in its place goes on"]

    def test_a_tenant_that_is_not_there(self, keys: Path) -> None:
        import socket

        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(EnvironmentFault, match="no link to"):
            serve_shard(address, keys, 0, 0.1, lambda _: None)


class TestConfiguration:
    def test_rows_are_in_one_place(self, tmp_path: Path) -> None:
        path, head = tmp_path / "tenant.toml", f'name = "north"\nroster_hash = "{"0" * 64}"\n'
        shards = '[shards]\nlisten = "0.0.0.0:9443"\ncount = 4\ndata = "s3://clinic/rows/"\n'
        path.write_text(head + shards)
        found = read_tenant_configuration(path)
        assert found.shards is not None and found.data == ()
        assert found.shards.data == ("s3://clinic/rows/",) and found.shards.keys == tmp_path / "shard-keys"
        for both_or_none in (head, f'{head}data = "rows.csv"\n{shards}'):
            path.write_text(both_or_none)
            with pytest.raises(CallerError, match="give one of them"):
                read_tenant_configuration(path)

    def test_the_doctor_looks_at_keys_and_files(self, tmp_path: Path, keys: Path) -> None:
        federation = write_small_federation(tmp_path, clustered_rows((20, 20, 20)), session_toml())
        file = federation.tenant_files["t1"]
        uri = write_parts(tmp_path / "store").as_uri()
        table = f'[shards]\nlisten = "127.0.0.1:0"\ncount = 2\nkeys = "{keys}"\ndata = "{uri}"\n'
        file.write_text(file.read_text().replace('data = "rows.parquet"', table))
        found = {each.what: each for each in examine_tenant(file, datetime.now(UTC))}
        assert not found["shard keys"].failed and not found["data"].failed
        assert found["data"].detail.startswith("700 rows in file://") and "c.parquet, as" in found["data"].detail
        with pytest.raises(CallerError, match="gRPC only"):
            open_tenant(federation.tenant("t1")).work()

    @pytest.mark.parametrize(("model", "floor", "told"), [("", 5000, "mass floor"), ('mixing = "tenant"', 0, "own")])
    def test_sessions_that_ask_for_more_than_sums_are_not_joined(
        self, tmp_path: Path, model: str, floor: int, told: str
    ) -> None:
        toml = session_toml(model=f'family = "gaussian-mixture"\nn_components = 3\ncovariance = "full"\n{model}')
        federation = write_small_federation(tmp_path, clustered_rows((20, 20, 20)), toml)
        with pytest.raises(CallerError, match=told):
            require_for_shards(federation.server.description, floor)


@pytest.mark.slow
@pytest.mark.xdist_group("real time")
def test_a_session_with_shards_in_other_processes_one_of_which_is_killed(tmp_path: Path, keys: Path) -> None:
    """The whole of it: the model is the same, bit for bit, as that of the same rows in a file."""
    tenants = clustered_rows((60, 300, 50))
    toml = session_toml(fit="tolerance = 1e-7\nmax_iterations = 6")
    plain = write_small_federation(tmp_path / "plain", tenants, toml)
    expected = run_session(open_server(plain.server).plan("memory"), memory_hub(plain), Recorder())
    federation = write_small_federation(tmp_path / "shards", tenants, toml)
    parts = tmp_path / "store"
    parts.mkdir()
    table = pa.table(dict(zip(COLUMNS, tenants["t1"].T, strict=True)))
    pyarrow.parquet.write_table(table.slice(0, 111), parts / "1.parquet")
    pyarrow.parquet.write_table(table.slice(111), parts / "2.parquet")
    settings = ShardsTable(listen="127.0.0.1:0", keys=keys, count=2, data=(parts.as_uri(),), patience=60.0)
    with RemoteShards(settings) as shards:
        pods = [start_shard(shards.address, keys, index) for index in range(2)]
        hub = hub_with_shards(federation, shards)
        killed: list[int] = []

        class Killing(Recorder):
            def round_opened(self, record: object) -> None:
                super().round_opened(record)  # type: ignore[arg-type]
                if len(self.rounds) == 3:
                    pods[1].kill()
                    killed.append(pods[1].wait(10))
                    pods.append(start_shard(shards.address, keys, 1))

        outcome = run_session(open_server(federation.server).plan("memory"), hub, Killing())
    assert killed == [-signal.SIGKILL]
    for name, array in expected.result.fit.parameters.items():
        assert outcome.result.fit.parameters[name].tobytes() == array.tobytes(), name
    assert [pod.wait(20) for pod in (pods[0], pods[2])] == [0, 0]


def start_shard(address: str, keys: Path, index: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "fed_em_simulations.command_line", "shard", address, "--keys", str(keys)]
    environment = {
        **os.environ,
        "JOB_COMPLETION_INDEX": str(index),
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)


def hub_with_shards(federation: object, shards: RemoteShards) -> MemoryHub:
    def start(name: str) -> object:
        tenant, marks = open_tenant(federation.tenant(name)), VolatileMarks()  # type: ignore[attr-defined]
        return lambda: tenant.session(marks, tenant.work(marks, shards=shards if name == "t1" else None))

    return MemoryHub([start(name) for name in federation.tenant_files], 0.001)  # type: ignore[attr-defined, misc]


def missing_columns() -> str:
    return "\n".join(f'[[columns]]\nname = "{name}"\nlow = -20\nhigh = 20\nmissing = true' for name in COLUMNS)


def start_of(rows: np.ndarray) -> Parameters:
    means = rows[:: len(rows) // 3][:3]
    return Parameters({"weights": np.full(3, 1 / 3), "means": means, "covariances": np.tile(np.cov(rows.T), (3, 1, 1))})


class TestObjectStore:
    """The protocol of S3 as Arrow speaks it, against a server that knows three requests of it. No store of anybody's was ever asked."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[str]:
        folder = write_parts(tmp_path / "bucket" / "rows").parent

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None: ...

            def do_HEAD(self) -> None:
                self.respond(*self.found(), body=False)

            def do_GET(self) -> None:
                self.respond(*self.found())

            def found(self) -> tuple[int, bytes, dict[str, str]]:
                parts = urllib.parse.urlsplit(self.path)
                query = urllib.parse.parse_qs(parts.query)
                if "list-type" in query:
                    return 200, listing(folder, query.get("prefix", [""])[0]), {"Content-Type": "application/xml"}
                file = folder.parent / urllib.parse.unquote(parts.path).lstrip("/")
                if not file.is_file():
                    return 404, b"", {}
                data, wanted = file.read_bytes(), self.headers.get("Range")
                if wanted is None:
                    return 200, data, {}
                start, stop = (int(number) for number in wanted.removeprefix("bytes=").split("-"))
                return 206, data[start : stop + 1], {"Content-Range": f"bytes {start}-{stop}/{len(data)}"}

            def respond(self, status: int, data: bytes, headers: dict[str, str], body: bool = True) -> None:
                self.send_response(status)
                for name, value in {"Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT", **headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if body:
                    self.wfile.write(data)

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"s3://bucket/rows?endpoint_override=127.0.0.1:{server.server_port}&scheme=http&region=here"
        server.shutdown()
        server.server_close()

    def test_rows_are_read_from_it(
        self, store: str, description: SessionDescription, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, value in (
            ("AWS_ACCESS_KEY_ID", "nobody"),
            ("AWS_SECRET_ACCESS_KEY", "nothing"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ):
            monkeypatch.setenv(name, value)
        files = object_files([store])
        assert [(file.label, file.n_rows) for file in files] == [
            ("s3://bucket/rows/a.parquet", 310),
            ("s3://bucket/rows/b.csv", 140),
            ("s3://bucket/rows/c.parquet", 250),
        ]
        found = [read_parts(part_of(files, index, 2, 64)[1], description, {}, 1000).rows for index in range(2)]
        assert np.array_equal(np.concatenate(found), ROWS)


def listing(folder: Path, prefix: str) -> bytes:
    """As `ListObjectsV2` answers."""
    keys = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
    contents = "".join(
        f"<Contents><Key>{escape(key)}</Key><Size>{(folder / key).stat().st_size}</Size>"
        "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
        for key in keys
        if key.startswith(prefix)
    )
    head = f"<IsTruncated>false</IsTruncated><KeyCount>{contents.count('<Key>')}</KeyCount>"
    return f'<?xml version="1.0"?><ListBucketResult>{head}{contents}</ListBucketResult>'.encode()
