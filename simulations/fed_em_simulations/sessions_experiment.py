"""The experiment `session`: a session of the real protocol in virtual time, and everything that can be measured of it."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from fed_em.standardised_fit import first_round
from fed_em_protocols.limits import COMPLETE_GRAPH_TENANTS
from fed_em_protocols.ring import RING_64
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
from fed_em_simulations.predicted_costs import PredictedCosts
from fed_em_simulations.results import Results, Row
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
            predicted="first_attempt_predicted",
            dashed="the probability that whole blocks of u_min tenants or more are there, and a quorum to certify them, if each tenant "
            "is there by a toss of its own",
        ),
        Chart(
            "loss", "Lost against all rows in one place", "nats a row",
            "Log-likelihood of the rows trained on below that at the pooled optimum from the same start.", logarithmic=True,
        ),
        Chart("seconds_a_sum", "Time from one sum to the next", "virtual seconds", "Failed rounds and pauses included."),
        Chart(
            "stale", "Terms of an earlier round", "share",
            "Of all terms in the sums. A sum that failed at first is taken again with everybody, which makes fewer.",
            predicted="stale_predicted",
            dashed="if each tenant is gone by a toss of its own, a block's terms are stale unless all of it is there",
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
        Chart(
            "bytes_up", "From a tenant to the server, a sum", "bytes",
            "Setting up windows included.",
            predicted="bytes_up_predicted", logarithmic=True,
            dashed="by formula, the masked vector, the keys of a window, and a box for each neighbour",
        ),
        Chart(
            "bytes_down", "From the server to a tenant, a sum", "bytes",
            predicted="bytes_down_predicted", logarithmic=True,
            dashed="by formula, parameters, keys and boxes of all neighbours, certificates, and what witnesses check",
        ),
        Chart(
            "mask_bytes", "Keystream of a tenant, a sum", "bytes",
            predicted="mask_bytes_predicted", logarithmic=True,
            dashed="k + 1 keystreams of the vector's 64-bit words, k the neighbours",
        ),
        Chart(
            "tenant_seconds", "Work of a tenant, a sum", "seconds of one core",
            "Units of work that were counted, times their prices.",
            predicted="tenant_seconds_predicted", logarithmic=True, dashed="units by formula",
        ),
        Chart(
            "server_seconds", "Work of the server, a sum", "seconds of one core", "Likewise.",
            predicted="server_seconds_predicted", logarithmic=True, dashed="units by formula",
        ),
    )
}  # fmt: skip


class SessionsExperiment(Experiment):
    """One session of the real protocol, in virtual time: tenants come as the attendance says, and the model is what comes of it."""

    keys: ClassVar[tuple[str, ...]] = ()

    experiment: Literal["session"] = "session"
    """Which experiment it is."""
    data: Data
    """The tenants and their rows."""
    attendance: Attendance = Attendance()
    """Who uploads in each round."""
    model: MixtureToFit = MixtureToFit()
    """What is fitted."""
    session: SessionSettings = SessionSettings()
    """Trust, deadlines, trouble and costs."""
    rounds: Annotated[int, Field(ge=1, le=10_000)] = 40
    """Sums behind the first, which is of the moments."""
    show: Annotated[tuple[ChartName, ...], Field(min_length=1)] = ("first_attempt", "loss")
    """Charts of the report; the table has everything."""

    @property
    def charts(self) -> tuple[Chart, ...]:
        """Those that are to be shown."""
        return tuple(_CHARTS[name] for name in self.show)

    def notes(self, results: Results) -> tuple[str, ...]:
        """Where cryptography was replaced by its cost."""
        costed = [row["costed"] for row in results.rows if row.get("costed") is not None]
        if not any(costed):
            return ()
        return (WARNING if all(costed) else f"{WARNING} So it is where 'costed' is 1.",)

    def run(self, seed: int) -> list[Row]:
        """One row."""
        tenants = self.data.draw(seed)
        model = self.model.over(tenants)
        pattern = self.attendance.pattern(tenants.names, self.rounds, seed)
        ground = common_ground(model, tenants, pattern, 0, seed, self.session.costs.model())
        attempts = FirstAttempts()
        outcome = self.session.run(ground, (Attended(pattern),), (attempts,))
        return [
            {
                "failed": bool(outcome.failure),
                "failure": outcome.failure,
                **_accused(outcome),
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
        return self.attendance.fixed or self._troubled

    @property
    def _troubled(self) -> bool:
        return bool(self.session.trouble) or self.session.stragglers is not None

    @property
    def _certified(self) -> bool:
        return self.session.trust == "malicious-server"

    def _costs(self, ground: CommonGround, outcome: FederationOutcome) -> Row:
        """Of one tenant, on average, and one sum; of the server, and one sum; by formula, too, if everybody is there."""
        n, sums, prices = len(ground.parts), max(len(outcome.rounds), 1), ground.costs.prices
        tenants, server = outcome.tenant_work, outcome.server_work
        counted = {
            "bytes_up": outcome.total_bytes_up / n / sums,
            "bytes_down": outcome.total_bytes_down / n / sums,
            "mask_bytes": tenants.mask_bytes / n / sums,
            "tenant_seconds": prices.of(tenants) / n / sums,
            "server_seconds": prices.of(server) / sums,
        }
        by_formula = dict.fromkeys(counted, math.nan)
        if self.attendance.share == 1 and not self._troubled:
            expected = _predicted(ground, outcome, sums)
            by_formula = {
                "bytes_up": expected.bytes_up / sums,
                "bytes_down": expected.bytes_down / sums,
                "mask_bytes": expected.tenants_work.mask_bytes / n / sums,
                "tenant_seconds": prices.of(expected.tenants_work) / n / sums,
                "server_seconds": prices.of(expected.server_work) / sums,
            }
        seconds = outcome.seconds_to_last_sum
        beside = {f"{name}_predicted": value for name, value in by_formula.items()}
        return {"seconds": seconds, "seconds_a_sum": seconds / sums, **counted, **beside}


def _predicted(ground: CommonGround, outcome: FederationOutcome, sums: int) -> PredictedCosts:
    assert outcome.terms is not None  # this is the memory engine
    model, later = ground.model, sums - 1
    # The first sum is of moments.
    moments = first_round(model, np.zeros(model.n_columns), np.ones(model.n_columns)).model.layout().size
    size, rows = model.layout().size, sum(map(len, ground.parts.values()))
    words = moments + later * size + sums * RING_64.tail_words
    return PredictedCosts.of_terms(
        outcome.terms,
        len(ground.parts),
        sums,
        words,
        parameters=later * sum(array.size for array in ground.start.values()),
        densities=rows * (1 + later * model.n_components),
        statistics=rows * words,
    )


def _accused(outcome: FederationOutcome) -> Row:
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
