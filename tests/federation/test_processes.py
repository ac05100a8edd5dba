"""Sessions over gRPC with real tenant processes: all answering, killed, frozen, and refused."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc
import numpy as np
import pytest
from small_federation import Recorder, clustered_rows, session_toml, write_small_federation
from test_equals_pooled import assert_same_path, pooled_from_same_start

from fed_em.errors import EnvironmentFault
from fed_em.model_file import load_model
from fed_em_client.grpc_link import Endpoint, GrpcLink, serve_session
from fed_em_client.take_part import open_tenant
from fed_em_client.tenant_session import SessionLeft
from fed_em_protocols.coordinator_state import Notice, NoticeKind
from fed_em_protocols.limits import MAX_MESSAGE_BYTES
from fed_em_server.grpc_hub import GrpcHub
from fed_em_server.record import Participation, RoundRecord
from fed_em_server.serve import open_server
from fed_em_server.session import SessionOutcome, run_session
from fed_em_simulations.federation_folder import FederationFolder
from fed_em_simulations.tenant_fleet import TenantFleet, tenant_processes
from fed_em_simulations.volatile_marks import VolatileMarks

# Six tenants, so two blocks of three: t0, t2, t4 and t1, t3, t5.
SIZES = (60, 50, 40, 30, 20, 45)
SLOW_CONVERGENCE = "tolerance = 1e-9\nmax_iterations = 300"


class FaultMaker(Recorder):
    """A recorder that makes trouble at chosen notices, before the server goes on."""

    def __init__(self, fleet: TenantFleet, killed: str = "", frozen: str = "") -> None:
        super().__init__()
        self.fleet, self.killed, self.frozen = fleet, killed, frozen
        self.restarted = False
        self.frozen_in = 0

    def noticed(self, notice: Notice) -> None:
        super().noticed(notice)
        uploaded = notice.kind is NoticeKind.UPLOADED and self.killed in notice.tenants
        if uploaded and notice.round >= 4 and not self.restarted:
            self.restarted = True
            self.fleet.restart(self.killed)
        asked = notice.kind is NoticeKind.ROUND_STARTED and {self.killed, self.frozen} <= set(notice.tenants)
        if asked and notice.round >= 6 and not self.frozen_in:
            self.fleet.stop(self.frozen)
            self.frozen_in = notice.round

    def round_opened(self, record: RoundRecord) -> None:
        super().round_opened(record)
        if self.frozen_in and record.round == self.frozen_in + 3:
            self.fleet.resume(self.frozen)

    def parts(self, name: str) -> list[Participation]:
        assert self.record is not None
        index = self.record.tenants.index(name)
        return [record.participation[index] for record in self.rounds]


def federate(federation: FederationFolder, killed: str = "", frozen: str = "") -> tuple[SessionOutcome, FaultMaker]:
    server = open_server(federation.server)
    hub = server.hub()
    with tenant_processes(federation, lambda _: ["--server", f"127.0.0.1:{hub.port}"]) as fleet:
        watcher = FaultMaker(fleet, killed, frozen)
        outcome = run_session(server.plan("grpc"), hub, watcher)
    return outcome, watcher


def test_grpc_federation_is_pooled_em_and_every_tenant_keeps_the_model(tmp_path: Path) -> None:
    """As few tenants as there can be: each takes a second of processor time to start."""
    tenants = clustered_rows(SIZES[:3])
    federation = write_small_federation(tmp_path / "f", tenants)
    outcome, _ = federate(federation)
    assert outcome.record.converged
    rows = np.concatenate(list(tenants.values()))
    assert_same_path(outcome, pooled_from_same_start(federation, outcome.result, rows))
    for name in tenants:
        kept = load_model(federation.tenant(name).state / "model")
        assert kept.parameters.distance(outcome.fitted.parameters) == 0


@pytest.mark.slow
@pytest.mark.timeout(700)
def test_a_killed_tenant_is_recovered_and_comes_back_while_another_is_frozen(tmp_path: Path) -> None:
    # Patient with the killed one: without its block the fit would converge before it is back.
    times = "gather = 300\npatience = 60\nstraggler = 0.5\nset_up = 5\nupload = 10\nopen = 2"
    session = session_toml(fit=SLOW_CONVERGENCE, times=times)
    federation = write_small_federation(tmp_path / "f", clustered_rows(SIZES), session)
    outcome, watcher = federate(federation, killed="t1", frozen="t3")
    assert outcome.record.converged
    killed, frozen = watcher.parts("t1"), watcher.parts("t3")
    assert killed[3] is Participation.RECOVERED, "its upload of round 4 was in, it died before it could open"
    assert killed[-1] is Participation.SUMMED, "it joined a later window"
    assert Participation.LATE in frozen
    assert frozen[-1] is Participation.SUMMED
    assert outcome.record.rounds[-1].complete
    joins = [notice for notice in watcher.notices if notice.kind is NoticeKind.JOINED and "t1" in notice.tenants]
    assert len(joins) == 2


@pytest.mark.slow
def test_a_tenant_out_of_bounds_leaves_with_a_clear_error_and_the_others_go_on(tmp_path: Path) -> None:
    tenants = clustered_rows(SIZES)
    tenants["t2"][7, 1] = 20.5
    # Two iterations: without the tenant that left, nothing converges.
    federation = write_small_federation(tmp_path / "f", tenants, session_toml(fit="max_iterations = 2"))
    outcome, watcher = federate(federation)
    assert not outcome.record.converged
    assert len(outcome.record.rounds) == 3
    refusals = [notice for notice in watcher.notices if notice.kind is NoticeKind.REFUSED]
    assert [notice.tenants for notice in refusals] == [("t2",)]
    log = (federation.tenant_files["t2"].parent / "log.txt").read_text()
    assert "column 'b'" in log
    assert "20.5" not in log, "a value of a row is never shown"


@contextmanager
def listening(federation: FederationFolder) -> Iterator[GrpcHub]:
    hub = open_server(federation.server).hub()
    try:
        yield hub
    finally:
        hub.close()


def endpoint_of(federation: FederationFolder, name: str, port: int) -> Endpoint:
    return open_tenant(federation.tenant(name)).endpoint(f"127.0.0.1:{port}")


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    federation = write_small_federation(tmp_path / "f", clustered_rows((5, 5, 5)))
    with listening(federation) as hub:
        text = federation.session_file.read_text().replace("127.0.0.1:0", f"127.0.0.1:{hub.port}")
        federation.session_file.write_text(text)
        with pytest.raises(EnvironmentFault, match=str(hub.port)):
            open_server(federation.server).hub()


def test_a_certificate_that_is_not_in_the_roster_gets_no_link(tmp_path: Path) -> None:
    ours = write_small_federation(tmp_path / "ours", clustered_rows((5, 5, 5)))
    theirs = write_small_federation(tmp_path / "theirs", clustered_rows((5, 5, 5)))
    with listening(ours) as hub:
        stranger = endpoint_of(theirs, "t0", hub.port)
        # It trusts our server, and shows a certificate that our roster does not hold.
        deceiver = Endpoint(stranger.address, ours.roster, stranger.tls_key, stranger.tls_certificate)
        for endpoint in (stranger, deceiver):
            with GrpcLink(endpoint) as link:
                link.send(b"hello")
                with pytest.raises(grpc.RpcError):
                    list(link)
        assert hub.receive(hub.now() + 0.2) is None


def test_a_server_that_does_not_answer_is_given_up_with_what_to_do(tmp_path: Path) -> None:
    federation = write_small_federation(tmp_path / "f", clustered_rows((5, 5, 5)))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    tenant = open_tenant(federation.tenant("t0"))
    session = tenant.session(VolatileMarks(), tenant.work())
    said: list[str] = []
    with pytest.raises(EnvironmentFault, match=f"127.0.0.1:{port}.*doctor"):
        serve_session(session, tenant.endpoint(f"127.0.0.1:{port}"), 1.0, said.append)
    assert said


# Nothing at all, noise, and a message of another version.
NONSENSE = (b"", b"\xff" * 100, b"\x08\x07" + bytes(50))


@pytest.mark.slow
def test_a_tenant_that_sends_nonsense_is_cut_off_each_time_and_the_session_ends_well(tmp_path: Path) -> None:
    times = "gather = 30\npatience = 0.2\nstraggler = 0.5\nset_up = 5\nupload = 5\nopen = 2"
    session = session_toml(times=times, fit="max_iterations = 3")
    federation = write_small_federation(tmp_path / "f", clustered_rows((40, 30, 30, 30, 30, 30)), session)
    server = open_server(federation.server)
    hub = server.hub()
    endpoint = endpoint_of(federation, "t0", hub.port)

    def talk_nonsense() -> None:
        for message in NONSENSE:
            with GrpcLink(endpoint) as link:
                link.send(message)
                with suppress(grpc.RpcError):
                    list(link)

    vandal = threading.Thread(target=talk_nonsense)
    watcher = Recorder()
    fleet = TenantFleet(federation, lambda _: ["--server", f"127.0.0.1:{hub.port}"])
    names = ("t1", "t2", "t3", "t4", "t5")
    for name in names:
        fleet.start(name)
    # The session waits for the one who never joins, and should not have to for processes that are slow to start.
    while len(hub._links) < len(names):
        time.sleep(0.05)
    vandal.start()
    outcome = run_session(server.plan("grpc"), hub, watcher)
    fleet.wait(120)
    vandal.join(120)
    assert not vandal.is_alive()
    assert len(outcome.record.rounds) == 4
    faults = [notice for notice in watcher.notices if notice.kind is NoticeKind.FAULT]
    assert [fault.tenants for fault in faults] == [("t0",)] * len(NONSENSE)


def test_an_oversized_message_ends_its_own_link_only(tmp_path: Path) -> None:
    federation = write_small_federation(tmp_path / "f", clustered_rows((5, 5, 5)))
    with listening(federation) as hub:
        with GrpcLink(endpoint_of(federation, "t0", hub.port)) as link:
            link.send(bytes(MAX_MESSAGE_BYTES + 10_000))
            with pytest.raises(grpc.RpcError) as refused:
                list(link)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        with GrpcLink(endpoint_of(federation, "t1", hub.port)) as link:
            link.send(b"still here")
            while (event := hub.receive(hub.now() + 5)) is not None:
                if getattr(event, "data", b"") == b"still here":
                    break
            assert event is not None


def test_a_server_with_another_roster_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    """The server restarts with a second version of the roster, which the tenant has not approved."""
    session = session_toml(times="gather = 2")
    federation = write_small_federation(tmp_path / "f", clustered_rows((20, 20, 20)), session)
    newer = federation.roster.model_copy(update={"version": 2})
    (federation.folder / "server" / "roster.json").write_text(newer.to_json())
    server = open_server(federation.server)
    hub = server.hub()
    tenant = open_tenant(federation.tenant("t0"))
    ours = tenant.session(VolatileMarks(), tenant.work())
    watcher = Recorder()
    ended: list[SessionLeft] = []

    def take_part() -> None:
        try:
            serve_session(ours, tenant.endpoint(f"127.0.0.1:{hub.port}"), 1.0, [].append)
        except SessionLeft as error:
            ended.append(error)

    thread = threading.Thread(target=take_part)
    thread.start()
    with pytest.raises(EnvironmentFault):
        run_session(server.plan("grpc"), hub, watcher)
    thread.join(120)
    assert [error.message for error in ended] == ["the session runs on another roster than the one pinned here"]
    faults = [notice for notice in watcher.notices if notice.kind is NoticeKind.FAULT]
    assert "another roster" in faults[0].text
    assert ours.over
