"""Signatures on the Flower app bundle, as SuperNodes with `--trusted-entities` verify them.

Flower signs bundles that lie on Flower's public hub only (`flwr app review` takes a bundle from there and sends the signature
back). Its format and its functions are used here for the bundle that this machine has built from what is installed on it, and for
no other: Ed25519 over the time and the SHA-256 of the file. The signature does not cover a run's config.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path

import yaml
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from flwr.supercore.primitives.asymmetric_ed25519 import create_message_to_sign, load_private_key, sign_message

from fed_em.errors import CallerError, EnvironmentFault
from fed_em_client.trusted_entities import read_trusted_entities
from fed_em_server.bundle import BUNDLE_NAME, build_bundle

BUNDLE_SUFFIX, SIGNATURE_SUFFIX = ".fab", ".signature.json"
TRUSTED_ENTITIES = "trusted-entities.yaml"

_HASH_DIGITS = 8


@dataclass(frozen=True)
class SignedBundle:
    """What `sign_bundle` wrote.

    Args:
        bundle: The bundle's file.
        signature: The signature's file, beside it.
        key_id: The signer's, as trusted entities name it: `fpk_` and the first 32 hex digits of the public key's SHA-256.
        trusted: The file of trusted entities with this signer, for tenants that trust it, and with those who were in it.
    """

    bundle: Path
    signature: Path
    key_id: str
    trusted: Path


def sign_bundle(folder: Path, key: Path) -> SignedBundle:
    """Build the bundle into a folder, and sign it there.

    Args:
        folder: Where to write; signatures of others that lie there stay, and so do their lines in the file of trusted entities.
        key: The signer's private key, as `ssh-keygen -t ed25519 -N ""` makes it.

    Raises:
        CallerError: the key is none of that kind, or what lies there as trusted entities is no such file; nothing is written then.
        EnvironmentFault: a file cannot be read or written.
    """
    private = _private_key(key)
    built, signed_at = build_bundle(), int(time.time())
    digest = hashlib.sha256(built)
    public = private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    key_id = f"fpk_{hashlib.sha256(private.public_key().public_bytes_raw()).hexdigest()[:32]}"
    signature = sign_message(private, create_message_to_sign(digest.digest(), signed_at))
    stem = f"{BUNDLE_NAME}.{digest.hexdigest()[:_HASH_DIGITS]}"
    signed = SignedBundle(
        folder / f"{stem}{BUNDLE_SUFFIX}",
        folder / f"{stem}.{key_id}{SIGNATURE_SUFFIX}",
        key_id,
        folder / TRUSTED_ENTITIES,
    )
    said = {
        "public_key_id": key_id,
        "signature": base64.urlsafe_b64encode(signature).rstrip(b"=").decode(),
        "signed_at": signed_at,
    }
    trusted = _with_signer(signed.trusted, key_id, public)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        signed.bundle.write_bytes(built)
        signed.signature.write_text(json.dumps(said), encoding="utf-8")
        # Tenants refuse a file that others than its owner may write to.
        signed.trusted.touch(mode=0o644)
        signed.trusted.write_text(trusted, encoding="utf-8")
    except OSError as error:
        raise EnvironmentFault(
            f"cannot write to {folder}: {error.strerror}", remedy="name a folder you may write to"
        ) from None
    return signed


def _with_signer(path: Path, key_id: str, public: str) -> str:
    """The text of a file of trusted entities with a signer's line in it. Raises as `read_trusted_entities`."""
    line = f"{key_id}: {public}\n"
    if not path.exists():
        return line
    names, text = read_trusted_entities(path), path.read_text(encoding="utf-8")
    if key_id in names:
        return text
    longer = f"{text.rstrip()}\n{line}"
    if yaml.safe_load(text) | {key_id: public} != _parsed(longer):
        raise CallerError(
            f"{path} has no line for each signer, and none can be added to it", remedy=f"add {line.strip()}"
        )
    return longer


def _parsed(text: str) -> object:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return None


def _private_key(path: Path) -> Ed25519PrivateKey:
    try:
        key: Ed25519PrivateKey = load_private_key(path)
    except OSError as error:
        raise EnvironmentFault(f"cannot read the key {path}: {error.strerror}") from None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise CallerError(
            f"{path} is no Ed25519 private key in OpenSSH's format without a passphrase",
            remedy=f'make one: ssh-keygen -t ed25519 -N "" -f {path.name}, and give the file without .pub',
        ) from None
    return key
