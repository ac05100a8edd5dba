"""Every kind of session with real tenant processes over gRPC, one of which is killed in the middle: the same fit as in one place."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import test_standard_error_sessions
import test_streams
import test_tenant_weights
from small_federation import MODEL, Comeback, clustered_rows, session_toml, write_three_blocks
from test_optimised_session import OVERLAPPING, gap
from test_processes import FaultMaker

from fed_em.em import Step
from fed_em.records import Records
from fed_em.starts import ROUNDS
from fed_em_client.take_part import OWN_MODEL_FOLDER
from fed_em_client.tenant_log_file import LOG_FILE
from fed_em_protocols.coordinator_state import NoticeKind
from fed_em_protocols.transcript.tenant_log import read_tenant_log
from fed_em_server.record import RoundRecord
from fed_em_server.serve import open_server
from fed_em_server.session import SessionOutcome, SessionPlan, run_session
from fed_em_simulations.federation_folder import FederationFolder
from fed_em_simulations.tenant_fleet import TenantFleet, tenant_processes

pytestmark = pytest.mark.slow

KILLED = "t1"
TIMES = "gather = 200\npatience = 0.05\nstraggler = 0.5\nset_up = 5\nupload = 10\nopen = 2"


def federation_of(
    tmp_path: Path, model: str, fit: str, optimiser: str = "em", start: str = "starts = 0"
) -> FederationFolder:
    tenants = clustered_rows((60, 50, 40, 30, 40, 45, 35, 30, 55))
    return write_three_blocks(
        tmp_path / "f", tenants, session_toml(model, fit, TIMES, optimiser=optimiser, start=start)
    )


class Waiting(FaultMaker):
    """Kills a tenant, and is in no hurry while it is away."""

    def __init__(self, fleet: TenantFleet, federation: FederationFolder, killed: str) -> None:
        super().__init__(fleet, killed)
        self._comeback = Comeback(federation.tenant_files[killed].parent / "log.txt", killed)

    def round_opened(self, record: RoundRecord) -> None:
        super().round_opened(record)
        if self.restarted and not record.complete:
            self._comeback.wait()


def federate(federation: FederationFolder) -> tuple[SessionPlan, SessionOutcome]:
    """A session in which a tenant is killed after its upload of round 4 and starts anew."""
    server = open_server(federation.server)
    plan, hub = server.plan("grpc"), server.hub()
    with tenant_processes(federation, lambda _: ["--server", f"127.0.0.1:{hub.port}"]) as fleet:
        watcher = Waiting(fleet, federation, KILLED)
        outcome = run_session(plan, hub, watcher)
    joined = [notice for notice in watcher.notices if notice.kind is NoticeKind.JOINED and KILLED in notice.tenants]
    assert len(joined) == 2, "it was killed and came back"
    return plan, outcome


def batches_taken(federation: FederationFolder, name: str, moments: int, opened: Sequence[int]) -> dict[int, int]:
    """The minibatch that a tenant took in each round of the model, by its own log of what it sent.

    One after the other, from 0 in its first process and from the number of the first round in a later one; rounds that failed were at the
    parameters of the next that was opened, and over the same.
    """
    log = read_tenant_log((federation.tenant(name).state / LOG_FILE).read_bytes(), name, federation.roster)
    taken: dict[int, int] = {}
    processes, batch, point = 0, 0, None
    for line in log:
        if line.way == "sent" and line.kind == "Hello":
            processes, point = processes + 1, None
        elif line.way == "sent" and line.kind == "Upload" and line.round > moments:
            at = next((each for each in opened if each >= line.round), None)
            if at != point:
                first = 0 if processes == 1 else line.round
                batch, point = (first if point is None else batch + 1), at
            taken[line.round] = batch
    return taken


def test_a_stream(tmp_path: Path) -> None:
    federation = federation_of(tmp_path, test_streams.MODEL + test_streams.STREAM, "max_iterations = 60")
    plan, outcome = federate(federation)
    summed = test_streams.summed_in(outcome)
    assert {len(names) for names in summed.values()} > {9}, "some rounds were without its block"
    moments = outcome.record.rounds[0].round
    taken = {name: batches_taken(federation, name, moments, list(summed)) for name in federation.tenant_files}
    test_streams.assert_equal(outcome, test_streams.in_one_place(plan, federation, outcome.result, summed, taken))


def test_own_mixing_weights(tmp_path: Path) -> None:
    model = test_tenant_weights.MODEL.format("full")
    federation = federation_of(tmp_path, model, "tolerance = 1e-9\nmax_iterations = 60")
    _, outcome = federate(federation)
    assert any(iteration.stale for iteration in outcome.result.fit.iterations)
    test_tenant_weights.assert_equals_one_place(federation, outcome)
    for name in federation.tenant_files:
        assert (federation.tenant(name).state / OWN_MODEL_FOLDER).is_dir()


def test_an_optimiser(tmp_path: Path) -> None:
    federation = federation_of(tmp_path, OVERLAPPING, "tolerance = 1e-8\nmax_iterations = 200", "lbfgs")
    _, outcome = federate(federation)
    steps = {iteration.step for iteration in outcome.result.fit.iterations}
    assert steps >= {Step.LEAP, Step.PAUSED}, "and it was off while the tenant was away"
    assert outcome.result.fit.converged
    rows = np.concatenate([one.rows for one in test_streams.records_of(federation).values()])
    assert gap(outcome, rows) < 1e-6


def test_starts_and_standard_errors(tmp_path: Path) -> None:
    """It is killed in a round of candidates."""
    fit = "tolerance = 1e-9\nmax_iterations = 300\nstandard_errors = true"
    federation = federation_of(tmp_path, MODEL, fit, start="starts = 3")
    _, outcome = federate(federation)
    starts = outcome.record.start_rounds
    assert len(starts) == ROUNDS and {opened.missing for opened in starts} == {0, 3}
    told, fitted = outcome.record.standard_errors, outcome.fitted
    assert told is not None and fitted.errors is not None
    held = test_streams.records_of(federation)
    records = Records.concatenated([held[name] for name in told.tenants])
    test_standard_error_sessions.assert_same_errors(
        fitted.errors, test_standard_error_sessions.in_one_place(fitted, records)
    )
    assert told.records == len(records)
