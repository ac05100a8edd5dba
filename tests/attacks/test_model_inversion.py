"""Means that are records are found, and means of many records are nobody's."""

from __future__ import annotations

import numpy as np
import pytest
from listening import listen
from scipy.stats import kstest
from small_tables import tables_of
from test_single_records import outlier_session, with_outlier

from fed_em import GaussianMixture
from fed_em.errors import CallerError
from fed_em_simulations.attacks.finding import Severity
from fed_em_simulations.attacks.model_inversion import model_inversion
from fed_em_simulations.attacks.overheard import Overheard

POPULATION = np.concatenate(tables_of(1, rows=97_000, seed=5))


def test_a_component_that_learned_a_record_by_heart() -> None:
    tables = with_outlier()
    heard, _ = outlier_session()
    found = model_inversion(heard, np.concatenate(tables), POPULATION)
    assert found.severity is Severity.EXPOSED and len(found.suspicious) == 1
    (k,) = found.suspicious
    assert found.nearest[k] < 0.01 < found.baseline[k] and f"component {k} is a training record" in found.sentence


def test_means_of_many_records_are_nobodys() -> None:
    """It alarms once in a hundred, by construction; not for this seed."""
    tables = tables_of(6)
    heard, _ = listen(tables, sums=12, target=GaussianMixture(3))
    found = model_inversion(heard, np.concatenate(tables), POPULATION)
    assert found.severity is Severity.NONE and "no nearer to training rows" in found.sentence


def test_chances_are_those_of_rows_that_the_means_know_nothing_of() -> None:
    """Uniform, but for steps: of 100 draws, a Kolmogorov-Smirnov distance above 0.21 would come with a probability of 2e-4."""
    heard, _ = listen(tables_of(6), sums=2, target=GaussianMixture(1))
    generator = np.random.default_rng(1)
    rows = POPULATION[:4040]
    chances = []
    for _ in range(100):
        order = generator.permutation(len(rows))
        chances.append(model_inversion(heard, rows[order[:40]], rows[order[40:]]).chances[0])
    assert kstest(chances, "uniform").statistic < 0.21


def test_nothing_to_look_at() -> None:
    assert "no means" in model_inversion(Overheard((), {}), POPULATION[:10], POPULATION).sentence
    with pytest.raises(CallerError, match="give 10000"):
        model_inversion(listen(tables_of(6), sums=2, target=GaussianMixture(1))[0], POPULATION[:100], POPULATION[:9999])
