"""The `Total` of EM over a federation: parameters out, one secure sum back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fed_em.broadcast import Broadcast
from fed_em.coordinates import Coordinates
from fed_em.em import Summed
from fed_em.model import Model
from fed_em.parameters import Parameters
from fed_em_protocols.coordinator_state import SumOpened, SumRequest
from fed_em_protocols.description import SessionDescription, encoding_of
from fed_em_protocols.roster import Roster
from fed_em_server.federated_sum import FederatedSum


@dataclass(frozen=True)
class FederatedTotal:
    """Sums a model's statistics over all tenants that answer.

    Attributes:
        sums: The secure sum.
        roster: Its tenants.
        description: The session's columns.
        model, coordinates: What is evaluated, and where.
        opened: Called with every opened sum.
    """

    sums: FederatedSum
    roster: Roster
    description: SessionDescription
    model: Model
    coordinates: Coordinates
    opened: Callable[[SumOpened], None]

    def __call__(self, parameters: Parameters) -> Summed:
        """One round. Raises `SumFailed` if no sum can be opened, `CallerError` if the encoding's range cannot be proved."""
        broadcast = Broadcast(self.model, self.coordinates, parameters)
        encoding = encoding_of(self.description, broadcast, self.roster.row_caps)
        opened = self.sums.sum(SumRequest(broadcast.to_bytes(), encoding.digest, encoding.length))
        self.opened(opened)
        return Summed(encoding.decode(opened.vector), self.roster.names(opened.missing))
