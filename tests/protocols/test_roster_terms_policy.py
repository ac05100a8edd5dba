"""Rosters, terms and policies: what is refused, and that the refusal names its reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fed_em.errors import CallerError
from fed_em_protocols.errors import TermsRefused
from fed_em_protocols.policy import TermsPolicy, check_terms
from fed_em_protocols.roster import Roster, load_roster
from fed_em_protocols.terms import (
    FIRST_SIMULATED_SUITE,
    SUITE,
    Trust,
    default_colluders,
    share_threshold_of,
    validate_terms,
)
from tests.protocols.federation import certificate_of, roster_of, terms_of

Change = Callable[[dict[str, Any]], object]


def changed(change: Change, n: int = 4) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(roster_of(n).to_json())
    change(content)
    return content


def set_at(*path: str | int, value: object) -> Change:
    def change(content: Any) -> None:
        for key in path[:-1]:
            content = content[key]
        content[path[-1]] = value

    return change


def copy_field(field: str, source: int, target: int) -> Change:
    def change(content: dict[str, Any]) -> None:
        content["tenants"][target][field] = content["tenants"][source][field]

    return change


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (copy_field("name", 0, 1), "two parties have the same name 't0'"),
        (copy_field("identity", 0, 1), "two parties have the same identity key"),
        (copy_field("certificate", 0, 1), "two parties have the same certificate"),
        (lambda c: c["server"].update(identity=c["tenants"][2]["identity"]), "same identity key"),
        (lambda c: c["server"].update(certificate=c["tenants"][2]["certificate"] + "\n"), "same certificate"),
        (set_at("tenants", 1, "name", value="server"), "two parties have the same name 'server'"),
        (set_at("tenants", 1, "name", value="a b"), "tenants.1.name"),
        (set_at("tenants", 1, "name", value=""), "tenants.1.name"),
        (set_at("tenants", 1, "name", value="../x"), "tenants.1.name"),
        (set_at("tenants", 1, "name", value="x" * 65), "tenants.1.name"),
        (set_at("tenants", 1, "identity", value="AB" * 32), "tenants.1.identity"),
        (set_at("tenants", 1, "identity", value="ab" * 31), "tenants.1.identity"),
        (set_at("tenants", 1, "certificate", value="none"), "tenants.1.certificate"),
        (
            set_at("tenants", 1, "certificate", value=certificate_of("a") + certificate_of("b")),
            "exactly one PEM certificate",
        ),
        (set_at("tenants", 1, "row_cap", value=0), "tenants.1.row_cap"),
        (set_at("tenants", 1, "row_cap", value=2**40 + 1), "tenants.1.row_cap"),
        (set_at("tenants", 1, "colour", value="red"), "tenants.1.colour"),
        (set_at("colour", value="red"), "colour"),
        (set_at("server", "colour", value="red"), "server.colour"),
        (set_at("version", value=0), "version"),
        (lambda c: c["tenants"].__delitem__(slice(2, None)), "tenants: Tuple should have at least 3 items"),
        (lambda c: c.pop("server"), "server: Field required"),
    ],
)
def test_a_roster_that_breaks_a_rule_is_refused(change: Change, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "roster.json"
    path.write_text(json.dumps(changed(change)))
    with pytest.raises(CallerError) as caught:
        load_roster(path)
    assert complaint in caught.value.message and str(path) in caught.value.message
    assert "fed-em roster" in caught.value.remedy


@pytest.mark.parametrize("text", ["", "{", "[]", "\xff\xfe"])
def test_a_file_that_is_no_roster_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "roster.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(CallerError, match=r"roster\.json"):
        load_roster(path)


def test_a_missing_roster_is_named(tmp_path: Path) -> None:
    with pytest.raises(CallerError, match="there is no roster at"):
        load_roster(tmp_path / "nothing.json")


def test_more_tenants_than_the_complete_graph_serves_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "roster.json"
    content = json.loads(roster_of(3).to_json())
    content["tenants"] += [{**content["tenants"][0], "name": f"x{k}"} for k in range(62)]
    path.write_text(json.dumps(content))
    with pytest.raises(CallerError, match="at most 64 items"):
        load_roster(path)


def test_a_roster_survives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "roster.json"
    path.write_text(roster_of(4).to_json())
    loaded = load_roster(path)
    assert loaded == roster_of(4) and loaded.digest == roster_of(4).digest
    assert loaded.index("t2") == 2 and loaded.names({2, 0}) == ("t0", "t2")
    with pytest.raises(CallerError, match="no tenant 'nobody'"):
        loaded.index("nobody")


def test_its_digest_depends_on_every_field() -> None:
    changes: list[Change] = [
        set_at("federation", value="other"),
        set_at("version", value=2),
        set_at("server", "identity", value="ab" * 32),
        set_at("server", "certificate", value=certificate_of("other")),
        set_at("tenants", 1, "name", value="other"),
        set_at("tenants", 1, "identity", value="ab" * 32),
        set_at("tenants", 1, "certificate", value=certificate_of("other")),
        set_at("tenants", 1, "row_cap", value=101),
        set_at("tenants", 1, "block", value=1),
        set_at("tenants", 1, "witness", value=False),
        lambda content: content["tenants"].reverse(),
        lambda content: content["tenants"].pop(),
    ]
    digests = {Roster.model_validate(changed(change)).digest for change in changes}
    assert len(digests | {roster_of(4).digest}) == len(changes) + 1


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"trust": 0}, "trust 0 is unknown"),
        ({"minimum_cohort": 3, "colluders": 2}, "below colluders + 2 = 4"),
        ({"minimum_survivors": 2, "minimum_cohort": 2, "colluders": 0}, "below the minimum cohort 2 or below 3"),
        ({"minimum_survivors": 3, "minimum_cohort": 4}, "below the minimum cohort 4"),
        ({"minimum_survivors": 8}, "8 survivors cannot come from 7 tenants"),
        ({"round_cap": 0}, "round cap"),
        ({"window_rounds": 0}, "1 to 200 rounds"),
        ({"window_rounds": 201}, "1 to 200 rounds"),
        ({"share_threshold": 1}, "derives by rule"),
        ({"certificate_quorum": 3}, "derives by rule"),
        ({"blocks": 2}, "does not enforce"),
        ({"mass_floor": 1000}, "does not enforce"),
    ],
)
def test_terms_that_break_a_rule_are_refused(changes: dict[str, int], complaint: str) -> None:
    roster = roster_of(7)
    with pytest.raises(CallerError) as caught:
        validate_terms(terms_of(roster, **changes), roster.n)
    assert complaint in caught.value.message
    with pytest.raises(TermsRefused):
        check_terms(
            TermsPolicy(allow_semi_honest=True, colluders=0, minimum_cohort=0), terms_of(roster, **changes), roster
        )


POLICY = TermsPolicy(allow_semi_honest=True)


@pytest.mark.parametrize(
    ("policy", "changes", "complaint"),
    [
        (POLICY, {"roster": bytes(32)}, "another roster"),
        (POLICY, {"suite": SUITE + 1}, "suite 2"),
        (POLICY, {"suite": FIRST_SIMULATED_SUITE}, "suite 32768"),
        (TermsPolicy(), {}, "trusts the server"),
        (POLICY, {"trust": int(Trust.MALICIOUS_SERVER)}, "does not offer"),
        (replace(POLICY, minimum_cohort=5), {}, "sums of 4 tenants, this tenant's policy says minimum_cohort = 5"),
        (
            POLICY,
            {"colluders": 1, "minimum_survivors": 4},
            "withstands 1 colluding tenants, this tenant's policy demands 2",
        ),
        (replace(POLICY, colluders=3), {}, "this tenant's policy demands 3"),
        (replace(POLICY, round_cap=99), {}, "may take 100 rounds, this tenant's policy says round_cap = 99"),
    ],
)
def test_each_demand_of_a_policy_is_enforced(policy: TermsPolicy, changes: dict[str, Any], complaint: str) -> None:
    roster = roster_of(7)
    with pytest.raises(TermsRefused) as caught:
        check_terms(policy, terms_of(roster, **changes), roster)
    assert complaint in caught.value.message and caught.value.remedy


def test_terms_that_meet_every_demand_pass() -> None:
    roster = roster_of(7)
    check_terms(replace(POLICY, minimum_cohort=4, colluders=2, round_cap=100), terms_of(roster), roster)


def test_defaults_are_strict() -> None:
    assert TermsPolicy() == TermsPolicy(allow_semi_honest=False, minimum_cohort=3, colluders=None, round_cap=1000)
    assert [default_colluders(n) for n in (3, 4, 6, 7, 10, 64)] == [0, 1, 1, 2, 3, 21]


@pytest.mark.parametrize("n", range(3, 65))
def test_no_two_sets_of_holders_can_both_open_one_tenant(n: int) -> None:
    """With τ shares for b_v and τ for a_v among n − 1 holders, of whom f help both: 2τ > (n − 1) + f. And τ holders exist."""
    for colluders in range(n - 1):
        threshold = share_threshold_of(n, colluders)
        assert 2 * threshold > n - 1 + colluders
        assert max(2, colluders + 1) <= threshold <= n - 1
