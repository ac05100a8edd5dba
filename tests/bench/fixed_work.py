"""A tenant's work without rows: a random vector that the first bytes of the parameters shift, so that no E-step is measured."""

from __future__ import annotations

import functools
from collections.abc import Iterable

import numpy as np

from fed_em_protocols.masks import RingVector
from fed_em_protocols.messages import Mode
from fed_em_protocols.ring import RING_64, RINGS
from fed_em_protocols.tenant_state import Evaluate

# Tenants with the same number modulo this have the same vector: a thousand different ones would fill the memory.
_VECTORS = 16
_SHIFT_BYTES = 8


@functools.cache
def _vector(kind: int, length: int) -> RingVector:
    vector = np.random.default_rng(kind).integers(0, 2**64, size=length, dtype=np.uint64)
    vector[-RING_64.tail_words :] = 0
    return vector


def vector_at(tenant: int, length: int, parameters: bytes) -> RingVector:
    """What the tenant with this roster index uploads, check words (zero) included."""
    vector = _vector(tenant % _VECTORS, length).copy()
    vector[: -RING_64.tail_words] += np.uint64(int.from_bytes(parameters[:_SHIFT_BYTES], "little"))
    return vector


def fixed_sum(tenants: Iterable[int], length: int) -> RingVector:
    """The plain sum over some tenants at parameters that begin with zeros."""
    total = np.zeros(length, dtype=np.uint64)
    for tenant in tenants:
        total += _vector(tenant % _VECTORS, length)
    return total


class FixedWork:
    """Implements `fed_em_client.tenant_session.TenantWork`.

    Attributes:
        held_bitmap: What the mass gate keeps shut, whatever the counts.
    """

    def __init__(self, tenant: int, held_bitmap: bytes = b"\0") -> None:
        self._tenant = tenant
        self.held_bitmap = held_bitmap

    def prepare(self, description: bytes, mass_floor: int) -> None:
        """Any session will do."""

    def changed(self, session: bytes) -> bool:
        """Nothing ever changes."""
        return False

    def evaluate(self, asked: Evaluate) -> RingVector:
        """The tenant's vector of the length that is asked for; no counts."""
        if asked.mode == Mode.COUNTS:
            return RINGS[asked.ring].zeros(asked.length)
        return vector_at(self._tenant, asked.length, asked.parameters)

    def held(self, counts: RingVector) -> bytes:
        """The same components, whatever the counts."""
        return self.held_bitmap
