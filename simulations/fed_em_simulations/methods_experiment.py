"""The experiment `methods`: what becomes of the model under heterogeneity and partial participation, method by method."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from fed_em.errors import FedEmError
from fed_em_protocols.limits import MAX_TENANTS
from fed_em_simulations.attacks.survivor_exposure import exposure
from fed_em_simulations.attendance import Attendance
from fed_em_simulations.common_ground import CommonGround, common_ground
from fed_em_simulations.cost_settings import CostSettings
from fed_em_simulations.experiment import Chart, Experiment, reason_of
from fed_em_simulations.fit_measures import ParameterError, held_out, loss, parameter_error
from fed_em_simulations.known_mixed_mixture import KnownMixedMixture
from fed_em_simulations.methods import METHODS, PROTOCOL, Fitted, MethodName, run_method
from fed_em_simulations.mixture_to_fit import MixtureToFit
from fed_em_simulations.population import Population
from fed_em_simulations.results import Row
from fed_em_simulations.tenants_data import Data

# Methods that sum or average over the pattern, so that who answered matters; and those in which each tenant sends its own model once.
_IN_ROUNDS: frozenset[str] = frozenset({"increments", "own-weights", "whoever-came", "stepwise", "averaging", PROTOCOL})
_ONE_SHOT: frozenset[str] = frozenset({"one-shot-moments", "one-shot-samples"})

_GIVEN_AWAY = ("cohort", "cohort_least", "span", "least_support", "least_support_exact", "exposed")


class MethodsExperiment(Experiment):
    """Every method on the same tenants, from the same start, with the same pattern of who answers."""

    keys: ClassVar[tuple[str, ...]] = ("method",)
    every_chart: ClassVar[tuple[Chart, ...]] = (
        Chart(
            "loss", "Lost against all rows in one place", "nats a row",
            "Log-likelihood of the rows trained on below that at the pooled optimum, on a logarithmic scale; what is less than "
            "a hundred-thousandth, or a gain, is drawn at the foot. Bars span the replicates.",
            logarithmic=True, leave_out=("pooled", "alone", "own-weights"),
        ),
        Chart(
            "held_out", "On rows that nobody trained on", "nats a row",
            "Mean log-density, each tenant counting alike and at the parameters that it would use.",
        ),
        Chart("held_out_worst", "The tenant that fares worst", "nats a row", "The same for the tenant for whom it is lowest."),
        Chart(
            "means_error", "Error of the means", "standard deviations",
            "Root of the mean square difference from the true means, components matched.", logarithmic=True,
            leave_out=("alone",),
        ),
        Chart(
            "probabilities_error", "Error of the probabilities", "total variation",
            "Of levels, or of yes and no, from the true ones: mean over components and columns, components matched.",
            logarithmic=True, leave_out=("alone",),
        ),
    )  # fmt: skip

    experiment: Literal["methods"] = "methods"
    """Which experiment it is."""
    data: Data
    """The tenants and their rows."""
    attendance: Attendance = Attendance()
    """Who answers in each round."""
    model: MixtureToFit = MixtureToFit()
    """What is fitted."""
    rounds: Annotated[int, Field(ge=1, le=10_000)] = 60
    """Of the methods that have any."""
    starts: Annotated[int, Field(ge=0)] = 10
    """Starts that run side by side, of which every method begins at the best; 0: at the one that a session draws."""
    methods: Annotated[tuple[MethodName, ...], Field(min_length=1)] = METHODS
    """Which are run; `protocol` is a session of the real protocol, and needs `starts = 0`."""
    costs: CostSettings = CostSettings()
    """What messages and work cost in virtual time."""

    @property
    def charts(self) -> tuple[Chart, ...]:
        """Without errors of what no column has."""
        truth = self.data.truth if isinstance(self.data, Population) else None
        discrete = isinstance(truth, KnownMixedMixture) and (truth.categorical or truth.bernoulli)
        continuous = not isinstance(truth, KnownMixedMixture) or truth.gaussian
        absent = {*(() if discrete else ("probabilities_error",)), *(() if continuous else ("means_error",))}
        return tuple(chart for chart in self.every_chart if chart.column not in absent)

    @model_validator(mode="after")
    def _starts_as_its_methods_do(self) -> Self:
        if PROTOCOL in self.methods and self.starts:
            raise ValueError(
                "a session of the protocol draws a start of its own: for the method 'protocol' set starts = 0"
            )
        if PROTOCOL in self.methods and self.data.tenants > MAX_TENANTS:
            raise ValueError(f"the method 'protocol' has at most {MAX_TENANTS} tenants, not {self.data.tenants}")
        return self

    def run(self, seed: int) -> list[Row]:
        """One row for each method."""
        tenants = self.data.draw(seed)
        model = self.model.over(tenants)
        pattern = self.attendance.pattern(tenants.names, self.rounds, seed)
        ground = common_ground(model, tenants, pattern, self.starts, seed, self.costs.model())
        return rows_of(ground, self.methods)


def rows_of(ground: CommonGround, methods: Sequence[MethodName]) -> list[Row]:
    """Each method on a common ground, and everything that is measured of it; why it failed, if it did, and nothing else."""
    given_away = {_sums(name): _given_away(ground, _sums(name)) for name in methods}
    return [{"method": name, **_outcome(ground, name), **given_away[_sums(name)]} for name in methods]


def _outcome(ground: CommonGround, name: MethodName) -> Row:
    try:
        return {"failure": "", **_measures(ground, run_method(name, ground))}
    except FedEmError as error:
        return {"failure": reason_of(error), **dict.fromkeys(_measures(ground, Fitted(None)), math.nan)}


def _measures(ground: CommonGround, fitted: Fitted) -> Row:
    error, tenants = None, ground.tenants
    if tenants.truth is not None and fitted.parameters is not None:
        error = parameter_error(tenants.truth, ground.model, fitted.parameters, ground.coordinates)
    outside = held_out(ground, fitted)
    of_error = {f"{each.name}_error": math.nan for each in fields(ParameterError)}
    if error is not None:
        of_error = {f"{name}_error": value for name, value in asdict(error).items()}
    return {
        "loss": loss(ground, fitted),
        "held_out": outside.mean,
        "held_out_worst": outside.worst,
        "lacking": outside.lacking,
        "ari": outside.ari,
        **of_error,
        **asdict(fitted.spent),
    }


def _sums(name: MethodName) -> Literal["rounds", "one shot", "none"]:
    """Over whom a method's server sees sums."""
    return "rounds" if name in _IN_ROUNDS else "one shot" if name in _ONE_SHOT else "none"


def _given_away(ground: CommonGround, sums: Literal["rounds", "one shot", "none"]) -> Row:
    """How many came, and what sums over those who came would give away were nobody's statistics to change. One shot shows each tenant's."""
    names = ground.tenants.names
    if sums == "none":
        return dict.fromkeys(_GIVEN_AWAY, math.nan)
    cohorts = [len(here) for here in ground.pattern] if sums == "rounds" else [len(names)]
    found = exposure(ground.pattern if sums == "rounds" else [{name} for name in names], names)
    measured = (
        sum(cohorts) / len(cohorts),
        min(cohorts),
        found.span,
        found.least_support,
        int(found.exact),
        len(found.exposed) / len(names),
    )
    return dict(zip(_GIVEN_AWAY, measured, strict=True))
