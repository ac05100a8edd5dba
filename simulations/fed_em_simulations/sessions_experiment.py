"""The experiment `session`: a session of the real protocol in virtual time, and everything that can be measured of it."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from fed_em.standardised_fit import first_round
from fed_em_protocols.graph_parameters import malicious_server_parameters, semi_honest_parameters
from fed_em_protocols.limits import COMPLETE_GRAPH_TENANTS, MAX_TENANTS
from fed_em_protocols.ring import RING_64
from fed_em_protocols.roster_shape import default_witnesses
from fed_em_protocols.terms import certificate_quorum_of
from fed_em_server.record import SessionRecord
from fed_em_simulations.attacks.survivor_exposure import exposure
from fed_em_simulations.attendance import Attendance, Attended
from fed_em_simulations.common_ground import CommonGround, common_ground
from fed_em_simulations.costed_cipher import WARNING
from fed_em_simulations.experiment import Chart, Experiment
from fed_em_simulations.federation_outcome import FederationOutcome
from fed_em_simulations.first_attempts import FirstAttempts, predicted_share
from fed_em_simulations.fit_measures import loss
from fed_em_simulations.methods import Fitted
from fed_em_simulations.mixture_to_fit import MixtureToFit
from fed_em_simulations.results import Row
from fed_em_simulations.session_settings import SessionSettings, in_other_coordinates
from fed_em_simulations.tenants_data import Data

ChartName = Literal[
    "first_attempt", "loss", "seconds_a_sum", "stale", "cohort", "exposed", "least_support", "bytes_up", "bytes_down",
    "mask_bytes", "tenant_seconds", "server_seconds", "accusations", "departed", "failed",
]  # fmt: skip

_CHARTS: dict[ChartName, Chart] = {
    chart.column: chart  # type: ignore[misc]
    for chart in (
        Chart(
            "first_attempt", "Sums that were opened at the first attempt", "share",
            "Dashed: the probability that whole blocks of u_min tenants or more are there, and a quorum to certify them, if each tenant "
            "is there by a toss of its own.",
            predicted="first_attempt_predicted",
        ),
        Chart(
            "loss", "Lost against all rows in one place", "nats a row",
            "Log-likelihood of the rows trained on below that at the pooled optimum from the same start.", logarithmic=True,
        ),
        Chart("seconds_a_sum", "Time from one sum to the next", "virtual seconds", "Failed rounds and pauses included."),
        Chart(
            "stale", "Terms of an earlier round", "share",
            "Of all terms in the sums. Dashed: if each tenant is gone by a toss of its own, a block's terms are stale "
            "unless all of it is there. A sum that failed at first is taken again with everybody, which makes fewer.",
            predicted="stale_predicted",
        ),
        Chart("cohort", "Tenants that answered", "tenants", "Mean over the sums."),
        Chart(
            "exposed", "Tenants whose statistics a combination of sums would single out", "share",
            "A worst case: as if nobody's statistics changed between rounds, which near convergence they hardly do.",
        ),
        Chart(
            "least_support", "Fewest tenants that a combination of sums is about", "tenants",
            "The same worst case. One: a tenant's own statistics. With blocks in force, never "
            "fewer than the smallest block. A lower bound where `least_support_exact` is below 1.",
        ),
        Chart("accusations", "Accusations", "accusations",
            "How often somebody was found to break the protocol; the Parquet table says who."),
        Chart("departed", "Tenants that left of their own accord", "tenants", "By an error that accuses nobody."),
        Chart("failed", "Sessions without a model", "share"),
        Chart("bytes_up", "From a tenant to the server, a sum", "bytes", "Setting up windows included.", logarithmic=True),
        Chart("bytes_down", "From the server to a tenant, a sum", "bytes", "Setting up windows included.", logarithmic=True),
        Chart(
            "mask_bytes", "Keystream of a tenant, a sum", "bytes",
            "Dashed: k + 1 keystreams of the vector's 64-bit words, k the neighbours.",
            predicted="mask_bytes_predicted", logarithmic=True,
        ),
        Chart("tenant_seconds", "Work of a tenant, a sum", "seconds of one core", "By unit prices.", logarithmic=True),
        Chart("server_seconds", "Work of the server, a sum", "seconds of one core", "By unit prices.", logarithmic=True),
    )
}  # fmt: skip


class SessionsExperiment(Experiment):
    """One session of the real protocol, in virtual time: tenants come as the attendance says, and the model is what comes of it."""

    keys: ClassVar[tuple[str, ...]] = ()

    experiment: Literal["session"] = "session"
    data: Data
    attendance: Attendance = Attendance()
    model: MixtureToFit = MixtureToFit()
    session: SessionSettings = SessionSettings()
    rounds: Annotated[int, Field(ge=1, le=10_000)] = 40
    show: Annotated[tuple[ChartName, ...], Field(min_length=1)] = ("first_attempt", "loss")
    """Charts of the report; the table has everything."""

    @property
    def charts(self) -> tuple[Chart, ...]:
        """Those that are to be shown."""
        return tuple(_CHARTS[name] for name in self.show)

    @property
    def notes(self) -> tuple[str, ...]:
        """Where cryptography is replaced by its cost."""
        if self.session.cipher == "costed":
            return (WARNING,)
        least = self.session.costed_from
        return () if least is None else (f"{WARNING} So it is with {least} tenants or more, where 'costed' is 1.",)

    @model_validator(mode="after")
    def _has_no_more_tenants_than_its_cipher(self) -> Self:
        tenants = self.data.tenants
        if tenants > MAX_TENANTS and self.session.cipher_of(tenants) == "real":
            raise ValueError(
                f"{tenants} tenants are more than the {MAX_TENANTS} of the real cipher: set session.costed_from"
            )
        return self

    def run(self, seed: int) -> list[Row]:
        """One row."""
        tenants = self.data.draw(seed)
        model = self.model.over(tenants)
        pattern = self.attendance.pattern(tenants.names, self.rounds, seed)
        ground, attempts = common_ground(model, tenants, pattern, 0, seed), FirstAttempts()
        outcome = self.session.run(ground, (Attended(pattern),), (attempts,))
        return [
            {
                "failed": bool(outcome.failure),
                "failure": outcome.failure,
                **_troubled(outcome),
                "costed": self.session.cipher_of(len(tenants.members)) == "costed",
                "sums": attempts.sums,
                "first_attempt": attempts.share,
                "first_attempt_predicted": self._first_attempt_predicted(outcome.record),
                "loss": _loss(ground, outcome),
                **self._participation(outcome.record),
                **_given_away(outcome.record),
                **self._costs(ground, outcome),
            }
        ]

    def _participation(self, record: SessionRecord) -> Row:
        rounds, n = record.rounds[1:], len(record.tenants)
        if not rounds:
            return dict.fromkeys(("cohort", "cohort_least", "stale", "stale_predicted"), math.nan)
        cohorts = [opened.summed for opened in rounds]
        blocks = _guarded_blocks(record)
        there = self.attendance.share
        stale = sum(size * (1 - there**size) for size in blocks) / n
        return {
            "cohort": sum(cohorts) / len(cohorts),
            "cohort_least": min(cohorts),
            "stale": sum(opened.stale for opened in rounds) / (n * len(rounds)),
            "stale_predicted": math.nan if self._otherwise else stale,
        }

    def _first_attempt_predicted(self, record: SessionRecord) -> float:
        n = len(record.tenants)
        if self._otherwise or n > COMPLETE_GRAPH_TENANTS:
            return math.nan
        quorum = certificate_quorum_of(n, record.colluders) if self._certified else 0
        return predicted_share(_guarded_blocks(record), 1 - self.attendance.share, record.minimum_survivors, quorum)

    @property
    def _otherwise(self) -> bool:
        """Whether something else than tosses of their own says who comes: then nothing is predicted."""
        return self.attendance.fixed or bool(self.session.trouble) or self.session.stragglers is not None

    @property
    def _certified(self) -> bool:
        return self.session.trust == "malicious-server"

    def _costs(self, ground: CommonGround, outcome: FederationOutcome) -> Row:
        """Of one tenant, on average, and one sum; of the server, and one sum."""
        n, sums, prices = len(ground.parts), max(len(outcome.rounds), 1), self.session.costs.model().prices
        # The first sum is of moments.
        low, high = np.zeros(ground.model.n_columns), np.ones(ground.model.n_columns)
        moments = first_round(ground.model, low, high).model
        words = moments.layout().size + (sums - 1) * ground.model.layout().size
        words += sums * RING_64.tail_words
        return {
            # To the last sum: afterwards the last late messages still arrive.
            "seconds": sum(opened.seconds for opened in outcome.rounds),
            "seconds_a_sum": sum(opened.seconds for opened in outcome.rounds) / sums,
            "bytes_up": outcome.total_bytes_up / n / sums,
            "bytes_down": outcome.total_bytes_down / n / sums,
            "mask_bytes": outcome.tenant_work.mask_bytes / n / sums,
            "mask_bytes_predicted": 8 * (self._neighbours(outcome.record) + 1) * words / sums,
            "tenant_seconds": prices.of(outcome.tenant_work) / n / sums,
            "server_seconds": prices.of(outcome.server_work) / sums,
        }

    def _neighbours(self, record: SessionRecord) -> int:
        """k, if everybody is there."""
        n, least, f = len(record.tenants), record.minimum_survivors, record.colluders
        if n <= COMPLETE_GRAPH_TENANTS:
            return n - 1
        if self._certified:
            return malicious_server_parameters(least, default_witnesses(n), f, n - least).neighbours
        return semi_honest_parameters(least, f, n - least).neighbours


def _troubled(outcome: FederationOutcome) -> Row:
    """Who was accused, and who left."""
    accused = dict.fromkeys(each.peer for each in outcome.accusations)
    return {
        "accusations": len(outcome.accusations),
        "accused": ", ".join(accused),
        "departed": len(outcome.left),
        "left": ", ".join(outcome.left),
    }


def _guarded_blocks(record: SessionRecord) -> list[int]:
    """How many tenants are in each unit that a sum holds whole or not at all."""
    return [len(block) for block in record.block_members()] if record.blocks else [1] * len(record.tenants)


def _given_away(record: SessionRecord) -> Row:
    sets = [
        frozenset(name for name, part in zip(record.tenants, opened.participation, strict=True) if part.in_sum)
        for opened in record.rounds
    ]
    found = exposure(sets, record.tenants)
    return {
        "span": found.span,
        "least_support": found.least_support,
        "least_support_exact": int(found.exact),
        "exposed": len(found.exposed) / len(record.tenants),
    }


def _loss(ground: CommonGround, outcome: FederationOutcome) -> float:
    if outcome.fitted is None:
        return math.nan
    fitted = outcome.fitted
    moved = in_other_coordinates(ground.model, fitted.parameters, fitted.coordinates, ground.coordinates)
    return loss(ground, Fitted(moved))
