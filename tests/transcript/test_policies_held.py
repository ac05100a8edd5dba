"""A recorded session is held against the policy of a tenant that shows it: what it admits, and that its messages were signed under it."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from recorded import TIME, Recorded, record

from fed_em_client.configuration import PolicyTable, read_tenant_configuration
from fed_em_server.audit.policies import OwnPolicy
from fed_em_server.audit.verify import Check, Verdict, verify


@cache
def recorded_with_policies() -> tuple[Recorded, OwnPolicy]:
    """A session, and the policy of t1 as its file and its key show it."""
    with TemporaryDirectory() as folder:
        whole = record(Path(folder) / "f", keeps=False)
        file = next(path for path in (Path(folder) / "f").rglob("*.toml") if 'name = "t1"' in path.read_text("utf-8"))
        return whole, OwnPolicy.of(read_tenant_configuration(file))


def check_of(own: OwnPolicy, what: str = "policy") -> Check:
    whole = recorded_with_policies()[0]
    found = verify(whole.files, whole.roster, policies=[own])
    return next(check for check in found.checks if check.name == f"{what} t1")


def test_the_tenants_own_policy_admits_it_and_was_signed_under() -> None:
    check = check_of(recorded_with_policies()[1])
    assert check.verdict is Verdict.PASSED
    assert check.said == "'t1' signed under this policy, which admits the session's terms, model and columns"


def test_another_commitment_is_found() -> None:
    check = check_of(replace(recorded_with_policies()[1], commitment=bytes(32)))
    assert check.verdict is Verdict.FAILED and "signed under another policy" in check.said
    assert check.place is not None and check.place.party == "t1"


@pytest.mark.parametrize(
    ("stricter", "said"),
    [
        ({"minimum_cohort": 5}, "minimum_cohort = 5"),
        ({"components": 1}, "components = 1"),
        ({"columns": ["none"]}, "does not admit the column"),
        ({"privacy": {"required": True}}, "no differential privacy"),
    ],
)
def test_a_session_beyond_the_policy_is_found(stricter: dict[str, object], said: str) -> None:
    own = recorded_with_policies()[1]
    policy = PolicyTable.model_validate({**own.policy.model_dump(), **stricter})
    check = check_of(replace(own, policy=policy))
    assert check.verdict is Verdict.FAILED and said in check.said


def test_who_is_in_no_roster_is_told_so() -> None:
    whole, own = recorded_with_policies()
    found = verify(whole.files, whole.roster, policies=[replace(own, tenant="nobody")])
    assert next(check.verdict for check in found.checks if check.name == "policy nobody") is Verdict.FAILED


def with_hours(hours: str, zone: str = "UTC", log: bool = True) -> OwnPolicy:
    whole, own = recorded_with_policies()
    policy = own.policy.model_copy(update={"hours": (hours,), "time_zone": zone})
    kept = next(data for name, data in whole.logs.items() if name.startswith("t1/"))
    return replace(own, policy=policy, log=kept if log else None)


def test_what_left_within_the_policys_hours_is_seen_by_the_tenants_own_log() -> None:
    """The log says that all left at midnight, in Greenwich."""
    assert TIME.startswith("2026") and "T00:00:00" in TIME
    kept = check_of(with_hours("23:00-01:00"), "hours")
    assert kept.verdict is Verdict.PASSED and "joined and uploaded 5 times" in kept.said
    late = check_of(with_hours("00:01-02:00"), "hours")
    assert late.verdict is Verdict.FAILED and "sent a message (Join)" in late.said
    assert late.place is not None and late.place.party == "t1" and late.place.field == "time"
    assert check_of(with_hours("22:00-24:00"), "hours").verdict is Verdict.PASSED  # signed a moment before
    assert check_of(with_hours("01:00-03:00", "Europe/Berlin"), "hours").verdict is Verdict.PASSED
    assert check_of(with_hours("23:00-01:00", log=False), "hours").verdict is Verdict.NOTED


def test_a_log_that_was_changed_is_no_witness_of_hours() -> None:
    own = with_hours("23:00-01:00")
    assert own.log is not None
    assert check_of(replace(own, log=own.log.replace(b"T00:00", b"T23:30", 1)), "hours").verdict is Verdict.FAILED
