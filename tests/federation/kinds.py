"""Every kind of session whose sums lack a tenant that was killed, until it is back: what it must have come to, whatever carried it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
from mixed_federation import COLUMNS, LABELS, mixed_tables, write_mixed_federation
from right_sums import assert_it_verifies, assert_sums_are_right
from small_federation import MODEL, TABLES, Moment, clustered_rows, session_toml, write_small_federation
from test_optimised_session import OVERLAPPING
from test_selection import FAMILY
from test_standard_error_sessions import assert_same_errors, in_one_place
from test_streams import STREAM as BATCHES
from test_streams import records_of
from test_tenant_weights import OWN

from fed_em.candidates import Candidates
from fed_em.em import Step, Stopping, fit
from fed_em.model_file import FittedModel, load_model, save_model
from fed_em.parameters import Parameters
from fed_em.records import Records
from fed_em.starts import LLOYD_ROUNDS, ROUNDS, rounds_of
from fed_em.totals import TotalOfRows
from fed_em_protocols.coordinator_state import SumOpened
from fed_em_protocols.transcript.walk import Attempt, WalkedSession
from fed_em_server.pooled import fit_pooled
from fed_em_server.record import RoundRecord, SessionRecord, read_record
from fed_em_server.serve import MODEL_FOLDER
from fed_em_server.transcript_folder import read_session
from fed_em_simulations.federation_folder import FederationFolder, Matrix

# Whose process is killed.
KILLED = "t1"


class Write(Protocol):
    """Puts a federation on disk."""

    def __call__(self, folder: Path, tenants: dict[str, Matrix], session: str) -> FederationFolder: ...


@dataclass(frozen=True)
class Ended:
    """A session that ended, as its server's folder has it."""

    federation: FederationFolder

    @cached_property
    def record(self) -> SessionRecord:
        return read_record(self.federation.server.output)

    @cached_property
    def fitted(self) -> FittedModel:
        return load_model(self.federation.server.output / MODEL_FOLDER)

    @cached_property
    def transcript(self) -> WalkedSession:
        return read_session(self.federation.server.output, self.federation.roster)

    @cached_property
    def sums(self) -> list[Attempt]:
        """All that were opened."""
        return [attempt for attempt in self.transcript.attempts if isinstance(attempt.outcome, SumOpened)]

    def partial(self, rounds: Sequence[RoundRecord]) -> bool:
        """Whether some of these rounds had stale or missing terms."""
        return any(each.stale or each.missing for each in rounds)

    @cached_property
    def records(self) -> Mapping[str, Records]:
        return records_of(self.federation)

    @cached_property
    def iterations(self) -> list[RoundRecord]:
        """The rounds of the one model."""
        before = [k for k, each in enumerate(self.record.rounds) if each.start or each.fitted_together]
        return list(self.record.rounds[max(before, default=0) + 1 :])

    @property
    def pooled(self) -> Records:
        return Records.concatenated(list(self.records.values()))

    def start(self) -> Parameters:
        """What the first round of the one model was asked at; on tracks, each of them."""
        (asked,) = (each.broadcast for each in self.sums if each.outcome.round == self.iterations[0].round)
        together = isinstance(asked.model, Candidates)
        return asked.model.parameters_of(asked.parameters)[0] if together else asked.parameters


