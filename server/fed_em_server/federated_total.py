"""The `Total` of EM over a federation: parameters out, one secure sum back; with a mass gate, two."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from fed_em.broadcast import Broadcast
from fed_em.component_counts import LEAST_ROWS, MASS
from fed_em.coordinates import Coordinates
from fed_em.em import Summed
from fed_em.errors import CallerError
from fed_em.model import Summand
from fed_em.parameters import Parameters
from fed_em.statistics import Statistics
from fed_em_protocols.coordinator_state import SumOpened, SumRequest
from fed_em_protocols.description import SessionDescription, counts_encoding_of, encoding_of
from fed_em_protocols.encoding import Encoding
from fed_em_protocols.errors import MOST_NOT_COMPUTED, NotComputed, SumFailed
from fed_em_protocols.mass_gate import held_components, held_to_bitmap, least_supporters, shortage
from fed_em_protocols.roster import Roster
from fed_em_protocols.terms import SessionTerms
from fed_em_server.repeated_sums import RepeatedSums


@dataclass(frozen=True)
class FederatedTotal:
    """Sums a model's statistics over the tenants: fresh terms of those that answer, the last ones of the others.

    With a mass floor in the terms each sum is two, counts and then moments behind the gate that follows from them, over the same
    tenants and of whole vectors: terms of earlier rounds went through other gates.

    The sums of a stream, of starts, and of the products that standard errors follow from, are of whole vectors too, over those who
    answer.

    Attributes:
        sums: The secure sum.
        terms: The session's terms.
        roster: Its tenants.
        description: The session's columns and model.
        model, coordinates: What is evaluated, and where.
        opened: Called with every opened sum of statistics.
    """

    sums: RepeatedSums
    terms: SessionTerms
    roster: Roster
    description: SessionDescription
    model: Summand
    coordinates: Coordinates
    opened: Callable[[SumOpened], None]

    def __call__(self, parameters: Parameters) -> Summed:
        """The statistics at some parameters.

        Raises:
            NotComputed: a tenant could not compute its statistics: at other parameters it may.
            SumFailed: no sum can be opened, or there were too many of these.
            CallerError: an encoding's range cannot be proved, a model without components has a mass gate, or the gate keeps the
                moments of the columns shut: names what there is too little of.
        """
        broadcast = Broadcast(self.model, self.coordinates, parameters)
        encoding = encoding_of(self.description, broadcast, self.roster.row_caps)
        whole = self.description.takes_whole_vectors(self.model)
        request = SumRequest(broadcast.to_bytes(), encoding.digest, encoding.length, whole, ring=encoding.ring)
        held: tuple[int, ...] = ()
        if self.terms.mass_floor:
            as_one = self.description.asks_for_moments(broadcast) or self.description.asks_to_measure(broadcast)
            opened, held = self._behind_gate(request, as_one)
        else:
            opened = self._without_old_noise(request, encoding)
        self._require_no_faults(opened, encoding)
        self.opened(opened)
        missing, stale = self.roster.names(opened.missing), self.roster.names(opened.stale)
        return Summed(encoding.decode(opened.vector), missing, stale, held)

    def _without_old_noise(self, request: SumRequest, encoding: Encoding) -> SumOpened:
        """The sum; a base round where increments do not take off what a tenant sent in place of statistics in the sum before: it is away,
        or has started anew and cannot compute them again.
        """
        after_noise = self.sums.noisy
        opened = self.sums.sum(request)
        if after_noise and not request.whole and encoding.ring.faults_in(opened.vector):
            self._faults_told_of(opened, encoding)
            return self.sums.sum(replace(request, whole=True))
        return opened

    def _faults_told_of(self, opened: SumOpened, encoding: Encoding) -> str:
        """How many tenants of a sum could not compute their statistics, in words that whoever watches is told; empty if all could."""
        faults = encoding.ring.faults_in(opened.vector)
        said = f"{faults} of {_summed(opened)} tenants could not compute their statistics" if faults else ""
        self.sums.count_faults(opened, said)
        return said

    def _behind_gate(self, request: SumRequest, as_one: bool) -> tuple[SumOpened, tuple[int, ...]]:
        """The moments of the components that are large enough, and the others; of those that standardise the columns, and of a measurement,
        all or none.
        """
        encoding = counts_encoding_of(self.model, self.roster.row_caps, self.description.privacy)
        counts = SumRequest(request.parameters, encoding.digest, encoding.length, counts=True, ring=encoding.ring)
        held: tuple[int, ...] = ()

        def moments(counted: SumOpened) -> SumRequest:
            nonlocal held
            self._require_no_faults(counted, encoding)
            summed = encoding.decode(counted.vector)
            held = held_components(summed, self.terms.mass_floor, self._least_tenants)
            if held and as_one:
                raise self._too_little(summed)
            return replace(request, whole=True, held=held_to_bitmap(held, len(summed[MASS])))

        return self.sums.sum_behind_gate(counts, moments), held

    @property
    def _least_tenants(self) -> int:
        return least_supporters(self.terms.colluders, self.description.privacy is not None)

    def _too_little(self, counts: Statistics) -> CallerError:
        least_tenants = self._least_tenants
        lacking = shortage(counts, self.description.names, self.terms.mass_floor, least_tenants)
        return CallerError(
            f"all tenants together have too few {' and '.join(lacking)}: the mass gate opens nothing below "
            f"{self.terms.mass_floor / 1000:g}, from at least {least_tenants} tenants with {LEAST_ROWS} or more each",
            remedy="leave such columns out of the session, or agree with all tenants on a lower mass floor or on more tenants",
        )

    def _require_no_faults(self, opened: SumOpened, encoding: Encoding) -> None:
        said, faults = self._faults_told_of(opened, encoding), encoding.ring.faults_in(opened.vector)
        if not said:
            return
        if faults > _summed(opened):
            raise SumFailed(
                f"round {opened.round}: the tenants at fault number {faults} by the sum, which has {_summed(opened)}: one of them sent "
                f"no statistics",
                remedy="ask the tenants to run the same version of fed-em",
            )
        # Each tells a number of tenants, at parameters that the server chose.
        kind = NotComputed if self.sums.not_computed <= MOST_NOT_COMPUTED else SumFailed
        raise kind(
            f"round {opened.round}: {said}{self._of_spent_sums(opened)}",
            remedy="ask the tenants' operators: each one's own log says whether it was it, and why; no message does",
        )

    def _of_spent_sums(self, opened: SumOpened) -> str:
        """What is most likely the matter behind the last sum that a private session's tenants answer with noise."""
        privacy = self.description.privacy
        if privacy is None or opened.round <= privacy.sums:
            return ""
        return (
            f"; all {privacy.sums} sums that the session promised noise for were asked for: each round that failed, or in which the "
            "server died, was one of its `spare_sums`"
        )


def _summed(opened: SumOpened) -> int:
    """How many tenants a sum has terms of."""
    return len(opened.survivors) + len(opened.stale)
