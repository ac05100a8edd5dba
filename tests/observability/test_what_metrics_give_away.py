"""The server's metrics say nothing of whose rows are whose."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_federation import clustered_rows

from fed_em_simulations.federation_folder import Matrix
from tests.observability.watched import SIZES, metrics_of, run, scraped, small


def seen_by_the_server(folder: Path, tenants: dict[str, Matrix]) -> dict[str, float]:
    """All that its metrics show after a session, but for what a clock or the session's own number decides."""
    federation = small(folder, tenants, fit="tolerance = 1e-9\nmax_iterations = 6")
    metrics = metrics_of(federation)
    metrics.finished(run(federation, metrics).record)
    found = scraped(metrics.metrics)
    return {name: value for name, value in found.items() if not {"seconds", "cost", "info"} & set(name_parts(name))}


def name_parts(name: str) -> list[str]:
    return name.split("{", maxsplit=1)[0].split("_")


def test_the_same_rows_dealt_to_other_tenants_show_the_same(tmp_path: Path) -> None:
    tenants = clustered_rows(SIZES)
    rows = np.random.default_rng(7).permutation(np.concatenate(list(tenants.values())))
    dealt = dict(zip(tenants, np.split(rows, np.cumsum(SIZES)[:-1]), strict=True))
    # Each tenant mostly held a cluster of its own, and now holds some of each.
    before, after = (np.array([each.mean(0) for each in of.values()]) for of in (tenants, dealt))
    assert before.std(0).mean() > 4 * after.std(0).mean()
    one = seen_by_the_server(tmp_path / "one", tenants)
    other = seen_by_the_server(tmp_path / "other", dealt)
    assert len(one) > 80 and one == pytest.approx(other, rel=1e-6, abs=1e-6)


def test_other_rows_show(tmp_path: Path) -> None:
    tenants = clustered_rows(SIZES)
    moved = {**tenants, "t0": tenants["t0"] * np.array([1.0, 2.0, 1.0])}
    one, other = seen_by_the_server(tmp_path / "one", tenants), seen_by_the_server(tmp_path / "other", moved)
    assert abs(one["fed_em_log_likelihood"] - other["fed_em_log_likelihood"]) > 1e-3
