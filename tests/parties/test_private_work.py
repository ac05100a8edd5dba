"""What a tenant answers in a private session: noise on every sum, paid for first, and no more of them than were promised."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fed_em.ball import into_ball
from fed_em.coordinates import Coordinates
from fed_em.errors import CallerError
from fed_em.moderate import LEAST_VARIANCE
from fed_em.parameters import Parameters
from fed_em.records import Records
from fed_em_client.privacy_account import PrivacyAccount
from fed_em_client.round_marks import FileRoundMarks
from fed_em_client.rows_work import RowsWork
from fed_em_protocols.description import SessionDescription, counts_encoding_of, encoding_of
from fed_em_protocols.errors import TermsRefused
from fed_em_protocols.messages import Mode
from fed_em_protocols.privacy.accounting import noise_for
from fed_em_protocols.privacy.demands import EpsilonBudget, PrivacyDemands
from fed_em_protocols.privacy.noise import noise_of, without_silent
from fed_em_protocols.privacy.promise import SAMPLING_SLACK, Privacy
from fed_em_protocols.tenant_state import Evaluate
from fed_em_simulations.simulated_parties import seeded_randomness
from tests.parties.forest import Parties
from tests.parties.test_rows_work import BEECH, Bench

SESSION = bytes(range(16))
SUMS = 4
RADIUS = 1.5
PROMISE = Privacy(
    epsilon=2.0,
    delta=1e-5,
    radius=RADIUS,
    noise_multiplier=noise_for(2.0, 1e-5, SUMS, SUMS * SAMPLING_SLACK),
    sums=SUMS,
)


@dataclass
class PrivateBench(Bench):
    """The same in a private session; three of four tenants are in every sum, and one may collude."""

    def __post_init__(self) -> None:
        super().__post_init__()
        said = json.loads(self.description.to_json())
        said["model"]["covariance_floor"] = LEAST_VARIANCE
        self.description = SessionDescription.model_validate({**said, "privacy": PROMISE})
        self.budget = PrivacyAccount()
        self.work = self.started()

    def started(self) -> RowsWork:
        """A process of the tenant, whose budget outlives it."""
        return RowsWork(
            self.data, {}, self.parties.roster, BEECH, budget=self.budget, randomness=seeded_randomness("noise")
        )

    def joined(self) -> RowsWork:
        self.prepared().changed(SESSION)
        return self.work

    def asked(self, number: int = 1, seed: int = 0) -> Evaluate:
        return replace(self.request(self.broadcast(seed), number), minimum_survivors=3, colluders=1)


@pytest.fixture
def bench(
    parties: Parties,
    description: SessionDescription,
    rows: np.ndarray[tuple[int, int], np.dtype[np.float64]],
    tmp_path: Path,
) -> PrivateBench:
    return PrivateBench(parties, description, rows, tmp_path / "rows.npy")


def test_an_answer_is_the_statistics_of_rows_in_the_ball_and_a_share_of_the_noise(bench: PrivateBench) -> None:
    """Within twelve standard deviations of a share, in every entry; and not without noise."""
    broadcast = bench.broadcast()
    encoding = encoding_of(bench.description, broadcast, bench.parties.roster.row_caps)
    found = bench.joined().evaluate(bench.asked())
    inside = into_ball(bench.coordinates.apply(bench.rows), RADIUS)
    statistics = broadcast.one_model.e_step(broadcast.parameters, inside, encoding.layout)
    exact = encoding.encode(without_silent(statistics), BEECH)
    noise = noise_of(encoding, PROMISE, 2)
    difference = (found - exact).view(np.int64)
    for block, sigma in zip(encoding.layout, noise.sigmas, strict=True):
        part = difference[encoding.layout.offsets[block.name]]
        assert np.abs(part).max() <= 13 * sigma
        assert bool(part.any()) == bool(sigma)


def test_no_more_sums_than_were_promised_and_a_new_process_knows(bench: PrivateBench) -> None:
    work = bench.joined()
    for number in range(1, SUMS):
        work.evaluate(bench.asked(number))
    bench.work = bench.started()
    restarted = bench.joined()
    restarted.evaluate(bench.asked(SUMS))
    with pytest.raises(CallerError, match="would be its sum 5, and 4 were planned"):
        restarted.evaluate(bench.asked(SUMS + 1))


def test_no_round_has_noise_twice(bench: PrivateBench) -> None:
    work = bench.joined()
    work.evaluate(bench.asked(2))
    for number in (1, 2):
        with pytest.raises(CallerError, match="a round again"):
            work.evaluate(bench.asked(number))


def test_nothing_is_answered_that_nothing_was_set_aside_for(bench: PrivateBench) -> None:
    with pytest.raises(CallerError, match="would spend privacy that is not reserved"):
        bench.prepared().evaluate(bench.asked())


def test_a_budget_that_has_less_left_keeps_the_tenant_out(bench: PrivateBench) -> None:
    budget = PrivacyAccount(PrivacyDemands(budget=EpsilonBudget(1.9, PROMISE.delta, 30)))
    work = RowsWork(bench.data, {}, bench.parties.roster, BEECH, budget=budget)
    work.prepare(bench.description.to_json(), 0)
    with pytest.raises(TermsRefused, match=r"asks for ε = 2 at .* ε = 1.9 is left"):
        work.changed(SESSION)


def test_what_a_session_did_not_use_is_given_back_at_its_end(bench: PrivateBench) -> None:
    work = bench.joined()
    work.evaluate(bench.asked())
    work.end(SESSION)
    now = datetime.now(UTC)
    assert bench.budget.spends.charged(now, None) == (replace(PROMISE.spend, sums=1, slack=SAMPLING_SLACK),)
    assert bench.budget.spends.reserved(now, None) == ()


def test_a_session_without_privacy_is_refused_where_it_is_required(bench: PrivateBench) -> None:
    work = RowsWork(bench.data, {}, bench.parties.roster, BEECH, budget=PrivacyAccount(PrivacyDemands(required=True)))
    work.prepare(bench.description.model_copy(update={"privacy": None}).to_json(), 0)
    with pytest.raises(TermsRefused, match="no differential privacy"):
        work.changed(SESSION)


def test_no_increments_nor_a_base_again(bench: PrivateBench) -> None:
    work = bench.joined()
    for asked in (replace(bench.asked(), mode=Mode.INCREMENT), replace(bench.asked(), recall=True)):
        with pytest.raises(CallerError, match="an increment, in a private session"):
            work.evaluate(asked)


def test_a_promise_that_is_not_kept_is_not_believed(bench: PrivateBench) -> None:
    said = json.loads(bench.description.to_json())
    said["privacy"]["noise_multiplier"] *= 0.99
    with pytest.raises(CallerError, match="promises ε = 2"):
        bench.work.prepare(json.dumps(said).encode(), 0)


def test_counts_have_noise_and_are_paid_for(bench: PrivateBench) -> None:
    """Who supports a component is not counted, so that a gate goes by the mass alone."""
    broadcast = bench.broadcast()
    encoding = counts_encoding_of(broadcast.model, bench.parties.roster.row_caps, PROMISE)
    work = bench.work
    work.prepare(bench.description.to_json(), 4_000)
    work.changed(SESSION)
    asked = replace(bench.asked(), mode=Mode.COUNTS, encoding=encoding.digest, length=encoding.length, mass_floor=4_000)
    counts = work.evaluate(asked)
    assert not encoding.decode(counts)["supporting"].any()
    assert encoding.decode(counts)["count"] != len(bench.rows)
    assert len(work.held(counts)) == 1
    for number in range(2, SUMS + 1):
        work.evaluate(replace(asked, round=number))
    with pytest.raises(CallerError, match="would be its sum 5, and 4 were planned"):
        work.evaluate(replace(asked, round=SUMS + 1))


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"means": np.array([[0.0, 1e3], [0.0, 0.0]])}, "a mean"),
        ({"covariances": np.tile(1e-4 * np.eye(2), (2, 1, 1))}, "a variance"),
        ({"weights": np.array([1.0, 0.0])}, "weights"),
    ],
)
def test_where_a_record_may_have_no_density_nobody_answers_whatever_the_rows(
    bench: PrivateBench, changes: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float64]]], what: str
) -> None:
    """Or a fault, which has no noise, would tell whether there are such rows. Nothing is charged for it."""
    broadcast = bench.broadcast()
    crafted = replace(broadcast, parameters=Parameters({**broadcast.parameters, **changes}))
    work = bench.joined()
    asked = replace(bench.request(crafted), minimum_survivors=3, colluders=1)
    with pytest.raises(CallerError, match=f"parameters hold .*{what}"):
        work.evaluate(asked)
    for number in range(2, SUMS + 2):
        work.evaluate(bench.asked(number))


def test_numbers_out_of_range_do_not_keep_a_tenant_out(bench: PrivateBench) -> None:
    """They are moved to the end of the range; without privacy they are refused."""
    np.save(bench.data, np.concatenate((bench.rows, [[np.inf, -np.inf], [1e6, -1e6]])))
    bench.joined().evaluate(bench.asked())
    read = bench.work.read(bench.description)
    assert read.rows[-2].tolist() == read.rows[-1].tolist()
    assert read.rows[-1].tolist() == [bench.description.high[0], bench.description.low[1]]
    np.save(bench.data, np.concatenate((bench.rows, [[1e6, -1e6]])))
    with pytest.raises(CallerError, match="outside the session's range"):
        bench.work.read(bench.description.model_copy(update={"privacy": None}))


def test_coordinates_in_which_some_value_would_be_no_number_are_refused_whatever_the_rows(bench: PrivateBench) -> None:
    """Of 10⁻³⁰⁷, only values beyond some 18 from the location overflow: a fault would tell whether anybody has one."""
    scale = np.array([1e-307, 1.0])
    for location, overflows in ((bench.rows.mean(axis=0) - 100, True), (bench.rows.mean(axis=0), False)):
        bench.work, bench.budget = bench.started(), PrivacyAccount()
        moved = Coordinates(location, scale if overflows else np.ones(2))
        crafted = replace(bench.broadcast(), coordinates=moved)
        work = bench.joined()
        if not overflows:
            work.evaluate(replace(bench.request(crafted), minimum_survivors=3, colluders=1))
            continue
        asked = replace(bench.asked(), parameters=crafted.to_bytes())
        with np.errstate(over="ignore"), pytest.raises(CallerError, match="column 'age' has no finite range"):
            work.evaluate(asked)


@pytest.mark.parametrize("radius", [100.1, 1e153])
def test_no_ball_is_so_large_that_densities_are_none(bench: PrivateBench, radius: float) -> None:
    """At 10¹⁵³ a squared distance may be no number; from some hundreds on, a record's responsibilities depend on the others."""
    said = json.loads(bench.description.to_json())
    said["privacy"]["radius"] = radius
    with pytest.raises(CallerError, match="radius"):
        bench.work.prepare(json.dumps(said).encode(), 0)


