"""The report of an audit from a transcript and whatever else is at hand."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version

from fed_em.errors import FedEmError
from fed_em_protocols.messages import CloseReason
from fed_em_protocols.roster import Roster
from fed_em_protocols.transcript.log import Checkpoint
from fed_em_protocols.transcript.reading import TranscriptFiles, verified_entries
from fed_em_protocols.transcript.released import released_sums
from fed_em_protocols.transcript.tenant_log import LogLine, read_tenant_log
from fed_em_protocols.transcript.walk import WalkedSession
from fed_em_server.audit.policies import OwnPolicy
from fed_em_server.audit.verify import verify
from fed_em_server.model_words import models_in_words
from fed_em_simulations.audit_report.attacks_found import attacks_found
from fed_em_simulations.audit_report.contents import AuditReport, Command, Fingerprint, Shown
from fed_em_simulations.audit_report.guarantees import OwnLedger, guarantees_of
from fed_em_simulations.audit_report.unprotected import unprotected
from fed_em_simulations.audit_report.verdict import check_lines
from fed_em_simulations.audit_report.what_left import houses_of, messages_of, opened_sums, points_of


@dataclass(frozen=True)
class Evidence:
    """What a report is made of.

    Attributes:
        files: The transcript.
        roster: As it was pinned.
        transcript_path, roster_path: Where these are, for the commands of the report.
        logs: Tenants' own logs, by path.
        ledgers: What tenants' own ledgers say, by tenant.
        known: Checkpoints from elsewhere.
        checkpoint_paths: Where these are.
        others: More sessions that an attacker has read as well, verified.
        policies: Tenants' policies, as they show them.
        policy_paths: Where these are.
    """

    files: TranscriptFiles = field(repr=False)
    roster: Roster = field(repr=False)
    transcript_path: str
    roster_path: str
    logs: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    ledgers: Mapping[str, OwnLedger] = field(default_factory=dict)
    known: Sequence[Checkpoint] = ()
    checkpoint_paths: Sequence[str] = ()
    others: Sequence[WalkedSession] = ()
    policies: Sequence[OwnPolicy] = ()
    policy_paths: Sequence[str] = ()


def audit_report(evidence: Evidence) -> AuditReport:
    """Verify a transcript, attack its sums, and say what was and was not protected. Equal evidence gives an equal report."""
    found = verify(evidence.files, evidence.roster, evidence.logs, evidence.known, evidence.policies)
    session = found.session
    return AuditReport(
        software=f"fed-em {version('fed-em')}",
        federation=evidence.roster.federation,
        title="" if session is None else session.description.title,
        session="" if session is None else session.terms.content.session.hex(),
        began="" if session is None else session.opened.time,
        passed=found.passed,
        checks=check_lines(found),
        shown=None if session is None else _shown(session, evidence),
        fingerprints=_fingerprints(session, evidence),
        commands=_commands(evidence),
    )


def _shown(session: WalkedSession, evidence: Evidence) -> Shown:
    sums, logs = released_sums(session), _logs_that_hold(evidence)
    entries = verified_entries(evidence.files, evidence.roster)
    private = session.description.privacy is not None
    return Shown(
        model=models_in_words(session.description.models),
        columns=session.description.names,
        tenants=tuple(tenant.name for tenant in session.roster.tenants),
        rounds=session.tally.rounds,
        finished=session.closed is not None and session.closed.content.reason == CloseReason.FINISHED,
        messages=messages_of(session, entries),
        houses=houses_of(session, logs),
        sums=opened_sums(sums, private),
        points=points_of(sums, masses=not private),
        guarantees=guarantees_of(session, sums, evidence.ledgers),
        attacks=attacks_found(session, sums, logs, evidence.others),
        unprotected=unprotected(session),
    )


def _logs_that_hold(evidence: Evidence) -> dict[str, tuple[LogLine, ...]]:
    """By tenant. Those that do not hold are among the checks that failed."""
    held = {}
    for name, data in evidence.logs.items():
        try:
            log = read_tenant_log(data, name, evidence.roster)
        except FedEmError:
            continue
        if log:
            held[log[0].tenant] = log
    return held


def _fingerprints(session: WalkedSession | None, evidence: Evidence) -> tuple[Fingerprint, ...]:
    files = [
        ("SHA-256 of entries.jsonl", evidence.files.entries),
        ("SHA-256 of checkpoints.jsonl", evidence.files.checkpoints),
        *((f"SHA-256 of {path}", data) for path, data in evidence.logs.items()),
    ]
    of_files = tuple(Fingerprint(of=name, value=hashlib.sha256(data).hexdigest()) for name, data in files)
    roster = Fingerprint(of="roster that was pinned", value=evidence.roster.digest.hex())
    if session is None:
        return (roster, *of_files)
    last = Checkpoint.from_bytes(evidence.files.checkpoints.splitlines()[-1], "the last checkpoint")
    return (
        Fingerprint(of="session", value=session.terms.content.session.hex()),
        roster,
        Fingerprint(of="terms, as the server signed them", value=session.terms.digest.hex()),
        Fingerprint(of="description of columns and model", value=session.terms.content.schema.hex()),
        Fingerprint(of=f"root of the transcript's tree, over {last.size} entries", value=last.root.hex()),
        *of_files,
    )


def _commands(evidence: Evidence) -> tuple[Command, ...]:
    of_logs = "".join(f" --tenant-log {shlex.quote(path)}" for path in evidence.logs)
    of_checkpoints = "".join(f" --checkpoint {shlex.quote(path)}" for path in evidence.checkpoint_paths)
    of_policies = "".join(f" --tenant {shlex.quote(path)}" for path in evidence.policy_paths)
    transcript, roster = shlex.quote(evidence.transcript_path), shlex.quote(evidence.roster_path)
    at_hand = f"{transcript} --roster {roster}{of_logs}{of_checkpoints}{of_policies}"
    return (
        Command(
            command=f"fed-em audit verify {at_hand}",
            shows="Replays the session: every signature, every sum, every step of the fit. Exit status 0 if everything holds.",
        ),
        Command(
            command=f"fed-em audit verify {transcript} --roster {roster} --tenant-log log.jsonl",
            shows="The same at a tenant, with its own log of what left its house, from its state folder.",
        ),
        Command(command=f"fed-em roster show {roster}", shows="Who is in the roster, and its hash."),
        Command(
            command="fed-em audit attack guarded",
            shows="Runs more attacks on simulated sessions, whose rows are known; `--list` shows for which settings.",
        ),
        Command(
            command=f"fed-em audit report {at_hand}",
            shows="Makes this report again, byte for byte with the same software and the same folders.",
        ),
    )
