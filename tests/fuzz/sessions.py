"""The sessions in which the stateful targets play: small ones, of every kind that has machinery of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fed_em_client.tenant_session import TenantSession
from fed_em_protocols.coordinator_state import SumRequest
from fed_em_protocols.terms import Trust
from fed_em_simulations.memory_hub import Interference
from tests.protocols.federation import TestFederation

TENANTS = 4
_VECTOR_LENGTH = 2
# Counts end in many more check words.
_COUNTED_LENGTH = 48
_WINDOW_ROUNDS = 2


@dataclass(frozen=True)
class SessionKind:
    """What sessions differ in: their terms, and what the sums that are asked for have that others do not have."""

    name: str
    terms: Mapping[str, int]
    sums: tuple[Mapping[str, Any], ...]

    def __str__(self) -> str:
        return self.name


_PLAIN: tuple[Mapping[str, Any], ...] = ({}, {}, {})
_GATED: tuple[Mapping[str, Any], ...] = ({"counts": True}, {"held": b"\0"}, {"counts": True})
_CERTIFIED = {"trust": Trust.MALICIOUS_SERVER}
SESSION_KINDS = (
    SessionKind("semi-honest", {"trust": Trust.SEMI_HONEST}, _PLAIN),
    SessionKind("malicious-server", _CERTIFIED, _PLAIN),
    SessionKind("blocks", {**_CERTIFIED, "blocks": 2, "colluders": 0}, _PLAIN),
    SessionKind("mass-gate", {**_CERTIFIED, "mass_floor": 1}, _GATED),
)


def federation_of(
    kind: SessionKind, interfere: Interference, sessions: Mapping[int, type[TenantSession]]
) -> TestFederation:
    """A federation that is about to start such a session."""
    terms: dict[str, Any] = {**kind.terms, "window_rounds": _WINDOW_ROUNDS}
    length = _COUNTED_LENGTH if "mass_floor" in terms else _VECTOR_LENGTH
    return TestFederation(TENANTS, length, interfere=interfere, sessions=sessions, **terms)


def request_of(federation: TestFederation, number: int, asked: Mapping[str, Any]) -> SumRequest:
    """One of the sums of a session's kind, at parameters of its own."""
    return SumRequest(b"parameters %d" % number, bytes(32), federation.length, **asked)
