"""Key folders, cards and the roster made of them."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from fed_em.errors import CallerError, EnvironmentFault
from fed_em_protocols.errors import SERVER
from fed_em_protocols.keys import verifies
from fed_em_protocols.party import create_server_keys, create_tenant_keys, load_card, load_keys, make_roster
from fed_em_protocols.roster import load_pinned_roster, load_roster
from tests.parties.forest import NAMES, ROW_CAP, MakeParties, Parties

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def pem_of(key: Ed25519PrivateKey | ec.EllipticCurvePrivateKey, password: bytes | None = None) -> bytes:
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


class TestCreating:
    def test_only_the_owner_can_read_private_keys(self, tmp_path: Path) -> None:
        create_tenant_keys(tmp_path / "ash", "ash", 10, NOW)
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "ash").iterdir()}
        assert modes.pop("identity.key") == modes.pop("tls.key") == 0o600
        assert sorted(modes) == ["card.json", "tls.crt"]
        assert stat.S_IMODE((tmp_path / "ash").stat().st_mode) == 0o700

    def test_even_with_a_careless_umask(self, tmp_path: Path) -> None:
        before = os.umask(0)
        try:
            create_server_keys(tmp_path / "keys", NOW)
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / "keys" / "identity.key").stat().st_mode) == 0o600

    @pytest.mark.parametrize("survivor", ["identity.key", "tls.key", "tls.crt", "card.json"])
    def test_nothing_is_ever_overwritten(self, tmp_path: Path, survivor: str) -> None:
        create_tenant_keys(tmp_path, "ash", 10, NOW)
        before = (tmp_path / survivor).read_bytes()
        for path in list(tmp_path.iterdir()):
            if path.name != survivor:
                path.unlink()
        with pytest.raises(CallerError, match=f"{survivor} exists, and keys are never overwritten"):
            create_tenant_keys(tmp_path, "ash", 10, NOW)
        assert (tmp_path / survivor).read_bytes() == before

    @pytest.mark.parametrize(
        ("name", "row_cap", "complaint"),
        [
            ("a b", 10, "name"),
            ("", 10, "name"),
            ("-ash", 10, "name"),
            ("a" * 65, 10, "name"),
            ("server", 10, "the name 'server' is the server's"),
            ("ash", 0, "row_cap"),
            ("ash", 2**41, "row_cap"),
        ],
    )
    def test_inadmissible_parties_are_refused_before_anything_is_written(
        self, tmp_path: Path, name: str, row_cap: int, complaint: str
    ) -> None:
        with pytest.raises(CallerError, match=complaint):
            create_tenant_keys(tmp_path / "keys", name, row_cap, NOW)
        assert not (tmp_path / "keys").exists()

    def test_the_longest_name(self, tmp_path: Path) -> None:
        name = "a" * 64
        create_tenant_keys(tmp_path, name, 10, NOW)
        assert load_card(tmp_path / "card.json").name == name

    def test_a_folder_that_cannot_be_made_is_the_machines_fault(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(EnvironmentFault, match=r"cannot write keys to .*file/keys: Not a directory"):
            create_server_keys(tmp_path / "file" / "keys", NOW)

    def test_keys_are_fresh(self, tmp_path: Path) -> None:
        one, other = (create_tenant_keys(tmp_path / folder, "ash", 10, NOW) for folder in "ab")
        assert one.identity != other.identity
        assert one.certificate != other.certificate


class TestLoading:
    def test_what_was_created(self, parties: Parties) -> None:
        for name in (*NAMES, SERVER):
            keys = load_keys(parties.folder / name)
            keys.check_against(parties.roster, name)
            signature = keys.identity.sign(b"message")
            assert verifies(parties.cards[name].identity_key, signature, b"message")
            assert keys.tls_certificate.decode() == parties.cards[name].certificate

    def test_nothing_shows_a_key(self, parties: Parties) -> None:
        keys = load_keys(parties.folder / "ash")
        assert "PRIVATE" not in repr(keys)
        assert keys.identity.seed.hex() not in repr(keys)
        assert str(keys.identity.seed) not in repr(keys)

    @pytest.mark.parametrize("name", ["identity.key", "tls.key", "tls.crt"])
    def test_a_missing_file_is_named(self, parties: Parties, name: str) -> None:
        (parties.folder / "ash" / name).unlink()
        with pytest.raises(CallerError, match=f"there is no file .*ash/{name}") as caught:
            load_keys(parties.folder / "ash")
        assert "fed-em keygen" in caught.value.remedy

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o777])
    @pytest.mark.parametrize("name", ["identity.key", "tls.key"])
    def test_a_key_that_others_may_read_is_refused(self, parties: Parties, name: str, mode: int) -> None:
        path = parties.folder / "ash" / name
        path.chmod(mode)
        with pytest.raises(
            CallerError, match=rf"ash/{name} is open to others than its owner \(mode {mode:04o}\)"
        ) as caught:
            load_keys(parties.folder / "ash")
        assert f"chmod 600 {path}" in caught.value.remedy

    def test_a_key_that_only_its_owner_may_read_but_not_write(self, parties: Parties) -> None:
        (parties.folder / "ash" / "identity.key").chmod(0o400)
        load_keys(parties.folder / "ash")

    @pytest.mark.parametrize(("mode", "admitted"), [(0o440, True), (0o400, True), (0o444, False), (0o460, False)])
    def test_roots_keys_may_be_open_to_a_group(
        self, parties: Parties, monkeypatch: pytest.MonkeyPatch, mode: int, admitted: bool
    ) -> None:
        path = parties.folder / "ash" / "identity.key"
        path.chmod(mode)
        true_status = os.fstat

        def owned_by_root(descriptor: int) -> os.stat_result:
            found = list(true_status(descriptor))
            found[4] = 0
            return os.stat_result(found)

        monkeypatch.setattr(os, "fstat", owned_by_root)
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        if admitted:
            load_keys(parties.folder / "ash")
        else:
            with pytest.raises(CallerError, match=r"identity.key is open to others"):
                load_keys(parties.folder / "ash")

    @pytest.mark.parametrize(
        ("name", "content", "complaint"),
        [
            ("identity.key", b"", "identity.key is no private key in PEM"),
            ("identity.key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "is no private key"),
            ("identity.key", pem_of(ec.generate_private_key(ec.SECP256R1())), "identity.key is no Ed25519 key"),
            ("identity.key", pem_of(Ed25519PrivateKey.generate(), b"secret"), "identity.key is encrypted"),
            ("tls.key", pem_of(ec.generate_private_key(ec.SECP256R1())), "tls.key is not the key of the certificate"),
            ("tls.key", pem_of(Ed25519PrivateKey.generate()), "tls.key is not the key of the certificate"),
            ("tls.key", b"\xff\xfe", "tls.key is no private key in PEM"),
            ("tls.crt", b"", "tls.crt is no PEM certificate"),
            ("tls.crt", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "tls.crt is no PEM"),
        ],
        # Keys are drawn anew in each process, and every process must name a test alike.
        ids=lambda given: given if isinstance(given, str) else "",
    )
    def test_damage_is_named_and_nothing_of_it_shown(
        self, parties: Parties, name: str, content: bytes, complaint: str
    ) -> None:
        (parties.folder / "ash" / name).write_bytes(content)
        with pytest.raises(CallerError, match=complaint) as caught:
            load_keys(parties.folder / "ash")
        body = content.decode(errors="replace").split("\n")[1:2]
        assert not any(line and line in str(caught.value) for line in body)

    def test_a_truncated_key(self, parties: Parties) -> None:
        path = parties.folder / "ash" / "identity.key"
        path.write_bytes(path.read_bytes()[:60])
        with pytest.raises(CallerError, match=r"identity.key is no private key"):
            load_keys(parties.folder / "ash")

    def test_the_folder_itself_missing(self, tmp_path: Path) -> None:
        with pytest.raises(CallerError, match=r"there is no file .*nowhere/identity.key"):
            load_keys(tmp_path / "nowhere")


class TestAgainstTheRoster:
    def test_another_tenants_keys(self, parties: Parties) -> None:
        with pytest.raises(CallerError, match=r"the identity key in .*beech is not the one .* for 'ash'"):
            load_keys(parties.folder / "beech").check_against(parties.roster, "ash")

    def test_a_new_certificate_for_the_old_identity(self, parties: Parties) -> None:
        for name in ("tls.key", "tls.crt"):
            (parties.folder / "ash" / name).write_bytes((parties.folder / "beech" / name).read_bytes())
        with pytest.raises(CallerError, match=r"the TLS certificate in .*ash is not the one .* for 'ash'"):
            load_keys(parties.folder / "ash").check_against(parties.roster, "ash")

    def test_the_servers(self, parties: Parties) -> None:
        with pytest.raises(CallerError, match="for 'server'"):
            load_keys(parties.folder / "ash").check_against(parties.roster, SERVER)


class TestCards:
    def test_they_hold_nothing_secret(self, parties: Parties) -> None:
        text = (parties.folder / "ash" / "card.json").read_text()
        assert "PRIVATE" not in text
        assert load_keys(parties.folder / "ash").identity.seed.hex() not in text
        assert json.loads(text).keys() == {"role", "name", "row_cap", "identity", "certificate"}

    def test_a_servers_card_has_no_row_cap(self, parties: Parties) -> None:
        assert json.loads((parties.folder / SERVER / "card.json").read_text()).keys() == {
            "role", "name", "identity", "certificate",
        }  # fmt: skip

    @pytest.mark.parametrize(
        ("change", "complaint"),
        [
            (lambda card: card.pop("row_cap"), "a tenant needs a row_cap"),
            (lambda card: card.update(role="server"), "the name 'server' is the server's"),
            (lambda card: card.update(name="server"), "the name 'server' is the server's"),
            (lambda card: card.update(identity="abc"), "identity"),
            (lambda card: card.update(certificate="none"), "certificate"),
            (lambda card: card.update(certificate=2 * card["certificate"]), "exactly one PEM certificate"),
            (lambda card: card.update(row_cap=0), "row_cap"),
            (lambda card: card.update(colour="green"), "colour"),
            (lambda card: card.pop("identity"), "identity"),
        ],
    )
    def test_a_wrong_card_names_file_and_field(
        self, parties: Parties, change: Callable[[dict[str, object]], object], complaint: str
    ) -> None:
        path = parties.folder / "ash" / "card.json"
        card = json.loads(path.read_text())
        change(card)
        path.write_text(json.dumps(card))
        with pytest.raises(CallerError, match=complaint) as caught:
            load_card(path)
        assert str(path) in caught.value.message

    @pytest.mark.parametrize("content", ["", "{", "[]", "null"])
    def test_no_json(self, tmp_path: Path, content: str) -> None:
        (tmp_path / "card.json").write_text(content)
        with pytest.raises(CallerError, match=r"card .*card\.json"):
            load_card(tmp_path / "card.json")

    def test_a_folder_given_for_a_card(self, parties: Parties) -> None:
        with pytest.raises(CallerError, match="ash is a folder") as caught:
            load_card(parties.folder / "ash")
        assert "ash/card.json" in caught.value.remedy


class TestRosters:
    def test_tenants_stand_in_the_order_given(self, parties: Parties) -> None:
        order = ("cedar", "ash", "beech")
        roster = make_roster("forest", parties.cards[SERVER], [parties.cards[name] for name in order], version=3)
        assert roster.names(range(3)) == order
        assert (roster.version, roster.row_caps) == (3, (ROW_CAP,) * 3)
        assert roster.digest != parties.roster.digest

    def test_written_and_read_back(self, parties: Parties) -> None:
        assert load_roster(parties.roster_file) == parties.roster
        assert load_pinned_roster(parties.roster_file, parties.roster.digest.hex()) == parties.roster

    def test_another_roster_than_the_pinned_one(self, parties: Parties, make_parties: MakeParties) -> None:
        other = make_parties("others").roster
        with pytest.raises(CallerError, match=r"roster\.json is not the one pinned here") as caught:
            load_pinned_roster(parties.roster_file, other.digest.hex())
        assert parties.roster.digest.hex() in caught.value.remedy

    def test_a_roster_file_is_never_overwritten(self, parties: Parties) -> None:
        before = parties.roster_file.read_bytes()
        with pytest.raises(CallerError, match=r"roster\.json exists"):
            parties.roster.write_new(parties.roster_file)
        assert parties.roster_file.read_bytes() == before

    def test_a_roster_that_cannot_be_written_is_the_machines_fault(self, parties: Parties) -> None:
        with pytest.raises(EnvironmentFault, match=r"cannot write .*No such file"):
            parties.roster.write_new(parties.folder / "nowhere" / "roster.json")

    def test_cards_in_the_wrong_roles(self, parties: Parties) -> None:
        cards = [parties.cards[name] for name in NAMES]
        with pytest.raises(
            CallerError, match="the card of 'ash' is that of a tenant, and was given as that of a server"
        ):
            make_roster("forest", cards[0], cards)
        with pytest.raises(
            CallerError, match="the card of 'server' is that of a server, and was given as that of a ten"
        ):
            make_roster("forest", parties.cards[SERVER], [*cards, parties.cards[SERVER]])

    def test_one_tenant_twice(self, parties: Parties) -> None:
        cards = [parties.cards[name] for name in (*NAMES, "ash")]
        with pytest.raises(CallerError, match="two parties have the same name 'ash'"):
            make_roster("forest", parties.cards[SERVER], cards)

    @pytest.mark.parametrize("n", [0, 2, 10_001])
    def test_too_few_or_too_many(self, parties: Parties, n: int) -> None:
        with pytest.raises(CallerError, match=f"a roster of {n} tenants cannot be made") as caught:
            make_roster("forest", parties.cards[SERVER], [parties.cards["ash"]] * n)
        assert "3 to 10000" in caught.value.remedy

    def test_a_federation_with_a_bad_name(self, parties: Parties) -> None:
        with pytest.raises(CallerError, match="these cards make no roster: federation"):
            make_roster("the forest", parties.cards[SERVER], [parties.cards[name] for name in NAMES])


def test_the_identity_key_is_the_standard_encoding(parties: Parties) -> None:
    """Other software reads the same key from the file."""
    key = load_pem_private_key((parties.folder / "ash" / "identity.key").read_bytes(), None)
    assert isinstance(key, Ed25519PrivateKey)
    assert key.private_bytes_raw() == load_keys(parties.folder / "ash").identity.seed
