"""Drills of the fit: a poor optimum, slow convergence, lost digits, a component that collapses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fed_em.em import Stopping
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.priors import GaussianMixturePrior
from fed_em_protocols.description import Column
from fed_em_simulations.federation import Federation
from fed_em_simulations.federation_outcome import FederationOutcome
from fed_em_simulations.game_day.drill import Drill, DrillLog, Finding

Rows = NDArray[np.float64]

_CORNERS = np.array([[0.0, 0.0], [0.0, 6.0], [6.0, 0.0], [6.0, 6.0]])

# What fits of the same rows may differ by and still be one optimum, nats a row.
_SAME_OPTIMUM = 0.01
# Below it, in standardised columns, a variance is that of a value that stands many times, and no longer of a group.
_LEAST_VARIANCE = 1e-4


def corners(n: int, tenants: int, seed: int) -> list[Rows]:
    """Rows around four corners, `(n, 2)` a tenant."""
    generator = np.random.default_rng(seed)
    return [_CORNERS[generator.integers(4, size=n)] + 0.5 * generator.standard_normal((n, 2)) for _ in range(tenants)]


def log_likelihood_of(outcome: FederationOutcome) -> float:
    """That of the last round, nats a row."""
    return next(each.log_likelihood for each in reversed(outcome.rounds) if each.log_likelihood is not None)


def poor_optimum() -> Finding:
    """The same rows from several seeds: from one draw they end at different heights, from twenty starts at one."""
    tables, log = corners(60, 3, seed=1), DrillLog()

    def spread(starts: int, seeds: Sequence[int]) -> float:
        ends = [
            log_likelihood_of(
                Federation(tables, seed=seed, starts=starts, watchers=(log,)).fit(GaussianMixtureModel(4, 2))
            )
            for seed in seeds
        ]
        return max(ends) - min(ends)

    before, lines = spread(0, (0, 3)), log.lines
    after = spread(20, (0, 3))
    return Finding(
        before > _SAME_OPTIMUM,
        f"two seeds end {before:.2f} nats a row apart",
        after < _SAME_OPTIMUM,
        f"{after:.4f} nats a row apart",
        lines,
    )


def slow_convergence() -> Finding:
    """Two groups that overlap: EM is still climbing when its rounds are over."""
    generator = np.random.default_rng(2)
    tables = [
        np.where(generator.random((80, 1)) < 0.5, 0.0, 1.6) + generator.standard_normal((80, 1)) for _ in range(3)
    ]
    log = DrillLog()

    def fitted(optimiser: Literal["em", "lbfgs"]) -> FederationOutcome:
        federation = Federation(tables, starts=0, optimiser=optimiser, stopping=Stopping(1e-7, 100), watchers=(log,))
        return federation.fit(GaussianMixtureModel(2, 1))

    before, lines = fitted("em"), log.lines
    after = fitted("lbfgs")
    return Finding(
        not before.converged,
        f"{len(before.rounds)} rounds, and not converged",
        after.converged and len(after.rounds) < len(before.rounds),
        f"converged in {len(after.rounds)} rounds",
        lines,
    )


def underflow() -> Finding:
    """A range that is far too wide: of numbers that may be 10⁹ nothing is left for digits behind the point."""
    tables = corners(60, 3, seed=2)

    def ended(widest: float) -> FederationOutcome:
        columns = [Column(name=name, low=-widest, high=widest) for name in ("x0", "x1")]
        federation = Federation(tables, starts=0, columns=columns, stopping=Stopping(1e-4, 20))
        return federation.fit(GaussianMixtureModel(4, 2))

    before, after = ended(1e9), ended(20.0)
    return Finding(
        "fraction bits would be left" in before.failure,
        "no model: fewer than 20 bits behind the point",
        not after.failure,
        f"fitted, {len(after.rounds)} rounds",
        tuple(before.failure.splitlines()),
    )


def collapse() -> Finding:
    """A third of the rows is one and the same row: a component shrinks onto it, and the likelihood runs away with it."""
    generator = np.random.default_rng(1)
    tables = [np.vstack([generator.standard_normal((40, 2)), np.tile([5.0, 5.0], (20, 1))]) for _ in range(3)]
    prior = GaussianMixturePrior(mean=(0.0, 0.0), scale=(0.1, 0.1), mean_precision=0.01, degrees_of_freedom=4.0)

    def least_variance(log: DrillLog, **how: Any) -> float:
        federation = Federation(tables, starts=0, stopping=Stopping(1e-6, 60), watchers=(log,))
        outcome = federation.fit(GaussianMixtureModel(2, 2, **how))
        return float(np.linalg.eigvalsh(outcome.model.parameters["covariances"]).min())

    log = DrillLog()
    before = least_variance(log)
    after = least_variance(DrillLog(), prior=prior)
    return Finding(
        before < _LEAST_VARIANCE,
        f"a component's least variance is {before:.0e}",
        after > _LEAST_VARIANCE,
        f"{after:.1e}",
        log.lines,
    )


DRILLS = (
    Drill(
        "poor-optimum",
        "fits of the same rows from other seeds end at other log-likelihoods",
        ("fed_em_log_likelihood", "fed_em_smallest_weight"),
        "starts = 20 under [fit] in place of one draw",
        poor_optimum,
    ),
    Drill(
        "slow-convergence",
        "the objective still rises by little when max_iterations is reached",
        ("fed_em_iterations_total", "fed_em_objective_gain", "fed_em_session_rounds"),
        'optimiser = "lbfgs" under [fit]',
        slow_convergence,
    ),
    Drill(
        "underflow",
        "the session is refused, or its moments have no digits left: a column's declared range is far wider than its numbers",
        ("fed_em_not_evaluated_total", "fed_em_rounds_total"),
        "declare low and high as narrow as the column's meaning admits",
        underflow,
    ),
    Drill(
        "collapse",
        "the log-likelihood leaps, and a component's variance is the covariance floor",
        ("fed_em_collapses_total", "fed_em_log_likelihood", "fed_em_smallest_weight"),
        "a prior on the covariances, [model.prior]",
        collapse,
    ),
)
