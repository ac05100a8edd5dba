"""What a tenant evaluates in a stream: the minibatch of its secret, session and round, whole, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fed_em.errors import CallerError
from fed_em.model import COUNT, Rows
from fed_em_client.rows_work import RowsWork
from fed_em_protocols.description import SessionDescription, encoding_of
from fed_em_protocols.keys import KEY_BYTES, derive
from fed_em_protocols.messages import Mode
from fed_em_protocols.stream import Stream
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


@pytest.mark.parametrize("number", [2, 3, 4, 17])
def test_a_round_is_over_its_own_part_of_the_rows(bench: Bench, number: int) -> None:
    broadcast, work = bench.broadcast(), work_of(bench, b"mine")
    encoding = encoding_of(bench.description, broadcast, bench.parties.roster.row_caps)
    part = bench.rows[
        STREAM.minibatches(derive("minibatches", b"mine", KEY_BYTES, SESSION)).rows_of(number, len(bench.rows))
    ]
    statistics = broadcast.model.e_step(broadcast.parameters, bench.coordinates.apply(part), encoding.layout)
    assert float(statistics[COUNT]) in {13.0, 14.0}
    vector = work.evaluate(bench.request(broadcast, number))
    np.testing.assert_array_equal(vector, encoding.encode(statistics, BEECH))
    np.testing.assert_array_equal(work_of(bench, b"mine").evaluate(bench.request(broadcast, number)), vector)


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
