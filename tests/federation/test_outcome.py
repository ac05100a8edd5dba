"""What a session leaves behind: nothing of an earlier one is lost, and nothing but the agreed model is kept."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from small_federation import Recorder, clustered_rows, memory_hub, session_toml, write_small_federation

from fed_em.broadcast import Broadcast
from fed_em.coordinates import Coordinates
from fed_em.errors import CallerError, EnvironmentFault
from fed_em.initialisation import moments_model, standard_gaussian
from fed_em_client.rows_work import RowsWork
from fed_em_client.take_part import SessionFailed, keep_model, open_tenant
from fed_em_client.tenant_session import TenantSession
from fed_em_protocols.errors import PeerFault
from fed_em_protocols.messages import CloseReason
from fed_em_server.serve import claim_output, open_server
from fed_em_server.session import run_session


def prepared_work(folder: Path) -> RowsWork:
    federation = write_small_federation(folder / "f", clustered_rows((10, 10, 10)))
    work = open_tenant(federation.tenant("t0")).work()
    work.prepare(federation.server.description.to_json())
    return work


def session_closed_with(attachment: bytes, reason: CloseReason = CloseReason.FINISHED) -> TenantSession:
    content = SimpleNamespace(reason=int(reason), session=bytes(16), rounds=3)
    return cast(TenantSession, SimpleNamespace(closed=SimpleNamespace(content=content, attachment=attachment)))


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
    strict.write_text(strict.read_text().replace("allow_semi_honest = true", "allow_semi_honest = false"))
    hub = memory_hub(federation)
    with pytest.raises(EnvironmentFault, match="refused the session: t1"):
        run_session(open_server(federation.server).plan("memory"), hub, Recorder())
    for index in (0, 2):
        session = hub.session_of(index)
        assert session is not None and session.over
