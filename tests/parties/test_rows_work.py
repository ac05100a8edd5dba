"""What a tenant computes for a round, and what it refuses to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest

import fed_em
from fed_em.broadcast import Broadcast
from fed_em.component_counts import component_counts, counts_layout
from fed_em.coordinates import Coordinates
from fed_em.errors import CallerError
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.initialisation import moments_model, standard_gaussian, start_from_moments
from fed_em.missing_gaussian import reach_of
from fed_em.model import Model, Rows
from fed_em.parameters import Parameters
from fed_em.silence import silence
from fed_em.statistics import Statistics
from fed_em_client import rows_work
from fed_em_client.round_marks import FileRoundMarks
from fed_em_client.rows_work import RowsWork
from fed_em_protocols.description import SessionDescription, counts_encoding_of, encoding_of
from fed_em_protocols.encoding import Encoding
from fed_em_protocols.errors import IllegalStep
from fed_em_protocols.mass_gate import held_components, held_to_bitmap
from fed_em_protocols.messages import Mode
from fed_em_protocols.party import make_roster
from fed_em_protocols.tenant_state import Evaluate
from tests.parties.forest import NAMES, Parties

BEECH = 1


def asked_of(encoding: Encoding, broadcast: Broadcast, number: int = 1) -> Evaluate:
    return Evaluate(number, Mode.WHOLE, broadcast.to_bytes(), encoding.digest, encoding.length, ring=encoding.ring.bits)


@dataclass
class Bench:
    """A tenant's work over known rows, and the server's side of a request."""

    parties: Parties
    description: SessionDescription
    rows: Rows
    data: Path

    def __post_init__(self) -> None:
        np.save(self.data, self.rows)
        self.work = RowsWork(self.data, {}, self.parties.roster, BEECH)

    @property
    def coordinates(self) -> Coordinates:
        return Coordinates(self.rows.mean(axis=0), self.rows.std(axis=0))

    def start(self, seed: int = 0) -> Parameters:
        """Admissible parameters of the session's model."""
        model, gaussian = moments_model(2), standard_gaussian(2)
        moments = model.m_step(model.e_step(gaussian, self.coordinates.apply(self.rows)), gaussian)
        fitted = self.description.fitted_model
        assert isinstance(fitted, GaussianMixtureModel)
        return start_from_moments(fitted, moments, seed)

    def request(self, broadcast: Broadcast, number: int = 1) -> Evaluate:
        """What the server asks for, with the encoding that it derives."""
        encoding = encoding_of(self.description, broadcast, self.parties.roster.row_caps)
        return asked_of(encoding, broadcast, number)

    def broadcast(self, seed: int = 0, model: Model | None = None) -> Broadcast:
        """A request's parameters; the session's model by default."""
        return Broadcast(model or self.description.fitted_model, self.coordinates, self.start(seed))

    def counts(self, broadcast: Broadcast, number: int = 1) -> Evaluate:
        """The same of counts, in a session whose gate asks for 4 records and 1 + 2 tenants."""
        encoding = counts_encoding_of(broadcast.model, self.parties.roster.row_caps)
        asked = asked_of(encoding, broadcast, number)
        return replace(asked, mode=Mode.COUNTS, mass_floor=4_000, colluders=1)

    def moments(self, broadcast: Broadcast, held: bytes = b"\0", number: int = 2) -> Evaluate:
        """And of the moments behind that gate."""
        return replace(self.request(broadcast, number), mass_floor=4_000, colluders=1, held=held)

    def prepared(self) -> RowsWork:
        self.work.prepare(self.description.to_json(), 0)
        return self.work


@pytest.fixture
def bench(parties: Parties, description: SessionDescription, rows: Rows, tmp_path: Path) -> Bench:
    return Bench(parties, description, rows, tmp_path / "rows.npy")


