"""The experiment `sensitivity`: how far a fit moves if missing cells are not missing at random."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, FiniteFloat, model_validator

from fed_em.em import Stopping
from fed_em_simulations.common_ground import common_ground
from fed_em_simulations.delta_adjustment import delta_adjusted
from fed_em_simulations.experiment import Chart, Experiment
from fed_em_simulations.fit_measures import held_out, parameter_error
from fed_em_simulations.known_mixed_mixture import KnownMixedMixture
from fed_em_simulations.methods import Fitted
from fed_em_simulations.mixture_to_fit import MixtureToFit
from fed_em_simulations.population import Population
from fed_em_simulations.results import Row


class SensitivityExperiment(Experiment):
    """One fit with cells taken to be missing at random, and what it becomes if missing values were δ off.

    Where the truth is known, as here, the δ of least error tells how far off the missing values are; of real rows one reads how large a δ
    would have to be to change one's conclusion.
    """

    keys: ClassVar[tuple[str, ...]] = ("delta",)
    every_chart: ClassVar[tuple[Chart, ...]] = (
        Chart(
            "means_error", "Error of the means", "standard deviations",
            "Root of the mean square difference from the true means, components matched, if missing cells are taken to be δ "
            "standard deviations above what the model expects. The fit at δ = 0 takes them to be missing at random.",
        ),
        Chart("mean", "Mean of the adjusted columns", "standard deviations", "Over all rows, less the true one."),
        Chart("held_out", "On complete rows that nobody trained on", "nats a row"),
    )  # fmt: skip

    experiment: Literal["sensitivity"] = "sensitivity"
    """Which experiment it is."""
    data: Population
    """The tenants and their rows, of which cells are missing."""
    model: MixtureToFit = MixtureToFit()
    """What is fitted."""
    starts: Annotated[int, Field(ge=1)] = 10
    """Starts that run side by side, of which the best goes on."""
    delta: tuple[FiniteFloat, ...] = (-1.0, -0.5, 0.0, 0.5, 1.0)
    """In standard deviations of the columns."""
    columns: tuple[Annotated[int, Field(ge=0)], ...] | None = None
    """Which are adjusted, counted from 0; all by default."""
    draws: Annotated[int, Field(ge=1)] = 5
    """Of the missing cells, for each δ."""

    @model_validator(mode="after")
    def _has_something_missing(self) -> Self:
        if self.data.heterogeneity.missing is None:
            raise ValueError("nothing is missing: give data.heterogeneity.missing")
        if isinstance(self.data.truth, KnownMixedMixture):
            raise ValueError("missing values are moved by standard deviations: give a Gaussian truth")
        if self.columns is not None and max(self.columns, default=0) >= self.data.truth.columns:
            raise ValueError(f"columns are counted from 0 to {self.data.truth.columns - 1}")
        return self

    def run(self, seed: int) -> list[Row]:
        """One row for each δ."""
        tenants = self.data.draw(seed)
        assert tenants.truth is not None
        model = self.model.model(self.data.truth.columns, missing=True)
        ground = common_ground(model, tenants, (), self.starts, seed)
        adjusted = list(range(model.n_columns)) if self.columns is None else list(self.columns)
        true_mean = ground.coordinates.apply(tenants.truth.mean[np.newaxis])[0]
        rows: list[Row] = []
        for delta in self.delta:
            by_column = np.zeros(model.n_columns)
            by_column[adjusted] = delta
            found = delta_adjusted(
                model, ground.optimum, ground.parts, by_column, self.draws, Stopping(1e-6, 200), seed
            )
            error = parameter_error(tenants.truth, model, found, ground.coordinates)
            outside = held_out(ground, Fitted(found))
            means = found["weights"] @ found["means"] - true_mean
            rows.append(
                {
                    "delta": delta,
                    "means_error": np.nan if error is None else error.means,
                    "weights_error": np.nan if error is None else error.weights,
                    "mean": float(means[adjusted].mean()),
                    "held_out": outside.mean,
                    "ari": outside.ari,
                }
            )
        return rows
