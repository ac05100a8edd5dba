"""The operator in virtual time: no drift, drift, a worse candidate, and processes killed between any two steps."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fed_em.errors import CallerError
from fed_em.model_file import load_model
from fed_em.reference import load_reference
from fed_em_protocols.errors import SumFailed
from fed_em_server.operate import operator as steps
from fed_em_server.operate.operating_state import STATE_FILE, OperatingState, Phase, read_state
from fed_em_server.operate.operator import PLANNED_RETRAIN_FILE, Operator, Retrained
from fed_em_server.operate.operator_metrics import OperatorMetrics
from fed_em_server.registry.history import Decided, Moved
from fed_em_server.registry.version import MODEL_FOLDER
from tests.observability.scrapes import undeclared
from tests.observability.watched import scraped
from tests.operate.operated import AT_ONCE, HOUR, Killed, World, first_model


@pytest.fixture(autouse=True)
def no_waiting_for_disks(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process leaves that is killed is in the files, synced or not."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


def drifting(time: float) -> float:
    """From the sixth hour on."""
    return 1.5 if time > 1e6 + 5.5 * HOUR else 0.0


def test_without_drift_nothing_is_fitted_again_in_sixty_measurements(tmp_path: Path) -> None:
    """Each has an excess by chance in 0.01 of all cases, and an excess of a whole threshold far more seldom; two of three would have to."""
    world = World(tmp_path, lambda _: 0.0)
    world.run(60)
    assert world.operations.sums == 60 and world.operations.fits == 0
    assert world.in_use() == world.first
    assert len(world.lines.scores) == 59  # the first one became the reference
    assert max(world.lines.scores) < 1
    assert not world.lines.planned and not (world.folder / PLANNED_RETRAIN_FILE).exists()


def test_drift_leads_to_a_better_model_in_use_and_to_quiet(tmp_path: Path) -> None:
    world = World(tmp_path, drifting)
    world.run(40)
    version = world.in_use()
    assert (version.number, world.operations.fits) == (2, 1)
    assert world.lines.planned == [True, False]
    move = world.registry.history()[-1]
    assert isinstance(move, Moved) and move.decision is not None
    assert move.decision.outcome == "promote" and move.decision.baseline == world.first.id
    rows = world.operations.rows()
    before, after = world.registry.load(world.first), world.registry.load(version)
    assert after.score_samples(rows).mean() > before.score_samples(rows).mean() + 0.1
    # Its reference is part of the version, and what later measurements are held against: there is no drift any more.
    reference = load_reference(world.registry.path(version) / MODEL_FOLDER)
    assert reference is not None and version.manifest.files["model/reference.json"] == reference.digest
    assert max(world.lines.scores[-25:]) < 1
    assert read_state(world.folder).phase is Phase.WATCHING
    assert any("drift; retrain 1 begins" in line for line in world.lines.lines)
    assert world.lines.outcomes == [Retrained.PROMOTED] and world.lines.decisions == [move.decision]


def test_a_worse_candidate_is_kept_out_and_tried_again_only_after_the_window(tmp_path: Path) -> None:
    world = World(tmp_path, drifting, bad=True)
    world.run(20)
    assert world.in_use() == world.first
    assert len(world.registry.versions()) == 1 + world.operations.fits
    decided = [entry for entry in world.registry.history() if isinstance(entry, Decided)]
    assert len(decided) == world.operations.fits == 2  # at about the 8th hour, and ten hours later
    assert all(entry.decision.outcome == "roll back" for entry in decided)
    assert world.lines.planned == [True, False] * 2
    assert world.lines.outcomes == [Retrained.KEPT_OUT] * 2
    found = scraped(world.metrics.metrics)
    assert found["fed_em_canary_verdicts_total{verdict=roll-back}"] == 2
    assert found["fed_em_retrains_total{outcome=kept-out}"] == 2


write_state = steps.write_state


def killed_at(folder: Path, place: int, bad: bool, patch: pytest.MonkeyPatch) -> World | None:
    """A reference, drift at once, a retrain; killed at a place, and gone on with by another process. None if there is no such place."""
    world = World(folder, lambda time: 1.5 if time > 1e6 else 0.0, bad, AT_ONCE)

    def keep(folder: Path, state: OperatingState) -> None:
        world.here()
        write_state(folder, state)
        world.here()

    patch.setattr(steps, "write_state", keep)
    world.here.at = place
    try:
        world.run(3)
    except Killed:
        world.here.at = 0
        world.operator = world.begin()
        world.run(3)
        return world
    return None


def assert_went_on_rightly(world: World, bad: bool) -> None:
    """One retrain, in the registry once, decided once; killed in the middle of a fit there is another one, behind it there never is."""
    moved = [entry for entry in world.registry.history() if isinstance(entry, Moved)]
    decided = [entry for entry in world.registry.history() if isinstance(entry, Decided)]
    assert read_state(world.folder).retrains == 1
    assert 1 <= world.operations.fits <= 2
    assert (len(moved), len(decided)) == ((1, 1) if bad else (2, 0))
    assert len(world.registry.versions()) == 2
    assert world.operator.state.phase is Phase.WATCHING
    assert not (world.folder / PLANNED_RETRAIN_FILE).exists()


def test_killed_here_and_there_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in range(2, 33, 6):
        world = killed_at(tmp_path / str(place), place, False, monkeypatch)
        assert world is not None
        assert_went_on_rightly(world, False)


@pytest.mark.slow
@pytest.mark.parametrize("bad", [False, True])
def test_killed_anywhere_it_goes_on_and_fits_no_model_twice_once_it_is_there(
    tmp_path: Path, bad: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    twice = []
    for place in count(1):
        world = killed_at(tmp_path / str(place), place, bad, monkeypatch)
        if world is None:
            break
        assert_went_on_rightly(world, bad)
        twice += [place] if world.operations.fits == 2 else []
    assert place > 30
    assert len(twice) == 2  # within the fit, and before its outcome is whole


@pytest.mark.slow
def test_a_process_ended_by_kill_9_leaves_what_the_next_one_goes_on_from(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.operate.operated"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    ended = subprocess.run([*command, str(tmp_path), "11"], env=environment, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert read_state(tmp_path / "operate").phase is not Phase.WATCHING
    world = World(tmp_path, lambda _: 1.5, plan=AT_ONCE)
    world.run(1)
    assert world.in_use().number == 2 and len(world.registry.versions()) == 2
    assert read_state(world.folder).retrains == 1


def test_a_step_that_fails_is_tried_again_later_and_what_was_done_stays(tmp_path: Path) -> None:
    world = World(tmp_path, drifting)
    retrain, failures = world.operations.retrain, iter(range(3))

    def failing(start: Path, folder: Path) -> Path:
        if next(failures, None) is not None:
            raise SumFailed("nobody is here")
        return retrain(start, folder)

    world.operations.retrain = failing  # type: ignore[method-assign]
    world.run(13)
    assert sum("retraining failed, and is tried again in 60 s" in line for line in world.lines.lines) == 3
    assert world.in_use().number == 2 and world.operations.fits == 1
    assert world.lines.outcomes == [Retrained.FAILED] * 3 + [Retrained.PROMOTED]


def test_metrics_show_each_measurement_and_what_came_of_it(tmp_path: Path) -> None:
    world = World(tmp_path, drifting)
    textfile = tmp_path / "operate.prom"
    retrain, seen = world.operations.retrain, []

    def looked_at(start: Path, folder: Path) -> Path:
        # Another process that takes up the same retrain, and was never told that one began, shows it too.
        both = (world.metrics, OperatorMetrics(world.folder))
        seen.extend(scraped(each.metrics)["fed_em_planned_retrain"] for each in both)
        assert "fed_em_planned_retrain 1.0\n" in textfile.read_text()
        return retrain(start, folder)

    world.operations.retrain = looked_at  # type: ignore[method-assign]
    world.run(2)
    calm = scraped(world.metrics.metrics)
    assert calm["fed_em_last_measurement_timestamp_seconds"] == 1e6 + HOUR
    assert calm["fed_em_drift_score"] == world.lines.scores[-1] < 1 and calm["fed_em_planned_retrain"] == 0
    world.run(6)
    moved = scraped(world.metrics.metrics)
    first, second = first_model().columns
    assert moved[f"fed_em_drift_psi{{column={first}}}"] > 0.1 > moved[f"fed_em_drift_psi{{column={second}}}"]
    assert moved[f"fed_em_drift_ks{{column={first}}}"] > calm[f"fed_em_drift_ks{{column={first}}}"]
    assert moved["fed_em_likelihood_drop"] > 0.1 > abs(calm["fed_em_likelihood_drop"])
    assert moved["fed_em_drift_score"] == world.lines.scores[-1] > 1 and seen == [1, 1]
    assert moved["fed_em_planned_retrain"] == 0
    assert moved["fed_em_retrains_total{outcome=promoted}"] == 1
    assert moved["fed_em_canary_verdicts_total{verdict=promote}"] == 1
    assert undeclared(world.metrics.metrics.registry, world.metrics.metrics.values_of) == []
    families = list(text_string_to_metric_families(textfile.read_text()))
    on_disk = {each.name: each.value for family in families for each in family.samples if not each.labels}
    assert on_disk["fed_em_drift_score"] == moved["fed_em_drift_score"] and on_disk["fed_em_planned_retrain"] == 0


def test_somebody_else_put_another_model_to_use_meanwhile(tmp_path: Path) -> None:
    world = World(tmp_path, drifting)
    add = world.operations.add

    def another(*arguments: object) -> object:
        version = add(*arguments)  # type: ignore[arg-type]
        model = world.registry.load(world.first)
        other = world.registry.add(model, world.first.lineage.model_copy(update={"title": "by hand"}))
        world.registry.promote(other)
        return version

    world.operations.add = another  # type: ignore[assignment]
    world.run(8)
    assert world.in_use().lineage.title == "by hand"
    assert any("was put to use meanwhile" in line for line in world.lines.lines)


def test_a_stage_that_was_emptied_meanwhile_stays_empty(tmp_path: Path) -> None:
    world = World(tmp_path, drifting)
    add = world.operations.add

    def emptied(*arguments: object) -> object:
        version = add(*arguments)  # type: ignore[arg-type]
        world.registry.withdraw("production", "it harms")
        return version

    world.operations.add = emptied  # type: ignore[assignment]
    world.run(8)
    assert world.registry.current() is None
    assert any("production was emptied meanwhile" in line for line in world.lines.lines)


def test_what_was_rolled_back_while_the_operator_was_dead_is_not_put_to_use_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, lambda time: 1.5 if time > 1e6 else 0.0, plan=AT_ONCE)

    def keep(folder: Path, state: OperatingState) -> None:
        if world.registry.current() != world.first:
            raise Killed
        write_state(folder, state)

    monkeypatch.setattr(steps, "write_state", keep)
    with pytest.raises(Killed):
        world.run(3)
    monkeypatch.setattr(steps, "write_state", write_state)
    assert world.registry.rollback(reason="it harms") == world.first
    world.operator = world.begin()
    world.run(1)
    assert world.in_use() == world.first
    assert any("somebody went back to version 1" in line for line in world.lines.lines)


def test_measurements_of_other_tenants_do_not_count_unless_told_so(tmp_path: Path) -> None:
    world = World(tmp_path, drifting)
    world.run(1)
    world.operations.missing = ("t3",)
    world.run(12)
    assert not world.lines.scores and "other tenants answered (t3)" in world.lines.lines[-1]


def test_a_clock_that_was_put_back_keeps_no_measurement_off(tmp_path: Path) -> None:
    world = World(tmp_path, lambda _: 0.0)
    world.run(2)
    world.time -= 1000 * HOUR
    assert world.operator.due_at == world.time
    world.run(2)
    assert world.operations.sums == 4


def test_without_a_model_in_use_it_says_what_to_do_and_a_state_of_another_format_is_refused(tmp_path: Path) -> None:
    world = World(tmp_path, lambda _: 0.0)
    world.registry.withdraw("production")
    with pytest.raises(CallerError, match="no version in production"):
        world.operator.proceed()
    world.folder.mkdir(exist_ok=True)
    (world.folder / STATE_FILE).write_text('{"format": 2}')
    with pytest.raises(CallerError, match="no state that this version"):
        world.begin()
    assert isinstance(world.operator, Operator)
    assert load_model(world.registry.path(world.first) / MODEL_FOLDER).columns == ("x0", "x1")
