"""Frozen records with some fields changed, as `dataclasses.replace` gives them, without its look at each field.

State machines make a new state at each message, of records with up to thirty fields.
"""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

__all__ = ["replace"]

if not TYPE_CHECKING:  # type checkers know what the original takes

    def replace(record: Any, /, **changes: Any) -> Any:
        """`dataclasses.replace`: what a record has worked out (its cached properties) is not taken over."""
        kind = type(record)
        names, copy = _plain_fields(kind), object.__new__(kind)
        values = copy.__dict__
        values.update(record.__dict__)
        values.update(changes)
        if len(values) != len(names):
            if not names or not changes.keys() <= names:
                return dataclasses.replace(record, **changes)
            for name in values.keys() - names:
                del values[name]
        return copy


@cache
def _plain_fields(kind: type) -> frozenset[str]:
    """Names of the fields of a record that is nothing but its fields; none of one that looks at them when it is made."""
    looks = hasattr(kind, "__post_init__")
    return frozenset() if looks else frozenset(each.name for each in dataclasses.fields(kind))
