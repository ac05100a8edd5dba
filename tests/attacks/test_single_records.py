"""Components of one record: read where no mass floor is, and shut where there is one."""

from __future__ import annotations

from functools import cache

import numpy as np
from listening import listen
from small_tables import tables_of

from fed_em import GaussianMixture
from fed_em_simulations import FederationOutcome
from fed_em_simulations.attacks.finding import Severity
from fed_em_simulations.attacks.overheard import Overheard
from fed_em_simulations.attacks.single_records import single_records

OUTLIER = np.array([31.0, -23.0])


def with_outlier(rows: int = 40) -> list[np.ndarray[tuple[int, int], np.dtype[np.float64]]]:
    """Six tables, of which the third has a record that is far from all others."""
    tables = tables_of(6, rows=rows)
    tables[2] = np.concatenate([tables[2], [OUTLIER]])
    return tables


@cache
def outlier_session() -> tuple[Overheard, FederationOutcome]:
    """Four components for three clusters and a record far from all; from the draw of this seed one of them finds it."""
    return listen(with_outlier(), sums=12, target=GaussianMixture(4), seed=3)


def test_a_record_far_from_all_others_is_read() -> None:
    heard, _ = outlier_session()
    found = single_records(heard)
    assert found.severity is Severity.EXPOSED and found.records == 1
    assert "1 record can be read" in found.sentence
    best = min(found.readings, key=lambda reading: reading.spread)
    np.testing.assert_allclose(best.record, OUTLIER, atol=0.05)


def test_a_mass_floor_keeps_it_shut() -> None:
    heard, _ = listen(with_outlier(), sums=6, target=GaussianMixture(4), mass_floor=10.0)
    found = single_records(heard)
    assert found.severity is Severity.NONE and found.components > 0 and found.least_mass >= 10
    assert "or more" in found.sentence


def test_few_records_are_small_but_not_read() -> None:
    tables = tables_of(6)
    tables[2] = np.concatenate([tables[2], OUTLIER + np.array([[0.0, 0.0], [2.0, 1.0], [-1.0, 2.0], [1.0, -2.0]])])
    heard, _ = listen(tables, sums=12, target=GaussianMixture(4), seed=3)
    found = single_records(heard)
    assert found.severity is Severity.BOUNDED and 0 < found.least_mass < 10 and not found.readings
    assert "none is one record" in found.sentence


def test_without_components_there_is_nothing_open() -> None:
    heard, _ = listen(tables_of(6), sums=2, target=GaussianMixture(1))
    assert single_records(heard).sentence == "No component's moments were opened."
