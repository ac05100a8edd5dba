"""Sessions in which tenants come and go: blocks are stale or back, and the fit is that of everybody's rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_federation import (
    COLUMNS,
    LIKELIEST,
    Recorder,
    clustered_rows,
    memory_hub,
    session_toml,
    write_three_blocks,
)
from test_equals_pooled import assert_same_path, pooled_from_same_start

from fed_em.em import GONE_AFTER, Stopping, fit
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.totals import TotalOfRows
from fed_em_protocols.envelope import unseal
from fed_em_protocols.messages import AskBase, Header, Mode, Upload
from fed_em_server.serve import open_server
from fed_em_server.session import SessionOutcome, run_session
from fed_em_simulations.federation_folder import FederationFolder, Matrix
from fed_em_simulations.memory_hub import Direction, Fate, MemoryHub, Passing

TIMES = "patience = 0.01\nstraggler = 0.02\nset_up = 1\nupload = 1\nopen = 0.5"
SIZES = (60, 50, 40, 30, 20, 45, 35, 25, 55)


def nine_tenants(seed: int = 0) -> dict[str, Matrix]:
    return clustered_rows(SIZES, seed)


def pool(tenants: dict[str, Matrix]) -> Matrix:
    return np.concatenate(list(tenants.values()))


@dataclass
class Trouble:
    """What happens to uploads; and what was asked of tenants, and by them.

    Attributes:
        fate: Of a tenant's upload in a round.
        modes: Mode of each round.
        asked_for_base: Who asked for what its increment starts from, and in which round.
    """

    fate: Callable[[int, int], Fate]
    modes: dict[int, Mode] = field(default_factory=dict)
    asked_for_base: list[tuple[int, int]] = field(default_factory=list)

    def __call__(self, passing: Passing) -> Fate:
        content = unseal(passing.data, "").content
        if isinstance(content, Header):
            self.modes[content.round] = Mode(content.mode)
        if isinstance(content, AskBase):
            self.asked_for_base.append((passing.tenant, content.round))
        if passing.direction is Direction.TO_SERVER and isinstance(content, Upload):
            return self.fate(passing.tenant, content.round)
        return Fate.DELIVER


def run(federation: FederationFolder, hub: MemoryHub) -> SessionOutcome:
    return run_session(open_server(federation.server).plan("memory"), hub, Recorder())


def optimum(outcome: SessionOutcome, rows: Matrix) -> tuple[GaussianMixtureModel, float, Matrix]:
    """The model, the log-likelihood a row at the optimum that plain EM finds from where a session ended, and the rows."""
    model, standardised = cast(GaussianMixtureModel, outcome.fitted.model), outcome.result.coordinates.apply(rows)
    best = fit(model, TotalOfRows(model, standardised), outcome.result.fit.parameters, Stopping(1e-13, 5000))
    return model, float(model.log_prob(best.parameters, standardised).mean()), standardised


@pytest.mark.slow
def test_links_that_break_again_and_again_cost_rounds_and_not_the_fit(tmp_path: Path) -> None:
    tenants, generator = nine_tenants(), np.random.default_rng(1)
    session = session_toml(LIKELIEST, "tolerance = 1e-6\nmax_iterations = 300", times=TIMES)
    federation = write_three_blocks(tmp_path / "f", tenants, session)
    trouble = Trouble(lambda _tenant, number: Fate.BREAK if number > 1 and generator.random() < 0.02 else Fate.DELIVER)
    # A round takes 0.12 s, and a tenant dials again after 0.2 s.
    outcome = run(federation, memory_hub(federation, latency=0.02, interfere=trouble))
    iterations = outcome.result.fit.iterations
    stale = [len(iteration.stale) for iteration in iterations]
    assert outcome.result.fit.converged
    assert not any(iteration.missing for iteration in iterations[1:])
    assert sum(count > 0 for count in stale) > 10 and set(stale) <= {0, 3, 6}, "whole blocks, or not at all"
    assert all(iteration.records == sum(SIZES) for iteration in iterations[1:])
    assert {trouble.modes[record.round] for record in outcome.record.rounds[2:]} == {Mode.INCREMENT}
    model, best, rows = optimum(outcome, pool(tenants))
    assert best - model.log_prob(outcome.result.fit.parameters, rows).mean() < 1e-4
    # The free energy is the objective of every iteration, and it never falls.
    assert np.diff([iteration.objective for iteration in iterations[1:]]).min() > -1e-9


@pytest.mark.slow
def test_rounds_with_everybody_are_pooled_em_whatever_the_mode(tmp_path: Path) -> None:
    tenants = nine_tenants()
    federation = write_three_blocks(tmp_path / "f", tenants, session_toml(times=TIMES))
    trouble = Trouble(lambda _tenant, _number: Fate.DELIVER)
    outcome = run(federation, memory_hub(federation, interfere=trouble))
    assert list(trouble.modes.values()) == [Mode.WHOLE, Mode.WHOLE] + (len(trouble.modes) - 2) * [Mode.INCREMENT]
    assert_same_path(outcome, pooled_from_same_start(federation, outcome.result, pool(tenants)))


@dataclass
class Deaths:
    """A tenant dies with its upload in one round, and comes back, if ever, after some seconds.

    `before`: what happens to its data while it is dead.
    """

    tenant: int
    number: int
    back_after: float | None
    before: Callable[[], None] = lambda: None
    hub: MemoryHub | None = None

    def __call__(self, tenant: int, number: int) -> Fate:
        if (tenant, number) != (self.tenant, self.number) or self.hub is None:
            return Fate.DELIVER
        self.before()
        if self.back_after is not None:
            self.hub.restart(tenant, self.back_after)
        return Fate.KILL


def die(federation: FederationFolder, deaths: Deaths) -> tuple[SessionOutcome, Trouble]:
    trouble = Trouble(deaths)
    deaths.hub = memory_hub(federation, interfere=trouble)
    return run(federation, deaths.hub), trouble


@pytest.mark.slow
def test_with_a_tenant_gone_for_good_the_fit_converges_around_what_its_block_left(tmp_path: Path) -> None:
    tenants = nine_tenants()
    session = session_toml(LIKELIEST, "tolerance = 1e-8\nmax_iterations = 500", times=TIMES)
    federation = write_three_blocks(tmp_path / "f", tenants, session)
    outcome, _ = die(federation, Deaths(4, 8, back_after=None))
    block = next(block for block in federation.roster.blocks if 4 in block)
    iterations = outcome.result.fit.iterations
    assert outcome.result.fit.converged and GONE_AFTER < len(iterations) < 500
    assert iterations[-1].stale == federation.roster.names(block)
    # By brute force: EM in which that block's responsibilities stay what they were when it was last summed.
    model = cast(GaussianMixtureModel, outcome.fitted.model)
    standardised = {name: outcome.result.coordinates.apply(rows) for name, rows in tenants.items()}
    last_seen = max(i.number for i in iterations if not i.stale)
    theirs = iterations[last_seen - 2].parameters
    frozen = sum((model.e_step(theirs, standardised[name]) for name in iterations[-1].stale[1:]),
                 start=model.e_step(theirs, standardised[iterations[-1].stale[0]]))  # fmt: skip
    rest = np.concatenate([rows for name, rows in standardised.items() if name not in iterations[-1].stale])
    at = outcome.result.fit.parameters
    for _ in range(2000):
        at = model.m_step(model.e_step(at, rest) + frozen, at)
    final = outcome.result.fit.parameters
    gap = [model.free_energy(model.e_step(p, rest) + frozen, p) / sum(SIZES) for p in (final, at)]
    assert 0 <= gap[1] - gap[0] < 1e-6
    assert final.distance(at) < 1e-2


@pytest.mark.slow
def test_a_restarted_tenant_computes_its_base_again_and_the_total_stays_exact(tmp_path: Path) -> None:
    tenants = nine_tenants()
    session = session_toml(fit="tolerance = 1e-7\nmax_iterations = 300", times=TIMES)
    federation = write_three_blocks(tmp_path / "f", tenants, session)
    outcome, trouble = die(federation, Deaths(4, 8, back_after=0.05))
    iterations = outcome.result.fit.iterations
    assert {who for who, _ in trouble.asked_for_base} == {4}
    assert [trouble.modes[record.round] for record in outcome.record.rounds[2:]] == (len(iterations) - 1) * [
        Mode.INCREMENT
    ]
    assert any(i.stale for i in iterations) and iterations[-1].complete
    model, best, rows = optimum(outcome, pool(tenants))
    before = iterations[-2].parameters
    np.testing.assert_allclose(iterations[-1].log_likelihood, model.log_prob(before, rows).mean(), rtol=1e-10)
    assert best - model.log_prob(outcome.result.fit.parameters, rows).mean() < 1e-5


@pytest.mark.slow
def test_other_rows_after_a_restart_are_a_new_start_for_the_total(tmp_path: Path) -> None:
    tenants = nine_tenants()
    session = session_toml(fit="tolerance = 1e-7\nmax_iterations = 300", times=TIMES)
    federation = write_three_blocks(tmp_path / "f", tenants, session)
    now = {**tenants, "t4": nine_tenants(seed=5)["t4"][:11]}

    def correct() -> None:
        columns = dict(zip(COLUMNS, now["t4"].T, strict=True))
        pq.write_table(pa.table(columns), federation.tenant("t4").data)

    outcome, trouble = die(federation, Deaths(4, 8, back_after=0.05, before=correct))
    iterations = outcome.result.fit.iterations
    whole = [number for number, mode in trouble.modes.items() if mode is Mode.WHOLE]
    assert len(whole) == 3, "the moments, the first round of the model, and the one after the change"
    assert iterations[-1].complete and iterations[-1].records == sum(SIZES) - len(tenants["t4"]) + 11
    model, best, rows = optimum(outcome, pool(now))
    np.testing.assert_allclose(
        iterations[-1].log_likelihood, model.log_prob(iterations[-2].parameters, rows).mean(), rtol=1e-10
    )
    assert best - model.log_prob(outcome.result.fit.parameters, rows).mean() < 1e-5
