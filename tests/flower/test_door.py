"""The tenant's door and the pipe in front of it: what either may be told without harm."""

from __future__ import annotations

import os
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from small_federation import clustered_rows, write_small_federation

from fed_em.errors import CallerError
from fed_em_client import flower_app, flower_tenant, socket_door
from fed_em_client.door_frames import BadFrame, ask, read_frame, write_frame
from fed_em_client.flower_tenant import FlowerTenant
from fed_em_client.socket_door import SocketDoor
from fed_em_client.take_part import open_tenant
from fed_em_client.tenant_session import TenantSession
from fed_em_protocols.envelope import unseal
from fed_em_protocols.grid_payloads import Parcel, sign_ticket
from fed_em_protocols.keys import SigningKey
from fed_em_protocols.messages import Hello
from fed_em_protocols.wire.grid_messages import CODE, DATA, MAX_REQUEST_BYTES, RECORD, Action, AnswerCode
from fed_em_simulations.federation_folder import FederationFolder
from fed_em_simulations.volatile_marks import VolatileMarks
from tests.flower.fake_grid import app, context_of, message_to_node

SESSION = bytes(range(16))


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> FederationFolder:
    return write_small_federation(tmp_path_factory.mktemp("door") / "f", clustered_rows((10, 10, 10)))


@contextmanager
def serving(tenant: FlowerTenant, path: Path) -> Iterator[None]:
    """The tenant at a door, in a thread."""
    over = threading.Event()

    def serve(door: SocketDoor) -> None:
        while not over.is_set():
            door.answer_one(tenant.answer, 0.05)

    with SocketDoor(path) as door:
        thread = threading.Thread(target=serve, args=(door,))
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def path(federation: FederationFolder, doors: Path, told: list[str]) -> Iterator[Path]:
    """The socket of tenant t1, which serves."""
    tenant = FlowerTenant(open_tenant(federation.tenant("t1")), VolatileMarks(), told.append)
    with serving(tenant, doors / "t1"):
        yield doors / "t1"


def boot_of(path: Path) -> bytes:
    """The boot number that a tenant introduces itself with."""
    code, data = ask(path, Action.RELAY, Parcel(SESSION).to_bytes(), 5.0)
    assert code is AnswerCode.DONE
    parcel = Parcel.from_bytes(data, "t1")
    (message,) = parcel.messages
    hello = unseal(message, "t1").content
    assert isinstance(hello, Hello)
    assert hello.tenant == "t1"
    assert parcel.session == SESSION
    return hello.boot


def raw(path: Path, data: bytes) -> tuple[int, bytes]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        return read_frame(connection, 5.0)


HOSTILE_FRAMES = {
    "empty": b"",
    "half a head": b"\x02\x00",
    "too long": struct.pack(">BI", Action.RELAY, MAX_REQUEST_BYTES + 1),
    "longest": b"\xff" * 5 + b"x" * 1000,
    "shorter than announced": struct.pack(">BI", Action.RELAY, 100) + b"x" * 99,
    "unknown action": struct.pack(">BI", 9, 3) + b"abc",
    "garbage": os.urandom(4096),
}


@pytest.mark.parametrize("frame", HOSTILE_FRAMES.values(), ids=HOSTILE_FRAMES)
def test_hostile_frames_are_refused_and_the_door_stays_open(path: Path, frame: bytes) -> None:
    before = boot_of(path)
    code, data = raw(path, frame)
    assert code == AnswerCode.REFUSED
    assert data in {b"", b"t1"}
    assert boot_of(path) == before, "the session is the same"


