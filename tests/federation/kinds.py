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
from test_selection import FAMILY
from test_standard_error_sessions import assert_same_errors, in_one_place
from test_streams import STREAM as BATCHES
from test_streams import records_of
from test_tenant_weights import OWN

from fed_em.candidates import Candidates
from fed_em.criteria import BIC, HELD_OUT
from fed_em.em import Step, Stopping, fit
from fed_em.labelled_start import LABELLED_ROUNDS
from fed_em.model_file import FittedModel, load_model, save_model
from fed_em.parameters import Parameters
from fed_em.records import Records
from fed_em.starts import ROUNDS, rounds_of
from fed_em.tenant_mixing import has_own_weights
from fed_em.totals import TotalOfRows
from fed_em_client.take_part import OWN_MODEL_FOLDER
from fed_em_protocols.coordinator_state import SumOpened
from fed_em_protocols.transcript.walk import Attempt, WalkedSession
from fed_em_server.pooled import fit_pooled
from fed_em_server.record import RoundRecord, SessionRecord, read_record
from fed_em_server.serve import MODEL_FOLDER
from fed_em_server.transcript_folder import read_session
from fed_em_simulations.federation_folder import FederationFolder, Matrix

# Whose process is killed, of six in two blocks: t0, t2, t4 and t1, t3, t5.
KILLED = "t1"
SIZES = (60, 50, 40, 30, 35, 45)


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
        fold: How many times as many rows each tenant has: where secrets say which are held out, so that chance does not pick the model.
    """

    model: str
    fit: str
    moments: tuple[Moment, ...]
    came_right: Callable[[Ended], None]
    optimiser: str = "em"
    start: str = "starts = 0"
    mixed: bool = False
    fold: int = 1

    def federation(
        self,
        folder: Path,
        times: str,
        sizes: Sequence[int] = SIZES,
        trust: str = "",
        write: Write = write_small_federation,
    ) -> FederationFolder:
        """One on disk that is about to run such a session."""
        sizes = [self.fold * size for size in sizes]
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


def assert_right(ended: Ended, kind: Kind) -> None:
    """All that can be said of a session of a kind that has ended."""
    assert_it_verifies(ended.federation)
    assert_sums_are_right(ended.federation, ended.transcript)
    assert ended.record.rounds[-1].complete, "all are back"
    kind.came_right(ended)


def assert_tenants_have_it(ended: Ended) -> None:
    for name in ended.federation.tenant_files:
        kept = load_model(ended.federation.tenant(name).state / MODEL_FOLDER)
        assert kept.parameters.distance(ended.fitted.parameters) == 0
        assert (ended.federation.tenant(name).state / OWN_MODEL_FOLDER).is_dir() == has_own_weights(kept.model)


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


def picked_by_held_out_rows(ended: Ended) -> None:
    """Of generations of starts, then on two tracks: it is away in a start, in a round of models to pick from, and in one of the picked."""
    starts, together = ended.record.start_rounds, [each for each in ended.record.rounds if each.fitted_together]
    assert len(starts) == rounds_of(1)
    assert ended.partial(starts[ROUNDS:]) and not any(each.stale for each in starts)
    selection = ended.record.selection
    assert selection is not None and selection.complete and any(each.stale for each in together)
    of_candidates = [one.criteria for one in selection.candidates]
    for criterion, sign in ((HELD_OUT, 1), (BIC, -1)):
        assert np.argmax([sign * criteria[criterion] for criteria in of_candidates]) == selection.picked == 1
    assert ended.federation.server.description.tracks == 2
    assert_it_paused_and_leapt(ended)
    assert_at_an_optimum(ended)
    told = ended.record.standard_errors
    assert told is not None and ended.fitted.errors is not None
    of_told = Records.concatenated([ended.records[name] for name in told.tenants])
    assert told.records == len(of_told)
    assert_same_errors(ended.fitted.errors, in_one_place(ended.fitted, of_told))


_ITERATIONS, _REPLICATES = 18, 4


def from_labels(ended: Ended) -> None:
    """By SQUAREM, to a bootstrap. Its block is away in the second sum of the start, which is taken until it is back: the start is that of
    everybody's labels. It is away in an iteration, and in a round of replicates, whose last sum is of everybody.
    """
    starts = ended.record.start_rounds
    assert len(starts) > LABELLED_ROUNDS and any(each.stale for each in starts) and starts[-1].complete
    assert_it_began_as_in_one_place(ended)
    assert_it_paused_and_leapt(ended)
    assert len(ended.iterations) == _ITERATIONS
    told = ended.record.standard_errors
    assert told is not None and ended.fitted.errors is not None and told.replicates == _REPLICATES
    parts = [each.outcome for each in ended.sums[-told.sums :]]
    assert any(each.stale for each in parts) and not parts[-1].stale and not parts[-1].missing
    assert told.tenants == ended.record.tenants and told.records == len(ended.pooled)


def from_a_model(ended: Ended) -> None:
    """With mixing weights of each tenant's own."""
    assert_it_began_as_in_one_place(ended)
    assert any(each.stale for each in ended.iterations) and ended.record.converged
    assert np.diff([each.objective for each in ended.iterations]).min() > -1e-8


