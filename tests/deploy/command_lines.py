"""Command lines of `fed-em` as they stand in files, held against the real program."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import click
import typer.main

from fed_em_simulations.command_line import app


@cache
def program() -> click.Command:
    """`fed-em`, as Click has it."""
    return typer.main.get_command(app)


def check_command_line(words: Sequence[str], where: str) -> None:
    """Raise `AssertionError` unless the program takes these words, without the name of the program, up to the values of options."""
    command, path = program(), []
    rest = list(words)
    while isinstance(command, click.Group):
        name = rest.pop(0)
        found = command.commands.get(name)
        assert found is not None, f"{where}: there is no command `fed-em {' '.join([*path, name])}`"
        command, path = found, [*path, name]
    check_options(command, path, rest, where)


def check_command_name(words: Sequence[str], where: str) -> None:
    """Raise `AssertionError` unless the first of these words name a command, as far as there are groups of commands."""
    command, path = program(), []
    for word in words:
        if not isinstance(command, click.Group):
            return
        path.append(word)
        found = command.commands.get(word)
        assert found is not None, f"{where}: there is no command `fed-em {' '.join(path)}`"
        command = found


def check_options(command: click.Command, path: Sequence[str], rest: Sequence[str], where: str) -> None:
    """That its options are known, and that there are as many arguments as it takes."""
    options = {
        name: each
        for each in command.params
        if isinstance(each, click.Option)
        for name in (*each.opts, *each.secondary_opts)
    }
    arguments, words = [], list(rest)
    while words:
        word = words.pop(0)
        if not word.startswith("--"):
            arguments.append(word)
            continue
        name, _, value = word.partition("=")
        assert name in options or name == "--help", f"{where}: `fed-em {' '.join(path)}` has no {name}"
        if not value and name in options and not options[name].is_flag:
            assert words, f"{where}: {name} lacks its value"
            words.pop(0)
    takes = [each for each in command.params if isinstance(each, click.Argument)]
    fewest, most = sum(each.required for each in takes), sum(each.nargs if each.nargs > 0 else 999 for each in takes)
    assert fewest <= len(arguments) <= most, (
        f"{where}: `fed-em {' '.join(path)}` takes other arguments than {arguments}"
    )
