"""The demonstration keeps its promises: as good as pooled, with trouble and without, over each transport."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_federation import Recorder

from fed_em.errors import CallerError
from fed_em_protocols.coordinator_state import NoticeKind
from fed_em_server.record import Comparison, Participation
from fed_em_simulations.demo import Finished, run_demo
from fed_em_simulations.digits import TENANTS, digits_federation
from fed_em_simulations.trouble import LAGGARD, VICTIM


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


@pytest.mark.parametrize("transport", ["memory", "grpc"])
def test_without_faults_the_model_is_the_pooled_one(tmp_path: Path, transport: str) -> None:
    finished = run_demo(tmp_path / "demo", transport, False, [])
    assert all(record.complete for record in finished.record.rounds)
    assert_federation_pays(finished, 1e-6)


@pytest.mark.parametrize("transport", ["memory", "grpc"])
def test_with_one_killed_and_one_late_the_model_is_nearly_the_pooled_one(tmp_path: Path, transport: str) -> None:
    watcher = Recorder()
    finished = run_demo(tmp_path / "demo", transport, True, [watcher])
    assert_federation_pays(finished, 0.01)
    parts = {
        name: [record.participation[index] for record in finished.record.rounds]
        for index, name in enumerate(finished.record.tenants)
    }
    assert Participation.RECOVERED in parts[VICTIM]
    assert Participation.LATE in parts[LAGGARD]
    assert all(part[-1] is Participation.SUMMED for part in parts.values())
    windows = [notice for notice in watcher.notices if notice.kind is NoticeKind.WINDOW_OPENED]
    assert len(windows) >= 2, "the killed tenant comes back by a window that is opened early"
    for name in ("report.html", "record.json", "model/model.safetensors", "model/manifest.json"):
        assert (tmp_path / "demo" / name).stat().st_size > 0


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
