"""Differences of opened sums: they give tenants away where blocks are waived, and blocks where they are not."""

from __future__ import annotations

import numpy as np
import pytest
from listening import listen, summed
from small_tables import tables_of

from fed_em.errors import CallerError
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.initialisation import standard_gaussian
from fed_em.parameters import Parameters
from fed_em_simulations.attacks.differencing import differencing
from fed_em_simulations.attacks.finding import Severity
from fed_em_simulations.attacks.overheard import Overheard, PublicFacts
from fed_em_simulations.trouble import Partition

TABLES = tables_of(6)


def test_a_tenant_that_was_out_of_the_moments_of_one_session_is_given_away_exactly() -> None:
    """Both sessions begin at the same parameters, in the declared ranges: no tolerance is needed."""
    whole = listen(TABLES, sums=2, difference_guard="off", seed=1)[0]
    without = listen(TABLES, Partition((4,), 0, 1), sums=2, difference_guard="off", seed=2)[0]
    found = differencing(Overheard((*whole.sums, *without.sums), {**whole.facts, **without.facts}))
    level = found.worst
    assert (found.severity, level.least_support, level.exposed) == (Severity.EXPOSED, 1, ("t4",))
    assert found.sentence == "t4: its own statistics can be read from 4 sums by subtraction, exactly."
    reading = level.reading
    assert reading is not None and reading.weight
    truth = whole.term(whole.sums[0], whole.sums[0].round, TABLES[4])
    assert truth is not None
    np.testing.assert_allclose(reading.statistics.vector, truth.vector, atol=1e-6)


def test_blocks_keep_that_about_a_block() -> None:
    tables = tables_of(9)
    whole = listen(tables, sums=2, seed=1)[0]
    without = listen(tables, Partition((4,), 0, 1), sums=2, seed=2)[0]
    found = differencing(Overheard((*whole.sums, *without.sums), {**whole.facts, **without.facts}))
    assert found.severity is Severity.BOUNDED
    assert found.worst.least_support == 3 and not any(level.exposed for level in found.levels)


def test_increments_give_a_late_term_away_once_the_parameters_stand_still() -> None:
    """t2 misses one sum late in the fit; its term moves one round after everybody else's."""
    heard, _ = listen(TABLES, Partition((2,), 12, 1), sums=18, difference_guard="off")
    assert {released.kind for released in heard.sums} == {"whole", "increment"}
    found = differencing(heard)
    assert found.levels[0].least_support > 1
    assert found.levels[-1].exposed == ()
    assert found.severity is Severity.EXPOSED and found.worst.exposed == ("t2",)
    assert 0 < found.worst.tolerance < 1
    reading = found.worst.reading
    assert reading is not None and reading.weight == 0
    guarded = differencing(listen(TABLES, Partition((2,), 12, 1), sums=18)[0])
    assert guarded.severity is Severity.BOUNDED and guarded.worst.least_support == 3


def test_two_sums_at_nearly_equal_parameters() -> None:
    model = GaussianMixtureModel(2, 2)
    here = standard_gaussian(2)
    start = Parameters({
        "weights": np.full(2, 0.5), "means": np.array([[0.0, 0.0], [5.0, 1.0]]),
        "covariances": np.repeat(here["covariances"], 2, axis=0),
    })  # fmt: skip
    moved = Parameters({**start, "means": start["means"] + 0.004})
    everybody, *_ = summed(model, [start], TABLES)
    fewer, *_ = summed(model, [moved], TABLES[:5], session=bytes([1] * 16))
    facts = PublicFacts(tuple(f"t{k}" for k in range(6)), 1, 3)
    heard = Overheard(
        (everybody, fewer), {everybody.session: facts, fewer.session: PublicFacts(facts.tenants[:5], 1, 3)}
    )
    found = differencing(heard)
    assert [level.exposed for level in found.levels] == [(), ("t5",)]
    assert found.levels[1].tolerance == pytest.approx(0.004)
    reading, truth = found.levels[1].reading, heard.term(everybody, 1, TABLES[5])
    assert reading is not None and truth is not None and abs(reading.weight) == 1
    np.testing.assert_allclose(reading.statistics["first"], truth["first"], atol=0.5)


def test_one_sum_gives_nothing_away_and_none_is_no_sum() -> None:
    heard, _ = listen(TABLES, sums=2)
    assert differencing(heard).severity is Severity.NONE
    assert "fewer tenants than a sum itself, 6" in differencing(heard).sentence
    assert differencing(Overheard((), {})).sentence == "No sum was opened."


def test_a_session_of_which_nothing_is_known() -> None:
    heard, _ = listen(TABLES, sums=2)
    with pytest.raises(CallerError, match="nothing is known of session"):
        Overheard(heard.sums, {})
    with pytest.raises(CallerError, match="the session has 2"):
        Overheard.of(heard.sums, PublicFacts(("a", "b"), 0, 3))
