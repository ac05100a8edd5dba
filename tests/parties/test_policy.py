"""The tenant's policy: read, put into one form, held against what a session is about, and against the clock."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from fed_em.errors import CallerError
from fed_em.families import FAMILIES
from fed_em_client.configuration import PolicyTable, read_policy, read_tenant_configuration
from fed_em_client.hours import Span, within
from fed_em_client.policy_checks import Permit, check_description, check_hours
from fed_em_client.rows_work import RowsWork
from fed_em_client.take_part import open_tenant
from fed_em_client.tenant_doctor import examine_tenant
from fed_em_client.tenant_session import SessionLeft, TenantSession
from fed_em_protocols.checks import Finding
from fed_em_protocols.description import SessionDescription
from fed_em_protocols.errors import TermsRefused
from fed_em_protocols.messages import Advertise, Join, Refusal, RefusalCode, Upload
from fed_em_protocols.policy import commitment_to, salt_of
from fed_em_simulations.command_line import app
from tests.parties.forest import Parties
from tests.protocols.federation import MemoryMarks, TestFederation, identity_of, seeded_randomness
from tests.protocols.interferences import Watch

TWO_COLUMNS = (
    b'{"title": "growth", "model": {"family": "gaussian-mixture", "n_components": 2}, "columns": '
    b'[{"name": "age", "low": 0, "high": 120}, {"name": "weight", "low": 0, "high": 300}]}'
)
MONDAY = datetime(2026, 1, 5, tzinfo=UTC)  # winter, so Berlin is an hour ahead


class TestHours:
    @given(st.frozensets(st.integers(0, 6), min_size=1), st.integers(0, 1439), st.integers(1, 1440))
    def test_a_week_minute_by_minute_has_as_many_as_the_spans_days(
        self, days: frozenset[int], start: int, length: int
    ) -> None:
        end = start + length if start + length <= 1440 else start + length - 1440
        if start == end:
            return
        span = Span(days, start, end)
        inside = {(day, minute) for day in range(7) for minute in range(0, 1440) if span.holds(day, minute)}
        assert inside == {divmod((1440 * day + start + k) % 10080, 1440) for day in days for k in range(length)}
        assert Span.parse(str(span)) == span

    def test_a_night_belongs_to_the_day_on_which_it_starts(self) -> None:
        friday_night = Span.parse("fri 22:00-06:00")
        assert friday_night.holds(4, 1320) and friday_night.holds(5, 359)
        assert not friday_night.holds(4, 100) and not friday_night.holds(5, 360)

    def test_days_may_run_over_the_weeks_end(self) -> None:
        assert Span.parse("Sat-Mon 00:00-24:00").days == {5, 6, 0}

    def test_the_clock_is_the_zones(self) -> None:
        spans, berlin = [Span.parse("22:00-23:00")], ZoneInfo("Europe/Berlin")
        assert within(spans, berlin, MONDAY + timedelta(hours=21))
        assert not within(spans, berlin, MONDAY + timedelta(hours=22))
        summer = datetime(2026, 7, 6, 20, tzinfo=UTC)
        assert within(spans, berlin, summer) and not within(spans, berlin, summer + timedelta(hours=1))

    @pytest.mark.parametrize(
        "text",
        ["", "22-06", "22:00", "24:00-06:00", "06:00-06:00", "25:00-26:00", "10:60-11:00", "Mo 10:00-11:00", "Mon- 1:00-2:00"],
    )  # fmt: skip
    def test_what_is_none(self, text: str) -> None:
        with pytest.raises(ValueError, match=r"hours|time of day|day of the week"):
            Span.parse(text)


class TestReading:
    def test_a_file_of_its_own_is_the_same_as_a_table(self, parties: Parties) -> None:
        (parties.folder / "policy.toml").write_text('# ours\nhours = "Mon-Sun 22:00-06:00"\nminimum_cohort = 4\n')
        apart = read_tenant_configuration(parties.tenant_file(policy='"policy.toml"')).policy
        within_it = read_tenant_configuration(
            parties.tenant_file(policy='{minimum_cohort = 4, hours = ["22:00-06:00"]}')
        )
        assert apart == within_it.policy and apart.minimum_cohort == 4
        assert apart.digest == within_it.policy.digest == read_policy(parties.folder / "policy.toml").digest

    def test_both_at_once_are_an_error(self, parties: Parties) -> None:
        path = parties.tenant_file(policy='"policy.toml"')
        path.write_text(path.read_text() + "[policy]\nround_cap = 5\n")
        with pytest.raises(CallerError, match="no valid TOML"):
            read_tenant_configuration(path)

    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            ("round_cup = 3", "did you mean 'round_cap'"),
            ('models = ["mixture"]', "models"),
            ("components = 0", "components"),
            ('columns = {age = "number"}', "columns.age"),
            ('rosters = ["abc"]', "rosters.0"),
            ('hours = "always"', "hours"),
            ('time_zone = "Mars/Base"', "no time zone 'Mars/Base'"),
        ],
    )
    def test_a_policy_that_is_none_names_the_file_and_the_key(
        self, parties: Parties, text: str, complaint: str
    ) -> None:
        (parties.folder / "policy.toml").write_text(text)
        with pytest.raises(CallerError) as caught:
            read_tenant_configuration(parties.tenant_file(policy='"policy.toml"'))
        assert "policy.toml" in caught.value.message and complaint in caught.value.message + caught.value.remedy

    def test_the_digest_is_of_what_is_in_force_not_of_how_it_is_written(self) -> None:
        one = PolicyTable.model_validate(
            {"columns": ["b", "a"], "hours": ["Sat,Sun 10:00-12:00", "01:00-02:00"], "round_cap": 1000}
        )
        other = PolicyTable.model_validate(
            {"hours": ["01:00-02:00", "sat-sun 10:00-12:00", "01:00-02:00"], "columns": {"a": "any", "b": "any"}}
        )
        assert one.digest == other.digest == hashlib.sha256(one.canonical).digest()

    @pytest.mark.parametrize("name", PolicyTable.model_fields)
    def test_each_field_is_in_the_digest(self, name: str) -> None:
        others: dict[str, object] = {
            "allow_semi_honest": True, "difference_guard": "off", "minimum_cohort": 4, "colluders": 1, "mass_floor": 0.5,
            "round_cap": 7, "schema_hash": "0" * 64, "models": ["mixed-mixture"], "components": 3, "columns": ["age"],
            "rosters": ["0" * 64], "hours": "01:00-02:00", "time_zone": "Europe/Berlin", "privacy": {"required": True},
            "measurements": True, "measuring": {"points": 2}, "graph_bits": 50,
        }  # fmt: skip
        assert PolicyTable.model_validate({name: others[name]}).digest != PolicyTable().digest

    def test_the_digest_of_the_defaults_is_what_it_was_in_the_first_version(self) -> None:
        """Commitments in recorded sessions open to it, whatever may be stated since."""
        assert PolicyTable().digest.hex() == "78d98978cab1a48972a4c06cb8c50c1020c3519e5b046dc15d5902efca3c9023"
        assert PolicyTable(graph_bits=40).canonical == PolicyTable().canonical

    def test_the_families_are_those_that_sessions_may_fit(self) -> None:
        for family in ("gaussian-mixture", "mixed-mixture"):
            assert family in FAMILIES and PolicyTable.model_validate({"models": [family]}).models == (family,)


class TestDescriptions:
    @pytest.mark.parametrize(
        ("policy", "complaint"),
        [
            ({"models": ["mixed-mixture"]}, "fits a gaussian-mixture"),
            ({"components": 1}, "fits 2 components, this tenant's policy says components = 1"),
            ({"columns": ["age"]}, "does not admit the column 'weight'"),
            ({"columns": {"age": "gaussian", "weight": "poisson"}}, "'weight' as gaussian"),
        ],
    )
    def test_each_demand_is_enforced_before_a_row_is_read(
        self, parties: Parties, description: SessionDescription, policy: dict[str, object], complaint: str
    ) -> None:
        work = RowsWork(Path("there-is-none.csv"), {}, parties.roster, 1, policy=PolicyTable.model_validate(policy))
        with pytest.raises(TermsRefused) as caught:
            work.prepare(description.to_json(), 0)
        assert complaint in caught.value.message and "policy" in caught.value.remedy

    def test_a_description_that_meets_them_passes(self, description: SessionDescription) -> None:
        policy = {"models": ["gaussian-mixture"], "components": 2, "columns": {"age": "gaussian", "weight": "any"}}
        check_description(PolicyTable.model_validate(policy), description)
        check_description(PolicyTable(), description)

    @pytest.mark.parametrize(("what", "kind"), [("labels", "labels"), ("weights", "weights")])
    def test_labels_and_weights_are_columns_too(self, description: SessionDescription, what: str, kind: str) -> None:
        more = {"labels": {"column": "group"}} if what == "labels" else {"weights": {"column": "group", "upper": 3}}
        asking = SessionDescription.model_validate({**description.model_dump(), **more})
        columns = {"age": "any", "weight": "any"}
        with pytest.raises(TermsRefused, match="'group'"):
            check_description(PolicyTable.model_validate({"columns": columns}), asking)
        with pytest.raises(TermsRefused, match=f"as {kind}"):
            check_description(PolicyTable.model_validate({"columns": {**columns, "group": "poisson"}}), asking)
        check_description(PolicyTable.model_validate({"columns": {**columns, "group": kind}}), asking)

    def test_the_models_to_pick_from_count(self, description: SessionDescription) -> None:
        model = {"family": "gaussian-mixture", "covariance": "full"}
        asking = SessionDescription.model_validate(
            {**description.model_dump(), "model": model, "selection": {"components": [2, 5]}}
        )
        with pytest.raises(TermsRefused, match="fits 5 components"):
            check_description(PolicyTable(components=4), asking)


class TestPermit:
    def test_hours_and_an_unchanged_file(self, parties: Parties) -> None:
        file = parties.folder / "policy.toml"
        file.write_text('hours = "22:00-06:00"\n')
        configuration = read_tenant_configuration(parties.tenant_file(policy='"policy.toml"'))
        time = [MONDAY]
        permit = Permit(configuration, lambda: time[0])
        permit()
        time[0] += timedelta(hours=6)
        with pytest.raises(TermsRefused, match="outside of them"):
            permit()
        time[0] = MONDAY
        file.write_text('hours = ["22:00-06:00"]  # spelt in another way\n')
        permit()
        file.write_text('hours = "22:00-06:00"\nminimum_cohort = 5\n')
        with pytest.raises(TermsRefused, match="has changed since") as caught:
            permit()
        assert "start the tenant again" in caught.value.remedy
        file.unlink()
        with pytest.raises(TermsRefused, match="cannot be read any more"):
            permit()

    def test_without_hours_it_is_always_time(self) -> None:
        check_hours(PolicyTable(), MONDAY)


class TestTenant:
    def test_a_process_runs_under_its_files_policy(self, parties: Parties) -> None:
        """Its commitment, its rows and its permit are of one policy; the clock is this machine's."""
        now = datetime.now(UTC)
        spans = [f"{now + timedelta(hours=h):%H}:00-{now + timedelta(hours=h + 1):%H}:00" for h in (8, -8)]
        path = parties.tenant_file("beech", policy=f'{{columns = ["age"], hours = "{spans[0]}"}}')
        tenant = open_tenant(read_tenant_configuration(path))
        policy = tenant.configuration.policy
        work, marks = tenant.work(), MemoryMarks()
        session = tenant.session(marks, work)
        me = session.state.me
        assert me.commitment == commitment_to(policy.digest, salt_of(policy.digest, tenant.keys.identity))
        with pytest.raises(TermsRefused, match="outside of them"):
            session._permit()
        with pytest.raises(TermsRefused, match="does not admit the column 'weight'"):
            work.prepare(TWO_COLUMNS, 0)
        parties.tenant_file("beech", policy=f'{{columns = ["age"], hours = "{spans[1]}"}}')
        with pytest.raises(TermsRefused, match="has changed since"):
            session._permit()

    def test_the_doctor_tells_of_it(self, parties: Parties) -> None:
        def told(policy: str) -> Finding:
            found = examine_tenant(parties.tenant_file(policy=policy), datetime.now(UTC))
            return next(finding for finding in found if finding.what == "policy")

        pin = parties.roster.digest.hex()
        sound = told(f'{{rosters = ["{pin}"], models = ["mixed-mixture"], hours = "22:00-06:00"}}')
        assert not sound.failed and "22:00-06:00 (UTC); any columns, as a session" in sound.detail
        assert "at any hour; any models and any columns" in told("{}").detail
        other = told(f'{{rosters = ["{"0" * 64}"]}}')
        assert other.failed and "none of those that the policy admits" in other.detail and pin in other.remedy


