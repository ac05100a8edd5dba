"""Pages of the documentation as programs: their marked blocks, run in order and in one folder.

    <!-- executed -->         the next block is run; with `: slow` in the slow tests only
    <!-- prints -->           the next block is what the one before printed; a line "…" stands for any lines
    <!-- before: CODE -->     Python that is run first and is not shown

Python blocks of a page share their names; one that begins indented goes on with the one before. `fed-em` and `python` are those of the
tests.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import socket
import subprocess
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tests.conftest import REPOSITORY

_BLOCK = re.compile(
    r"<!-- (?P<mark>executed|prints|before)(?:: (?P<said>.*?))? -->(?:\s*\n```(?P<language>\w+)\n(?P<code>.*?)^```)?",
    re.S | re.M,
)
_FENCE = re.compile(r"^```(?:sh|console)\n(.*?)^```", re.S | re.M)
# What tutorials call the server's address: a port that is surely free takes its place.
_ADDRESS = "127.0.0.1:8443"


@dataclass(frozen=True)
class Block:
    """A block to run.

    Attributes:
        language: "python" or "sh".
        code: What is run.
        slow: Whether in the slow tests only.
        prints: What it is to print; None if the page does not say.
    """

    language: str
    code: str
    slow: bool = False
    prints: str | None = None


def pages() -> list[Path]:
    """All pages, and the README."""
    return [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]


def blocks_of(page: Path) -> list[Block]:
    """What is to be run, in order."""
    blocks: list[Block] = []
    for found in _BLOCK.finditer(page.read_text(encoding="utf-8")):
        mark, said, code = found["mark"], found["said"] or "", found["code"]
        if mark == "before":
            blocks.append(Block("python", said))
        elif mark == "prints":
            blocks[-1] = replace(blocks[-1], prints=code)
        elif code.startswith((" ", "\t")):
            blocks[-1] = replace(blocks[-1], code=f"{blocks[-1].code}\n{code}")
        else:
            blocks.append(Block(found["language"], code, said == "slow"))
    return blocks


def run(blocks: list[Block], folder: Path) -> None:
    """Run them in a folder. Raises `AssertionError` where one fails, or prints something else."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    environment = _environment(folder)
    module = types.ModuleType("page")
    sys.modules["page"] = module
    with contextlib.chdir(folder):
        for block in blocks:
            code = block.code.replace(_ADDRESS, address)
            printed = _run_python(code, module) if block.language == "python" else _run_sh(code, environment)
            if block.prints is not None:
                pattern = re.escape(block.prints.strip()).replace("…", ".*")
                assert re.fullmatch(pattern, printed.strip(), re.S), f"printed\n{printed}\ninstead of\n{block.prints}"


def _run_python(code: str, module: types.ModuleType) -> str:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "a block of the page", "exec"), module.__dict__)
    return printed.getvalue()


def _run_sh(code: str, environment: dict[str, str]) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, f"{code}\nended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _environment(folder: Path) -> dict[str, str]:
    programs = folder / ".programs"
    programs.mkdir()
    for name, command in (("python", ""), ("fed-em", "-m fed_em_simulations.command_line")):
        (programs / name).write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {command} "$@"\n')
        (programs / name).chmod(0o755)
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "COLUMNS": "160"}


def command_lines(page: Path) -> Iterator[list[str]]:
    """Every `fed-em …` in the blocks for a shell, as words without the program's name."""
    for fence in _FENCE.findall(page.read_text(encoding="utf-8")):
        for line in re.sub(r"\\\n\s*", " ", fence).splitlines():
            found = re.match(r"\s*(?:\$ )?fed-em (.*)", line)
            if found and "…" not in found[1] and "…" not in line:
                words = shlex.split(re.sub(r"\s[>|&].*$", "", found[1]), comments=True)
                if words:
                    yield words
