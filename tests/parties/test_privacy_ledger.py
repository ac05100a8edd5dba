"""What was spent is never forgotten, whatever happens to a write or to a file, and no upload counts twice."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from fed_em import whole_files
from fed_em.errors import CallerError, EnvironmentFault
from fed_em_client import durable_files, privacy_account, privacy_ledger
from fed_em_client.privacy_ledger import LedgerFiles, PrivacyLedger, mend_head, read_spends
from fed_em_client.privacy_spends import PrivacySpends
from fed_em_protocols.errors import IllegalStep, TermsRefused
from fed_em_protocols.privacy.accounting import Spend
from fed_em_protocols.privacy.demands import EpsilonBudget, PrivacyDemands

START = datetime(2030, 1, 1, tzinfo=UTC)
SESSIONS = SESSION, OTHER = bytes(range(16)), bytes(16)
PLAN = Spend(30.0, 20, slack=2.0**-70)
MAGIC, RECORD = 8, 96

Step = Callable[[PrivacyLedger], object]

# Made from the description of format 1 alone, by other code: `STEPS`, by a clock that is read some seconds apart.
_KNOWN = json.loads(Path(__file__).with_name("privacy_ledger_format_1.json").read_text())
KNOWN_LEDGER, KNOWN_HEAD = bytes.fromhex(_KNOWN["ledger"]), bytes.fromhex(_KNOWN["head"])


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


def reserves(session: bytes, plan: Spend = PLAN) -> Step:
    return lambda ledger: ledger.reserve(session, plan)


def charges(session: bytes, *rounds: int) -> Step:
    return lambda ledger: [ledger.charge(session, number) for number in rounds]


def releases(session: bytes) -> Step:
    return lambda ledger: ledger.release(session)


STEPS = (reserves(SESSION), charges(SESSION, 1, 2, 2**40), reserves(OTHER, Spend(1.5, 3)), releases(SESSION))


def files_in(folder: Path) -> LedgerFiles:
    (folder / "keys").mkdir(exist_ok=True)
    return LedgerFiles(folder / "state" / "privacy.ledger", folder / "keys" / "ledger-head")


def written(files: LedgerFiles, *steps: Step) -> LedgerFiles:
    """The files after one process took these steps."""
    with PrivacyLedger(files, clock=Clock()) as ledger:
        for step in steps:
            step(ledger)
    return files


def spends_in(files: LedgerFiles) -> PrivacySpends:
    """What a new process reads."""
    with PrivacyLedger(files) as ledger:
        return ledger.spends


def charged_in(files: LedgerFiles, session: bytes = SESSION) -> set[int]:
    known = spends_in(files).sessions.get(session)
    return set() if known is None else set(known.charged)


def refusal(files: LedgerFiles) -> EnvironmentFault:
    """Why a ledger does not open, nor is read."""
    with pytest.raises(EnvironmentFault) as caught:
        PrivacyLedger(files)
    with pytest.raises(EnvironmentFault) as read:
        read_spends(files)
    assert read.value.message == caught.value.message
    return caught.value


@pytest.fixture
def files(tmp_path: Path) -> LedgerFiles:
    return files_in(tmp_path)


@contextmanager
def without_sync() -> Iterator[None]:
    """For tests that open files some thousand times."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(privacy_ledger, "sync", lambda _: None)
        patch.setattr(os, "fsync", lambda _: None)
        yield


