"""Signatures on the bundle: made here, handed out by the hub, verified by the SuperNode's own function; and files that trust nobody."""

from __future__ import annotations

import json
import stat
import subprocess
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from flwr.cli.build import build_fab_from_disk
from flwr.supercore.fab import Fab
from flwr.supercore.utils import request_download_link
from flwr.superlink.servicer.control.control_handlers import _format_verification
from flwr.supernode.cli.flower_supernode import _try_obtain_trusted_entities, _validate_public_keys_ed25519
from flwr.supernode.start_client_internal import _verify_fab
from small_federation import clustered_rows, write_small_federation

from fed_em.errors import CallerError, EnvironmentFault
from fed_em_client.configuration import read_tenant_configuration
from fed_em_client.flower_tenant import serve_flower
from fed_em_client.trusted_entities import read_trusted_entities
from fed_em_server.bundle import build_bundle, write_bundle
from fed_em_server.bundle_hub import BundleHub
from fed_em_server.bundle_signature import SignedBundle, sign_bundle

APP = "@fed-em/fed-em-flower"
OTHER_SIGNER = Ed25519PrivateKey.generate()


def key_at(path: Path, key: Ed25519PrivateKey | EllipticCurvePrivateKey | None = None) -> Path:
    """A key in the files that `ssh-keygen` makes."""
    key = key or Ed25519PrivateKey.generate()
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    path.with_suffix(".pub").write_bytes(key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH))
    return path


@pytest.fixture
def signed(tmp_path: Path) -> SignedBundle:
    return sign_bundle(tmp_path / "bundle", key_at(tmp_path / "signer"))


