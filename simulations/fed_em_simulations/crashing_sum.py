"""A coordinator that survives the crashes of a simulation, as far as its machine does."""

from __future__ import annotations

from fed_em_protocols.coordinator import coordinator_restart
from fed_em_protocols.coordinator_state import CoordinatorStep, SumNotOpened, SumOpened, SumRequest
from fed_em_server.federated_sum import FederatedSum
from fed_em_simulations.memory_hub import ServerCrashed


class CrashingSum(FederatedSum):
    """See `FederatedSum`. An attempt in which the server crashes comes to nothing, and the next begins from the state that was kept."""

    def _attempt(self, request: SumRequest) -> SumOpened | SumNotOpened:
        try:
            return super()._attempt(request)
        except ServerCrashed:
            restarted = coordinator_restart(self.state, self._clock)
            nothing = SumNotOpened(restarted.last_round, "the server crashed and was started anew")
            self._take(CoordinatorStep(restarted, result=nothing))
            return nothing
