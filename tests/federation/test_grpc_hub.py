"""A link over gRPC carries no more than is read: what a tenant floods the server with stays in the tenant's own machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest

from fed_em_client.grpc_link import Endpoint, GrpcLink
from fed_em_protocols.envelope import seal
from fed_em_protocols.keys import SigningKey
from fed_em_protocols.limits import MAX_ROUND, MAX_VECTOR_LENGTH
from fed_em_protocols.messages import Upload
from fed_em_protocols.party import load_keys
from fed_em_server import grpc_hub
from fed_em_server.grpc_hub import GrpcHub
from fed_em_server.hub import Arrived, Unlinked
from tests.parties.forest import Parties, found_parties

SOON = 10.0


@pytest.fixture(scope="module")
def parties(tmp_path_factory: pytest.TempPathFactory) -> Parties:
    return found_parties(tmp_path_factory.mktemp("parties"), datetime.now(UTC))


@pytest.fixture
def hub(parties: Parties) -> Iterator[GrpcHub]:
    keys = load_keys(parties.folder / "server")
    opened = GrpcHub("127.0.0.1:0", parties.roster, keys.tls_key, keys.tls_certificate)
    yield opened
    opened.close()


def dialled(parties: Parties, hub: GrpcHub) -> GrpcLink:
    """A link of the first tenant in the roster."""
    keys = load_keys(parties.folder / "ash")
    return GrpcLink(Endpoint(f"127.0.0.1:{hub.port}", parties.roster, keys.tls_key, keys.tls_certificate))


@pytest.fixture
def link(parties: Parties, hub: GrpcHub) -> Iterator[GrpcLink]:
    with dialled(parties, hub) as opened:
        yield opened


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_no_more_is_taken_in_than_is_read(hub: GrpcHub, link: GrpcLink) -> None:
    messages = [b"%d" % k for k in range(5 * grpc_hub._MOST_UNREAD)]
    for message in messages:
        link.send(message)
    wait_until(lambda: hub._events.qsize() == grpc_hub._MOST_UNREAD)
    time.sleep(0.2)
    assert hub._events.qsize() == grpc_hub._MOST_UNREAD
    events = [hub.receive(hub.now() + SOON) for _ in messages]
    assert [event.data for event in events if isinstance(event, Arrived)] == messages


def test_nor_over_links_that_are_dialled_anew(parties: Parties, hub: GrpcHub) -> None:
    """Each of which takes in what the server's reading makes room for, and no more."""
    most = grpc_hub._MOST_UNREAD
    for _ in range(3):
        with dialled(parties, hub) as link:
            for _ in range(2 * most):
                link.send(b"more")
            wait_until(lambda: hub._events.qsize() >= most)
            time.sleep(0.2)
    with dialled(parties, hub) as link:
        link.send(b"last")
        time.sleep(0.2)
        waiting = [hub.receive(hub.now()) for _ in range(hub._events.qsize())]
        assert sum(isinstance(event, Arrived) for event in waiting) == most
        wait_until(lambda: hub.receive(hub.now() + 0.1) == Arrived(0, b"last"))


def test_nor_more_bytes_than_the_largest_message_has(
    hub: GrpcHub, link: GrpcLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sixteen of the largest messages would be half a gigabyte."""
    monkeypatch.setattr(grpc_hub, "_MOST_UNREAD_BYTES", 1 << 20)
    messages = [bytes([k]) * (300 << 10) for k in range(12)]
    for message in messages:
        link.send(message)
    wait_until(lambda: hub._events.qsize() == 4)
    time.sleep(0.2)
    assert hub._events.qsize() == 4
    events = [hub.receive(hub.now() + SOON) for _ in messages]
    assert [event.data for event in events if isinstance(event, Arrived)] == messages


def test_the_largest_upload_does_not_keep_the_next_message_out() -> None:
    content = Upload(bytes(16), MAX_ROUND, bytes(32))
    around = len(seal(content, SigningKey(bytes(32)), b"1").to_bytes())
    assert around + 8 * MAX_VECTOR_LENGTH < grpc_hub._MOST_UNREAD_BYTES


def test_a_tenant_that_was_cut_is_heard_no_more(parties: Parties, hub: GrpcHub) -> None:
    """What it had sent on its links, by the time of the cut or shortly after, is lost with them; a new link is heard."""
    with dialled(parties, hub) as first:
        first.send(b"first link")
        wait_until(lambda: hub._events.qsize() == 1)
        with dialled(parties, hub) as second:
            for _ in range(grpc_hub._MOST_UNREAD + 5):
                second.send(b"second link")
            wait_until(lambda: hub._events.qsize() == grpc_hub._MOST_UNREAD)
            hub.cut(0)
            assert hub.receive(hub.now() + 0.5) is None
            assert list(second) == []
    with dialled(parties, hub) as third:
        third.send(b"third link")
        assert hub.receive(hub.now() + SOON) == Arrived(0, b"third link")


def test_a_tenant_that_does_not_read_loses_its_link(
    hub: GrpcHub, link: GrpcLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grpc_hub, "_MOST_UNSENT", 4)
    link.send(b"hello")
    assert hub.receive(hub.now() + SOON) == Arrived(0, b"hello")
    for _ in range(100):  # more than the buffers on the way hold
        hub.send(0, bytes(1 << 20))
    assert hub.receive(hub.now() + SOON) == Unlinked(0)


def test_one_that_reads_gets_everything(hub: GrpcHub, link: GrpcLink) -> None:
    link.send(b"hello")
    assert hub.receive(hub.now() + SOON) == Arrived(0, b"hello")
    heard = iter(link)
    for k in range(3 * grpc_hub._MOST_UNSENT):
        hub.send(0, b"%d" % k)
        assert next(heard) == b"%d" % k
