"""Changed records are those that `dataclasses.replace` makes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property

import pytest

from fed_em.errors import CallerError
from fed_em_protocols.coordinator_state import Timetable
from fed_em_protocols.records import replace


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
        assert replace(record, **changes) == dataclasses.replace(record, **changes)  # type: ignore[arg-type]
    assert replace(record, first=3).doubled == 6 and record.first == 1
    with pytest.raises(TypeError, match="third"):
        replace(record, third=1)
    with pytest.raises(TypeError, match="third"):
        replace(_Record(1), third=1)


def test_a_record_that_looks_at_its_fields_looks_at_changed_ones() -> None:
    assert replace(Timetable(), open=3.0) == dataclasses.replace(Timetable(), open=3.0)
    assert replace(Timetable()) == Timetable()
    with pytest.raises(CallerError, match="open"):
        replace(Timetable(), open=0.0)