def test_a_server_is_not_told_that_rows_changed(bench: PrivateBench) -> None:
    """No sum of a private session goes on from an earlier one: nobody needs to know, and no noise would hide it."""
    marks = FileRoundMarks(bench.data.parent / "state")
    for rows in (bench.rows, bench.rows[1:]):
        np.save(bench.data, rows)
        work = RowsWork(bench.data, {}, bench.parties.roster, BEECH, marks, budget=bench.budget)
        work.prepare(bench.description.to_json(), 0)
        assert not work.changed(SESSION)
    marks.close()


def test_weights_and_counts_out_of_range_do_not_keep_a_tenant_out(parties: Parties, tmp_path: Path) -> None:
    """A server that chose a weight's `upper`, or a count's, would learn whether anybody is beyond it."""
    data = tmp_path / "rows.csv"
    data.write_text("age,visits,weight\n20,3,0.5\n30,7,1.5\n40,2.4,-1\n")
    said = {
        "title": "visits",
        "columns": [{"name": "age", "low": 0, "high": 120}, {"name": "visits", "kind": "poisson", "upper": 5}],
        "weights": {"column": "weight", "upper": 1.0},
        "model": {
            "family": "mixed-mixture",
            "n_components": 2,
            "covariance_floor": LEAST_VARIANCE,
            "prior": {"poisson_records": 1.0, "poisson_rates": [2.0]},
        },
        "privacy": PROMISE.model_dump(),
    }
    private = SessionDescription.model_validate(said)
    work = RowsWork(data, {}, parties.roster, BEECH)
    found = work.read(private)
    assert found.weights is not None
    assert found.weights.tolist() == [0.5, 1.0, 0.0]
    assert found.rows.tolist() == [[20.0, 3.0], [30.0, 5.0], [40.0, 2.0]]
    with pytest.raises(CallerError, match="that are"):
        work.read(private.model_copy(update={"privacy": None}))


