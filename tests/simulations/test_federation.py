"""A federation in memory in one call: it is the real one, it is repeatable, and it refuses nonsense."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
from small_tables import tables_of

from fed_em import GaussianMixture, LatentClass, MixedMixture
from fed_em.alignment import canonical_order, reordered
from fed_em.em import Stopping
from fed_em.errors import CallerError
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.records import Records
from fed_em_protocols.description import Column
from fed_em_protocols.errors import SumFailed
from fed_em_protocols.terms import Trust
from fed_em_server.pooled import fit_pooled
from fed_em_simulations import Federation, FederationOutcome
from fed_em_simulations.session_of_tables import session_of_tables
from fed_em_simulations.trouble import Leaves

SHORT = Stopping(0.0, 3)


def bytes_of(outcome: FederationOutcome) -> tuple[object, ...]:
    parameters = outcome.model.parameters
    return (
        outcome.record.model_dump_json(),
        {name: parameters[name].tobytes() for name in parameters},
        outcome.bytes_up,
        outcome.bytes_down,
        outcome.seconds,
    )


def test_it_is_pooled_em() -> None:
    tables = tables_of(4)
    outcome = Federation(tables, seed=3, starts=0, stopping=SHORT).fit(GaussianMixture(3, random_state=0))
    about = session_of_tables(GaussianMixture(3), "abcd", tables, None, "simulation")
    pooled, _ = fit_pooled(about.description, np.concatenate(tables), SHORT, 3)
    assert outcome.record.trust == Trust.MALICIOUS_SERVER.label
    assert len(outcome.rounds) == 4 and all(each.complete for each in outcome.rounds)
    # A session ends in canonical order.
    ordered = reordered(about.description.fitted_model, pooled.parameters, canonical_order(pooled.parameters))  # type: ignore[arg-type]
    assert outcome.model.parameters.distance(ordered) < 1e-9
    assert not outcome.failure and not outcome.accusations and not outcome.left
    assert len(outcome.bytes_up) == 4
    # The farewell comes after the last round.
    assert outcome.total_bytes_up == sum(each.bytes_up for each in outcome.rounds)
    assert outcome.total_bytes_down > sum(each.bytes_down for each in outcome.rounds)


@pytest.mark.slow
def test_two_runs_give_the_same_bytes_and_another_seed_gives_others() -> None:
    tables = tables_of(5)

    def run(seed: int) -> tuple[object, ...]:
        return bytes_of(Federation(tables, dropout=0.3, seed=seed, starts=0, stopping=SHORT).fit(GaussianMixture(2)))

    first = run(1)
    assert first == run(1)
    assert first != run(2)


@pytest.mark.slow
def test_dropouts_are_waited_for_or_stale_and_the_fit_is_that_of_all_rows() -> None:
    tables = tables_of(6)
    outcome = Federation(tables, dropout=0.3, seed=1, stopping=Stopping(1e-6, 60), starts=0, colluders=1).fit(
        GaussianMixture(3)
    )
    whole = Federation(tables, seed=1, stopping=Stopping(1e-6, 60), starts=0, colluders=1).fit(GaussianMixture(3))
    assert any(not each.complete for each in outcome.rounds) or any(
        each.kind == "round-failed" for each in outcome.record.happenings
    )
    assert outcome.seconds > whole.seconds
    rows = np.concatenate(tables)
    assert outcome.model.score_samples(rows).mean() == pytest.approx(whole.model.score_samples(rows).mean(), abs=1e-3)


MIXED: list[Mapping[str, Any]] = [
    {"age": [31.0, 52.0, 47.0, None], "ward": ["north", "south", "north", "east"], "visits": [0, 3, 1, 2]},
    {"age": [40.5, 33.0], "ward": ["south", "east"], "visits": [5, 0]},
    {"age": [28.0, 61.0, 37.5], "ward": ["north", "north", "south"], "visits": [1, 0, 2]},
]


def test_tables_of_mixed_columns_by_name() -> None:
    tables = {"oak": pd.DataFrame(MIXED[0]), "elm": MIXED[1], "ash": MIXED[2]}
    outcome = Federation(tables, starts=0, max_iterations=2).fit(MixedMixture(2))
    assert outcome.record.tenants == ("oak", "elm", "ash")
    assert outcome.record.columns == ("age", "ward", "visits")
    assert set(outcome.model.parameters) >= {"weights", "means", "covariances", "level_probabilities", "rates"}


def test_latent_classes_and_models_and_records() -> None:
    codes = [{"a": ["x", "y", "x"], "b": ["u", "u", "v"]} for _ in range(3)]
    classes = Federation(codes, starts=0, max_iterations=2).fit(LatentClass(2))
    assert classes.record.model == "latent class model with 2 classes"
    generator = np.random.default_rng(0)
    weighted = [Records(table, generator.uniform(0.5, 2, len(table)), None, 2.0) for table in tables_of(3)]
    outcome = Federation(weighted, starts=0, max_iterations=2, optimiser="em").fit(GaussianMixtureModel(2, 2))
    total = sum(each.total_weight for each in weighted)
    assert outcome.result is not None
    assert outcome.result.fit.iterations[-1].records == pytest.approx(total, rel=1e-9)


def test_declared_columns_hold() -> None:
    columns = [Column(name="x", low=-1, high=1), Column(name="y", low=-20, high=20)]
    with pytest.raises(CallerError, match=r"tenant 't0': column 'x' is outside the session's range"):
        Federation(tables_of(3), columns=columns).fit(GaussianMixture(2))


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"tables": tables_of(2)}, "2 tenants cannot sum"),
        ({"tables": tables_of(3), "names": ("a", "b")}, "2 names do not belong to 3 tables"),
        ({"tables": tables_of(3), "dropout": 1.0}, "leaves nobody"),
        ({"tables": tables_of(3), "seed": -1}, "seed"),
        ({"tables": tables_of(3), "trust": "blind"}, "mode"),
        ({"tables": tables_of(3), "optimiser": "adam"}, "adam"),
        ({"tables": tables_of(3), "mass_floor": -1.0}, "mass_floor"),
        ({"tables": tables_of(3), "max_iterations": 0}, "max_iterations"),
    ],
)
def test_nonsense_is_refused(fields: dict[str, Any], complaint: str) -> None:
    with pytest.raises(CallerError, match=complaint):
        Federation(**fields)


@pytest.mark.parametrize(
    ("tables", "target", "complaint"),
    [
        ([*tables_of(2), np.zeros((0, 2))], GaussianMixture(2), "tenant 't2'"),
        ([*tables_of(2), np.ones((4, 3))], GaussianMixture(2), "tenant 't2': the table has 3 columns"),
        ([np.ones((4, 1))] * 3, GaussianMixture(2), "column 'x0' has no two values that differ"),
        (tables_of(3), "three", "fits no str"),
        (tables_of(3), GaussianMixture(2, means_init=[[0, 0], [1, 1]]), "means_init is no matter of a federation"),
        ([Records(tables_of(1)[0], np.ones(40)), *tables_of(2)], GaussianMixture(2), "do not both have weights"),
    ],
)
def test_tables_that_do_not_fit_are_refused(tables: Any, target: Any, complaint: str) -> None:
    with pytest.raises(CallerError, match=complaint):
        Federation(tables).fit(target)


def test_names_make_a_roster_or_are_refused() -> None:
    with pytest.raises(CallerError, match="two parties have the same name 'a'"):
        Federation(tables_of(3), names=("a", "a", "b")).fit(GaussianMixture(2))


def test_a_failed_session_has_a_record_and_no_model() -> None:
    outcome = Federation(tables_of(3), trouble=(Leaves([1], after=2),), starts=0, max_iterations=5).fit(
        GaussianMixture(2)
    )
    assert "t1" in outcome.failure and len(outcome.rounds) == 2
    assert outcome.seconds > 600, "one block: the session is paused for as long as the timetable says"
    with pytest.raises(SumFailed, match="t1"):
        _ = outcome.model
