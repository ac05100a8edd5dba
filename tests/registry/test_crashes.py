"""A registry whose process dies at any step, or whose disk refuses any, is whole: as before the change, or as after it.

Every call by which files change is counted, and the k-th fails, for every k. A process that dies does nothing more: all calls after it
fail too, also those that would clear up.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest
from models import lineage, mixture, without_sync

from fed_em.errors import EnvironmentFault
from fed_em_server.registry import Registry, Version

STEPS = ("mkdir", "fsync", "fdatasync", "pwrite", "rename", "replace", "unlink", "rmdir", "ftruncate")


class Died(BaseException):
    """The process is gone."""


class Steps:
    """Counts the calls that change files, and fails at one of them."""

    def __init__(self, fails_at: int, dies: bool) -> None:
        self.n = 0
        self.fails_at = fails_at
        self.dies = dies

    def over(self, name: str, call: Callable[..., object]) -> Callable[..., object]:
        def stepped(*arguments: object, **named: object) -> object:
            self.n += 1
            if self.n == self.fails_at or (self.dies and self.n > self.fails_at):
                if name == "pwrite":  # the disk took a part of it
                    descriptor, data, offset = arguments
                    call(descriptor, data[: len(data) // 2], offset)  # type: ignore[index]
                if self.dies:
                    raise Died
                raise OSError(errno.ENOSPC, "No space left on device")
            return call(*arguments, **named)

        return stepped


def failing(change: Callable[[], object], fails_at: int, dies: bool) -> bool:
    """Whether the change has a step of this number; where it has, that one failed."""
    steps = Steps(fails_at, dies)
    with pytest.MonkeyPatch.context() as patch:
        for name in STEPS:
            patch.setattr(os, name, steps.over(name, getattr(os, name)))
        patch.setattr("fed_em_client.durable_files.sync", steps.over("sync", lambda _: None))
        patch.setattr("fed_em_server.registry.history.sync", steps.over("sync", lambda _: None))
        with suppress(Died, EnvironmentFault):
            change()
    return steps.n >= fails_at


def state(registry: Registry) -> object:
    """All that a registry says, with every file held against its hash."""
    versions = registry.versions()
    for version in versions:
        registry.require_intact(version)
    return [version.id for version in versions], registry.current(), registry.read().stages


Change = Callable[[Registry], Version | None]

CHANGES: dict[str, Change] = {
    "add": lambda registry: registry.add(mixture(9.0), lineage()),
    "promote": lambda registry: registry.promote(registry.version("2")),
    "roll back": lambda registry: registry.rollback("canary"),
    "withdraw": lambda registry: registry.withdraw("canary"),
    "remove": lambda registry: registry.remove(registry.version("3")),
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Path], Registry]]:
    """Makes copies of one registry."""
    with without_sync():
        original = tmp_path_factory.mktemp("prepared") / "registry"
        fill(Registry(original, time_of_day, "ash@forest"))

        def copy(folder: Path) -> Registry:
            shutil.copytree(original, folder)
            return Registry(folder, time_of_day, "ash@forest")

        yield copy


def time_of_day() -> str:
    return "2030-01-01T00:00:00+00:00"


def fill(registry: Registry) -> None:
    for k in range(3):
        registry.add(mixture(float(k)), lineage())
    first, second, _ = registry.versions()
    registry.promote(first)
    registry.promote(first, "canary")
    registry.promote(second, "canary")


@pytest.mark.parametrize("dies", [False, True], ids=["disk full", "killed"])
@pytest.mark.parametrize(
    "change",
    # A rollback and a withdrawal take the steps of a promotion.
    [
        pytest.param(change, id=name, marks=[pytest.mark.slow] if name in {"roll back", "withdraw"} else [])
        for name, change in CHANGES.items()
    ],
)
def test_a_change_that_fails_anywhere_is_done_or_not_begun(
    tmp_path: Path, prepared: Callable[[Path], Registry], change: Change, dies: bool
) -> None:
    with without_sync():
        before = state(prepared(tmp_path / "before"))
        done = prepared(tmp_path / "done")
        change(done)
        after = state(done)
        assert before != after
        outcomes = set()
        for fails_at in count(1):
            registry = prepared(tmp_path / str(fails_at))
            if not failing(lambda: change(registry), fails_at, dies):  # noqa: B023  called at once
                break
            found = state(Registry(registry.folder))
            assert found in (before, after), f"step {fails_at}"
            outcomes.add(found == after)
            if found == before:
                change(registry)
            assert state(registry) == after, f"step {fails_at}"
            registry.promote(registry.version("1"), "another", "what was left half done is cleared away")
            assert registry.leftovers(registry.read()) == ()
        # It fails at steps before the entry counts, and at steps after.
        assert outcomes == {False, True}


def test_the_first_version_of_a_registry_too(tmp_path: Path) -> None:
    with without_sync():
        for fails_at in count(1):
            registry = Registry(tmp_path / str(fails_at))
            if not failing(lambda: registry.add(mixture(), lineage()), fails_at, dies=True):  # noqa: B023
                break
            assert len(registry.versions()) in (0, 1), f"step {fails_at}"
            assert registry.add(mixture(), lineage()).number == 1
            assert registry.promote(registry.version("1")) == registry.current()
        assert fails_at > 10
