"""The highest round is never lost, never lowered beyond an unfinished write, and never shared by two processes."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fed_em.errors import CallerError, EnvironmentFault
from fed_em_client import round_marks
from fed_em_client.round_marks import FileRoundMarks
from fed_em_protocols.errors import IllegalStep

SESSION = bytes(range(16))
OTHER = bytes(16)
FILE = f"{SESSION.hex()}.round"
SECTOR, SLOT, SIZE = 512, 1024, 2048

# How many bytes of a slot a torn write got to: within each part of a record, and about its ends.
CUTS = (0, 1, 8, 24, 25, 31, 32, 40, 47, 48, 49, SECTOR - 1, SECTOR, SECTOR + 25, SECTOR + 48, SLOT - 1, SLOT)


def file_after(folder: Path, *rounds: int) -> Path:
    """A mark file in which these rounds were recorded, one after another."""
    with FileRoundMarks(folder) as marks:
        for number in rounds:
            marks.record(SESSION, number)
    return folder / FILE


def highest_in(folder: Path) -> int:
    """What a new process reads."""
    with FileRoundMarks(folder) as marks:
        return marks.highest(SESSION)


def newest_slot(path: Path, before: bytes) -> int:
    """The slot in which a file differs from what it was one round earlier."""
    data = path.read_bytes()
    changed = [
        slot for slot in (0, 1) if data[slot * SLOT : (slot + 1) * SLOT] != before[slot * SLOT : (slot + 1) * SLOT]
    ]
    assert len(changed) == 1
    return changed[0]


def overwrite(path: Path, start: int, data: bytes) -> None:
    content = bytearray(path.read_bytes())
    content[start : start + len(data)] = data
    path.write_bytes(content)


class TestRecords:
    def test_without_records_the_highest_is_zero_and_nothing_is_written(self, tmp_path: Path) -> None:
        with FileRoundMarks(tmp_path) as marks:
            assert marks.highest(SESSION) == 0
        assert not (tmp_path / FILE).exists()

    def test_records_outlive_the_process(self, tmp_path: Path) -> None:
        file_after(tmp_path, 1, 2, 5)
        assert highest_in(tmp_path) == 5

    def test_records_are_read_back_at_once(self, tmp_path: Path) -> None:
        with FileRoundMarks(tmp_path) as marks:
            for number in (1, 2, 3, 7):
                marks.record(SESSION, number)
                assert marks.highest(SESSION) == number

    def test_sessions_are_kept_apart(self, tmp_path: Path) -> None:
        with FileRoundMarks(tmp_path) as marks:
            marks.record(SESSION, 9)
            marks.record(OTHER, 2)
        with FileRoundMarks(tmp_path) as marks:
            assert (marks.highest(SESSION), marks.highest(OTHER)) == (9, 2)

    @pytest.mark.parametrize("lower", [4, 3, 0])
    def test_the_mark_never_falls(self, tmp_path: Path, lower: int) -> None:
        with FileRoundMarks(tmp_path) as marks:
            marks.record(SESSION, 4)
            with pytest.raises(IllegalStep, match=f"round {lower} is not above round 4"):
                marks.record(SESSION, lower)
        assert highest_in(tmp_path) == 4

    @given(st.lists(st.integers(1, 2**63), min_size=1, max_size=8, unique=True))
    def test_any_rising_rounds(self, tmp_path_factory: pytest.TempPathFactory, numbers: list[int]) -> None:
        folder = tmp_path_factory.mktemp("marks")
        file_after(folder, *sorted(numbers))
        assert highest_in(folder) == max(numbers)


class TestDisk:
    def test_a_record_is_written_then_synced_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        done: list[str] = []
        write, sync = os.pwrite, round_marks._sync
        monkeypatch.setattr(os, "pwrite", lambda *given: (done.append("write"), write(*given))[1])
        monkeypatch.setattr(round_marks, "_sync", lambda given: (done.append("sync"), sync(given))[1])
        with FileRoundMarks(tmp_path) as marks:
            marks.record(SESSION, 1)
            done.clear()
            marks.record(SESSION, 2)
        assert done == ["write", "sync"]

    def test_a_new_file_is_whole_before_it_has_its_name(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def power_cut(path: Path, target: Path) -> Path:
            raise OSError(errno.EIO, "power cut")

        with monkeypatch.context() as patch, FileRoundMarks(tmp_path) as marks:
            patch.setattr(Path, "rename", power_cut)
            with pytest.raises(EnvironmentFault, match="power cut"):
                marks.record(SESSION, 1)
        assert highest_in(tmp_path) == 0
        file_after(tmp_path, 1)
        assert highest_in(tmp_path) == 1

    def test_a_round_that_the_disk_refused_is_not_recorded(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(descriptor: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        with FileRoundMarks(tmp_path) as marks:
            marks.record(SESSION, 1)
            with monkeypatch.context() as patch:
                patch.setattr(round_marks, "_sync", fail)
                with pytest.raises(EnvironmentFault, match=f"{FILE}: No space left on device"):
                    marks.record(SESSION, 2)
            assert marks.highest(SESSION) == 1
            marks.record(SESSION, 2)
        assert highest_in(tmp_path) == 2

    def test_a_state_folder_that_is_a_file_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "state").write_text("")
        with pytest.raises(EnvironmentFault, match="state: File exists"):
            FileRoundMarks(tmp_path / "state")


class TestDamage:
    @pytest.mark.parametrize("rounds", [(1,), (1, 2), (1, 2, 3), (3, 8, 9)])
    @pytest.mark.parametrize("cut", CUTS)
    def test_a_write_torn_anywhere_costs_that_write_at_most(
        self, tmp_path: Path, rounds: tuple[int, ...], cut: int
    ) -> None:
        path = file_after(tmp_path, *rounds)
        before = path.read_bytes()
        file_after(tmp_path, rounds[-1] + 1)
        slot = newest_slot(path, before)
        new = path.read_bytes()[slot * SLOT : slot * SLOT + cut]
        path.write_bytes(before)
        overwrite(path, slot * SLOT, new)
        assert highest_in(tmp_path) in (rounds[-1], rounds[-1] + 1)
        file_after(tmp_path, rounds[-1] + 2)
        assert highest_in(tmp_path) == rounds[-1] + 2

    @pytest.mark.parametrize("slot", [0, 1])
    @pytest.mark.parametrize("rounds", [(4, 5), (4, 5, 6)])
    def test_a_ruined_slot_costs_the_newest_round_at_most(
        self, tmp_path: Path, rounds: tuple[int, ...], slot: int
    ) -> None:
        before = file_after(tmp_path, *rounds[:-1]).read_bytes()
        path = file_after(tmp_path, rounds[-1])
        ruined_newest = newest_slot(path, before) == slot
        overwrite(path, slot * SLOT, b"\xff" * SLOT)
        assert highest_in(tmp_path) == (rounds[-2] if ruined_newest else rounds[-1])
        file_after(tmp_path, 20, 21)
        assert highest_in(tmp_path) == 21

    @pytest.mark.parametrize("n", range(2, 7))
    def test_within_one_process_the_slots_alternate(self, tmp_path: Path, n: int) -> None:
        path = file_after(tmp_path, *range(1, n + 1))
        kept = []
        for slot in (0, 1):
            whole = path.read_bytes()
            overwrite(path, slot * SLOT, bytes(SLOT))
            kept.append(highest_in(tmp_path))
            path.write_bytes(whole)
        assert sorted(kept) == [n - 1, n]

    @pytest.mark.parametrize("sector", range(4))
    @pytest.mark.parametrize("rounds", [(4, 5), (4, 5, 6)])
    def test_one_bad_sector_costs_nothing(self, tmp_path: Path, rounds: tuple[int, ...], sector: int) -> None:
        path = file_after(tmp_path, *rounds)
        overwrite(path, sector * SECTOR, bytes(SECTOR))
        assert highest_in(tmp_path) == rounds[-1]

    @pytest.mark.parametrize("length", [0, 1, 47])
    def test_a_file_cut_short_before_its_first_record_is_an_error(self, tmp_path: Path, length: int) -> None:
        path = file_after(tmp_path, 1, 2, 3)
        os.truncate(path, length)
        with pytest.raises(EnvironmentFault, match=f"{FILE} is damaged"):
            highest_in(tmp_path)

    @pytest.mark.parametrize("length", [48, SECTOR, SLOT, SLOT + 48, SIZE - 1])
    def test_a_file_cut_short_later_keeps_what_is_left(self, tmp_path: Path, length: int) -> None:
        path = file_after(tmp_path, 1, 2, 3)
        os.truncate(path, length)
        assert highest_in(tmp_path) in (2, 3)
        file_after(tmp_path, 4, 5)
        assert highest_in(tmp_path) == 5

    @given(st.binary(min_size=SIZE, max_size=SIZE))
    def test_a_file_of_garbage_is_an_error_and_never_zero(
        self, tmp_path_factory: pytest.TempPathFactory, garbage: bytes
    ) -> None:
        folder = tmp_path_factory.mktemp("marks")
        file_after(folder, 1).write_bytes(garbage)
        with FileRoundMarks(folder) as marks:
            with pytest.raises(EnvironmentFault, match=f"{FILE} is damaged"):
                marks.highest(SESSION)
            with pytest.raises(EnvironmentFault, match=f"{FILE} is damaged"):
                marks.record(SESSION, 100)

    @given(st.integers(0, SECTOR - 1), st.integers(1, 255), st.integers(0, 3))
    def test_one_wrong_byte_changes_nothing(
        self, tmp_path_factory: pytest.TempPathFactory, offset: int, flip: int, sector: int
    ) -> None:
        folder = tmp_path_factory.mktemp("marks")
        path = file_after(folder, 6, 7)
        place = sector * SECTOR + offset
        overwrite(path, place, bytes([path.read_bytes()[place] ^ flip]))
        assert highest_in(folder) == 7

    def test_another_sessions_file_under_this_name_is_an_error(self, tmp_path: Path) -> None:
        with FileRoundMarks(tmp_path) as marks:
            marks.record(OTHER, 3)
        (tmp_path / f"{OTHER.hex()}.round").rename(tmp_path / FILE)
        with pytest.raises(EnvironmentFault, match=f"{FILE} is damaged"):
            highest_in(tmp_path)


class TestLock:
    def test_two_of_one_tenant_are_refused(self, tmp_path: Path) -> None:
        with FileRoundMarks(tmp_path), pytest.raises(CallerError, match="another process of this tenant") as caught:
            FileRoundMarks(tmp_path)
        assert str(tmp_path) in caught.value.message
        assert highest_in(tmp_path) == 0

    def test_another_process_is_refused_until_this_one_ends(self, tmp_path: Path) -> None:
        program = (
            "import sys; from pathlib import Path; from fed_em_client.round_marks import FileRoundMarks\n"
            "from fed_em.errors import CallerError\n"
            "try: FileRoundMarks(Path(sys.argv[1]))\n"
            "except CallerError as error: sys.exit(error.message)"
        )
        command = [sys.executable, "-c", program, str(tmp_path)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        with FileRoundMarks(tmp_path):
            refused = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        admitted = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert (refused.returncode, admitted.returncode) == (1, 0)
        assert f"another process of this tenant uses the state folder {tmp_path}" in refused.stderr
