"""The protocol that remembers does what the protocol does."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import pytest

from fed_em_protocols import coordinator, keys
from fed_em_protocols.coordinator_state import Timetable
from tests.protocols.remembering import copied, remembered_protocol


@dataclass(frozen=True)
class _Record:
    first: int
    second: str = ""

    @cached_property
    def doubled(self) -> int:
        return 2 * self.first


def test_a_changed_record_is_the_one_that_replace_makes() -> None:
    record = _Record(1, "a")
    assert record.doubled == 2
    for changes in ({}, {"first": 3}, {"first": 4, "second": "b"}):
        assert copied(record, **changes) == replace(record, **changes)  # type: ignore[arg-type]
    assert copied(record, first=3).doubled == 6 and record.first == 1
    with pytest.raises(TypeError, match="third"):
        copied(record, third=1)
    with pytest.raises(TypeError, match="third"):
        copied(_Record(1), third=1)


def test_a_record_that_looks_at_its_fields_looks_at_changed_ones() -> None:
    assert copied(Timetable(), open=3.0) == replace(Timetable(), open=3.0)
    assert copied(Timetable()) == Timetable()
    with pytest.raises(Exception, match="open"):
        copied(Timetable(), open=0.0)


def test_it_is_forgotten_in_the_end() -> None:
    before = vars(coordinator)["replace"], keys.derive
    with remembered_protocol():
        assert vars(coordinator)["replace"] is copied
    assert (vars(coordinator)["replace"], keys.derive) == before
