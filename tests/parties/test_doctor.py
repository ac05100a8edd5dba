"""`fed-em doctor` finds each thing that can be wrong, names it, and leaves the rest alone."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from typer.testing import CliRunner

from fed_em.errors import CallerError, EnvironmentFault
from fed_em_client import link_checks
from fed_em_client.configuration import read_tenant_configuration
from fed_em_client.tenant_doctor import examine_tenant
from fed_em_protocols import checks
from fed_em_protocols.addresses import split_address
from fed_em_protocols.checks import Finding
from fed_em_protocols.errors import TermsRefused
from fed_em_protocols.limits import PROTOCOL_VERSION
from fed_em_protocols.party import SERVER_HOST, create_tenant_keys, load_keys, make_roster
from fed_em_protocols.policy import check_terms
from fed_em_server.configuration import read_server_configuration
from fed_em_server.grpc_hub import GrpcHub
from fed_em_server.server_doctor import examine_server
from fed_em_server.session import plan_session
from fed_em_simulations.command_line import app
from tests.parties.forest import NAMES, MakeParties, Parties, as_authority, vouched_for

PROTECTION = ["trust", "losses", "blocks"]
TENANT_CHECKS = [
    "configuration", "versions", "swap", "policy", "roster", "keys", "certificate", "certificate", "clock", *PROTECTION, "name",
]  # fmt: skip
SERVER_CHECKS = [
    "configuration",
    "versions",
    "swap",
    "roster",
    "keys",
    "name",
    "port",
    "checkpoints",
    "encoding",
    "terms",
    "description",
    "privacy",
]


def tenant_findings(path: Path, now: datetime | None = None) -> list[Finding]:
    return list(examine_tenant(path, now or datetime.now(UTC)))


def server_findings(path: Path, now: datetime | None = None) -> list[Finding]:
    return list(examine_server(path, now or datetime.now(UTC)))


def the_failure(findings: list[Finding]) -> Finding:
    """The one check that failed; it must say what to do."""
    failed = [finding for finding in findings if finding.failed]
    assert len(failed) == 1, failed
    assert failed[0].remedy
    return failed[0]


@contextmanager
def listening(parties: Parties, keys: str = "server", roster_of: Parties | None = None) -> Iterator[str]:
    """A coordinator's gRPC end, up and running; gives its address."""
    found = load_keys(parties.folder / keys)
    hub = GrpcHub("127.0.0.1:0", (roster_of or parties).roster, found.tls_key, found.tls_certificate)
    try:
        yield f"127.0.0.1:{hub.port}"
    finally:
        hub.close()


def closed_port() -> str:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


