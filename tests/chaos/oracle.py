"""What a session under faults must have come to, whatever struck it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from harness import Account
from small_federation import Recorder, clustered_rows, memory_hub, session_toml, write_small_federation

from fed_em.model_file import TENSORS_FILE, save_model
from fed_em_client.take_part import Tenant
from fed_em_client.tenant_log_file import LOG_FILE
from fed_em_protocols.coordinator_state import SumOpened
from fed_em_protocols.errors import SERVER
from fed_em_protocols.masks import RingVector
from fed_em_protocols.party import load_keys
from fed_em_protocols.tenant_state import Evaluate
from fed_em_server.audit.verify import Verdict, verify
from fed_em_server.record import RECORD_FILE, SessionRecord
from fed_em_server.serve import open_server
from fed_em_server.session import run_session
from fed_em_server.transcript_folder import read_session, read_transcript
from fed_em_simulations.federation_folder import FederationFolder

SIZES = (60, 50, 40, 30)
TRUST = 'difference_guard = "off"\ncolluders = 0\nminimum_survivors = 3'
POLICY = 'difference_guard = "off"\ncolluders = 0'

# Nobody is ever late, however busy the machine, and whoever was killed is waited for.
PATIENT = "gather = 100\npatience = 60\nset_up = 60\nupload = 60\nstraggler = 60\nopen = 60"
# Whoever is away for a second or two is left behind, and comes back.
BRISK = "gather = 15\npatience = 5\nset_up = 2\nupload = 8\nstraggler = 1\nopen = 2"

# A fit of a given length; and one that converges, whose last rounds everybody is in.
STEADY = session_toml(fit="tolerance = 0\nmax_iterations = 5", times=PATIENT, trust=TRUST)
CONVERGING = session_toml(fit="tolerance = 1e-9\nmax_iterations = 300", times=BRISK, trust=TRUST)


def federation_of(folder: Path, session: str = STEADY) -> FederationFolder:
    """Four tenants on disk."""
    return write_small_federation(folder / "f", clustered_rows(SIZES), session, policy=POLICY)


@cache
def undisturbed(session: str) -> bytes:
    """The file of the model of a session that nothing disturbs: in memory."""
    with TemporaryDirectory() as folder:
        federation = federation_of(Path(folder), session)
        outcome = run_session(open_server(federation.server).plan("memory"), memory_hub(federation), Recorder())
        save_model(Path(folder) / "m", outcome.fitted)
        return (Path(folder) / "m" / TENSORS_FILE).read_bytes()


def assert_it_ended_right(
    federation: FederationFolder, account: Account, session: str, without: tuple[str, ...] = ()
) -> SessionRecord:
    """The server ended with status 0 and the model of the undisturbed session, and each tenant but those `without` has it too."""
    last = account.last(SERVER)
    # Struck behind its last commit, it lacks its report; started again, it says that the model is there.
    told = (
        last.status == 2 and len(account.lives_of(SERVER)) > 1 and "holds the model of an earlier session" in last.said
    )
    assert last.status == 0 or told, account.told()
    assert not account.twice, f"{account.twice}\n{account.told()}"
    for life in account.lives:
        assert "Traceback" not in life.said, life.said
    output = federation.server.output
    record = SessionRecord.model_validate_json((output / RECORD_FILE).read_text())
    ours = (output / "model" / TENSORS_FILE).read_bytes()
    if all(each.complete for each in record.rounds):
        assert ours == undisturbed(session), account.told()
    for name in federation.tenant_files:
        if name not in without:
            assert account.last(name).status == 0, account.told()
            assert (federation.tenant(name).state / "model" / TENSORS_FILE).read_bytes() == ours
    assert_it_verifies(federation)
    assert_sums_are_right(federation)
    return record


def assert_sums_are_right(federation: FederationFolder) -> None:
    """Each sum is, bit for bit, what those who are in it have at the parameters of their rounds: computed from the rows here.

    The model is then the right one, since the transcript's replay comes to it from these sums.
    """
    session = read_session(federation.server.output, federation.roster)
    works = []
    for name in federation.tenant_files:
        configuration = federation.tenant(name)
        work = Tenant(configuration, federation.roster, load_keys(configuration.keys)).work()
        work.prepare(session.terms.attachment, 0)
        works.append(work)
    terms: list[RingVector | None] = [None] * len(works)
    checked = 0
    for attempt in session.attempts:
        if not isinstance(attempt.outcome, SumOpened) or attempt.header is None:
            continue
        opened, header = attempt.outcome, attempt.header.content
        asked = Evaluate(
            header.round, header.mode, attempt.header.attachment, header.encoding, header.length, ring=header.ring
        )
        assert {*opened.survivors, *opened.stale, *opened.missing} == set(range(len(works)))
        for tenant in opened.survivors:
            terms[tenant] = works[tenant].evaluate(asked)
        for tenant in opened.missing:
            terms[tenant] = None
        expected = sum(term for term in terms if term is not None)
        np.testing.assert_array_equal(opened.vector, expected, f"round {header.round}")
        checked += 1
    assert checked > 1


def assert_it_verifies(federation: FederationFolder) -> None:
    """The transcript replays, and holds against every tenant's own log."""
    logs = {name: (federation.tenant(name).state / LOG_FILE).read_bytes() for name in federation.tenant_files}
    found = verify(read_transcript(federation.server.output), federation.roster, logs)
    assert found.passed, [check for check in found.checks if check.verdict is Verdict.FAILED]


def assert_clear(said: str, *words: str) -> None:
    """A message of two lines names what happened and what to do, without a traceback."""
    assert "Traceback" not in said, said
    flat = " ".join(said.split())
    assert "fed-em: " in flat, said
    for word in words:
        assert word in flat, said
