"""Disks that are full, and wall clocks that jump."""

from __future__ import annotations

from pathlib import Path

import pytest
from harm import Fault, fault_at
from harness import STOPPED, Chaos, at_once
from oracle import CONVERGING, STEADY, assert_clear, assert_it_ended_right, federation_of

from fed_em_protocols.errors import SERVER

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.xdist_group("chaos of disks and clocks")]

# Where a server's disk is full from, and the file that its message names.
SERVERS_DISK = (
    ("before begin", "checkpoints.sqlite"),
    ("before entry 3", "transcript"),
    ("before commit 3", "checkpoints.sqlite"),
    ("before signed head 3", "transcript"),
    ("before commit 6", "checkpoints.sqlite"),
    ("before file model.safetensors", "cannot write a model"),
    ("before record", "record.json"),
    ("before report", "cannot write a report"),
)
TENANTS_DISK = (
    ("before mark work", ".round"),
    ("before log 2", "log.jsonl"),
    ("before mark round", ".round"),
    ("before mark endorsement 3", ".round"),
)
DAY = 86400.0


def a_server_whose_disk_is_full_stops_and_goes_on(folder: Path) -> None:
    federation = federation_of(folder)
    faults = [(fault_at(place, "full"),) for place, _ in SERVERS_DISK]
    account = Chaos(federation, {SERVER: faults}, patience=30).run(800)
    lives = account.lives_of(SERVER)
    assert [life.status for life in lives] == [STOPPED] * len(SERVERS_DISK) + [0], account.told()
    for life, (_, named) in zip(lives, SERVERS_DISK, strict=False):
        assert_clear(life.said, named, "remedy")
    assert_it_ended_right(federation, account, STEADY)


def a_tenant_whose_disk_is_full_stops_and_goes_on(folder: Path) -> None:
    federation = federation_of(folder, CONVERGING)
    faults = [(fault_at(place, "full"),) for place, _ in TENANTS_DISK]
    account = Chaos(federation, {"t2": faults}, patience=30).run(800)
    lives = account.lives_of("t2")
    assert [life.status for life in lives] == [STOPPED] * len(TENANTS_DISK) + [0], account.told()
    for life, (_, named) in zip(lives, TENANTS_DISK, strict=False):
        assert_clear(life.said, named, "disk that works and has room")
    assert_it_ended_right(federation, account, CONVERGING)


def a_tenant_without_room_for_the_model_says_who_has_it(folder: Path) -> None:
    federation = federation_of(folder)
    account = Chaos(federation, {"t2": [(fault_at("before file model.safetensors", "full"),)]}, patience=3).run(800)
    assert_clear(account.lives_of("t2")[0].said, "cannot write a model into", "operator has the same model")
    assert_it_ended_right(federation, account, STEADY, without=("t2",))


def wall_clocks_that_jump_change_nothing(folder: Path) -> None:
    """By days, at both ends, forwards and back, in rounds and between them; and two that were wrong from the start."""
    federation = federation_of(folder)

    def jump(place: str, days: float) -> Fault:
        return fault_at(place, "clock", days * DAY)

    faults = {
        SERVER: [(jump("after send Header 6", 9), jump("after receive Upload 14", -30), jump("before commit 17", 3))],
        "t0": [(jump("after handle Header 2", -20), jump("before send Opening 3", 40))],
        "t1": [(jump("before mark round 3", 12), jump("after handle Close", -12))],
    }
    account = Chaos(federation, faults, clocks={"t2": 100 * DAY}).run(800)
    assert {party: len(struck) for party, struck in account.struck.items()} == {SERVER: 3, "t0": 2, "t1": 2}
    record = assert_it_ended_right(federation, account, STEADY)
    assert 0 < record.rounds[-1].seconds < 60


RUNS = at_once(
    a_server_whose_disk_is_full_stops_and_goes_on,
    a_tenant_whose_disk_is_full_stops_and_goes_on,
    a_tenant_without_room_for_the_model_says_who_has_it,
    wall_clocks_that_jump_change_nothing,
)


@pytest.mark.parametrize("name", RUNS)
def test_run(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    RUNS.outcome(name, tmp_path_factory)
