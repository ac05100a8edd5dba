"""Membership inference: was this record among those that were summed? A likelihood ratio of the sums, for two adversaries.

The *strong* one knows every other row. What a sum has beyond these is the candidate's own statistics or nothing, and noise. With Gaussian
noise of known size its log likelihood ratio is Σ_t ⟨r_t, s_t⟩ − ½ ⟨s_t, s_t⟩ in units of the noise, s_t what the candidate would add at
the parameters of sum t.

The *weak* one knows the population only: from a sample of its own it estimates mean m and covariance C of what a record adds. The sum over
n records, one of them the candidate or not, is nearly Gaussian with covariance n C plus the noise. This is the attack of Homer et al.
(2008) in the form of Sankararaman et al. (2009), for vectors that are correlated.

What is told of an attack is the area under its ROC curve with the interval of Newcombe (2006, method 5), which is none of length 0 at 1,
and the share of members that are found at one false alarm in a hundred (Carlini et al. 2022). The threshold is estimated as well: the
interval of the share is that of Clopper and Pearson at thresholds that have surely fewer, and surely more, false alarms than that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import beta, norm, rankdata

from fed_em.errors import CallerError
from fed_em.model import COUNT
from fed_em_protocols.transcript.released import ReleasedSum
from fed_em_simulations.attacks.finding import Figure, Severity
from fed_em_simulations.attacks.noise import Noise, precisions, rounding
from fed_em_simulations.attacks.overheard import Overheard

Vector = NDArray[np.float64]

FALSE_ALARMS = 0.01

# Sums that the weak adversary stacks: more of them are hardly more than these, and C must be estimated for all together.
_MOST_STACKED = 3

# Eigenvalues of C below this share of the largest are taken for it: an estimate from a sample knows no more.
_RIDGE = 1e-6


@dataclass(frozen=True)
class Membership:
    """How well members are told from others.

    Attributes:
        adversary: "weak" knows the population, "strong" every other row.
        members, others: How many candidates of each kind were scored.
        auc: Area under the ROC curve.
        auc_interval: At 95 %.
        found: Share of members found at one false alarm in a hundred.
        found_interval: At 95 %.
    """

    adversary: Literal["weak", "strong"]
    members: int
    others: int
    auc: float
    auc_interval: tuple[float, float]
    found: float
    found_interval: tuple[float, float]

    @property
    def attack(self) -> str:
        """See `Finding`."""
        return f"membership-{self.adversary}"

    @property
    def severity(self) -> Severity:
        """Exposed if surely a tenth of the members are found, or nearly all pairs told apart; bounded if surely better than chance."""
        if self.found_interval[0] > 0.1 or self.auc_interval[0] > 0.9:
            return Severity.EXPOSED
        better = self.auc_interval[0] > 0.5 or self.found_interval[0] > FALSE_ALARMS
        return Severity.BOUNDED if better else Severity.NONE

    @property
    def sentence(self) -> str:
        """See `Finding`."""
        knows = "all other rows" if self.adversary == "strong" else "the population alone"
        low, high = self.auc_interval
        if self.severity is Severity.NONE:
            return f"Whoever knows {knows} tells members from others no better than chance: AUC {self.auc:.2f} [{low:.2f}, {high:.2f}]."
        return (
            f"Whoever knows {knows} finds {self.found:.0%} of the members at 1 % false alarms; "
            f"AUC {self.auc:.2f} [{low:.2f}, {high:.2f}]."
        )

    @property
    def figures(self) -> Mapping[str, Figure]:
        """See `Finding`."""
        return {
            "members": self.members,
            "others": self.others,
            "auc": self.auc,
            "auc_interval": list(self.auc_interval),
            "found_at_1_percent": self.found,
            "found_interval": list(self.found_interval),
        }


def strong_scores(
    heard: Overheard,
    tables: Mapping[str, Vector],
    owners: Sequence[str],
    candidates: Vector,
    members: bool,
    noise: Noise = rounding,
) -> Vector:
    """Log likelihood ratios `(m,)` of an adversary who knows every row but the candidate, which is asked for each candidate anew.

    Args:
        heard: The sums.
        tables: Every tenant's rows, `(n, D)` in original units, with all members.
        owners: Whose each candidate is, or would be.
        candidates: `(m, D)`, in original units.
        members: Whether the candidates are among the rows of the tables; then each is left out of what is known in its turn.
        noise: What is known of the noise.
    """
    scores = np.zeros(len(candidates))
    for released in heard.moments:
        left = heard.unexplained(released, tables)
        if left is None:
            continue
        weights = precisions(released, noise)
        terms = heard.record_terms(released, owners, candidates) * weights
        squares = (terms**2).sum(axis=1)
        scores += terms @ (left.vector * weights) + (squares if members else 0.0) - squares / 2
    return scores


def weak_scores(heard: Overheard, population: Vector, candidates: Vector, noise: Noise = rounding) -> Vector:
    """Log likelihood ratios `(m,)` of an adversary who knows a sample of the population.

    Args:
        heard: The sums. Those over everybody's fresh terms are used, the first, the last and one between; if none is, any.
        population: `(p, D)` in original units, of the distribution that the rows are from, and none of them; p far above n.
        candidates: `(m, D)`, in original units.
        noise: What is known of the noise.

    Raises:
        CallerError: no sum of statistics was heard, or the sample is smaller than what it is to be a sample for.
    """
    sums = _stacked(heard)
    n = float(np.mean([released.statistics[COUNT] for released in sums]))
    if len(population) < max(n, 2):
        raise CallerError(
            f"a sample of {len(population)} says too little of sums over {n:.0f} records",
            remedy="give several times as many",
        )
    told = np.concatenate([precisions(released, noise) for released in sums])
    known = told > 0
    sample, ours = (_terms(heard, sums, rows)[:, known] for rows in (population, candidates))
    mean, deviation = sample.mean(axis=0), np.maximum(sample.std(axis=0), 1e-9)
    total = np.concatenate([released.statistics.vector for released in sums])[known]
    # In units of a record's own deviation, in which eigenvalues compare.
    of_records = np.cov((sample - mean) / deviation, rowvar=False)
    # The mean is not known but estimated, from a sample of p.
    covariance = n * (1 + n / len(population)) * of_records + np.diag((1 / (told[known] * deviation)) ** 2)
    values, vectors = np.linalg.eigh(covariance)
    values = np.maximum(values, _RIDGE * values[-1])
    away = (ours - mean) / deviation @ vectors / np.sqrt(values)
    return np.asarray(
        away @ (vectors.T @ ((total - n * mean) / deviation) / np.sqrt(values)) - (away**2).sum(axis=1) / 2
    )


def membership(adversary: Literal["weak", "strong"], members: Vector, others: Vector) -> Membership:
    """How well scores tell members from others.

    Args:
        adversary: Whose scores.
        members, others: Scores of each, higher for what seems to be a member.

    Raises:
        CallerError: there are fewer than a hundred others, so a false alarm in a hundred is nothing that could be seen; or no member.
    """
    m, k = len(members), len(others)
    if not m or k < 1 / FALSE_ALARMS:
        raise CallerError(f"{m} members and {k} others are too few", remedy="score at least 1 member and 100 others")
    ranks = rankdata(np.concatenate([members, others]))
    auc = float((ranks[:m].sum() - m * (m + 1) / 2) / (m * k))
    descending = np.sort(others)[::-1]
    hits = int((members > descending[int(FALSE_ALARMS * k)]).sum())
    return Membership(adversary, m, k, auc, _auc_interval(auc, m, k), hits / m, _found_interval(members, descending))


def _stacked(heard: Overheard) -> list[ReleasedSum]:
    fresh = [released for released in heard.moments if set(released.bases) <= {0, released.round}]
    complete = [released for released in fresh if 0 not in released.bases] or fresh or list(heard.moments)
    if not complete:
        raise CallerError("no sum of statistics was heard", remedy="give the sums of a session that opened one")
    chosen = np.unique(np.linspace(0, len(complete) - 1, _MOST_STACKED).astype(int))
    return [complete[i] for i in chosen.tolist()]


def _terms(heard: Overheard, sums: Sequence[ReleasedSum], rows: Vector) -> Vector:
    return np.concatenate([heard.terms_of(each, rows) for each in sums], axis=1)


def _auc_interval(auc: float, members: int, others: int) -> tuple[float, float]:
    """Where |AUC − θ| = 1.96 √V(θ), V the variance of Hanley and McNeil with both numbers at their mean within it."""
    quantile, mean = float(norm.ppf(0.975)), (members + others) / 2 - 1

    def excess(theta: float) -> float:
        spread = 1 + mean * (1 - theta) / (2 - theta) + mean * theta / (1 + theta)
        return float((auc - theta) ** 2 - quantile**2 * theta * (1 - theta) * spread / (members * others))

    low = 0.0 if auc <= 0 else float(brentq(excess, 0.0, auc))
    high = 1.0 if auc >= 1 else float(brentq(excess, auc, 1.0))
    return low, high


def _found_interval(members: Vector, descending: Vector) -> tuple[float, float]:
    """At 95 %, given the others' scores in descending order: a quarter of the rest for each threshold and for each end."""
    m, k, rest = len(members), len(descending), 0.05 / 4
    # How many false alarms there are above the j-th largest of k scores is Beta(j, k − j + 1).
    places = np.arange(1, k + 1)
    fewer = beta.cdf(FALSE_ALARMS, places, k - places + 1)
    strict, lax = np.flatnonzero(fewer >= 1 - rest), np.flatnonzero(fewer <= rest)
    least = int((members > descending[strict[-1]]).sum()) if len(strict) else 0
    most = int((members > descending[lax[0]]).sum()) if len(lax) else m
    low = float(beta.ppf(rest, least, m - least + 1)) if least else 0.0
    return low, float(beta.ppf(1 - rest, most + 1, m - most)) if most < m else 1.0