def test_counts_are_not_so_large_that_a_record_depends_on_the_others(bench: PrivateBench) -> None:
    said = json.loads(bench.description.to_json())
    said["columns"] += [{"name": name, "kind": "poisson", "upper": 600_000} for name in ("steps", "words")]
    said["model"] = {
        "family": "mixed-mixture",
        "n_components": 2,
        "covariance_floor": LEAST_VARIANCE,
        "prior": {"poisson_records": 1.0, "poisson_rates": [2.0, 2.0]},
    }
    with pytest.raises(CallerError, match="counts up to 1,200,000 together"):
        bench.work.prepare(json.dumps(said).encode(), 0)


def test_no_cell_of_a_row_keeps_a_tenant_out_of_a_private_session(parties: Parties, tmp_path: Path) -> None:
    """Whoever describes sessions as he likes would learn from refusals, without noise, whether anybody has a level or lacks a cell."""
    data, told = tmp_path / "rows.csv", list[str]()
    data.write_text(
        "age,ward,steps,w\n20,a,3,1\n30,z,5,1\n,a,2,1\nold,b,1,1\n50,b,,1\n60,a,2,\n70,b,7,0.5\n" + "1,a,1,1\n" * 2000
    )
    said = {
        "title": "t",
        "columns": [
            {"name": "age", "low": 0, "high": 60},
            {"name": "ward", "kind": "categorical", "levels": ["a", "b"]},
            {"name": "steps", "kind": "poisson", "upper": 5},
        ],
        "weights": {"column": "w", "upper": 1.0},
        "model": {
            "family": "mixed-mixture",
            "n_components": 2,
            "covariance_floor": LEAST_VARIANCE,
            "prior": {"level_records": 1.0, "poisson_records": 1.0, "poisson_rates": [2.0]},
        },
        "privacy": PROMISE.model_dump(),
    }
    private = SessionDescription.model_validate(said)
    cap = parties.roster.row_caps[BEECH]
    found = RowsWork(data, {}, parties.roster, BEECH, report=told.append).read(private)
    assert isinstance(found, Records)
    # The first and the seventh row, and what follows up to the cap of rows of the file, not of rows that fit.
    assert found.rows[:3].tolist() == [[20.0, 0.0, 3.0], [60.0, 1.0, 5.0], [1.0, 0.0, 1.0]]
    assert len(found) == 2 + cap - 7
    assert found.weights is not None and found.weights[:2].tolist() == [1.0, 0.5]
    assert len(told) == 1 and "5 that do not fit" in told[0] and f"{2007 - cap} beyond the row cap" in told[0]
    for left in (1, 2, 3, 4, 5):  # one of them alone is left out alone
        lines = data.read_text().splitlines()
        data2 = tmp_path / f"{left}.csv"
        data2.write_text("\n".join([lines[0], lines[1], lines[1 + left], lines[7]]) + "\n")
        assert len(RowsWork(data2, {}, parties.roster, BEECH).read(private)) == 2
    with pytest.raises(CallerError):
        RowsWork(data, {}, parties.roster, BEECH).read(private.model_copy(update={"privacy": None}))


