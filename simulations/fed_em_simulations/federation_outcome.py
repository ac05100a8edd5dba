"""What a simulated federation came to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from fed_em.model_file import FittedModel
from fed_em.standardised_fit import StandardisedFit
from fed_em_protocols.errors import SumFailed
from fed_em_protocols.roster import Roster
from fed_em_protocols.terms import SessionTerms
from fed_em_server.record import RoundRecord, SessionRecord
from fed_em_simulations.session_memory import Accusation
from fed_em_simulations.work import Work


@dataclass(frozen=True)
class FederationOutcome:
    """What a simulated federation came to.

    Attributes:
        record: The session's record, as far as it came; its seconds are virtual and begin at 0.
        terms: What all agreed on: k, τ and the suite among it; None under Flower.
        failure: Why it ended without a model; empty if it did not.
        seconds: Virtual, of the whole session.
        seconds_to_last_sum: Until its last sum was opened; afterwards the last late messages still arrive.
        seconds_by_phase: The same, apart; see `fed_em_simulations.session_memory`.
        bytes_up, bytes_down: Bytes of each tenant's messages to and from the server; empty under Flower, where the record's rounds have
            those of all.
        tenant_work, server_work: What all tenants together, and the server, had to do.
        accusations: Who said that somebody broke the protocol, in the order of the roster; what the server says first.
        left: Why tenants left of their own accord, by name, where nobody is accused.
        result: How the fit went; None if it failed.
        roster: Of the session; None under Flower.
    """

    record: SessionRecord
    terms: SessionTerms | None
    failure: str
    seconds: float
    seconds_to_last_sum: float
    seconds_by_phase: Mapping[str, float]
    bytes_up: tuple[int, ...]
    bytes_down: tuple[int, ...]
    tenant_work: Work
    server_work: Work
    accusations: tuple[Accusation, ...]
    left: Mapping[str, str]
    result: StandardisedFit | None = field(repr=False)
    fitted: FittedModel | None = field(repr=False)
    roster: Roster | None = field(default=None, repr=False)

    @property
    def model(self) -> FittedModel:
        """The fitted model. Raises `SumFailed` with the session's own reason if there is none."""
        if self.fitted is None:
            raise SumFailed(self.failure)
        return self.fitted

    @property
    def rounds(self) -> tuple[RoundRecord, ...]:
        """The opened rounds; the first is that of the moments."""
        return self.record.rounds

    @property
    def converged(self) -> bool:
        """Whether EM converged."""
        return self.record.converged

    def __str__(self) -> str:
        record = self.record
        ended = (
            f"ended without a model: {self.failure}"
            if self.failure
            else "converged"
            if self.converged
            else "not converged"
        )
        complete = sum(each.complete for each in self.rounds)
        phases = ", ".join(
            f"{name} {seconds:.2f}" for name, seconds in self.seconds_by_phase.items() if seconds > 0.005
        )
        lines = [
            f"{len(record.tenants)} tenants, {record.trust}: {len(self.rounds)} sums, {complete} of them with everybody; {ended}",
            f"{self.seconds:.2f} virtual seconds ({phases})" if phases else f"{self.seconds:.2f} seconds",
        ]
        if self.bytes_up:
            lines.append(
                f"{self.total_bytes_up / 1e6:.2f} MB to the server, {self.total_bytes_down / 1e6:.2f} MB from it"
            )
        pairs = Counter((each.by, each.peer) for each in self.accusations)
        for (by, peer), times in pairs.items():
            first = next(each.fault for each in self.accusations if (each.by, each.peer) == (by, peer))
            lines.append(
                f"{by} accuses {peer}, {times} times, first: {first}" if times > 1 else f"{by} accuses {peer}: {first}"
            )
        return "\n".join([*record.warnings, *lines])

    @property
    def total_bytes_up(self) -> int:
        """Bytes of all messages to the server."""
        return sum(self.bytes_up)

    @property
    def total_bytes_down(self) -> int:
        """Bytes of all messages from the server."""
        return sum(self.bytes_down)
