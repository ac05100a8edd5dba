"""What a fleet does with a run that failed, as far as Flower itself is not needed: its commands are played."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fed_em_simulations.flower_fleet import FlowerRunFailed, FlowerSimulation

RAY_WAS_SLOW = (
    "Exception: The current node timed out during startup. This could happen because some of the raylet failed"
)


class PlayedSimulation(FlowerSimulation):
    """Each submitted run prints the next text; an empty one completes."""

    def __init__(self, folder: Path, *prints: str) -> None:
        super().__init__(folder, 3)
        self._prints, self.submitted = prints, 0

    def _flwr(self, *arguments: str, seconds: float = 120.0) -> Path:
        del seconds
        log = self._folder / f"{arguments[0]}-{self.submitted}.log"
        if arguments[0] == "run":
            log.write_text(self._prints[self.submitted], encoding="utf-8")
            self.submitted += 1
        else:
            failed = bool(self._prints[self.submitted - 1])
            status = "finished:failed" if failed else "finished:completed"
            log.write_text(json.dumps({"runs": [{"status": status}]}), encoding="utf-8")
        return log


def test_a_run_whose_ray_did_not_start_is_submitted_again(tmp_path: Path) -> None:
    simulation = PlayedSimulation(tmp_path, RAY_WAS_SLOW, RAY_WAS_SLOW, "")
    simulation.run(tmp_path / "session.toml")
    assert simulation.submitted == 3


def test_not_for_ever(tmp_path: Path) -> None:
    simulation = PlayedSimulation(tmp_path, *[RAY_WAS_SLOW] * 7)
    with pytest.raises(FlowerRunFailed, match="timed out during startup"):
        simulation.run(tmp_path / "session.toml")
    assert simulation.submitted == 6


def test_any_other_failure_is_told_at_once_with_the_last_words_of_the_log(tmp_path: Path) -> None:
    simulation = PlayedSimulation(tmp_path, "the session's own trouble", "")
    with pytest.raises(FlowerRunFailed, match="the session's own trouble"):
        simulation.run(tmp_path / "session.toml")
    assert simulation.submitted == 1
