"""The scenarios that come with the package."""

from __future__ import annotations

from pathlib import Path

from fed_em.description import nearest
from fed_em.errors import CallerError
from fed_em_protocols.configuration import read_toml

_FOLDER = Path(__file__).parent / "scenarios"


def shipped_scenarios() -> tuple[tuple[str, str], ...]:
    """Name and title of each."""
    return tuple((path.stem, str(read_toml(path)["title"])) for path in sorted(_FOLDER.glob("*.toml")))


def scenario_path(told: str) -> Path:
    """The file of a scenario that is named by its path, or by the name of a shipped one.

    Raises:
        CallerError: there is neither.
    """
    shipped = _FOLDER / f"{told}.toml"
    if shipped.is_file() and Path(told).name == told:
        return shipped
    if Path(told).suffix or Path(told).exists():
        return Path(told)
    names = [name for name, _ in shipped_scenarios()]
    raise CallerError(f"no scenario '{told}' is shipped, and no such file is there", remedy=nearest(told, names))
