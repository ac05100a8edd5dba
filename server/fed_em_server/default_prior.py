"""The prior of a session's model, where its file names one instead of spelling it out.

    [model] prior = "weak"    the default: Fraley and Raftery (2007, section 3.2) for Gaussian columns, one pseudo-record for each other
    [model] prior = "none"    maximum likelihood

Sessions fit standardised columns, whose means are 0 and whose variances are 1, so the weak prior needs no data. What goes into the
session's description are its numbers: tenants read what they work under, and need to know no words.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from fed_em.gaussian_mixture import FAMILY as GAUSSIAN_MIXTURE
from fed_em.mixed_mixture import FAMILY as MIXED_MIXTURE
from fed_em.mixed_priors import MixedMixturePrior
from fed_em.priors import WEAK, GaussianMixturePrior, check_prior_name
from fed_em.tenant_mixing import has_own_weights
from fed_em_protocols.description import SessionDescription


def named_prior(model: dict[str, Any]) -> str | None:
    """The prior that a session's file names for a model, if its family has any and the file does not spell it out.

    Raises:
        CallerError: no prior has this name.
    """
    if model.get("family") not in (GAUSSIAN_MIXTURE, MIXED_MIXTURE):
        return None
    prior = model.get("prior", WEAK)
    if not isinstance(prior, str):
        return None
    check_prior_name(prior, "its numbers in [model.prior]")
    return prior


def weak_prior(described: SessionDescription) -> GaussianMixturePrior | MixedMixturePrior:
    """The weak prior of the largest model that a session without any may fit.

    No description knows the mean of a column of counts: their one pseudo-record is a count of 1, which keeps all rates above 0.
    """
    schema, n_components = described.schema_of_columns, max(described.most_components, 1)
    zeros, ones = np.zeros(len(described.columns)), np.ones(len(described.columns))
    if described.model.get("family") == GAUSSIAN_MIXTURE:
        return GaussianMixturePrior.weakly_informative(n_components, zeros.tolist(), ones.tolist())
    means = zeros.copy()
    means[schema.poisson] = 1.0
    weak = MixedMixturePrior.weakly_informative(schema, n_components, means, ones)
    # Mixing weights of each tenant's own are not estimated by the session.
    return replace(weak, weight_concentration=1.0) if has_own_weights(described.fitted_model) else weak
