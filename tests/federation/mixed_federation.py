"""Small federations over tables of mixed columns, with labels and weights, for tests in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from small_federation import Recorder, memory_hub, session_toml, write_small_federation

from fed_em.columns import BernoulliColumn, CategoricalColumn, ColumnSchema, GaussianColumn, PoissonColumn
from fed_em.em import Fit, fit
from fed_em.mixed_mixture import MixedMixtureModel
from fed_em.parameters import Parameters
from fed_em.records import Records
from fed_em.standardised_fit import StandardisedFit
from fed_em.totals import TotalOfRows
from fed_em_client.rows import read_records
from fed_em_server.serve import open_server
from fed_em_server.session import SessionOutcome, run_session
from fed_em_simulations.federation_folder import FederationFolder, Matrix

Table = Mapping[str, Sequence[Any]]

SCHEMA = ColumnSchema(
    (
        CategoricalColumn("ward", ("north", "south", "west")),
        GaussianColumn("height"),
        PoissonColumn("visits", 40),
        BernoulliColumn("smoker"),
        GaussianColumn("weight"),
    )
)
TRUTH = Parameters(
    {
        "weights": [0.4, 0.35, 0.25],
        "means": [[170.0, 60.0], [180.0, 90.0], [160.0, 75.0]],
        "covariances": [[[36.0, 12.0], [12.0, 40.0]], [[30.0, -6.0], [-6.0, 60.0]], [[25.0, 5.0], [5.0, 30.0]]],
        "level_probabilities": [[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.2, 0.7, 0.1]],
        "success_probabilities": [[0.2], [0.7], [0.4]],
        "rates": [[1.5], [6.0], [12.0]],
    }
)
COLUMNS = """
[[columns]]
name = "ward"
kind = "categorical"
levels = ["north", "south", "west"]
missing = true
[[columns]]
name = "height"
low = 100
high = 250
missing = true
[[columns]]
name = "visits"
kind = "poisson"
upper = 40
missing = true
[[columns]]
name = "smoker"
kind = "bernoulli"
missing = true
[[columns]]
name = "weight"
low = 20
high = 200
missing = true
"""
MODEL = 'family = "mixed-mixture"\nn_components = 3\ncovariance = "{}"'
FIT = "tolerance = 1e-7\nmax_iterations = 12"
LABELS = '\n[labels]\ncolumn = "subtype"\n'
WEIGHTS = '\n[weights]\ncolumn = "counts"\nupper = 20\n'


def mixed_tables(sizes: Sequence[int], missing: float = 0.2, seed: int = 0) -> dict[str, Table]:
    """Tables of all kinds of columns with holes, labels of some rows and weights, by tenant; `t1` never saw a weight."""
    generator, model, tables = np.random.default_rng(seed), MixedMixtureModel(3, SCHEMA), {}
    for k, size in enumerate(sizes):
        rows, components = model.sample(TRUTH, size, generator)
        rows[generator.random(rows.shape) < missing] = np.nan
        if k == 1 and missing:
            rows[:, 4] = np.nan
        told = [
            None if u < 0.6 else str(component) if u < 0.8 else f"{component}|{(component + 1) % 3}"
            for u, component in zip(generator.random(size), components, strict=True)
        ]
        weights = generator.choice([0.0, 0.5, 1.0, 4.0, 17.25], size)
        tables[f"t{k}"] = {**SCHEMA.decode(rows), "subtype": told, "counts": weights.tolist()}
    return tables


def write_mixed_federation(
    folder: Path,
    tables: Mapping[str, Table],
    session: str,
    write: Callable[[Path, dict[str, Matrix], str], FederationFolder] = write_small_federation,
) -> FederationFolder:
    """A small federation, as `write` makes it, whose tenants hold these tables."""
    federation = write(folder, {name: np.zeros((1, 3)) for name in tables}, session)
    for name, table in tables.items():
        pq.write_table(pa.table({column: list(cells) for column, cells in table.items()}), federation.tenant(name).data)
    return federation


def mixed_session(
    covariance: str = "full", more: str = "", fit: str = FIT, columns: str = COLUMNS, trust: str = ""
) -> str:
    """A session over the tables' columns; `more` are tables of it besides, before [[columns]]."""
    return session_toml(MODEL.format(covariance) + more, fit, columns=columns, trust=trust)


def run(federation: FederationFolder) -> SessionOutcome:
    return run_session(open_server(federation.server).plan("memory"), memory_hub(federation), Recorder())


def records_of(federation: FederationFolder) -> Records:
    """What all tenants hold together, as each reads its own file."""
    description, caps = federation.server.description, federation.roster.row_caps
    tenants = [federation.tenant(name) for name in federation.tenant_files]
    return Records.concatenated(
        [read_records(one.data, description, one.columns, cap) for one, cap in zip(tenants, caps, strict=True)]
    )


def pooled_from_same_start(federation: FederationFolder, result: StandardisedFit) -> Fit:
    """Plain EM over all records, from where the federation started, in its coordinates."""
    server, records = federation.server, records_of(federation)
    model = server.description.fitted_model
    there = replace(records, rows=result.coordinates.apply(records.rows))
    return fit(model, TotalOfRows(model, there), result.start, server.fit.stopping)
