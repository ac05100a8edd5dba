"""Keys are born at their party and stay there; the roster answers requests that both of a party's keys signed."""

from __future__ import annotations

import base64
import json
import re
import shutil
import ssl
import tomllib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from fed_em.errors import CallerError
from fed_em_client.configuration import read_tenant_configuration
from fed_em_protocols import enrolment
from fed_em_protocols.enrolment import enrolment_request, fingerprint, load_invitation, load_request
from fed_em_protocols.errors import BadSignature
from fed_em_protocols.party import create_tenant_keys, load_card, load_keys
from fed_em_protocols.roster import load_roster
from fed_em_server.configuration import read_server_configuration
from fed_em_server.provisioning.enrolment_desk import EnrolmentDesk
from tests.parties.forest import as_authority
from tests.parties.provisioned import NAMES, PLAN, Provisioned, refused, run, sent_out


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Provisioned:
    return sent_out(tmp_path_factory.mktemp("sent") / "all")


@pytest.fixture(scope="module")
def by_mail(sent: Provisioned) -> Provisioned:
    """Every party has made its keys and sent its request."""
    mailed = copied(sent, sent.folder.with_name("by-mail"))
    for name in NAMES:
        mailed.enrol(name)
    return mailed


def copied(made: Provisioned, folder: Path) -> Provisioned:
    shutil.copytree(made.folder, folder)
    return Provisioned(folder)


@pytest.fixture
def made(sent: Provisioned, tmp_path: Path) -> Provisioned:
    """Folders made and sent; nobody has done anything yet."""
    return copied(sent, tmp_path / "made")


@pytest.fixture
def mailed(by_mail: Provisioned, tmp_path: Path) -> Provisioned:
    """Requests are there; nothing is collected yet."""
    return copied(by_mail, tmp_path / "mailed")


@pytest.fixture(scope="module")
def enrolled(by_mail: Provisioned, tmp_path_factory: pytest.TempPathFactory) -> Provisioned:
    """To be read only: all have enrolled, the roster is published and pinned."""
    made = copied(by_mail, tmp_path_factory.mktemp("enrolled") / "all")
    made.collect(*NAMES)
    made.publish()
    made.join()
    return made


def secrets_of(keys: Path) -> list[bytes]:
    """Every way in which a private key of a folder might stand in a file, spaces and line ends left out."""
    found = []
    for file in (keys / "identity.key", keys / "tls.key"):
        key = load_pem_private_key(file.read_bytes(), password=None)
        # Of either kind of key the secret is 32 bytes, which stand so in its encoding.
        edwards = isinstance(key, Ed25519PrivateKey)
        raw = key.private_bytes_raw() if edwards else key.private_numbers().private_value.to_bytes(32, "big")  # type: ignore[union-attr]
        assert raw in key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        found += [raw, raw[::-1], raw.hex().encode(), raw.hex().upper().encode()]
        # Whatever its place in what was encoded, all but the ends of base64 stay the same.
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            found += [encode(bytes(shift) + raw)[4:-4] for shift in range(3)]
    return found


def holds(path: Path, secrets: list[bytes]) -> bool:
    """Whether any of them stands in a file."""
    content = path.read_bytes()
    squeezed = re.sub(rb"\s|\\n", b"", content)
    return any(secret in content or secret in squeezed for secret in secrets)


class TestSecrets:
    def test_no_private_key_is_anywhere_but_at_its_party(self, enrolled: Provisioned) -> None:
        files = [path for path in enrolled.folder.rglob("*") if path.is_file()]
        assert len(files) > 40
        for name in NAMES:
            keys, secrets = enrolled.machine(name) / "keys", secrets_of(enrolled.machine(name) / "keys")
            assert {path for path in files if holds(path, secrets)} == {keys / "identity.key", keys / "tls.key"}

    def test_what_is_sent_out_has_no_key_at_all(self, made: Provisioned) -> None:
        for path in made.folder.rglob("*"):
            assert path.name not in ("keys", "identity.key", "tls.key")
            assert not path.is_file() or b"PRIVATE" not in path.read_bytes()

    def test_keys_are_their_owners_alone(self, enrolled: Provisioned) -> None:
        for name in NAMES:
            assert (enrolled.machine(name) / "keys").stat().st_mode & 0o077 == 0
            load_keys(enrolled.machine(name) / "keys")