def assert_it_began_as_in_one_place(ended: Ended) -> None:
    server = ended.federation.server
    once, begun = Stopping(0.0, 1), server.beginning()
    _, expected = fit_pooled(server.description, ended.pooled, once, server.fit.seed, beginning=begun)
    assert ended.start().distance(expected.start) < 1e-6


def streamed(ended: Ended) -> None:
    """Everybody's vectors are whole: whoever is away is in no sum."""
    assert ended.partial(ended.iterations) and not any(each.stale for each in ended.iterations)
    assert len(ended.iterations) == 60


def rounds_opened(n: int) -> Moment:
    return lambda rounds, _: len(rounds) >= n


def iterations_done(n: int) -> Moment:
    return lambda rounds, _: rounds[-1].iteration >= n


def fitted_together(rounds: Sequence[RoundRecord], _: int) -> bool:
    return bool(rounds[-1].fitted_together) and not rounds[-1].picked


def just_picked(rounds: Sequence[RoundRecord], _: int) -> bool:
    return bool(rounds[-1].picked or rounds[-2].picked)


def replicated(rounds: Sequence[RoundRecord], number: int) -> bool:
    """Rounds of replicates are told of nobody."""
    return rounds[-1].iteration == _ITERATIONS and number > rounds[-1].round + 1


STREAM, MODEL_FILE = "stream", "a model file, own mixing weights"
KINDS = {
    "generations of starts, held-out rows, two tracks, standard errors": Kind(
        FAMILY + '\n[selection]\ncomponents = [1, 3]\ncriterion = "held-out"\nheld_out = 0.4\nmax_iterations = 4\n',
        "generations = 1\ntolerance = 1e-8\nmax_iterations = 200\nstandard_errors = true",
        (rounds_opened(1 + ROUNDS + 3), fitted_together, just_picked),
        picked_by_held_out_rows,
        "lbfgs",
        "starts = 2",
        fold=3,
    ),
    "labels, SQUAREM, bootstrap": Kind(
        'family = "mixed-mixture"\nn_components = 3\ncovariance = "diag"' + LABELS,
        f"tolerance = 0\nmax_iterations = {_ITERATIONS}\nbootstrap = {_REPLICATES}",
        (rounds_opened(1), iterations_done(2), replicated),
        from_labels,
        "squarem",
        'start = "labels"',
        mixed=True,
    ),
    MODEL_FILE: Kind(
        MODEL + OWN,
        "tolerance = 1e-9\nmax_iterations = 100",
        (iterations_done(3),),
        from_a_model,
        start='start = "{earlier}"',
    ),
    STREAM: Kind(MODEL + BATCHES, "max_iterations = 60", (iterations_done(3),), streamed),
}