@contextmanager
def hub_of(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Where a hub listens, and what it reports."""
    reports: list[str] = []
    with BundleHub(folder, "127.0.0.1:0", reports.append) as hub:
        serving = threading.Thread(target=hub.serve_forever, args=(0.01,))
        serving.start()
        try:
            yield hub.url, reports
        finally:
            hub.shutdown()
            serving.join()


def fetched(folder: Path, version: str | None = "0.1.0") -> Fab:
    """What a SuperLink gets from a hub, and passes on to nodes."""
    with hub_of(folder) as (url, _):
        link, verifications, _ = request_download_link(APP, version, f"{url}/hub/fetch-fab", "fab_url")
        assert verifications is not None
        return Fab("", requests.get(link, timeout=10).content, _format_verification(verifications))


def trusted_by_node(path: Path) -> dict[str, str]:
    """Trusted entities as a SuperNode reads them."""
    found = _try_obtain_trusted_entities(path)
    assert found is not None
    _validate_public_keys_ed25519(found)
    return dict(found)


def test_a_signed_bundle_passes_the_hub_and_the_nodes_check(signed: SignedBundle) -> None:
    fab = fetched(signed.bundle.parent)
    assert fab.content == build_bundle()
    assert fab.verifications["valid_license"]
    assert _verify_fab(fab, trusted_by_node(signed.trusted))


def test_the_bundle_is_the_one_that_flower_builds_of_the_same_files(tmp_path: Path) -> None:
    assert build_bundle() == build_fab_from_disk(write_bundle(tmp_path))


@pytest.mark.parametrize("version", ["0.1.0", None])
def test_another_bundle_with_the_signature_of_this_one_is_refused(signed: SignedBundle, version: str | None) -> None:
    with zipfile.ZipFile(signed.bundle, "a") as packed:
        packed.writestr("spy.py", "")
    assert not _verify_fab(fetched(signed.bundle.parent, version), trusted_by_node(signed.trusted))


def test_the_signature_of_somebody_else_is_refused_and_that_of_one_of_several_is_enough(
    tmp_path: Path, signed: SignedBundle
) -> None:
    elsewhere = sign_bundle(tmp_path / "elsewhere", key_at(tmp_path / "other"))
    assert elsewhere.bundle.read_bytes() == signed.bundle.read_bytes(), "all signers build the same"
    assert not _verify_fab(fetched(signed.bundle.parent), trusted_by_node(elsewhere.trusted))
    (signed.bundle.parent / elsewhere.signature.name).write_bytes(elsewhere.signature.read_bytes())
    assert _verify_fab(fetched(signed.bundle.parent), trusted_by_node(elsewhere.trusted))
    assert _verify_fab(fetched(signed.bundle.parent), trusted_by_node(signed.trusted))


def test_a_second_signer_in_the_same_folder_joins_the_first_and_signing_again_changes_nothing(
    tmp_path: Path, signed: SignedBundle
) -> None:
    first = signed.trusted.read_text(encoding="utf-8")
    signed.trusted.write_text(f"# whom we trust\n{first.rstrip()}", encoding="utf-8")
    for _ in range(2):
        other = sign_bundle(signed.bundle.parent, key_at(tmp_path / "other", OTHER_SIGNER))
    assert other.trusted == signed.trusted
    assert (
        set(trusted_by_node(signed.trusted))
        == {signed.key_id, other.key_id}
        == set(read_trusted_entities(signed.trusted))
    )
    assert signed.trusted.read_text(encoding="utf-8").startswith(f"# whom we trust\n{first}")
    assert len(fetched(signed.bundle.parent).verifications) == 2 + 1


@pytest.mark.parametrize("text", ["{}", "[fpk_1]", "{fpk_1: LINE}"])
def test_a_file_of_trusted_entities_that_takes_no_line_is_left_as_it_is(tmp_path: Path, text: str) -> None:
    folder = tmp_path / "bundle"
    folder.mkdir()
    key = OTHER_SIGNER.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    (folder / "trusted-entities.yaml").write_text(text.replace("LINE", key), encoding="utf-8")
    with pytest.raises(CallerError, match=r"trusted-entities\.yaml"):
        sign_bundle(folder, key_at(tmp_path / "signer"))
    assert [path.read_text(encoding="utf-8") for path in folder.iterdir()] == [text.replace("LINE", key)]


@pytest.mark.parametrize("claim", ["name of the trusted key", "time of signing"])
def test_a_signature_is_bound_to_its_key_and_its_time(tmp_path: Path, signed: SignedBundle, claim: str) -> None:
    if claim == "time of signing":
        said = json.loads(signed.signature.read_text())
        signed.signature.write_text(json.dumps({**said, "signed_at": said["signed_at"] + 1}))
    else:
        forged = sign_bundle(tmp_path / "forged", key_at(tmp_path / "forger"))
        said = json.loads(forged.signature.read_text())
        signed.signature.write_text(json.dumps({**said, "public_key_id": signed.key_id}))
    assert not _verify_fab(fetched(signed.bundle.parent), trusted_by_node(signed.trusted))


def test_a_key_that_cannot_sign_is_refused_with_the_remedy(tmp_path: Path) -> None:
    key = key_at(tmp_path / "key", generate_private_key(SECP256R1()))
    for path in (key, tmp_path / "key.pub"):
        with pytest.raises(CallerError, match="no Ed25519 private key") as refused:
            sign_bundle(tmp_path / "bundle", path)
        assert "ssh-keygen -t ed25519" in refused.value.diagnostics()
    with pytest.raises(EnvironmentFault, match="cannot read the key"):
        sign_bundle(tmp_path / "bundle", tmp_path / "absent")
    assert not (tmp_path / "bundle").exists()


def test_a_key_of_ssh_keygen_signs_unless_it_has_a_passphrase(tmp_path: Path, program: Callable[[str], Path]) -> None:
    make = [str(program("ssh-keygen")), "-q", "-t", "ed25519"]
    subprocess.run([*make, "-N", "", "-f", str(tmp_path / "open")], check=True)
    subprocess.run([*make, "-N", "secret words", "-f", str(tmp_path / "locked")], check=True)
    signed = sign_bundle(tmp_path / "bundle", tmp_path / "open")
    assert _verify_fab(fetched(tmp_path / "bundle"), trusted_by_node(signed.trusted))
    with pytest.raises(CallerError, match="without a passphrase"):
        sign_bundle(tmp_path / "bundle", tmp_path / "locked")


def test_the_hub_has_nothing_else(signed: SignedBundle) -> None:
    (signed.bundle.parent / "private").write_text("not for others")
    with hub_of(signed.bundle.parent) as (url, reports):
        with pytest.raises(ValueError, match="not found"):
            request_download_link("@fed-em/other", None, f"{url}/hub/fetch-fab", "fab_url")
        assert reports == ["asked for @fed-em/other, which is not here"]
        for path in ("private", signed.signature.name, "../signer", ""):
            assert requests.get(f"{url}/{path}", timeout=10).status_code == 404
        for asked in ("{}", "[]", "nonsense", '{"app_id": 1}', f'"{"x" * 20_000}"'):
            assert requests.post(f"{url}/hub/fetch-fab", asked, timeout=10).status_code == 400
        assert requests.post(f"{url}/elsewhere", "{}", timeout=10).status_code == 400


def test_a_hub_without_a_bundle_or_with_two_of_a_version_says_what_to_do(tmp_path: Path, signed: SignedBundle) -> None:
    with pytest.raises(CallerError, match="no bundle is in"):
        BundleHub(tmp_path, "127.0.0.1:0", print)
    with hub_of(signed.bundle.parent) as (url, reports):
        signed.bundle.with_name("again.fab").write_bytes(signed.bundle.read_bytes())
        with pytest.raises(ValueError, match="are both @fed-em/fed-em-flower"):
            request_download_link(APP, None, f"{url}/hub/fetch-fab", "fab_url")
    assert "remove the older one" in reports[0]
    signed.bundle.with_name("again.fab").write_bytes(b"no zip")
    with pytest.raises(CallerError, match=r"again\.fab"):
        BundleHub(signed.bundle.parent, "127.0.0.1:0", print)


def test_the_file_that_signing_writes_is_one_that_trusts(signed: SignedBundle) -> None:
    assert read_trusted_entities(signed.trusted) == (signed.key_id,)
    assert list(trusted_by_node(signed.trusted)) == [signed.key_id]


def test_a_file_that_names_nobody_is_found_out_where_flower_takes_it(tmp_path: Path, signed: SignedBundle) -> None:
    path = tmp_path / "trusted.yaml"
    path.write_text("{}\n")
    assert not trusted_by_node(path), "Flower takes the file, and its SuperNode then checks nothing"
    for text in ("{}\n", "", "# nobody yet\n", "- ssh-ed25519 AAAA\n"):
        path.write_text(text)
        with pytest.raises(CallerError, match="names nobody"):
            read_trusted_entities(path)
    path.write_text("{")
    with pytest.raises(CallerError, match="is no YAML"):
        read_trusted_entities(path)
    with pytest.raises(EnvironmentFault, match="cannot read the trusted entities"):
        read_trusted_entities(tmp_path / "absent")
    signed.trusted.chmod(stat.S_IRUSR | stat.S_IWUSR | stat.S_IWGRP)
    with pytest.raises(CallerError, match="others may write"):
        read_trusted_entities(signed.trusted)


@pytest.mark.parametrize("key", ["", "ssh-ed25519 AAAA", "17", "ecdsa"])
def test_a_key_of_another_kind_is_named(tmp_path: Path, key: str) -> None:
    if key == "ecdsa":
        key = key_at(tmp_path / "node", generate_private_key(SECP256R1())).with_suffix(".pub").read_text()
    path = tmp_path / "trusted.yaml"
    path.write_text(f"fpk_clinic: {key}\n")
    with pytest.raises(CallerError, match="the key of fpk_clinic is no Ed25519 public key"):
        read_trusted_entities(path)


def test_no_tenant_serves_behind_a_node_that_trusts_anybody(tmp_path: Path, doors: Path) -> None:
    federation = write_small_federation(tmp_path / "f", clustered_rows((10, 10, 10)))
    file = federation.tenant_files["t1"]
    file.write_text(file.read_text() + '\n[flower]\ntrusted_entities = "trusted.yaml"\n')
    (file.parent / "trusted.yaml").write_text("{}\n")
    with pytest.raises(CallerError, match="names nobody"):
        serve_flower(read_tenant_configuration(file), doors / "t1", print)
    assert not list(doors.iterdir()), "nobody can knock"
