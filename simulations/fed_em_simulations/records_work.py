"""A simulated tenant's work: that of a real one, over records in memory."""

from __future__ import annotations

from fed_em.model import ComponentModel
from fed_em.records import Records
from fed_em_client.rows_work import RowsWork
from fed_em_protocols.description import SessionDescription
from fed_em_protocols.masks import RingVector
from fed_em_protocols.roster import Roster
from fed_em_protocols.tenant_state import Evaluate
from fed_em_simulations.volatile_marks import VolatileMarks
from fed_em_simulations.work import current


class RecordsWork(RowsWork):
    """See `RowsWork`; the records fit the session."""

    def __init__(self, records: Records, roster: Roster, index: int, marks: VolatileMarks) -> None:
        super().__init__((), {}, roster, index, marks)
        self._records = records

    def read(self, description: SessionDescription) -> Records:
        """The records."""
        return self._records

    def evaluate(self, asked: Evaluate) -> RingVector:
        """As any tenant's; its densities are counted."""
        model = self.description.fitted_model
        components = model.n_components if isinstance(model, ComponentModel) else 1
        current().densities += len(self._records) * components
        return super().evaluate(asked)
