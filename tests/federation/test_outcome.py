"""What a session leaves behind: nothing of an earlier one is lost, and nothing but the agreed model is kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_federation import Recorder, clustered_rows, memory_hub, session_toml, write_small_federation
from test_equals_pooled import assert_same_path, pooled_from_same_start

from fed_em.broadcast import Broadcast
from fed_em.coordinates import Coordinates
from fed_em.errors import CallerError, EnvironmentFault
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.initialisation import moments_model, standard_gaussian, start_from_moments
from fed_em_client.rows_work import RowsWork
from fed_em_client.take_part import SessionFailed, StatisticsFailed, keep_model, open_tenant
from fed_em_client.tenant_session import TenantSession
from fed_em_protocols.coordinator_state import NoticeKind
from fed_em_protocols.envelope import unseal
from fed_em_protocols.errors import PeerFault, SumFailed
from fed_em_protocols.masks import RingVector
from fed_em_protocols.messages import Certificate, CloseReason, Upload
from fed_em_protocols.ring import RINGS
from fed_em_protocols.tenant_state import Evaluate
from fed_em_server.record import Participation, SessionRecord
from fed_em_server.serve import claim_output, open_server
from fed_em_server.session import run_session
from fed_em_simulations.federation_folder import FederationFolder
from fed_em_simulations.memory_hub import Fate, MemoryHub, Passing
from fed_em_simulations.volatile_marks import VolatileMarks


def prepared_work(folder: Path) -> RowsWork:
    federation = write_small_federation(folder / "f", clustered_rows((10, 10, 10)))
    work = open_tenant(federation.tenant("t0")).work()
    work.prepare(federation.server.description.to_json(), 0)
    return work


def session_closed_with(
    attachment: bytes, reason: CloseReason = CloseReason.FINISHED, fault: CallerError | None = None
) -> TenantSession:
    content = SimpleNamespace(reason=int(reason), session=bytes(16), rounds=3)
    closed = SimpleNamespace(content=content, attachment=attachment)
    return cast(TenantSession, SimpleNamespace(closed=closed, fault=fault))


def test_a_final_model_that_the_session_was_not_about_is_not_kept(tmp_path: Path) -> None:
    work = prepared_work(tmp_path)
    other = Broadcast(moments_model(3), Coordinates.identity(3), standard_gaussian(3)).to_bytes()
    with pytest.raises(PeerFault, match="not about"):
        keep_model(session_closed_with(other), work, tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("reason", CloseReason)
def test_a_session_without_a_model_leaves_none(tmp_path: Path, reason: CloseReason) -> None:
    with pytest.raises(SessionFailed):
        keep_model(session_closed_with(b"", reason), prepared_work(tmp_path), tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("reason", CloseReason)
def test_ones_own_fault_is_told_whatever_became_of_the_session(tmp_path: Path, reason: CloseReason) -> None:
    work, fault = prepared_work(tmp_path), CallerError("column 'a' is broken", remedy="mend it")
    model = work.description.fitted_model
    start = start_from_moments(cast(GaussianMixtureModel, model), standard_gaussian(3), 0)
    final = Broadcast(model, Coordinates.identity(3), start).to_bytes() if reason is CloseReason.FINISHED else b""
    with pytest.raises(StatisticsFailed, match="column 'a' is broken") as told:
        keep_model(session_closed_with(final, reason, fault), work, tmp_path / "model")
    assert told.value.remedy == "mend it"
    assert (tmp_path / "model").exists() == (reason is CloseReason.FINISHED)


def test_who_cannot_compute_tells_its_own_operator_at_once_and_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    federation = write_small_federation(tmp_path / "f", clustered_rows((40, 30, 20, 50, 35)))
    evaluate, told, told_by = RowsWork.evaluate, list[tuple[int, str]](), list[int]()

    def failing(work: RowsWork, asked: Evaluate) -> RingVector:
        if work._index == 3 and asked.round == 4:
            raise CallerError("statistic 'second' is beyond its bound", remedy="look at row 17")
        return evaluate(work, asked)

    monkeypatch.setattr(RowsWork, "evaluate", failing)

    def start(index: int) -> TenantSession:
        tenant = open_tenant(federation.tenant(f"t{index}"))
        marks = VolatileMarks()
        return tenant.session(marks, tenant.work(marks), lambda text: told.append((len(told_by), text)))

    def note(passing: Passing) -> Fate:
        if unseal(passing.data, "").content.__class__ is Upload:
            told_by.append(passing.tenant)
        return Fate.DELIVER

    hub, watcher = MemoryHub([lambda i=i: start(i) for i in range(5)], interfere=note), Recorder()  # type: ignore[misc]
    with pytest.raises(SumFailed, match="round 4: 1 of 5 tenants could not compute their statistics") as failed:
        run_session(open_server(federation.server).plan("memory"), hub, watcher)
    assert len(told) == 2 and "t3" in told[0][1] and "row 17" in told[1][1]
    assert told[0][0] == 15 + told_by[15:20].index(3), "before its upload left"
    for text in (str(failed.value), *(notice.text for notice in watcher.notices)):
        assert "t3" not in text and "row 17" not in text and "second" not in text
    for index in range(5):
        session = hub.session_of(index)
        assert session is not None and session.over
        assert (session.fault is not None) == (index == 3)
        with pytest.raises(StatisticsFailed if index == 3 else SessionFailed):
            keep_model(session, prepared_work(tmp_path / str(index)), tmp_path / "model")


def test_more_faults_than_tenants_are_no_number_of_tenants(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    federation = write_small_federation(tmp_path / "f", clustered_rows((40, 30, 20)))
    evaluate = RowsWork.evaluate

    def lying(work: RowsWork, asked: Evaluate) -> RingVector:
        vector = evaluate(work, asked)
        vector[-RINGS[asked.ring].tail_words] = 4 if work._index == 1 else 0
        return vector

    monkeypatch.setattr(RowsWork, "evaluate", lying)
    with pytest.raises(SumFailed, match="tenants at fault number 4 by the sum, which has 3"):
        run_session(open_server(federation.server).plan("memory"), memory_hub(federation), Recorder())


def test_an_output_folder_is_made_and_nothing_is_left_in_it(tmp_path: Path) -> None:
    claim_output(tmp_path / "new" / "result")
    assert list((tmp_path / "new" / "result").iterdir()) == []


def test_the_model_of_an_earlier_session_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    with pytest.raises(CallerError, match="earlier session"):
        claim_output(tmp_path)


def test_an_output_that_cannot_be_written_is_found_before_the_session(tmp_path: Path) -> None:
    (tmp_path / "afile").write_text("not a folder")
    with pytest.raises(EnvironmentFault, match="afile"):
        claim_output(tmp_path / "afile")


def test_tenants_that_are_still_joining_hear_the_end_of_a_session_that_one_refuses(tmp_path: Path) -> None:
    """One tenant's policy does not admit the session; the others must not be left to dial a server that is gone."""
    federation = write_small_federation(tmp_path / "f", clustered_rows((10, 10, 10)), session_toml(times="gather = 2"))
    strict = federation.tenant_files["t1"]
    strict.write_text(strict.read_text().replace("[policy]", "[policy]\nminimum_cohort = 4"))
    hub = memory_hub(federation)
    with pytest.raises(EnvironmentFault, match="refused the session: t1"):
        run_session(open_server(federation.server).plan("memory"), hub, Recorder())
    for index in (0, 2):
        session = hub.session_of(index)
        assert session is not None and session.over


