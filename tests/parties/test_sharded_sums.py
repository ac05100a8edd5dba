"""Statistics summed by several processes: the same bits whoever does it, in whatever order, and whoever is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fed_em.columns import CategoricalColumn, ColumnSchema, GaussianColumn
from fed_em.errors import CallerError, EnvironmentFault, FedEmError
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.mixed_mixture import MixedMixtureModel
from fed_em.parameters import Parameters
from fed_em.records import Records
from fed_em.statistics import Statistics
from fed_em.tenant_mixing import TenantMixing
from fed_em_client import sharded_sums
from fed_em_client.configuration import read_tenant_configuration
from fed_em_client.data_files import data_paths
from fed_em_client.sharded_sums import ShardedSums
from tests.fed_em.mixtures import parameters_of

MODEL, START = GaussianMixtureModel(3, 2), parameters_of("full")
ROWS = MODEL.sample(START, 7000, np.random.default_rng(0))[0]


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven shards of the rows."""
    monkeypatch.setattr(sharded_sums, "SHARD_RECORDS", 1000)


@pytest.fixture(scope="module")
def three() -> ShardedSums:
    """Three workers, whom several tests share, as starting them takes a second."""
    return ShardedSums(3)


def summed(sums: ShardedSums, rows: np.ndarray | Records = ROWS) -> bytes:
    return sums.e_step(MODEL, START, rows, MODEL.layout()).vector.tobytes()


def expected() -> bytes:
    total = Statistics.zero(MODEL.layout())
    for start in range(0, len(ROWS), 1000):
        total += MODEL.e_step(START, ROWS[start : start + 1000])
    return total.vector.tobytes()


def test_the_number_of_workers_changes_no_bit(three: ShardedSums) -> None:
    assert summed(ShardedSums(1)) == expected()
    assert summed(three) == expected()
    assert len(three.process_ids) == 3
    assert summed(ShardedSums(2)) == expected()


@pytest.mark.slow
def test_a_sum_over_shards_is_the_sum(three: ShardedSums) -> None:
    whole = MODEL.e_step(START, ROWS)
    np.testing.assert_allclose(three.e_step(MODEL, START, ROWS, MODEL.layout()).vector, whole.vector, rtol=1e-11)
    bounds = MODEL.layout(np.array([9.0, 9.0]))
    assert three.e_step(MODEL, START, ROWS, bounds).layout == bounds


def test_few_rows_need_no_worker() -> None:
    sums = ShardedSums(3)
    assert summed(sums, ROWS[:1000]) == MODEL.e_step(START, ROWS[:1000]).vector.tobytes()
    assert np.frombuffer(summed(sums, ROWS[:0])).sum() == 0
    assert sums.process_ids == ()


def test_other_rows_are_sent_anew(three: ShardedSums) -> None:
    summed(three)
    moved = ROWS + 1.0
    assert summed(three, moved) == summed(ShardedSums(1), moved)
    assert summed(three) == expected()


def test_weights_labels_and_missing_cells_are_sent(three: ShardedSums) -> None:
    generator = np.random.default_rng(1)
    schema = ColumnSchema((GaussianColumn("a"), CategoricalColumn("b", ("x", "y"))))
    model = MixedMixtureModel(2, schema)
    parameters = Parameters(
        {
            "weights": np.array([0.4, 0.6]),
            "means": np.array([[-1.0], [1.0]]),
            "covariances": np.ones((2, 1, 1)),
            "level_probabilities": np.array([[0.3, 0.7], [0.8, 0.2]]),
        }
    )
    rows = model.sample(parameters, 3500, generator)[0]
    rows[generator.random(rows.shape) < 0.2] = np.nan
    admissible = generator.random((3500, 2)) < 0.8
    admissible[~admissible.any(axis=1)] = True
    records = Records(rows, generator.random(3500), admissible, 2.0)
    found = [sums.e_step(model, parameters, records, model.layout()).vector for sums in (ShardedSums(1), three)]
    assert found[0].tobytes() == found[1].tobytes()
    np.testing.assert_allclose(found[0], model.e_step(parameters, records).vector, rtol=1e-11)


