"""The lineage of a session, out of its output folder, verified while it is read.

The model is what the server has signed as final, and all signatures are those of the roster. How the fit went is taken from the transcript,
whose checkpoints the server has signed: the fit is replayed over its sums, as `fed-em audit verify` does it, and leads to that model. The
record, which nobody signs, is kept for people; it must tell of the sums that the transcript holds, and the lineage takes nothing from it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import ValidationError

from fed_em.errors import CallerError
from fed_em.model_file import ERRORS_FILE, MANIFEST_FILE, TENSORS_FILE, load_model
from fed_em.reference import REFERENCE_FILE
from fed_em.strict_json import parse_json
from fed_em_client.durable_files import disk_trouble
from fed_em_protocols.coordinator_state import SumOpened
from fed_em_protocols.messages import Mode
from fed_em_protocols.roster import Roster
from fed_em_protocols.transcript.entries import FittedTogether, IterationDone, ModelBegins
from fed_em_protocols.transcript.log import Checkpoint
from fed_em_protocols.transcript.reading import TranscriptFiles, verified_entries
from fed_em_protocols.transcript.walk import Attempt, WalkedSession, walked
from fed_em_server.audit.replay import replayed
from fed_em_server.record import RECORD_FILE, SessionRecord
from fed_em_server.registry.lineage import Lineage, Metrics, TranscriptHead, data_schema_of, package_version
from fed_em_server.registry.store import Registry
from fed_em_server.registry.version import MODEL_FOLDER, TENSORS, Version
from fed_em_server.transcript_folder import ENTRIES_FILE, TRANSCRIPT_FOLDER, read_transcript

_ANOTHER = "name the output folder of one session, as the server wrote it"


def add_output(registry: Registry, output: Path, roster: Roster | None = None, reason: str = "") -> Version:
    """Add the model of a session with its lineage; or a model that was fitted in one place, from its own folder.

    Args:
        registry: Where to.
        output: The session's output folder, or the folder of a model.
        roster: As it was pinned; needed for a session.
        reason: Why it is added, for the history.

    Raises:
        CallerError: there is no model, or the model, the record and the transcript are not of one session that came to its end; or there
            is no roster.
        TranscriptFault: the transcript does not hold; names the entry, the field and the party.
        EnvironmentFault: a file cannot be read, or the registry not written.
    """
    source = str(output.resolve())
    if not (output / MODEL_FOLDER).exists():
        fitted = load_model(output)
        software = parse_json(_read(output / MANIFEST_FILE), MANIFEST_FILE)["software"]
        package = str(software.get("fed-em", package_version()))
        lineage = Lineage.of_model(fitted, "").model_copy(update={"package": package})
        return registry.add_files(fitted, _model_files(output), lineage, reason=reason, source=source)
    if roster is None:
        raise CallerError(
            f"{output} is of a session, which is verified against its roster", remedy="name the roster with --roster"
        )
    files = {**_model_files(output / MODEL_FOLDER), RECORD_FILE: _read(output / RECORD_FILE)}
    record = _record(files[RECORD_FILE], output)
    transcript = _transcript_of(record, output)
    session = walked(verified_entries(transcript, roster), roster)
    _require_of_one_session(session, record, hashlib.sha256(files[TENSORS]).hexdigest(), output)
    fitted, lineage = load_model(output / MODEL_FOLDER), lineage_of(session, transcript, replayed(session).converged)
    # The server signs the numbers; what they are of stands in the manifest beside them, and in the session's description.
    if fitted.columns != session.description.names:
        raise CallerError(
            f"the model in {output} names other columns, or in another order, than the description of its session",
            remedy=_ANOTHER,
        )
    return registry.add_files(fitted, files, lineage, reason=reason, source=source)


def lineage_of(session: WalkedSession, transcript: TranscriptFiles, converged: bool) -> Lineage:
    """The lineage of a verified session, whose fit, replayed, converged or did not."""
    head = Checkpoint.from_bytes(transcript.checkpoints.splitlines()[-1], "the last checkpoint")
    beginning, description = session.opened.fit.beginning, session.description
    begun_with = hashlib.sha256(beginning.fitted).hexdigest() if isinstance(beginning, ModelBegins) else None
    return Lineage(
        created=session.opened.time,
        package=session.opened.computed_on.get("fed-em", package_version()),
        data_schema=data_schema_of(description),
        title=description.title,
        federation=session.roster.federation,
        session=session.terms.content.session.hex(),
        description=session.terms.content.schema.hex(),
        terms=session.terms.digest.hex(),
        roster=session.roster.digest.hex(),
        tenants=tuple(tenant.name for tenant in session.roster.tenants),
        policies={
            session.roster.tenants[index].name: tuple(sorted(each.hex() for each in commitments))
            for index, commitments in sorted(session.policies.items())
        },
        transcript=TranscriptHead(root=head.root.hex(), entries=head.size, time=head.time),
        started_from=begun_with,
        metrics=_metrics(session, converged),
    )


def _metrics(session: WalkedSession, converged: bool) -> Metrics:
    alone = [step.done for step in session.fit if isinstance(step.done, IterationDone)]
    together = [step.done for step in session.fit if isinstance(step.done, FittedTogether)]
    numbers = [done.number for done in alone]
    numbers += [each.iteration.number for done in together for each in done.iterations]
    last = alone[-1] if alone else None
    privacy = session.description.privacy
    return Metrics(
        log_likelihood=last.log_likelihood if last else None,
        records=last.records if last else None,
        rounds=sum(_is_of_statistics(attempt) for attempt in session.attempts),
        iterations=max(numbers, default=0),
        converged=converged,
        epsilon=privacy.epsilon if privacy else None,
        delta=privacy.delta if privacy else None,
    )


def _is_of_statistics(attempt: Attempt) -> bool:
    """Whether a sum was opened, and is not of the counts before one."""
    counted = attempt.header is not None and attempt.header.content.mode == Mode.COUNTS
    return isinstance(attempt.outcome, SumOpened) and not counted


def _require_of_one_session(session: WalkedSession, record: SessionRecord, tensors: str, output: Path) -> None:
    """The model is the one that the server signed at the end, and the record tells of the very sums of the transcript."""
    if session.closed is None or not session.closed.attached:
        raise CallerError(f"the transcript in {output} ends without a model", remedy=_ANOTHER)
    if session.closed.attachment_digest.hex() != tensors:
        raise CallerError(
            f"the model in {output} is not the one that the server has signed as the session's last", remedy=_ANOTHER
        )
    names = tuple(tenant.name for tenant in session.roster.tenants)
    if (record.federation, record.tenants) != (session.roster.federation, names):
        raise _changed(output, "its tenants are not those of the roster")
    sums = {a.outcome.round: a.outcome for a in session.attempts if isinstance(a.outcome, SumOpened)}
    for opened in record.rounds:
        there = sums.get(opened.round)
        if there is None:
            raise _changed(output, f"round {opened.round} is not in the transcript")
        told = tuple(index for index, part in enumerate(opened.participation) if part.in_sum)
        if told != tuple(sorted(there.survivors)):
            raise _changed(output, f"other tenants are in the sum of round {opened.round} of the transcript")


def _changed(output: Path, what: str) -> CallerError:
    return CallerError(
        f"{output / RECORD_FILE} does not tell of the session of its transcript: {what}", remedy=_ANOTHER
    )


def _record(data: bytes, output: Path) -> SessionRecord:
    try:
        return SessionRecord.model_validate_json(data)
    except ValidationError:
        raise CallerError(f"{output / RECORD_FILE} is no record of a session", remedy=_ANOTHER) from None


def _transcript_of(record: SessionRecord, output: Path) -> TranscriptFiles:
    """Beside the transcript of a session may be those of sessions that failed before it."""
    for folder in _transcripts(output):
        transcript = read_transcript(folder)
        if _session_of(transcript, folder) == record.session:
            return transcript
    raise CallerError(f"there is no transcript of session {record.session} in {output}", remedy=_ANOTHER)


def _session_of(transcript: TranscriptFiles, folder: Path) -> str:
    first = transcript.checkpoints.partition(b"\n")[0]
    return Checkpoint.from_bytes(first, f"the first checkpoint in {folder}").session.hex() if first else ""


def _transcripts(output: Path) -> Iterator[Path]:
    with disk_trouble(output):
        folders = sorted(output.glob(f"{TRANSCRIPT_FOLDER}*"))
    return (folder for folder in folders if (folder / ENTRIES_FILE).exists())


def _model_files(folder: Path) -> Mapping[str, bytes]:
    """The files of a model by their paths in a version's folder."""
    names = [name for name in (TENSORS_FILE, ERRORS_FILE, MANIFEST_FILE, REFERENCE_FILE) if (folder / name).exists()]
    return {f"{MODEL_FOLDER}/{name}": _read(folder / name) for name in names}


def _read(path: Path) -> bytes:
    with disk_trouble(path, "check its rights"):
        try:
            return path.read_bytes()
        except FileNotFoundError:
            raise CallerError(f"there is no file {path}", remedy=_ANOTHER) from None
