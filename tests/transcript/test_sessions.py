"""Whole sessions, verified from their transcripts: of every kind, over gRPC, by command, and from an earlier version."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recorded import SIZES, TRUST, Recorded, record, recorded
from small_federation import Recorder, clustered_rows, session_toml, write_small_federation
from test_tampering import assert_no_field_can_be_changed
from typer.testing import CliRunner

import fed_em_server.audit.replay
from fed_em import GaussianMixture
from fed_em.errors import EnvironmentFault
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.parameters import Parameters
from fed_em_client.tenant_log_file import LOG_FILE
from fed_em_protocols import coordinator_round
from fed_em_protocols.masks import RingVector
from fed_em_protocols.roster import load_roster
from fed_em_protocols.transcript.entries import RoundSummed, SurvivorOpened
from fed_em_protocols.transcript.memory_transcript import MemoryTranscript
from fed_em_protocols.transcript.reading import verified_entries
from fed_em_protocols.transcript.released import released_sums
from fed_em_protocols.transcript.walk import walked
from fed_em_server.audit.verify import FIT, Verdict, verify
from fed_em_server.serve import open_server
from fed_em_server.session import run_session
from fed_em_server.transcript_folder import TranscriptFolder, read_transcript
from fed_em_simulations.command_line import app
from fed_em_simulations.federation import Federation
from fed_em_simulations.tenant_fleet import tenant_processes

VERSION_1 = Path(__file__).parent / "version-1"


def said_of(whole: Recorded, name: str) -> str:
    found = verify(whole.files, whole.roster)
    assert found.passed, [check for check in found.checks if check.verdict is Verdict.FAILED]
    return next(check.said for check in found.checks if check.name == name)


def test_the_sums_of_a_transcript_are_what_everybody_saw() -> None:
    whole = recorded()
    session = walked(verified_entries(whole.files, whole.roster), whole.roster)
    sums = released_sums(session)
    assert [each.round for each in sums] == [1, 2, 3, 5]
    assert [each.kind for each in sums] == ["whole", "whole", "increment", "increment"]
    # Tenant 2 was late in round 3, tenant 1 silent since its upload of round 2: their terms of round 2 stand. Round 4 failed.
    assert [each.bases for each in sums[1:]] == [(2,) * 6, (3, 2, 2, 3, 3, 3), (5,) * 6]
    tenants = clustered_rows(SIZES)
    rows = np.concatenate([tenants[f"t{k}"] for k in range(len(SIZES))])
    last = sums[-1]
    plain = last.broadcast.model.e_step(last.broadcast.parameters, last.broadcast.coordinates.apply(rows))
    np.testing.assert_allclose(last.statistics.vector, plain.vector, rtol=1e-9, atol=1e-7)
    openings = next(entry for entry in whole.entries if isinstance(entry, RoundSummed) and entry.round == 2).openings
    recovered: list[SurvivorOpened] = [each for each in openings if each.message is None]
    assert [each.tenant for each in recovered] == [1]


def test_uploads_are_in_it_as_hashes_and_kept_beside_it_only_if_that_is_asked_for(tmp_path: Path) -> None:
    whole = recorded()
    assert whole.files.uploads is not None and whole.files.uploads.upload(1, 0)
    sparing = record(tmp_path / "f", keeps=False)
    assert sparing.files.uploads is not None and sparing.files.uploads.upload(1, 0) is None
    found = verify(sparing.files, sparing.roster)
    assert found.passed
    assert [check.name for check in found.checks if check.verdict is Verdict.NOTED] == ["uploads", "privacy"]


class TestOtherArithmetic:
    """On another platform the last bits may differ: that is admitted, and said."""

    def test_equal_bits_are_no_matter_of_the_platform(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(fed_em_server.audit.replay, "computed_on", lambda: {"machine": "another"})
        assert "on another platform or versions, every parameter bit for bit" in said_of(recorded(), FIT)

    @pytest.mark.parametrize(("factor", "passes"), [(1 + 2e-13, True), (1 + 1e-11, False)])
    def test_the_last_bits_may_differ_and_no_more(
        self, monkeypatch: pytest.MonkeyPatch, factor: float, passes: bool
    ) -> None:
        whole, m_step = recorded(), GaussianMixtureModel.m_step  # recorded here, not elsewhere

        def elsewhere(self: GaussianMixtureModel, *args: object) -> Parameters:
            found = m_step(self, *args)  # type: ignore[arg-type]
            return Parameters({**found, "means": found["means"] * factor})

        monkeypatch.setattr(GaussianMixtureModel, "m_step", elsewhere)
        exactly = verify(whole.files, whole.roster)
        assert not exactly.passed, "on the recorded platform every bit counts"
        monkeypatch.setattr(fed_em_server.audit.replay, "computed_on", lambda: {"machine": "another"})
        found = verify(whole.files, whole.roster)
        assert found.passed == passes
        if passes:
            assert "within" in next(check.said for check in found.checks if check.name == FIT)


def test_the_command_says_what_holds_and_what_does_not(tmp_path: Path) -> None:
    whole = recorded()
    folder = tmp_path / "result" / "transcript"
    folder.mkdir(parents=True)
    (folder / "entries.jsonl").write_bytes(whole.files.entries)
    (folder / "checkpoints.jsonl").write_bytes(whole.files.checkpoints)
    whole.roster.write_new(tmp_path / "roster.json")
    logs: list[str] = []
    for name, data in whole.logs.items():
        path = tmp_path / name
        path.parent.mkdir()
        path.write_bytes(data)
        logs += ["--tenant-log", str(path)]
    arguments = ["audit", "verify", str(tmp_path / "result"), "--roster", str(tmp_path / "roster.json"), *logs]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "verified" in done.output and "NOT" not in done.output and "masked vectors were not kept" in done.output
    lines = whole.lines
    (folder / "entries.jsonl").write_bytes(b"\n".join([*lines[:9], lines[9].replace(b"1", b"2", 1), *lines[10:], b""]))
    done = CliRunner().invoke(app, [*arguments, "--json"])
    assert done.exit_code == 1
    found = json.loads(done.output)
    assert not found["passed"]
    assert found["checks"][0]["place"] == {"file": "entries", "line": 9, "field": "", "party": ""}
    assert found["checks"][1]["verdict"] == "not reached"
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 1 and "NOT verified" in done.output and "entry 9" in done.output


def test_a_transcript_on_disk_is_never_written_over(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        with TranscriptFolder(tmp_path, keeps_uploads=number == 3) as store:
            assert not (tmp_path / f"transcript-{number}").exists(), "nothing before the first entry"
            store.append(b"an entry %d" % number)
            store.checkpoint(b"a checkpoint")
            if number == 3:
                store.keep_upload(4, 1, b"vector")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["transcript", "transcript-2", "transcript-3"]
    third = read_transcript(tmp_path / "transcript-3")
    assert (third.entries, third.checkpoints) == (b"an entry 3\n", b"a checkpoint\n")
    assert third.uploads is not None and third.uploads.upload(4, 1) == b"vector"
    assert third.uploads.upload(4, 2) is None


class _Full(MemoryTranscript):
    """A disk with room for so many entries."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self._room = room

    def append(self, line: bytes) -> None:
        self._room -= 1
        if self._room < 0:
            raise EnvironmentFault("the disk is full")
        super().append(line)


