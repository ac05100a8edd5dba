"""The one-run canary audit: a lower bound of ε from records that a coin put in or left out, beside the ε that is claimed.

The auditor plays the strongest adversary: it knows every row but the coins. Canaries stand at the ends of the axes of the ball that rows
are scaled into, where a record adds as much to the sums as it can, and each in a direction of its own. From the sums, less what all other
rows add, the coins are estimated together, as if they and the noise were Gaussian; the scores are log odds. The highest are guessed
in and as many of the lowest out, in several shares of all: what all scores have in common then does not matter, as where the noise is not
what it should be. The level of the test is divided by how many shares are tried, so that the bound holds for the best.

A bound below the claim proves nothing but that this audit found no fault. One above it proves a fault, with the stated confidence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from fed_em.errors import CallerError
from fed_em_simulations.attacks.finding import Figure, Severity
from fed_em_simulations.attacks.noise import Noise, precisions, rounding
from fed_em_simulations.attacks.one_run_bound import epsilon_lower_bound
from fed_em_simulations.attacks.overheard import Overheard

Vector = NDArray[np.float64]

# How many of the canaries are guessed, half of them in and half out.
SHARES = (1.0, 0.3, 0.1, 0.03)


@dataclass(frozen=True)
class CanaryAudit:
    """What an audit by canaries proves.

    Attributes:
        canaries: m.
        guesses, correct: r and v, of the share of guesses that proves most.
        bound: Lower bound of ε.
        claimed: ε that is claimed; infinity if none is.
        delta: δ that both are at.
        confidence: With which the bound holds.
    """

    attack: ClassVar[str] = "canaries"

    canaries: int
    guesses: int
    correct: int
    bound: float
    claimed: float
    delta: float
    confidence: float

    @property
    def severity(self) -> Severity:
        """Exposed if the claim is refuted, or none is made and something is proved; bounded if it stands; none if nothing is proved."""
        if self.bound > self.claimed or (math.isinf(self.claimed) and self.bound > 0):
            return Severity.EXPOSED
        return Severity.BOUNDED if self.bound > 0 else Severity.NONE

    @property
    def sentence(self) -> str:
        """See `Finding`."""
        guessed = f"{self.correct} of {self.guesses} guesses about {self.canaries} canaries were right"
        proved = f"ε ≥ {self.bound:.2f} with confidence {self.confidence:.0%}" if self.bound else "no ε above 0"
        if math.isinf(self.claimed):
            return f"{guessed}, which proves {proved}; no ε is claimed."
        if self.bound > self.claimed:
            return f"{guessed}, which proves {proved}: the claimed ε = {self.claimed:g} does not hold."
        return f"{guessed}, which proves {proved}; the claimed ε = {self.claimed:g} stands."

    @property
    def figures(self) -> Mapping[str, Figure]:
        """See `Finding`."""
        return {
            "canaries": self.canaries,
            "guesses": self.guesses,
            "correct": self.correct,
            "epsilon_lower_bound": self.bound,
            "epsilon_claimed": None if math.isinf(self.claimed) else self.claimed,
            "delta": self.delta,
            "confidence": self.confidence,
        }


def axis_canaries(n_columns: int, radius: float) -> Vector:
    """Both ends of each axis of a ball, `(2 D, D)`."""
    return radius * np.concatenate([np.eye(n_columns), -np.eye(n_columns)])


def canary_scores(
    heard: Overheard, tables: Mapping[str, Vector], owners: Sequence[str], canaries: Vector, noise: Noise = rounding
) -> Vector:
    """Log odds that each canary is in, `(m,)`, as far as the sums tell.

    Args:
        heard: The sums.
        tables: Every tenant's rows without canaries, `(n, D)` in original units.
        owners: Whose each canary is, if it is in.
        canaries: `(m, D)`, in original units.
        noise: What is known of the noise.
    """
    m = len(canaries)
    information, signal = 4.0 * np.eye(m), np.zeros(m)
    for released in heard.moments:
        left = heard.unexplained(released, tables)
        if left is None:
            continue
        weights = precisions(released, noise)
        terms = heard.record_terms(released, owners, canaries) * weights
        # A fair coin has the mean ½ and the variance ¼.
        information += terms @ terms.T
        signal += terms @ (left.vector * weights - terms.sum(axis=0) / 2)
    covariance = np.linalg.inv(information)
    return np.asarray(covariance @ signal / np.diagonal(covariance))


def canary_audit(
    included: NDArray[np.bool_],
    scores: Vector,
    delta: float,
    claimed: float = math.inf,
    confidence: float = 0.95,
    shares: Sequence[float] = SHARES,
) -> CanaryAudit:
    """Guess coins by their scores, and say what the right guesses prove.

    Args:
        included: `(m,)`, the coins. Several runs with fresh coins may stand one after the other.
        scores: `(m,)`, higher for canaries that seem to be in.
        delta: δ of the claim, in [0, 1).
        claimed: ε of the claim.
        confidence: In (0, 1).
        shares: Of the canaries that are guessed, chosen without a look at the coins.

    Raises:
        CallerError: there are fewer than two canaries, or not a score for each.
    """
    m = len(included)
    if m < 2 or scores.shape != (m,):
        raise CallerError(
            f"{len(scores)} scores of {m} canaries", remedy="give two canaries or more, and a score for each"
        )
    order = np.argsort(scores, kind="stable")
    level, tried = (1 - confidence) / len(shares), []
    for share in shares:
        half = max(1, int(share * m / 2))
        correct = int(included[order[-half:]].sum() + (~included[order[:half]]).sum())
        tried.append((epsilon_lower_bound(m, 2 * half, correct, delta, level), 2 * half, correct))
    bound, guesses, correct = max(tried, key=lambda each: each[0])
    return CanaryAudit(m, guesses, correct, bound, claimed, delta, confidence)
