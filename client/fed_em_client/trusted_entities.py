"""The file of `flower-supernode --trusted-entities`: whose signature a bundle must carry.

Flower reads a mapping from a key's name to its public key, and where the mapping is empty (`{}`) it runs every bundle without a word.
"""

from __future__ import annotations

import stat
from pathlib import Path

import yaml
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from fed_em.errors import CallerError, EnvironmentFault

_LINE = "fpk_…: ssh-ed25519 AAAA…"


def read_trusted_entities(path: Path) -> tuple[str, ...]:
    """The names of the keys that are trusted, at least one.

    Raises:
        CallerError: the file names nobody, which switches the check off; or a key that is no Ed25519 key; or others may write to it.
        EnvironmentFault: it cannot be read.
    """
    try:
        mode, text = path.stat().st_mode, path.read_text(encoding="utf-8")
    except OSError as error:
        raise EnvironmentFault(f"cannot read the trusted entities {path}: {error.strerror}") from None
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise CallerError(
            f"others may write to {path} (mode {stat.S_IMODE(mode):04o}), and name whom they like",
            remedy=f"chmod go-w {path}",
        )
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError:
        raise CallerError(f"{path} is no YAML", remedy=f"write one line for each signer: {_LINE}") from None
    if not found or not isinstance(found, dict):
        raise CallerError(
            f"{path} names nobody: the check of signatures is off, and any bundle runs",
            remedy=f"write one line for each signer: {_LINE}",
        )
    for name, key in found.items():
        _check_key(path, str(name), key)
    return tuple(map(str, found))


def _check_key(path: Path, name: str, key: object) -> None:
    try:
        good = isinstance(key, str) and isinstance(load_ssh_public_key(key.encode()), Ed25519PublicKey)
    except (ValueError, UnsupportedAlgorithm):
        good = False
    if not good:
        raise CallerError(f"{path}: the key of {name} is no Ed25519 public key", remedy=f"write {_LINE}")
