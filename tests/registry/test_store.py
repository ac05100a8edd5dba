"""Versions are known by what is in them, stages remember where they were, and nothing is taken on trust."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from models import CREATED, Clock, lineage, mixture, without_sync

from fed_em.errors import CallerError, EnvironmentFault
from fed_em_client.durable_files import waiting_lock
from fed_em_server.registry import Lineage, Registry, Version
from fed_em_server.registry.history import Decision, Moved
from fed_em_server.registry.version import TENSORS, VersionManifest


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry", Clock(), "ash@forest")


def filled(registry: Registry, n: int) -> list[Version]:
    return [registry.add(mixture(float(k)), lineage(mixture(float(k)))) for k in range(n)]


class TestVersions:
    def test_a_model_comes_back_as_it_was_added(self, registry: Registry) -> None:
        added = registry.add(mixture(1.5), lineage(title="blood"), reason="first")
        found = Registry(registry.folder).version(added.id)
        assert found == added
        assert (found.number, found.lineage.title, found.added) == (1, "blood", "2030-01-01T00:00:01+00:00")
        assert registry.load(found).parameters.distance(mixture(1.5).parameters) == 0.0

    def test_an_empty_registry_has_nothing_and_writes_nothing(self, registry: Registry) -> None:
        assert registry.versions() == ()
        assert registry.current() is None
        assert registry.history() == ()
        assert not registry.folder.exists()

    def test_the_same_content_is_one_version(self, registry: Registry) -> None:
        first = registry.add(mixture(), lineage())
        again = registry.add(mixture(), lineage(), reason="once more")
        assert again == first
        assert len(registry.read().entries) == 1

    def test_another_lineage_or_model_is_another_version(self, registry: Registry) -> None:
        ids = {
            registry.add(mixture(), lineage()).id,
            registry.add(mixture(1.0), lineage()).id,
            registry.add(mixture(), lineage(created="2031-01-01")).id,
            registry.add(mixture(), lineage(), parents=[registry.version("1")]).id,
        }
        assert len(ids) == 4
        assert [version.number for version in registry.versions()] == [1, 2, 3, 4]

    def test_the_id_is_the_hash_of_what_stands_in_the_folder(self, registry: Registry) -> None:
        version = registry.add(mixture(), lineage())
        data = (registry.path(version) / "version.json").read_bytes()
        assert VersionManifest.from_bytes(data, "it").id == version.id == registry.path(version).name

    def test_a_parent_is_found_by_the_tensors_that_the_fit_began_with(self, registry: Registry) -> None:
        parent = registry.add(mixture(), lineage())
        registry.add(mixture(), lineage(title="the same tensors, later"))
        started = lineage(started_from=parent.manifest.files[TENSORS])
        child = registry.add(mixture(1.0), started)
        assert child.parents == (parent.id,)
        assert registry.add(mixture(1.0), started) == child

    def test_a_child_that_came_before_its_parent_stays_one_version(self, registry: Registry, tmp_path: Path) -> None:
        other = Registry(tmp_path / "other")
        tensors = other.add(mixture(), lineage()).manifest.files[TENSORS]
        child = registry.add(mixture(1.0), lineage(started_from=tensors))
        registry.add(mixture(), lineage())
        assert registry.add(mixture(1.0), lineage(started_from=tensors)) == child
        assert child.parents == ()

    def test_a_parent_must_be_there(self, registry: Registry, tmp_path: Path) -> None:
        elsewhere = Registry(tmp_path / "other").add(mixture(), lineage())
        with pytest.raises(CallerError, match="is not in this registry"):
            registry.add(mixture(1.0), lineage(), parents=[elsewhere])

    def test_versions_are_named_by_number_id_and_stage(self, registry: Registry) -> None:
        first, second, third = filled(registry, 3)
        registry.promote(second)
        for named, version in {"1": first, "v3": third, first.id: first, third.id[:6].upper(): third}.items():
            assert registry.version(named) == version
        assert registry.version("@production") == second

    @pytest.mark.parametrize(
        ("named", "complaint"),
        [
            ("4", "there is no version '4'"),
            ("v0", "there is no version 'v0'"),
            ("ffffff", "there is no version 'ffffff'"),
            ("abc", "'abc' names no version"),
            ("", "'' names no version"),
            ("@canary", "no version is in canary"),
            ("@Über", "is no name of a stage"),
        ],
    )
    def test_what_names_no_version_is_told(self, registry: Registry, named: str, complaint: str) -> None:
        filled(registry, 3)
        with pytest.raises(CallerError, match=complaint):
            registry.version(named)

    def test_a_lineage_without_a_session_tells_its_columns(self) -> None:
        renamed = mixture()
        object.__setattr__(renamed, "columns", ("a", "c"))
        assert Lineage.of_model(mixture(), CREATED).data_schema != Lineage.of_model(renamed, CREATED).data_schema


class TestDamage:
    @pytest.mark.parametrize("name", ["model/model.safetensors", "model/manifest.json"])
    def test_a_changed_file_is_refused_on_load(self, registry: Registry, name: str) -> None:
        version = registry.add(mixture(), lineage())
        path = registry.path(version) / name
        path.write_bytes(path.read_bytes()[:-1] + b" ")
        with pytest.raises(CallerError, match=f"{name} is not the file that the manifest of version 1"):
            registry.load(version)
        with pytest.raises(CallerError, match="is not the file"):
            registry.promote(version)
        assert registry.current() is None

    def test_a_whole_model_that_was_swapped_is_refused(self, registry: Registry) -> None:
        first, second = filled(registry, 2)
        for name in second.manifest.files:
            (registry.path(first) / name).write_bytes((registry.path(second) / name).read_bytes())
        with pytest.raises(CallerError, match="is not the file"):
            registry.load(first)

    def test_a_missing_file_is_told(self, registry: Registry) -> None:
        version = registry.add(mixture(), lineage())
        (registry.path(version) / TENSORS).unlink()
        with pytest.raises(CallerError, match="there is no file"):
            registry.load(version)

    def test_another_manifest_is_refused(self, registry: Registry) -> None:
        version = registry.add(mixture(), lineage())
        forged = version.manifest.model_copy(update={"lineage": lineage(title="of other data")})
        (registry.path(version) / "version.json").write_bytes(forged.to_bytes())
        with pytest.raises(CallerError, match="is not the manifest of the version"):
            registry.version("1")

    def test_a_manifest_of_a_newer_format_says_what_to_do(self) -> None:
        with pytest.raises(CallerError, match="update fed-em"):
            VersionManifest.from_bytes(b'{"format":2}', "it")

    @pytest.mark.parametrize("name", ["log.jsonl", "head.json"])
    def test_a_history_of_a_newer_format_says_what_to_do(self, registry: Registry, name: str) -> None:
        registry.add(mixture(), lineage())
        path = registry.folder / name
        path.write_bytes(path.read_bytes().replace(b'"format":1', b'"format":2'))
        with pytest.raises(CallerError, match=f"{name} has format 2, this version reads format 1"):
            registry.read()

    def test_every_changed_byte_of_the_history_is_found(self, registry: Registry) -> None:
        first, second = filled(registry, 2)
        registry.promote(first, reason="good")
        registry.promote(second, reason="better")
        log = registry.folder / "log.jsonl"
        data = log.read_bytes()
        for place in range(0, len(data), 7):
            log.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
            with pytest.raises((EnvironmentFault, CallerError), match=r"damaged|format"):
                registry.read()

    def test_a_history_that_lost_its_end_is_found(self, registry: Registry) -> None:
        filled(registry, 2)
        log = registry.folder / "log.jsonl"
        lines = log.read_bytes().splitlines(keepends=True)
        log.write_bytes(lines[0])
        with pytest.raises(EnvironmentFault, match=r"it has 1 of the 2 entries that head\.json knows"):
            registry.read()
        log.unlink()
        with pytest.raises(EnvironmentFault, match="it has 0 of the 2"):
            registry.read()

    def test_an_older_head_is_found_before_anything_is_written(self, registry: Registry) -> None:
        filled(registry, 1)
        head = registry.folder / "head.json"
        old = head.read_bytes()
        for k in range(2, 4):
            registry.add(mixture(float(k)), lineage())
        head.write_bytes(old)
        assert len(registry.read().entries) == 3
        with pytest.raises(EnvironmentFault, match="it is an older copy"):
            registry.promote(registry.version("1"))
        head.unlink()
        with pytest.raises(EnvironmentFault, match="is missing"):
            registry.read()


class TestStages:
    def test_a_stage_has_what_was_promoted_last(self, registry: Registry) -> None:
        first, second = filled(registry, 2)
        registry.promote(first, reason="the first")
        registry.promote(second, "canary")
        assert registry.current() == first
        assert registry.current("canary") == second
        registry.promote(second, reason="better")
        assert registry.current() == second

    def test_the_history_tells_who_when_why_from_and_to(self, registry: Registry) -> None:
        first, second = filled(registry, 2)
        registry.promote(first, reason="the first")
        registry.promote(second, reason="better")
        registry.rollback(reason="worse after all")
        found = registry.history()
        assert all(isinstance(entry, Moved) for entry in found)
        told = [(e.kind, e.before, e.after, e.reason, e.who) for e in found if isinstance(e, Moved)]
        assert told == [
            ("promoted", None, first.id, "the first", "ash@forest"),
            ("promoted", first.id, second.id, "better", "ash@forest"),
            ("rolled-back", second.id, first.id, "worse after all", "ash@forest"),
        ]
        assert [entry.time for entry in found] == sorted(entry.time for entry in found)
        assert registry.history("canary") == ()

    def test_rolling_back_goes_one_further_each_time(self, registry: Registry) -> None:
        first, second, third = filled(registry, 3)
        for version in (first, second, third):
            registry.promote(version)
        assert registry.before() == second
        assert [registry.rollback(), registry.rollback()] == [second, first]
        assert registry.before() is None
        with pytest.raises(CallerError, match="had none before it"):
            registry.rollback()
        registry.promote(third)
        assert registry.rollback() == first

    def test_promoting_what_is_there_changes_nothing(self, registry: Registry) -> None:
        (first,) = filled(registry, 1)
        registry.promote(first)
        registry.promote(first)
        assert len(registry.history()) == 1

    def test_a_stage_that_somebody_else_changed_is_not_overwritten(self, registry: Registry) -> None:
        first, second, third = filled(registry, 3)
        registry.promote(first)
        registry.promote(second)
        with pytest.raises(CallerError, match="no longer version 1"):
            registry.promote(third, expecting=first)
        with pytest.raises(CallerError, match="no longer version 1"):
            registry.rollback(expecting=first)
        assert registry.current() == second

    def test_a_stage_may_be_emptied(self, registry: Registry) -> None:
        (first,) = filled(registry, 1)
        registry.promote(first, "canary")
        registry.withdraw("canary", "rejected")
        assert registry.current("canary") is None
        with pytest.raises(CallerError, match="canary is empty"):
            registry.rollback("canary")
        with pytest.raises(CallerError, match="canary is empty"):
            registry.withdraw("canary")

    def test_decisions_are_kept(self, registry: Registry) -> None:
        first, second = filled(registry, 2)
        decision = Decision(candidate=second.id, baseline=first.id, outcome="keep", numbers={"gain": 0.1})
        registry.promote(first)
        registry.decided("production", decision, "too few records")
        last = Registry(registry.folder).history()[-1]
        assert last.decision == decision
        assert registry.current() == first

    @pytest.mark.parametrize("name", ["", "Production", "../x", "a b", "x" * 65])
    def test_names_of_stages_are_plain(self, registry: Registry, name: str) -> None:
        (first,) = filled(registry, 1)
        with pytest.raises(CallerError, match="is no name of a stage"):
            registry.promote(first, name)


class TestRemoval:
    def test_a_version_that_nothing_depends_on_is_removed(self, registry: Registry) -> None:
        first, second = filled(registry, 2)
        registry.remove(second, "a test")
        assert registry.versions() == (first,)
        assert not registry.path(second).exists()
        again = registry.add(mixture(1.0), lineage(mixture(1.0)))
        assert (again.id, again.number) == (second.id, 3)

    def test_what_was_in_a_stage_stays(self, registry: Registry) -> None:
        first, second = filled(registry, 2)
        registry.promote(second)
        registry.promote(first)
        with pytest.raises(CallerError, match="is or was in production"):
            registry.remove(second)
        assert registry.load(second)

    def test_a_parent_stays(self, registry: Registry) -> None:
        (first,) = filled(registry, 1)
        child = registry.add(mixture(5.0), lineage(), parents=[first])
        with pytest.raises(CallerError, match="was fitted from version 1"):
            registry.remove(first)
        registry.remove(child)
        registry.remove(first)
        assert registry.versions() == ()


def test_whoever_waits_too_long_for_another_process_is_told(tmp_path: Path) -> None:
    with (
        waiting_lock(tmp_path / "lock"),
        pytest.raises(EnvironmentFault, match="has been locked by another process for 0 seconds"),
        waiting_lock(tmp_path / "lock", seconds=0.0),
    ):
        pytest.fail("two have it")
    with waiting_lock(tmp_path / "lock", seconds=0.0):
        pass


def test_many_threads_lose_no_entry(registry: Registry) -> None:
    """Each has a registry of its own, as processes have: the lock is of the file."""
    with without_sync():
        first, second = filled(registry, 2)

        def toggle() -> None:
            mine = Registry(registry.folder)
            for _ in range(4):
                mine.promote(first)
                mine.promote(second)

        threads = [threading.Thread(target=toggle) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    history = registry.history()
    assert registry.current() in (first, second)
    # Entry by entry the chain was verified as it was read, and each names what was there.
    assert 2 <= len(history) <= 32
