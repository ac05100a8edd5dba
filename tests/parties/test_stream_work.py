"""What a tenant evaluates in a stream: the next minibatch, of its secret and session, whole, and nothing else."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fed_em.broadcast import Broadcast
from fed_em.errors import CallerError
from fed_em.model import COUNT, Rows
from fed_em.parameters import Parameters
from fed_em_client.rows_work import RowsWork
from fed_em_protocols.description import SessionDescription, encoding_of
from fed_em_protocols.keys import KEY_BYTES, derive
from fed_em_protocols.messages import Mode
from fed_em_protocols.stream import Stream
from fed_em_simulations.volatile_marks import VolatileMarks
from tests.parties.forest import Parties
from tests.parties.test_rows_work import BEECH, Bench

STREAM = Stream(batches=3, step_size=0.5)
SESSION = bytes(range(16))


@pytest.fixture
def bench(parties: Parties, description: SessionDescription, rows: Rows, tmp_path: Path) -> Bench:
    return Bench(parties, description.model_copy(update={"stream": STREAM}), rows, tmp_path / "rows.npy")


def work_of(bench: Bench, secret: bytes) -> RowsWork:
    work = RowsWork(bench.data, {}, bench.parties.roster, BEECH, secret=secret)
    work.prepare(bench.description.to_json(), 0)
    work.changed(SESSION)
    return work


class Parts:
    """Which minibatch each request was answered with, found by the vector that it gives."""

    def __init__(self, bench: Bench, parties: int = 40) -> None:
        self.bench = bench
        described = hashlib.sha256(bench.description.to_json()).digest()
        minibatches = STREAM.minibatches(derive("minibatches", b"mine", KEY_BYTES, SESSION, described))
        self.parts = [bench.rows[minibatches.rows_of(number, len(bench.rows))] for number in range(parties)]

    def at(self, shift: float) -> Broadcast:
        """A request that differs from another by its parameters."""
        broadcast = self.bench.broadcast()
        moved = {**broadcast.parameters, "means": broadcast.parameters["means"] + shift}
        return replace(broadcast, parameters=Parameters(moved))

    def answered(self, work: RowsWork, broadcast: Broadcast, number: int) -> int:
        encoding = encoding_of(self.bench.description, broadcast, self.bench.parties.roster.row_caps)
        vector = work.evaluate(self.bench.request(broadcast, number))
        at = self.bench.coordinates.apply
        statistics = [broadcast.model.e_step(broadcast.parameters, at(part), encoding.layout) for part in self.parts]
        assert {float(each[COUNT]) for each in statistics} == {13.0, 14.0}
        return [np.array_equal(vector, encoding.encode(each, BEECH)) for each in statistics].index(True)


def test_each_round_is_over_the_next_part_of_the_rows(bench: Bench) -> None:
    """Whatever the numbers of rounds: those of other tenants, of moments, and of rounds that never came here are not passed over."""
    parts, work = Parts(bench), work_of(bench, b"mine")
    assert [parts.answered(work, parts.at(k / 8), number) for k, number in enumerate((2, 3, 9, 10, 17))] == [
        0,
        1,
        2,
        3,
        4,
    ]
    assert parts.answered(work_of(bench, b"mine"), parts.at(0.0), 30) == 0


def test_a_sum_that_is_asked_for_anew_is_over_the_same_part(bench: Bench) -> None:
    """Its round failed, or its server died."""
    parts, work = Parts(bench), work_of(bench, b"mine")
    asked = [(0.0, 2), (0.0, 3), (0.5, 4), (0.5, 7), (0.0, 8)]
    assert [parts.answered(work, parts.at(shift), number) for shift, number in asked] == [0, 0, 1, 1, 2]


def test_a_tenant_that_starts_anew_goes_on_behind_all_that_it_can_have_taken(bench: Bench) -> None:
    parts, marks = Parts(bench), VolatileMarks()
    taken = []
    for first in (2, 11):
        work = RowsWork(bench.data, {}, bench.parties.roster, BEECH, marks, secret=b"mine")
        work.prepare(bench.description.to_json(), 0)
        work.changed(SESSION)
        work.changed(SESSION)  # another link of the same process
        taken += [parts.answered(work, parts.at(k / 8), first + k) for k in range(3)]
    assert taken == [0, 1, 2, 11, 12, 13]


def test_whoever_knows_the_session_does_not_know_the_parts(bench: Bench) -> None:
    """Known parts at one θ are known combinations of rows: some more rounds than rows, and differences of a tenant's rows follow."""
    asked = bench.request(bench.broadcast(), 2)
    drawn = [work_of(bench, secret).evaluate(asked) for secret in (b"mine", b"yours")]
    assert not np.array_equal(*drawn)


def test_the_moments_are_of_all_rows(bench: Bench) -> None:
    work, first = bench.prepared(), bench.description.first_round
    encoding = encoding_of(bench.description, first, bench.parties.roster.row_caps)
    rows = first.coordinates.apply(bench.rows)
    expected = encoding.encode(first.model.e_step(first.parameters, rows, encoding.layout), BEECH)
    np.testing.assert_array_equal(work.evaluate(bench.request(first)), expected)


