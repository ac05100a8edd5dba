"""What a tenant computes for a round, and what it refuses to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from fed_em.broadcast import Broadcast
from fed_em.coordinates import Coordinates
from fed_em.errors import CallerError
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.initialisation import moments_model, standard_gaussian, start_from_moments
from fed_em.model import Model, Rows
from fed_em.parameters import Parameters
from fed_em_client import rows_work
from fed_em_client.rows_work import RowsWork
from fed_em_protocols.description import SessionDescription, encoding_of
from fed_em_protocols.errors import IllegalStep
from fed_em_protocols.party import make_roster
from fed_em_protocols.tenant import Evaluate
from tests.parties.forest import NAMES, Parties

BEECH = 1


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
        return Evaluate(number, broadcast.to_bytes(), encoding.digest, encoding.length)

    def prepared(self) -> RowsWork:
        self.work.prepare(self.description.to_json())
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
        assert len(work.evaluate(bench.request(then))) != len(total.vector) + 2

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

    def test_a_new_session_is_answered_from_the_rows_as_they_are_now(self, bench: Bench) -> None:
        broadcast = Broadcast(bench.description.fitted_model, bench.coordinates, bench.start())
        before = bench.prepared().evaluate(bench.request(broadcast))
        np.save(bench.data, bench.rows[:7])
        bench.work.prepare(bench.description.model_copy(update={"title": "later"}).to_json())
        after = bench.work.evaluate(bench.request(broadcast))
        encoding = encoding_of(bench.description, broadcast, bench.parties.roster.row_caps)
        assert (encoding.decode(before)["count"], encoding.decode(after)["count"]) == (len(bench.rows), 7)

    def test_bounds_are_those_of_ones_own_row_cap(self, bench: Bench) -> None:
        cards = [bench.parties.cards[name] for name in NAMES]
        cards[0] = cards[0].model_copy(update={"row_cap": 1})
        roster = make_roster("forest", bench.parties.cards["server"], cards)
        work = RowsWork(bench.data, {}, roster, BEECH)
        work.prepare(bench.description.to_json())
        broadcast = Broadcast(bench.description.fitted_model, bench.coordinates, bench.start())
        encoding = encoding_of(bench.description, broadcast, roster.row_caps)
        ring = work.evaluate(Evaluate(1, broadcast.to_bytes(), encoding.digest, encoding.length))
        assert encoding.decode(ring)["count"] == len(bench.rows)


class TestCost:
    def test_rows_are_read_once_a_session(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        reads: list[Path] = []
        read = rows_work.read_rows
        monkeypatch.setattr(rows_work, "read_rows", lambda path, *more: (reads.append(path), read(path, *more))[1])
        for _ in range(3):
            bench.prepared()
        assert len(reads) == 1
        other = bench.description.model_copy(update={"title": "another"})
        bench.work.prepare(other.to_json())
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

    @pytest.mark.parametrize("change", [{"encoding": bytes(32)}, {"length": 5}])
    def test_another_encoding_than_ones_own(self, bench: Bench, change: dict[str, bytes | int]) -> None:
        asked = replace(bench.request(self.broadcast(bench), 4), **change)  # type: ignore[arg-type]
        expected = "round 4: the server and this tenant derive different encodings"
        with pytest.raises(CallerError, match=expected) as caught:
            bench.prepared().evaluate(asked)
        assert "same version" in caught.value.remedy

    def test_the_encoding_of_other_row_caps(self, bench: Bench) -> None:
        broadcast = self.broadcast(bench)
        encoding = encoding_of(bench.description, broadcast, (50, 50, 51))
        asked = Evaluate(1, broadcast.to_bytes(), encoding.digest, encoding.length)
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
            bench.prepared().evaluate(Evaluate(7, data, bytes(32), 10))

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
            bench.work.prepare(bench.description.to_json())
        with pytest.raises(IllegalStep, match="no session"):
            _ = bench.work.description

    def test_the_row_cap_is_ones_own(self, bench: Bench) -> None:
        np.save(bench.data, np.full((51, 2), 30.0))
        with pytest.raises(CallerError, match="has 51 rows, the roster's row cap of this tenant is 50"):
            bench.work.prepare(bench.description.to_json())

    @pytest.mark.parametrize("offer", [b"", b"{}", b'{"title": "growth", "columns": [], "model": {}}'])
    def test_a_description_that_is_none(self, bench: Bench, offer: bytes) -> None:
        with pytest.raises(CallerError, match="the session's description"):
            bench.work.prepare(offer)
