"""What a simulated federation hands to Flower: a server's file that says the same session, and tables that read as the records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from small_tables import tables_of

from fed_em import GaussianMixture, MixedMixture
from fed_em.errors import CallerError
from fed_em.records import Records
from fed_em_client.rows import read_records
from fed_em_server.configuration import read_server_configuration
from fed_em_simulations import Federation
from fed_em_simulations.flower_federation import _table_of, toml_of
from fed_em_simulations.session_of_tables import SessionOfTables, Target, session_of_tables
from fed_em_simulations.trouble import Dropout

MIXED = [
    {"age": [31.0, 52.0, None], "ward": ["north", "south", 'say "x"'], "visits": [0, 3, 1], "smokes": [0, 1, 1]},
    {"age": [40.5, 33.0], "ward": ["south", "north"], "visits": [5, 0], "smokes": [1, 0]},
    {"age": [28.0, 61.0], "ward": ["north", "north"], "visits": [1, 2], "smokes": [0, 0]},
]


def labelled() -> list[Records]:
    generator = np.random.default_rng(0)
    return [
        Records(table, generator.uniform(0.5, 1.5, len(table)), generator.random((len(table), 3)) < 0.9, 1.5)
        for table in tables_of(3)
    ]


@pytest.mark.parametrize(
    ("tables", "target"),
    [(tables_of(3), GaussianMixture(3)), (MIXED, MixedMixture(2)), (labelled(), GaussianMixture(3))],
    ids=["gaussian", "mixed", "labelled"],
)
def test_files_say_what_the_federation_says(tmp_path: Path, tables: Sequence[Any], target: Target) -> None:
    federation = Federation(tables, seed=9, mass_floor=0.0, max_iterations=7, colluders=0)
    about: SessionOfTables = session_of_tables(target, federation.tenants, tables, None, federation.title)
    said = federation._configuration(about)
    (tmp_path / "session.toml").write_text(toml_of(said), encoding="utf-8")
    read = read_server_configuration(tmp_path / "session.toml")
    assert read.description.to_json() == said.description.to_json()
    assert (read.fit.seed, read.fit.max_iterations, read.trust.colluders) == (9, 7, 0)
    for k, records in enumerate(about.records):
        path = tmp_path / f"{k}.parquet"
        pq.write_table(_table_of(records, about.description), path)
        found = read_records(path, about.description, {}, 1000)
        np.testing.assert_array_equal(found.rows, records.rows)
        if records.weights is not None and records.admissible is not None:
            np.testing.assert_array_equal(found.weights, records.weights)
            np.testing.assert_array_equal(found.admissible, records.admissible)


@pytest.mark.parametrize(
    "fields", [{"dropout": 0.1}, {"trouble": (Dropout(0.1),)}, {"workers": 2}, {"cipher": "costed"}]
)
def test_trouble_is_the_memory_engines_alone(fields: dict[str, Any]) -> None:
    with pytest.raises(CallerError, match=f"{next(iter(fields))} is a matter of the memory engine alone"):
        Federation(tables_of(3), engine="flower", **fields)


def test_other_engines_are_refused() -> None:
    with pytest.raises(CallerError, match="no engine 'steam'"):
        Federation(tables_of(3), engine="steam")  # type: ignore[arg-type]
