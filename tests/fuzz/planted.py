"""Defects that are planted on purpose: a search that does not find them is worth nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from fed_em_client.tenant_session import TenantSession
from fed_em_protocols import envelope
from fed_em_protocols.envelope import Sealed
from fed_em_protocols.errors import Equivocation, PeerFault
from fed_em_protocols.keys import verifies
from fed_em_protocols.tenant import tenant_start
from fed_em_protocols.tenant_state import TenantState
from tests.protocols.federation import MemoryMarks


@dataclass(frozen=True)
class Defect:
    """One planted defect, and the targets that must each find it.

    Attributes:
        plant: Puts it in place; the patch can be undone.
        deep: It takes the coverage-guided search to find it in seconds.
    """

    name: str
    plant: Callable[[pytest.MonkeyPatch], None]
    targets: tuple[str, ...]
    deep: bool = False


def _no_lengths(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(envelope, "_complaint", lambda *_: "")


def _off_by_one(patch: pytest.MonkeyPatch) -> None:
    complaint = envelope._complaint

    def lax(value: Any, rules: Any) -> str:
        return complaint(value, {**rules, "most": rules["most"] + 1} if "most" in rules else rules)

    patch.setattr(envelope, "_complaint", lax)


def _no_signatures(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Sealed, "require_signature", lambda *_: None)


def _bare_errors(patch: pytest.MonkeyPatch) -> None:
    def strictly(public: bytes, signature: bytes, message: bytes) -> bool:
        if not verifies(public, signature, message):
            raise ValueError("a signature that does not verify")
        return True

    patch.setattr(envelope, "verifies", strictly)


def _state_before_check(patch: pytest.MonkeyPatch) -> None:
    handle = TenantSession.handle

    def hasty(session: TenantSession, data: bytes) -> tuple[bytes, ...]:
        try:
            return handle(session, data)
        except PeerFault:
            session.state = tenant_start(session.state.me, bytes)
            raise

    patch.setattr(TenantSession, "handle", hasty)


def _start_over(patch: pytest.MonkeyPatch) -> None:
    handle = TenantSession.handle
    before: dict[TenantSession, TenantState] = {}

    def forgiving(session: TenantSession, data: bytes) -> tuple[bytes, ...]:
        state = session.state
        try:
            answers = handle(session, data)
        except Equivocation:
            session.state = before.get(session, state)
            try:
                return handle(session, data)
            except PeerFault:
                session.state = state
                raise
        before[session] = state
        return answers

    patch.setattr(TenantSession, "handle", forgiving)
    patch.setattr(MemoryMarks, "highest", lambda *_: 0)
    patch.setattr(MemoryMarks, "endorsed", lambda *_: (0, b""))


DEFECTS = {
    defect.name: defect
    for defect in (
        Defect("lengths are not checked", _no_lengths, ("parse", "messages")),
        Defect("limits are off by one", _off_by_one, ("messages",)),
        Defect("signatures are not verified", _no_signatures, ("tenant", "network")),
        Defect("a bad signature is no peer's fault", _bare_errors, ("tenant", "server", "network")),
        Defect("equivocation makes a tenant start over", _start_over, ("tenant",), deep=True),
        Defect("a tenant forgets all when it refuses", _state_before_check, ("tenant", "network")),
    )
}
