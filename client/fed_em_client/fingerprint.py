"""What a tenant's statistics follow from, as one digest: so that a restarted process knows whether they are still the same."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

import fed_em
from fed_em.records import Records
from fed_em_protocols.hashing import digest

MIXED = digest("mixed work")
"""In place of a fingerprint, of a session in which there was more than one. No rows have it."""


def fingerprint_of(records: Records, names: Sequence[str]) -> bytes:
    """SHA-256 over the version of this package, the columns' names, rows `(n, D)` in original units, labels and weights, bit for bit.

    It never leaves the tenant: rows that are easy to guess could be found from it.
    """
    found = hashlib.sha256(digest("work", fed_em.__version__, len(names), *names, len(records)))
    found.update(np.ascontiguousarray(records.rows, dtype="<f8").reshape(-1).view(np.uint8).data)
    if records.weights is not None:
        found.update(b"weights" + np.ascontiguousarray(records.weights, dtype="<f8").tobytes())
    if records.admissible is not None:
        found.update(b"labels" + np.ascontiguousarray(records.admissible).tobytes())
    return found.digest()
