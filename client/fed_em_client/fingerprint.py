"""What a tenant's statistics follow from, as one digest: so that a restarted process knows whether they are still the same."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.metadata import version

import numpy as np

from fed_em.model import Rows
from fed_em_protocols.hashing import digest

MIXED = digest("mixed work")
"""In place of a fingerprint, of a session in which there was more than one. No rows have it."""


def fingerprint_of(rows: Rows, names: Sequence[str]) -> bytes:
    """SHA-256 over the version of this package, the columns' names, and rows `(n, D)` in original units, bit for bit.

    It never leaves the tenant: rows that are easy to guess could be found from it.
    """
    found = hashlib.sha256(digest("work", version("fed-em"), len(names), *names, len(rows)))
    found.update(np.ascontiguousarray(rows, dtype="<f8").data.cast("B"))
    return found.digest()
