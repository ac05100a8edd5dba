"""A scenario: an experiment, what of it is swept, and how often it is repeated; from a TOML file, or made in Python.

    title = "…"
    question = "…"
    replicates = 3                                            # seeds seed, seed + 1, …
    seed = 0

    [experiment]                                              # of one of the kinds below
    experiment = "methods"
    …

    [sweep]                                                   # every combination of these values; dotted names of fields
    "data.heterogeneity.mixing.concentration" = [100, 0.3]    # or lists and tables, of fields that are

A *cell* is one combination and one replicate. It has all its settings and a key, a hash of them, so that a
result is known by what it is of.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, JsonValue, TypeAdapter, ValidationError

import fed_em
from fed_em.errors import CallerError
from fed_em_protocols.configuration import Table, read_toml, validated
from fed_em_simulations.experiments import AnyExperiment
from fed_em_simulations.results import Row, Value, text_of

# Raised whenever the same settings would give other rows.
_FORMAT = 2

_MOST_CELLS = 10_000


@dataclass(frozen=True)
class Cell:
    """One run: an experiment with all its settings, and a replicate.

    Attributes:
        experiment: The settings.
        swept: Value of each swept field.
        replicate: From 0 on.
        seed: What it runs from.
    """

    experiment: AnyExperiment
    """What is run."""
    swept: Mapping[str, JsonValue]
    replicate: int
    seed: int

    @property
    def key(self) -> str:
        """A hash of the settings, the content of a table, the seed and the version of this package: 16 hexadecimal digits."""
        settings, content = self.experiment.model_dump(mode="json"), self.experiment.data.content
        told = [_FORMAT, fed_em.__version__, settings, content, self.seed]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]

    def run(self) -> list[Row]:
        """Its rows, without what the cell is known by."""
        return self.experiment.run(self.seed)


class Scenario(Table):
    """What a file states. Every combination of swept values is checked when it is made."""

    title: Annotated[str, Field(min_length=1)]
    """Of the report."""
    question: str = ""
    """What it answers, in a sentence or two; the report begins with it."""
    replicates: Annotated[int, Field(ge=1, le=1000)] = 1
    """How often everything is run, each time from the next seed."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of the first replicate; everything that is drawn follows from it."""
    experiment: AnyExperiment
    """What is run."""
    sweep: Annotated[dict[str, Annotated[tuple[JsonValue, ...], Field(min_length=1)]], Field(default_factory=dict)]
    """Values of fields of the experiment, by dotted name; every combination is run."""

    @property
    def keys(self) -> tuple[str, ...]:
        """Columns of the results that say what a row is of."""
        return (*self.sweep, *self.experiment.keys)

    def labels(self, swept: Mapping[str, JsonValue]) -> dict[str, Value]:
        """Swept values as columns of results have them: as they are if all of a field are numbers or truth values, else as text."""
        return {
            name: value if all(isinstance(each, int | float) for each in self.sweep[name]) else _text(value)  # type: ignore[misc]
            for name, value in swept.items()
        }

    def cells(self) -> tuple[Cell, ...]:
        """All runs: combinations in the order of the file, replicates last.

        Raises:
            CallerError: a swept value is not admissible, or a swept field does not exist.
        """
        document = self.experiment.model_dump(mode="json", exclude_unset=True)
        combinations = [dict(zip(self.sweep, values, strict=True)) for values in product(*self.sweep.values())]
        if len(combinations) * self.replicates > _MOST_CELLS:
            raise CallerError(
                f"{len(combinations)} combinations of swept values, {self.replicates} times each, are more than {_MOST_CELLS} runs",
                remedy="sweep fewer values",
            )
        experiments = [_with(document, swept) for swept in combinations]
        return tuple(
            Cell(experiment, swept, replicate, self.seed + replicate)
            for swept, experiment in zip(combinations, experiments, strict=True)
            for replicate in range(self.replicates)
        )


def read_scenario(path: str | Path, changes: Mapping[str, Any] | None = None) -> Scenario:
    """Read a scenario's file. Paths in it are relative to it.

    Args:
        path: A TOML file.
        changes: Values to put in place of the file's, by dotted name: of a swept field, which takes a list too; of another field of the
            experiment; or of the scenario itself, such as `replicates`.

    Raises:
        CallerError: the file is missing or no TOML, or a key or value is wrong, also of a swept field; names it.
    """
    path = Path(path)
    document = read_toml(path)
    sweep = document.get("sweep")
    for name, value in (changes or {}).items():
        if isinstance(sweep, dict) and name in sweep:
            sweep[name] = value if isinstance(value, list) else [value]
        else:
            path_of_field = name.split(".")
            own = path_of_field[0] in Scenario.model_fields
            _put(document, path_of_field if own else ["experiment", *path_of_field], value)
    table = document.get("experiment")
    data = table.get("data") if isinstance(table, dict) else None
    if isinstance(data, dict) and isinstance(data.get("table"), str):
        data["table"] = str(path.parent / data["table"])
    scenario = validated(path, document, Scenario)
    try:
        scenario.cells()
    except CallerError as error:
        raise CallerError(f"{path}: {error.message}", remedy=error.remedy) from None
    return scenario


def _with(document: Mapping[str, Any], swept: Mapping[str, JsonValue]) -> AnyExperiment:
    changed = deepcopy(dict(document))
    for name, value in swept.items():
        _put(changed, name.split("."), value)
    try:
        found: AnyExperiment = TypeAdapter(AnyExperiment).validate_python(changed)
    except ValidationError as error:
        told = ", ".join(f"{name} = {value}" for name, value in swept.items())
        detail = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in detail["loc"])
        raise CallerError(
            f"with {told}: {where}: {detail['msg'].removeprefix('Value error, ')}",
            remedy="sweep fields of the experiment by their dotted names, and values that they admit",
        ) from None
    return found


def _put(document: dict[str, Any], path: Sequence[str], value: Any) -> None:
    """Put a value at a dotted name; numbers in it count from 0 in lists."""
    inner: Any = document
    for depth, part in enumerate(path, 1):
        if isinstance(inner, list) and part.isdecimal() and int(part) < len(inner):
            place: Any = int(part)
        elif isinstance(inner, dict):
            place = part
        else:
            raise CallerError(f"'{'.'.join(path)}' names no field: '{part}' is not in a table or list")
        if depth == len(path):
            inner[place] = value
        else:
            inner = inner.setdefault(place, {}) if isinstance(inner, dict) else inner[place]


def _text(value: JsonValue) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(map(_text, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {_text(inner)}" for name, inner in value.items()) + "}"
    return text_of(value)
