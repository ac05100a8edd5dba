"""The log-likelihood of a sum that came without it.

A log-density has no bound, so noise cannot hide what one record adds to the log-likelihood: no party sends it. But where the
responsibilities behind a sum are the posterior at the parameters, the free energy of Neal and Hinton (1998) is the log-likelihood, and it
is a function of the other statistics, all of which are bounded. Of a noised sum it is that function of it: a log-likelihood with noise.
"""

from __future__ import annotations

import numpy as np

from fed_em.candidates import Candidates
from fed_em.errors import CallerError
from fed_em.model import LOG_LIKELIHOOD, Model, Summand
from fed_em.parameters import Parameters
from fed_em.statistics import Statistics


def with_log_likelihood(model: Summand, statistics: Statistics, parameters: Parameters) -> Statistics:
    """The statistics with `log_likelihood` replaced by the free energy; that of held-out rows, which has none, stays.

    Args:
        model: A model, or candidates.
        statistics: Of an E-step at `parameters`, with any log-likelihood; after noise, made admissible (`fed_em.admissible`).
        parameters: Admissible ones.

    Raises:
        CallerError: the statistics are of no model.
        FedEmError: as `Model.free_energy`.
    """
    if isinstance(model, Candidates):
        apart = zip(model.models, model.statistics_of(statistics), model.parameters_of(parameters), strict=True)
        return model.with_statistics(statistics, [with_log_likelihood(*each) for each in apart])
    if not isinstance(model, Model):
        raise CallerError(f"the family '{model.family}' has no log-likelihood")
    vector = statistics.vector.copy()
    vector[statistics.layout.offsets[LOG_LIKELIHOOD]] = np.asarray(model.free_energy(statistics, parameters))
    return Statistics(statistics.layout, vector)
