"""The model that a simulation fits: a Gaussian mixture."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, FiniteFloat

from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.priors import GaussianMixturePrior
from fed_em_protocols.configuration import Table


class MixtureToFit(Table):
    """A Gaussian mixture in standardised columns."""

    components: Annotated[int, Field(ge=1)] = 4
    covariance: Literal["full", "diag", "spherical"] = "full"
    floor: Annotated[FiniteFloat, Field(ge=0)] = 1e-3
    """Added to variances, in standardised columns."""
    prior: bool = False
    """Whether there is a weak conjugate prior (Fraley and Raftery 2007); else it is maximum likelihood."""

    def model(self, n_columns: int, missing: bool) -> GaussianMixtureModel:
        """The model over so many columns, whose cells may be missing or not."""
        zeros, ones = [0.0] * n_columns, [1.0] * n_columns
        prior = GaussianMixturePrior.weakly_informative(self.components, zeros, ones) if self.prior else None
        return GaussianMixtureModel(self.components, n_columns, self.covariance, self.floor, prior, missing)