@dataclass(frozen=True)
class Kind:
    """One of them.

    Attributes:
        model: The text of [model], and tables behind it.
        fit: That of [fit].
        moments: When the tenant is killed, time after time: once it has sent its next upload.
        came_right: What the session must have come to, besides right sums from which its model follows.
        optimiser, start: Lines of [fit].
        mixed: Whether its tables have mixed columns.
    """

    model: str
    fit: str
    moments: tuple[Moment, ...]
    came_right: Callable[[Ended], None]
    optimiser: str = "em"
    start: str = "starts = 0"
    mixed: bool = False

    def federation(
        self,
        folder: Path,
        sizes: Sequence[int],
        times: str,
        trust: str = "",
        write: Write = write_small_federation,
    ) -> FederationFolder:
        """One on disk that is about to run such a session."""
        tenants = clustered_rows(sizes)
        start = self.start.format(earlier=folder / "earlier")
        columns = COLUMNS if self.mixed else TABLES
        session = session_toml(self.model, self.fit, times, columns, trust, self.optimiser, start)
        if "{earlier}" in self.start:
            federation = write(folder / "before", tenants, session_toml())
            server, rows = federation.server, np.concatenate(list(tenants.values()))
            earlier, _ = fit_pooled(server.description, rows, Stopping(0.0, 4), server.fit.seed)
            save_model(folder / "earlier", earlier)
        if self.mixed:
            return write_mixed_federation(folder / "f", mixed_tables(sizes), session, write)
        return write(folder / "f", tenants, session)


def rounds_opened(n: int) -> Moment:
    return lambda rounds: len(rounds) >= n


def rounds_since_pick(n: int) -> Moment:
    """So many of the picked model; those of a bootstrap are told of nobody and come after the last."""
    return lambda rounds: len(rounds) >= n + 1 and bool(rounds[-1 - n].picked)


def assert_right(ended: Ended, kind: Kind) -> None:
    """All that can be said of a session of a kind that has ended."""
    assert_it_verifies(ended.federation)
    assert_sums_are_right(ended.federation, ended.transcript)
    assert ended.record.rounds[-1].complete, "and all are back"
    kind.came_right(ended)


def assert_tenants_have_it(ended: Ended) -> None:
    for name in ended.federation.tenant_files:
        kept = load_model(ended.federation.tenant(name).state / MODEL_FOLDER)
        assert kept.parameters.distance(ended.fitted.parameters) == 0


def assert_at_an_optimum(ended: Ended) -> None:
    """At most a millionth of a nat a record below where EM comes to from there."""
    assert ended.record.converged
    records, fitted = ended.pooled, ended.fitted
    model = ended.federation.server.description.fitted_model if not ended.record.selection else fitted.model
    there = Records(fitted.coordinates.apply(records.rows), records.weights, records.admissible)
    total = TotalOfRows(model, there)
    best = fit(model, total, fitted.parameters, Stopping(1e-11, 500))
    ours = fit(model, total, fitted.parameters, Stopping(0.0, 1))
    assert best.iterations[-1].objective - ours.iterations[0].objective < 1e-6


def assert_it_paused_and_leapt(ended: Ended) -> None:
    steps = [each.step for each in ended.iterations]
    assert Step.PAUSED in steps or Step.ABANDONED in steps, "the optimiser was off while a tenant was away"
    assert Step.LEAP in steps
    for each in ended.iterations:
        assert each.complete == (each.step not in (Step.PAUSED, Step.ABANDONED))


def picked_by_bic(ended: Ended) -> None:
    """As sessions are by default: of several starts, on two tracks."""
    starts, together = ended.record.start_rounds, [each for each in ended.record.rounds if each.fitted_together]
    assert ended.federation.server.description.tracks == 2
    assert len(starts) == ROUNDS and ended.partial(starts) and not any(each.stale for each in starts)
    assert ended.record.selection is not None and together
    assert_it_paused_and_leapt(ended)
    assert_at_an_optimum(ended)
    told = ended.record.standard_errors
    assert told is not None and ended.fitted.errors is not None
    of_told = Records.concatenated([ended.records[name] for name in told.tenants])
    assert told.records == len(of_told)
    assert_same_errors(ended.fitted.errors, in_one_place(ended.fitted, of_told))


# Steps of the picked model, before its bootstrap.
_STEPS = 4


def picked_by_held_out_rows(ended: Ended) -> None:
    together = [each for each in ended.record.rounds if each.fitted_together]
    assert any(each.stale for each in together)
    selection = ended.record.selection
    assert selection is not None and selection.complete
    assert selection.candidates[selection.picked].components == 3
    assert len(ended.iterations) == _STEPS
    told = ended.record.standard_errors
    assert told is not None and ended.fitted.errors is not None and told.replicates == 4
    replicates = ended.sums[-told.sums :]
    assert any(each.outcome.stale for each in replicates)
    assert not replicates[-1].outcome.stale and not replicates[-1].outcome.missing
    assert told.tenants == ended.record.tenants and told.records == len(ended.pooled)