class TestTenant:
    def test_a_sound_tenant_and_a_running_server(self, parties: Parties) -> None:
        with listening(parties) as address:
            findings = tenant_findings(parties.tenant_file(server=f'"{address}"'))
        assert [finding.what for finding in findings] == [*TENANT_CHECKS, "connection", "TLS", "data"]
        assert not any(finding.failed for finding in findings)
        details = {finding.what: finding.detail for finding in findings}
        assert "the server shows the roster's certificate, and accepts this tenant's" in details["TLS"]
        assert "TLSv1.3" in details["TLS"]
        assert "2 rows, 2 columns, 2 of them numeric" in details["data"]
        assert details["trust"].startswith("malicious-server: ")
        assert "n = 3, f = 0: τ = 2 shares, q = 2 of 3 witnesses" in details["losses"]
        assert details["blocks"].startswith("one block of 3 tenants: ")
        for package in ("fed-em ", "flwr ", "grpcio ", "numpy ", f"protocol {PROTOCOL_VERSION}", "suite 1"):
            assert package in details["versions"]

    def test_a_supernode_that_runs_any_bundle(self, parties: Parties) -> None:
        file = parties.tenant_file(flower='{trusted_entities = "trusted.yaml"}')
        trusted = parties.folder / "trusted.yaml"
        key = Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
        trusted.write_text(f"fpk_officer: {key}\n")
        said = {finding.what: finding for finding in tenant_findings(file)}["signed bundle"]
        assert said.detail == "Flower's bundles must be signed by fpk_officer"
        trusted.write_text("{}\n")
        failed = {finding.what: finding for finding in tenant_findings(file) if finding.failed}["signed bundle"]
        assert "names nobody: the check of signatures is off" in failed.detail
        assert failed.remedy

    def test_what_the_policy_gives_up_is_told(self, parties: Parties) -> None:
        policy = '{allow_semi_honest = true, difference_guard = "off"}'
        told = {f.what: f.detail for f in tenant_findings(parties.tenant_file(policy=policy))}
        assert told["trust"].startswith("semi-honest: ")
        assert "one that does not follow it could learn more" in told["trust"]
        assert (
            told["losses"]
            == "n = 3, f = 0: τ = 2 shares; a round survives the loss of 1 tenant between upload and opening"
        )
        assert "the difference guard is off" in told["blocks"]

    @pytest.mark.parametrize(
        "policy", ["{}", "{privacy = {required = true}}", "{privacy = {epsilon = 1.0, delta = 1e-6}}"]
    )
    def test_a_tenant_with_a_budget_is_told_of_sessions_that_it_does_not_bound(
        self, parties: Parties, policy: str
    ) -> None:
        told = {f.what: f.detail for f in tenant_findings(parties.tenant_file(policy=policy))}
        assert ("without required = true" in told["policy"]) is ("epsilon" in policy)

    def test_a_policy_that_the_rosters_blocks_cannot_meet(self, parties: Parties) -> None:
        failed = {f.what: f for f in tenant_findings(parties.tenant_file(policy="{colluders = 2}")) if f.failed}
        assert "a block of this roster has 3 tenants, fewer than f + 2 = 4" in failed["blocks"].detail
        assert "colluders = 1" in failed["blocks"].remedy

    @pytest.mark.parametrize(
        ("policy", "complaint"),
        [
            ('{difference_guard = "on"}', "policy.difference_guard: "),
            ('{schema_hash = "abc"}', "policy.schema_hash: "),
            ("{mass_floor = -1}", "policy.mass_floor: "),
            ("{minimum_cohort = 2}", "policy.minimum_cohort: "),
        ],
    )
    def test_a_policy_that_is_none(self, parties: Parties, policy: str, complaint: str) -> None:
        failure = tenant_findings(parties.tenant_file(policy=policy))[0]
        assert failure.failed
        assert complaint in failure.detail

    def test_a_server_that_does_not_run(self, parties: Parties) -> None:
        address = closed_port()
        failure = the_failure(tenant_findings(parties.tenant_file(server=f'"{address}"')))
        assert failure.what == "connection"
        assert f"port {address.split(':')[1]}: Connection refused" in failure.detail

    def test_a_name_without_an_address(self, parties: Parties, monkeypatch: pytest.MonkeyPatch) -> None:
        def unknown(*given: object, **more: object) -> None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr(socket, "getaddrinfo", unknown)
        failure = the_failure(tenant_findings(parties.tenant_file(server='"hub.example.org:8443"')))
        assert failure.what == "name"
        assert "'hub.example.org' has no address here: Name or service not known" in failure.detail

    def test_a_server_with_other_keys(self, parties: Parties, make_parties: MakeParties) -> None:
        with listening(make_parties("impostors"), roster_of=parties) as address:
            failure = the_failure(tenant_findings(parties.tenant_file(server=f'"{address}"')))
        assert failure.what == "TLS"
        assert "is not the one of the roster's server" in failure.detail

    def test_a_tenant_of_the_roster_is_not_its_server(self, parties: Parties) -> None:
        with listening(parties, keys="beech") as address:
            failure = the_failure(tenant_findings(parties.tenant_file(server=f'"{address}"')))
        assert (failure.what, "is not the one of the roster's server" in failure.detail) == ("TLS", True)

    def test_whoever_the_server_signs_for_is_not_the_server(self, parties: Parties) -> None:
        """Even if the roster lists a certificate that may sign others, which `fed-em keygen` does not make."""
        authority = as_authority(load_keys(parties.folder / "server"))
        card = parties.cards["server"].model_copy(update={"certificate": authority.tls_certificate.decode()})
        roster = make_roster("forest", card, [parties.cards[name] for name in NAMES])
        hub = GrpcHub("127.0.0.1:0", roster, *vouched_for(authority, "hub", SERVER_HOST))
        with closing(hub), pytest.raises(EnvironmentFault, match="roster's server, another certificate"):
            link_checks.shake_hands("127.0.0.1", hub.port, roster, load_keys(parties.folder / "ash"))

    def test_a_server_whose_certificate_has_expired(self, make_parties: MakeParties) -> None:
        old = make_parties(now=datetime(2020, 1, 1, tzinfo=UTC))
        with listening(old) as address:
            failed = {f.what: f.detail for f in tenant_findings(old.tenant_file(server=f'"{address}"')) if f.failed}
        assert "certificate has expired" in failed["TLS"]

    def test_a_server_that_does_not_know_this_tenant(self, parties: Parties, make_parties: MakeParties) -> None:
        with listening(parties, roster_of=make_parties("others")) as address:
            failure = the_failure(tenant_findings(parties.tenant_file(server=f'"{address}"')))
        assert failure.what == "TLS"
        assert "does not accept this party's certificate" in failure.detail

    @pytest.mark.parametrize("reply", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b""])
    def test_another_program_at_the_port(self, parties: Parties, reply: bytes) -> None:
        with closing(socket.create_server(("127.0.0.1", 0))) as listener:
            address = f"127.0.0.1:{listener.getsockname()[1]}"

            def serve() -> None:
                for _ in range(2):  # the connection, then TLS
                    link, _ = listener.accept()
                    with link:
                        link.recv(1)
                        link.sendall(reply)

            thread = threading.Thread(target=serve, daemon=True)
            thread.start()
            failure = the_failure(tenant_findings(parties.tenant_file(server=f'"{address}"')))
            thread.join(5)
        assert failure.what == "TLS"
        assert f"no TLS with 127.0.0.1 port {address.split(':')[1]}" in failure.detail

    def test_a_server_that_never_greets_has_not_refused(
        self, parties: Parties, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        accepted = link_checks.Accepted("TLSv1.3", greeted=False)
        monkeypatch.setattr("fed_em_client.tenant_doctor.shake_hands", lambda *_: accepted)
        with listening(parties) as address:
            findings = tenant_findings(parties.tenant_file(server=f'"{address}"'))
        assert "has not refused this tenant's so far" in next(f.detail for f in findings if f.what == "TLS")

    def test_another_roster_than_the_pinned_one(self, parties: Parties, make_parties: MakeParties) -> None:
        pin = make_parties("others").roster.digest.hex()
        with listening(parties) as address:
            path = parties.tenant_file(server=f'"{address}"', roster_hash=f'"{pin}"')
            failure = the_failure(tenant_findings(path))
        assert failure.what == "roster"
        assert "is not the one pinned here" in failure.detail
        assert parties.roster.digest.hex() in failure.remedy

    def test_a_name_that_is_not_in_the_roster(self, parties: Parties) -> None:
        path = parties.tenant_file("elm", keys='"ash"')
        failed = [finding for finding in tenant_findings(path) if finding.failed and finding.what == "roster"]
        assert "no tenant 'elm' in the roster of 'forest'" in failed[0].detail

    def test_anothers_keys(self, parties: Parties) -> None:
        failed = {f.what: f.detail for f in tenant_findings(parties.tenant_file(keys='"beech"')) if f.failed}
        assert "the identity key in" in failed["keys"]
        assert "for 'ash'" in failed["keys"]

    def test_open_keys(self, parties: Parties) -> None:
        (parties.folder / "ash" / "tls.key").chmod(0o644)
        failed = {f.what: f for f in tenant_findings(parties.tenant_file()) if f.failed}
        assert "chmod 600" in failed["keys"].remedy

    def test_expired_certificates(self, make_parties: MakeParties) -> None:
        made = datetime(2026, 6, 1, tzinfo=UTC)
        path = make_parties(now=made).tenant_file()
        later = made + timedelta(days=900)
        failed = [f for f in tenant_findings(path, later) if f.failed and f.what in ("certificate", "clock")]
        assert [f.what for f in failed] == ["certificate", "certificate", "clock"]
        assert "the certificate of 'ash' expired" in failed[0].detail
        assert "the certificate of 'server' expired" in failed[1].detail
        assert "every certificate has expired" in failed[2].detail

    def test_a_clock_that_is_behind(self, make_parties: MakeParties) -> None:
        made = datetime(2026, 6, 1, tzinfo=UTC)
        path = make_parties(now=made).tenant_file()
        failed = [f for f in tenant_findings(path, made - timedelta(hours=3)) if f.failed and f.what == "clock"]
        assert "this machine's clock shows 2026-05-31 21:00 UTC" in failed[0].detail
        assert failed[0].remedy == "set the clock"

    @pytest.mark.parametrize(
        ("content", "complaint"),
        [
            ("age,weight\n", "has no rows"),
            ("", "is no readable .csv file"),
            ("age,weight\n" + "30,70\n" * 51, "has 51 rows, the roster's row cap of this tenant is 50"),
            ("age,weight\n30\n", "line 2 has 1 values instead of 2"),
        ],
    )
    def test_data_that_will_not_do(self, parties: Parties, content: str, complaint: str) -> None:
        path = parties.tenant_file()
        (parties.folder / "ash.csv").write_text(content)
        failed = {f.what: f.detail for f in tenant_findings(path) if f.failed}
        assert complaint in failed["data"]

    def test_missing_cells_are_counted_by_column(self, parties: Parties) -> None:
        path = parties.tenant_file()
        (parties.folder / "ash.csv").write_text("age,weight,name\n30,,Jo\n,,Al\n31,70,Bo\n")
        told = {f.what: f.detail for f in tenant_findings(path)}
        assert told["data"].endswith("2 of them numeric; missing cells: 1 in 'age', 2 in 'weight'")

    def test_a_mapped_column_that_is_missing(self, parties: Parties) -> None:
        failed = {f.what: f.detail for f in tenant_findings(parties.tenant_file(columns='{age = "years"}')) if f.failed}
        assert "has no column 'years'" in failed["data"]

    def test_a_missing_package(self, parties: Parties, monkeypatch: pytest.MonkeyPatch) -> None:
        def absent(package: str) -> str:
            raise PackageNotFoundError(package)

        monkeypatch.setattr(checks, "version", absent)
        failed = {f.what: f.detail for f in tenant_findings(parties.tenant_file()) if f.failed}
        assert failed["versions"] == "package 'fed-em' is not installed"

    @pytest.mark.parametrize(
        "address", ["8443", "host:", ":8443", "host:65536", "::1:8443", "host:x", "http://host:80"]
    )
    def test_an_address_that_is_none(self, parties: Parties, address: str) -> None:
        failure = tenant_findings(parties.tenant_file(server=f'"{address}"'))[0]
        assert failure.failed
        assert f"server: '{address}' is no host:port" in failure.detail

    def test_a_broken_configuration_ends_the_checks(self, parties: Parties) -> None:
        findings = tenant_findings(parties.tenant_file(rooster='"x"'))
        assert [(f.what, f.failed) for f in findings] == [("configuration", True), ("versions", False)]
        assert "did you mean 'roster'?" in findings[0].remedy


class TestLargeRosters:
    @pytest.fixture
    def many(self, parties: Parties) -> Parties:
        """Seventy tenants, of whom three are on disk."""
        named = [create_tenant_keys(parties.folder / f"more{i}", f"more{i}", 10, datetime.now(UTC)) for i in range(67)]
        cards = [*(parties.cards[name] for name in NAMES), *named]
        parties.roster_file.unlink()
        roster = make_roster("forest", parties.cards["server"], cards)
        roster.write_new(parties.roster_file)
        return replace(parties, roster=roster)

    def test_the_bits_that_a_session_states_are_told(self, many: Parties) -> None:
        told = server_findings(many.server_file(trust="{security_bits = 44, correctness_bits = 12}"))
        assert not any(f.failed for f in told)
        assert "chosen for 44 bits of security and 12 of correctness" in next(
            f.detail for f in told if f.what == "graph"
        )

    def test_the_complete_graph_if_that_is_what_a_session_states(self, many: Parties) -> None:
        told = server_findings(many.server_file(trust='{graph = "complete"}'))
        assert not any(f.failed for f in told)
        assert "graph" not in {f.what for f in told}
        assert "q = 37 of 70 witnesses" in next(f.detail for f in told if f.what == "losses")

    def test_the_bits_that_a_tenant_demands_are_told(self, many: Parties) -> None:
        told = {f.what: f.detail for f in reversed(tenant_findings(many.tenant_file(policy="{graph_bits = 44}")))}
        assert "chosen for 44 bits of security" in told["graph"]


class TestServer:
    def test_a_sound_server(self, parties: Parties) -> None:
        findings = server_findings(parties.server_file())
        assert [f.what for f in findings] == [*SERVER_CHECKS, *["certificate"] * 4, "clock", *PROTECTION]
        assert not any(f.failed for f in findings)
        details = {f.what: f.detail for f in findings}
        assert parties.roster.digest.hex() in details["roster"]
        assert details["terms"].startswith("malicious-server; sums of 3 tenants or more")

    def test_the_pin_that_it_prints_is_the_one_that_a_tenants_policy_takes(self, parties: Parties) -> None:
        told = next(f.detail for f in server_findings(parties.server_file()) if f.what == "description")
        pin = told.rsplit('"', 2)[1]
        policy = read_tenant_configuration(
            parties.tenant_file(policy=f'{{schema_hash = "{pin}"}}')
        ).policy.terms_policy()
        terms = plan_session(
            read_server_configuration(parties.server_file()),
            parties.roster,
            load_keys(parties.folder / "server").identity,
            "",
        ).terms
        check_terms(policy, terms, parties.roster)
        other = replace(policy, schema=bytes(32))
        with pytest.raises(TermsRefused, match="not the one pinned by this tenant's schema_hash"):
            check_terms(other, terms, parties.roster)

    def test_a_semi_honest_session_without_a_guard(self, parties: Parties) -> None:
        trust = '{mode = "semi-honest", difference_guard = "off"}'
        told = {f.what: f.detail for f in server_findings(parties.server_file(trust=trust))}
        assert told["trust"].startswith("semi-honest: ")
        assert "give that tenant's statistics away" in told["blocks"]

    def test_columns_with_missing_cells_are_part_of_what_tenants_pin(self, parties: Parties) -> None:
        columns = '[{name = "age", low = 0, high = 120, missing = true}, {name = "weight", low = 0, high = 300}]'
        findings = server_findings(parties.server_file(columns=columns))
        assert not any(finding.failed for finding in findings)
        told, complete = (
            {f.what: f.detail for f in found} for found in (findings, server_findings(parties.server_file()))
        )
        assert told["encoding"].startswith("the moments of at most 150 rows are exact to ")
        assert told["description"] != complete["description"]

    def test_a_mass_floor_is_told(self, parties: Parties) -> None:
        told = {f.what: f.detail for f in server_findings(parties.server_file(trust="{mass_floor = 2.5}"))}
        assert told["terms"].endswith("no moments of a component below 2.5 records")
        assert "no mass gate" not in told["terms"]

    def test_a_mass_floor_needs_certificates(self, parties: Parties) -> None:
        failure = the_failure(server_findings(parties.server_file(trust='{mode = "semi-honest", mass_floor = 2}')))
        assert failure.what == "terms"
        assert "a mass floor needs trust malicious-server" in failure.detail

    def test_dropouts_and_survivors_are_said_once(self, parties: Parties) -> None:
        path = parties.server_file(trust="{dropouts = 0.2, minimum_survivors = 3}")
        assert "dropouts and minimum_survivors say the same" in the_failure_of_configuration(path).detail

    def test_while_it_runs(self, parties: Parties) -> None:
        with listening(parties) as address:
            findings = server_findings(parties.server_file(listen=f'"{address}"'))
        assert not any(f.failed for f in findings)
        assert "is in use, by this roster's server" in next(f.detail for f in findings if f.what == "port")

    def test_while_another_server_runs(self, parties: Parties, make_parties: MakeParties) -> None:
        with listening(make_parties("others")) as address:
            failure = the_failure(server_findings(parties.server_file(listen=f'"{address}"')))
        assert failure.what == "port"
        assert "is not the one of the roster's server" in failure.detail

    def test_an_address_of_another_machine(self, parties: Parties) -> None:
        failure = the_failure(server_findings(parties.server_file(listen='"192.0.2.1:8443"')))
        assert "cannot listen on 192.0.2.1 port 8443" in failure.detail

    def test_one_expired_tenant_is_named(self, make_parties: MakeParties) -> None:
        made = datetime(2026, 6, 1, tzinfo=UTC)
        findings = server_findings(make_parties(now=made).server_file(), made + timedelta(days=900))
        failed = [f.detail for f in findings if f.failed and f.what == "certificate"]
        assert [next(name for name in ("server", *NAMES) if f"'{name}'" in detail) for detail in failed] == [
            "server", *NAMES,
        ]  # fmt: skip

    def test_row_caps_too_large_to_encode(self, parties: Parties) -> None:
        greedy = [parties.cards[name].model_copy(update={"row_cap": 2**40}) for name in NAMES]
        parties.roster_file.unlink()
        make_roster("forest", parties.cards["server"], greedy).write_new(parties.roster_file)
        failure = the_failure(server_findings(parties.server_file()))
        assert failure.what == "encoding"
        assert "fewer than 20 fraction bits would be left" in failure.detail

    def test_terms_that_break_a_rule(self, parties: Parties) -> None:
        failure = the_failure(server_findings(parties.server_file(trust="{minimum_survivors = 4}")))
        assert failure.what == "terms"
        assert "4 survivors cannot come from 3 tenants" in failure.detail

    def test_too_many_colluders(self, parties: Parties) -> None:
        failed = {f.what: f for f in server_findings(parties.server_file(trust="{colluders = 3}")) if f.failed}
        assert "n = 3, f = 3: a secret needs τ = 4 holders, and has 2" in failed["losses"].detail
        assert "a block of this roster has 3 tenants, fewer than f + 2 = 5" in failed["blocks"].detail
        assert set(failed) == {"terms", "losses", "blocks"}

    @pytest.mark.parametrize(
        ("model", "complaint"),
        [
            ('{family = "gausian-mixture", n_components = 2}', "did you mean 'gaussian-mixture'?"),
            ('{family = "gaussian-mixture", n_components = 0}', "n_components"),
            ("{}", "lacks 'family'"),
        ],
    )
    def test_a_model_that_is_none(self, parties: Parties, model: str, complaint: str) -> None:
        failure = the_failure_of_configuration(parties.server_file(model=model))
        assert complaint in failure.detail

    def test_a_column_that_stands_twice(self, parties: Parties) -> None:
        columns = '[{name = "age", low = 0, high = 1}, {name = "age", low = 0, high = 1}]'
        assert "column 'age' stands twice" in the_failure_of_configuration(parties.server_file(columns=columns)).detail


def the_failure_of_configuration(path: Path) -> Finding:
    finding = server_findings(path)[0]
    assert finding.failed
    assert str(path) in finding.detail
    return finding


class TestCommand:
    def test_a_tenant_with_a_failure(self, parties: Parties) -> None:
        result = CliRunner().invoke(app, ["doctor", str(parties.tenant_file(server=f'"{closed_port()}"'))])
        assert result.exit_code == 1
        lines = result.output.splitlines()
        assert sum(line.startswith("FAIL") for line in lines) == 1
        assert any(line.startswith("FAIL  connection") for line in lines)
        assert any(line.strip().startswith("remedy:") for line in lines)
        assert lines[-1] == "1 of these checks failed"

    def test_a_sound_server(self, parties: Parties) -> None:
        result = CliRunner().invoke(app, ["doctor", str(parties.server_file())])
        assert result.exit_code == 0
        assert result.output.splitlines()[-1] == "all is well"

    def test_brackets_in_a_path_are_shown_as_they_are(self, make_parties: MakeParties) -> None:
        path = make_parties("[bold]forest").server_file()
        assert str(path) in CliRunner().invoke(app, ["doctor", str(path)]).output

    @pytest.mark.parametrize("content", ["", "x = 1\n", 'keys = "keys"\n'])
    def test_a_file_of_neither_kind(self, tmp_path: Path, content: str) -> None:
        (tmp_path / "some.toml").write_text(content)
        with pytest.raises(CallerError, match=r"some\.toml is neither a tenant's file nor a server's"):
            CliRunner().invoke(app, ["doctor", str(tmp_path / "some.toml")], catch_exceptions=False)


@pytest.mark.parametrize(
    ("address", "expected"),
    [("localhost:1", ("localhost", 1)), ("[::1]:8443", ("::1", 8443)), ("127.0.0.1:0", ("127.0.0.1", 0))],
)
def test_addresses(address: str, expected: tuple[str, int]) -> None:
    assert split_address(address) == expected


def test_the_noise_of_a_private_session_is_told(parties: Parties) -> None:
    findings = server_findings(parties.server_file(privacy='{epsilon = 2.0, delta = 1e-5, unit = "tenant"}'))
    told = [finding.detail for finding in findings if finding.what == "privacy"]
    assert "differential privacy of each tenant" in told[0] and "the noise of" in told[1]
    assert "Noise leaves little" in told[-1]


def test_a_promise_that_colluders_could_undo_fails(parties: Parties) -> None:
    session = parties.server_file(
        privacy="{epsilon = 2.0, delta = 1e-5}",
        trust='{colluders = 3, minimum_survivors = 3, difference_guard = "off"}',
    )
    (privacy,) = [finding for finding in server_findings(session) if finding.what == "privacy"]
    assert privacy.failed and "no noise is left" in privacy.detail
