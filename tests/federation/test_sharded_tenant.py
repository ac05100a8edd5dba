"""A session with a tenant whose rows lie in several files and are summed by several processes, one of which is killed."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from small_federation import (
    COLUMNS,
    Recorder,
    clustered_rows,
    memory_hub,
    session_toml,
    write_small_federation,
)

from fed_em.layout import Layout
from fed_em.model import Model
from fed_em.parameters import Parameters
from fed_em.records import Records
from fed_em.statistics import Statistics
from fed_em_client import sharded_sums
from fed_em_client.sharded_sums import ShardedSums
from fed_em_server.serve import open_server
from fed_em_server.session import run_session
from fed_em_simulations.federation_folder import FederationFolder

TENANTS = clustered_rows((60, 300, 50))


def federation_in(folder: Path, workers: int) -> FederationFolder:
    """The second tenant's rows in a folder of two files, to be summed by so many processes."""
    federation = write_small_federation(folder, TENANTS, session_toml(fit="tolerance = 1e-7\nmax_iterations = 8"))
    file = federation.tenant_files["t1"]
    whole = federation.tenant("t1").data
    assert isinstance(whole, Path)
    whole.unlink()
    parts = whole.parent / "parts"
    parts.mkdir()
    table = pa.table(dict(zip(COLUMNS, TENANTS["t1"].T, strict=True)))
    pyarrow.csv.write_csv(table.slice(0, 111), parts / "1.csv")
    pyarrow.parquet.write_table(table.slice(111), parts / "2.parquet")
    text = file.read_text().replace(f'data = "{whole.name}"', f'data = "parts"\nworkers = {workers}')
    file.write_text(text)
    return federation


def fitted(federation: FederationFolder) -> dict[str, bytes]:
    outcome = run_session(open_server(federation.server).plan("memory"), memory_hub(federation), Recorder())
    assert outcome.result.fit.iterations[-1].records == 410
    return {name: array.tobytes() for name, array in outcome.result.fit.parameters.items()}


@pytest.mark.slow
def test_a_worker_killed_in_mid_round_changes_no_bit_of_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharded_sums, "SHARD_RECORDS", 64)
    alone = fitted(federation_in(tmp_path / "alone", 1))
    real, rounds, lost = ShardedSums.e_step, [0], []

    def e_step(
        self: ShardedSums, model: Model, at: Parameters, records: np.ndarray | Records, layout: Layout
    ) -> Statistics:
        rounds[0] += len(records) == 300
        if len(records) == 300 and rounds[0] == 4:
            victim = self.process_ids[1]
            # Stopped, it cannot answer before it is killed.
            os.kill(victim, signal.SIGSTOP)
            threading.Timer(0.2, os.kill, (victim, signal.SIGKILL)).start()
            summed = real(self, model, at, records, layout)
            assert victim not in self.process_ids
            lost.append(victim)
            return summed
        return real(self, model, at, records, layout)

    monkeypatch.setattr(ShardedSums, "e_step", e_step)
    assert fitted(federation_in(tmp_path / "three", 3)) == alone
    assert len(lost) == 1 and rounds[0] > 4
