"""What a tenant answers in rounds of candidates: those of the session's description, of whole vectors, up to a last round."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fed_em.broadcast import Broadcast
from fed_em.candidates import Candidates
from fed_em.coordinates import Coordinates
from fed_em.errors import CallerError
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.model import COUNT, Rows
from fed_em.priors import GaussianMixturePrior
from fed_em.records import Records
from fed_em.starts import ROUNDS
from fed_em_protocols.description import LabelsColumn, SessionDescription, encoding_of
from fed_em_protocols.messages import Mode
from fed_em_protocols.starts import Starts
from fed_em_protocols.stream import Stream
from tests.parties.forest import Parties
from tests.parties.test_rows_work import BEECH, Bench

N_STARTS = 3


def with_tables(description: SessionDescription, **tables: object) -> SessionDescription:
    """The description with some tables changed, made anew."""
    return SessionDescription(
        **{**{name: getattr(description, name) for name in type(description).model_fields}, **tables}
    )  # type: ignore[arg-type]


@pytest.fixture
def bench(parties: Parties, description: SessionDescription, rows: Rows, tmp_path: Path) -> Bench:
    return Bench(parties, with_tables(description, starts=Starts(n=N_STARTS)), rows, tmp_path / "rows.npy")


def asked_for(bench: Bench, candidates: Candidates, coordinates: Coordinates | None = None) -> Broadcast:
    """A start of each candidate, from seeds of its own."""
    points = candidates.joined([bench.start(seed) for seed in range(len(candidates.models))])
    return Broadcast(candidates, coordinates or bench.coordinates, points)


def of_the_session(bench: Bench) -> Broadcast:
    return asked_for(bench, bench.description.candidates[0])


def test_the_statistics_are_those_of_every_candidate(bench: Bench) -> None:
    broadcast = of_the_session(bench)
    encoding = encoding_of(bench.description, broadcast, bench.parties.roster.row_caps)
    vector = bench.prepared().evaluate(bench.request(broadcast, 2))
    model, there = bench.description.fitted_model, bench.coordinates.apply(bench.rows)
    expected = [model.e_step(bench.start(seed), there) for seed in range(N_STARTS + 1)]
    candidates = bench.description.candidates[0]
    for found, plain in zip(candidates.statistics_of(encoding.decode(vector)), expected, strict=True):
        np.testing.assert_allclose(found.vector, plain.vector, rtol=1e-6, atol=1e-6)
    assert np.array_equal(vector, bench.work.evaluate(bench.request(broadcast, 2)))


def test_candidates_are_asked_for_in_the_coordinates_of_the_model(bench: Bench) -> None:
    work = bench.prepared()
    work.evaluate(bench.request(bench.description.first_round, 1))
    work.evaluate(bench.request(of_the_session(bench), 2))
    work.evaluate(bench.request(bench.broadcast(), 3))
    moved = Coordinates(bench.coordinates.location + 1, bench.coordinates.scale)
    for other in (
        asked_for(bench, bench.description.candidates[0], moved),
        replace(bench.broadcast(), coordinates=moved),
    ):
        with pytest.raises(CallerError, match="changed the coordinates"):
            work.evaluate(bench.request(other, 4))
    with pytest.raises(CallerError, match="moments again"):
        work.evaluate(bench.request(bench.description.first_round, 4))


def test_other_candidates_are_refused(bench: Bench) -> None:
    model, work = bench.description.fitted_model, bench.prepared()
    assert isinstance(model, GaussianMixtureModel)
    prior = GaussianMixturePrior.weakly_informative(2, [0.0, 0.0], [1.0, 1.0])
    for others in (
        (model,) * N_STARTS,
        (model,) * (N_STARTS + 2),
        (replace(model, prior=prior),) * (N_STARTS + 1),
        (*(model,) * N_STARTS, replace(model, missing=True)),
    ):
        with pytest.raises(CallerError, match="is not about"):
            work.evaluate(bench.request(asked_for(bench, Candidates(others)), 2))


def test_none_are_answered_for_in_a_session_without_them(bench: Bench) -> None:
    broadcast = of_the_session(bench)
    bench.description = with_tables(bench.description, starts=None)
    with pytest.raises(CallerError, match="is not about"):
        bench.prepared().evaluate(bench.request(broadcast, 2))


@pytest.mark.parametrize("recall", [False, True])
def test_they_are_whole_vectors(bench: Bench, recall: bool) -> None:
    asked = replace(bench.request(of_the_session(bench), 3), mode=Mode.INCREMENT, recall=recall)
    with pytest.raises(CallerError, match="round 3: the server asks for an increment of candidates"):
        bench.prepared().evaluate(asked)


def test_they_end_with_a_round_that_a_tenant_knows_without_remembering(bench: Bench) -> None:
    """The moments and 18 sums, and 20 rounds more in case some fail."""
    last = 1 + ROUNDS + 20
    assert bench.description.last_candidate_round == last
    bench.prepared().evaluate(bench.request(of_the_session(bench), last))
    with pytest.raises(CallerError, match=f"candidates later than in round {last}"):
        bench.work.evaluate(bench.request(of_the_session(bench), last + 1))
    bench.work.evaluate(bench.request(bench.broadcast(), last + 1))


def test_labels_count_in_them(bench: Bench) -> None:
    held = np.arange(len(bench.rows)) % 3
    labels = np.array(["0", "1", ""])[held]
    lines = [f"{a!r},{b!r},{label}" for (a, b), label in zip(bench.rows.tolist(), labels, strict=True)]
    bench.data.with_suffix(".csv").write_text("\n".join(("age,weight,kind", *lines)) + "\n")
    bench.description = with_tables(bench.description, labels=LabelsColumn(column="kind"))
    work = type(bench.work)(bench.data.with_suffix(".csv"), {}, bench.parties.roster, BEECH)
    work.prepare(bench.description.to_json(), 0)
    broadcast = of_the_session(bench)
    encoding = encoding_of(bench.description, broadcast, bench.parties.roster.row_caps)
    admissible = np.array([[True, False], [False, True], [True, True]])[held]
    records = Records(bench.coordinates.apply(bench.rows), admissible=admissible)
    expected = broadcast.model.e_step(broadcast.parameters, records, encoding.layout)
    assert np.array_equal(work.evaluate(bench.request(broadcast, 2)), encoding.encode(expected, BEECH))


def test_in_a_stream_they_are_of_all_rows(bench: Bench) -> None:
    bench.description = with_tables(bench.description, stream=Stream(batches=4, decay=0.7))
    work, broadcast = bench.prepared(), of_the_session(bench)
    work.changed(bytes(16))
    encoding = encoding_of(bench.description, broadcast, bench.parties.roster.row_caps)
    assert encoding.decode(work.evaluate(bench.request(broadcast, 2)))[COUNT] == len(bench.rows)
    of_model = encoding_of(bench.description, bench.broadcast(), bench.parties.roster.row_caps)
    assert of_model.decode(work.evaluate(bench.request(bench.broadcast(), 2)))[COUNT] == 10


class TestDescription:
    def test_a_mass_gate_is_refused_before_a_row_is_read(self, bench: Bench) -> None:
        with pytest.raises(CallerError, match="rounds of candidates, and a mass floor") as refused:
            bench.work.prepare(bench.description.to_json(), 1)
        assert "starts = 0" in str(refused.value.remedy)

    def test_tenants_weights_are_shared_in_them(self, description: SessionDescription) -> None:
        own = {**description.model, "mixing": "tenant"}
        there = with_tables(description, model=own, starts=Starts(n=N_STARTS))
        here = with_tables(description, starts=Starts(n=N_STARTS))
        assert there.candidates == here.candidates

    def test_more_than_a_message_holds_is_refused(self, description: SessionDescription) -> None:
        with pytest.raises(ValueError, match="set fewer starts"):
            with_tables(description, model={**description.model, "n_components": 10_000}, starts=Starts(n=40))

    def test_sessions_without_starts_are_described_as_before(self, description: SessionDescription) -> None:
        assert b"starts" not in description.to_json()
        with_starts = with_tables(description, starts=Starts())
        assert SessionDescription.from_json(with_starts.to_json()) == with_starts
        assert len(with_starts.candidates[0].models) == 21


class TestTracks:
    @pytest.fixture
    def bench(self, parties: Parties, description: SessionDescription, rows: Rows, tmp_path: Path) -> Bench:
        return Bench(parties, with_tables(description, tracks=2), rows, tmp_path / "rows.npy")

    @staticmethod
    def tracks(bench: Bench, n: int = 2) -> Broadcast:
        return asked_for(bench, Candidates((bench.description.fitted_model,) * n))

    @pytest.mark.parametrize("late", [2, 500])
    def test_they_are_answered_for_in_any_round_also_by_increments(self, bench: Bench, late: int) -> None:
        asked = bench.request(self.tracks(bench), late)
        whole = bench.prepared().evaluate(asked)
        assert np.array_equal(bench.work.evaluate(replace(asked, mode=Mode.INCREMENT)), whole)

    def test_other_numbers_or_models_are_refused(self, bench: Bench) -> None:
        model, work = bench.description.fitted_model, bench.prepared()
        assert isinstance(model, GaussianMixtureModel)
        other = Candidates((model, replace(model, missing=True)))
        for broadcast in (self.tracks(bench, 1), self.tracks(bench, 3), asked_for(bench, other)):
            with pytest.raises(CallerError, match="is not about"):
                work.evaluate(bench.request(broadcast, 2))

    def test_as_many_as_are_declared_are_answered_for_or_fewer(self, bench: Bench) -> None:
        bench.description = with_tables(bench.description, starts=Starts(n=N_STARTS), tracks=N_STARTS)
        work = bench.prepared()
        for n in (2, N_STARTS):
            asked = bench.request(self.tracks(bench, n), 500)
            assert work.evaluate(asked).size == asked.length > n * (bench.description.fitted_model.layout().size - 1)
        with pytest.raises(CallerError, match="is not about"):
            work.evaluate(bench.request(self.tracks(bench, N_STARTS + 2), 500))

    def test_none_are_answered_for_where_none_are_declared(self, bench: Bench) -> None:
        broadcast = self.tracks(bench)
        bench.description = with_tables(bench.description, tracks=None)
        assert b"tracks" not in bench.description.to_json()
        with pytest.raises(CallerError, match="is not about"):
            bench.prepared().evaluate(bench.request(broadcast, 2))

    def test_what_cannot_have_them_is_refused(self, bench: Bench) -> None:
        with pytest.raises(CallerError, match="tracks of its fit, and a mass floor"):
            bench.work.prepare(bench.description.to_json(), 1)
        for tables in ({"stream": Stream(batches=2)}, {"starts": Starts(n=1)}, {"starts": Starts(n=3), "tracks": 4}):
            with pytest.raises(ValueError, match="set tracks = 1"):
                with_tables(bench.description, **tables)
        with pytest.raises(ValueError, match="from several starts, and there are none"):
            with_tables(bench.description, tracks=3)