class TestFolders:
    def test_files_are_what_the_programs_read(self, enrolled: Provisioned) -> None:
        session = read_server_configuration(enrolled.machine("server") / "session.toml")
        assert (session.title, session.fit.seed, session.description.names) == ("small", 3, ("a", "b"))
        roster = load_roster(enrolled.desk / "roster.json")
        for name, cap in (("north", 500), ("south", 500), ("west", 400)):
            tenant = read_tenant_configuration(enrolled.machine(name) / "tenant.toml")
            assert (tenant.name, tenant.server) == (name, "127.0.0.1:8443")
            assert tenant.roster_hash == roster.digest.hex()
            assert roster.tenants[roster.index(name)].row_cap == cap
            assert not tenant.policy.allow_semi_honest

    def test_comments_of_the_plan_come_along(self, made: Provisioned) -> None:
        assert "tolerance = 1e-5                 # nats a row" in (made.machine("server") / "session.toml").read_text()

    def test_nobody_is_told_of_another_tenants_cap_or_policy(self, made: Provisioned) -> None:
        for name in ("north", "south", "west"):
            for path in made.machine(name).iterdir():
                assert not [
                    other for other in ("north", "south", "west") if other != name and other in path.read_text()
                ]

    def test_what_the_session_asks_is_a_comment_for_the_tenant_to_weigh(self, tmp_path: Path) -> None:
        plan = PLAN.replace(
            "[session.fit]", '[session.trust]\nmode = "semi-honest"\ndifference_guard = "off"\n[session.fit]'
        )
        made = sent_out(tmp_path, plan)
        policy = made.machine("north") / "policy.toml"
        assert "# allow_semi_honest = true" in policy.read_text()
        assert '# difference_guard = "off"' in policy.read_text()
        assert tomllib.loads(policy.read_text())["allow_semi_honest"] is False

    def test_again_changes_nothing(self, made: Provisioned) -> None:
        before = {path: path.stat().st_mtime_ns for path in made.desk.rglob("*")}
        assert "all of it already" in run("new", made.folder / "plan.toml", made.desk)
        assert {path: path.stat().st_mtime_ns for path in made.desk.rglob("*")} == before

    def test_one_more_tenant_leaves_the_others_folders_and_requests_good(self, made: Provisioned) -> None:
        made.enrol("north")
        made.collect("north")
        plan = made.folder / "plan.toml"
        plan.write_text(PLAN.replace("[session]", '[[tenants]]\nname = "east"\nrow_cap = 9\n[session]', 1))
        assert "federation.toml is there" in str(refused(CallerError, "new", plan, made.desk))
        assert not (made.desk / "parties" / "east").exists()
        told = run("new", plan, made.desk, "--update")
        assert f"{made.desk / 'parties' / 'north'}: as before" in told
        assert "north  " in run("status", made.desk)

    @pytest.mark.parametrize(
        ("was", "is_now", "said"),
        [
            ('name = "south"', 'name = "north"', "'north' is the name of two parties"),
            ('name = "south"', 'name = "server"', "'server' is the name of two parties"),
            ("row_cap = 400", "row_cap = 0", "tenants.2.row_cap"),
            ('title = "small"', 'title = "small"\nkeys = "mine"', "'keys' of the session is written by provisioning"),
            ("n_components", "n_componets", "n_compone"),
            ("[session.fit]", "[session.fits]", "unknown key 'fits'"),
            ("127.0.0.1:8443", 'a\\"b:1', "address"),
        ],
    )
    def test_a_plan_that_is_wrong_is_refused(self, tmp_path: Path, was: str, is_now: str, said: str) -> None:
        (tmp_path / "plan.toml").write_text(PLAN.replace(was, is_now))
        assert said in str(refused(CallerError, "new", tmp_path / "plan.toml", tmp_path / "out"))
        assert not (tmp_path / "out").exists()

    def test_headings_in_a_text_are_no_headings(self, tmp_path: Path) -> None:
        (tmp_path / "plan.toml").write_text(
            PLAN.replace('title = "small"', 'title = "small"\noutput = """\n[tenants]\n"""')
        )
        assert "cannot be told from the others" in str(
            refused(CallerError, "new", tmp_path / "plan.toml", tmp_path / "out")
        )


