"""A small private session to attack: sums of Gaussian mixtures with exact Gaussian noise, a stated multiple of their sensitivity."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import norm

from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.parameters import Parameters
from fed_em_protocols.transcript.released import ReleasedSum

Matrix = NDArray[np.float64]


def delta_of(epsilon: float, separation: float) -> float:
    """δ(ε) of a Gaussian mechanism whose outputs are so many standard deviations apart (Balle and Wang 2018, theorem 8)."""
    a, b = separation / 2 - epsilon / separation, -separation / 2 - epsilon / separation
    return float(norm.cdf(a) - math.exp(epsilon) * norm.cdf(b))


def separation_of(epsilon: float, delta: float) -> float:
    """The largest separation that is (ε, δ)-differentially private."""
    return float(brentq(lambda each: delta_of(epsilon, each) - delta, 1e-4, 50.0))


@dataclass(frozen=True)
class Mechanism:
    """Noise of so much on each block that the joint sensitivity of all sums together is `separation` standard deviations.

    The log-likelihood is not released, nor the entropy: nobody's is in doubt at parameters of a single component.
    """

    model: GaussianMixtureModel
    radius: float
    separation: float
    sums: int = 1

    @property
    def noise(self) -> Mapping[str, float]:
        """By block."""
        norms = {"count": 1.0, "responsibilities": 1.0, "first": self.radius, "second": self.radius**2}
        shares = {"count": 0.05, "responsibilities": 0.05, "first": 0.45, "second": 0.45}
        each = self.separation / math.sqrt(self.sums)
        return {name: norms[name] / math.sqrt(shares[name]) / each for name in norms}

    def of(self, _: ReleasedSum) -> Mapping[str, float]:
        """As an adversary knows it."""
        return self.noise

    @property
    def added(self) -> Mapping[str, float]:
        """What is added: what says nothing is drowned."""
        return {**self.noise, "log_likelihood": 1e9, "entropy": 1e9}

    def points(self) -> list[Parameters]:
        """Parameters of the sums: the same standard Gaussian components everywhere, as before any step."""
        k, d = self.model.n_components, self.model.n_columns
        covariances = (
            np.ones((k, d)) if self.model.covariance == "diag" else np.repeat(np.eye(d)[np.newaxis], k, axis=0)
        )
        point = Parameters({"weights": np.full(k, 1 / k), "means": np.zeros((k, d)), "covariances": covariances})
        return [point] * self.sums


def in_ball(rows: Matrix, radius: float) -> Matrix:
    """Rows scaled into the ball."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows * np.minimum(1.0, radius / np.maximum(norms, 1e-300))
