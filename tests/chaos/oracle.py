"""What a session under faults must have come to, whatever struck it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from harness import Account
from right_sums import assert_it_verifies, assert_sums_are_right
from small_federation import Recorder, clustered_rows, memory_hub, session_toml, write_small_federation

from fed_em.model_file import ERRORS_FILE, TENSORS_FILE, save_model
from fed_em_client.privacy_ledger import ledger_files, read_spends
from fed_em_protocols.errors import SERVER
from fed_em_server.record import SessionRecord, read_record
from fed_em_server.report import REPORT_FILE
from fed_em_server.serve import open_server
from fed_em_server.session import run_session
from fed_em_server.transcript_folder import read_session
from fed_em_simulations.federation_folder import FederationFolder

SIZES = (60, 50, 40, 30)
TRUST = 'difference_guard = "off"\ncolluders = 0\nminimum_survivors = 3'
POLICY = 'difference_guard = "off"\ncolluders = 0\nallow_semi_honest = true'

# Nobody is ever late, however busy the machine, and whoever was killed is waited for.
PATIENT = "gather = 100\npatience = 60\nset_up = 60\nupload = 60\nstraggler = 60\nopen = 60"
# Whoever is away for a second or two is left behind, and comes back. Only for the first sum all are waited for, on a busy machine too.
BRISK = "gather = 90\npatience = 5\nset_up = 2\nupload = 8\nstraggler = 1\nopen = 2"

# A fit of a given length; and one that converges, whose last rounds everybody is in.
STEADY = session_toml(fit="tolerance = 0\nmax_iterations = 5", times=PATIENT, trust=TRUST)
CONVERGING = session_toml(fit="tolerance = 1e-9\nmax_iterations = 300", times=BRISK, trust=TRUST)


def federation_of(folder: Path, session: str = STEADY) -> FederationFolder:
    """Four tenants on disk."""
    return write_small_federation(folder / "f", clustered_rows(SIZES), session, policy=POLICY)


@cache
def undisturbed(session: str) -> tuple[bytes, bytes]:
    """The files of the model of a session that nothing disturbs, and of its standard errors: in memory."""
    with TemporaryDirectory() as folder:
        federation = federation_of(Path(folder), session)
        outcome = run_session(open_server(federation.server).plan("memory"), memory_hub(federation), Recorder())
        save_model(Path(folder) / "m", outcome.fitted)
        return _files_of(Path(folder) / "m")


def _files_of(model: Path) -> tuple[bytes, bytes]:
    errors = model / ERRORS_FILE
    return (model / TENSORS_FILE).read_bytes(), errors.read_bytes() if errors.exists() else b""


def assert_it_ended_right(
    federation: FederationFolder, account: Account, session: str, without: tuple[str, ...] = ()
) -> SessionRecord:
    """The server ended with status 0, the model of the undisturbed session and its report, and each tenant but those `without` has the
    model too. Noise makes another model of a private session; its sums and its ledgers are held against what tenants said of them.
    """
    assert account.last(SERVER).status == 0, account.told()
    assert not account.twice, f"{account.twice}\n{account.told()}"
    for life in account.lives:
        assert "Traceback" not in life.said, life.said
    output = federation.server.output
    record = read_record(output)
    assert (output / REPORT_FILE).read_text().rstrip().endswith("</html>")
    ours, errors = _files_of(output / "model")
    if record.privacy is None and all(each.complete for each in record.rounds):
        assert (ours, errors) == undisturbed(session), account.told()
    for name in federation.tenant_files:
        if name not in without:
            assert account.last(name).status == 0, account.told()
            assert (federation.tenant(name).state / "model" / TENSORS_FILE).read_bytes() == ours
    assert_it_verifies(federation)
    assert_sums_are_right(federation, read_session(output, federation.roster), account.noised)
    if record.privacy is not None:
        assert_ledgers_are_right(federation, account, record)
    return record


def assert_ledgers_are_right(federation: FederationFolder, account: Account, record: SessionRecord) -> None:
    """Nothing is spent twice or forgotten: what a ledger was charged for is what its tenant uploaded for, once a round.

    A tenant that was struck may have been charged for what it did not come to upload, and never the other way round.
    """
    assert record.privacy is not None
    for name in federation.tenant_files:
        spent = read_spends(ledger_files(federation.tenant(name))).sessions[bytes.fromhex(record.session)]
        uploaded, noised = account.uploaded[name], {number for who, number in account.noised if who == name}
        assert uploaded <= noised <= set(spent.charged), f"{name}: {uploaded}, {noised}, {spent.charged}"
        if not account.struck.get(name):
            assert uploaded == set(spent.charged), f"{name}: {uploaded}, {spent.charged}"
        assert spent.plan == record.privacy.spend
        ended = account.last(name).status == 0
        assert (spent.reserved is None) == ended, f"{name} gives back what it did not spend when its session ends"


def assert_clear(said: str, *words: str) -> None:
    """A message of two lines names what happened and what to do, without a traceback."""
    assert "Traceback" not in said, said
    flat = " ".join(said.split())
    assert "fed-em: " in flat, said
    for word in words:
        assert word in flat, said
