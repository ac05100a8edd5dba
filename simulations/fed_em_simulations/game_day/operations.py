"""Drills of operating: rows that drift, memory, tenants that lag, rounds that are refused."""

from __future__ import annotations

import tempfile
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from fed_em.em import Stopping
from fed_em.errors import FedEmError
from fed_em.estimators import GaussianMixture
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.model_file import save_model
from fed_em.reference import edges_of
from fed_em.table_files import open_table
from fed_em_client.take_part import open_tenant
from fed_em_client.tenant_session import TenantSession
from fed_em_server.configuration import TimesTable
from fed_em_server.operate.drift import Thresholds, drift_between
from fed_em_server.serve import open_server
from fed_em_server.session import run_session
from fed_em_simulations.distributions import OneApart
from fed_em_simulations.federation import Federation
from fed_em_simulations.federation_folder import FederationFolder, write_federation_folder
from fed_em_simulations.federation_outcome import FederationOutcome
from fed_em_simulations.game_day.drill import Drill, DrillLog, Finding
from fed_em_simulations.game_day.fits import corners
from fed_em_simulations.memory_hub import MemoryHub
from fed_em_simulations.trouble import Stragglers
from fed_em_simulations.volatile_marks import VolatileMarks


def drift() -> Finding:
    """One column moves by two standard deviations: measured against the reference, as `fed-em operate` does, it is found."""
    before = Federation(corners(160, 3, seed=3), seed=3, starts=20, stopping=Stopping(1e-4, 30))
    moved = [rows + np.array([1.0, 0.0]) for rows in corners(160, 3, seed=4)]
    target, rule = GaussianMixtureModel(4, 2), Thresholds()
    current = before.fit(target).model
    edges = edges_of(current)
    reference = before.measure([current], edges)
    fresh = replace(before, tables=moved, seed=4)
    found = drift_between(reference, fresh.measure([current], edges), current.schema, rule.significance)
    with tempfile.TemporaryDirectory() as folder:
        save_model(folder, current)
        renewed = replace(fresh, start=folder, starts=None).fit(target).model
    # Rows that neither model was fitted to.
    later = replace(before, tables=[rows + np.array([1.0, 0.0]) for rows in corners(160, 3, seed=5)], seed=5)
    both = later.measure([current, renewed], edges)
    left = drift_between(reference, replace(both, models=both.models[1:]), renewed.schema, rule.significance).drop
    lines = [f"likelihood drop {found.drop.value:.2f} +- {found.drop_error:.2f} nats a record"]
    for name, column in found.columns.items():
        ks = "" if column.ks is None else f", KS {column.ks.value:.2f} where {column.ks.critical:.2f} are chance"
        lines.append(f"{name}: PSI {column.psi.value:.2f} where {column.psi.critical:.2f} are chance{ks}")
    lines.append(f"score {rule.score(found):.1f} ({rule.worst(found)})")
    return Finding(
        rule.score(found) >= 1,
        f"score {rule.score(found):.1f}, likelihood drop {found.drop.value:.2f} nats a record",
        left.value < rule.drop + max(left.critical, 0.0),
        f"a drop of {left.value:.2f} after a retrain",
        tuple(lines),
    )


def memory() -> Finding:
    """A table as large as memory is fitted from its file, block by block, and not as one array."""
    rows = np.random.default_rng(5).standard_normal((400_000, 8))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.parquet"
        names = [f"x{d}" for d in range(rows.shape[1])]
        pyarrow.parquet.write_table(pa.table(dict(zip(names, rows.T, strict=True))), path, row_group_size=2**15)
        size = rows.nbytes
        del rows

        def as_array() -> object:
            table = pyarrow.parquet.read_table(path)
            return _small_fit().fit(np.column_stack([column.to_numpy() for column in table.columns]))

        whole = _peak(as_array)
        streamed = _peak(lambda: _small_fit().fit(open_table(path)))
    return Finding(
        whole > 1.5 * size,
        f"{whole / size:.1f} times the table's {size / 2**20:.0f} MB",
        streamed < whole / 2,
        f"{streamed / size:.1f} times",
        (f"fit(array): a peak of {whole / 2**20:.0f} MB", f"fit(open_table(path)): {streamed / 2**20:.0f} MB"),
    )


def _small_fit() -> GaussianMixture:
    return GaussianMixture(
        n_components=2, covariance_type="diag", max_iter=3, tol=1e6, random_state=0, init_params="random_from_data"
    )