@pytest.mark.parametrize("recall", [False, True])
def test_increments_are_refused(bench: Bench, recall: bool) -> None:
    asked = replace(bench.request(bench.broadcast()), mode=Mode.INCREMENT, recall=recall)
    with pytest.raises(CallerError, match="an increment, in a stream"):
        bench.prepared().evaluate(asked)


def test_a_mass_gate_is_refused(bench: Bench) -> None:
    with pytest.raises(CallerError, match="is a stream, which has no mass gate"):
        bench.work.prepare(bench.description.to_json(), 1)


def test_batches_of_next_to_nobody_are_refused(bench: Bench) -> None:
    """Forty rows make eight batches of five, and no more."""
    for batches, refused in ((8, False), (9, True), (1, False)):
        stream = Stream(batches=batches, step_size=0.5)
        offered = bench.description.model_copy(update={"stream": stream}).to_json()
        if refused:
            with pytest.raises(CallerError, match=r"40 rows leave fewer than 5 in one.*stay out below 45"):
                bench.work.prepare(offered, 0)
        else:
            bench.work.prepare(offered, 0)


class TestGrowth:
    """Rows that are appended between rounds."""

    @pytest.fixture
    def whole(self, bench: Bench) -> Bench:
        """In a stream of one batch, whose round is over all rows."""
        bench.description = bench.description.model_copy(update={"stream": Stream(batches=1, step_size=0.5)})
        return bench

    def growing(self, bench: Bench, said: list[str], growing: bool = True) -> RowsWork:
        work = RowsWork(bench.data, {}, bench.parties.roster, BEECH, growing=growing, report=said.append)
        work.prepare(bench.description.to_json(), 0)
        work.changed(SESSION)
        return work

    def assert_over(self, bench: Bench, work: RowsWork, rows: Rows, number: int) -> None:
        broadcast = bench.broadcast()
        encoding = encoding_of(bench.description, broadcast, bench.parties.roster.row_caps)
        statistics = broadcast.model.e_step(broadcast.parameters, bench.coordinates.apply(rows), encoding.layout)
        np.testing.assert_array_equal(
            work.evaluate(bench.request(broadcast, number)), encoding.encode(statistics, BEECH)
        )

    def append(self, bench: Bench, n: int, value: Rows | None = None) -> Rows:
        rows = np.concatenate((np.load(bench.data), bench.rows[:n] if value is None else np.tile(value, (n, 1))))
        np.save(bench.data, rows)
        return np.asarray(rows)

    def test_rows_that_came_are_in_the_next_round(self, whole: Bench) -> None:
        said: list[str] = []
        work = self.growing(whole, said)
        self.assert_over(whole, work, whole.rows, 2)
        more = self.append(whole, 5)
        self.assert_over(whole, work, more, 3)
        self.assert_over(whole, work, self.append(whole, 5), 4)
        assert said == [
            "the stream goes on over 45 rows, 5 more than before",
            "the stream goes on over 50 rows, 5 more than before",
        ]

    def test_a_few_rows_wait_for_others(self, whole: Bench) -> None:
        """Sums at one point over all rows but one and over all rows tell that row."""
        said: list[str] = []
        work = self.growing(whole, said)
        for number in (2, 3):
            self.append(whole, 2)
            self.assert_over(whole, work, whole.rows, number)
        assert all("fewer than 5 rows more" in each for each in said)
        self.assert_over(whole, work, self.append(whole, 1), 4)

    def test_rows_that_are_not_admitted_or_cannot_be_read_leave_the_others(self, whole: Bench) -> None:
        said: list[str] = []
        work = self.growing(whole, said)
        good = np.load(whole.data)
        self.append(whole, 6, np.array([[1e9, 1e9]]))
        self.assert_over(whole, work, whole.rows, 2)
        whole.data.write_bytes(b"half a file")
        self.assert_over(whole, work, whole.rows, 3)
        whole.data.unlink()
        self.assert_over(whole, work, whole.rows, 4)
        np.save(whole.data, good)
        self.assert_over(whole, work, self.append(whole, 5), 5)
        assert len(said) == 3 and all("not taken up" in each for each in said[:2])
        assert "1e9" not in "".join(said) and "1000000000" not in "".join(said)

    def test_a_new_file_of_a_folder_counts_too(self, whole: Bench, tmp_path: Path) -> None:
        folder = tmp_path / "parts"
        folder.mkdir()
        np.save(folder / "b.npy", whole.rows)
        work = RowsWork(folder, {}, whole.parties.roster, BEECH, growing=True)
        work.prepare(whole.description.to_json(), 0)
        self.assert_over(whole, work, whole.rows, 2)
        np.save(folder / "a.npy", whole.rows[:9])
        self.assert_over(whole, work, np.concatenate((whole.rows[:9], whole.rows)), 3)

    def test_whoever_did_not_ask_for_it_keeps_its_rows(self, whole: Bench) -> None:
        work = self.growing(whole, [], growing=False)
        self.append(whole, 8)
        self.assert_over(whole, work, whole.rows, 2)

    def test_outside_streams_rows_stay(self, whole: Bench) -> None:
        """Terms of earlier rounds stand in a running total, and objectives are compared from round to round."""
        whole.description = whole.description.model_copy(update={"stream": None})
        work = self.growing(whole, [])
        self.assert_over(whole, work, whole.rows, 2)
        self.append(whole, 8)
        self.assert_over(whole, work, whole.rows, 3)