def one_block(folder: Path, **times: float) -> FederationFolder:
    """Five tenants at the default f = 1: too few for two blocks of three."""
    said = "\n".join(f"{name} = {value}" for name, value in times.items())
    session = session_toml(times=f"patience = 0.01\nstraggler = 0.05\nopen = 0.5\n{said}")
    federation = write_small_federation(folder, clustered_rows((60, 50, 40, 30, 20)), session)
    assert len(federation.roster.blocks) == 1
    return federation


@dataclass
class DiesOnce:
    """A tenant dies before it reads the certificate of a round, and is started again some seconds later, if ever."""

    tenant: int
    round: int
    back_after: float | None
    hub: MemoryHub | None = None

    def __call__(self, passing: Passing) -> Fate:
        content = unseal(passing.data, "").content
        certified = isinstance(content, Certificate) and content.round == self.round
        if not certified or passing.tenant != self.tenant or self.hub is None:
            return Fate.DELIVER
        if self.back_after is not None:
            self.hub.restart(self.tenant, self.back_after)
        self.hub = None
        return Fate.KILL


def test_with_one_block_a_session_pauses_until_the_tenant_is_back_and_loses_nothing(tmp_path: Path) -> None:
    federation = one_block(tmp_path / "f", pause=60)
    death = DiesOnce(2, 5, back_after=7.0)
    death.hub = hub = memory_hub(federation, interfere=death)
    watcher = Recorder()
    outcome = run_session(open_server(federation.server).plan("memory"), hub, watcher)
    paused = [notice for notice in watcher.notices if notice.kind is NoticeKind.PAUSED]
    assert [notice.tenants for notice in paused] == [("t2",)]
    assert "4 of 5 tenants answer, 5 are needed in whole blocks" in paused[0].text
    assert outcome.record.converged
    assert all(opened.complete for opened in outcome.record.rounds)
    assert outcome.record.rounds[4].participation[2] is Participation.RECOVERED
    assert max(opened.seconds for opened in outcome.record.rounds) > 7
    kinds = [happening.kind for happening in outcome.record.happenings]
    assert "paused" in kinds
    rows = np.concatenate(list(clustered_rows((60, 50, 40, 30, 20)).values()))
    assert_same_path(outcome, pooled_from_same_start(federation, outcome.result, rows))


