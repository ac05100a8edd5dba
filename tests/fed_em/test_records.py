"""Weights count as repetitions do, labels leave components out, and neither tells a record's content."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fed_em.component_counts import MASS, component_counts
from fed_em.em import Stopping, fit
from fed_em.errors import CallerError
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.mixed_mixture import MixedMixtureModel
from fed_em.model import COUNT, LOG_LIKELIHOOD, ComponentModel
from fed_em.parameters import Parameters
from fed_em.records import Records
from fed_em.totals import TotalOfRows
from tests.fed_em.mixtures import mixture
from tests.fed_em.mixtures import parameters_of as gaussian_parameters
from tests.fed_em.test_mixed_mixture import SCHEMA, blanked
from tests.fed_em.test_mixed_mixture import parameters_of as mixed_parameters

Vector = NDArray[np.float64]
Case = tuple[ComponentModel, Parameters, Vector]

# A property that is tried on several models; each draws its own examples.
TRIED = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.differing_executors, HealthCheck.too_slow]
)


def three_mixed() -> Parameters:
    """The two mixed components, and a third between them."""
    arrays = {}
    for name, array in mixed_parameters().items():
        arrays[name] = np.concatenate((array, array.mean(axis=0, keepdims=True)))
    arrays["weights"] = np.array([0.3, 0.45, 0.25])
    return Parameters(arrays)


def case(name: str) -> Case:
    """A model of three components, its parameters, and 60 rows."""
    model: ComponentModel
    if name == "mixed":
        model, at = MixedMixtureModel(3, SCHEMA), three_mixed()
    else:
        structure = "diag" if name == "diagonal" else "full"
        at = gaussian_parameters(structure)
        model = mixture(structure) if name == "complete" else GaussianMixtureModel(3, 2, structure, 0.0, missing=True)
    rows = model.sample(at, 60, np.random.default_rng(2))[0]
    return model, at, rows if name == "complete" else blanked(rows)


EVERY_MODEL = pytest.mark.parametrize("name", ["complete", "missing", "diagonal", "mixed"])


@EVERY_MODEL
@given(counts=st.lists(st.integers(0, 3), min_size=60, max_size=60))
@TRIED
def test_whole_weights_are_repetitions_and_a_weight_of_zero_is_absence(name: str, counts: list[int]) -> None:
    model, at, rows = case(name)
    repeats = np.array(counts)
    weighted = model.e_step(at, Records(rows, repeats.astype(float), weight_bound=3.0))
    repeated = model.e_step(at, np.repeat(rows, repeats, axis=0))
    scale = np.abs(repeated.vector).max(initial=1.0)
    np.testing.assert_allclose(weighted.vector, repeated.vector, rtol=1e-9, atol=1e-12 * scale)


@EVERY_MODEL
@given(labels=st.lists(st.integers(0, 3), min_size=60, max_size=60), seed=st.integers(0, 99))
@TRIED
def test_statistics_of_weighted_labelled_records_add_over_any_split(name: str, labels: list[int], seed: int) -> None:
    model, at, rows = case(name)
    generator, part = np.random.default_rng(seed), np.array(labels)
    admissible = generator.random((60, 3)) < 0.6
    admissible[np.arange(60), generator.integers(3, size=60)] = True
    records = Records(rows, generator.random(60), admissible)
    pooled = model.e_step(at, records).vector
    summed = sum(model.e_step(at, records[part == holder]).vector for holder in range(4))
    np.testing.assert_allclose(summed, pooled, rtol=1e-9, atol=1e-12 * np.abs(pooled).max())


@EVERY_MODEL
@given(excluded=st.integers(0, 2))
@TRIED
def test_a_component_that_no_label_admits_is_as_good_as_deleted(name: str, excluded: int) -> None:
    model, at, rows = case(name)
    admissible = np.ones((60, 3), dtype=bool)
    admissible[:, excluded] = False
    records = Records(rows, admissible=admissible)
    weights = np.where(np.arange(3) == excluded, 0.0, at["weights"])
    without = Parameters({**at, "weights": weights / weights.sum()})
    np.testing.assert_allclose(
        model.responsibilities(at, records), model.responsibilities(without, rows), rtol=1e-9, atol=1e-14
    )
    expected = model.log_prob(without, rows) + np.log(weights.sum())
    np.testing.assert_allclose(model.log_prob(at, records), expected, rtol=1e-9)
    labelled, deleted = model.e_step(at, records), model.e_step(without, rows)
    for block in labelled.layout:
        if block.name != LOG_LIKELIHOOD:
            np.testing.assert_allclose(labelled[block.name], deleted[block.name], rtol=1e-8, atol=1e-9)


@EVERY_MODEL
def test_all_components_admitted_and_weights_of_one_change_nothing(name: str) -> None:
    model, at, rows = case(name)
    plain = model.e_step(at, rows)
    told = model.e_step(at, Records(rows, np.ones(60), np.ones((60, 3), dtype=bool)))
    np.testing.assert_allclose(told.vector, plain.vector, rtol=1e-9, atol=1e-10)
    bare = Records(rows)
    assert Records.of(bare) is bare
    np.testing.assert_allclose(model.e_step(at, bare).vector, plain.vector, rtol=1e-9, atol=1e-10)


@EVERY_MODEL
def test_one_label_for_each_record_makes_em_end_in_one_step(name: str) -> None:
    """With every component known, the M-step is the estimate of each component from its own rows."""
    model, at, rows = case(name)
    labels = model.responsibilities(at, rows).argmax(axis=1)
    records = Records(rows, admissible=labels[:, np.newaxis] == np.arange(3))
    first = model.m_step(model.e_step(at, records), at)
    np.testing.assert_allclose(first["weights"], np.bincount(labels, minlength=3) / 60, rtol=1e-9)
    np.testing.assert_array_equal(model.responsibilities(first, records).argmax(axis=1), labels)
    assert model.e_step(first, records)["entropy"] == pytest.approx(0.0, abs=1e-12)


@EVERY_MODEL
def test_the_objective_never_falls_and_the_free_energy_is_exact(name: str) -> None:
    model, at, rows = case(name)
    generator = np.random.default_rng(4)
    admissible = generator.random((60, 3)) < 0.5
    admissible[:, 0] |= ~admissible.any(axis=1)
    records = Records(rows, generator.random(60), admissible)
    statistics = model.e_step(at, records)
    assert model.free_energy(statistics, at) == pytest.approx(float(statistics[LOG_LIKELIHOOD]), rel=1e-10)
    run = fit(model, TotalOfRows(model, records), at, Stopping(0.0, 20))
    assert np.diff([iteration.objective for iteration in run.iterations]).min() > -1e-10
    assert run.iterations[0].records == pytest.approx(records.weights.sum())  # type: ignore[union-attr]


@EVERY_MODEL
def test_counts_of_components_go_by_labels(name: str) -> None:
    model, at, rows = case(name)
    records = Records(rows, None, np.tile([True, False, True], (60, 1)))
    counts, statistics = component_counts(model, at, records), model.e_step(at, records)
    np.testing.assert_allclose(counts[MASS], statistics["responsibilities"], rtol=1e-9)
    assert counts[COUNT] == 60
    with pytest.raises(CallerError, match="records with weights cannot be counted"):
        component_counts(model, at, Records(rows, np.ones(60)))


@EVERY_MODEL
def test_statistics_stay_within_bounds_times_the_largest_weight(name: str) -> None:
    model, at, rows = case(name)
    statistics = model.e_step(at, Records(rows[:1], np.array([0.25])))
    whole = model.e_step(at, rows[:1])
    np.testing.assert_allclose(statistics.vector, 0.25 * whole.vector, rtol=1e-9, atol=1e-14)


class TestRefusals:
    ROWS = np.zeros((4, 2))

    def test_records_without_an_admissible_component_are_counted(self) -> None:
        admissible = np.array([[True, False], [False, False], [True, True], [False, False]])
        with pytest.raises(CallerError, match=r"^2 records admit no component"):
            Records(self.ROWS, admissible=admissible)

    @pytest.mark.parametrize("value", [-0.1, 1.5, np.nan, np.inf])
    def test_a_weight_out_of_range_is_counted(self, value: float) -> None:
        with pytest.raises(CallerError, match=r"^1 weights are not between 0 and 1\.0") as caught:
            Records(self.ROWS, np.array([1.0, value, 0.0, 1.0]))
        assert "weight_bound" in caught.value.remedy
        if value == 1.5:
            Records(self.ROWS, np.array([1.0, value, 0.0, 1.0]), weight_bound=1.5)

    def test_shapes_must_fit(self) -> None:
        with pytest.raises(CallerError, match="weights of shape"):
            Records(self.ROWS, np.ones(3))
        with pytest.raises(CallerError, match="admissible components of type float64"):
            Records(self.ROWS, admissible=np.ones((4, 2)))  # type: ignore[arg-type]
        with pytest.raises(CallerError, match=r"shape \(3, 2\) do not fit 4 rows"):
            Records(self.ROWS, admissible=np.ones((3, 2), dtype=bool))
        with pytest.raises(CallerError, match="not a table"):
            Records(np.zeros(4))
        with pytest.raises(CallerError, match="weight_bound"):
            Records(self.ROWS, weight_bound=0.0)

    @EVERY_MODEL
    def test_labels_of_another_number_of_components_are_refused(self, name: str) -> None:
        model, at, rows = case(name)
        with pytest.raises(CallerError, match="labels are of 2 components, the model of 3"):
            model.e_step(at, Records(rows, admissible=np.ones((60, 2), dtype=bool)))


@EVERY_MODEL
def test_parts_put_together_are_the_whole(name: str) -> None:
    model, at, rows = case(name)
    generator = np.random.default_rng(4)
    weights, admissible = generator.random(60), generator.random((60, 3)) < 0.8
    admissible[~admissible.any(axis=1)] = True
    whole = Records(rows, weights, admissible, weight_bound=2.0)
    again = Records.concatenated([whole[:7], whole[7:7], whole[7:]])
    assert again.weight_bound == 2.0 and not again.bare
    assert model.e_step(at, again).vector.tobytes() == model.e_step(at, whole).vector.tobytes()


@EVERY_MODEL
def test_bare_records_are_their_rows(name: str) -> None:
    model, at, rows = case(name)
    bare = Records.concatenated([Records(rows[:20]), Records(rows[20:])])
    assert bare.bare
    assert model.e_step(at, bare).vector.tobytes() == model.e_step(at, rows).vector.tobytes()
    assert model.responsibilities(at, bare).tobytes() == model.responsibilities(at, rows).tobytes()


@EVERY_MODEL
def test_a_layout_of_heavier_records_is_as_much_wider(name: str) -> None:
    layout = case(name)[0].layout()
    heavy = layout.of_weights_up_to(2.5)
    assert [block.bound for block in heavy] == [2.5 * block.bound for block in layout]
    assert layout.of_weights_up_to(1.0) is layout and heavy.size == layout.size
