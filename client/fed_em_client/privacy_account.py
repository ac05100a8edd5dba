"""A tenant's privacy in a session: its plan is checked against the tenant's demands, and each sum is charged before it is uploaded."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from fed_em_client.privacy_spends import Entry, EntryKind, PrivacySpends, SessionSpends
from fed_em_protocols.clock import time_of_day
from fed_em_protocols.errors import TermsRefused
from fed_em_protocols.privacy.accounting import Spend, epsilon_of
from fed_em_protocols.privacy.demands import NO_DEMANDS, EpsilonBudget, PrivacyDemands

Clock = Callable[[], datetime]


class PrivacyAccount:
    """What a tenant spends, remembered for as long as this object lasts; `fed_em_client.privacy_ledger` remembers for ever.

    A clock that was set back counts as standing still, for entries: each is dated no earlier than the one before it.

    Args:
        demands: The tenant's own.
        clock: Time of day with its zone.
    """

    def __init__(self, demands: PrivacyDemands = NO_DEMANDS, clock: Clock = time_of_day) -> None:
        self._demands = demands
        self._clock = clock
        self._spends = PrivacySpends()

    @property
    def spends(self) -> PrivacySpends:
        """All that was spent."""
        return self._spends

    def reserve(self, session: bytes, plan: Spend | None) -> None:
        """Admit a session, before anything is uploaded in it. The same one again, while its reservation stands, costs nothing.

        Args:
            session: 16 bytes.
            plan: All the sums that it may take, those of rounds that fail included; None: it has no differential privacy.

        Raises:
            TermsRefused: the tenant requires privacy and the session has none, its plan is beyond the budget together with what
                the period's other sessions spend, or it is not the one that was reserved before for the same session.
            EnvironmentFault: the disk does not take it; the session must not be joined.
        """
        if plan is None:
            self._require_none(session)
            return
        known = self.spends.sessions.get(session)
        if known is not None and known.plan != plan:
            raise TermsRefused(
                f"session {session.hex()} has another plan now than when it was first joined",
                remedy="ask the server's operator; this tenant goes on with the plan that it checked, or in a new session",
            )
        asked = SessionSpends(plan, None) if known is None else known
        if asked.stands(self._clock(), self._period) or not asked.rest:
            return
        if self._demands.budget is not None:
            self._require_within(self._demands.budget, asked.of(asked.rest))
        self._enter(EntryKind.RESERVE, session, plan)

    def charge(self, session: bytes, round_number: int) -> None:
        """Count the sum of a round as spent, before it is uploaded; it is never refunded.

        The same round again costs nothing, and counts from now on: whether the first charge was followed by an upload, nobody knows.

        Raises:
            TermsRefused: nothing is reserved for the session, or no more than was charged; the sum must not be uploaded.
            EnvironmentFault: the disk does not take it; the sum must not be uploaded.
        """
        known = self.spends.sessions.get(session)
        if known is None or not known.stands(self._clock(), self._period):
            raise TermsRefused(
                f"round {round_number} of session {session.hex()} would spend privacy that is not reserved",
                remedy="join the session again; a reservation ends when it is released and when the policy's period is over",
            )
        if not known.rest and round_number not in known.charged:
            raise TermsRefused(
                f"round {round_number} of session {session.hex()} would be its sum {known.plan.sums + 1}, "
                f"and {known.plan.sums} were planned and are spent",
                remedy="ask the server's operator; a session with more `spare_sums` survives more rounds that fail",
            )
        self._enter(EntryKind.CHARGE, session, known.of(1), round_number)

    def release(self, session: bytes) -> Spend | None:
        """Give back what is reserved for a session and not charged, at its end.

        Returns:
            What was given back; None if there was nothing.

        Raises:
            EnvironmentFault: the disk does not take it; it stays reserved.
        """
        known = self.spends.sessions.get(session)
        if known is None or known.reserved is None or not known.rest:
            return None
        rest = known.of(known.rest)
        self._enter(EntryKind.RELEASE, session, rest)
        return rest

    def _keep(self, entry: Entry) -> None:
        """Remember an entry before returning."""
        self._spends = self._spends.after(entry)

    def _enter(self, kind: EntryKind, session: bytes, spend: Spend, round_number: int = 0) -> None:
        now, latest = self._clock(), self.spends.latest
        self._keep(Entry(kind, session, round_number, spend, now if latest is None else max(now, latest)))

    @property
    def _period(self) -> timedelta | None:
        budget = self._demands.budget
        return None if budget is None else budget.period

    def _require_none(self, session: bytes) -> None:
        if self._demands.required:
            raise TermsRefused(
                "the session has no differential privacy, and this tenant's policy says required = true in [policy.privacy]",
                remedy="agree on a session with privacy with its operator, or change [policy.privacy] in this tenant's file",
            )
        if session in self.spends.sessions:
            raise TermsRefused(
                f"session {session.hex()} had differential privacy when it was first joined, and has none now",
                remedy="ask the server's operator; a session's description never changes",
            )

    def _require_within(self, budget: EpsilonBudget, plan: Spend) -> None:
        now = self._clock()
        others = (*self.spends.charged(now, budget.period), *self.spends.reserved(now, budget.period))
        together = epsilon_of((*others, plan), budget.delta)
        # Written so that what is no number is refused.
        if not together <= budget.epsilon:
            spent = epsilon_of(others, budget.delta) if others else 0.0
            raise _beyond(budget, epsilon_of((plan,), budget.delta), spent, together)


def _beyond(budget: EpsilonBudget, asked: float, spent: float, together: float) -> TermsRefused:
    left = max(budget.epsilon - spent, 0.0)
    return TermsRefused(
        f"the session asks for ε = {asked:.4g} at δ = {budget.delta:g}; of the ε = {budget.epsilon:g} that this tenant's "
        f"policy allows in {budget.period_days} days, ε = {left:.4g} is left, and with this session ε = {together:.4g} were spent",
        remedy="ask for more noise or fewer sums (`fed-em privacy plan` shows what fits), wait for earlier sums to leave the period "
        "(`fed-em privacy ledger` shows when), release a session that was given up, or raise epsilon in [policy.privacy]",
    )
