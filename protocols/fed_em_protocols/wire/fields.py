"""What a field of a message may hold, declared beside the field and checked on the way in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fed_em_protocols.hashing import DIGEST_BYTES
from fed_em_protocols.keys import KEY_BYTES


def exactly(length: int) -> Mapping[str, Any]:
    """Bytes of exactly this length."""
    return {"length": length}


def multiple_of(length: int) -> Mapping[str, Any]:
    """Bytes of any positive multiple of this length."""
    return {"multiple": length}


def at_most(limit: int) -> Mapping[str, Any]:
    """An integer of at most `limit`, or bytes, text or a list of at most that many entries."""
    return {"most": limit}


def list_of(limit: int, length: int) -> Mapping[str, Any]:
    """A list of at most `limit` entries of exactly so many bytes."""
    return {"most": limit, "entry": length}


SESSION_BYTES = 16

ID = exactly(SESSION_BYTES)
DIGEST = exactly(DIGEST_BYTES)
KEY = exactly(KEY_BYTES)
