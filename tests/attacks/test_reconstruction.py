"""A tenant that colluders leave alone: its rows are solved for if they are few and without noise; a larger cohort hides them."""

from __future__ import annotations

import numpy as np
from gaussian_mechanism import Mechanism, in_ball, separation_of
from listening import listen, summed
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from small_tables import tables_of

from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em_simulations.attacks.finding import Severity
from fed_em_simulations.attacks.overheard import Overheard, PublicFacts
from fed_em_simulations.attacks.reconstruction import reconstruction


def worst_match(found: NDArray[np.float64], truth: NDArray[np.float64]) -> float:
    """The largest distance of a row to the one that it is matched with."""
    distances = cdist(found, truth)
    return float(distances[linear_sum_assignment(distances)].max())


def test_the_rows_of_who_is_alone_are_solved_for() -> None:
    """A session of three, of whom two collude: one more than it is to withstand."""
    tables = tables_of(3)
    tables[1] = tables[1][:5]
    heard, _ = listen(tables, sums=6)
    found = reconstruction(heard, {"t0": tables[0], "t2": tables[2]})
    assert found.severity is Severity.EXPOSED
    (victim,) = found.tenants
    assert (victim.tenant, victim.rows, victim.sums) == ("t1", 5, 6) and victim.solution is not None
    assert worst_match(victim.solution, tables[1]) < 1e-3
    assert found.sentence == "If t0, t2 collude, all 5 rows of t1 can be solved for."


def test_many_rows_are_not_solved_for_but_their_statistics_are_left() -> None:
    tables = tables_of(3)
    heard, _ = listen(tables, sums=3)
    found = reconstruction(heard, {"t0": tables[0], "t2": tables[2]})
    assert found.severity is Severity.EXPOSED and not found.solved
    assert "the statistics of t1 are left by subtraction" in found.sentence


def test_a_cohort_hides_them() -> None:
    tables = tables_of(6)
    heard, _ = listen(tables, sums=3)
    found = reconstruction(heard, {"t0": tables[0]})
    assert (found.severity, found.least_others) == (Severity.NONE, 5)


def test_noise_covers_a_cohort_of_two() -> None:
    generator, radius = np.random.default_rng(0), 3.0
    mechanism = Mechanism(GaussianMixtureModel(1, 2, "diag"), radius, separation_of(1.0, 1e-5), sums=4)
    tables = [in_ball(generator.standard_normal((n, 2)), radius) for n in (30, 4)]
    facts = PublicFacts(("a", "b"), 0, 2)

    noised = Overheard.of(summed(mechanism.model, mechanism.points(), tables, mechanism.added, generator), facts)
    covered = reconstruction(noised, {"a": tables[0]}, mechanism.of)
    (victim,) = covered.tenants
    assert (
        victim.solution is None
        or worst_match(victim.solution[: len(tables[1])], tables[1][: len(victim.solution)]) > 0.3
    )
    plain = Overheard.of(summed(mechanism.model, mechanism.points(), [tables[0], tables[1][:1]]), facts)
    (alone,) = reconstruction(plain, {"a": tables[0]}).tenants
    assert alone.solution is not None
    np.testing.assert_allclose(alone.solution, tables[1][:1], atol=1e-4)
