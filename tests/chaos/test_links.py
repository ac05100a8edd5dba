"""Links that are cut, that are half-open, that are late; processes that stand still; certificates that expire."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from harm import Fault, fault_at
from harness import KILLED, Chaos, at_once
from oracle import CONVERGING, assert_clear, assert_it_ended_right, federation_of

from fed_em_protocols.certificates import VALIDITY, self_signed
from fed_em_protocols.errors import SERVER
from fed_em_protocols.party import TLS_CERTIFICATE, TLS_KEY, party_of
from fed_em_server.record import Participation
from fed_em_simulations.federation_folder import FederationFolder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.xdist_group("chaos of links")]


# Until a certificate expires: long enough for all to be linked, on a busy machine too.
_SOON = timedelta(seconds=15)


def tell(place: str, word: str) -> Fault:
    return fault_at(place, "tell", word=word)


def links_that_are_cut_come_back(folder: Path) -> None:
    """At each phase of a round and of a set-up, of three tenants."""
    federation = federation_of(folder, CONVERGING)
    cuts = ("after send OpenWindow", "after send SetUp", "after send Header 9", "after receive Upload 10",
            "after send Proposal 18", "after send Certificate 26", "after receive Opening 30")  # fmt: skip
    faults = tuple(tell(place, f"cut t{k % 3} 0.3") for k, place in enumerate(cuts))
    account = Chaos(federation, {SERVER: [faults]}).run(800)
    assert len(account.struck[SERVER]) == len(cuts)
    assert_it_ended_right(federation, account, CONVERGING)


def a_half_open_link_is_found_and_dialled_anew(folder: Path) -> None:
    """Neither end is told; nothing comes through. Pings find it within the thirty seconds that are promised."""
    federation = federation_of(folder, CONVERGING)
    faults = (tell("after send Header 13", "half-open t1 0"), tell("before send Header 20", "hold t1 32"))
    account = Chaos(federation, {SERVER: [faults]}).run(800)
    record = assert_it_ended_right(federation, account, CONVERGING)
    parts = [each.participation[1] for each in record.rounds]
    assert not parts[3].in_sum and parts[-1].in_sum
    assert account.last("t1").said.count("ping timeout") == 1


def a_tenant_that_stood_still_comes_back_and_a_server_that_did_loses_nothing(folder: Path) -> None:
    """Both for longer than every deadline that ran."""
    federation = federation_of(folder, CONVERGING)
    faults = {
        "t1": [(Fault("after mark round", 4, "stop", 4.0),)],
        SERVER: [(Fault("after send Header", 61, "stop", 9.0),)],
    }
    account = Chaos(federation, faults).run(800)
    assert all(len(struck) == 1 for struck in account.struck.values())
    record = assert_it_ended_right(federation, account, CONVERGING)
    assert Participation.LATE in {each.participation[1] for each in record.rounds}


def expiring(federation: FederationFolder, name: str) -> FederationFolder:
    """The federation with a roster that lists a certificate of one party that ends soon."""
    keys = federation.folder / ("server" if name == SERVER else f"tenants/{name}") / "keys"
    key = load_pem_private_key((keys / TLS_KEY).read_bytes(), password=None)
    assert isinstance(key, EllipticCurvePrivateKey)
    certificate = self_signed(key, name, f"{name}.fed-em", datetime.now(UTC) + _SOON - VALIDITY + timedelta(hours=1))
    (keys / TLS_CERTIFICATE).write_bytes(certificate)
    old, roster = party_of(federation.roster, name).certificate, federation.roster
    roster = type(roster).model_validate_json(
        roster.to_json().replace(*(json.dumps(each) for each in (old, certificate.decode())))
    )
    assert roster.digest != federation.roster.digest
    for home in (federation.folder / "server", *(path.parent for path in federation.tenant_files.values())):
        (home / "roster.json").write_text(roster.to_json())
    for path in federation.tenant_files.values():
        path.write_text(path.read_text().replace(federation.roster.digest.hex(), roster.digest.hex()))
    return replace(federation, roster=roster)


def held_up(*faults: Fault) -> tuple[Fault, ...]:
    """The server stands still at its third round until certificates have expired, and has the faults behind that."""
    return (tell("before send Header 9", f"hold t1 {_SOON.total_seconds()}"), *faults)


def a_tenant_whose_certificate_expires_stays_linked_and_is_told_why_it_cannot_come_back(folder: Path) -> None:
    """Nothing else ends: neither the session, nor the next process of its server."""
    federation = expiring(federation_of(folder, CONVERGING), "t1")
    first = held_up(tell("after send Header 17", "cut t1 0"), fault_at("before send Header 25"))
    account = Chaos(federation, {SERVER: [first]}, patience=30).run(800)
    record = assert_it_ended_right(federation, account, CONVERGING, without=("t1",))
    parts = [each.participation[1] for each in record.rounds]
    assert parts[2:4] == [Participation.SUMMED] * 2, "its link outlived the certificate"
    assert not parts[-1].in_sum and record.converged
    (tenant,) = account.lives_of("t1")
    assert tenant.status == 2
    assert_clear(tenant.said, "the certificate of 't1' expired on", "makes new keys with `fed-em keygen`")
    killed, after = account.lives_of(SERVER)
    assert (killed.status, after.status) == (KILLED, 0)
    assert "the certificate of 't1' expired on" in " ".join(after.said.split())


def a_server_whose_certificate_expires_keeps_its_links_and_nobody_comes_anew(folder: Path) -> None:
    federation = expiring(federation_of(folder, CONVERGING), SERVER)
    first = held_up(tell("after send Header 17", "cut t1 0"), fault_at("before send Header 41"))
    account = Chaos(federation, {SERVER: [first]}, patience=30).run(800)
    assert [life.status for life in account.lives_of(SERVER)] == [KILLED, 2], account.told()
    assert [account.last(name).status for name in federation.tenant_files] == [2] * 4, account.told()
    for party in (SERVER, *federation.tenant_files):
        assert_clear(account.last(party).said, "the certificate of 'server' expired on", "a new version of the roster")
    assert account.lives_of(SERVER)[0].said.count("iteration") >= 6, "it went on with those who were linked"


RUNS = at_once(
    links_that_are_cut_come_back,
    a_half_open_link_is_found_and_dialled_anew,
    a_tenant_that_stood_still_comes_back_and_a_server_that_did_loses_nothing,
    a_tenant_whose_certificate_expires_stays_linked_and_is_told_why_it_cannot_come_back,
    a_server_whose_certificate_expires_keeps_its_links_and_nobody_comes_anew,
)


@pytest.mark.parametrize("name", RUNS)
def test_run(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    RUNS.outcome(name, tmp_path_factory)
