"""The limit to one BLAS thread, and that it is lifted again."""

from __future__ import annotations

import threading

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from fed_em.blas import blas_libraries, one_blas_thread, single_threaded_blas


def blas_threads() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


@pytest.fixture(autouse=True)
def _two_threads_outside() -> object:
    with threadpool_limits(limits=2, user_api="blas"):
        if blas_threads() != {2}:
            pytest.skip("this machine's BLAS knows only one thread")
        yield


def test_it_holds_inside_and_is_lifted_outside() -> None:
    with one_blas_thread():
        assert blas_threads() == {1}
        with one_blas_thread():
            assert blas_threads() == {1}
        assert blas_threads() == {1}
    assert blas_threads() == {2}


def test_it_is_lifted_after_an_error() -> None:
    with pytest.raises(KeyError), one_blas_thread():
        raise KeyError
    assert blas_threads() == {2}


def test_threads_take_turns_and_leave_it_lifted() -> None:
    entered, leave = threading.Event(), threading.Event()

    def other() -> None:
        with one_blas_thread():
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    with one_blas_thread():
        thread.start()
        assert not entered.wait(0.05)
    assert entered.wait(10)
    leave.set()
    thread.join(10)
    assert blas_threads() == {2}


def test_a_long_stretch_on_one_thread_lets_e_steps_of_other_threads_go_on() -> None:
    inside: list[set[int]] = []

    def e_step() -> None:
        with one_blas_thread():
            inside.append(blas_threads())

    with single_threaded_blas():
        assert blas_threads() == {1}
        other = threading.Thread(target=e_step)
        other.start()
        other.join(timeout=10)
        assert inside == [{1}], "it does not wait for the end of the stretch"
        assert blas_threads() == {1}
    assert blas_threads() == {2}


def test_libraries_are_named_with_their_versions() -> None:
    named = blas_libraries()
    assert named and all(len(name.split()) >= 2 for name in named)
