"""A candidate beside the version in use, on fresh rows of all tenants: promoted, kept, or rolled back, by a rule.

The gain G of a candidate is the mean of log p_candidate(x) − log p_baseline(x) over the records x of one measurement
(`fed_em.measurement`), each record under both models, so that what the records share cancels. Of n independent records with variance s²
of these differences, G is Gaussian about the true gain with variance s²/n (central limit theorem), and with z = Φ⁻¹(confidence)

    promote      if G − z s/√n reaches the gain that is asked for
    roll back    if G + z s/√n stays below what is tolerated
    keep         otherwise, and where all differences are 0: nothing is proved yet

So a candidate whose true gain is below the first bound is promoted with probability 1 − confidence at most, and one whose true gain is
above the second is rolled back with that probability at most; each time that somebody measures. Where the sum has noise, its variance
stands beside s²/n. Records with weights count as independent
records of these weights, which they are not: then the probabilities hold for weights near one only.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import Enum
from statistics import NormalDist

from fed_em.errors import CallerError
from fed_em.measurement import Measurement
from fed_em_server.registry.canary_rule import CanaryRule
from fed_em_server.registry.history import Decision
from fed_em_server.registry.store import CANARY, PRODUCTION, Registry
from fed_em_server.registry.version import Version


class Outcome(Enum):
    """What a rule comes to."""

    PROMOTE = "promote"
    KEEP = "keep"
    ROLL_BACK = "roll back"


@dataclass(frozen=True)
class Numbers:
    """What a decision follows from.

    Attributes:
        records: How many were measured, weights counted.
        missing: The share of tenants that were not in the sum.
        baseline, candidate: Log-likelihoods, nats a record.
        gain: Of the candidate, nats a record.
        lower, upper: One-sided bounds of the true gain, each by itself, at the rule's confidence.
    """

    records: float
    missing: float
    baseline: float
    candidate: float
    gain: float
    lower: float
    upper: float


@dataclass(frozen=True)
class Verdict:
    """A decision, and why.

    Attributes:
        outcome: What is to be done.
        reason: Why, in a sentence.
        numbers: What it follows from.
    """

    outcome: Outcome
    reason: str
    numbers: Numbers

    def decision(self, baseline: Version, candidate: Version) -> Decision:
        """As it stands in a registry's history."""
        numbers = {each.name: float(getattr(self.numbers, each.name)) for each in fields(self.numbers)}
        return Decision(candidate=candidate.id, baseline=baseline.id, outcome=self.outcome.value, numbers=numbers)


def decide(rule: CanaryRule, measurement: Measurement, tenants: int) -> Verdict:
    """Apply a rule.

    Args:
        rule: By which.
        measurement: Of the baseline and the candidate, in this order.
        tenants: How many there are in the roster.

    Raises:
        CallerError: the measurement is not of two models.
    """
    if measurement.difference is None or len(measurement.models) != 2:
        raise CallerError("a canary is decided by a measurement of two models: the one in use, and the candidate")
    difference = measurement.difference
    margin = NormalDist().inv_cdf(rule.confidence) * difference.error(measurement.records)
    numbers = Numbers(
        measurement.records,
        len(measurement.missing) / tenants,
        measurement.models[0].log_likelihood,
        measurement.models[1].log_likelihood,
        difference.mean,
        difference.mean - margin,
        difference.mean + margin,
    )
    outcome, reason = _outcome(rule, numbers, measurement.missing)
    return Verdict(outcome, reason, numbers)


def _outcome(rule: CanaryRule, numbers: Numbers, missing: tuple[str, ...]) -> tuple[Outcome, str]:
    if numbers.missing > rule.max_missing:
        return Outcome.KEEP, (
            f"{len(missing)} tenants are missing ({', '.join(missing)}), {numbers.missing:.0%} of all where {rule.max_missing:.0%} may be"
        )
    if numbers.records < rule.min_records:
        return Outcome.KEEP, f"{numbers.records:g} records are fewer than the {rule.min_records} that a decision takes"
    if numbers.lower == numbers.gain == numbers.upper == 0.0:
        # One model twice, or records that both find as good as impossible.
        return Outcome.KEEP, "no record tells it from the one that it is compared with"
    found = f"its gain is {numbers.gain:+.4g} nats a record over {numbers.records:g} records"
    sure = f"with {rule.confidence:.4g} confidence"
    if numbers.lower >= rule.promotes_at:
        return (
            Outcome.PROMOTE,
            f"{found}, {sure} at least {numbers.lower:+.4g}, where {rule.promotes_at:+.4g} are asked for",
        )
    if numbers.upper < rule.rolls_back_at:
        return Outcome.ROLL_BACK, (
            f"{found}, {sure} at most {numbers.upper:+.4g}, where {rule.rolls_back_at:+.4g} are tolerated"
        )
    return Outcome.KEEP, (
        f"{found}, {sure} between {numbers.lower:+.4g} and {numbers.upper:+.4g}: neither the {rule.promotes_at:+.4g} that are asked for "
        f"nor less than the {rule.rolls_back_at:+.4g} that are tolerated is proved"
    )


def baseline_of(registry: Registry, candidate: Version, stage: str = PRODUCTION) -> Version:
    """What a candidate is compared with: the version in a stage; if that is the candidate itself, the one before it.

    Raises:
        CallerError: there is none.
    """
    current = registry.current(stage)
    baseline = registry.before(stage) if current == candidate else current
    if baseline is None:
        there = f"{candidate.name} is the only version that {stage} ever had" if current else f"{stage} is empty"
        raise CallerError(
            f"there is nothing to compare {candidate.name} with: {there}",
            remedy=f"put a first version there with `fed-em registry promote VERSION --stage {stage}`",
        )
    return baseline


def apply(registry: Registry, baseline: Version, candidate: Version, verdict: Verdict, stage: str = PRODUCTION) -> str:
    """Do what was decided, and keep the decision in the history.

    A candidate that is not yet in the stage is promoted into it, or stays out. One that is in it stays, or the stage goes back to the
    baseline. Where it was the canary, it is no longer, once it is promoted or rolled back.

    Returns:
        What was done, in a sentence.

    Raises:
        CallerError: somebody changed the stage since the baseline was chosen.
        EnvironmentFault: as `Registry.promote`.
    """
    decision, in_use = verdict.decision(baseline, candidate), registry.current(stage) == candidate
    if verdict.outcome is Outcome.PROMOTE and not in_use:
        registry.promote(candidate, stage, verdict.reason, baseline, decision)
        done = f"{stage} is {candidate.name} now, and was {baseline.name}"
    elif verdict.outcome is Outcome.ROLL_BACK and in_use:
        registry.rollback(stage, verdict.reason, candidate, decision)
        done = f"{stage} is {baseline.name} again, and was {candidate.name}"
    else:
        registry.decided(stage, decision, verdict.reason)
        done = f"{stage} stays {(candidate if in_use else baseline).name}"
    if verdict.outcome is not Outcome.KEEP and stage != CANARY and registry.current(CANARY) == candidate:
        registry.withdraw(CANARY, f"{verdict.outcome.value}: {verdict.reason}", decision)
    return done