def test_a_pause_ends_and_says_for_whom_it_was(tmp_path: Path) -> None:
    federation = one_block(tmp_path / "f", pause=3)
    death = DiesOnce(2, 5, back_after=None)
    death.hub = hub = memory_hub(federation, interfere=death)
    with pytest.raises(EnvironmentFault, match="missing: t2"):
        run_session(open_server(federation.server).plan("memory"), hub, Recorder())
    assert 3 < hub.now() < 15


def test_a_description_that_is_not_the_pinned_one_is_refused_before_any_row_is_read(tmp_path: Path) -> None:
    federation = write_small_federation(tmp_path / "f", clustered_rows((10, 10, 10)), session_toml(times="gather = 2"))
    pinned = federation.tenant_files["t1"]
    pinned.write_text(pinned.read_text().replace("[policy]", f'[policy]\nschema_hash = "{"0" * 64}"'))
    pq.write_table(pa.table({"nothing": [1.0]}), pinned.parent / "rows.parquet")
    hub = memory_hub(federation)
    with pytest.raises(EnvironmentFault, match="refused the session: t1"):
        run_session(open_server(federation.server).plan("memory"), hub, Recorder())
    assert "schema_hash" in str(hub.error_of(1))


def test_trust_and_blocks_are_in_the_record_and_the_model(tmp_path: Path) -> None:
    trust = 'mode = "semi-honest"\ndifference_guard = "off"'
    session = session_toml(fit="max_iterations = 2").replace("[trust]", f"[trust]\n{trust}")
    federation = write_small_federation(tmp_path / "f", clustered_rows((10, 10, 10)), session)
    for path in federation.tenant_files.values():
        admits = '[policy]\nallow_semi_honest = true\ndifference_guard = "off"'
        path.write_text(path.read_text().replace("[policy]", admits))
    outcome = run_session(open_server(federation.server).plan("memory"), memory_hub(federation), Recorder())
    record = outcome.record
    assert (record.trust, record.blocks, record.certified) == ("semi-honest", (), False)
    assert len(record.warnings) == 1
    assert outcome.fitted.provenance["trust"] == "semi-honest"
    again = SessionRecord.model_validate_json(record.model_dump_json())
    assert again == record