def test_no_round_goes_on_without_its_transcript() -> None:
    rows = np.random.default_rng(0).standard_normal((4, 20, 2))
    full = _Full(room=8)
    outcome = Federation(list(rows), starts=0, transcript=full, max_iterations=2).fit(GaussianMixture(1))
    assert "the disk is full" in outcome.failure
    assert full.files.entries.count(b"\n") == 8


def test_a_transcript_of_version_1_stays_readable() -> None:
    roster = load_roster(VERSION_1 / "roster.json")
    logs = {LOG_FILE: (VERSION_1 / LOG_FILE).read_bytes()}
    files = read_transcript(VERSION_1)
    found = verify(files, roster, logs)
    assert found.passed, [check for check in found.checks if check.verdict is Verdict.FAILED]
    assert found.session is not None
    sums = released_sums(found.session)
    assert [(each.round, each.kind) for each in sums] == [(1, "whole"), (2, "whole"), (3, "increment")]
    known = json.loads((VERSION_1 / "sums.json").read_text())
    assert [[float(x).hex() for x in each.statistics.vector] for each in sums] == known


GATED = session_toml(fit="max_iterations = 4", trust=TRUST + "\nmass_floor = 5")
PICKED = session_toml(
    fit="max_iterations = 3\nstandard_errors = true",
    optimiser="lbfgs",
    start="starts = 2",
    trust=TRUST,
    model='family = "gaussian-mixture"\ncovariance = "full"\nprior = "none"\n[selection]\ncomponents = [1, 2]\nmax_iterations = 4',
)


@pytest.mark.slow
@pytest.mark.parametrize(("session", "kinds"), [
    (GATED, {"iteration"}),
    (PICKED, {"start", "fitted-together", "picked", "iteration", "standard-errors"}),
])  # fmt: skip
def test_other_sessions_are_replayed_bit_for_bit_and_no_field_can_be_changed(
    tmp_path: Path, session: str, kinds: set[str]
) -> None:
    whole = record(tmp_path / "f", session=session)
    assert "on the recorded platform and versions, every parameter bit for bit" in said_of(whole, FIT)
    assert kinds <= {json.loads(line)["kind"] for line in whole.lines}
    assert_no_field_can_be_changed(whole)