def squarem_after_generations(ended: Ended) -> None:
    starts = ended.record.start_rounds
    assert len(starts) == rounds_of(1)
    assert ended.partial(starts[ROUNDS:]) and not any(each.stale for each in starts)
    assert all(len(each.candidates) == 3 for each in starts[LLOYD_ROUNDS:])
    assert_it_paused_and_leapt(ended)
    assert_at_an_optimum(ended)


def from_labels(ended: Ended) -> None:
    """Its block is away in the second of two sums, which is taken until all are back: the start is that of everybody's labels."""
    starts = ended.record.start_rounds
    assert len(starts) > 2 and any(each.stale for each in starts) and starts[-1].complete
    server = ended.federation.server
    _, expected = fit_pooled(
        server.description, ended.pooled, Stopping(0.0, 1), server.fit.seed, beginning=server.beginning()
    )
    assert ended.start().distance(expected.start) < 1e-6
    assert_at_an_optimum(ended)


def from_a_model(ended: Ended) -> None:
    """And with mixing weights of each tenant's own."""
    server = ended.federation.server
    _, expected = fit_pooled(
        server.description, ended.pooled, Stopping(0.0, 1), server.fit.seed, beginning=server.beginning()
    )
    assert ended.start().distance(expected.start) < 1e-8
    assert any(each.stale for each in ended.iterations) and ended.record.converged
    assert np.diff([each.objective for each in ended.iterations]).min() > -1e-8


def streamed(ended: Ended) -> None:
    """Everybody's vectors are whole: whoever is away is in no sum."""
    assert ended.partial(ended.iterations) and not any(each.stale for each in ended.iterations)
    assert len(ended.iterations) == 60


PICKED_BY_BIC, STREAM = "starts, BIC, two tracks, standard errors", "stream"
KINDS = {
    PICKED_BY_BIC: Kind(
        FAMILY + '\n[selection]\ncomponents = [3, 4]\ncovariances = ["full"]\nmax_iterations = 2\n',
        "tolerance = 1e-8\nmax_iterations = 200\nstandard_errors = true",
        (rounds_opened(5), rounds_since_pick(1)),
        picked_by_bic,
        "lbfgs",
        "starts = 2",
    ),
    "held-out rows, bootstrap": Kind(
        FAMILY + '\n[selection]\ncomponents = [1, 3]\ncriterion = "held-out"\nheld_out = 0.4\nmax_iterations = 8\n',
        f"tolerance = 0\nmax_iterations = {_STEPS}\nbootstrap = 4",
        (rounds_opened(3), rounds_since_pick(_STEPS)),
        picked_by_held_out_rows,
        "lbfgs",
    ),
    "generations, SQUAREM": Kind(
        OVERLAPPING,
        "generations = 1\ntolerance = 1e-8\nmax_iterations = 200",
        (rounds_opened(1 + ROUNDS + 3), rounds_opened(1 + rounds_of(1) + 2)),
        squarem_after_generations,
        "squarem",
        "starts = 2",
    ),
    "labels": Kind(
        'family = "mixed-mixture"\nn_components = 3\ncovariance = "diag"' + LABELS,
        "tolerance = 1e-7\nmax_iterations = 100",
        (rounds_opened(1),),
        from_labels,
        "lbfgs",
        'start = "labels"',
        mixed=True,
    ),
    "a model file, own mixing weights": Kind(
        MODEL + OWN,
        "tolerance = 1e-9\nmax_iterations = 100",
        (rounds_opened(4),),
        from_a_model,
        start='start = "{earlier}"',
    ),
    STREAM: Kind(MODEL + BATCHES, "max_iterations = 60", (rounds_opened(4),), streamed),
}
