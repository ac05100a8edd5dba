"""The documentation does what it says: blocks that are marked as executed run, commands exist, and the site builds."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.deploy.command_lines import check_command_line, check_command_name
from tests.docs.pages import Block, blocks_of, command_lines, pages, run

PAGES = {str(page.relative_to(REPOSITORY)): page for page in pages()}
RUN = {name: blocks for name, page in PAGES.items() if (blocks := blocks_of(page))}


# What is generated, there or not.
GENERATED = ("deploy/observability/", "deploy/compose/federation")


def quick(blocks: list[Block]) -> list[Block]:
    """Those before the first that is slow."""
    slow = [place for place, block in enumerate(blocks) if block.slow]
    return blocks[: slow[0]] if slow else blocks


@pytest.mark.parametrize("name", [name for name, blocks in RUN.items() if quick(blocks)])
def test_what_is_quick_to_run_runs(name: str, tmp_path: Path) -> None:
    run(quick(RUN[name]), tmp_path)


@pytest.mark.slow
@pytest.mark.xdist_group("real time")
@pytest.mark.parametrize("name", [name for name, blocks in RUN.items() if quick(blocks) != blocks])
def test_whole_pages_run(name: str, tmp_path: Path) -> None:
    run(RUN[name], tmp_path)


@pytest.mark.slow
def test_the_model_of_ones_own_passes_the_tests_of_ours(tmp_path: Path) -> None:
    code = "\n\n".join(block.code for block in RUN["docs/your-own-model.md"])
    (tmp_path / "test_own_model.py").write_text(code)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_own_model.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    assert re.search(r"23 passed", done.stdout)


@pytest.mark.parametrize("name", PAGES)
def test_commands_are_those_of_the_program(name: str) -> None:
    for words in command_lines(PAGES[name]):
        check_command_line(words, name)


@pytest.mark.parametrize("name", [name for name in PAGES if "/adr/" not in name])
def test_what_a_page_names_is_there(name: str) -> None:
    text = PAGES[name].read_text(encoding="utf-8")
    for path in re.findall(r"`((?:tests|deploy|simulations|client|server|protocols|fed_em)/[\w./-]+)`", text):
        assert (REPOSITORY / path).exists() or path in GENERATED, f"{name} names {path}"
    for words in re.findall(r"`fed-em ([a-z][a-z-]*(?: [a-z][a-z-]*)*)", text):
        check_command_name(words.split(), name)


@pytest.mark.slow
def test_the_site_builds_strictly_and_fetches_nothing_from_elsewhere(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path / "site"]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    built = list((tmp_path / "site").rglob("*.html"))
    assert len(built) > 40
    fetched = re.compile(
        r"<(?:script|img|iframe)[^>]+src=\"(?:https?:)?//|<link[^>]+rel=\"(?:stylesheet|preconnect|preload)\"[^>]+href=\"(?:https?:)?//"
    )
    for page in built:
        assert not fetched.search(page.read_text(encoding="utf-8")), page
    home = (tmp_path / "site" / "reference" / "command-line" / "index.html").read_text(encoding="utf-8")
    assert "fed-em roster rotate" in home and "fed-em shard-keys" in home
