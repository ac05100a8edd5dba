"""A simulated federation in Flower's simulation runtime: tables, keys and configuration in a folder, tenants inside the ClientApps."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa

from fed_em.errors import FedEmError
from fed_em.model_file import load_model
from fed_em.records import Records
from fed_em_protocols.description import SessionDescription
from fed_em_server.configuration import ServerConfiguration
from fed_em_server.record import RECORD_FILE, SessionRecord
from fed_em_server.serve import MODEL_FOLDER
from fed_em_simulations.federation_folder import write_federation_folder
from fed_em_simulations.federation_outcome import FederationOutcome
from fed_em_simulations.flower_fleet import FlowerSimulation
from fed_em_simulations.session_of_tables import SessionOfTables
from fed_em_simulations.work import NO_WORK

# Nobody dials it: tickets say where the coordinator listens.
_NOWHERE = "127.0.0.1:1"


def fit_under_flower(
    configuration: ServerConfiguration, names: Sequence[str], about: SessionOfTables, row_cap: int, block_size: int
) -> FederationOutcome:
    """One session in the simulation runtime.

    Raises:
        EnvironmentFault: Flower or Ray do not run here, or the session failed; names the log's last words.
    """
    description = about.description
    tables = {name: _table_of(records, description) for name, records in zip(names, about.records, strict=True)}
    with TemporaryDirectory(prefix="fed-em-") as temporary:
        home = Path(temporary)
        federation = write_federation_folder(
            home / "federation", "simulation", toml_of(configuration), description.names, tables, row_cap, _NOWHERE,
            block_size, _policy(configuration),
        )  # fmt: skip
        with FlowerSimulation(home / "flower", len(names)) as simulation:
            simulation.run(federation.session_file, federation=federation.folder)
        output = federation.server.output
        record = SessionRecord.model_validate_json((output / RECORD_FILE).read_bytes())
        fitted = load_model(output / MODEL_FOLDER)
    return FederationOutcome(
        record=record,
        terms=None,
        failure="",
        seconds=record.seconds,
        seconds_to_last_sum=sum(opened.seconds for opened in record.rounds),
        seconds_by_phase={},
        bytes_up=(),
        bytes_down=(),
        tenant_work=NO_WORK,
        server_work=NO_WORK,
        accusations=(),
        left={},
        result=None,
        fitted=fitted,
    )


def _policy(configuration: ServerConfiguration) -> str:
    """Each tenant's `[policy]`, which admits the session."""
    trust = configuration.trust
    lines = [
        f"allow_semi_honest = {json.dumps(trust.mode == 'semi-honest')}",
        f'difference_guard = "{trust.difference_guard}"',
    ]
    lines += [] if trust.colluders is None else [f"colluders = {trust.colluders}"]
    return "\n".join([*lines, f"round_cap = {100 + 6 * configuration.fit.max_iterations}"])


def toml_of(configuration: ServerConfiguration) -> str:
    """A server's file that says the same."""
    said = configuration.model_dump(mode="json", exclude_unset=True, exclude_none=True)
    return "\n".join(f"{key} = {_toml(value)}" for key, value in said.items()) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        inside = ", ".join(f"{json.dumps(key)} = {_toml(each)}" for key, each in value.items() if each is not None)
        return f"{{ {inside} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, str | bool):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, int | float):
        return repr(value)
    raise FedEmError(f"a {type(value).__name__} is no value of a configuration")


def _table_of(records: Records, description: SessionDescription) -> pa.Table:
    """A tenant's file: levels as labels, missing cells as nulls, weights and partial labels in columns of their own."""
    columns: dict[str, Any] = dict(description.schema_of_columns.decode(records.rows))
    if description.weights is not None:
        columns[description.weights.column] = records.weights
    if description.labels is not None and records.admissible is not None:
        columns[description.labels.column] = ["|".join(map(str, np.flatnonzero(row))) for row in records.admissible]
    return pa.table(columns)
