"""A session's lineage is what its transcript shows, and output that does not belong together is refused."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from models import mixture
from sessions import federation_in, run

from fed_em.errors import CallerError
from fed_em.model_file import load_model, save_model
from fed_em_protocols.privacy.promise import Privacy
from fed_em_protocols.roster import Roster
from fed_em_protocols.transcript.faults import TranscriptFault
from fed_em_server.record import Participation, SessionRecord, write_record
from fed_em_server.registry import Registry
from fed_em_server.registry.session_lineage import add_output, lineage_of
from fed_em_server.registry.version import TENSORS
from fed_em_server.transcript_folder import read_checkpoints, read_session, read_transcript


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Roster]:
    """The output of a session, not to be changed, and its roster."""
    folder = tmp_path_factory.mktemp("session")
    federation = federation_in(folder / "f")
    return run(federation, folder / "result"), federation.roster


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry")


def record_of(output: Path) -> SessionRecord:
    return SessionRecord.model_validate_json((output / "record.json").read_bytes())


def test_the_lineage_is_that_of_the_transcript(session: tuple[Path, Roster], registry: Registry) -> None:
    output, roster = session
    version = add_output(registry, output, roster)
    lineage, walked = version.lineage, read_session(output, roster)
    last = read_checkpoints(output / "transcript" / "checkpoints.jsonl")[-1]
    assert lineage.transcript is not None
    assert (lineage.transcript.root, lineage.transcript.entries) == (last.root.hex(), last.size)
    assert lineage.roster == roster.digest.hex()
    assert lineage.tenants == ("t0", "t1", "t2")
    assert lineage.description == walked.terms.content.schema.hex()
    assert lineage.terms == walked.terms.digest.hex()
    assert {name: len(each) for name, each in lineage.policies.items()} == {"t0": 1, "t1": 1, "t2": 1}
    assert lineage.created == walked.opened.time
    record = record_of(output)
    assert lineage.session == record.session
    assert lineage.metrics.log_likelihood == record.rounds[-1].log_likelihood
    assert (lineage.metrics.rounds, lineage.metrics.iterations) == (len(record.rounds), 4)
    assert lineage.metrics.records == 75
    assert lineage.metrics.epsilon is None
    assert registry.record(version) == record
    assert registry.load(version).parameters.distance(load_model(output / "model").parameters) == 0.0


def test_how_a_fit_went_is_not_taken_from_the_record_that_nobody_signs(
    session: tuple[Path, Roster], tmp_path: Path
) -> None:
    output, roster = session
    honest = add_output(Registry(tmp_path / "honest"), output, roster).lineage
    copy = tmp_path / "result"
    shutil.copytree(output, copy)
    record = record_of(copy)
    rounds = tuple(each.model_copy(update={"iteration": 77}) for each in record.rounds[1:])
    write_record(copy, record.model_copy(update={"converged": not record.converged, "rounds": rounds}))
    assert add_output(Registry(tmp_path / "other"), copy, roster).lineage == honest
    assert honest.metrics.converged is record.converged


def test_a_private_session_has_its_promise_in_the_lineage(session: tuple[Path, Roster]) -> None:
    output, roster = session
    walked = read_session(output, roster)
    promise = Privacy(epsilon=2.0, delta=1e-6, radius=3.0, noise_multiplier=9.0, sums=5)
    private = replace(walked, description=walked.description.model_copy(update={"privacy": promise}))
    metrics = lineage_of(private, read_transcript(output), converged=False).metrics
    assert (metrics.epsilon, metrics.delta) == (2.0, 1e-6)


def test_the_files_of_a_version_are_those_of_the_session(session: tuple[Path, Roster], registry: Registry) -> None:
    output, roster = session
    version = add_output(registry, output, roster)
    for name, sha256 in version.manifest.files.items():
        assert hashlib.sha256((output / name).read_bytes()).hexdigest() == sha256
    assert add_output(registry, output, roster) == version


def test_a_session_that_began_with_a_version_has_it_for_a_parent(tmp_path: Path, registry: Registry) -> None:
    federation = federation_in(tmp_path / "f")
    first = add_output(registry, run(federation, tmp_path / "1"), federation.roster)
    again = run(federation, tmp_path / "2", start=registry.path(first) / "model")
    second = add_output(registry, again, federation.roster)
    assert second.parents == (first.id,)
    assert second.lineage.started_from == first.manifest.files[TENSORS]
    assert second.lineage.data_schema == first.lineage.data_schema


def test_a_failed_session_before_it_is_passed_over(
    session: tuple[Path, Roster], registry: Registry, tmp_path: Path
) -> None:
    output, roster = session
    copy = shutil.copytree(output, tmp_path / "copy")
    (copy / "transcript").rename(copy / "transcript-2")
    other = run(federation_in(tmp_path / "other"), tmp_path / "failed")
    shutil.copytree(other / "transcript", copy / "transcript")
    assert add_output(registry, copy, roster) == add_output(registry, output, roster)


def test_a_model_that_was_fitted_in_one_place_needs_no_roster(tmp_path: Path, registry: Registry) -> None:
    save_model(tmp_path / "pooled", mixture())
    version = add_output(registry, tmp_path / "pooled")
    assert version.lineage.session == ""
    assert registry.load(version).columns == ("a", "b")
    assert add_output(registry, tmp_path / "pooled") == version


def swap_model(output: Path) -> None:
    save_model(output / "model", mixture())


def swap_columns(output: Path) -> None:
    manifest = json.loads((output / "model" / "manifest.json").read_text())
    manifest["columns"].reverse()
    (output / "model" / "manifest.json").write_text(json.dumps(manifest))


def other_tenants(output: Path) -> None:
    record = record_of(output)
    away = (Participation.AWAY, *record.rounds[2].participation[1:])
    rounds = (*record.rounds[:2], record.rounds[2].model_copy(update={"participation": away}), *record.rounds[3:])
    write_record(output, record.model_copy(update={"rounds": rounds}))


def another_round(output: Path) -> None:
    record = record_of(output)
    more = record.rounds[-1].model_copy(update={"round": 999})
    write_record(output, record.model_copy(update={"rounds": (*record.rounds, more)}))


def renamed(output: Path) -> None:
    record = record_of(output)
    write_record(output, record.model_copy(update={"tenants": ("t0", "t1", "nobody")}))


def other_session(output: Path) -> None:
    write_record(output, record_of(output).model_copy(update={"session": "00" * 16}))


def no_record(output: Path) -> None:
    (output / "record.json").unlink()


def no_json(output: Path) -> None:
    (output / "record.json").write_text("{}")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (swap_model, "is not the one that the server has signed"),
        (swap_columns, "names other columns, or in another order"),
        (other_tenants, "other tenants are in the sum of round 3"),
        (another_round, "round 999 is not in the transcript"),
        (renamed, "its tenants are not those of the roster"),
        (other_session, "there is no transcript of session 0000"),
        (no_record, r"there is no file .*record\.json"),
        (no_json, "is no record of a session"),
    ],
)
def test_output_that_does_not_belong_together_is_refused(
    session: tuple[Path, Roster],
    registry: Registry,
    tmp_path: Path,
    change: Callable[[Path], None],
    complaint: str,
) -> None:
    output, roster = session
    copy = shutil.copytree(output, tmp_path / "copy")
    change(copy)
    with pytest.raises(CallerError, match=complaint):
        add_output(registry, copy, roster)
    assert registry.versions() == ()


def test_a_transcript_that_was_changed_or_is_of_others_is_refused(
    session: tuple[Path, Roster], registry: Registry, tmp_path: Path
) -> None:
    output, roster = session
    copy = shutil.copytree(output, tmp_path / "copy")
    entries = copy / "transcript" / "entries.jsonl"
    lines = entries.read_bytes().splitlines(keepends=True)
    entries.write_bytes(b"".join(lines[:5] + lines[6:]))
    with pytest.raises(TranscriptFault, match="entry 5"):
        add_output(registry, copy, roster)
    with pytest.raises(TranscriptFault, match="the server of this roster did not sign it"):
        add_output(registry, output, federation_in(tmp_path / "other").roster)
    with pytest.raises(CallerError, match="is verified against its roster"):
        add_output(registry, output)
