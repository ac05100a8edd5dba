"""Files that people write: TOML, validated by pydantic, with errors that name the key and the nearest valid one."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from fed_em.errors import CallerError, EnvironmentFault


class Table(BaseModel):
    """A table of a configuration file: frozen, and strict about its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


T = TypeVar("T", bound=Table)


def read_configuration(path: Path, kind: type[T]) -> T:
    """Read and validate a TOML file.

    Raises:
        CallerError: the file is missing, is no TOML, or a key or value is wrong. The error names the file, the key
            and, for an unknown key, the nearest valid one.
    """
    return validated(path, read_toml(path), kind)


def validated(path: Path, document: object, kind: type[T]) -> T:
    """What a file says, as a table.

    Args:
        path: The file, for errors.
        document: What it says, or what was made of that.
        kind: The table.

    Raises:
        CallerError: a key or value is wrong; as `read_configuration`.
    """
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        raise _as_caller_error(path, kind, error) from None


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file, whatever its keys.

    Raises:
        CallerError: the file is missing or is no TOML; names it.
        EnvironmentFault: it cannot be read.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CallerError(f"there is no file {path}") from None
    except IsADirectoryError:
        raise CallerError(f"{path} is a folder", remedy="name the TOML file in it") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CallerError(f"{path} is no valid TOML: {error}") from None
    except OSError as error:
        raise EnvironmentFault(f"cannot read {path}: {error.strerror}") from None


def complaint_of(error: ValidationError) -> str:
    """The first thing that a validation complains about, with its place: "tenants.0.name: …"."""
    detail = error.errors(include_input=False, include_url=False)[0]
    where = ".".join(str(part) for part in detail["loc"])
    return f"{where}: {_message_of(detail)}" if where else _message_of(detail)


def _message_of(detail: ErrorDetails) -> str:
    """Pydantic's words, without its prefix for what our own validators say."""
    return detail["msg"].removeprefix("Value error, ")


def _as_caller_error(path: Path, kind: type[Table], error: ValidationError) -> CallerError:
    found = error.errors(include_input=False, include_url=False)
    unknown = next((detail for detail in found if detail["type"] == "extra_forbidden"), None)
    detail = unknown or found[0]
    key = ".".join(str(part) for part in detail["loc"]) or "the file"
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    if unknown is None:
        return CallerError(f"{path}: {key}: {_message_of(detail)}{more}")
    valid = _valid_keys(kind, detail)
    nearest = difflib.get_close_matches(str(detail["loc"][-1]), valid, n=1, cutoff=0.4)
    remedy = f"did you mean '{nearest[0]}'?" if nearest else f"valid keys here: {', '.join(sorted(valid))}"
    return CallerError(f"{path}: unknown key '{key}'{more}", remedy=remedy)


def _valid_keys(kind: type[Table], detail: ErrorDetails) -> list[str]:
    """The keys of the table in which an unknown key was found."""
    table: type[BaseModel] = kind
    for part in detail["loc"][:-1]:
        if isinstance(part, str) and part in table.model_fields:
            nested = _table_in(table.model_fields[part].annotation)
            table = nested or table
    return list(table.model_fields)


def _table_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for argument in get_args(annotation) if (found := _table_in(argument))), None)
