"""The Flower app bundle: a shim of two files that names installed modules, copied to where `flwr run` wants it."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from fed_em.errors import EnvironmentFault

BUNDLE_NAME = "fed-em-flower"
"""Of the folder: Flower allows letters, digits and hyphens."""

_FILES = ("pyproject.toml", "LICENSE")


def write_bundle(folder: Path) -> Path:
    """Write the bundle to `folder/fed-em-flower` and return that path, for `flwr run PATH`."""
    bundle = folder / BUNDLE_NAME
    packed = files("fed_em_server") / "flower_bundle"
    try:
        bundle.mkdir(parents=True, exist_ok=True)
        for name in _FILES:
            (bundle / name).write_bytes((packed / name).read_bytes())
    except OSError as error:
        raise EnvironmentFault(
            f"cannot write {bundle}: {error.strerror}", remedy="name a folder you may write to"
        ) from None
    return bundle
