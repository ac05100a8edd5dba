"""What the site takes from elsewhere in the repository: the protocol's specification, the changes, the command line, all decisions."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click
import typer.main
from mkdocs.structure.files import File, Files

from fed_em_simulations.command_line import app

_ROOT = Path(__file__).resolve().parents[2]

# Pages of files that lie outside of docs/.
_TAKEN = {"spec.md": "protocols/SPEC.md", "changes.md": "CHANGELOG.md"}

_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(((?!https?:|#|mailto:)[^)#\s]+)(#[^)\s]*)?\)")


def on_config(config: Any) -> Any:
    """All decisions stand in the navigation, by their titles."""
    pages = sorted((_ROOT / "docs" / "adr").glob("0*.md"))
    (decisions,) = [section["Decisions"] for section in config["nav"] if "Decisions" in section]
    decisions += [f"adr/{page.name}" for page in pages]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are made of other files."""
    for page, source in _TAKEN.items():
        files.append(File.generated(config, page, content=(_ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, files: Files, **_: Any) -> str:
    """Write out the command line; a link to a file that is no page of the site becomes the file's name."""
    markdown = markdown.replace("<!-- command line -->", command_line())
    source = _TAKEN.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    home = (_ROOT / source).parent

    def rewritten(found: re.Match[str]) -> str:
        text, target, anchor = found[1], found[2], found[3] or ""
        path = (home / target).resolve()
        name = str(path.relative_to(_ROOT)) if path.is_relative_to(_ROOT) else target
        inside = next((each for each, taken in _TAKEN.items() if taken == name), None)
        if inside is None and name.startswith("docs/") and files.get_file_from_path(name.removeprefix("docs/")):
            inside = name.removeprefix("docs/")
        if inside is None:
            return text if text == name or text.startswith("`") else f"{text} (`{name}`)"
        depth = page.file.src_uri.count("/")
        return f"[{text}]({'../' * depth}{inside}{anchor})"

    return _LINK.sub(rewritten, markdown)


def command_line() -> str:
    """Every command of `fed-em`, as its own help has it."""
    return "\n".join(_pages(typer.main.get_command(app), "fed-em", 2))


def _pages(command: click.Command, name: str, level: int) -> list[str]:
    said = [] if level == 2 else [f"{'#' * min(level, 4)} `{name}`", ""]
    said += [(command.help or "").replace("\b", "").replace("[", r"\["), ""]
    if isinstance(command, click.Group):
        for each in sorted(command.commands):
            said += _pages(command.commands[each], f"{name} {each}", level + 1)
        return said
    words = [_usage(each) for each in command.params if isinstance(each, click.Argument)]
    said += ["```text", " ".join([name, "[OPTIONS]", *words]), "```", ""]
    rows = [(_names(each), _help(each)) for each in command.params if not getattr(each, "hidden", False)]
    if rows:
        said += ["| | |", "|---|---|", *(f"| {left} | {right} |" for left, right in rows), ""]
    return said


def _usage(argument: click.Parameter) -> str:
    name = str(argument.name).upper()
    return (name if argument.required else f"[{name}]") + ("…" if argument.nargs != 1 else "")


def _names(parameter: click.Parameter) -> str:
    if isinstance(parameter, click.Argument):
        return f"`{_usage(parameter)}`"
    return ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))


def _help(parameter: click.Parameter) -> str:
    said = (getattr(parameter, "help", None) or "").replace("|", "\\|").replace("[", r"\[")
    default = parameter.default
    plain = isinstance(default, str | int | float | Path) and not isinstance(default, bool) and str(default) != ""
    return said + (f" Default: `{default}`." if plain else "") + (" Required." if parameter.required else "")
