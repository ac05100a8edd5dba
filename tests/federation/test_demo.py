"""The demonstration keeps its promises: as good as pooled, with trouble and without, over each transport."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest
from small_federation import Comeback, Recorder

from fed_em.errors import CallerError
from fed_em_protocols.coordinator_state import NoticeKind
from fed_em_server.record import Comparison, Participation, RoundRecord, SessionRecord
from fed_em_simulations.demo import Finished, run_demo
from fed_em_simulations.demo_trouble import LAGGARD, VICTIM
from fed_em_simulations.digits import TENANTS, digits_federation
from fed_em_simulations.tenant_fleet import TenantFleet
from tests.protocols.remembering import remembered_protocol

TROUBLED = (VICTIM, LAGGARD)


def held_out(finished: Finished, name: str) -> float:
    return line(finished, name).held_out_log_likelihood


def line(finished: Finished, name: str) -> Comparison:
    (found,) = [entry for entry in finished.record.comparison if entry.name == name]
    return found


def assert_federation_pays(finished: Finished, against_pooled: float) -> None:
    assert finished.record.converged
    assert abs(held_out(finished, "federated") - held_out(finished, "pooled")) < against_pooled
    for name in TENANTS:
        assert held_out(finished, f"{name} alone") < held_out(finished, "federated") - 1


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["memory", "grpc"])
def test_without_faults_the_model_is_the_pooled_one(tmp_path: Path, transport: str) -> None:
    finished = run_demo(tmp_path / "demo", transport, False, [])
    assert all(record.complete for record in finished.record.rounds)
    assert_federation_pays(finished, 1e-6)


class Waiting(Recorder):
    """Is in no hurry while the tenant that was killed is away; in virtual time it is started anew at once."""

    def __init__(self, demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self._comeback = Comeback(demo / "tenants" / VICTIM / "log.txt")
        self._restarted = False

        def restart(fleet: TenantFleet, name: str) -> None:
            self._restarted = True
            really(fleet, name)

        really = TenantFleet.restart
        monkeypatch.setattr(TenantFleet, "restart", restart)

    def round_opened(self, record: RoundRecord) -> None:
        super().round_opened(record)
        if self._restarted and not record.complete:
            self._comeback.wait()


@pytest.mark.parametrize("transport", ["memory", pytest.param("grpc", marks=pytest.mark.slow)])
def test_with_one_killed_and_one_late_the_model_is_the_pooled_one(
    tmp_path: Path, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher = Waiting(tmp_path / "demo", monkeypatch)
    with remembered_protocol() if transport == "memory" else nullcontext():
        finished = run_demo(tmp_path / "demo", transport, True, [watcher], 11)
    assert_federation_pays(finished, 1e-3)
    parts = {
        name: [record.participation[index] for record in finished.record.rounds]
        for index, name in enumerate(finished.record.tenants)
    }
    assert Participation.RECOVERED in parts[VICTIM]
    assert Participation.LATE in parts[LAGGARD]
    assert all(part[-1] is Participation.SUMMED for part in parts.values())
    for name in ("report.html", "record.json", "model/model.safetensors", "model/manifest.json"):
        assert (tmp_path / "demo" / name).stat().st_size > 0
    assert_blocks_stand_or_fall_together(finished.record)
    assert_the_window_was_carried_along(watcher)


def assert_blocks_stand_or_fall_together(record: SessionRecord) -> None:
    assert (record.trust, record.colluders, record.n_blocks) == ("malicious-server", 1, 3)
    troubled = {name: next(b for b in record.block_members() if record.tenants.index(name) in b) for name in TROUBLED}
    assert troubled[VICTIM] != troubled[LAGGARD], "each takes another block out of the sums"
    for opened in record.rounds:
        assert not opened.missing, "nobody's rows are ever forgotten"
        for block in record.block_members():
            assert len({opened.participation[index].in_sum for index in block}) == 1
            assert len({opened.bases[index] for index in block}) == 1
    for block in troubled.values():
        stale = [opened for opened in record.rounds if opened.bases[block[0]] < opened.round]
        assert len(stale) > 2
        mates = {opened.participation[index] for opened in stale for index in block}
        assert Participation.STALE in mates


def assert_the_window_was_carried_along(watcher: Recorder) -> None:
    """The killed tenant comes back by a window that is set up while rounds go on."""
    opened = [place for place, notice in enumerate(watcher.notices) if notice.kind is NoticeKind.WINDOW_OPENED]
    joined = [
        place
        for place, notice in enumerate(watcher.notices)
        if notice.kind is NoticeKind.JOINED and VICTIM in notice.tenants
    ]
    assert len(opened) >= 2
    assert len(joined) == 2
    started = [
        notice
        for notice in watcher.notices[joined[1] : opened[1]]
        if notice.kind is NoticeKind.ROUND_STARTED and VICTIM not in notice.tenants
    ]
    assert started


def test_the_federation_is_uneven(tmp_path: Path) -> None:
    sizes = [len(rows) for rows in digits_federation().tenants.values()]
    assert len(sizes) == 9
    assert max(sizes) > 8 * min(sizes)
    assert sum(sizes) + len(digits_federation().held_out) == 1797


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(CallerError, match="another folder"):
        run_demo(tmp_path, "memory", False, [])
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