class TestEnrolling:
    def test_keys_are_made_once(self, made: Provisioned) -> None:
        made.enrol("north")
        keys = {path: path.read_bytes() for path in (made.machine("north") / "keys").iterdir()}
        first = load_request(made.request("north")).card
        made.enrol("north")
        assert {path: path.read_bytes() for path in (made.machine("north") / "keys").iterdir()} == keys
        assert load_request(made.request("north")).card == first
        made.collect("north")
        made.collect("north")

    def test_keys_that_are_not_whole_are_left_alone(self, made: Provisioned) -> None:
        made.enrol("north")
        keys = made.machine("north") / "keys"
        (keys / "card.json").unlink()
        before = (keys / "identity.key").read_bytes()
        assert "are not whole" in str(refused(CallerError, "enrol", made.machine("north")))
        assert (keys / "identity.key").read_bytes() == before

    def test_both_sides_show_the_same_fingerprint(self, made: Provisioned) -> None:
        shown = made.enrol("west").splitlines()[-1].strip()
        assert re.fullmatch(r"([0-9a-f]{4} ){7}[0-9a-f]{4}", shown)
        assert shown in made.collect("west")

    def test_a_fingerprint_is_of_all_that_a_roster_says(self, tmp_path: Path) -> None:
        card = create_tenant_keys(tmp_path / "a", "north", 5, datetime.now(UTC))
        other = create_tenant_keys(tmp_path / "b", "north", 5, datetime.now(UTC))
        changes: list[dict[str, Any]] = [
            {"name": "south"}, {"row_cap": 6}, {"identity": other.identity}, {"certificate": other.certificate},
        ]  # fmt: skip
        prints = {fingerprint(card), *(fingerprint(type(card)(**{**card.model_dump(), **each})) for each in changes)}
        assert len(prints) == 5


