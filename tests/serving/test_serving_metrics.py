"""What a scrape of a running service shows."""

from __future__ import annotations

import os
import time
import urllib.request
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fed_em.errors import CallerError, EnvironmentFault
from fed_em.model_file import MANIFEST_FILE, save_model
from fed_em_client.observability.endpoint import MetricsEndpoint
from fed_em_protocols.metric_catalogue import ANSWERS, METHODS
from fed_em_server.registry import Lineage, Registry
from fed_em_server.serving.desk import Desk
from fed_em_server.serving.limits import ServingLimits
from fed_em_server.serving.live_model import LiveModel
from fed_em_server.serving.model_source import FolderSource, RegistrySource
from fed_em_server.serving.refusals import Refusal
from fed_em_server.serving.service import ServingService
from fed_em_server.serving.serving_metrics import ServingMetrics
from fed_em_server.serving.watcher import ServingWatchers
from tests.fed_em.random_mixtures import random_mixture
from tests.observability.scrapes import undeclared
from tests.observability.watched import scraped
from tests.serving.served import Seen, ToldSource
from tests.serving.test_faces import ask_http

FITTED = random_mixture("mixed", seed=3)


def test_a_scrape_holds_what_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    source, seen = ToldSource(("first", FITTED), {"first": time.time() - 3600.0}), Seen()
    kept = ServingMetrics(source.made_at)
    watcher = ServingWatchers((kept, seen))
    live = LiveModel(source, watcher, every=3600.0)
    with (
        MetricsEndpoint(kept.metrics, "127.0.0.1:0") as endpoint,
        ServingService(live, ServingLimits(rows=3), watcher, None, "127.0.0.1:0") as service,
    ):

        def scrape() -> dict[str, float]:
            with urllib.request.urlopen(endpoint.url, timeout=30) as answer:
                text = answer.read().decode()
            families = text_string_to_metric_families(text)
            labels = ("method", "outcome", "version")
            return {
                "|".join((each.name, *(each.labels[label] for label in labels if label in each.labels))): each.value
                for family in families
                for each in family.samples
                if "le" not in each.labels
            }

        assert service.http is not None
        assert scrape()["fed_em_serve_requests_total|sample|ok"] == 0  # there before the first
        for path, body in (
            ("/predict", {"rows": [{}, {}]}),
            ("/predict", {"rows": [{}] * 4}),
            ("/impute", {"rows": [{}]}),
            ("/sample", {"n": 2}),
        ):
            ask_http(service.http.port, path, body)
        monkeypatch.setattr(service.desk.live, "require", lambda: 1 / 0)
        assert ask_http(service.http.port, "/score", {"rows": [{}]})[0] == 500
        first = scrape()
        assert {name: first[f"fed_em_serve_requests_total|{name}"] for name in ("predict|ok", "predict|refused")} == {
            "predict|ok": 1,
            "predict|refused": 1,
        }
        assert first["fed_em_serve_requests_total|sample|ok"] == first["fed_em_serve_requests_total|score|failed"] == 1
        assert first["fed_em_serve_rows_total|predict"] == 2 and first["fed_em_serve_rows_total|score"] == 0
        assert first["fed_em_serve_seconds_count|predict"] == 2 and first["fed_em_serve_seconds_sum|predict"] > 0
        assert first["fed_em_model_info|first"] == 1 and first["fed_em_model_swaps_total"] == 0
        assert 3600 <= first["fed_em_model_age_seconds"] < 3700

        source.there = ("second", FITTED)  # nobody knows since when there is one
        live.look()
        second = scrape()
        assert second["fed_em_model_info|second"] == 1 and "fed_em_model_info|first" not in second
        assert second["fed_em_model_swaps_total"] == 1 and "fed_em_model_age_seconds" not in second
        assert undeclared(kept.metrics.registry, kept.metrics.values_of) == []
    assert seen.versions == ["first", "second"] and seen.broken == [("score", "ZeroDivisionError")]


def test_what_the_catalogue_admits_is_what_the_desk_tells() -> None:
    told = Seen()
    desk = Desk(LiveModel(ToldSource(("first", FITTED)), told), ServingLimits(), told)
    desk.live.look()
    (
        desk.predict(lambda: [{}]),
        desk.score(lambda: [{}]),
        desk.impute(lambda: ([{}], 0, None)),
        desk.sample(lambda: (1, None)),
    )
    assert tuple(method for method, *_ in told.requests) == METHODS
    refused = {Refusal.of(error).outcome for error in (CallerError("no"), EnvironmentFault("no"), ZeroDivisionError())}
    assert {"ok", *refused} == set(ANSWERS)


def test_how_old_a_model_is(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    save_model(folder, FITTED)
    os.utime(folder / MANIFEST_FILE, (1e9, 1e9))
    source = FolderSource(folder)
    assert source.made_at("whichever") == 1e9 and FolderSource(tmp_path / "none").made_at("any") is None

    registry = Registry(tmp_path / "registry")
    dates = ("2026-01-02T03:04:05+00:00", "2026-01-02T03:04:05", "")
    found = [
        RegistrySource(registry, "production").made_at(
            registry.add(random_mixture("mixed", seed=seed), Lineage.of_model(FITTED, created)).id
        )
        for seed, created in enumerate(dates)
    ]
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC).timestamp()
    assert found == [moment, moment, None] and RegistrySource(registry, "production").made_at("0" * 64) is None


def test_an_age_is_never_below_zero() -> None:
    source = ToldSource(("first", FITTED), {"first": 2e9})
    kept = ServingMetrics(source.made_at, lambda: 1e9)
    LiveModel(source, kept).look()
    assert scraped(kept.metrics)["fed_em_model_age_seconds"] == 0
