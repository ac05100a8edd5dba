"""Standard errors by the bootstrap: the spread of what is fitted to replicates of the records (`fed_em.resampling`).

All replicates are fitted in step (`fed_em.lock_step`), each from the fit of the records themselves, so a few sums are enough. Their
components are matched with those of the fit (`fed_em.alignment`), and errors are standard deviations over replicates. Unlike errors
from scores, they do not rest on the likelihood being quadratic about its maximum, or on the model being true (Efron and Tibshirani
1993, "An Introduction to the Bootstrap", chapter 6).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fed_em.alignment import align, reordered
from fed_em.candidates import Candidates
from fed_em.divergence import Mixture
from fed_em.em import GONE_AFTER, Fit, Stopping, Total
from fed_em.errors import CallerError
from fed_em.lock_step import RoundOfFits, fit_together
from fed_em.model import COUNT
from fed_em.optimiser import EM, L_BFGS
from fed_em.parameters import Parameters
from fed_em.resampling import Resampled, check_replicates
from fed_em.standard_errors import Remark, StandardErrors
from fed_em.tenant_mixing import has_own_weights

Vector = NDArray[np.float64]

ROUNDS = 25
MOST_SUMS = ROUNDS + 1 + GONE_AFTER

# Nats of all records together, within which a replicate is at its optimum: a parameter is then within a seventh of its standard error.
_CLOSE = 0.01


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """The spread of a fit.

    Attributes:
        errors: By array of the parameters, in its shape: standard deviations over the replicates.
        replicates: The parameters of each replicate, its components matched with those of the fit.
        n_collapsed: Replicates in which a component collapsed; they are left out.
        records: How many records the replicates are drawn from: in a federation, of those who are in the last sum.
    """

    errors: Mapping[str, Vector]
    replicates: tuple[Parameters, ...]
    n_collapsed: int
    records: float

    def standard_errors(self, fitted: Parameters) -> StandardErrors:
        """The errors of `fitted`, what the replicates are of, as those of any fit: what no replicate moved has none, and `shift` is how far
        their mean is from it.
        """
        shifts = []
        for name, error in self.errors.items():
            moved = np.abs(np.mean([each[name] for each in self.replicates], axis=0) - fitted[name])
            shifts.append(np.divide(moved, error, out=np.zeros(error.shape), where=error > 0).max(initial=0.0))
        still = {name: error == 0 for name, error in self.errors.items()}
        errors = {name: np.where(still[name], np.nan, error) for name, error in self.errors.items()}
        remarks = {name: np.where(known, Remark.BOUNDARY, Remark.NONE).astype(np.int8) for name, known in still.items()}
        return StandardErrors(errors, remarks, self.records, float(max(shifts)))


def replicates_of(model: Mixture, n: int, key: bytes = b"") -> Candidates:
    """What every round of a bootstrap is of: n copies of the model, each of which sees a replicate. Raises `CallerError` as `bootstrap`."""
    check_replicates(n)
    if has_own_weights(model):
        raise CallerError("a bootstrap has no mixing weights of each tenant's own", remedy="use shared weights")
    return Candidates((model,) * n, resampled=Resampled(key))


def bootstrap(
    candidates: Candidates,
    total: Total,
    fitted: Parameters,
    records: float,
    observe: Callable[[RoundOfFits], None] = lambda _: None,
    accelerated: bool = True,
) -> Bootstrap:
    """Fit all replicates and measure their spread, by `ROUNDS` sums at most and one more.

    Args:
        candidates: Of `replicates_of`.
        total: Of the candidates.
        fitted: Of the model, fitted to the records themselves.
        records: How many that were.
        observe: Called after every round but the last.
        accelerated: Whether steps are those of L-BFGS, and not of plain EM, of which 25 may be too few.

    Raises:
        CallerError: all replicates but one collapsed.
        FedEmError: as `fit_together`.
    """
    n = len(candidates.models)
    stopping = Stopping(_CLOSE / records, ROUNDS)
    fits = fit_together(candidates, total, [fitted] * n, stopping, observe, L_BFGS if accelerated else EM)
    model: Any = candidates.models[0]
    sound = zip(fits.parameters, fits.outcomes, strict=True)
    replicates = tuple(_matched(model, fitted, parameters) for parameters, run in sound if isinstance(run, Fit))
    if len(replicates) < 2:
        raise CallerError(
            f"in {n - len(replicates)} of {n} replicates a component collapsed",
            remedy="set a prior, raise the covariance floor, or fit fewer components",
        )
    errors = {name: np.std([each[name] for each in replicates], axis=0, ddof=1) for name in fitted}
    return Bootstrap(errors, replicates, n - len(replicates), float(fits.summed.statistics[COUNT]))


def _matched(model: Mixture, fitted: Parameters, replicate: Parameters) -> Parameters:
    return reordered(model, replicate, align(model, fitted, model, replicate).order)
