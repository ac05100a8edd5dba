"""A reader of safetensors files of float64 arrays, as `fed_em.tensors` writes them, that needs NumPy alone.

The format (huggingface/safetensors, "Format"): eight bytes with the length N of the header, little-endian; N bytes of JSON, which maps
each array's name to its type, shape and place; the arrays, one after another, without gaps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fed_em.errors import CallerError
from fed_em.strict_json import parse_json

Vector = NDArray[np.float64]

_LENGTH_BYTES, _ENTRY_BYTES = 8, 8


def read_tensors(data: bytes, what: str) -> tuple[dict[str, Vector], Mapping[str, str]]:
    """The arrays by name, and the metadata.

    Args:
        data: The bytes, from anywhere.
        what: What they should be, for messages.

    Raises:
        CallerError: they are no such file, or hold anything but float64.
    """
    length = int.from_bytes(data[:_LENGTH_BYTES], "little")
    if len(data) < _LENGTH_BYTES or length > len(data) - _LENGTH_BYTES:
        raise _not_safetensors(what, "it is shorter than its header says")
    header = parse_json(data[_LENGTH_BYTES : _LENGTH_BYTES + length], f"the header of {what}")
    if not isinstance(header, dict):
        raise _not_safetensors(what, "its header is no mapping")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _not_safetensors(what, "its metadata is not of texts")
    body = memoryview(data)[_LENGTH_BYTES + length :]
    at = 0
    for start, end in sorted(_place(entry, what) for entry in header.values()):
        if start != at or end < start:
            raise _not_safetensors(what, "its arrays do not follow one another")
        at = end
    if at != len(body):
        raise _not_safetensors(what, "its arrays do not end where it does")
    return {name: _array(name, entry, body, what) for name, entry in header.items()}, metadata


def _place(entry: object, what: str) -> tuple[int, int]:
    match entry:
        case {"dtype": str(), "shape": list(), "data_offsets": [int(start), int(end)]}:
            return start, end
    raise _not_safetensors(what, "its header does not say where an array is")


def _array(name: str, entry: Mapping[str, Any], body: memoryview, what: str) -> Vector:
    if entry["dtype"] != "F64":
        raise _not_safetensors(what, f"array '{name}' is not of float64")
    shape, (start, end) = entry["shape"], entry["data_offsets"]
    whole = all(type(size) is int and size >= 0 for size in shape)
    if not whole or math.prod(shape) * _ENTRY_BYTES != end - start:
        raise _not_safetensors(what, f"array '{name}' is not as long as its shape says")
    array = np.frombuffer(body[start:end], dtype="<f8").astype(np.float64).reshape(shape)
    array.flags.writeable = False
    return array


def _not_safetensors(what: str, why: str) -> CallerError:
    return CallerError(f"{what} is not valid safetensors data: {why}", remedy="get it again from where it was written")
