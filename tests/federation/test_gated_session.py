"""Sessions with a mass gate: what holds too few records is never opened, and what tenants refuse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from small_federation import TABLES, Recorder, clustered_rows, memory_hub, session_toml, write_small_federation
from test_equals_pooled import MODELS, assert_same_path, pooled_from_same_start

from fed_em.em import Summed
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.parameters import Parameters
from fed_em_protocols.coordinator_state import SumOpened, SumRequest
from fed_em_protocols.envelope import unseal
from fed_em_protocols.errors import SumFailed
from fed_em_protocols.messages import Header, Mode, Upload
from fed_em_server import session_fit
from fed_em_server.federated_sum import FederatedSum
from fed_em_server.federated_total import FederatedTotal
from fed_em_server.serve import open_server
from fed_em_server.session import SessionOutcome, run_session
from fed_em_simulations.federation_folder import FederationFolder, Matrix
from fed_em_simulations.memory_hub import Direction, Fate, MemoryHub, Passing

pytestmark = pytest.mark.usefixtures("remembered_keys")

FLOOR, LEAST_TENANTS = 10, 3
SIZES = (60, 50, 40, 30, 45, 35)
OUTLIER = np.array([14.0, -12.0, 13.0])
FOUR = 'family = "gaussian-mixture"\nn_components = 4\ncovariance = "{}"\ncovariance_floor = 1e-2\nprior = "none"'
TIMES = "patience = 0.01\nstraggler = 0.02\nset_up = 1\nupload = 1\nopen = 0.5"


def with_an_outlier() -> dict[str, Matrix]:
    """Six tenants; one record of one of them is far from all others."""
    tenants = clustered_rows(SIZES)
    tenants["t2"][7] = OUTLIER
    return tenants


def write(folder: Path, floor: float = FLOOR, model: str = FOUR.format("full"), **texts: str) -> FederationFolder:
    trust = f"mass_floor = {floor}"
    session = session_toml(**{"model": model, "fit": "tolerance = 1e-7\nmax_iterations = 40", "trust": trust, **texts})
    federation = write_small_federation(folder, with_an_outlier(), session)
    assert [len(block) for block in federation.roster.blocks] == [3, 3]
    return federation


def run(federation: FederationFolder, hub: MemoryHub | None = None) -> SessionOutcome:
    hub = memory_hub(federation) if hub is None else hub
    return run_session(open_server(federation.server).plan("memory"), hub, Recorder())


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Parameters, Summed]]:
    """Everything that the server decodes of the session's model, with the parameters it asked at."""
    seen: list[tuple[Parameters, Summed]] = []
    call = FederatedTotal.__call__

    def watched(self: FederatedTotal, parameters: Parameters) -> Summed:
        summed = call(self, parameters)
        if cast(GaussianMixtureModel, self.model).n_components > 1:
            seen.append((parameters, summed))
        return summed

    monkeypatch.setattr(FederatedTotal, "__call__", watched)
    return seen


def is_small(masses: Matrix) -> bool:
    """Whether a component is too small, from its mass at each tenant."""
    return float(masses.sum()) < FLOOR or int((masses >= 5).sum()) < LEAST_TENANTS


