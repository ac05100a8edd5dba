"""What the report of an audit says: the JSON is this, and the page is drawn from it and nothing else."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, FiniteFloat, JsonValue

from fed_em_protocols.configuration import Table

Count = Annotated[int, Field(ge=0)]
Hexadecimal = Annotated[str, Field(pattern="^([0-9a-f]{2})*$")]
Grade = Literal["none", "bounded", "exposed"]


class CheckLine(Table):
    """One check of the verification."""

    check: str
    verdict: Literal["passed", "failed", "noted", "not reached"]
    said: str
    place: str = ""
    """Of what failed: file, line, field and party."""
    proves: str = ""
    """What a failure proves, and against whom."""


class Message(Table):
    """One kind of message that left houses, as far as the transcript has it."""

    kind: str
    meaning: str
    messages: Count
    content_bytes: Count


class LoggedMessage(Table):
    """One kind of message that left one house, by its own log."""

    kind: str
    meaning: str
    messages: Count


class House(Table):
    """What left one tenant's house."""

    tenant: str
    most_rows: Count
    """The most rows that the roster lets it hold; everybody in the federation sees that."""
    masked_vectors: Count
    content_bytes: Count
    """Of its masked vectors."""
    in_sums: Count
    """How many opened sums have a term of it."""
    silent: Count
    """How often others had to take its mask off with shares."""
    logged: tuple[LoggedMessage, ...] | None = None
    """Everything that it sent, by its own log; None if that was not given, or does not hold."""


class Statistic(Table):
    """One named part of a sum."""

    name: str
    meaning: str
    numbers: Count


class OpenedSums(Table):
    """Sums of one kind."""

    of: str
    """What was summed, in words."""
    counts: bool
    """Whether only what components hold was counted, before a mass gate."""
    sums: Count
    fewest_tenants: Count
    most_tenants: Count
    statistics: tuple[Statistic, ...]


class SumPoint(Table):
    """One opened sum in the charts."""

    round: Count
    counts: bool
    """See `OpenedSums`."""
    tenants: Count
    """How many have a term in it."""
    masses: tuple[FiniteFloat, ...] = ()
    """How many records each open component held."""


class Recipient(Table):
    """Who received something, and what protects it."""

    what: str
    who: str
    guarantee: str


class Setting(Table):
    """One setting of the session that bounds what it gives away."""

    name: str
    value: str
    meaning: str


class Ledger(Table):
    """What one tenant's own ledger says."""

    tenant: str
    charged_sums: Count
    """Of this session."""
    session_epsilon: Annotated[FiniteFloat, Field(ge=0)] | None
    """ε of these; None if there is no bound."""
    period_epsilon: Annotated[FiniteFloat, Field(ge=0)] | None
    """ε of everything in the tenant's period."""
    delta: FiniteFloat
    budget: FiniteFloat | None = None
    """ε that the tenant's policy allows for the period."""


class Promise(Table):
    """Differential privacy, as the session promised it and as far as it was spent."""

    unit: Literal["record", "tenant"]
    epsilon: FiniteFloat
    delta: FiniteFloat
    noise_multiplier: FiniteFloat
    sums_promised: Count
    sums_opened: Count
    epsilon_spent: FiniteFloat | None
    """ε of the sums that were opened; None where the accounting is not installed."""
    best_guess: FiniteFloat
    """How often whoever guesses by a fair coin's odds whether one is in, and sees every sum, can be right at best: 0.5 is chance."""
    meaning: tuple[str, ...]
    ledgers: tuple[Ledger, ...] = ()


class Guarantees(Table):
    """To whom everything went, under which guarantee."""

    recipients: tuple[Recipient, ...]
    settings: tuple[Setting, ...]
    privacy: Promise | None


class AttackLine(Table):
    """What one attack came to."""

    attack: str
    question: str
    """What it tries, in plain words."""
    severity: Grade
    sentence: str
    figures: dict[str, JsonValue]


class AttackNotRun(Table):
    """An attack that was not run."""

    attack: str
    question: str
    why: str


class Attacks(Table):
    """What an attacker gets who reads all of the session."""

    sessions: Count
    """How many sessions' sums the attacker has."""
    colluders: Count
    """f."""
    least_support: Count
    """The fewest tenants that any combination of the sums is about; 0 without a sum."""
    advantage: FiniteFloat | None
    """μ of the Gaussian mechanism that all opened sums together amount to: with the rate α of false alarms, whoever guesses finds
    Φ(Φ⁻¹(α) + μ) of those who are in, at best. None without noise: then it is all of them."""
    findings: tuple[AttackLine, ...]
    not_run: tuple[AttackNotRun, ...]

    @property
    def severity(self) -> Grade:
        """The worst."""
        grades: tuple[Grade, ...] = ("none", "bounded", "exposed")
        return max((line.severity for line in self.findings), key=grades.index, default="none")


class Unprotected(Table):
    """Something that this session did not protect."""

    what: str
    sentence: str
    helps: str
    """What would protect it; empty if nothing here does."""


class Fingerprint(Table):
    """A hash or a number by which something is known."""

    of: str
    value: str


class Command(Table):
    """How to check something oneself."""

    command: str
    shows: str


class Shown(Table):
    """What a transcript that can be read shows."""

    model: str
    columns: tuple[str, ...]
    tenants: tuple[str, ...]
    rounds: Count
    finished: bool
    messages: tuple[Message, ...]
    houses: tuple[House, ...]
    sums: tuple[OpenedSums, ...]
    points: tuple[SumPoint, ...]
    guarantees: Guarantees
    attacks: Attacks
    unprotected: tuple[Unprotected, ...]


class AuditReport(Table):
    """All of it."""

    format: Literal[1] = 1
    """Of this JSON."""
    software: str
    """Name and version of what wrote it."""
    federation: str
    title: str
    """Of the session; empty if the transcript cannot be read."""
    session: Hexadecimal
    """Its number; empty likewise."""
    began: str
    """ISO 8601, UTC, by the server's clock; empty likewise."""
    passed: bool
    """Whether every check of the verification passed."""
    checks: tuple[CheckLine, ...]
    shown: Shown | None
    """None if the transcript's signatures, chain or sums do not hold: then nothing that it says can be relied on."""
    fingerprints: tuple[Fingerprint, ...]
    commands: tuple[Command, ...]
