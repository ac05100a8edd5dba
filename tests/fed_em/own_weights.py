"""What tenants gain from mixing weights of their own, on rows that nobody trained on: `python -m tests.fed_em.own_weights`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fed_em.em import Fit, Stopping, fit
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.initialisation import moments_model, standard_gaussian, start_from_moments
from fed_em.parameters import Parameters
from fed_em.tenant_mixing import TenantMixing, at_home
from fed_em.totals import IncrementalTotal
from fed_em_simulations.dirichlet_mixing import DirichletMixing

Vector = NDArray[np.float64]

TENANTS, COMPONENTS, COLUMNS = 20, 4, 3
TRAINING, HELD_OUT = 150, 400
STARTS = 3
SEEDS = 3


@dataclass(frozen=True)
class Gains:
    """Mean log-density of held-out rows, each tenant's at its own weights, in nats a row more than with shared ones.

    Attributes:
        fitted: By the two fits.
        truth: By the distributions that the rows are of, whose gain is the mutual information of tenants and rows.
    """

    fitted: float
    truth: float


def gains(concentration: float, seed: int) -> Gains:
    """Of tenants whose weights are Dirichlet(α, …, α); from the same starts, of which each fit takes its best."""
    generator = np.random.default_rng(seed)
    truth = GaussianMixtureModel(COMPONENTS, COLUMNS)
    components = {
        "means": 2.5 * generator.standard_normal((COMPONENTS, COLUMNS)),
        "covariances": np.tile(np.eye(COLUMNS), (COMPONENTS, 1, 1)),
    }
    equal = np.full(COMPONENTS, 1 / COMPONENTS)
    shares = DirichletMixing(concentration=concentration).shares(TENANTS, equal, generator)
    of_tenants = [Parameters({**components, "weights": share}) for share in shares]
    rows = [truth.sample(own, TRAINING + HELD_OUT, generator)[0] for own in of_tenants]
    training = {f"t{c}": one[:TRAINING] for c, one in enumerate(rows)}
    held_out = [one[TRAINING:] for one in rows]
    shared_model = GaussianMixtureModel(COMPONENTS, COLUMNS, covariance_floor=1e-3)
    own_model = GaussianMixtureModel(COMPONENTS, COLUMNS, covariance_floor=1e-3, mixing=TenantMixing())
    shared = _best(shared_model, training)
    own = _best(own_model, training)
    at_homes = [at_home(own_model, own, part) for part in training.values()]
    everybody = Parameters({**components, "weights": shares.mean(axis=0)})
    return Gains(
        _mean(shared_model, at_homes, held_out) - _mean(shared_model, [shared] * TENANTS, held_out),
        _mean(truth, of_tenants, held_out) - _mean(truth, [everybody] * TENANTS, held_out),
    )


def _best(model: GaussianMixtureModel, parts: Mapping[str, Vector]) -> Parameters:
    pooled, moments = np.concatenate(list(parts.values())), moments_model(COLUMNS)
    gaussian = moments.m_step(moments.e_step(standard_gaussian(COLUMNS), pooled), standard_gaussian(COLUMNS))
    runs: list[Fit] = []
    for seed in range(STARTS):
        total = IncrementalTotal(model, parts, lambda _: parts)
        runs.append(fit(model, total, start_from_moments(model, gaussian, seed), Stopping(1e-5, 100)))
    return max(runs, key=lambda run: run.iterations[-1].objective).parameters


def _mean(model: GaussianMixtureModel, parameters: list[Parameters], rows: list[Vector]) -> float:
    each = [model.log_prob(at, part) for at, part in zip(parameters, rows, strict=True)]
    return float(np.concatenate(each).mean())


def main() -> None:
    """Print the table."""
    print(
        f"{TENANTS} tenants, {TRAINING} rows each, {COMPONENTS} components; nats a held-out row gained by own weights"
    )
    for concentration in (100.0, 0.3, 0.05):
        found = [gains(concentration, seed) for seed in range(SEEDS)]
        fitted, truth = ([getattr(one, name) for one in found] for name in ("fitted", "truth"))
        print(
            f"Dirichlet {concentration:6}: {np.mean(fitted):+.3f} (from {min(fitted):+.3f} to {max(fitted):+.3f}); "
            f"by the true distributions {np.mean(truth):+.3f}"
        )


if __name__ == "__main__":
    main()