def test_hostile_requests_are_refused_with_a_code_alone(
    path: Path, federation: FederationFolder, told: list[str]
) -> None:
    before = boot_of(path)
    forged = sign_ticket("127.0.0.1:1", federation.roster, SigningKey(bytes(32)))
    requests = [
        (Action.JOIN, b""),
        (Action.JOIN, os.urandom(100)),
        (Action.JOIN, forged),
        (Action.RELAY, b""),
        (Action.RELAY, os.urandom(100)),
        (Action.RELAY, Parcel(b"short").to_bytes()),
        (Action.RELAY, Parcel(SESSION, (b"",)).to_bytes()),
        (Action.RELAY, Parcel(SESSION, (os.urandom(1000),)).to_bytes()),
    ]
    for action, data in requests:
        assert ask(path, action, data, 5.0) == (AnswerCode.REFUSED, b"t1")
    assert len(told) == len(requests), "the tenant's operator is told"
    assert boot_of(path) == before


def test_who_never_writes_is_not_waited_for_long(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket_door, "_SECONDS_TO_READ", 0.2)
    with socket.socket(socket.AF_UNIX) as silent, socket.socket(socket.AF_UNIX) as gone:
        silent.connect(str(path))
        gone.connect(str(path))
        gone.close()
        assert boot_of(path)
        assert read_frame(silent, 5.0) == (AnswerCode.REFUSED, b"")


def test_another_session_gets_another_process_as_far_as_anybody_can_tell(path: Path) -> None:
    before = boot_of(path)
    code, data = ask(path, Action.RELAY, Parcel(bytes(16)).to_bytes(), 5.0)
    hello = unseal(Parcel.from_bytes(data, "t1").messages[0], "t1").content
    assert code is AnswerCode.DONE
    assert isinstance(hello, Hello)
    assert hello.boot != before


def test_a_tenant_that_dials_is_busy_until_nobody_answers(
    path: Path, federation: FederationFolder, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flower_tenant, "_PATIENCE", 0.0)
    server = open_tenant(federation.tenant("t1")).roster.server
    keys = federation.server.keys
    from fed_em_protocols.party import load_keys

    identity = load_keys(keys).identity
    assert identity.public == server.identity_key
    ticket = sign_ticket("127.0.0.1:9", federation.roster, identity)
    assert ask(path, Action.JOIN, ticket, 5.0) == (AnswerCode.DONE, b"t1")
    assert ask(path, Action.JOIN, ticket, 5.0) == (AnswerCode.BUSY, b"t1")
    assert ask(path, Action.RELAY, Parcel(SESSION).to_bytes(), 5.0)[0] is AnswerCode.BUSY


def test_permissions(doors: Path) -> None:
    with SocketDoor(doors / "own" / "door"):
        assert stat.S_IMODE((doors / "own").stat().st_mode) == 0o700
        assert stat.S_IMODE((doors / "own" / "door").stat().st_mode) == 0o600
    assert not (doors / "own" / "door").exists()
    (doors / "shared").mkdir(mode=0o750)
    with SocketDoor(doors / "shared" / "door"):
        assert stat.S_IMODE((doors / "shared" / "door").stat().st_mode) == 0o660
    (doors / "open").mkdir()
    (doors / "open").chmod(0o755)
    with pytest.raises(CallerError, match="open to everybody"):
        SocketDoor(doors / "open" / "door")


def test_only_a_dead_process_s_socket_is_taken_over(doors: Path) -> None:
    left_behind = socket.socket(socket.AF_UNIX)
    left_behind.bind(str(doors / "door"))
    left_behind.close()
    with SocketDoor(doors / "door"), pytest.raises(CallerError, match="another process"):
        SocketDoor(doors / "door")
    (doors / "file").touch()
    with pytest.raises(CallerError, match="is no socket"):
        SocketDoor(doors / "file")
    with pytest.raises(CallerError, match="too long"):
        SocketDoor(doors / ("d" * 120))


def answer_of(reply: Message) -> tuple[int, bytes]:
    """All that a reply says."""
    assert not reply.has_error()
    assert list(reply.content) == [RECORD]
    record = reply.content.config_records[RECORD]
    assert set(record) == {CODE, DATA}
    return int(record[CODE]), bytes(record[DATA])  # type: ignore[arg-type]


