"""Whoever looks on at a tenant: its metrics, its log, its traces. Told no row, no statistic and no secret."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from fed_em_client.privacy_account import PrivacyAccount
from fed_em_protocols.messages import CloseReason
from fed_em_protocols.policy_rules import PolicyRule


class TenantWatcher(Protocol):
    """Called on the session's own thread, before it goes on."""

    def ledger_opened(self, account: PrivacyAccount) -> None:
        """What this tenant spends is in this account from now on."""
        ...

    def linked(self) -> None:
        """A link to the server has brought its first message."""
        ...

    def unlinked(self) -> None:
        """The link is down."""
        ...

    def carried(self, up: int, down: int) -> None:
        """So many bytes of messages left for the server, and came from it."""
        ...

    def joined(self, session: bytes) -> None:
        """The tenant joins a session (16 bytes)."""
        ...

    def evaluated(self, round_number: int, seconds: float) -> None:
        """Statistics were computed, or could not be: nobody is told which."""
        ...

    def uploaded(self, round_number: int, seconds: float) -> None:
        """They were masked and sealed in so many seconds, and leave."""
        ...

    def refused(self, rule: PolicyRule) -> None:
        """The tenant leaves the session by a rule of its own."""
        ...

    def closed(self, session: bytes, reason: CloseReason) -> None:
        """The server ended the session."""
        ...


@dataclass(frozen=True)
class TenantWatchers:
    """Tells each of them everything, in order."""

    watchers: Sequence[TenantWatcher] = ()

    def ledger_opened(self, account: PrivacyAccount) -> None:
        """Tell all."""
        for watcher in self.watchers:
            watcher.ledger_opened(account)

    def linked(self) -> None:
        """Tell all."""
        for watcher in self.watchers:
            watcher.linked()

    def unlinked(self) -> None:
        """Tell all."""
        for watcher in self.watchers:
            watcher.unlinked()

    def carried(self, up: int, down: int) -> None:
        """Tell all."""
        for watcher in self.watchers:
            watcher.carried(up, down)

    def joined(self, session: bytes) -> None:
        """Tell all."""
        for watcher in self.watchers:
            watcher.joined(session)

    def evaluated(self, round_number: int, seconds: float) -> None:
        """Tell all."""
        for watcher in self.watchers:
            watcher.evaluated(round_number, seconds)

    def uploaded(self, round_number: int, seconds: float) -> None:
        """Tell all."""
        for watcher in self.watchers:
            watcher.uploaded(round_number, seconds)

    def refused(self, rule: PolicyRule) -> None:
        """Tell all."""
        for watcher in self.watchers:
            watcher.refused(rule)

    def closed(self, session: bytes, reason: CloseReason) -> None:
        """Tell all."""
        for watcher in self.watchers:
            watcher.closed(session, reason)


UNWATCHED = TenantWatchers()