class Watched(TestFederation):
    """A federation whose third tenant holds a policy and a permit."""

    policy = PolicyTable()
    permit: Callable[[], None] = staticmethod(lambda: None)

    def _start(self, index: int) -> TenantSession:
        session = super()._start(index)
        if index != 2:
            return session
        me = replace(session.state.me, policy=replace(session.state.me.policy, digest=self.policy.digest))
        randomness = seeded_randomness(77 + self._lives)
        return TenantSession(me, self.works[2], self.marks[2], randomness, permit=self.permit)


def refuse() -> None:
    raise TermsRefused("the policy does not admit this now")


class TestSessions:
    def test_none_is_joined_without_a_permit(self) -> None:
        watch = Watch()
        federation = Watched(5, interfere=watch, colluders=1, minimum_survivors=3)
        federation.permit = refuse
        assert 2 not in federation.sum().survivors
        assert 2 not in watch.by(Join) and 2 not in watch.by(Upload)
        assert [(tenant, sealed.content.code) for tenant, sealed in watch.passed(Refusal)] == [(2, RefusalCode.POLICY)]
        assert isinstance(federation.hub.error_of(2), SessionLeft)

    def test_a_running_one_gets_no_upload_and_goes_on_without_the_tenant(self) -> None:
        watch = Watch()
        federation = Watched(5, interfere=watch, colluders=1, minimum_survivors=3)
        assert 2 in federation.sum().survivors
        session = federation.hub.session_of(2)
        assert session is not None
        session._permit = refuse
        assert federation.sum().survivors == (0, 1, 3, 4)
        assert [sealed.content.round for tenant, sealed in watch.passed(Upload) if tenant == 2] == [1]
        assert [tenant for tenant, _ in watch.passed(Refusal)] == [2]

    def test_under_a_changed_policy_the_tenant_joins_anew_and_signs_under_it(self) -> None:
        watch, key = Watch(), identity_of("t2")
        federation = Watched(5, interfere=watch, colluders=1, minimum_survivors=3)
        federation.sum()
        session = federation.hub.session_of(2)
        assert session is not None
        session._permit = refuse
        federation.sum()
        before = federation.policy.digest
        federation.policy = PolicyTable(round_cap=999)
        federation.hub.restart(2, 0.0)
        rounds = 0
        while 2 not in federation.sum().survivors:
            rounds += 1
            assert rounds < 8
        after = federation.policy.digest
        expected = [commitment_to(digest, salt_of(digest, key)) for digest in (before, after)]
        for kind in (Join, Advertise):
            said = [sealed.content.policy for tenant, sealed in watch.passed(kind) if tenant == 2]
            assert list(dict.fromkeys(said)) == expected and len(set(expected)) == 2


class TestCommands:
    def test_show_and_verify(self, parties: Parties) -> None:
        path = parties.tenant_file(policy='{columns = ["age"], hours = "22:00-06:00"}')
        run = CliRunner()
        shown = run.invoke(app, ["policy", "show", str(path)], catch_exceptions=False).output
        told = dict(line.split(None, 1) for line in shown.splitlines() if line)
        assert told["columns"] == "age (any)" and told["hours"] == "22:00-06:00" and told["colluders"] == "(none)"
        verified = ["policy", "verify", str(path), told["salt"], told["commitment"]]
        assert told["digest"] in run.invoke(app, verified, catch_exceptions=False).output
        with pytest.raises(CallerError, match="is not the policy behind this commitment"):
            run.invoke(app, [*verified[:3], "00" * 32, told["commitment"]], catch_exceptions=False)
        with pytest.raises(CallerError, match="64 hexadecimal digits"):
            run.invoke(app, [*verified[:3], "xy", told["commitment"]], catch_exceptions=False)
        hashed = run.invoke(app, ["policy", "show", str(path), "--canonical"], catch_exceptions=False).output
        assert hashlib.sha256(hashed.encode()).hexdigest() == told["digest"]
