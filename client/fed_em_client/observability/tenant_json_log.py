"""A tenant's session as JSON lines of closed fields, for its own log collector."""

from __future__ import annotations

from fed_em_client.privacy_account import PrivacyAccount
from fed_em_protocols.log_events import EventLog
from fed_em_protocols.messages import CloseReason
from fed_em_protocols.policy_rules import PolicyRule


class TenantJsonLog:
    """A `fed_em_client.tenant_watcher.TenantWatcher` that writes one event a line."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._session = ""
        self._e_step = 0.0

    def ledger_opened(self, account: PrivacyAccount) -> None:
        """Nothing is logged: `fed-em privacy ledger` shows it."""

    def linked(self) -> None:
        """The link is up."""
        self._log.write("link_up", self._session)

    def unlinked(self) -> None:
        """It is down."""
        self._log.write("link_down", self._session)

    def carried(self, up: int, down: int) -> None:
        """Nothing is logged."""

    def joined(self, session: bytes) -> None:
        """From now on every line names the session."""
        self._session = session.hex()
        self._log.write("session_joined", self._session)

    def evaluated(self, round_number: int, seconds: float) -> None:
        """Told with the upload."""
        self._e_step = seconds

    def uploaded(self, round_number: int, seconds: float) -> None:
        """One line a round."""
        self._log.write("uploaded", self._session, round_number, e_step_seconds=self._e_step, masking_seconds=seconds)

    def refused(self, rule: PolicyRule) -> None:
        """By which rule."""
        self._log.write("session_refused", self._session, rule=rule.value)

    def closed(self, session: bytes, reason: CloseReason) -> None:
        """How it ended."""
        self._log.write("session_closed", session.hex(), reason=reason.name.lower())