def test_the_client_app_passes_bytes_both_ways(path: Path) -> None:
    parcel = Parcel(SESSION).to_bytes()
    code, data = answer_of(app(message_to_node(Action.RELAY, parcel), context_of({"socket": str(path)})))
    assert code == AnswerCode.DONE
    assert data == ask(path, Action.RELAY, parcel, 5.0)[1]


@pytest.mark.parametrize("action", list(Action))
def test_no_exception_and_no_text_leaves_the_client_app(
    action: Action, doors: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def quotes_a_row(*_: object) -> tuple[AnswerCode, bytes]:
        raise ValueError("row 3 holds 17.5")

    nobody = context_of({"socket": str(doors / "nobody")})
    assert answer_of(app(message_to_node(action, b"x"), nobody)) == (AnswerCode.NO_TENANT, b"")
    assert answer_of(app(message_to_node(action, b"x"), context_of({}))) == (AnswerCode.NO_TENANT, b"")
    missing = context_of({"partition-id": 7}, {"federation": str(doors)})
    expected = AnswerCode.FAILED if action is Action.JOIN else AnswerCode.NO_TENANT
    assert answer_of(app(message_to_node(action, b"x"), missing)) == (expected, b"")
    strange = message_to_node(action, b"x")
    strange.content = RecordDict({"other": ConfigRecord()})
    assert answer_of(app(strange, nobody)) == (AnswerCode.FAILED, b"")
    monkeypatch.setattr(flower_app, "ask", quotes_a_row)
    assert answer_of(app(message_to_node(action, b"x"), nobody)) == (AnswerCode.FAILED, b"")


def test_an_answer_from_something_that_is_no_tenant_goes_no_further(doors: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(doors / "door"))
    listener.listen()

    def answer_with_text() -> None:
        connection, _ = listener.accept()
        with connection:
            read_frame(connection, 5.0)
            write_frame(connection, 77, b"row 3 holds 17.5")

    thread = threading.Thread(target=answer_with_text)
    thread.start()
    reply = app(message_to_node(Action.RELAY, b"x"), context_of({"socket": str(doors / "door")}))
    thread.join()
    listener.close()
    assert answer_of(reply) == (AnswerCode.FAILED, b"")


def test_frames_of_hostile_lengths_take_no_memory() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(struct.pack(">BI", 1, MAX_REQUEST_BYTES + 1))
        with pytest.raises(BadFrame, match="limit"):
            read_frame(ours, 1.0)


def test_the_pipe_loads_nothing_of_the_tenant() -> None:
    """Flower starts its process anew for every message; and what is not loaded cannot be misused."""
    probe = "import sys, fed_em_client.flower_app; print(*sorted(m for m in sys.modules if m.startswith('fed_em')))"
    found = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True).stdout.split()
    own = ["fed_em_client", "fed_em_client.door_frames", "fed_em_client.flower_app"]
    names = [
        "fed_em_protocols",
        "fed_em_protocols.limits",
        "fed_em_protocols.wire",
        "fed_em_protocols.wire.grid_messages",
    ]
    assert found == own + names


def test_requests_that_come_at_once_over_two_nodes_meet_one_session(
    federation: FederationFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the server would hear the Hello of one process and the answers of another, and take the tenant for a liar."""
    tenant = FlowerTenant(open_tenant(federation.tenant("t1")), VolatileMarks(), [].append)
    fresh = tenant._fresh

    def slowly() -> TenantSession:
        time.sleep(0.1)
        return fresh()

    monkeypatch.setattr(tenant, "_fresh", slowly)
    with ThreadPoolExecutor(2) as pool:
        asked = Parcel(SESSION, ()).to_bytes()
        answers = list(pool.map(lambda _: tenant.answer(Action.RELAY, asked), range(2)))
    hellos = [unseal(Parcel.from_bytes(data, "t1").messages[0], "t1").content for _, data in answers]
    assert all(isinstance(hello, Hello) for hello in hellos)
    assert hellos[0] == hellos[1]
