"""Whether a session is one that a tenant's policy admits, and whether the tenant signed under that policy."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from fed_em_client.configuration import PolicyTable, TenantConfiguration
from fed_em_client.durable_files import disk_trouble
from fed_em_client.hours import Span, within, zone_of
from fed_em_client.measured_sessions import MEASURED_FILE, MeasuredSession, excess_of, read_measured, within_period
from fed_em_client.policy_checks import check_description
from fed_em_client.tenant_log_file import LOG_FILE
from fed_em_protocols.errors import TermsRefused
from fed_em_protocols.party import load_keys
from fed_em_protocols.policy import check_terms, commitment_to, salt_of
from fed_em_protocols.transcript.faults import Place, TranscriptFault
from fed_em_protocols.transcript.tenant_log import read_tenant_log
from fed_em_protocols.transcript.walk import WalkedSession

# What a tenant sends within its hours alone; what opens a sum that it is in follows whenever it does.
_BOUND_TO_HOURS = frozenset({"Join", "Upload"})
_SIGNING = timedelta(minutes=1)


@dataclass(frozen=True)
class OwnPolicy:
    """A tenant's policy, as the tenant itself can show it.

    Attributes:
        tenant: Whose.
        policy: What it says.
        commitment: Its salted digest, as it stands in the tenant's messages.
        log: The tenant's own log, whose times are by the clock that the policy's hours go by; None if it is not at hand.
        measured: The sessions that measured models over its rows, as it remembers them.
    """

    tenant: str
    policy: PolicyTable
    commitment: bytes
    log: bytes | None = field(default=None, repr=False)
    measured: tuple[MeasuredSession, ...] = ()

    @classmethod
    def of(cls, configuration: TenantConfiguration) -> OwnPolicy:
        """From a tenant's file, its identity key, which the salt follows from, and what it keeps in its state folder.

        Raises:
            CallerError: as `load_keys`.
            EnvironmentFault: what it keeps cannot be read.
        """
        digest = configuration.policy.digest
        salt = salt_of(digest, load_keys(configuration.keys).identity)
        log = configuration.state / LOG_FILE
        with disk_trouble(log):
            kept = log.read_bytes() if log.exists() else None
        measured = read_measured(configuration.state / MEASURED_FILE)
        return cls(configuration.name, configuration.policy, commitment_to(digest, salt), kept, measured)


def require_admitted(session: WalkedSession, own: OwnPolicy) -> str:
    """Hold a verified session's terms and description against a policy.

    Returns:
        What holds, in a sentence.

    Raises:
        CallerError: the tenant is not in the roster.
        TranscriptFault: it signed under another policy, or the policy does not admit the session.
    """
    index = session.roster.index(own.tenant)
    signed = session.policies.get(index, frozenset())
    if signed - {own.commitment}:
        raise TranscriptFault(
            "it signed under another policy than the one of its file",
            Place(line=0, field="policy", party=own.tenant),
            "the file has changed since, or the tenant declared a policy that it does not show",
        )
    required = own.policy.privacy.required and session.description.privacy is None
    try:
        check_terms(own.policy.terms_policy(), session.terms.content, session.roster)
        check_description(own.policy, session.description)
        if required:
            raise TermsRefused("the session has no differential privacy, and the policy requires it")
    except TermsRefused as refusal:
        raise TranscriptFault(refusal.message, Place(line=0, field="policy", party=own.tenant)) from None
    said = "signed under this policy, which" if signed else "never joined; its policy"
    return f"'{own.tenant}' {said} admits the session's terms, model and columns"


def hours_kept(session: WalkedSession, own: OwnPolicy) -> str | None:
    """Hold the times at which a tenant joined and uploaded, by its own log, against its policy's hours.

    Returns:
        What holds, in a sentence; None if there is no log to tell.

    Raises:
        TranscriptFault: something left outside of the hours, or the log does not hold.
    """
    if own.log is None:
        return None
    spans, zone = [Span.parse(text) for text in own.policy.hours], zone_of(own.policy.time_zone)
    name, lines = f"the log of {own.tenant}", 0
    for line in read_tenant_log(own.log, f"the log of {own.tenant}", session.roster):
        if line.session != session.terms.content.session or line.way != "sent" or line.kind not in _BOUND_TO_HOURS:
            continue
        lines += 1
        sent = datetime.fromisoformat(line.time)
        # The hour is looked at before a message is signed and logged.
        if not any(within(spans, zone, at) for at in (sent, sent - _SIGNING)):
            what = f"it sent a message ({line.kind}) at {line.time}, and its policy says hours = {list(own.policy.hours)} ({zone.key})"
            raise TranscriptFault(what, Place(name, line.number, "time", own.tenant))
    return f"'{own.tenant}' joined and uploaded {lines} times, each within its policy's hours by its own log"


def measurements_kept(session: WalkedSession, own: OwnPolicy) -> str:
    """Hold a session that measured against what a tenant remembers of such, and its policy admits in a period.

    Returns:
        What holds, in a sentence.

    Raises:
        TranscriptFault: the tenant does not remember the session, or there were too many.
    """
    number = session.terms.content.session.hex()
    place = Place(line=0, field="policy", party=own.tenant)
    kept = next((each for each in own.measured if each.session == number), None)
    if kept is None:
        raise TranscriptFault("it does not remember this session among those that measured models over its rows", place)
    period = [each for each in within_period(own.measured, own.policy.measuring, kept.time) if each.time <= kept.time]
    if excess := excess_of(period, own.policy.measuring):
        raise TranscriptFault(f"it took part in {excess} in [policy.measuring]", place)
    days, points = own.policy.measuring.period_days, len({each.point for each in period})
    return f"'{own.tenant}' remembers {len(period)} measurements at {points} points in {days} days"
