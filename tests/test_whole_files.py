"""How several workers share tests."""

from __future__ import annotations

import pytest

from tests.whole_files import WholeFiles


@pytest.mark.parametrize(
    ("test", "taken_with"),
    [
        ("tests/a/test_b.py::test_c", "tests/a/test_b.py"),
        ("tests/a/test_b.py::TestC::test_d[of e@f::g]", "tests/a/test_b.py"),
        ("tests/a/test_b.py::TestC::test_d[e]@one fleet", "one fleet"),
    ],
)
def test_a_worker_takes_a_group_or_a_file(test: str, taken_with: str) -> None:
    scheduler = WholeFiles.__new__(WholeFiles)  # what it is made with are workers
    assert scheduler._split_scope(test) == taken_with
