"""Private sessions with real tenant processes over gRPC: ledgers on disk say what was uploaded, whoever is killed, and budgets hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from kinds import rounds_opened
from small_federation import Killing, Recorder, clustered_rows, session_toml, write_small_federation

from fed_em.centres import CENTRE_ROUNDS
from fed_em.model_file import load_model
from fed_em_client.privacy_ledger import ledger_files, read_spends
from fed_em_client.privacy_spends import PrivacySpends
from fed_em_protocols.coordinator_state import NoticeKind
from fed_em_server.serve import open_server
from fed_em_server.session import SessionOutcome, run_session
from fed_em_simulations.federation_folder import FederationFolder
from fed_em_simulations.tenant_fleet import tenant_processes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

# Two blocks: t0, t2, t4 and t1, t3, t5.
SIZES = (300,) * 6
KILLED, SPARING = "t1", "t5"
TIMES = "gather = 120\npatience = 0.05\nstraggler = 5\nset_up = 10\nupload = 20\nopen = 5"
SPARE, ROUNDS = 3, 6
FIT = f"max_iterations = {ROUNDS}"
PRIVATE = f"\n[privacy]\nepsilon = 20\ndelta = 1e-5\nspare_sums = {SPARE}\n"
BUDGET = "[policy.privacy]\nrequired = true\nepsilon = 24\ndelta = 1e-5"


def private_federation(folder: Path) -> FederationFolder:
    session = session_toml(fit=FIT, times=TIMES, start="starts = 2").replace("[times]", PRIVATE + "[times]")
    federation = write_small_federation(folder, clustered_rows(SIZES), session, policy=BUDGET)
    for name, path in federation.tenant_files.items():
        if name != SPARING:  # which can afford one session; the others can afford several
            path.write_text(path.read_text().replace("epsilon = 24", "epsilon = 240"))
    return federation


def federate(federation: FederationFolder, killed: bool = False) -> tuple[SessionOutcome, Recorder]:
    """A session; a tenant that is to be killed is so after its upload of the fourth round, and starts anew."""
    server = open_server(federation.server)
    plan, hub = server.plan("grpc"), server.hub()
    with tenant_processes(federation, lambda _: ["--server", f"127.0.0.1:{hub.port}"]) as fleet:
        log = federation.tenant_files[KILLED].parent / "log.txt"
        moments = (rounds_opened(3),) if killed else ()
        watcher = Killing(KILLED, moments, lambda: fleet.restart(KILLED), log)
        outcome = run_session(plan, hub, watcher)
    return outcome, watcher


def spends_of(federation: FederationFolder, name: str) -> PrivacySpends:
    return read_spends(ledger_files(federation.tenant(name)))


def uploads_of(watcher: Recorder, name: str) -> list[int]:
    """The rounds in which the server got its upload, in time or not."""
    kinds = {NoticeKind.UPLOADED, NoticeKind.LATE}
    came = (each for each in watcher.notices if each.kind in kinds and name in each.tenants)
    return [each.round for each in came if each.kind is NoticeKind.UPLOADED or each.text]


def test_ledgers_say_what_was_uploaded_and_a_budget_keeps_a_tenant_out_of_the_next_session(tmp_path: Path) -> None:
    federation = private_federation(tmp_path / "f")
    outcome, watcher = federate(federation, killed=True)
    privacy, session = outcome.record.privacy, bytes.fromhex(outcome.record.session)
    assert privacy is not None and privacy.sums == 1 + CENTRE_ROUNDS + ROUNDS + SPARE
    joined = [each for each in watcher.notices if each.kind is NoticeKind.JOINED and KILLED in each.tenants]
    assert len(joined) == 2, "it was killed and came back"
    assert len(uploads_of(watcher, KILLED)) < len(outcome.record.rounds), "and missed some sums"
    for name in federation.tenant_files:
        kept = load_model(federation.tenant(name).state / "model")
        assert kept.parameters.distance(outcome.fitted.parameters) == 0
        spent = spends_of(federation, name).sessions[session]
        assert sorted(spent.charged) == uploads_of(watcher, name), "each sum that left is charged, once, and no other"
        assert spent.plan == privacy.spend
        assert spent.rest > 0 and spent.reserved is None, "what was left is given back"

    before = spends_of(federation, SPARING)
    again, watcher = federate(federation)
    refused = [each.tenants for each in watcher.notices if each.kind is NoticeKind.REFUSED]
    assert refused == [(SPARING,)] and not uploads_of(watcher, SPARING)
    assert spends_of(federation, SPARING) == before
    said = (federation.tenant_files[SPARING].parent / "log.txt").read_text()
    assert "the session asks for ε = 20 at δ = 1e-05" in said and "policy allows in 365 days" in said
    assert len(again.record.rounds) == 1 + CENTRE_ROUNDS + ROUNDS, "the other block goes on"
    assert {opened.summed for opened in again.record.rounds} == {3}
    assert np.isfinite(again.fitted.parameters["means"]).all()
