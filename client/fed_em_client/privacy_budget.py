"""What a tenant may spend of its records' privacy, as its own work asks for it."""

from __future__ import annotations

from typing import Protocol

from fed_em.errors import CallerError
from fed_em_protocols.privacy.accounting import Spend


class PrivacyBudget(Protocol):
    """What a tenant may spend of its records' privacy; see `fed_em_client.privacy_ledger`."""

    def reserve(self, session: bytes, plan: Spend) -> None:
        """Set aside what a session may cost, once: the same session again costs nothing.

        Raises:
            CallerError: more than there is left.
        """
        ...

    def charge(self, session: bytes, round_number: int) -> None:
        """Spend one sum of what was set aside, durably before returning; the same round again costs nothing.

        Raises:
            CallerError: more than was set aside.
        """
        ...


class PromisedBudget:
    """As many sums of each session as it promises, remembered as long as this object lasts. Implements `PrivacyBudget`."""

    def __init__(self) -> None:
        self._left: dict[bytes, int] = {}
        self._charged: set[tuple[bytes, int]] = set()

    def reserve(self, session: bytes, plan: Spend) -> None:
        """See `PrivacyBudget`."""
        self._left.setdefault(session, plan.sums)

    def charge(self, session: bytes, round_number: int) -> None:
        """See `PrivacyBudget`."""
        if (session, round_number) in self._charged:
            return
        if self._left.get(session, 0) < 1:
            raise CallerError(
                f"round {round_number}: the server asks for more sums than the session's promise of privacy is of",
                remedy="ask the server's operator; a session with more `spare_sums` survives more rounds that fail",
            )
        self._left[session] -= 1
        self._charged.add((session, round_number))
