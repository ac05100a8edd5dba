"""A tenant's work without rows: the same random vector whenever it is asked, so that no E-step is measured."""

from __future__ import annotations

import functools

import numpy as np

from fed_em_protocols.encoding import CHECK_WORDS
from fed_em_protocols.masks import RingVector
from fed_em_protocols.tenant import Evaluate


@functools.cache
def fixed_vector(tenant: int, length: int) -> RingVector:
    """What the tenant with this roster index uploads, check words (zero) included."""
    vector = np.random.default_rng(tenant).integers(0, 2**64, size=length, dtype=np.uint64)
    vector[-CHECK_WORDS:] = 0
    return vector


@functools.cache
def fixed_sum(tenants: tuple[int, ...], length: int) -> RingVector:
    """The plain sum over some tenants."""
    total = np.zeros(length, dtype=np.uint64)
    for tenant in tenants:
        total += fixed_vector(tenant, length)
    return total


class FixedWork:
    """Implements `fed_em_client.tenant_session.TenantWork`."""

    def __init__(self, tenant: int) -> None:
        self._tenant = tenant

    def prepare(self, description: bytes) -> None:
        """Any session will do."""

    def evaluate(self, asked: Evaluate) -> RingVector:
        """The tenant's vector of the length that is asked for."""
        return fixed_vector(self._tenant, asked.length)