class TestStatistics:
    def test_they_are_those_of_the_e_step_in_the_broadcasts_coordinates(self, bench: Bench) -> None:
        work = bench.prepared()
        for number in range(3):
            broadcast = Broadcast(bench.description.fitted_model, bench.coordinates, bench.start(number))
            encoding = encoding_of(bench.description, broadcast, bench.parties.roster.row_caps)
            ring = work.evaluate(bench.request(broadcast, number))
            z = bench.coordinates.apply(bench.rows)
            plain = broadcast.model.e_step(broadcast.parameters, z, encoding.layout)
            assert np.array_equal(ring, encoding.encode(plain, BEECH))
            np.testing.assert_allclose(encoding.decode(ring)["count"], len(bench.rows))
            np.testing.assert_allclose(encoding.decode(ring).vector, plain.vector, rtol=1e-6, atol=1e-6)

    def test_moments_come_first_and_the_model_after(self, bench: Bench) -> None:
        work = bench.prepared()
        ranges = Coordinates.of_ranges(bench.description.low, bench.description.high)
        first = Broadcast(moments_model(2), ranges, standard_gaussian(2))
        encoding = encoding_of(bench.description, first, bench.parties.roster.row_caps)
        total = encoding.decode(work.evaluate(bench.request(first)))
        np.testing.assert_allclose(total["first"][0], ranges.apply(bench.rows).sum(axis=0), rtol=1e-9)
        then = Broadcast(bench.description.fitted_model, bench.coordinates, bench.start())
        assert len(work.evaluate(bench.request(then))) != encoding.length

    def test_coordinates_are_fixed_by_the_first_round_of_the_model(self, bench: Bench) -> None:
        work = bench.prepared()
        one = Broadcast(bench.description.fitted_model, bench.coordinates, bench.start())
        moved = Coordinates(bench.coordinates.location + 1, bench.coordinates.scale)
        other = Broadcast(bench.description.fitted_model, moved, bench.start())
        first = work.evaluate(bench.request(one))
        with pytest.raises(CallerError, match="changed the coordinates"):
            work.evaluate(bench.request(other))
        assert np.array_equal(first, work.evaluate(bench.request(one)))

    def test_moments_are_not_given_again_once_the_fit_has_begun(self, bench: Bench) -> None:
        work = bench.prepared()
        width = len(bench.description.columns)
        ranges = Coordinates.of_ranges(bench.description.low, bench.description.high)
        moments = Broadcast(moments_model(width), ranges, standard_gaussian(width))
        first = work.evaluate(bench.request(moments))
        assert np.array_equal(first, work.evaluate(bench.request(moments)))
        work.evaluate(bench.request(Broadcast(bench.description.fitted_model, bench.coordinates, bench.start())))
        with pytest.raises(CallerError, match="moments again"):
            work.evaluate(bench.request(moments))

    def test_columns_with_missing_cells_are_standardised_by_their_observed_ones(
        self, bench: Bench, incomplete: SessionDescription
    ) -> None:
        bench.rows = np.where([False, True] & (bench.rows > 90), np.nan, bench.rows)
        np.save(bench.data, bench.rows)
        bench.description = incomplete
        work, ranges = bench.prepared(), Coordinates.of_ranges(incomplete.low, incomplete.high)
        complete = Broadcast(moments_model(2), ranges, standard_gaussian(2))
        with pytest.raises(CallerError, match="is not about"):
            work.evaluate(bench.request(complete))
        first = Broadcast(incomplete.first_round.model, ranges, standard_gaussian(2))
        encoding = encoding_of(incomplete, first, bench.parties.roster.row_caps)
        total = encoding.decode(work.evaluate(bench.request(first)))
        seen = ~np.isnan(bench.rows)
        assert 0 < seen[:, 1].sum() < len(bench.rows)
        np.testing.assert_allclose(total["observed"], seen.sum(axis=0))
        np.testing.assert_allclose(total["first"], np.nansum(ranges.apply(bench.rows), axis=0), rtol=1e-9)

    def test_rows_that_expect_more_than_the_encoding_reaches_are_counted_and_not_shown(
        self, bench: Bench, incomplete: SessionDescription, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """At a regression of slope 300 between standardised columns, which no row of this tenant speaks for."""
        e_step, e_steps = GaussianMixtureModel.e_step, count()
        monkeypatch.setattr(GaussianMixtureModel, "e_step", lambda *given: (next(e_steps), e_step(*given))[1])
        coordinates = bench.coordinates
        bench.rows = np.where([False, True] & (bench.rows > 90), np.nan, bench.rows)
        np.save(bench.data, bench.rows)
        bench.description = incomplete
        weights, means = [0.5, 0.5], [[0.0, 0.0], [0.0, 0.0]]

        def at(slope: float) -> Broadcast:
            covariance = [[1.0, slope], [slope, slope**2 + 1.0]]
            parameters = Parameters({"weights": weights, "means": means, "covariances": [covariance, covariance]})
            return Broadcast(incomplete.fitted_model, coordinates, parameters)

        work = bench.prepared()
        work.evaluate(bench.request(at(1.0)))
        with pytest.raises(
            CallerError, match="of 40 rows expect their missing cell of column 'weight' beyond"
        ) as found:
            work.evaluate(bench.request(at(300.0), 2))
        expected = coordinates.apply(bench.rows)[np.isnan(bench.rows[:, 1]), 0] * 300
        bound = coordinates.bounds(incomplete.low, incomplete.high).max()
        beyond = int(np.sum((expected**2 + 1) / 2 > reach_of(bound) ** 2))
        assert 0 < beyond < len(expected)
        assert f"parameters {beyond} of 40 rows" in found.value.message
        # The server sees when an answer comes: one without an E-step would be seen to be of a tenant at fault.
        assert next(e_steps) == 2

    def test_how_many_cells_are_observed_is_told_only_where_some_may_be_missing(self, bench: Bench) -> None:
        ranges = Coordinates.of_ranges(bench.description.low, bench.description.high)
        observed = Broadcast(moments_model(2, missing=True), ranges, standard_gaussian(2))
        with pytest.raises(CallerError, match="is not about"):
            bench.prepared().evaluate(bench.request(observed))

    def test_a_new_session_is_answered_from_the_rows_as_they_are_now(self, bench: Bench) -> None:
        broadcast = Broadcast(bench.description.fitted_model, bench.coordinates, bench.start())
        before = bench.prepared().evaluate(bench.request(broadcast))
        np.save(bench.data, bench.rows[:7])
        bench.work.prepare(bench.description.model_copy(update={"title": "later"}).to_json(), 0)
        after = bench.work.evaluate(bench.request(broadcast))
        encoding = encoding_of(bench.description, broadcast, bench.parties.roster.row_caps)
        assert (encoding.decode(before)["count"], encoding.decode(after)["count"]) == (len(bench.rows), 7)

    def test_bounds_are_those_of_ones_own_row_cap(self, bench: Bench) -> None:
        cards = [bench.parties.cards[name] for name in NAMES]
        cards[0] = cards[0].model_copy(update={"row_cap": 1})
        roster = make_roster("forest", bench.parties.cards["server"], cards)
        work = RowsWork(bench.data, {}, roster, BEECH)
        work.prepare(bench.description.to_json(), 0)
        broadcast = Broadcast(bench.description.fitted_model, bench.coordinates, bench.start())
        encoding = encoding_of(bench.description, broadcast, roster.row_caps)
        ring = work.evaluate(asked_of(encoding, broadcast))
        assert encoding.decode(ring)["count"] == len(bench.rows)

    def test_an_older_round_is_computed_again_to_the_same_integers(self, bench: Bench) -> None:
        """What an increment starts from, by a process that has forgotten it, or that never computed it."""
        work, older = bench.prepared(), bench.broadcast(0)
        first = work.evaluate(bench.request(older, 3))
        work.evaluate(bench.request(bench.broadcast(1), 4))
        recall = replace(bench.request(older, 3), recall=True)
        assert np.array_equal(work.evaluate(recall), first)
        restarted = RowsWork(bench.data, {}, bench.parties.roster, BEECH)
        restarted.prepare(bench.description.to_json(), 0)
        assert np.array_equal(restarted.evaluate(recall), first)
        assert np.array_equal(work.evaluate(replace(recall, mode=Mode.INCREMENT)), first)


class TestGate:
    def test_counts_are_those_of_the_rows(self, bench: Bench) -> None:
        work, at = bench.prepared(), bench.broadcast()
        encoding = counts_encoding_of(at.model, bench.parties.roster.row_caps)
        assert isinstance(at.model, GaussianMixtureModel)
        expected = component_counts(at.model, at.parameters, bench.coordinates.apply(bench.rows))
        ring = work.evaluate(bench.counts(at))
        assert np.array_equal(ring, encoding.encode(expected, BEECH))
        assert encoding.layout == counts_layout(at.model)

    @pytest.mark.parametrize(
        ("masses", "supporting", "held"),
        [((9.0, 9.0), (3.0, 3.0), b"\0"), ((9.0, 9.0), (3.0, 2.0), b"\3"), ((9.0, 3.9), (3.0, 3.0), b"\3")],
    )
    def test_the_gate_follows_by_the_rule(
        self, bench: Bench, masses: tuple[float, float], supporting: tuple[float, float], held: bytes
    ) -> None:
        """4 records are asked for, and 1 + 2 tenants; of two components both are held or none."""
        work, at = bench.prepared(), bench.broadcast()
        encoding = counts_encoding_of(at.model, bench.parties.roster.row_caps)
        work.evaluate(bench.counts(at))
        parts = {"count": 20.0, "mass": np.array(masses), "supporting": np.array(supporting)}
        counted = encoding.encode(Statistics.of(encoding.layout, parts), BEECH)
        assert work.held(counted) == held
        # With somebody at fault the counts are noise, and nothing opens behind them.
        counted[-encoding.ring.tail_words] += 1
        assert work.held(counted) == b""

    @pytest.mark.parametrize("held", [(), (1,), (0, 1)])
    def test_moments_of_held_components_are_silenced(self, bench: Bench, held: tuple[int, ...]) -> None:
        work, at = bench.prepared(), bench.broadcast()
        work.evaluate(bench.counts(at))
        ring = work.evaluate(bench.moments(at, held_to_bitmap(held, 2)))
        encoding = encoding_of(bench.description, at, bench.parties.roster.row_caps)
        assert isinstance(at.model, GaussianMixtureModel)
        plain = at.model.e_step(at.parameters, bench.coordinates.apply(bench.rows), encoding.layout)
        assert np.array_equal(ring, encoding.encode(silence(at.model, plain, held), BEECH))

    def test_no_weights_behind_a_gate(self, bench: Bench) -> None:
        """Before the rows are read, and whatever was prepared before: weights 0 and 1 would open the moments of one record."""
        weighted = {**bench.description.model_dump(), "weights": {"column": "positive", "upper": 1}}
        bench.description = SessionDescription.model_validate(weighted)
        np.save(bench.data, np.column_stack((bench.rows, np.arange(len(bench.rows)) == 7)))
        work = bench.prepared()
        with pytest.raises(CallerError, match=r"weights \(column 'positive'\) and a mass floor"):
            work.prepare(bench.description.to_json(), 1)

    def first(self, bench: Bench) -> Broadcast:
        """What the first sum is asked at."""
        return bench.description.first_round

    def test_the_moments_of_the_columns_need_a_gate_too(self, bench: Bench) -> None:
        work, first = bench.prepared(), self.first(bench)
        self.refused(bench, bench.moments(first, b""), "without the mass gate")
        self.refused(bench, bench.moments(first), "at other parameters")
        assert work.evaluate(bench.counts(first)).any()
        assert work.evaluate(bench.moments(first)).any()

    def test_the_moments_of_the_columns_are_all_or_none(self, bench: Bench) -> None:
        bench.prepared().evaluate(bench.counts(self.first(bench)))
        self.refused(bench, bench.moments(self.first(bench), b"\1"), "too few records or observed cells")

    def test_one_observed_cell_shuts_the_moments_of_the_columns(
        self, bench: Bench, incomplete: SessionDescription
    ) -> None:
        bench.description = incomplete
        bench.rows[1:, 1] = np.nan
        np.save(bench.data, bench.rows)
        work, first = bench.prepared(), self.first(bench)
        asked = bench.counts(first)
        ours = work.evaluate(asked)
        assert work.held(3 * ours) == b"\1"
        encoding = counts_encoding_of(first.model, bench.parties.roster.row_caps)
        counted = encoding.decode(3 * ours)
        assert counted["observed_mass"].tolist() == [[3.0 * len(bench.rows), 3.0]]
        assert held_components(counted, asked.mass_floor, asked.colluders + 2) == (0,)

    def refused(self, bench: Bench, asked: Evaluate, why: str) -> None:
        with pytest.raises(CallerError, match=why) as refusal:
            bench.work.evaluate(asked)
        assert refusal.value.message.startswith(f"round {asked.round}: ")

    def test_no_moments_without_the_gate_that_the_terms_promise(self, bench: Bench) -> None:
        at = bench.broadcast()
        bench.prepared().evaluate(bench.counts(at))
        self.refused(bench, bench.moments(at, b""), "without the mass gate")

    def test_no_gate_without_counts(self, bench: Bench) -> None:
        bench.prepared()
        self.refused(bench, bench.moments(bench.broadcast()), "at other parameters than those whose counts were taken")

    def test_no_gate_from_counts_at_other_parameters(self, bench: Bench) -> None:
        """Counts at parameters under which everything is large say nothing on those that single a record out."""
        bench.prepared().evaluate(bench.counts(bench.broadcast(0)))
        self.refused(bench, bench.moments(bench.broadcast(1)), "at other parameters")

    def test_no_gate_from_counts_that_were_refused(self, bench: Bench) -> None:
        work, at = bench.prepared(), bench.broadcast()
        work.evaluate(bench.counts(at))
        self.refused(bench, replace(bench.counts(at, 3), encoding=bytes(32)), "different encodings")
        assert work.held(np.zeros(3, dtype=np.uint32)) == b""
        self.refused(bench, bench.moments(at), "at other parameters")

    def test_counts_that_cannot_be_computed_do_not_stop_the_gate_of_the_others(self, bench: Bench) -> None:
        """The tenant uploads that it is at fault; the rule is the same for it as for everybody."""
        start = dict(bench.start())
        start["means"], start["covariances"] = np.full((2, 2), 1e200), np.stack([np.eye(2) * 1e-12] * 2)
        at = Broadcast(bench.description.fitted_model, bench.coordinates, Parameters(start))
        bench.prepared()
        self.refused(bench, bench.counts(at, 3), "density")
        encoding = counts_encoding_of(at.model, bench.parties.roster.row_caps)
        assert bench.work.held(encoding.ring.zeros(encoding.length)) == b"\3"

    @pytest.mark.parametrize("bitmap", [b"\0\0", b"\4"])
    def test_no_gate_that_is_none_of_the_models(self, bench: Bench, bitmap: bytes) -> None:
        at = bench.broadcast()
        bench.prepared().evaluate(bench.counts(at))
        self.refused(bench, bench.moments(at, bitmap), "which of 2 components")

    @pytest.mark.parametrize("recall", [False, True])
    def test_no_increments(self, bench: Bench, recall: bool) -> None:
        at = bench.broadcast()
        bench.prepared().evaluate(bench.counts(at))
        asked = replace(bench.moments(at), mode=Mode.INCREMENT, recall=recall)
        self.refused(bench, asked, "an increment, in a session with a mass gate")

    def test_nothing_of_a_gate_in_a_session_without_one(self, bench: Bench) -> None:
        at = bench.broadcast()
        bench.prepared()
        self.refused(bench, replace(bench.counts(at), mass_floor=0), "counts, in a session without")
        self.refused(bench, replace(bench.moments(at), mass_floor=0), "behind a gate, in a session without")

    def test_no_counts_behind_a_gate(self, bench: Bench) -> None:
        bench.prepared()
        self.refused(bench, replace(bench.counts(bench.broadcast()), held=b"\0"), "counts behind a gate")


class TestChanges:
    """Whether rows or code are those that an earlier process took part with."""

    ONE, OTHER = bytes(range(16)), bytes(range(1, 17))

    @pytest.fixture
    def marks(self, tmp_path: Path) -> Iterator[FileRoundMarks]:
        with FileRoundMarks(tmp_path / "state") as marks:
            yield marks

    def process(self, bench: Bench, marks: FileRoundMarks, rows: Rows | None = None) -> RowsWork:
        """A new process of the tenant, perhaps with other rows on disk."""
        if rows is not None:
            np.save(bench.data, rows)
        work = RowsWork(bench.data, {}, bench.parties.roster, BEECH, marks)
        work.prepare(bench.description.to_json(), 0)
        return work

    def test_not_at_first_and_not_for_the_same(self, bench: Bench, marks: FileRoundMarks) -> None:
        assert not self.process(bench, marks).changed(self.ONE)
        assert not self.process(bench, marks, bench.rows.copy()).changed(self.ONE)

    @pytest.mark.parametrize("change", ["value", "order", "fewer", "columns", "version"])
    def test_by_whatever_changes_the_statistics(
        self, bench: Bench, marks: FileRoundMarks, change: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.process(bench, marks).changed(self.ONE)
        rows = bench.rows.copy()
        if change == "value":
            rows[3, 1] = np.nextafter(rows[3, 1], 0)
        if change == "version":
            monkeypatch.setattr(fed_em, "__version__", "0.0.7")
        if change == "columns":
            columns = tuple(
                column.model_copy(update={"name": column.name + "2"}) for column in bench.description.columns
            )
            bench.description = bench.description.model_copy(update={"columns": columns})
        rows = {"order": rows[::-1], "fewer": rows[:-1]}.get(change, rows)
        assert self.process(bench, marks, rows).changed(self.ONE)

    def test_once_changed_always_changed(self, bench: Bench, marks: FileRoundMarks) -> None:
        """A process that saw the change may have died before the server's total was started anew."""
        self.process(bench, marks).changed(self.ONE)
        assert self.process(bench, marks, bench.rows[:-1]).changed(self.ONE)
        assert self.process(bench, marks).changed(self.ONE)
        assert self.process(bench, marks, bench.rows).changed(self.ONE)

    def test_sessions_are_apart(self, bench: Bench, marks: FileRoundMarks) -> None:
        self.process(bench, marks).changed(self.ONE)
        later = self.process(bench, marks, bench.rows[:-1])
        assert not later.changed(self.OTHER)
        assert later.changed(self.ONE)

    def test_a_process_without_marks_knows_itself_alone(self, bench: Bench) -> None:
        assert not bench.prepared().changed(self.ONE)
        assert not bench.work.changed(self.ONE)
        other = RowsWork(bench.data, {}, bench.parties.roster, BEECH)
        other.prepare(bench.description.to_json(), 0)
        assert not other.changed(self.ONE)

    def test_a_session_with_another_number_begins_with_the_moments_again(self, bench: Bench) -> None:
        ranges = Coordinates.of_ranges(bench.description.low, bench.description.high)
        moments = Broadcast(moments_model(2), ranges, standard_gaussian(2))
        work = bench.prepared()
        work.changed(self.ONE)
        first = work.evaluate(bench.request(moments))
        work.evaluate(bench.request(bench.broadcast()))
        work.changed(self.ONE)
        with pytest.raises(CallerError, match="moments again"):
            work.evaluate(bench.request(moments))
        work.changed(self.OTHER)
        assert np.array_equal(work.evaluate(bench.request(moments)), first)


class TestCost:
    def test_rows_are_read_once_a_session(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        reads: list[Path] = []
        read = rows_work.read_records
        monkeypatch.setattr(rows_work, "read_records", lambda path, *more: (reads.append(path), read(path, *more))[1])
        for _ in range(3):
            bench.prepared()
        assert len(reads) == 1
        other = bench.description.model_copy(update={"title": "another"})
        bench.work.prepare(other.to_json(), 0)
        assert len(reads) == 2
        assert bench.work.description.title == "another"

    def test_only_parameters_change_from_round_to_round(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        derived: list[Broadcast] = []
        derive: Callable[..., object] = rows_work.encoding_of

        def counting(description: SessionDescription, broadcast: Broadcast, row_caps: tuple[int, ...]) -> object:
            derived.append(broadcast)
            return derive(description, broadcast, row_caps)

        monkeypatch.setattr(rows_work, "encoding_of", counting)
        work = bench.prepared()
        for number in range(5):
            broadcast = Broadcast(bench.description.fitted_model, bench.coordinates, bench.start(number))
            work.evaluate(bench.request(broadcast, number))
        assert len(derived) == 1


class TestRefusals:
    def broadcast(self, bench: Bench, model: Model | None = None) -> Broadcast:
        return Broadcast(model or bench.description.fitted_model, bench.coordinates, bench.start())

    def test_nothing_is_computed_before_a_session_described_itself(self, bench: Bench) -> None:
        with pytest.raises(IllegalStep, match="no session"):
            bench.work.evaluate(bench.request(self.broadcast(bench)))
        with pytest.raises(IllegalStep, match="no session"):
            _ = bench.work.description

    @pytest.mark.parametrize("change", [{"encoding": bytes(32)}, {"length": 5}, {"ring": 32}])
    def test_another_encoding_than_ones_own(self, bench: Bench, change: dict[str, bytes | int]) -> None:
        asked = replace(bench.request(self.broadcast(bench), 4), **change)  # type: ignore[arg-type]
        expected = "round 4: the server and this tenant derive different encodings"
        with pytest.raises(CallerError, match=expected) as caught:
            bench.prepared().evaluate(asked)
        assert "same version" in caught.value.remedy

    def test_the_encoding_of_other_row_caps(self, bench: Bench) -> None:
        broadcast = self.broadcast(bench)
        encoding = encoding_of(bench.description, broadcast, (50, 50, 51))
        asked = asked_of(encoding, broadcast)
        with pytest.raises(CallerError, match="different encodings"):
            bench.prepared().evaluate(asked)

    def test_a_model_that_the_session_is_not_about(self, bench: Bench) -> None:
        other = replace(bench.description.fitted_model, covariance_floor=1e-3)  # type: ignore[type-var]
        with pytest.raises(CallerError, match="a model that session 'growth' is not about"):
            bench.prepared().evaluate(bench.request(self.broadcast(bench, other)))

    def test_also_after_the_right_one(self, bench: Bench) -> None:
        work = bench.prepared()
        work.evaluate(bench.request(self.broadcast(bench)))
        other = replace(bench.description.fitted_model, covariance_floor=1e-3)  # type: ignore[type-var]
        with pytest.raises(CallerError, match="is not about"):
            work.evaluate(bench.request(self.broadcast(bench, other)))

    def test_moments_in_coordinates_of_the_servers_choice(self, bench: Bench) -> None:
        chosen = Broadcast(moments_model(2), bench.coordinates, standard_gaussian(2))
        with pytest.raises(CallerError, match="is not about"):
            bench.prepared().evaluate(bench.request(chosen))

    @pytest.mark.parametrize("data", [b"", b"garbage", bytes(100)])
    def test_bytes_that_are_no_broadcast(self, bench: Bench, data: bytes) -> None:
        with pytest.raises(CallerError, match="the server's request of round 7"):
            bench.prepared().evaluate(Evaluate(7, Mode.WHOLE, data, bytes(32), 10))

    def test_parameters_under_which_a_row_has_no_density(self, bench: Bench) -> None:
        start = dict(bench.start())
        start["means"] = np.full((2, 2), 1e200)
        start["covariances"] = np.stack([np.eye(2) * 1e-12] * 2)
        broadcast = Broadcast(bench.description.fitted_model, bench.coordinates, Parameters(start))
        with pytest.raises(CallerError, match="round 3: "):
            bench.prepared().evaluate(bench.request(broadcast, 3))

    def test_a_log_likelihood_beyond_its_declared_bound(self, bench: Bench) -> None:
        start = dict(bench.start())
        start["means"] = np.full((2, 2), 1e4)
        broadcast = Broadcast(bench.description.fitted_model, bench.coordinates, Parameters(start))
        with pytest.raises(CallerError, match="'log_likelihood' is beyond its declared bound"):
            bench.prepared().evaluate(bench.request(broadcast))

    def test_rows_that_do_not_fit_are_no_session(self, bench: Bench) -> None:
        np.save(bench.data, bench.rows * 1000)
        with pytest.raises(CallerError, match="outside the session's range"):
            bench.work.prepare(bench.description.to_json(), 0)
        with pytest.raises(IllegalStep, match="no session"):
            _ = bench.work.description

    def test_the_row_cap_is_ones_own(self, bench: Bench) -> None:
        np.save(bench.data, np.full((51, 2), 30.0))
        with pytest.raises(CallerError, match="has 51 rows, the roster's row cap of this tenant is 50"):
            bench.work.prepare(bench.description.to_json(), 0)

    @pytest.mark.parametrize(
        ("model", "complaint"),
        [
            (b'{"family": "gaussian-mixture", "n_components": 2, "missing": true}', "set `missing = true` in their"),
            (b'{"family": "observed-moments"}', "'observed-moments' is no mixture to fit"),
            (b'{"family": "gaussian-mixture", "n_components": 65537}', "at most 65536 components, not 65537"),
        ],
    )
    def test_a_description_of_another_kind_of_model(self, bench: Bench, model: bytes, complaint: str) -> None:
        offer = b'{"title": "growth", "columns": [{"name": "age", "low": 0, "high": 1}], "model": ' + model + b"}"
        with pytest.raises(CallerError, match=complaint):
            bench.work.prepare(offer, 0)

    @pytest.mark.parametrize("offer", [b"", b"{}", b'{"title": "growth", "columns": [], "model": {}}'])
    def test_a_description_that_is_none(self, bench: Bench, offer: bytes) -> None:
        with pytest.raises(CallerError, match="the session's description"):
            bench.work.prepare(offer, 0)