def tampered(made: Provisioned, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> Path:
    """North's request, changed on its way; the change is also given south's."""
    own, other = (json.loads(made.request(name).read_text()) for name in ("north", "south"))
    change(own, other)
    path = made.folder / "mail" / "tampered.json"
    path.write_text(json.dumps(own))
    return path


def _identity(own: dict[str, Any], other: dict[str, Any]) -> None:
    own["card"]["identity"] = other["card"]["identity"]


def _certificate(own: dict[str, Any], other: dict[str, Any]) -> None:
    own["card"]["certificate"] = other["card"]["certificate"]


def _by_identity(own: dict[str, Any], other: dict[str, Any]) -> None:
    own["by_identity"] = other["by_identity"]


def _by_tls(own: dict[str, Any], other: dict[str, Any]) -> None:
    own["by_tls"] = other["by_tls"]


def _no_signature(own: dict[str, Any], other: dict[str, Any]) -> None:
    own["by_tls"] = "00"


class TestRefusals:
    def nothing_kept(self, made: Provisioned) -> bool:
        return not EnrolmentDesk.at(made.desk).kept()

    @pytest.mark.parametrize("change", [_identity, _certificate, _by_identity, _by_tls, _no_signature])
    def test_a_request_changed_on_its_way(
        self, mailed: Provisioned, change: Callable[[dict[str, Any], dict[str, Any]], None]
    ) -> None:
        error = refused(BadSignature, "collect", mailed.desk, mailed.request("south"), tampered(mailed, change))
        assert "north" in str(error) and "not signed by" in str(error)
        assert self.nothing_kept(mailed)  # all or none

    @pytest.mark.parametrize(
        ("key", "value", "said"),
        [
            ("name", "south", "the request of 'south' answers another invitation"),
            ("name", "east", "nobody of the name 'east' was invited; invited are server, north, south, west"),
            ("row_cap", 400, "the card of 'north' has the row cap 400, and the invitation says 500"),
        ],
    )
    def test_another_name_or_row_cap(self, mailed: Provisioned, key: str, value: object, said: str) -> None:
        def change(own: dict[str, Any], _: dict[str, Any]) -> None:
            own["card"][key] = value

        error = refused(CallerError, "collect", mailed.desk, tampered(mailed, change))
        assert said.partition(";")[0] in str(error)
        assert said.rpartition("; ")[2] in str(error)

    def test_a_certificate_that_may_sign_others(self, mailed: Provisioned) -> None:
        """Signed by the right keys; a link that takes any certificate of the roster for an anchor would take what it signs."""
        invitation = load_invitation(mailed.machine("north") / "invitation.json")
        keys = as_authority(load_keys(mailed.machine("north") / "keys"))
        card = load_card(mailed.machine("north") / "keys" / "card.json")
        card = type(card)(**{**card.model_dump(), "certificate": keys.tls_certificate.decode()})
        mailed.request("north").write_text(enrolment_request(invitation, card, keys).to_json())
        assert "may sign others" in str(refused(CallerError, "collect", mailed.desk, mailed.request("north")))
        assert self.nothing_kept(mailed)

    @pytest.mark.parametrize(
        ("part", "other"),
        [
            # The curve is one that nobody knows; the common name is no text; the key is none; X.509 of version 7.
            (bytes.fromhex("2a8648ce3d030107"), bytes.fromhex("2a8648ce3d030177")),
            (b"\x0c\x05north", b"\x26\x05north"),
            (bytes.fromhex("2a8648ce3d0201"), bytes.fromhex("2a8648ce3d0277")),
            (bytes.fromhex("a003020102"), bytes.fromhex("a003020107")),
        ],
    )
    def test_a_certificate_that_is_damaged_inside(self, mailed: Provisioned, part: bytes, other: bytes) -> None:
        document = json.loads(mailed.request("north").read_text())
        whole = ssl.PEM_cert_to_DER_cert(document["card"]["certificate"])
        assert part in whole
        document["card"]["certificate"] = ssl.DER_cert_to_PEM_cert(whole.replace(part, other))
        mailed.request("north").write_text(json.dumps(document))
        assert "certificate" in str(refused(CallerError, "collect", mailed.desk, mailed.request("north")))

    def test_a_certificate_in_another_name(self, mailed: Provisioned) -> None:
        """Signed by the right keys, whose certificate names somebody else."""
        keys = mailed.folder / "odd"
        card = create_tenant_keys(keys, "odd", 500, datetime.now(UTC))
        renamed = type(card)(**{**card.model_dump(), "name": "north"})
        invitation = load_invitation(mailed.machine("north") / "invitation.json")
        request = enrolment_request(invitation, renamed, load_keys(keys))
        path = mailed.folder / "mail" / "odd.json"
        path.write_text(request.to_json())
        assert "the certificate in the request of 'north' is that of 'odd'" in str(
            refused(CallerError, "collect", mailed.desk, path)
        )

    def test_one_set_of_keys_for_two_parties(self, mailed: Provisioned) -> None:
        """South signs with north's identity key: the requests are good each by itself."""
        folder = mailed.folder / "twin"
        shutil.copytree(mailed.machine("south") / "keys", folder)
        shutil.copy(mailed.machine("north") / "keys" / "identity.key", folder / "identity.key")
        north, south = (load_card(mailed.machine(name) / "keys" / "card.json") for name in ("north", "south"))
        card = type(south)(**{**south.model_dump(), "identity": north.identity})
        invitation = load_invitation(mailed.machine("south") / "invitation.json")
        path = mailed.folder / "mail" / "twin.json"
        path.write_text(enrolment_request(invitation, card, load_keys(folder)).to_json())
        error = refused(CallerError, "collect", mailed.desk, mailed.request("north"), path)
        assert "'north' and 'south' show the same identity key" in str(error)
        assert self.nothing_kept(mailed)

    def test_another_request_of_the_same_party_waits_for_a_word(self, mailed: Provisioned) -> None:
        mailed.collect("north")
        before = fingerprint(load_request(mailed.request("north")).card)
        shutil.rmtree(mailed.machine("north") / "keys")
        after = mailed.enrol("north").splitlines()[-1].strip()
        error = str(refused(CallerError, "collect", mailed.desk, mailed.request("north")))
        assert "'north' has sent a request with other keys" in error and before in error and after in error
        assert before in run("status", mailed.desk)
        assert after in mailed.collect("north", more=("--replace", "north"))

    def test_an_answer_to_another_invitation(self, mailed: Provisioned) -> None:
        plan = mailed.folder / "plan.toml"
        plan.write_text(PLAN.replace("127.0.0.1:8443", "elsewhere.example.org:8443"))
        run("new", plan, mailed.desk, "--update")
        error = refused(CallerError, "collect", mailed.desk, mailed.request("north"))
        assert "the request of 'north' answers another invitation" in str(error)
        shutil.copy(mailed.desk / "parties" / "north" / "invitation.json", mailed.machine("north"))
        mailed.enrol("north")
        mailed.collect("north")

    def test_a_kept_request_that_was_changed_since(self, mailed: Provisioned) -> None:
        mailed.collect(*NAMES)
        shutil.copy(mailed.desk / "requests" / "south.json", mailed.desk / "requests" / "north.json")
        assert "the card of 'south' has the name south, and the invitation says north" in str(
            refused(CallerError, "publish", mailed.desk)
        )
        assert not (mailed.desk / "roster.json").exists()

    def test_an_expired_certificate(self, mailed: Provisioned) -> None:
        desk, late = EnrolmentDesk.at(mailed.desk), datetime.now(UTC) + timedelta(days=900)
        with pytest.raises(CallerError, match="the certificate of 'north' expired"):
            desk.collect([load_request(mailed.request("north"))], late)

    def test_no_roster_before_all_are_there(self, mailed: Provisioned) -> None:
        mailed.collect("server", "north")
        assert "there is no request yet of south, west" in str(refused(CallerError, "publish", mailed.desk))

    def test_what_is_no_request(self, mailed: Provisioned) -> None:
        path = mailed.folder / "mail" / "x.json"
        path.write_text('{"card": 1}')
        assert str(path) in str(refused(CallerError, "collect", mailed.desk, path))
        assert "`fed-em provision enrol`" in str(refused(CallerError, "collect", mailed.desk, path.with_name("none")))


class TestJoining:
    def test_the_published_roster_stays(self, enrolled: Provisioned) -> None:
        before = (enrolled.desk / "roster.json").read_bytes()
        run("publish", enrolled.desk)
        assert (enrolled.desk / "roster.json").read_bytes() == before
        for name in NAMES:
            assert (enrolled.desk / "parties" / name / "roster.json").read_bytes() == before

    def test_again_changes_nothing(self, enrolled: Provisioned) -> None:
        file = enrolled.machine("north") / "tenant.toml"
        before = file.read_bytes()
        assert "pins it already" in run("join", enrolled.machine("north"))
        assert file.read_bytes() == before

    def test_comments_stay_when_the_pin_is_written(self, enrolled: Provisioned) -> None:
        homes = (enrolled.desk / "parties" / "north", enrolled.machine("north"))
        made, pinned = ((home / "tenant.toml").read_text().splitlines() for home in homes)
        assert [k for k, (a, b) in enumerate(zip(made, pinned, strict=True)) if a != b] == [5]

    @pytest.mark.parametrize("pin", [None, "", "0" * 64, "abcd"])
    def test_nothing_is_pinned_that_nobody_compared(
        self, enrolled: Provisioned, tmp_path: Path, pin: str | None
    ) -> None:
        home = tmp_path / "north"
        shutil.copytree(enrolled.machine("north"), home)
        shutil.copy(enrolled.desk / "parties" / "north" / "tenant.toml", home)
        options = [] if pin is None else ["--pin", pin]
        refused(CallerError, "join", home, *options)
        assert read_tenant_configuration(home / "tenant.toml").roster_hash == "0" * 64

    def test_a_roster_without_ones_own_keys(self, enrolled: Provisioned, tmp_path: Path) -> None:
        home = tmp_path / "north"
        shutil.copytree(enrolled.machine("north"), home)
        shutil.rmtree(home / "keys")
        create_tenant_keys(home / "keys", "north", 500, datetime.now(UTC))
        assert "is not the one that the roster lists for 'north'" in str(refused(CallerError, "join", home))

    def test_a_roster_of_others(self, enrolled: Provisioned, tmp_path: Path) -> None:
        home = tmp_path / "north"
        shutil.copytree(enrolled.machine("north"), home)
        file = home / "invitation.json"
        for was, is_now, said in (
            ("clinics", "banks", "the roster is of 'clinics'"),
            ("500", "50", "hold other than the 50 rows"),
        ):
            file.write_text((enrolled.machine("north") / "invitation.json").read_text().replace(was, is_now))
            assert said in str(refused(CallerError, "join", home))

    def test_other_keys_after_publishing_go_by_rotation(self, enrolled: Provisioned, tmp_path: Path) -> None:
        copy = copied(enrolled, tmp_path / "copy")
        shutil.rmtree(copy.machine("north") / "keys")
        copy.enrol("north")
        error = refused(CallerError, "collect", copy.desk, copy.request("north"), "--replace", "north")
        assert "fed-em provision renew" in str(error)

    def test_renewed_keys_come_into_the_next_version(self, enrolled: Provisioned, tmp_path: Path) -> None:
        from typer.testing import CliRunner

        from fed_em_simulations import command_line

        copy = copied(enrolled, tmp_path / "copy")
        home, draft = copy.machine("north"), tmp_path / "draft.json"
        old = {path: path.read_bytes() for path in (home / "keys").iterdir()}
        run("renew", home)
        first = (home / "rotation.json").read_bytes()
        run("renew", home)
        assert (home / "rotation.json").read_bytes() == first
        assert {path: path.read_bytes() for path in (home / "keys").iterdir()} == old
        result = CliRunner().invoke(
            command_line.app,
            ["roster", "rotate", str(copy.desk / "roster.json"), str(draft), str(home / "rotation.json")],
            catch_exceptions=False,
        )
        assert result.exit_code == 0
        listed = json.loads(draft.read_text())["roster"]["tenants"][0]
        assert listed["identity"] == load_card(home / "new-keys" / "card.json").identity


def test_a_request_says_nothing_but_public_things(enrolled: Provisioned) -> None:
    request = json.loads(enrolled.request("north").read_text())
    assert set(request) == {"invitation", "card", "by_identity", "by_tls"}
    assert set(request["card"]) == {"role", "name", "row_cap", "identity", "certificate"}
    assert enrolment.REQUEST == "request.json"
