"""Schemas as files that people edit: TOML, one table `[[columns]]` a column, with what was seen of it as a comment.

    [[columns]]
    name = "ward"
    kind = "categorical"          # or gaussian, bernoulli, poisson
    levels = ["north", "south"]   # of categorical columns
    # upper = 7                   # of Poisson columns: the largest count that is admitted

What stands there of an inferred schema, levels, largest counts and comments, are data of whoever holds the table. They are for
fits of one's own. A session's columns are agreed among its parties and declared in its file, whatever any of them has seen.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path

from fed_em.column_evidence import ColumnEvidence
from fed_em.columns import CategoricalColumn, Column, ColumnSchema, PoissonColumn, inferred_column
from fed_em.description import read_mapping
from fed_em.errors import CallerError, EnvironmentFault

_HEAD = "# Inferred from a table: correct it where it is wrong. Levels, counts and ranges here are its owner's data.\n"


def schema_to_toml(schema: ColumnSchema) -> str:
    """The text that `read_schema` reads."""
    return "\n".join(_table(column) for column in schema.columns)


def inferred_toml(evidence: Mapping[str, ColumnEvidence]) -> str:
    """The schema that follows from what was seen, to be shown and edited: columns that will not do are left out, saying why."""
    return "\n".join((_HEAD, *(_shown(name, seen) for name, seen in evidence.items())))


def read_schema(path: str | os.PathLike[str]) -> ColumnSchema:
    """The schema in a TOML file.

    Raises:
        CallerError: there is no such file, it is no TOML, or a key, kind or value is wrong.
        EnvironmentFault: it cannot be read.
    """
    try:
        document = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CallerError(f"there is no file {path}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CallerError(f"{path} is no valid TOML: {error}") from None
    except OSError as error:
        raise EnvironmentFault(f"cannot read {path}: {error.strerror}") from None
    try:
        return ColumnSchema.from_description(read_mapping("a schema", document, ("columns",))["columns"])
    except CallerError as error:
        raise CallerError(f"{path}: {error.message}", remedy=error.remedy) from None


def _table(column: Column) -> str:
    lines = ["[[columns]]", f"name = {_quoted(column.name)}", f'kind = "{column.kind}"']
    if isinstance(column, CategoricalColumn):
        lines.append(f"levels = [{', '.join(map(_quoted, column.levels))}]")
    elif isinstance(column, PoissonColumn):
        lines.append(f"upper = {column.upper:.17g}")
    return "\n".join(lines) + "\n"


def _shown(name: str, seen: ColumnEvidence) -> str:
    try:
        column = inferred_column(name, seen)
    except CallerError as error:
        return f"# Left out: {json.dumps(error.message)[1:-1]}.\n"
    span = f", from {seen.low:g} to {seen.high:g}" if seen.numeric else ""
    return f"# {seen.observed} cells{span}; {seen.missing} missing.\n{_table(column)}"


def _quoted(text: str) -> str:
    """A basic string of TOML: that of JSON, but for one control character that JSON does not escape."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
