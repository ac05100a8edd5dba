"""Criteria by which one of several fitted models is picked; all follow from one sum at its parameters.

With L the log-likelihood of the rows at the fitted parameters, n their number, p the number of free parameters, and r_ik the posterior
probability of component k for row i:

    BIC        −2 L + p log n                    Schwarz (1978)
    AIC        −2 L + 2 p                        Akaike (1974)
    ICL        BIC − 2 Σ_i Σ_k r_ik log r_ik     Biernacki, Celeux and Govaert (2000): components that overlap cost
    held-out   log-likelihood a row of rows that no model was fitted to, in nats

The lower the better, but for the last. (R's mclust has the opposite sign.) L is of the rows alone, also at the parameters that a prior
helped to find (Fraley and Raftery 2007); of a row with missing cells it is the density of the others, and of a labelled row that of row
and label. A row of weight w counts as w rows, also in n. All rows must be the same for all models.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fed_em.description import nearest
from fed_em.errors import CallerError
from fed_em.model import COUNT, ENTROPY, LOG_LIKELIHOOD, Model
from fed_em.statistics import Statistics

BIC, AIC, ICL, HELD_OUT = "bic", "aic", "icl", "held-out"
CRITERIA = (BIC, AIC, ICL, HELD_OUT)

# Losses that differ by less than this, relative to them, are a tie.
_TIE = 1e-10


@dataclass(frozen=True)
class Evidence:
    """What the rows say of one fitted model.

    Attributes:
        log_likelihood: L, in nats.
        records: n.
        n_free_parameters: p.
        entropy: −Σ r log r, in nats; 0 for one component.
        held_out: Log-likelihood a held-out row, in nats; None if no rows were held out.
    """

    log_likelihood: float
    records: float
    n_free_parameters: int
    entropy: float
    held_out: float | None = None

    @classmethod
    def of(cls, model: Model, statistics: Statistics, held_out: float | None = None) -> Evidence:
        """Of a mixture, from its statistics at the fitted parameters."""
        return cls(
            float(statistics[LOG_LIKELIHOOD]),
            float(statistics[COUNT]),
            model.n_free_parameters,
            max(float(statistics[ENTROPY]), 0.0),
            held_out,
        )

    @property
    def bic(self) -> float:
        """The lower the better."""
        return -2.0 * self.log_likelihood + self.n_free_parameters * math.log(self.records)

    @property
    def aic(self) -> float:
        """The lower the better."""
        return -2.0 * self.log_likelihood + 2.0 * self.n_free_parameters

    @property
    def icl(self) -> float:
        """The lower the better."""
        return self.bic + 2.0 * self.entropy

    def value(self, criterion: str) -> float | None:
        """One of `CRITERIA`, as the field writes it; None for "held-out" if no rows were."""
        return {BIC: self.bic, AIC: self.aic, ICL: self.icl, HELD_OUT: self.held_out}[criterion]

    def loss(self, criterion: str) -> float:
        """The same, the lower the better.

        Raises:
            CallerError: it asks for held-out rows, and there are none.
        """
        value = self.value(criterion)
        if value is None:
            raise CallerError("no rows were held out", remedy="hold out a share of them, or use another criterion")
        return -value if criterion == HELD_OUT else value


def check_criterion(name: str) -> None:
    """Raise `CallerError` unless a criterion has this name."""
    if name not in CRITERIA:
        raise CallerError(f"no criterion '{name}'", remedy=nearest(str(name), CRITERIA))


def best_of(criterion: str, evidence: Sequence[Evidence | None]) -> int:
    """Which model has the least loss; where several tie, the one with the fewest free parameters, and of these the first.

    Args:
        criterion: One of `CRITERIA`.
        evidence: Of each model; None where it has none.

    Raises:
        CallerError: no model has any, or none has what the criterion asks for.
    """
    known = {number: each for number, each in enumerate(evidence) if each is not None}
    if not known:
        raise CallerError(
            "every candidate collapsed", remedy="set a prior, raise the covariance floor, or try fewer components"
        )
    losses = {number: each.loss(criterion) for number, each in known.items()}
    least = min(losses.values())
    tied = [number for number, loss in losses.items() if loss - least <= _TIE * abs(least)]
    return min(tied, key=lambda number: known[number].n_free_parameters)
