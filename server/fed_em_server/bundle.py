"""The Flower app bundle: a shim of two files that names installed modules, copied to where `flwr run` wants it, or built and signed."""

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


def build_bundle() -> bytes:
    """The bundle in the one file that Flower sends (a FAB), by Flower's own builder.

    The same version of fed-em and of Flower gives the same bytes, so that several parties can sign the bundle that each has built
    for itself from what it has installed.
    """
    # All of Flower's command line, which nothing else of ours needs.
    from flwr.cli.build import build_fab_from_files  # noqa: PLC0415

    packed = files("fed_em_server") / "flower_bundle"
    built, _ = build_fab_from_files({name: (packed / name).read_bytes() for name in _FILES})
    return bytes(built)
