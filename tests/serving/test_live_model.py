"""Another version takes over, or does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fed_em.errors import CallerError
from fed_em.model_file import FittedModel, save_model
from fed_em_server.registry import Lineage, Registry
from fed_em_server.serving.live_model import LiveModel
from fed_em_server.serving.model_source import FolderSource, ModelSource, RegistrySource
from fed_em_server.serving.refusals import NoModel
from tests.fed_em.random_mixtures import random_mixture
from tests.serving.served import Seen, ToldSource

FIRST, SECOND = random_mixture("gaussian", seed=0), random_mixture("gaussian", seed=1)


def live_of(source: ModelSource) -> tuple[LiveModel, Seen]:
    seen = Seen()
    live = LiveModel(source, seen)
    live.look()
    return live, seen


def test_without_a_model_there_is_no_answer_and_then_there_is() -> None:
    source = ToldSource()
    live, seen = live_of(source)
    with pytest.raises(NoModel):
        live.require()
    source.there = ("first", FIRST)
    live.look()
    assert live.require().version == "first" and seen.versions == ["first"]


def test_what_has_begun_ends_on_the_model_that_it_began_with() -> None:
    source = ToldSource(("first", FIRST))
    live, seen = live_of(source)
    old = live.require()
    source.there = ("second", SECOND)
    live.look()
    live.look()
    assert seen.versions == ["first", "second"] and live.require().version == "second"
    rows = FIRST.sample(3, 0)[0]
    np.testing.assert_allclose(old.log_densities(rows), FIRST.score_samples(rows), rtol=1e-10)


def test_a_version_that_cannot_be_served_leaves_the_old_one_and_is_told_about_once() -> None:
    source = ToldSource(("first", FIRST))
    live, seen = live_of(source)
    source.there = ("second", None)
    live.look()
    live.look()
    assert live.require().version == "first"
    assert seen.kept == [("second", "version second is damaged")]
    assert live.refused is not None and live.refused.version == "second"
    source.there = ("third", SECOND)
    live.look()
    assert live.require().version == "third" and live.refused is None


def test_an_error_that_nobody_foresaw_leaves_the_old_one_too(monkeypatch: pytest.MonkeyPatch) -> None:
    source = ToldSource(("first", FIRST))
    live, seen = live_of(source)

    def fail(*_: object) -> None:
        raise MemoryError("SECRET")

    monkeypatch.setattr(FittedModel, "sample", fail)  # while it is warmed up
    source.there = ("second", SECOND)
    live.look()
    assert live.require().version == "first" and seen.kept == [("second", "MemoryError while it was loaded")]


def test_a_model_that_is_taken_away_goes_on_answering() -> None:
    source = ToldSource(("first", FIRST))
    live, seen = live_of(source)
    source.there = None
    live.look()
    assert live.require().version == "first" and not seen.kept


def test_a_folder_that_is_written_anew(tmp_path: Path) -> None:
    source = FolderSource(tmp_path / "model")
    assert source.version() is None and source.current() is None
    save_model(tmp_path / "model", FIRST)
    live, seen = live_of(source)
    before = live.require().version
    live.look()
    save_model(tmp_path / "model", SECOND)
    (tmp_path / "model" / "model.safetensors").write_bytes(b"half")
    live.look()
    assert live.require().version == before and "model.safetensors" in seen.kept[0][1]
    save_model(tmp_path / "model", SECOND)
    live.look()
    assert live.require().version != before and len(seen.versions) == 2


def test_a_stage_of_a_registry(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    lineage = Lineage.of_model(FIRST, "2026-01-01T00:00:00+00:00")
    first, second = registry.add(FIRST, lineage), registry.add(SECOND, lineage)
    source = RegistrySource(registry, "production")
    live, seen = live_of(source)
    with pytest.raises(NoModel):
        live.require()
    registry.promote(first)
    live.look()
    registry.promote(second)
    live.look()
    registry.rollback()
    live.look()
    assert seen.versions == [first.id, second.id, first.id]
    tensors = registry.path(second) / "model" / "model.safetensors"
    registry.promote(second)
    tensors.write_bytes(tensors.read_bytes()[:-1])
    live.look()
    assert live.require().version == first.id and seen.kept[0][0] == second.id


def test_a_stage_with_no_name_that_could_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CallerError, match="stage"):
        RegistrySource(Registry(tmp_path), "No Stage").version()