def _peak(work: Callable[[], object]) -> int:
    """Bytes that Python and NumPy held at most while it went on."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def stragglers() -> Finding:
    """One of nine tenants takes 25 seconds for each upload, and everybody waits for it."""
    tables = corners(40, 9, seed=6)
    log = DrillLog()

    def seconds_a_round(times: TimesTable) -> float:
        federation = Federation(
            tables,
            starts=0,
            colluders=1,
            block_size=3,
            optimiser="em",
            deadlines=times,
            stopping=Stopping(1e-4, 8),
            trouble=[Stragglers(OneApart(0.0, 25.0, tenant=4))],
            watchers=(log,),
        )
        outcome: FederationOutcome = federation.fit(GaussianMixtureModel(4, 2))
        return float(np.median([each.seconds for each in outcome.rounds]))

    before, lines = seconds_a_round(TimesTable(quorum=1.0)), log.lines
    after = seconds_a_round(TimesTable(quorum=0.75, straggler=2.0))
    late = tuple(line for line in log.lines[len(lines) :] if "missed the cut-off" in line)
    return Finding(
        before > 20,
        f"{before:.1f} s a round",
        after < 5 and bool(late),
        f"{after:.2f} s a round, its block's terms left out",
        (*lines, *late),
    )


def refused_rounds() -> Finding:
    """A tenant's policy admits models of two components, and the session is about three: one block, so there is no sum at all."""
    rows = {f"clinic-{name}": table for name, table in zip("abc", corners(40, 3, seed=7), strict=True)}

    def ended(policy: str) -> tuple[bool, tuple[str, ...]]:
        log = DrillLog()
        with tempfile.TemporaryDirectory() as folder:
            federation = write_federation_folder(
                Path(folder) / "clinics", "clinics", _SESSION, ("x0", "x1"), rows, 1000, "127.0.0.1:1"
            )
            file = federation.tenant_files["clinic-b"]
            file.write_text(
                file.read_text(encoding="utf-8").replace("[policy]", f"[policy]\n{policy}"), encoding="utf-8"
            )
            try:
                run_session(open_server(federation.server).plan("memory"), _hub(federation), log)
            except FedEmError as error:
                return False, (*log.lines, *error.diagnostics().splitlines())
        return True, log.lines

    fitted, lines = ended("components = 2")
    mended, _ = ended("components = 3")
    return Finding(
        not fitted and any("clinic-b" in line and "refuse" in line for line in lines),
        "no sum: clinic-b refuses the session",
        mended,
        "fitted" if mended else "still refused",
        lines,
    )


_SESSION = """\
title = "refused"
listen = "127.0.0.1:0"
output = "result"
[fit]
tolerance = 1e-4
max_iterations = 10
starts = 0
[times]
gather = 10
pause = 20
[model]
family = "gaussian-mixture"
n_components = 3
covariance = "full"
[[columns]]
name = "x0"
low = -20
high = 20
[[columns]]
name = "x1"
low = -20
high = 20
"""


def _hub(federation: FederationFolder) -> MemoryHub:
    def start(name: str) -> Callable[[], TenantSession]:
        tenant, marks = open_tenant(federation.tenant(name)), VolatileMarks()
        return lambda: tenant.session(marks, tenant.work(marks))

    return MemoryHub([start(name) for name in federation.tenant_files], 0.01)


DRILLS = (
    Drill(
        "drift",
        "fresh rows differ from the reference of the model in use by more than chance gives",
        ("fed_em_drift_score", "fed_em_likelihood_drop", "fed_em_drift_psi", "fed_em_drift_ks"),
        "fit again over fresh rows, from the model in use",
        drift,
    ),
    Drill(
        "memory",
        "a process needs several times the size of its table, and is killed",
        ("process_resident_memory_bytes",),
        "read rows block by block (open_table), or by shards",
        memory,
    ),
    Drill(
        "stragglers",
        "rounds take as long as one tenant does",
        ("fed_em_round_seconds", "fed_em_phase_seconds", "fed_em_stragglers_total"),
        "a quorum below 1 and a short straggler time under [times]",
        stragglers,
    ),
    Drill(
        "refused-rounds",
        "a tenant links and refuses, and the session waits for it in vain",
        ("fed_em_refusals_total", "fed_em_tenant_refusals_total", "fed_em_session_stage"),
        "agree on the session or on the policy; the tenant's own log says which rule",
        refused_rounds,
    ),
)
