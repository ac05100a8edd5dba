"""No mark is ever lost, lowered beyond an unfinished write, or shared by two processes."""

from __future__ import annotations

import errno
import hashlib
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fed_em.errors import CallerError, EnvironmentFault
from fed_em_client import round_marks
from fed_em_client.round_marks import FileRoundMarks
from fed_em_protocols.errors import IllegalStep
from fed_em_simulations.volatile_marks import VolatileMarks

SESSION = bytes(range(16))
OTHER = bytes(16)
A, B = bytes(range(32)), bytes(range(32, 64))
FILE = f"{SESSION.hex()}.round"
SECTOR, SLOT, SIZE = 512, 1024, 2048
RECORD = 128  # with its checksum

# How many bytes of a slot a torn write got to: within each part of a record, and about its ends.
CUTS: tuple[int, ...] = (
    0,
    1,
    8,
    24,
    25,
    32,
    40,
    47,
    48,
    80,
    111,
    112,
    113,
    127,
    128,
    129,
    SECTOR - 1,
    SECTOR,
    SECTOR + 25,
    SECTOR + 128,
)
CUTS += (SLOT - 1, SLOT)

Marks = FileRoundMarks | VolatileMarks
Step = Callable[[Marks], None]
State = tuple[int, tuple[int, bytes], bytes | None]


def uploads(number: int) -> Step:
    return lambda marks: marks.record(SESSION, number)


def endorses(number: int, outcome: bytes) -> Step:
    return lambda marks: marks.endorse(SESSION, number, outcome)


def takes_part(fingerprint: bytes) -> Step:
    return lambda marks: marks.record_work(SESSION, fingerprint)


# The last step is the one that a test tears.
STEPS = {
    "upload after upload": (uploads(3), uploads(4)),
    "endorsement after upload": (uploads(4), endorses(4, A)),
    "upload after endorsement": (uploads(4), endorses(4, A), uploads(5)),
    "endorsement after endorsement": (endorses(8, A), endorses(9, B)),
    "upload after work": (takes_part(A), uploads(1)),
    "work after endorsement": (uploads(2), endorses(2, B), takes_part(A)),
    "endorsement below the highest upload": (uploads(9), endorses(3, A), endorses(4, A)),
}
steps_of_every_kind = pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS)


def file_after(folder: Path, *rounds: int) -> Path:
    """A mark file in which these rounds were recorded, one after another."""
    return file_of(folder, *map(uploads, rounds))


def file_of(folder: Path, *steps: Step) -> Path:
    """A mark file in which one process took these steps."""
    with FileRoundMarks(folder) as marks:
        for step in steps:
            step(marks)
    return folder / FILE


def highest_in(folder: Path) -> int:
    """What a new process reads."""
    return state_in(folder)[0]


def state_in(folder: Path) -> State:
    """All that a new process reads."""
    with FileRoundMarks(folder) as marks:
        return marks.highest(SESSION), marks.endorsed(SESSION), marks.work(SESSION)


def torn_off(path: Path, step: Step) -> tuple[bytes, int, bytes]:
    """The file before a step, where the step wrote, and what."""
    before = path.read_bytes()
    file_of(path.parent, step)
    place = newest_slot(path, before) * SLOT
    return before, place, path.read_bytes()[place : place + SLOT]


def newest_slot(path: Path, before: bytes) -> int:
    """The slot in which a file differs from what it was one record earlier."""
    data = path.read_bytes()
    changed = [
        slot for slot in (0, 1) if data[slot * SLOT : (slot + 1) * SLOT] != before[slot * SLOT : (slot + 1) * SLOT]
    ]
    assert len(changed) == 1
    return changed[0]


