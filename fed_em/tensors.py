"""Named float64 arrays and one JSON document as safetensors bytes, and back, trusting nothing.

The document stands as canonical JSON under one key of the safetensors metadata, so equal contents give equal
bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from fed_em.errors import CallerError
from fed_em.strict_json import canonical_json, parse_json

Vector = NDArray[np.float64]

_DOCUMENT = "fed_em"
_HEADER_LENGTH_BYTES = 8


def encode(arrays: Mapping[str, Vector], document: Mapping[str, Any]) -> bytes:
    """Safetensors bytes of float64 `arrays` and a JSON `document`; equal contents give equal bytes."""
    contiguous = {name: np.ascontiguousarray(array, dtype=np.float64) for name, array in arrays.items()}
    return safetensors.numpy.save(contiguous, metadata={_DOCUMENT: canonical_json(document)})


def decode(data: bytes, what: str) -> tuple[dict[str, Vector], Any]:
    """The arrays and the document that `encode` wrote.

    Args:
        data: The bytes, from anywhere.
        what: What they should be, for messages.

    Raises:
        CallerError: not safetensors, not float64, or no document.
    """
    try:
        tensors = safetensors.deserialize(bytes(data))  # type: ignore[no-untyped-call]
    except safetensors.SafetensorError as error:
        raise CallerError(f"{what} is not valid safetensors data: {error}", remedy=_REMEDY) from error
    header_end = _HEADER_LENGTH_BYTES + int.from_bytes(data[:_HEADER_LENGTH_BYTES], "little")
    header = parse_json(data[_HEADER_LENGTH_BYTES:header_end], f"the header of {what}")
    metadata = header.get("__metadata__")
    if not isinstance(metadata, dict) or set(metadata) != {_DOCUMENT}:
        raise CallerError(f"{what} has no '{_DOCUMENT}' metadata", remedy=_REMEDY)
    document = parse_json(metadata[_DOCUMENT], f"the metadata of {what}")
    return {name: _array(name, tensor, what) for name, tensor in tensors}, document


_REMEDY = "get it again from where it was written"


def _array(name: str, tensor: Mapping[str, Any], what: str) -> Vector:
    if tensor["dtype"] != "F64":
        raise CallerError(f"array '{name}' of {what} has dtype {tensor['dtype']}, not F64", remedy=_REMEDY)
    try:
        return np.frombuffer(tensor["data"], dtype="<f8").astype(np.float64).reshape(tensor["shape"])
    except (ValueError, OverflowError):
        raise CallerError(f"array '{name}' of {what} has a shape that no array can have", remedy=_REMEDY) from None
