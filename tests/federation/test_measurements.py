"""Sessions that measure: the sum of all fresh rows, what tenants answer and refuse, and what a transcript shows of them."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from mixed_federation import COLUMNS as MIXED_COLUMNS
from mixed_federation import MODEL as MIXED_MODEL
from mixed_federation import SCHEMA, TRUTH, mixed_tables, records_of, write_mixed_federation
from small_federation import Recorder, clustered_rows, memory_hub, session_toml, write_small_federation

from fed_em.broadcast import Broadcast
from fed_em.coordinates import Coordinates
from fed_em.errors import CallerError
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.measured_models import MeasuredModels
from fed_em.measurement import Measurement, measurement_of
from fed_em.mixed_mixture import MixedMixtureModel
from fed_em.model_file import FittedModel
from fed_em.parameters import Parameters
from fed_em.records import Records
from fed_em.reference import broadcast_of, edges_of
from fed_em_client.configuration import PolicyTable
from fed_em_client.take_part import open_tenant
from fed_em_protocols.coordinator_state import SumOpened, SumRequest
from fed_em_protocols.description import SessionDescription
from fed_em_protocols.errors import SERVER, SumFailed, TermsRefused
from fed_em_protocols.party import load_keys
from fed_em_protocols.policy_rules import PolicyRule
from fed_em_protocols.transcript.entries import RoundStarted, entry_from_bytes
from fed_em_protocols.transcript.memory_transcript import MemoryTranscript
from fed_em_server.audit.policies import OwnPolicy
from fed_em_server.audit.verify import FIT, PRIVACY, Verdict, verify
from fed_em_server.configuration import PrivacyTable
from fed_em_server.federated_sum import FederatedSum
from fed_em_server.federated_total import FederatedTotal
from fed_em_server.measurement import measuring_plan, run_measuring
from fed_em_server.session import SessionPlan
from fed_em_simulations import Federation
from fed_em_simulations.federation_folder import FederationFolder

TENANTS = clustered_rows((40, 25, 30, 35, 28, 22))
POOLED = np.concatenate(list(TENANTS.values()))
NAMES = ("a", "b", "c")
ADMITTED = "measurements = true"


@cache
def models() -> tuple[FittedModel, FittedModel]:
    """A good one and a worse one, in coordinates of their own."""
    centres = np.array([[0.0, 0.0, 0.0], [3.0, 1.0, -2.0], [-2.0, 3.0, 2.0]])
    good = Parameters({"weights": np.full(3, 1 / 3), "means": centres, "covariances": np.array([np.eye(3)] * 3)})
    poor = Parameters({"weights": np.ones(1), "means": np.zeros((1, 3)), "covariances": np.eye(3)[np.newaxis]})
    moved = Coordinates(POOLED.mean(axis=0), POOLED.std(axis=0))
    return (
        FittedModel(GaussianMixtureModel(3, 3, "full"), Coordinates.identity(3), NAMES, good, {}),
        FittedModel(GaussianMixtureModel(1, 3, "full"), moved, NAMES, poor, {}),
    )


def in_one_place(fitted: list[FittedModel], records: Records) -> Measurement:
    asked = broadcast_of(fitted, edges_of(fitted[0]))
    assert isinstance(asked.model, MeasuredModels)
    statistics = asked.model.e_step(asked.parameters, records)
    return measurement_of(asked.model, fitted[0].columns, statistics)


def assert_same(found: Measurement, expected: Measurement) -> None:
    assert (found.columns, found.missing_cells) == (expected.columns, expected.missing_cells)
    assert found.records == pytest.approx(expected.records)
    for one, other in zip(found.models, expected.models, strict=True):
        assert one.histogram == other.histogram
        assert one.log_likelihood == pytest.approx(other.log_likelihood, abs=1e-9)
        assert one.variance == pytest.approx(other.variance, rel=1e-6)
    if expected.difference is not None:
        assert found.difference is not None
        assert found.difference.mean == pytest.approx(expected.difference.mean, abs=1e-9)
        assert found.difference.variance == pytest.approx(expected.difference.variance, rel=1e-6)


def small(tmp_path: Path, trust: str = "", policy: str = ADMITTED) -> FederationFolder:
    return write_small_federation(tmp_path / "f", TENANTS, session_toml(trust=trust), policy=policy)


def plan_of(federation: FederationFolder, fitted: list[FittedModel]) -> tuple[SessionPlan, Broadcast]:
    keys = load_keys(federation.server.keys)
    return measuring_plan(federation.server, fitted, edges_of(fitted[0]), federation.roster, keys.identity, "memory")


def measured_in_memory(federation: FederationFolder, fitted: list[FittedModel]) -> tuple[Measurement, MemoryTranscript]:
    transcript = MemoryTranscript()
    plan, asked = plan_of(federation, fitted)
    return run_measuring(plan, asked, memory_hub(federation), Recorder(), store=transcript), transcript


def test_two_models_are_compared_over_all_rows_by_one_sum_that_a_transcript_shows(tmp_path: Path) -> None:
    federation, fitted = small(tmp_path), list(models())
    found, transcript = measured_in_memory(federation, fitted)
    assert_same(found, in_one_place(fitted, Records(POOLED)))
    assert found.difference is not None and found.difference.mean < -0.5
    assert not found.missing
    verified = verify(transcript.files, federation.roster)
    assert verified.passed
    said = {check.name: check.said for check in verified.checks}
    assert "replayed from 1 sums" in said[FIT] and "nothing fitted" in said[FIT]
    entries = [entry_from_bytes(line, "it") for line in transcript.files.entries.split(b"\n")[:-1]]
    assert sum(isinstance(entry, RoundStarted) for entry in entries) == 1


def test_of_mixed_columns_with_holes_and_weights(tmp_path: Path) -> None:
    weights = '\n[weights]\ncolumn = "counts"\nupper = 20\n'
    session = session_toml(MIXED_MODEL.format("full") + weights, columns=MIXED_COLUMNS)
    federation = write_mixed_federation(tmp_path / "f", mixed_tables((60, 40, 50)), session)
    for file in federation.tenant_files.values():
        file.write_text(file.read_text() + f"\n{ADMITTED}\n")
    model = MixedMixtureModel(3, SCHEMA)
    fitted = [FittedModel(model, Coordinates.identity(5), SCHEMA.names, TRUTH, {})]
    found, _ = measured_in_memory(federation, fitted)
    expected = in_one_place(fitted, replace(records_of(federation), admissible=None))
    assert found.missing_cells == pytest.approx(expected.missing_cells)
    assert found.columns["ward"].counts == pytest.approx(expected.columns["ward"].counts)
    assert found.models[0].log_likelihood == pytest.approx(expected.models[0].log_likelihood)


def test_a_tenant_whose_policy_admits_none_stays_out_and_its_rows_are_not_read(tmp_path: Path) -> None:
    federation = small(tmp_path, policy="")
    with pytest.raises(SumFailed):
        measured_in_memory(federation, [models()[0]])
    tenant = open_tenant(federation.tenant("t0"))
    (federation.tenant_files["t0"].parent / "rows.parquet").unlink()
    plan, _ = plan_of(federation, [models()[0]])
    with pytest.raises(CallerError, match="measurements = false"):
        tenant.work().prepare(plan.description.to_json(), 0)


def test_fresh_rows_are_those_that_the_tenant_names(tmp_path: Path) -> None:
    federation = small(tmp_path)
    fresh = TENANTS["t0"][:7] + 0.5
    np.save(federation.tenant_files["t0"].parent / "fresh.npy", fresh)
    file = federation.tenant_files["t0"]
    file.write_text(file.read_text().replace('data = "rows.parquet"', 'data = "rows.parquet"\nfresh = "fresh.npy"'))
    found, _ = measured_in_memory(federation, [models()[0]])
    rows = np.concatenate([fresh, *(rows for name, rows in TENANTS.items() if name != "t0")])
    assert_same(found, in_one_place([models()[0]], Records(rows)))


def test_a_mass_gate_opens_all_of_it_or_nothing(tmp_path: Path) -> None:
    open_gate = Federation(TENANTS, mass_floor=100.0, colluders=1).measure([_renamed(models()[0])])
    assert open_gate.records == len(POOLED)
    with pytest.raises(CallerError, match="too few records"):
        Federation(TENANTS, mass_floor=200.0, colluders=1).measure([_renamed(models()[0])])


def test_tenants_do_not_open_one_behind_a_shut_gate_for_a_server_that_asks_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    behind_gate = FederatedTotal._behind_gate

    def cheat(self: FederatedTotal, request: SumRequest, as_one: bool) -> tuple[SumOpened, tuple[int, ...]]:
        return behind_gate(self, request, as_one=False)

    monkeypatch.setattr(FederatedTotal, "_behind_gate", cheat)
    with pytest.raises(SumFailed, match="6 of 6 tenants could not compute"):
        Federation(TENANTS, mass_floor=200.0, colluders=1).measure([_renamed(models()[0])])


def _renamed(fitted: FittedModel) -> FittedModel:
    return replace(fitted, columns=("x0", "x1", "x2"))


class Elsewhere(FederatedSum):
    """Asks for other parameters than the description names."""

    def _attempt(self, request):  # type: ignore[no-untyped-def]
        asked = Broadcast.from_bytes(request.parameters)
        moved = Parameters({**asked.parameters, "0.parameters.means": asked.parameters["0.parameters.means"] + 1.0})
        return super()._attempt(replace(request, parameters=replace(asked, parameters=moved).to_bytes()))


def test_nothing_is_answered_but_the_one_point_that_the_description_names(tmp_path: Path) -> None:
    federation = small(tmp_path)
    plan, asked = plan_of(federation, [models()[0]])
    hub, transcript = memory_hub(federation), MemoryTranscript()
    with pytest.raises(SumFailed, match="6 of 6 tenants could not compute"):
        run_measuring(plan, asked, hub, Recorder(), Elsewhere, transcript)
    # Nor does the session's own model, or its moments, have a place in it.
    assert not plan.description.asks_for_the_model(asked)
    assert not plan.description.asks_for_moments(plan.description.first_round)
    verified = verify(transcript.files, federation.roster)
    failed = next(check for check in verified.checks if check.verdict.value == "failed")
    assert (failed.name, failed.place is not None and failed.place.party) == (FIT, SERVER)
    assert "something else" in failed.said


def test_a_description_says_all_of_it_and_nothing_that_a_fit_has(tmp_path: Path) -> None:
    plan, asked = plan_of(small(tmp_path), [models()[0]])
    described = plan.description
    assert SessionDescription.from_json(described.to_json()) == described
    assert described.asks_to_measure(asked)
    plain = described.model_dump(exclude_none=True)
    for more in ({"standard_errors": True}, {"tracks": 2}, {"labels": {"column": "l"}}, {"bootstrap": 2}):
        with pytest.raises(ValueError, match="a measurement is of one sum"):
            SessionDescription.model_validate({**plain, **more})
    with pytest.raises(ValueError, match="other columns"):
        SessionDescription.model_validate({**plain, "columns": plain["columns"][:2]})
    with pytest.raises(ValueError, match="the first one"):
        SessionDescription.model_validate({**plain, "model": {"family": "gaussian-mixture", "n_components": 2}})
    del plain["measured"]
    assert "measured" not in SessionDescription.model_validate(plain).to_json().decode()


PRIVATE = PrivacyTable(epsilon=1.0, delta=1e-5, measurement_epsilon=4.0)


def test_a_private_measurement_is_off_by_the_noise_that_it_states_and_no_more(tmp_path: Path) -> None:
    """Each of some eighty numbers is within 7 of its standard deviations: chance breaks that once in 10^9 runs."""
    fitted = [_renamed(each) for each in models()]
    edges = edges_of(fitted[0], private=True)
    transcript = MemoryTranscript()
    found = Federation(TENANTS, privacy=PRIVATE, colluders=1, transcript=transcript).measure(fitted, edges)
    asked = broadcast_of(fitted, edges)
    assert isinstance(asked.model, MeasuredModels)
    exact = measurement_of(asked.model, fitted[0].columns, asked.model.e_step(asked.parameters, POOLED))
    assert 0 < abs(found.records - exact.records) < 7 * found.noise
    for name in exact.columns:
        off = np.subtract(found.columns[name].counts, exact.columns[name].counts)
        assert 0 < np.abs(off).max() < 7 * found.columns[name].noise
    for one, other in zip(found.models, exact.models, strict=True):
        assert np.abs(np.subtract(one.histogram.counts, other.histogram.counts)).max() < 7 * one.histogram.noise
    assert found.missing_cells == exact.missing_cells  # where none may be missing nothing is added, nor noise


def test_a_private_session_that_names_no_cost_of_a_measurement_takes_none() -> None:
    private = Federation(TENANTS, privacy=PrivacyTable(epsilon=1.0, delta=1e-5))
    with pytest.raises(CallerError, match="what a measurement of its models may cost"):
        private.measure([_renamed(models()[0])])


def test_who_requires_privacy_takes_part_in_private_measurements_alone_and_is_charged(tmp_path: Path) -> None:
    policy = f"{ADMITTED}\nprivacy = {{required = true, epsilon = 4.2, delta = 1e-5}}"
    open_sums = small(tmp_path / "open", policy=policy)
    plan, _ = plan_of(open_sums, [models()[0]])
    tenant = open_tenant(open_sums.tenant("t0"))
    with tenant.ledger() as ledger:
        work = tenant.work(budget=ledger)
        work.prepare(plan.description.to_json(), 0)
        with pytest.raises(TermsRefused, match="privacy"):
            work.changed(plan.terms.session)
    said = "\n[privacy]\nepsilon = 1.0\ndelta = 1e-5\nmeasurement_epsilon = 4.0\n"
    private = write_small_federation(
        tmp_path / "private", TENANTS, session_toml(trust="colluders = 1") + said, policy=policy
    )
    found, transcript = measured_in_memory(private, list(models()))
    assert found.noise > 0
    verified = verify(transcript.files, private.roster)
    assert verified.passed, verified.checks
    said = {check.name: check.said for check in verified.checks}
    assert "at most 1 were answered by any tenant" in said[PRIVACY]
    work = open_tenant(private.tenant("t0"))
    with work.ledger() as ledger:
        first, second = (plan_of(private, list(models()))[0] for _ in range(2))
        doing = work.work(budget=ledger)
        doing.prepare(first.description.to_json(), 0)
        doing.changed(first.terms.session)
        with pytest.raises(
            TermsRefused, match="with this session"
        ):  # ε = 4.2 holds one such measurement, and no second
            doing.changed(second.terms.session)


def test_a_tenant_is_measured_no_more_often_than_its_policy_says_and_an_audit_sees_it(tmp_path: Path) -> None:
    federation = small(tmp_path, policy=f"{ADMITTED}\nmeasuring = {{sessions = 1}}")
    tenant = open_tenant(federation.tenant("t0"))
    first, second = (plan_of(federation, [models()[0]])[0] for _ in range(2))
    tenant.configuration.state.mkdir()  # as the lock of the round marks makes it
    work = tenant.work(measured=tenant.measured())
    work.prepare(first.description.to_json(), 0)
    work.changed(first.terms.session)
    later = tenant.work(measured=tenant.measured())  # another process of it
    later.prepare(second.description.to_json(), 0)
    later.changed(first.terms.session)
    with pytest.raises(TermsRefused, match="2 measurements in 30 days, where sessions = 1") as refused:
        later.changed(second.terms.session)
    assert refused.value.rule is PolicyRule.MEASURING
    own = OwnPolicy.of(federation.tenant("t0"))
    assert [each.session for each in own.measured] == [first.terms.session.hex()]
    _, transcript = measured_in_memory(federation, [models()[0]])  # where tenants remember nothing
    verified = verify(transcript.files, federation.roster, policies=[own])
    found = next(check for check in verified.checks if check.name == "measurements t0")
    assert found.verdict is Verdict.FAILED and "does not remember this session" in found.said
    assert verified.session is not None
    number = verified.session.terms.content.session.hex()
    known = tuple(each.model_copy(update={"session": number}) for each in own.measured)
    verified = verify(transcript.files, federation.roster, policies=[replace(own, measured=known)])
    found = next(check for check in verified.checks if check.name == "measurements t0")
    assert found.verdict is Verdict.PASSED and "1 measurements at 1 points" in found.said


def test_the_digest_of_a_policy_without_measurements_is_what_it_was() -> None:
    assert b"measurements" not in PolicyTable().canonical
    assert PolicyTable(measurements=True).digest != PolicyTable().digest


def test_models_of_other_columns_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CallerError, match="over the columns x0, x1, x2"):
        plan_of(small(tmp_path), [_renamed(models()[0])])
