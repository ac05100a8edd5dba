"""A simulated tenant's work: that of a real one, over records in memory."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from fed_em.records import Records
from fed_em_client.configuration import PolicyTable
from fed_em_client.privacy_account import PrivacyAccount
from fed_em_client.rows_work import RowsWork
from fed_em_protocols.description import SessionDescription
from fed_em_protocols.hashing import digest
from fed_em_protocols.masks import RingVector
from fed_em_protocols.roster import Roster
from fed_em_protocols.tenant_state import Evaluate
from fed_em_protocols.window import Randomness
from fed_em_simulations.volatile_marks import VolatileMarks
from fed_em_simulations.work import current

Source = Callable[[Records, SessionDescription], Records]


class RecordsWork(RowsWork):
    """See `RowsWork`; the records fit the session."""

    def __init__(
        self,
        records: Records,
        roster: Roster,
        index: int,
        marks: VolatileMarks,
        budget: PrivacyAccount | None = None,
        randomness: Randomness = secrets.token_bytes,
    ) -> None:
        # Nobody is to be kept from it, and a tenant that starts anew draws the same, as does a run of the same seed.
        secret = digest("rows of a simulated tenant", index)
        policy = PolicyTable(measurements=True)
        super().__init__((), {}, roster, index, marks, 1, secret, budget, randomness, policy)
        self._records = records
        self._made_of: Source = lambda records, _: records

    def over(self, made_of: Source) -> RecordsWork:
        """The same work over what is made of the records, once the session's columns are known."""
        self._made_of = made_of
        return self

    def read(self, description: SessionDescription) -> Records:
        """The records."""
        return self._made_of(self._records, description)

    def evaluate(self, asked: Evaluate) -> RingVector:
        """As any tenant's; its densities and statistics are counted."""
        vector = super().evaluate(asked)
        current().densities += len(self._records) * self.components_asked
        current().statistics += len(self._records) * len(vector)
        return vector
