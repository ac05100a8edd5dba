"""What an attacker gets who reads all of a session: the attacks that need nothing but its transcript and tenants' logs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from scipy.stats import norm

from fed_em_protocols.transcript.released import ReleasedSum, released_sums
from fed_em_protocols.transcript.tenant_log import LogLine
from fed_em_protocols.transcript.walk import WalkedSession
from fed_em_simulations.attacks.attack_report import AttackReport
from fed_em_simulations.attacks.differencing import differencing
from fed_em_simulations.attacks.equivocation import equivocations
from fed_em_simulations.attacks.finding import Figure, Finding, Severity
from fed_em_simulations.attacks.headers_seen import SeenHeader
from fed_em_simulations.attacks.membership import FALSE_ALARMS
from fed_em_simulations.attacks.overheard import Overheard, PublicFacts
from fed_em_simulations.attacks.single_records import single_records
from fed_em_simulations.audit_report.contents import AttackLine, AttackNotRun, Attacks, Grade
from fed_em_simulations.audit_report.guarantees import advantage_of
from fed_em_simulations.audit_report.words import ATTACKS

_NOISED = " Whatever is read off sums, their noise is in it."

# As of membership inference that is run: who finds a tenth of those who are in, at one false alarm in a hundred, exposes them.
_FOUND = 0.1

_NEEDS_ROWS = (
    "It takes the rows that were trained on, which no transcript holds; `fed-em audit attack` runs it on simulated sessions with the same "
    "settings."
)


def attacks_found(
    session: WalkedSession,
    sums: Sequence[ReleasedSum],
    logs: Mapping[str, Sequence[LogLine]],
    others: Sequence[WalkedSession] = (),
) -> Attacks:
    """Run them.

    Args:
        session: Verified.
        sums: What it opened.
        logs: Tenants' own logs that hold, by tenant.
        others: More sessions that the attacker has read, verified.
    """
    others = [each for each in others if each.terms.content.session != session.terms.content.session]
    facts = {
        each.terms.content.session: PublicFacts.of(each.description, each.terms.content, each.roster)
        for each in (session, *others)
    }
    heard = Overheard(tuple(sums), {session.terms.content.session: facts[session.terms.content.session]})
    together = Overheard((*sums, *(released for other in others for released in released_sums(other))), facts)
    advantage = advantage_of(session, len(sums))
    not_run = [
        AttackNotRun(attack=name, question=ATTACKS[name], why=_NEEDS_ROWS)
        for name in ("reconstruction", "model-inversion")
    ]
    differences = differencing(together)
    findings = [_line(differences, "" if session.description.privacy is None else _NOISED)]
    if session.description.privacy is None:
        findings.append(_line(single_records(heard)))
    else:
        why = "Sums with noise do not say of which size a component is; what can be told of one record at best is under `membership`."
        not_run.insert(0, AttackNotRun(attack="single-records", question=ATTACKS["single-records"], why=why))
    findings.append(_membership(advantage, len(sums), session))
    if len(logs) > 1:
        findings.append(_line(equivocations(_headers(logs))))
    else:
        why = "It takes the logs of two tenants or more (`--tenant-log`); that one log and the transcript agree is a check above."
        not_run.append(AttackNotRun(attack="equivocation", question=ATTACKS["equivocation"], why=why))
    return Attacks(
        sessions=len(facts),
        colluders=session.terms.content.colluders,
        least_support=differences.worst.least_support,
        advantage=advantage,
        findings=tuple(findings),
        not_run=tuple(not_run),
    )


@dataclass(frozen=True)
class _Found:
    """A line of the report as a finding. Implements `Finding`."""

    attack: str
    severity: Severity
    sentence: str
    figures: Mapping[str, Figure]


def report_on(session: WalkedSession, logs: Mapping[str, Sequence[LogLine]]) -> AttackReport:
    """The same on one session, as `fed-em audit attack` shows it."""
    sums, terms = released_sums(session), session.terms.content
    found = attacks_found(session, sums, logs)
    guard = f"{terms.blocks} blocks, each whole or not at all" if terms.blocks else "no blocks"
    promise = "no noise" if session.description.privacy is None else session.description.privacy.in_words
    floor = f"mass floor {terms.mass_floor / 1000:g}" if terms.mass_floor else "no mass floor"
    protection = (
        f"{session.roster.n} tenants, {len(sums)} sums over {terms.minimum_survivors} of them or more",
        f"{guard}; f = {terms.colluders}; {floor}; {promise}",
    )
    findings = [_Found(line.attack, Severity(line.severity), line.sentence, line.figures) for line in found.findings]
    not_run = {each.attack: each.why for each in found.not_run}
    return AttackReport(session.description.title, "", protection, tuple(findings), not_run)


def _line(found: Finding, more: str = "") -> AttackLine:
    return AttackLine(
        attack=found.attack,
        question=ATTACKS[found.attack],
        severity=_grade(found.severity),
        sentence=found.sentence + more,
        figures=dict(found.figures),
    )


def _grade(severity: Severity) -> Grade:
    grades: Mapping[Severity, Grade] = {
        Severity.NONE: "none",
        Severity.BOUNDED: "bounded",
        Severity.EXPOSED: "exposed",
    }
    return grades[severity]


def _membership(advantage: float | None, sums: int, session: WalkedSession) -> AttackLine:
    """By calculation, not by trial: what the best of all attackers could do, who knows everything but whether one record is in."""
    if not sums:
        grade, found, sentence = Severity.NONE, 0.0, "No sum was opened."
    elif advantage is None:
        grade, found = Severity.EXPOSED, 1.0
        sentence = (
            "Yes: the sums are exact, so whoever knows every other record finds out by a subtraction. Few know that much; "
            "differential privacy is "
            "the protection against those who do, and this session had none."
        )
    else:
        found = found_at(FALSE_ALARMS, advantage)
        grade = Severity.EXPOSED if found > _FOUND else Severity.BOUNDED
        privacy = session.description.privacy
        one = "a record" if privacy is None or privacy.unit == "record" else "a tenant"
        sentence = (
            f"With one false alarm in a hundred, the best of attackers notices {100 * found:.1f} % of the times that {one} is in; by "
            "chance it would be "
            f"1 %. Guessing at even odds, they are right {100 * float(norm.cdf(advantage / 2)):.1f} % of the time; by chance it would "
            "be 50 %."
        )
    figures = {"false_alarms": FALSE_ALARMS, "found_at_most": found, "sums": sums}
    return AttackLine(
        attack="membership",
        question=ATTACKS["membership"],
        severity=_grade(grade),
        sentence=sentence,
        figures={**figures, "advantage": advantage},
    )


def found_at(false_alarms: float, advantage: float) -> float:
    """The share of those in the data that the best test finds, of a Gaussian mechanism with μ (Dong, Roth and Su 2022, 2.6)."""
    return float(norm.cdf(norm.ppf(false_alarms) + advantage))


def _headers(logs: Mapping[str, Sequence[LogLine]]) -> Iterable[SeenHeader]:
    return (
        SeenHeader(tenant, line.session, line.round, line.digest)
        for tenant, log in logs.items()
        for line in log
        if line.way == "seen" and line.kind == "Header"
    )