@pytest.mark.parametrize(
    ("beside", "cells"),
    [
        (b"2.5", [b"NaN", b"Nan", b"+nan", b"nan(1)", b"", b"NA"]),
        (b"2", [b"0x10", b"0X1f", b"7", b"-3", b"1e3", b"inf"]),
    ],
)
def test_what_a_row_is_depends_on_no_other_row(
    parties: Parties, tmp_path: Path, beside: bytes, cells: list[bytes]
) -> None:
    """Else one record would change what many count for, and noise for one would not hide it."""
    columns = [{"name": "x", "kind": "poisson", "upper": 50, "missing": True}, {"name": "y", "kind": "bernoulli"}]
    prior = {"poisson_records": 1.0, "poisson_rates": [2.0], "bernoulli_records": 1.0}
    model = {"family": "mixed-mixture", "n_components": 2, "prior": prior}
    said = {"title": "t", "columns": columns, "model": model, "privacy": PROMISE.model_dump()}
    private, data = SessionDescription.model_validate(said), tmp_path / "rows.csv"

    def found(*others: bytes) -> NDArray[np.float64]:
        data.write_bytes(b"\n".join([b"x,y", *(cell + b",1" for cell in (*cells, beside)), *others]) + b"\n")
        records = RowsWork(data, {}, parties.roster, BEECH).read(private)
        assert isinstance(records, Records)
        return records.rows

    alone = found()
    assert len(alone) == len(cells) + 1
    for other in (b"old,1", b"\xff\xfe,1", b"3,\xff"):
        np.testing.assert_array_equal(found(other), alone)


def test_of_a_tenant_none_of_whose_rows_fit_there_is_noise_alone(bench: PrivateBench, tmp_path: Path) -> None:
    said = json.loads(bench.description.to_json())
    data = tmp_path / "rows.csv"
    names = [column["name"] for column in said["columns"]]
    data.write_text(",".join(names) + "\n" + ",".join(["none"] * len(names)) + "\n")
    bench.data = data
    bench.work = bench.started()
    work = bench.joined()
    assert len(work.read(bench.description)) == 0
    encoding = encoding_of(bench.description, bench.broadcast(), bench.parties.roster.row_caps)
    noise, found = noise_of(encoding, PROMISE, 2), work.evaluate(bench.asked()).view(np.int64)
    for block, sigma in zip(encoding.layout, noise.sigmas, strict=True):
        assert np.abs(found[encoding.layout.offsets[block.name]]).max() <= 13 * sigma