def test_a_tenants_own_weights_are_of_all_shards(three: ShardedSums) -> None:
    model = replace(MODEL, mixing=TenantMixing(2.0))
    whole = model.e_step(START, ROWS, model.layout(np.array([9.0, 9.0])))
    found = [sums.e_step(model, START, ROWS, whole.layout) for sums in (ShardedSums(1), three)]
    assert found[0].vector.tobytes() == found[1].vector.tobytes() and found[0].layout == whole.layout
    np.testing.assert_allclose(found[0].vector, whole.vector, rtol=1e-11)


def test_a_worker_killed_in_mid_round_is_replaced_and_no_bit_changes() -> None:
    """It is stopped first: so it has not answered when it is killed, and the sum has been waiting for it."""
    sums = ShardedSums(2)
    assert summed(sums) == expected()
    lost = sums.process_ids[0]
    os.kill(lost, signal.SIGSTOP)
    killing = threading.Timer(0.3, os.kill, (lost, signal.SIGKILL))
    began = time.monotonic()
    killing.start()
    assert summed(sums) == expected()
    assert time.monotonic() - began > 0.3
    assert lost not in sums.process_ids and len(sums.process_ids) == 2
    os.kill(sums.process_ids[1], signal.SIGKILL)
    assert summed(sums) == expected()


def test_workers_that_always_end_are_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", ""], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    monkeypatch.setattr(sharded_sums, "_start", start)
    with pytest.raises(EnvironmentFault, match=r"ended 3 times.*workers = 1"):
        summed(ShardedSums(2))


def test_what_cannot_be_summed_is_told_and_the_workers_live_on(three: ShardedSums) -> None:
    holes = np.where(np.arange(len(ROWS))[:, np.newaxis] == 4500, np.nan, ROWS)
    with pytest.raises(FedEmError, match="not finite"):
        summed(three, holes)
    before = three.process_ids
    assert summed(three) == expected()
    assert three.process_ids == before


def test_workers_end_with_their_tenant() -> None:
    sums = ShardedSums(2)
    summed(sums)
    processes = [worker.process for worker in sums._workers]
    del sums
    assert all(process is not None and process.wait(10) is not None for process in processes)


class TestFiles:
    def test_a_folder_and_a_list_are_files_in_order(self, tmp_path: Path) -> None:
        for name in ("b.csv", "a.parquet", "c.npy", "notes.txt"):
            (tmp_path / name).touch()
        inside = tuple(tmp_path / name for name in ("a.parquet", "b.csv", "c.npy"))
        assert data_paths(tmp_path) == inside
        assert data_paths([tmp_path / "c.npy", tmp_path]) == (tmp_path / "c.npy", *inside)
        assert data_paths(tmp_path / "b.csv") == (tmp_path / "b.csv",)
        (tmp_path / "empty").mkdir()
        for nothing in (tmp_path / "empty", []):
            with pytest.raises(CallerError, match=r"no (data )?file"):
                data_paths(nothing)

    def test_a_tenants_file_names_them(self, tmp_path: Path) -> None:
        path = tmp_path / "tenant.toml"
        head = f'name = "north"\nroster_hash = "{"0" * 64}"\n'
        path.write_text(f'{head}data = ["a.csv", "more"]\nworkers = 3\n')
        found = read_tenant_configuration(path)
        assert found.data == (tmp_path / "a.csv", tmp_path / "more") and found.workers == 3
        path.write_text(f'{head}data = "rows"\n')
        assert read_tenant_configuration(path).data == tmp_path / "rows"
        path.write_text(f'{head}data = "rows"\nworkers = 0\n')
        with pytest.raises(CallerError, match="workers"):
            read_tenant_configuration(path)