# Behind a gate a structure is a triangle or a diagonal of second moments.
@pytest.mark.parametrize(
    "covariance", [each if each in ("full", "diag") else pytest.param(each, marks=pytest.mark.slow) for each in MODELS]
)
def test_what_holds_too_few_records_is_never_opened(
    tmp_path: Path, covariance: str, decoded: list[tuple[Parameters, Summed]]
) -> None:
    federation = write(tmp_path / "f", model=FOUR.format(covariance), fit="tolerance = 1e-7\nmax_iterations = 20")
    outcome = run(federation)
    model = cast(GaussianMixtureModel, outcome.fitted.model)
    tenants = [outcome.result.coordinates.apply(rows) for rows in with_an_outlier().values()]
    times_held = 0
    assert len(decoded) == len(outcome.result.fit.iterations)
    for at, summed in decoded:
        masses = np.stack([model.responsibilities(at, rows).sum(axis=0) for rows in tenants])
        small = [k for k in range(4) if is_small(masses[:, k])]
        assert set(small) <= set(summed.held)
        times_held += bool(small)
        for k in summed.held:
            assert not summed.statistics["first"][k].any() and not summed.statistics["second"][k].any()
        others = [k for k in range(4) if k not in summed.held]
        assert others == [] or summed.held == () or not is_small(masses[:, list(summed.held)].sum(axis=1))
        np.testing.assert_allclose(summed.statistics["responsibilities"], masses.sum(axis=0), rtol=1e-9, atol=1e-6)
        assert not summed.stale and not summed.missing
    assert times_held > 5
    distances = np.abs(outcome.fitted.parameters["means"] - outcome.result.coordinates.apply(OUTLIER[np.newaxis]))
    assert distances.max(axis=1).min() > 0.1, "nobody's record is a mean"
    # The record numbers components as the model does that the session ends with.
    order = outcome.result.order or (0, 1, 2, 3)
    held = [tuple(sorted(order.index(k) for k in summed.held)) for _, summed in decoded]
    assert [record.held for record in outcome.record.rounds[1:]] == held


def test_without_a_gate_the_same_session_opens_the_record(
    tmp_path: Path, decoded: list[tuple[Parameters, Summed]]
) -> None:
    outcome = run(write(tmp_path / "f", floor=0, fit="tolerance = 1e-7\nmax_iterations = 20"))
    z = outcome.result.coordinates.apply(OUTLIER[np.newaxis])[0]
    assert min(float(np.abs(summed.statistics["first"] - z).max(axis=1).min()) for _, summed in decoded) < 1e-3


@pytest.mark.slow
def test_the_price_of_the_gate_is_small(tmp_path: Path) -> None:
    """Diagonal covariances: the component next to the small one stays where it was, which is not far from where it belongs."""
    model = FOUR.format("diag")
    gated, ungated = (run(write(tmp_path / str(floor), floor, model)) for floor in (FLOOR, 0))
    assert gated.record.converged and ungated.record.converged
    held_out = np.concatenate(list(clustered_rows((3000,) * 3, seed=8).values()))
    ours, theirs = (outcome.fitted.score_samples(held_out).mean() for outcome in (gated, ungated))
    assert abs(ours - theirs) < 0.01


def test_a_gate_that_holds_nothing_changes_nothing(tmp_path: Path) -> None:
    tenants = clustered_rows((120, 90, 75, 60, 200, 80))
    session = session_toml(trust=f"mass_floor = {FLOOR}", fit="tolerance = 0\nmax_iterations = 8")
    federation = write_small_federation(tmp_path / "f", tenants, session)
    modes: dict[int, Mode] = {}

    def note(passing: Passing) -> Fate:
        content = unseal(passing.data, "").content
        if isinstance(content, Header):
            modes[content.round] = Mode(content.mode)
        return Fate.DELIVER

    outcome = run(federation, memory_hub(federation, interfere=note))
    assert not any(iteration.held for iteration in outcome.result.fit.iterations)
    rows = np.concatenate(list(tenants.values()))
    assert_same_path(outcome, pooled_from_same_start(federation, outcome.result, rows))
    assert list(modes.values()) == (1 + len(outcome.result.fit.iterations)) * [Mode.COUNTS, Mode.WHOLE]
    assert [record.counted for record in outcome.record.rounds] == [r.round - 1 for r in outcome.record.rounds]


def test_windows_of_a_few_rounds_do(tmp_path: Path) -> None:
    """Counts may be the last round of a window, and then they are taken again."""
    federation = write(tmp_path / "f", fit="tolerance = 1e-7\nmax_iterations = 7")
    file = federation.session_file
    file.write_text(file.read_text().replace("window_rounds = 16", "window_rounds = 4"))
    assert len(run(federation).record.rounds) == 8