class TestFiles:
    def test_without_entries_nothing_is_written(self, files: LedgerFiles) -> None:
        assert spends_in(files) == PrivacySpends()
        assert not files.ledger.exists()
        assert not files.head.exists()

    def test_entries_outlive_the_process(self, files: LedgerFiles) -> None:
        written(files, *STEPS)
        spends = spends_in(files)
        assert spends == read_spends(files)
        assert set(spends.sessions[SESSION].charged) == {1, 2, 2**40}
        assert spends.sessions[SESSION].reserved is None
        assert spends.sessions[OTHER].plan == Spend(1.5, 3)
        assert spends.reserved(START, None) == (Spend(1.5, 3),)
        assert spends.latest == spends.sessions[OTHER].reserved + timedelta(seconds=1)

    def test_a_later_process_neither_charges_nor_reserves_again(self, files: LedgerFiles) -> None:
        written(files, reserves(SESSION), charges(SESSION, 1, 2))
        before = spends_in(files)
        written(files, reserves(SESSION), charges(SESSION, 2, 1))
        after = spends_in(files)
        assert after.charged(START, None) == before.charged(START, None) == (before.sessions[SESSION].of(2),)
        assert after.reserved(START, None) == before.reserved(START, None)
        with PrivacyLedger(files) as ledger, pytest.raises(TermsRefused, match="another plan now"):
            ledger.reserve(SESSION, Spend(31.0, 20))

    def test_a_file_of_format_1_is_read_for_ever(self, files: LedgerFiles) -> None:
        files.ledger.parent.mkdir()
        files.ledger.write_bytes(KNOWN_LEDGER)
        files.head.write_bytes(KNOWN_HEAD)
        spends = spends_in(files)
        session = spends.sessions[SESSION]
        assert (session.plan, session.reserved) == (PLAN, None)
        assert list(session.charged) == [1, 2, 2**40]
        assert session.charged[1] == START + timedelta(seconds=4)
        assert spends.sessions[OTHER].plan == Spend(1.5, 3)
        written(files, charges(OTHER, 7))
        assert files.ledger.read_bytes()[:-RECORD] == KNOWN_LEDGER

    def test_the_same_steps_write_the_same_bytes(self, files: LedgerFiles) -> None:
        written(files, *STEPS)
        assert (files.ledger.read_bytes(), files.head.read_bytes()) == (KNOWN_LEDGER, KNOWN_HEAD)

    def test_the_ledger_is_synced_and_then_its_head(self, files: LedgerFiles, monkeypatch: pytest.MonkeyPatch) -> None:
        written(files, reserves(SESSION))
        done: list[str] = []
        sync, whole = privacy_ledger.sync, privacy_ledger.write_whole
        monkeypatch.setattr(privacy_ledger, "sync", lambda given: (done.append("sync"), sync(given)))
        monkeypatch.setattr(
            privacy_ledger, "write_whole", lambda path, data: (done.append(path.name), whole(path, data))
        )
        with PrivacyLedger(files) as ledger:
            ledger.charge(SESSION, 1)
            assert done == ["sync", "ledger-head"]
            ledger.reserve(SESSION, PLAN)
        assert done == ["sync", "ledger-head"]

    @pytest.mark.parametrize("failing", ["sync", "write_whole"])
    def test_what_the_disk_refuses_may_not_be_uploaded_and_is_charged_once(
        self, files: LedgerFiles, failing: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*given: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        with PrivacyLedger(files) as ledger:
            ledger.reserve(SESSION, PLAN)
            with monkeypatch.context() as patch:
                patch.setattr(privacy_ledger, failing, fail)
                with pytest.raises(EnvironmentFault, match="No space left on device"):
                    ledger.charge(SESSION, 1)
            ledger.charge(SESSION, 1)
            ledger.charge(SESSION, 2)
        assert [spend.sums for spend in spends_in(files).charged(START, None)] == [2]

    def test_a_head_that_cannot_be_written_is_named_with_the_remedy(self, tmp_path: Path) -> None:
        files = LedgerFiles(tmp_path / "state" / "privacy.ledger", tmp_path / "nowhere" / "ledger-head")
        with (
            PrivacyLedger(files) as ledger,
            pytest.raises(EnvironmentFault, match="ledger-head: No such file") as caught,
        ):
            ledger.reserve(SESSION, PLAN)
        assert "ledger_head in the tenant's file" in caught.value.remedy
        assert not files.ledger.exists()

    def test_a_closed_ledger_takes_nothing(self, files: LedgerFiles) -> None:
        with PrivacyLedger(files) as ledger:
            pass
        with pytest.raises(IllegalStep, match="closed"):
            ledger.reserve(SESSION, PLAN)


class TestDamage:
    def test_every_wrong_byte_is_found(self, files: LedgerFiles) -> None:
        written(files, *STEPS)
        for path in (files.ledger, files.head):
            whole = path.read_bytes()
            for place in range(len(whole)):
                path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
                found = refusal(files)
                assert str(path) in found.message
                assert found.remedy
            path.write_bytes(whole)
        assert charged_in(files) == {1, 2, 2**40}

    def test_a_damaged_entry_is_named(self, files: LedgerFiles) -> None:
        written(files, *STEPS)
        data = bytearray(files.ledger.read_bytes())
        data[MAGIC + RECORD + 40] ^= 1
        files.ledger.write_bytes(data)
        found = refusal(files)
        assert f"entry 2, at byte {MAGIC + RECORD}, is not intact" in found.message
        assert "until a whole period of [policy.privacy] has gone by" in found.remedy
        with pytest.raises(EnvironmentFault, match="entry 2"):
            mend_head(files)

    def test_whatever_length_it_is_cut_to_is_found(self, files: LedgerFiles) -> None:
        written(files, *STEPS)
        whole = files.ledger.read_bytes()
        for length in range(0, len(whole), 5):
            files.ledger.write_bytes(whole[:length])
            refusal(files)
        for extra in (RECORD + 1, 2 * RECORD):
            files.ledger.write_bytes(whole + bytes(extra))
            assert "is damaged" in refusal(files).message

    def test_a_ledger_of_another_version_is_named(self, files: LedgerFiles) -> None:
        written(files, *STEPS)
        files.ledger.write_bytes(b"fedempl9" + files.ledger.read_bytes()[MAGIC:])
        assert "of another version of fed-em" in refusal(files).message

    def test_an_older_copy_of_the_ledger_is_found(self, files: LedgerFiles) -> None:
        written(files, *STEPS[:2])
        older = files.ledger.read_bytes()
        written(files, *STEPS[2:])
        files.ledger.write_bytes(older)
        found = refusal(files)
        assert "is an older copy: it has 4 of the 6 entries" in found.message
        with pytest.raises(EnvironmentFault, match="older copy"):
            mend_head(files)

    def test_an_older_copy_that_was_gone_on_with_is_found(self, files: LedgerFiles) -> None:
        written(files, *STEPS[:2])
        older = files.ledger.read_bytes(), files.head.read_bytes()
        written(files, *STEPS[2:])
        newer = files.head.read_bytes()
        files.ledger.write_bytes(older[0])
        files.head.write_bytes(older[1])
        written(files, charges(SESSION, 3, 4, 5))
        files.head.write_bytes(newer)
        assert "do not belong together: entry 6 is another one" in refusal(files).message
        with pytest.raises(EnvironmentFault, match="do not belong together"):
            mend_head(files)

    def test_a_ledger_that_is_gone_is_not_an_empty_one(self, files: LedgerFiles) -> None:
        written(files, *STEPS)
        files.ledger.unlink()
        assert f"there is no file {files.ledger}, and" in refusal(files).message
        with pytest.raises(EnvironmentFault, match="there is no file"):
            mend_head(files)

    @pytest.mark.parametrize("how", ["missing", "damaged", "older"])
    def test_a_head_that_is_lost_is_an_error_until_it_is_mended(self, files: LedgerFiles, how: str) -> None:
        written(files, reserves(SESSION))
        older = files.head.read_bytes()
        written(files, *STEPS[1:])
        if how == "missing":
            files.head.unlink()
        else:
            files.head.write_bytes(older if how == "older" else b"head")
        found = refusal(files)
        assert str(files.head) in found.message and "fed-em privacy mend" in found.remedy
        assert mend_head(files) == 6
        assert charged_in(files) == {1, 2, 2**40}

    def test_entries_that_do_not_fit_those_before_are_an_error(
        self, files: LedgerFiles, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        written(files, *STEPS)
        monkeypatch.setattr(PrivacySpends, "after", lambda _, entry: PrivacySpends(latest=entry.time))
        with PrivacyLedger(files) as ledger:
            ledger._enter(privacy_ledger.EntryKind.CHARGE, b"\1" * 16, PLAN, 1)
        monkeypatch.undo()
        assert "entry 7 of" in refusal(files).message


class TestTornWrites:
    @pytest.mark.parametrize("last", [0, 1, 3])
    def test_an_entry_torn_at_any_byte_is_cut_and_a_whole_one_counts(self, files: LedgerFiles, last: int) -> None:
        with without_sync():
            written(files, *STEPS[:last])
            known = [path.read_bytes() if path.exists() else None for path in (files.ledger, files.head)]
            before = spends_in(files)
            written(files, *STEPS[last : last + 1] if last != 1 else (charges(SESSION, 1),))
            after, data = spends_in(files), files.ledger.read_bytes()
            base = len(known[0] or data[:MAGIC])
            for cut in range(base, len(data) + 1):
                for record in (data[base:cut], bytes(cut - base) + data[cut:], data[base:cut] + bytes(len(data) - cut)):
                    files.ledger.write_bytes(data[:base] + record)
                    files.head.write_bytes(known[1] or EMPTY_HEAD)
                    found = spends_in(files)
                    whole = record == data[base:]
                    assert found == (after if whole else before)
                    assert files.ledger.read_bytes() == (data if whole else data[:base])
                    assert spends_in(files) == found

    def test_what_a_reader_sees_is_left_alone(self, files: LedgerFiles) -> None:
        written(files, *STEPS)
        torn = files.ledger.read_bytes() + b"torn"
        files.ledger.write_bytes(torn)
        assert len(read_spends(files).sessions) == 2
        assert files.ledger.read_bytes() == torn

    def test_a_ledger_whose_making_was_cut_short_is_made_again(self, files: LedgerFiles) -> None:
        files.head.write_bytes(EMPTY_HEAD)
        assert spends_in(files) == PrivacySpends()
        written(files, *STEPS)
        assert charged_in(files) == {1, 2, 2**40}

    def test_an_entry_that_a_killed_process_left_is_written_and_synced_again(
        self, files: LedgerFiles, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def killed(*given: object) -> None:
            raise KeyboardInterrupt

        with PrivacyLedger(files) as ledger:
            ledger.reserve(SESSION, PLAN)
            with monkeypatch.context() as patch:
                patch.setattr(privacy_ledger, "sync", killed)
                with pytest.raises(KeyboardInterrupt):
                    ledger.charge(SESSION, 1)
        synced: list[object] = []
        monkeypatch.setattr(privacy_ledger, "sync", synced.append)
        assert charged_in(files) == {1}
        assert len(synced) == 1
        assert charged_in(files) == {1}
        assert len(synced) == 1

    def test_a_torn_entry_beyond_one_that_the_head_does_not_know_is_no_crash(self, files: LedgerFiles) -> None:
        written(files, *STEPS[:1])
        head = files.head.read_bytes()
        written(files, charges(SESSION, 1))
        files.head.write_bytes(head)
        whole = files.ledger.read_bytes()
        files.ledger.write_bytes(whole + b"torn")
        assert "entry 3" in refusal(files).message
        files.ledger.write_bytes(whole)
        assert charged_in(files) == {1}

    def test_after_a_head_that_was_written_and_reported_as_not_the_files_are_read_again(
        self, files: LedgerFiles, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def written_and_refused(path: Path, data: bytes) -> None:
            whole_files.write_whole(path, data)
            raise OSError(errno.EIO, "Input/output error")

        def killed(*given: object) -> None:
            raise KeyboardInterrupt

        with PrivacyLedger(files) as ledger:
            ledger.reserve(SESSION, PLAN)
            with monkeypatch.context() as patch:
                patch.setattr(privacy_ledger, "write_whole", written_and_refused)
                with pytest.raises(EnvironmentFault, match="Input/output error"):
                    ledger.charge(SESSION, 1)
                patch.setattr(privacy_ledger, "write_whole", killed)
                with pytest.raises(KeyboardInterrupt):
                    ledger.charge(SESSION, 2)
        assert charged_in(files) == {1, 2}


class TestLock:
    def test_a_second_one_is_refused_and_a_reader_is_not(self, files: LedgerFiles) -> None:
        with PrivacyLedger(files) as ledger:
            ledger.reserve(SESSION, PLAN)
            with pytest.raises(CallerError, match="another process of this tenant"):
                PrivacyLedger(files)
            with pytest.raises(CallerError, match="another process of this tenant"):
                mend_head(files)
            assert read_spends(files) == ledger.spends
        assert spends_in(files).sessions

    def test_a_damaged_ledger_is_not_left_locked(self, files: LedgerFiles) -> None:
        written(files, *STEPS)
        whole = files.ledger.read_bytes()
        files.ledger.write_bytes(b"")
        with pytest.raises(EnvironmentFault):
            PrivacyLedger(files)
        files.ledger.write_bytes(whole)
        assert charged_in(files) == {1, 2, 2**40}

    def test_another_process_is_refused(self, files: LedgerFiles) -> None:
        program = (
            "import sys; from pathlib import Path\n"
            "from fed_em_client.privacy_ledger import LedgerFiles, PrivacyLedger\n"
            "from fed_em.errors import CallerError\n"
            "try: PrivacyLedger(LedgerFiles(Path(sys.argv[1]), Path(sys.argv[2])))\n"
            "except CallerError as error: sys.exit(error.message)"
        )
        command = [sys.executable, "-c", program, str(files.ledger), str(files.head)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        with PrivacyLedger(files):
            refused = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert refused.returncode == 1
        assert "another process of this tenant" in refused.stderr


class PowerCut(BaseException):
    """The machine stops."""


class LedgerMachine(RuleBasedStateMachine):
    """Any history of sessions, crashes and days. What is uploaded is remembered here, beside the ledger.

    ε is replaced by the number of sums, so that the budget's bound can be checked by counting: at most `BUDGET` sums are
    uploaded within any period.
    """

    BUDGET, DAYS = 5, 10

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(os, "fsync", lambda _: None)
        self.patch.setattr(privacy_ledger, "sync", lambda _: None)
        self.patch.setattr(privacy_account, "epsilon_of", lambda spends, _: float(sum(s.sums for s in spends)))
        self.now = START
        self.uploads: dict[tuple[bytes, int], datetime] = {}
        self.attempts: set[tuple[bytes, int]] = set()
        self.ledger: PrivacyLedger | None = None

    @initialize()
    def found(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ledger-"))
        self.files = files_in(self.folder)
        self.demands = PrivacyDemands(budget=EpsilonBudget(self.BUDGET, 1e-5, self.DAYS))
        self._open()

    def _open(self) -> None:
        self.ledger = PrivacyLedger(self.files, self.demands, lambda: self.now)

    @property
    def opened(self) -> PrivacyLedger:
        assert self.ledger is not None
        return self.ledger

    @rule(session=st.sampled_from(SESSIONS), sums=st.sampled_from([1, 3, 4]))
    def reserve(self, session: bytes, sums: int) -> None:
        with suppress(TermsRefused):
            self.opened.reserve(session, Spend(30.0, sums))

    @rule(session=st.sampled_from(SESSIONS), number=st.integers(1, 4))
    def upload(self, session: bytes, number: int) -> None:
        self.attempts.add((session, number))
        try:
            self.opened.charge(session, number)
        except TermsRefused:
            known = self.opened.spends.sessions.get(session)
            stands = known is not None and known.stands(self.now, timedelta(days=self.DAYS))
            assert (session, number) not in self.uploads or not stands
            return
        # The round marks let each round be uploaded once; sent again, it is the same bytes.
        self.uploads.setdefault((session, number), self.now)

    @rule(session=st.sampled_from(SESSIONS))
    def release(self, session: bytes) -> None:
        self.opened.release(session)

    @rule(days=st.sampled_from([0.5, 4, 6, 11]))
    def wait(self, days: float) -> None:
        self.now += timedelta(days=days)

    @rule()
    def restart(self) -> None:
        self.opened.close()
        self._open()

    @rule(
        step=st.sampled_from(["reserve", "charge", "release"]),
        session=st.sampled_from(SESSIONS),
        number=st.integers(1, 4),
        calls=st.integers(0, 3),
        bytes_written=st.integers(0, RECORD),
        backwards=st.booleans(),
    )
    def power_cut(
        self, step: str, session: bytes, number: int, calls: int, bytes_written: int, backwards: bool
    ) -> None:
        """The machine stops in the middle of the given write of a step, or between two."""
        done = iter(range(100))

        def write_at(descriptor: int, data: bytes, offset: int) -> None:
            if next(done) == calls:
                data = (
                    bytes(len(data) - bytes_written) + data[len(data) - bytes_written :]
                    if backwards
                    else data[:bytes_written]
                )
                os.pwrite(descriptor, data, offset)
                raise PowerCut
            durable_files.write_at(descriptor, data, offset)

        def write_whole(path: Path, data: bytes) -> None:
            if next(done) == calls:
                path.with_suffix(".new").write_bytes(data[:bytes_written])
                raise PowerCut
            whole_files.write_whole(path, data)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(privacy_ledger, "write_at", write_at)
            patch.setattr(privacy_ledger, "write_whole", write_whole)
            self.attempts |= {(session, number)} if step == "charge" else set()
            with suppress(PowerCut, TermsRefused):
                {
                    "reserve": lambda: self.opened.reserve(session, Spend(30.0, 3)),
                    "charge": lambda: self.opened.charge(session, number),
                    "release": lambda: self.opened.release(session),
                }[step]()
        self.opened.close()
        self._open()

    @precondition(lambda self: self.ledger is not None)
    @invariant()
    def nothing_is_forgotten_or_counted_twice(self) -> None:
        spends = read_spends(self.files)
        assert spends == self.opened.spends
        period = timedelta(days=self.DAYS)
        charged = {(session, number) for session, known in spends.sessions.items() for number in known.charged}
        assert set(self.uploads) <= charged <= self.attempts
        assert sum(spend.sums for spend in spends.charged(self.now, None)) == len(charged)
        recent = [time for time in self.uploads.values() if time > self.now - period]
        assert sum(spend.sums for spend in spends.charged(self.now, period)) >= len(recent)
        assert len(recent) <= self.BUDGET

    def teardown(self) -> None:
        self.patch.undo()
        if self.ledger is not None:
            self.ledger.close()
            shutil.rmtree(self.folder)


def test_any_history_of_sessions_crashes_and_days() -> None:
    run_state_machine_as_test(
        LedgerMachine,
        settings=settings(
            max_examples=60,
            stateful_step_count=40,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


# A head that knows of no entry.
EMPTY_HEAD = privacy_ledger._HEAD.pack(privacy_ledger._HEAD_MAGIC, 0, privacy_ledger._FIRST_LINK)
EMPTY_HEAD += privacy_ledger._checksum(EMPTY_HEAD)
