"""The known-answer vectors that are kept are those that the code gives today."""

from __future__ import annotations

import json

import pytest

from tests.protocols.make_vectors import FILES, FOLDER, text_of


@pytest.mark.parametrize("name", FILES)
def test_vectors_are_what_the_code_gives(name: str) -> None:
    assert (FOLDER / f"{name}.json").read_text(encoding="utf-8") == text_of(name)


def test_no_vector_is_left_without_its_maker() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(FILES)


@pytest.mark.parametrize("name", ["derive", "shamir", "merkle", "box", "encoding", "envelope"])
def test_vectors_include_failures(name: str) -> None:
    cases = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    failing = [case for case in cases if "error" in case or None in case.values() or case.get("valid") is False]
    assert 0 < len(failing) < len(cases)
