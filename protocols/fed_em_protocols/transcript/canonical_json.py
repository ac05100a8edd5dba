"""JSON in the one form of RFC 8785, for what is hashed and signed: without numbers that are not whole.

Floating-point numbers and integers beyond 2^53 stand in strings, in hexadecimal; so the part of the RFC that says how a float is printed
never applies, and one is refused.
"""

from __future__ import annotations

import json
from typing import Any

from fed_em.errors import CallerError

# Beyond it not every integer is an IEEE 754 double, which is what RFC 8785 makes of a number.
MOST = 2**53 - 1


def canonical_json(document: object) -> bytes:
    """The document as RFC 8785 writes it: UTF-8, no spaces, members sorted by their names in UTF-16.

    Args:
        document: Of None, bool, int, str, list, tuple, and dict with names of str.

    Raises:
        CallerError: it holds anything else, an integer beyond 2^53 − 1, or text that is no Unicode.
    """
    try:
        return json.dumps(_sorted(document), ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except UnicodeEncodeError:
        raise CallerError("half of a surrogate pair is no text, and has no canonical form") from None


def read_canonical_json(data: bytes, what: str) -> Any:
    """The document that `canonical_json` wrote.

    Raises:
        CallerError: the bytes are not the one canonical form of any; names `what`.
    """
    try:
        document = json.loads(data)
        same = canonical_json(document) == data
    except (ValueError, RecursionError, CallerError) as error:
        raise CallerError(f"{what} is no canonical JSON: {error}") from None
    if not same:
        raise CallerError(f"{what} is no canonical JSON: it is written in another way than the only one")
    return document


def _sorted(document: object) -> object:
    if document is None or isinstance(document, bool | str):
        return document
    if isinstance(document, int):
        if abs(document) > MOST:
            raise CallerError(f"the integer {document} is beyond 2^53", remedy="write it as a string in hexadecimal")
        return document
    if isinstance(document, list | tuple):
        return [_sorted(entry) for entry in document]
    if isinstance(document, dict) and all(isinstance(name, str) for name in document):
        return {name: _sorted(document[name]) for name in sorted(document, key=_in_utf16)}
    raise CallerError(
        f"{type(document).__name__} has no canonical form here", remedy="write a float as a string in hexadecimal"
    )


def _in_utf16(name: str) -> bytes:
    return name.encode("utf-16-be", "surrogatepass")