def overwrite(path: Path, start: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(start)
        file.write(data)


def earlier_file(folder: Path) -> Path:
    """A mark file of the earlier format, at round 7."""
    record = struct.pack("<8s16sQ", b"fedemrm1", SESSION, 7)
    sector = (record + hashlib.sha256(record).digest()[:16]).ljust(SECTOR, b"\0")
    (folder / FILE).write_bytes(4 * sector)
    return folder / FILE


@pytest.fixture(scope="class")
def no_sync() -> Iterator[None]:
    """For tests that open files some thousand times."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(round_marks, "sync", lambda _: None)
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(params=["file", "memory"])
def marks(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Marks]:
    if request.param == "memory":
        yield VolatileMarks()
    else:
        with FileRoundMarks(tmp_path) as opened:
            yield opened


@contextmanager
def failing_sync(error: BaseException) -> Iterator[None]:
    def fail(descriptor: int) -> None:
        raise error

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(round_marks, "sync", fail)
        yield


def disk_calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The writes and syncs from now on, as they come."""
    done: list[str] = []
    write, sync, folder = os.pwrite, round_marks.sync, round_marks.sync_folder
    monkeypatch.setattr(os, "pwrite", lambda *given: (done.append("write"), write(*given))[1])
    monkeypatch.setattr(round_marks, "sync", lambda given: (done.append("sync"), sync(given))[1])
    monkeypatch.setattr(round_marks, "sync_folder", lambda given: (done.append("sync folder"), folder(given))[1])
    return done


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

    def test_one_round_is_recorded_once(self, marks: Marks) -> None:
        marks.record(SESSION, 4)
        with pytest.raises(IllegalStep, match="round 4 is not above round 4"):
            marks.record(SESSION, 4)

    @given(st.lists(st.integers(1, 2**63), min_size=1, max_size=8, unique=True))
    def test_any_rising_rounds(self, tmp_path_factory: pytest.TempPathFactory, numbers: list[int]) -> None:
        folder = tmp_path_factory.mktemp("marks")
        file_after(folder, *sorted(numbers))
        assert highest_in(folder) == max(numbers)


class TestEndorsements:
    def test_without_one_there_is_no_outcome(self, marks: Marks) -> None:
        assert marks.endorsed(SESSION) == (0, b"")
        marks.record(SESSION, 3)
        assert marks.endorsed(SESSION) == (0, b"")

    def test_they_outlive_the_process(self, tmp_path: Path) -> None:
        file_of(tmp_path, uploads(3), endorses(3, A), uploads(4))
        assert state_in(tmp_path) == (4, (3, A), None)

    def test_the_last_counts_at_once(self, marks: Marks) -> None:
        for number, outcome in ((1, A), (2, A), (7, B)):
            marks.endorse(SESSION, number, outcome)
            assert marks.endorsed(SESSION) == (number, outcome)
        assert marks.highest(SESSION) == 0

    def test_an_outcome_of_zeros_is_an_outcome(self, tmp_path: Path) -> None:
        file_of(tmp_path, endorses(1, bytes(32)))
        assert state_in(tmp_path)[1] == (1, bytes(32))

    def test_sessions_are_kept_apart(self, marks: Marks) -> None:
        marks.endorse(SESSION, 5, A)
        marks.endorse(OTHER, 5, B)
        assert (marks.endorsed(SESSION), marks.endorsed(OTHER)) == ((5, A), (5, B))

    def test_another_outcome_of_the_same_round_is_refused(self, marks: Marks) -> None:
        marks.endorse(SESSION, 5, A)
        with pytest.raises(IllegalStep, match="another outcome of round 5 is endorsed already"):
            marks.endorse(SESSION, 5, B)
        assert marks.endorsed(SESSION) == (5, A)

    @pytest.mark.parametrize("outcome", [A, B])
    @pytest.mark.parametrize("lower", [4, 1, 0])
    def test_a_lower_round_is_refused(self, marks: Marks, lower: int, outcome: bytes) -> None:
        marks.endorse(SESSION, 5, A)
        with pytest.raises(IllegalStep, match=f"round {lower} is below round 5, which is endorsed already"):
            marks.endorse(SESSION, lower, outcome)
        assert marks.endorsed(SESSION) == (5, A)

    def test_round_zero_cannot_be_endorsed(self, marks: Marks) -> None:
        with pytest.raises(IllegalStep, match="no round 0"):
            marks.endorse(SESSION, 0, A)
        assert marks.endorsed(SESSION) == (0, b"")

    @pytest.mark.parametrize("outcome", [b"", A[:-1], A + b"\0"])
    def test_an_outcome_of_another_length_is_refused(self, marks: Marks, outcome: bytes) -> None:
        with pytest.raises(IllegalStep, match=f"an outcome digest has 32 bytes, not {len(outcome)}"):
            marks.endorse(SESSION, 1, outcome)
        assert marks.endorsed(SESSION) == (0, b"")

    def test_refusals_outlive_the_process(self, tmp_path: Path) -> None:
        file_of(tmp_path, endorses(5, A), uploads(6))
        with FileRoundMarks(tmp_path) as marks:
            with pytest.raises(IllegalStep):
                marks.endorse(SESSION, 5, B)
            with pytest.raises(IllegalStep):
                marks.endorse(SESSION, 4, A)

    def test_a_round_below_the_highest_upload_may_be_endorsed(self, marks: Marks) -> None:
        marks.record(SESSION, 9)
        marks.endorse(SESSION, 8, A)
        assert (marks.highest(SESSION), marks.endorsed(SESSION)) == (9, (8, A))


class TestWork:
    def test_without_one_there_is_none(self, marks: Marks) -> None:
        assert marks.work(SESSION) is None
        marks.record(SESSION, 1)
        assert marks.work(SESSION) is None

    def test_it_outlives_the_process_and_what_follows(self, tmp_path: Path) -> None:
        file_of(tmp_path, takes_part(A), uploads(1), endorses(1, B), uploads(2))
        assert state_in(tmp_path) == (2, (1, B), A)

    def test_another_takes_its_place(self, marks: Marks) -> None:
        marks.record_work(SESSION, A)
        marks.record_work(SESSION, B)
        assert (marks.work(SESSION), marks.work(OTHER)) == (B, None)

    @pytest.mark.parametrize("fingerprint", [b"", A[:-1], A + b"\0", bytes(32)])
    def test_what_is_no_fingerprint_is_refused(self, marks: Marks, fingerprint: bytes) -> None:
        with pytest.raises(IllegalStep, match="a fingerprint has 32 bytes, not all zero"):
            marks.record_work(SESSION, fingerprint)
        assert marks.work(SESSION) is None


class TestDisk:
    @pytest.mark.parametrize("step", [uploads(2), endorses(1, A), takes_part(A)])
    def test_a_record_is_written_then_synced_once(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: Step
    ) -> None:
        done = disk_calls(monkeypatch)
        with FileRoundMarks(tmp_path) as marks:
            marks.record(SESSION, 1)
            done.clear()
            step(marks)
        assert done == ["write", "sync"]

    @pytest.mark.parametrize("step", [endorses(5, A), takes_part(B)])
    def test_what_is_recorded_already_is_not_written_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: Step
    ) -> None:
        file_of(tmp_path, endorses(5, A), takes_part(B))
        with FileRoundMarks(tmp_path) as marks:
            assert marks.endorsed(SESSION) == (5, A)
            done = disk_calls(monkeypatch)
            step(marks)
        assert done == []

    def test_what_a_killed_process_left_unsynced_is_synced_before_it_counts(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with FileRoundMarks(tmp_path) as marks:
            marks.endorse(SESSION, 1, A)
            with failing_sync(KeyboardInterrupt()), pytest.raises(KeyboardInterrupt):
                marks.endorse(SESSION, 2, B)
        with FileRoundMarks(tmp_path) as marks:
            done = disk_calls(monkeypatch)
            assert marks.endorsed(SESSION) == (2, B)
            assert done == ["write", "sync", "sync folder"]
            marks.endorse(SESSION, 2, B)
            assert marks.highest(SESSION) == 0
        assert done == ["write", "sync", "sync folder"]

    def test_what_cannot_be_synced_does_not_count(self, tmp_path: Path) -> None:
        file_of(tmp_path, uploads(1))
        with FileRoundMarks(tmp_path) as marks:
            error = OSError(errno.EIO, "Input/output error")
            with failing_sync(error), pytest.raises(EnvironmentFault, match="Input/output error"):
                marks.highest(SESSION)
            assert marks.highest(SESSION) == 1

    def test_a_folder_that_goes_away_is_not_a_session_without_marks(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def gone(folder: Path) -> None:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")

        file_of(tmp_path, uploads(1))
        monkeypatch.setattr(round_marks, "sync_folder", gone)
        with FileRoundMarks(tmp_path) as marks, pytest.raises(EnvironmentFault, match="No such file or directory"):
            marks.highest(SESSION)

    def test_a_new_file_is_whole_before_it_has_its_name(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def power_cut(path: Path, target: Path) -> Path:
            raise OSError(errno.EIO, "power cut")

        with monkeypatch.context() as patch, FileRoundMarks(tmp_path) as marks:
            patch.setattr(os, "replace", power_cut)
            with pytest.raises(EnvironmentFault, match="power cut"):
                marks.record(SESSION, 1)
        assert highest_in(tmp_path) == 0
        file_after(tmp_path, 1)
        assert highest_in(tmp_path) == 1

    def test_a_round_that_the_disk_refused_is_not_recorded(self, tmp_path: Path) -> None:
        full = OSError(errno.ENOSPC, "No space left on device")
        with FileRoundMarks(tmp_path) as marks:
            marks.record(SESSION, 1)
            with failing_sync(full), pytest.raises(EnvironmentFault, match=f"{FILE}: No space left on device"):
                marks.record(SESSION, 2)
            assert marks.highest(SESSION) == 1
            marks.record(SESSION, 2)
        assert highest_in(tmp_path) == 2

    def test_a_state_folder_that_is_a_file_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "state").write_text("")
        with pytest.raises(EnvironmentFault, match="state: File exists"):
            FileRoundMarks(tmp_path / "state")

    def test_what_the_disk_refused_cannot_come_back_over_what_followed(self, tmp_path: Path) -> None:
        with FileRoundMarks(tmp_path) as marks:
            marks.record(SESSION, 1)
            before = (tmp_path / FILE).read_bytes()
            with failing_sync(OSError(errno.EIO, "Input/output error")), pytest.raises(EnvironmentFault):
                marks.endorse(SESSION, 1, B)
            refused = (tmp_path / FILE).read_bytes()
            slot = newest_slot(tmp_path / FILE, before)
            assert marks.endorsed(SESSION) == (0, b"")
            marks.endorse(SESSION, 1, A)
        for sector in (slot * SLOT, slot * SLOT + SECTOR):
            whole = (tmp_path / FILE).read_bytes()
            overwrite(tmp_path / FILE, sector, refused[sector : sector + SECTOR])
            assert state_in(tmp_path) == (1, (1, A), None)
            overwrite(tmp_path / FILE, 0, whole)


@pytest.mark.usefixtures("no_sync")
class TestDamage:
    @steps_of_every_kind
    def test_a_write_torn_at_any_byte_costs_that_write_at_most(self, tmp_path: Path, steps: tuple[Step, ...]) -> None:
        path = file_of(tmp_path, *steps[:-1])
        earlier = state_in(tmp_path)
        before, place, new = torn_off(path, steps[-1])
        later = state_in(tmp_path)
        old = before[place : place + SLOT]
        assert earlier != later
        for cut in range(SLOT + 1):
            for slot, whole in ((new[:cut] + old[cut:], cut >= RECORD), (old[:cut] + new[cut:], cut <= SECTOR)):
                overwrite(path, 0, before)
                overwrite(path, place, slot)
                found = state_in(tmp_path)
                assert found == later if whole else found in (earlier, later), cut

    @steps_of_every_kind
    @pytest.mark.parametrize("cut", CUTS)
    def test_a_file_with_a_torn_write_goes_on(self, tmp_path: Path, steps: tuple[Step, ...], cut: int) -> None:
        path = file_of(tmp_path, *steps[:-1])
        before, place, new = torn_off(path, steps[-1])
        overwrite(path, 0, before)
        overwrite(path, place, new[:cut])
        file_of(tmp_path, endorses(20, A), uploads(20))
        assert state_in(tmp_path)[:2] == (20, (20, A))
        file_of(tmp_path, endorses(21, B))
        assert state_in(tmp_path)[:2] == (20, (21, B))

    @given(
        st.lists(
            st.tuples(
                st.sampled_from([(1, 0), (0, 1), (1, 1)]),
                st.none() | st.integers(0, SLOT),
                st.booleans(),
            ),
            min_size=1,
            max_size=12,
        )
    )
    def test_any_history_of_torn_writes(
        self, tmp_path_factory: pytest.TempPathFactory, history: list[tuple[tuple[int, int], int | None, bool]]
    ) -> None:
        folder = tmp_path_factory.mktemp("marks")
        path = file_after(folder, 1)
        known = state_in(folder)
        for number, ((up, end), cut, backwards) in enumerate(history, 2):
            for step in [uploads(number)] * up + [endorses(number, bytes([number]) * 32)] * end:
                before, place, new = torn_off(path, step)
                later = state_in(folder)
                if cut is not None:
                    old = before[place : place + SLOT]
                    overwrite(path, 0, before)
                    overwrite(path, place, old[:cut] + new[cut:] if backwards else new[:cut] + old[cut:])
                found = state_in(folder)
                assert found in ((later,) if cut is None else (known, later))
                known = found

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
            overwrite(path, 0, whole)
        assert sorted(kept) == [n - 1, n]

    @pytest.mark.parametrize("sector", range(4))
    @steps_of_every_kind
    def test_one_bad_sector_costs_nothing(self, tmp_path: Path, steps: tuple[Step, ...], sector: int) -> None:
        path = file_of(tmp_path, *steps)
        whole = state_in(tmp_path)
        overwrite(path, sector * SECTOR, bytes(SECTOR))
        assert state_in(tmp_path) == whole

    @pytest.mark.parametrize("sector", range(4))
    def test_a_bad_sector_of_the_newest_record_is_written_again(self, tmp_path: Path, sector: int) -> None:
        path = file_after(tmp_path, 4)
        before = path.read_bytes()
        whole = file_after(tmp_path, 5).read_bytes()
        mended = newest_slot(path, before) == sector // 2
        overwrite(path, sector * SECTOR, bytes(SECTOR))
        assert highest_in(tmp_path) == 5
        assert (path.read_bytes() == whole) == mended

    def test_the_newest_record_counts_whatever_its_rounds_are(self, tmp_path: Path) -> None:
        path = file_of(tmp_path, uploads(9), endorses(1, A), endorses(2, B))
        assert state_in(tmp_path) == (9, (2, B), None)
        before, place, _ = torn_off(path, endorses(3, A))
        overwrite(path, 0, before)
        overwrite(path, place, b"\xff" * SLOT)
        assert state_in(tmp_path) == (9, (2, B), None)

    def test_a_file_of_the_earlier_format_is_named_and_kept(self, tmp_path: Path) -> None:
        path = earlier_file(tmp_path)
        content = path.read_bytes()
        with FileRoundMarks(tmp_path) as marks:
            for call in (
                lambda: marks.highest(SESSION),
                lambda: marks.endorsed(SESSION),
                lambda: marks.work(SESSION),
                lambda: marks.record(SESSION, 8),
                lambda: marks.endorse(SESSION, 8, A),
                lambda: marks.record_work(SESSION, A),
            ):
                with pytest.raises(EnvironmentFault, match=f"{FILE} is of an earlier version of fed-em") as caught:
                    call()
                assert "start a new session" in caught.value.remedy
            marks.record(OTHER, 1)
        assert path.read_bytes() == content

    @pytest.mark.parametrize("length", [0, 1, RECORD - 1])
    def test_a_file_cut_short_before_its_first_record_is_an_error(self, tmp_path: Path, length: int) -> None:
        path = file_after(tmp_path, 1, 2, 3)
        os.truncate(path, length)
        with pytest.raises(EnvironmentFault, match=f"{FILE} is damaged"):
            highest_in(tmp_path)

    @pytest.mark.parametrize("length", [RECORD, SECTOR, SLOT, SLOT + RECORD, SIZE - 1])
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
