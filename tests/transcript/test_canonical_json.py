"""The canonical form against the examples of RFC 8785, and what it refuses."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fed_em.errors import CallerError
from fed_em_protocols.transcript.canonical_json import MOST, canonical_json, read_canonical_json

# RFC 8785, section 3.2.2 and 3.2.4, without its numbers that are not whole.
STRING = "\u20ac$\u000f\u000aA'\u0042\u0022\u005c\\\"\u002f"
STRING_BYTES = '{"literals":[null,true,false],"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'.encode()

# RFC 8785, section 3.2.3: names are sorted as UTF-16, so the one beyond the first plane comes before U+FB33.
SORTED = {
    "\u20ac": "Euro Sign",
    "\r": "Carriage Return",
    "\ufb33": "Hebrew Letter Dalet With Dagesh",
    "1": "One",
    "\U0001f600": "Emoji: Grinning Face",
    "\u0080": "Control",
    "\u00f6": "Latin Small Letter O With Diaeresis",
}
IN_ORDER = ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]

documents = st.recursive(
    st.none() | st.booleans() | st.integers(-MOST, MOST) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def test_strings_and_literals_of_the_rfc() -> None:
    assert canonical_json({"string": STRING, "literals": [None, True, False]}) == STRING_BYTES


def test_names_are_sorted_as_the_rfc_has_them() -> None:
    assert list(json.loads(canonical_json(SORTED))) == IN_ORDER


@given(documents)
def test_what_was_written_is_read_and_written_the_same(document: object) -> None:
    data = canonical_json(document)
    assert read_canonical_json(data, "it") == document
    assert canonical_json(json.loads(data)) == data


@pytest.mark.parametrize("number", [2**53, -(2**53)])
def test_an_integer_that_is_no_double_is_refused(number: int) -> None:
    assert canonical_json(number - 1 if number > 0 else number + 1)
    with pytest.raises(CallerError, match="hexadecimal"):
        canonical_json([number])


@pytest.mark.parametrize("value", [1.5, float("nan"), b"x", {1: 2}, "\ud800", object()])
def test_what_has_no_canonical_form_here_is_refused(value: object) -> None:
    with pytest.raises(CallerError):
        canonical_json({"a": value})


@pytest.mark.parametrize(
    "data",
    [
        b'{"b":1,"a":2}',
        b'{ "a":1}',
        b'{"a":1,"a":1}',
        b'"\\u0041"',
        b"1.0",
        b"1e3",
        b"-0",
        b"",
        b"[",
        b'"\xff"',
        b"NaN",
    ],
)
def test_another_way_to_write_the_same_is_refused(data: bytes) -> None:
    with pytest.raises(CallerError, match="it is no canonical JSON"):
        read_canonical_json(data, "it")
