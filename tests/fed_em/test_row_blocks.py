"""Rows cut into blocks, threads over them, and sums that are the same for any number of threads."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fed_em.covariance import COVARIANCE_STRUCTURES, CovarianceStructure
from fed_em.errors import CallerError
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.row_blocks import THREADS_VARIABLE, Segment, cut_into_segments, e_step_threads, over_segments, use_threads
from tests.fed_em.kernel_choice import BOTH, run_with
from tests.fed_em.mixtures import parameters_of


@given(n_rows=st.integers(0, 300_000), n_entries=st.integers(1, 10_000_000))
def test_a_partition_has_every_row_once_and_in_order(n_rows: int, n_entries: int) -> None:
    blocks = [block for segment in cut_into_segments(n_rows, n_entries) for block in segment]
    assert [block.start for block in blocks] == [0, *(block.stop for block in blocks)][: len(blocks)]
    assert not blocks or blocks[-1].stop == n_rows
    sizes = [block.stop - block.start for block in blocks]
    assert all(size == sizes[0] for size in sizes[:-1])
    assert not sizes or 0 < sizes[-1] <= sizes[0] <= 2048


@pytest.mark.parametrize(
    ("n_rows", "fewest", "most"), [(2040, 1, 1), (2040 * 9, 9, 9), (2**16, 16, 32), (10**6, 61, 62)]
)
def test_threads_have_segments_enough(n_rows: int, fewest: int, most: int) -> None:
    """A shard of a tenant's rows has some for each of a few threads; a large table few for its size."""
    assert fewest <= len(cut_into_segments(n_rows, 21)) <= most


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_work_is_handed_back_in_the_order_of_the_segments(threads: int) -> None:
    def work(segment: Segment) -> int:
        time.sleep(0.003 * (segment[0].start % 3))
        return segment[0].start

    segments = [[slice(i, i + 1)] for i in range(23)]
    with use_threads(threads):
        assert list(over_segments(work, segments)) == list(range(23))
        assert list(over_segments(work, [])) == []


def test_more_threads_work_at_the_same_time() -> None:
    together = threading.Barrier(3, timeout=20)
    with use_threads(3):
        list(over_segments(lambda _: together.wait(), [[slice(0, 1)]] * 3))


def test_an_error_of_a_thread_is_raised() -> None:
    def work(segment: Segment) -> None:
        raise KeyError(segment[0].start)

    with use_threads(2), pytest.raises(KeyError, match="0"):
        list(over_segments(work, [[slice(i, i + 1)] for i in range(9)]))


class TestSetting:
    def test_it_is_for_the_inside_of_a_with(self) -> None:
        before = e_step_threads()
        with use_threads(5):
            assert e_step_threads() == 5
            with use_threads(1):
                assert e_step_threads() == 1
        assert e_step_threads() == before >= 1

    def test_the_environment_says_it_where_nobody_else_does(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(THREADS_VARIABLE, "3")
        assert e_step_threads() == 3
        with use_threads(2):
            assert e_step_threads() == 2

    @pytest.mark.parametrize("asked", ["0", "-1", "two", ""])
    def test_no_number_is_refused(self, asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(THREADS_VARIABLE, asked)
        with pytest.raises(CallerError, match=THREADS_VARIABLE):
            e_step_threads()

    def test_no_thread_is_refused(self) -> None:
        with pytest.raises(CallerError, match="at least one"), use_threads(0):
            pass


@pytest.mark.parametrize("kernels", BOTH)
@pytest.mark.parametrize("structure", COVARIANCE_STRUCTURES)
def test_the_number_of_threads_changes_no_bit(structure: CovarianceStructure, kernels: str) -> None:
    model, parameters = GaussianMixtureModel(3, 2, structure), parameters_of(structure)
    rows = model.sample(parameters, 70_001, np.random.default_rng(0))[0]
    assert len(cut_into_segments(len(rows), 9)) >= 4
    found = []
    for threads in (1, 2, 5):
        with run_with(kernels), use_threads(threads):
            statistics = model.e_step(parameters, rows).vector
            posterior = model.responsibilities(parameters, rows), model.log_prob(parameters, rows)
        found.append([each.tobytes() for each in (statistics, *posterior)])
    assert found[0] == found[1] == found[2]
