"""The model that a simulation fits: a Gaussian mixture, or a mixture over columns of mixed kinds where the tenants' columns are such."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, FiniteFloat

from fed_em.columns import ColumnSchema
from fed_em.divergence import Mixture
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.mixed_mixture import MixedMixtureModel
from fed_em.mixed_priors import MixedMixturePrior
from fed_em.priors import GaussianMixturePrior
from fed_em_protocols.configuration import Table
from fed_em_simulations.population import Tenants


class MixtureToFit(Table):
    """A mixture, in standardised columns where these are Gaussian."""

    components: Annotated[int, Field(ge=1)] = 4
    """K."""
    covariance: Literal["full", "diag", "spherical"] = "full"
    """Of the Gaussian columns, within a component."""
    floor: Annotated[FiniteFloat, Field(ge=0)] = 1e-3
    """Added to variances, in standardised columns."""
    prior: bool = False
    """Whether there is a weak conjugate prior (Fraley and Raftery 2007); else it is maximum likelihood. Labels and counts have a prior of
    one record always: a tenant alone may not have seen a level that others have."""

    def over(self, tenants: Tenants) -> Mixture:
        """The model over the columns of some tenants, whose cells may be missing if any is."""
        if tenants.schema is not None:
            return self._mixed(tenants.schema)
        rows = tenants.pooled.rows
        return self.model(rows.shape[1], missing=bool(np.isnan(rows).any()))

    def _mixed(self, schema: ColumnSchema) -> MixedMixtureModel:
        ones = np.ones(len(schema.columns))
        weak = MixedMixturePrior.weakly_informative(schema, self.components, np.zeros(len(ones)), ones)
        prior = replace(weak, poisson_rates=(1.0,) * len(schema.poisson))
        prior = prior if self.prior else replace(prior, gaussian=None, weight_concentration=1.0)
        return MixedMixtureModel(self.components, schema, self.covariance, self.floor, prior)

    def model(self, n_columns: int, missing: bool) -> GaussianMixtureModel:
        """The model over so many columns, whose cells may be missing or not."""
        zeros, ones = [0.0] * n_columns, [1.0] * n_columns
        prior = GaussianMixturePrior.weakly_informative(self.components, zeros, ones) if self.prior else None
        return GaussianMixtureModel(self.components, n_columns, self.covariance, self.floor, prior, missing)