@pytest.mark.slow
def test_generations_of_starts_are_replayed(tmp_path: Path) -> None:
    """The plan need not name them: they are in the description."""
    session = session_toml(fit="max_iterations = 2", start="starts = 2\ngenerations = 1", trust=TRUST)
    whole = record(tmp_path / "f", session=session)
    assert "on the recorded platform and versions, every parameter bit for bit" in said_of(whole, FIT)


@pytest.mark.slow
def test_a_fit_that_goes_on_with_fewer_components_is_replayed(tmp_path: Path) -> None:
    """Of tenants whose rows are of three groups, fitted with four components: which go is in the description."""
    model = 'family = "gaussian-mixture"\nn_components = 4\ncovariance = "full"\nprior = "none"'
    fit = "tolerance = 1e-3\nmax_iterations = 60\nleast_weight = 0.25"
    whole = record(tmp_path / "f", session=session_toml(model=model, fit=fit, trust=TRUST))
    assert "on the recorded platform and versions, every parameter bit for bit" in said_of(whole, FIT)
    found = verify(whole.files, whole.roster)
    assert found.session is not None
    _, *models = (each.broadcast.model for each in released_sums(found.session))
    numbers = [model.n_components for model in models]  # type: ignore[attr-defined]
    assert 4 == numbers[0] > numbers[-1]
    assert numbers == sorted(numbers, reverse=True)


@pytest.mark.slow
def test_a_session_over_grpc_is_verified_with_the_logs_of_its_tenants(tmp_path: Path) -> None:
    federation = write_small_federation(tmp_path / "f", clustered_rows(SIZES), session_toml(fit="max_iterations = 5"))
    server = open_server(federation.server.model_copy(update={"transcript_uploads": True}))
    hub = server.hub()
    with (
        tenant_processes(federation, lambda _: ["--server", f"127.0.0.1:{hub.port}"]),
        server.transcript() as store,
    ):
        run_session(server.plan("grpc"), hub, Recorder(), store=store)
    files = read_transcript(server.configuration.output)
    logs = {name: (federation.tenant(name).state / LOG_FILE).read_bytes() for name in federation.tenant_files}
    found = verify(files, federation.roster, logs)
    assert found.passed, [check for check in found.checks if check.verdict is Verdict.FAILED]
    assert sum(check.name.startswith("log t") for check in found.checks) == len(SIZES)
    assert found.session is not None and found.session.tally.unmasked == found.session.tally.opened == 6


def test_a_model_that_does_not_follow_from_the_sums_is_found_in_the_round_that_it_was_sent_out_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    m_step, calls = GaussianMixtureModel.m_step, list[int]()

    def lying(self: GaussianMixtureModel, *args: object) -> Parameters:
        found = m_step(self, *args)  # type: ignore[arg-type]
        calls.append(self.n_components)
        # The first is of the moments, the second of round 2.
        return Parameters({**found, "means": found["means"] + 1e-15}) if len(calls) == 2 else found

    with monkeypatch.context() as patched:
        patched.setattr(GaussianMixtureModel, "m_step", lying)
        whole = record(tmp_path / "f")
    assert len(calls) == 4
    found = next(check for check in verify(whole.files, whole.roster).checks if check.verdict is Verdict.FAILED)
    assert found.name == FIT and found.place is not None and found.place.line is not None
    entry = json.loads(whole.lines[found.place.line])
    assert (entry["kind"], entry["number"], found.place.field) == ("iteration", 1, "parameters")


@pytest.mark.parametrize("keeps", [True, False])
def test_sums_that_were_false_from_the_beginning_are_found_by_the_uploads_alone(
    keeps: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server fits to sums of its own invention. Without the uploads the list says that nobody checked."""
    honest = coordinator_round.unmasked

    def invented(*arguments: Any) -> RingVector:
        vector = honest(*arguments).copy()
        vector[3:5] += np.uint64(1 << 30)
        return vector

    monkeypatch.setattr(coordinator_round, "unmasked", invented)
    whole = record(tmp_path / "f", keeps=keeps)
    monkeypatch.undo()
    found = verify(whole.files, whole.roster, whole.logs)
    assert found.passed is not keeps
    if keeps:
        failed = next(check for check in found.checks if check.verdict is Verdict.FAILED)
        assert failed.said == "the uploads that were kept give another sum"
    else:
        assert any(check.name == "uploads" and check.verdict is Verdict.NOTED for check in found.checks)
