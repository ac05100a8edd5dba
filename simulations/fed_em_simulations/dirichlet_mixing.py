"""Tenants in which the components have shares of their own: Dirichlet weights.

    π_c ~ Dirichlet(α K w),    E π_c = w,

w the weights of all, by default equal: then it is Dirichlet(α, …, α), the usual measure of heterogeneity in federated learning (Hsu, Qi
and Brown 2019, "Measuring the effects of non-identical data distribution for federated visual classification"). α = 100: nearly alike;
0.3: a few components a tenant; 0.05: mostly one.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, FiniteFloat

from fed_em_protocols.configuration import Table

Vector = NDArray[np.float64]


class DirichletMixing(Table):
    """Mixing weights of each tenant's own."""

    concentration: Annotated[FiniteFloat, Field(gt=0)]
    """α; the smaller, the less alike tenants are."""

    def shares(self, n_tenants: int, weights: Vector, generator: np.random.Generator) -> Vector:
        """Weights of the components at each tenant, `(C, K)`; rows sum to 1.

        Args:
            n_tenants: C.
            weights: w, `(K,)`, positive, of all tenants.
            generator: Where they are drawn from.
        """
        return np.asarray(generator.dirichlet(self.concentration * len(weights) * weights, n_tenants))
