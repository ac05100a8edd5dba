"""Listens to simulated sessions, and keeps what an adversary hears."""

from __future__ import annotations

from fed_em_protocols.description import SessionDescription
from fed_em_protocols.roster import Roster
from fed_em_protocols.terms import SessionTerms
from fed_em_protocols.transcript.released import ReleasedSum
from fed_em_simulations.attacks.overheard import Overheard, PublicFacts


class Ear:
    """Implements `fed_em_simulations.overheard_sum.Listener`, for one session or several, one after the other."""

    def __init__(self) -> None:
        self._sums: list[ReleasedSum] = []
        self._facts: dict[bytes, PublicFacts] = {}

    def session_started(self, description: SessionDescription, terms: SessionTerms, roster: Roster) -> None:
        """See `Listener`."""
        self._facts[terms.session] = PublicFacts.of(description, terms, roster)

    def sum_opened(self, released: ReleasedSum) -> None:
        """See `Listener`."""
        self._sums.append(released)

    @property
    def overheard(self) -> Overheard:
        """All that was heard so far."""
        return Overheard(tuple(self._sums), dict(self._facts))