def test_if_somebody_goes_away_between_the_two_the_others_are_counted_again(tmp_path: Path) -> None:
    federation = write(tmp_path / "f", times=TIMES)
    sent = 0

    def break_moments(passing: Passing) -> Fate:
        nonlocal sent
        content = unseal(passing.data, "").content
        if passing.direction is Direction.TO_SERVER and isinstance(content, Upload) and passing.tenant == 1:
            sent += 1
            return Fate.BREAK if sent in (3, 5) else Fate.DELIVER
        return Fate.DELIVER

    outcome = run(federation, memory_hub(federation, interfere=break_moments))
    whole = outcome.record.rounds[1:]
    assert {record.summed for record in whole} == {3, 6}
    assert all(record.counted == record.round - 1 for record in whole)
    assert any(iteration.missing == ("t1", "t3", "t5") for iteration in outcome.result.fit.iterations)


class TestServersThatCheat:
    """What a server asks for that the terms do not admit, no tenant answers: each has its reason for its own operator."""

    def refused(self, federation: FederationFolder, why: str) -> None:
        hub = memory_hub(federation)
        with pytest.raises(SumFailed, match="6 of 6 tenants could not compute their statistics"):
            run(federation, hub)
        for index in range(6):
            session = hub.session_of(index)
            assert session is not None and session.fault is not None and why in session.fault.message

    def test_moments_without_the_gate(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def ungated(sums: FederatedSum, terms: Any, *more: Any) -> FederatedTotal:
            return FederatedTotal(sums, replace(terms, mass_floor=0), *more)

        monkeypatch.setattr(session_fit, "FederatedTotal", ungated)
        self.refused(write(tmp_path / "f"), "without the mass gate")

    def test_moments_at_other_parameters_than_the_counts(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Counts where every component is large say nothing on moments where one is a single record."""
        behind_gate, counted = FederatedSum.sum_behind_gate, dict[int, bytes]()

        def cheat(self: FederatedSum, counts: SumRequest, moments: Callable[[SumOpened], SumRequest]) -> SumOpened:
            seen = counted.setdefault(counts.length, counts.parameters)
            return behind_gate(self, replace(counts, parameters=seen), moments)

        monkeypatch.setattr(FederatedSum, "sum_behind_gate", cheat)
        self.refused(write(tmp_path / "f"), "at other parameters than those whose counts were taken")

    def test_increments(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        behind_gate = FederatedSum.sum_behind_gate

        def cheat(self: FederatedSum, counts: SumRequest, moments: Callable[[SumOpened], SumRequest]) -> SumOpened:
            return behind_gate(self, counts, lambda counted: replace(moments(counted), whole=False))

        monkeypatch.setattr(FederatedSum, "sum_behind_gate", cheat)
        self.refused(write(tmp_path / "f"), "an increment, in a session with a mass gate")

    def test_counts_in_a_session_without_a_gate(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def gated(sums: FederatedSum, terms: Any, *more: Any) -> FederatedTotal:
            return FederatedTotal(sums, replace(terms, mass_floor=1), *more)

        monkeypatch.setattr(session_fit, "FederatedTotal", gated)
        self.refused(write(tmp_path / "f", floor=0), "counts, in a session without a mass gate")


def test_the_columns_are_standardised_behind_the_gate_too(tmp_path: Path) -> None:
    """Their moments are of one component that holds everybody."""
    federation = write(tmp_path / "f", fit="max_iterations = 1", columns=TABLES)
    outcome = run(federation)
    assert outcome.record.rounds[0].counted == outcome.record.rounds[0].round - 1
    rows = np.concatenate(list(with_an_outlier().values()))
    np.testing.assert_allclose(outcome.result.coordinates.location, rows.mean(axis=0), rtol=1e-9)
