"""Certificates that are their own trust anchors: good for both ends of TLS, and to vouch for nobody else."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from cryptography import x509

from fed_em.errors import CallerError
from fed_em_protocols.errors import SERVER
from fed_em_protocols.party import SERVER_HOST, check_certificate, load_keys
from tests.parties.forest import NAMES, MakeParties, Parties, vouched_for

NOON = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)


@contextmanager
def echo_server(key: bytes, chain: bytes, clients: bytes) -> Iterator[str]:
    """A gRPC server that lets in whom `clients` (PEM) vouch for; gives its address."""
    server = grpc.server(ThreadPoolExecutor(1))
    echo = grpc.unary_unary_rpc_method_handler(lambda request, _: request)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", {"Say": echo}),))
    credentials = grpc.ssl_server_credentials([(key, chain)], clients, require_client_auth=True)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0)


def says(address: str, trusted: bytes, key: bytes, chain: bytes) -> bytes:
    """What an echo server answers a client."""
    credentials = grpc.ssl_channel_credentials(trusted, key, chain)
    with grpc.secure_channel(address, credentials, [("grpc.ssl_target_name_override", SERVER_HOST)]) as channel:
        return bytes(channel.unary_unary("/test.Echo/Say")(b"hello", timeout=3))


def tenants_of(parties: Parties) -> bytes:
    return "".join(tenant.certificate for tenant in parties.roster.tenants).encode()


class TestGrpc:
    def test_every_tenant_gets_through(self, parties: Parties) -> None:
        server = load_keys(parties.folder / SERVER)
        with echo_server(server.tls_key, server.tls_certificate, tenants_of(parties)) as address:
            for name in NAMES:
                keys = load_keys(parties.folder / name)
                assert says(address, server.tls_certificate, keys.tls_key, keys.tls_certificate) == b"hello"

    def test_a_tenant_cannot_vouch_for_another(self, parties: Parties) -> None:
        server = load_keys(parties.folder / SERVER)
        key, chain = vouched_for(load_keys(parties.folder / "ash"), "beech", "beech.fed-em")
        with (
            echo_server(server.tls_key, server.tls_certificate, tenants_of(parties)) as address,
            pytest.raises(grpc.RpcError) as caught,
        ):
            says(address, server.tls_certificate, key, chain)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE

    def test_whoever_the_server_signs_for_is_not_the_server(self, parties: Parties) -> None:
        server, ash = load_keys(parties.folder / SERVER), load_keys(parties.folder / "ash")
        key, chain = vouched_for(server, SERVER, SERVER_HOST)
        with (
            echo_server(key, chain, tenants_of(parties)) as address,
            pytest.raises(grpc.RpcError) as caught,
        ):
            says(address, server.tls_certificate, ash.tls_key, ash.tls_certificate)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE

    def test_a_tenant_is_not_the_server(self, parties: Parties) -> None:
        server, ash, beech = (load_keys(parties.folder / name) for name in (SERVER, "ash", "beech"))
        with (
            echo_server(ash.tls_key, ash.tls_certificate, tenants_of(parties)) as address,
            pytest.raises(grpc.RpcError) as caught,
        ):
            says(address, server.tls_certificate, beech.tls_key, beech.tls_certificate)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE

    def test_a_stranger_is_not_let_in(self, parties: Parties, make_parties: MakeParties) -> None:
        server = load_keys(parties.folder / SERVER)
        stranger = load_keys(make_parties("strangers").folder / "ash")
        with (
            echo_server(server.tls_key, server.tls_certificate, tenants_of(parties)) as address,
            pytest.raises(grpc.RpcError) as caught,
        ):
            says(address, server.tls_certificate, stranger.tls_key, stranger.tls_certificate)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


class TestOpenSsl:
    def test_the_strict_verification_of_openssl_accepts_the_server(self, parties: Parties) -> None:
        server, ash = load_keys(parties.folder / SERVER), parties.folder / "ash"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        context.load_verify_locations(cadata=server.tls_certificate.decode())
        there = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        there.verify_flags |= ssl.VERIFY_X509_STRICT
        there.verify_mode = ssl.CERT_REQUIRED
        there.load_cert_chain(parties.folder / SERVER / "tls.crt", parties.folder / SERVER / "tls.key")
        there.load_verify_locations(cadata=tenants_of(parties).decode())
        context.load_cert_chain(ash / "tls.crt", ash / "tls.key")
        one, other = ssl.MemoryBIO(), ssl.MemoryBIO()
        dialling = context.wrap_bio(one, other, server_hostname=SERVER_HOST)
        answering = there.wrap_bio(other, one, server_side=True)
        for _ in range(3):
            for end in (dialling, answering):
                try:
                    end.do_handshake()
                except ssl.SSLWantReadError:
                    continue
        assert answering.getpeercert(binary_form=True) == ssl.PEM_cert_to_DER_cert(parties.cards["ash"].certificate)


class TestValidity:
    def test_contents(self, make_parties: MakeParties) -> None:
        parties = make_parties(now=NOON)
        for name, host in [("ash", "ash.fed-em"), (SERVER, "server.fed-em")]:
            certificate = parties.cards[name].parsed_certificate
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            assert certificate.subject.rfc4514_string() == f"CN={name}"
            assert names.get_values_for_type(x509.DNSName) == [host]
            assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
            assert certificate.not_valid_after_utc - certificate.not_valid_before_utc == timedelta(days=825)
            assert certificate.not_valid_before_utc == NOON - timedelta(hours=1)

    @pytest.mark.parametrize("days", [0, 1, 824])
    def test_in_its_time_it_is_valid(self, make_parties: MakeParties, days: int) -> None:
        parties = make_parties(now=NOON)
        for name in (*NAMES, SERVER):
            check_certificate(parties.roster, name, NOON + timedelta(days=days))

    @pytest.mark.parametrize("name", [*NAMES, SERVER])
    def test_expired(self, make_parties: MakeParties, name: str) -> None:
        roster = make_parties(now=NOON).roster
        with pytest.raises(CallerError, match=f"the certificate of '{name}' expired on 2028-09-03 11:00 UTC") as caught:
            check_certificate(roster, name, NOON + timedelta(days=826))
        assert "fed-em keygen" in caught.value.remedy

    @pytest.mark.parametrize("name", [*NAMES, SERVER])
    def test_not_yet_valid(self, make_parties: MakeParties, name: str) -> None:
        roster = make_parties(now=NOON).roster
        expected = f"of '{name}' is not valid before 2026-06-01 11:00 UTC, and here it is 2026-06-01 10:59"
        with pytest.raises(CallerError, match=expected) as caught:
            check_certificate(roster, name, NOON - timedelta(minutes=61))
        assert "clock" in caught.value.remedy

    def test_whatever_zone_the_clock_tells(self, make_parties: MakeParties) -> None:
        from datetime import timezone

        roster = make_parties(now=NOON).roster
        late = (NOON - timedelta(hours=2)).astimezone(timezone(timedelta(hours=9)))
        with pytest.raises(CallerError, match="here it is 2026-06-01 10:00"):
            check_certificate(roster, "ash", late)

    def test_an_unknown_party_is_named(self, parties: Parties) -> None:
        with pytest.raises(CallerError, match="no tenant 'elm'"):
            check_certificate(parties.roster, "elm", NOON)
