"""The page that lists every field of a scenario's file, from the settings' own classes."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from fed_em_protocols.configuration import Table
from fed_em_simulations.scenario import Scenario

PAGE = "docs/scenario-fields.md"

_HEAD = """\
# Fields of a scenario

Every field that the file of a [scenario](simulations.md#scenarios) may have, by the table that it is in; generated from the settings' own
classes by `make wire`. What has no default must be there. A key that is not here is refused. Where a table is of several kinds, one field
tells them apart.
"""

_BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
_WORDS = {int: "whole number", float: "number", str: "text", bool: "`true` or `false`", Path: "path"}


def scenario_fields_page() -> str:
    """All tables, each once, in the order in which they are met."""
    return "\n".join([_HEAD, *(_section(kind, places) for kind, places in tables().items())])


def tables() -> dict[type[Table], list[str]]:
    """Every table, and the dotted names under which it may stand; the file's own is under an empty one."""
    found: dict[type[Table], list[str]] = {Scenario: [""]}
    waiting = [Scenario]
    while waiting:
        kind = waiting.pop(0)
        for name, field in kind.model_fields.items():
            for inner in _tables_in(field.annotation):
                places = [f"{place}.{name}".lstrip(".") for place in found[kind]]
                if inner not in found:
                    found[inner] = []
                    waiting.append(inner)
                found[inner] += [place for place in places if place not in found[inner]]
    return found


def meaning(kind: type[Table], name: str) -> str:
    """What stands below a field, or what the class that its table is made into says of it; empty if neither says anything."""
    if _is_told_apart_by(kind.model_fields[name]):
        return "Which kind it is."
    owner = next(each for each in kind.__mro__ if name in vars(each).get("__annotations__", {}))
    return _below_fields(owner).get(name) or _attributes_of_another(owner).get(name, "")


def _tables_in(annotation: Any) -> Iterator[type[Table]]:
    if inspect.isclass(annotation) and issubclass(annotation, Table):
        yield annotation
    for each in get_args(annotation):
        yield from _tables_in(each)


def _section(kind: type[Table], places: list[str]) -> str:
    title = "The file" if kind is Scenario else ", ".join(f"`{place}`" for place in places)
    told = _discriminator(kind)
    about = inspect.cleandoc(kind.__doc__ or "").split("\n\n")[0].replace("\n", " ")
    about = re.sub(r"^See `[\w.]+`\.$", "", about)
    lines = [f"## {title}{f', {told}' if told else ''}", "", *([about, ""] if about else [])]
    lines += ["| field | value | default | |", "|---|---|---|---|"]
    for name, field in kind.model_fields.items():
        said = " ".join(meaning(kind, name).split())
        cells = [f"`{name}`", _value(field), _default(field), said]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join([*lines, ""])


def _discriminator(kind: type[Table]) -> str:
    """The field that tells a table's kind, as a file says it."""
    for name, field in kind.model_fields.items():
        if _is_told_apart_by(field):
            return f'`{name} = "{get_args(field.annotation)[0]}"`'
    return ""


def _is_told_apart_by(field: FieldInfo) -> bool:
    """Whether a field can say one thing only."""
    return get_origin(field.annotation) is Literal and len(get_args(field.annotation)) == 1


def _value(field: FieldInfo) -> str:
    return _in_words(field.annotation, field.metadata)


def _in_words(annotation: Any, metadata: Any = ()) -> str:
    inner = get_args(annotation)
    match get_origin(annotation):
        case origin if origin is Annotated:
            said = _in_words(inner[0], (*metadata, *inner[1:]))
        case origin if origin in (Union, UnionType):
            said = " or ".join(dict.fromkeys(_in_words(each, metadata) for each in inner if each is not type(None)))
        case origin if origin is Literal:
            said = ", ".join(f'`"{each}"`' for each in inner)
        case origin if origin is tuple:
            said = f"list of: {_in_words(inner[0])}"
        case origin if origin is dict:
            said = f"table of names and: {_in_words(inner[1])}"
        case _ if any(True for _ in _tables_in(annotation)):
            said = "table"
        case _:
            said = " ".join([_WORDS.get(annotation, "any value"), *_bounds(metadata)])
    return said


def _bounds(metadata: Any) -> Iterator[str]:
    for each in metadata:
        for inner in (each, *getattr(each, "metadata", ())):
            for name, sign in _BOUNDS.items():
                bound = getattr(inner, name, None)
                if bound is not None:
                    yield f"{sign} {bound:g}" if isinstance(bound, float) else f"{sign} {bound}"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return ""
    value = field.get_default(call_default_factory=True)
    if value is None or value is PydanticUndefined or value in ((), {}):
        return "none"
    if isinstance(value, Table):
        given = value.model_dump(exclude_defaults=True, mode="json")
        return f"`{_toml(given)}`" if given else "as below"
    return f"`{_toml(value)}`"


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{name} = {_toml(inner)}" for name, inner in value.items()) + " }"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)


@cache
def _below_fields(kind: type) -> dict[str, str]:
    """The strings that stand below a class' fields."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for field, below in zip(tree.body, tree.body[1:], strict=False):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(words))):
                found[name] = words
    return found


@cache
def _attributes_of_another(kind: type) -> dict[str, str]:
    """What the class that a docstring refers to says of its attributes."""
    referred = re.search(r"`(fed_em\w*(?:\.\w+)*)\.(\w+)`", kind.__doc__ or "")
    if referred is None:
        return {}
    other = getattr(importlib.import_module(referred[1]), referred[2])
    found: dict[str, str] = {}
    for each in reversed(other.__mro__):
        told = inspect.cleandoc(vars(each).get("__doc__") or "").partition("Attributes:\n")[2].split("\n\n")[0]
        for names, words in re.findall(r"^ {4}(\w[\w, ]*): (.*(?:\n {8}.*)*)", told, re.MULTILINE):
            found |= dict.fromkeys(names.split(", "), " ".join(words.split()))
    return found
