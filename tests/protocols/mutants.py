"""Mutants: a piece of a function's source is replaced, and named tests must notice."""

from __future__ import annotations

import inspect
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import pytest

Red = Callable[[], object]


@dataclass(frozen=True)
class Mutation:
    """`old` becomes `new` in the source of `where` (a function, or what `method` gives), and each of `turns_red` must fail."""

    name: str
    where: Callable[..., Any]
    old: str
    new: str
    turns_red: tuple[Red, ...]

    def __str__(self) -> str:
        return self.name


def test_of(function: Callable[..., object], *arguments: Any) -> Red:
    """A named test with its arguments; a property-based one runs with all its examples."""
    return lambda: function(*arguments)


test_of.__test__ = False  # type: ignore[attr-defined]


def method(owner: type, name: str) -> FunctionType:
    """The plain function behind a method, class method or cached property."""
    found = inspect.getattr_static(owner, name)
    found = getattr(found, "__func__", None) or getattr(found, "func", None) or getattr(found, "fget", None) or found
    assert isinstance(found, FunctionType)
    return found


def put_in_place(patch: pytest.MonkeyPatch, original: Callable[..., Any], mutant: FunctionType) -> None:
    """Bind the mutant wherever the original is bound: in its class, and in every module that imported it."""
    *owner, name = original.__qualname__.split(".")
    if owner:
        patch.setattr(getattr(sys.modules[original.__module__], owner[0]), name, mutant)
        return
    for module in [m for key, m in sys.modules.items() if key.startswith(("fed_em", "tests."))]:
        for bound, value in list(vars(module).items()):
            if value is original:
                patch.setattr(module, bound, mutant)
            elif isinstance(value, dict) and original in [v for v in value.values() if isinstance(v, FunctionType)]:
                for key in [k for k, v in value.items() if v is original]:
                    patch.setitem(value, key, mutant)


def mutant_of(mutation: Mutation) -> FunctionType:
    """The changed function. Fails if the piece to replace does not stand exactly once in the source."""
    source = textwrap.dedent(inspect.getsource(mutation.where))
    assert source.count(mutation.old) == 1, (
        f"{mutation.old!r} stands {source.count(mutation.old)} times in {mutation.where}"
    )
    scope: dict[str, Any] = {}
    exec(compile(source.replace(mutation.old, mutation.new), mutation.name, "exec"), mutation.where.__globals__, scope)
    (mutant,) = scope.values()
    assert isinstance(mutant, FunctionType)
    return mutant


def goes_red(red: Red) -> bool:
    """Whether a test fails: by an assertion, by an error, or because something was not raised."""
    try:
        red()
    except (Exception, pytest.fail.Exception):
        return True
    return False
