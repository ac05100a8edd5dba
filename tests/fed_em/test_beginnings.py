"""Starts from labels and from fitted models, over rows in memory."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from fed_em.beginnings import FromLabels, Standardised
from fed_em.columns import BernoulliColumn, CategoricalColumn, ColumnSchema, GaussianColumn, PoissonColumn
from fed_em.coordinates import Coordinates
from fed_em.covariance import COVARIANCE_STRUCTURES, CovarianceStructure
from fed_em.em import GONE_AFTER, Summed
from fed_em.errors import CallerError
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.initialisation import moments_model, standard_gaussian
from fed_em.labelled_start import LABELLED_ROUNDS, labelled_start
from fed_em.lloyd import drawn
from fed_em.mixed_mixture import MixedMixtureModel
from fed_em.model_file import FittedModel
from fed_em.parameters import Parameters
from fed_em.records import Records
from fed_em.step_size import DecayingStep
from fed_em.stepwise import StepwiseTotal
from fed_em.tenant_mixing import TenantMixing
from fed_em.totals import IncrementalTotal, TotalOfRows
from fed_em.warm_start import warm_start
from tests.fed_em import mixtures

ROWS = np.random.default_rng(3).standard_normal((200, 2)) * [2.0, 0.5] + [1.0, -3.0]
OLD, NEW = (
    Coordinates(np.array([1.0, -2.0]), np.array([3.0, 0.5])),
    Coordinates(np.array([0.5, -3.0]), np.array([2.0, 1.0])),
)


def fitted_of(structure: CovarianceStructure) -> FittedModel:
    parameters = mixtures.parameters_of(structure)
    return FittedModel(mixtures.mixture(structure), OLD, ("a", "b"), parameters, {})


class TestFromAModel:
    @pytest.mark.parametrize("structure", ["full", "diag", "tied"])
    def test_densities_in_original_units_stay_what_they_were(self, structure: CovarianceStructure) -> None:
        fitted = fitted_of(structure)
        model = mixtures.mixture(structure)
        moved = FittedModel(model, NEW, ("a", "b"), warm_start(model, ("a", "b"), NEW, fitted), {})
        np.testing.assert_allclose(moved.score_samples(ROWS), fitted.score_samples(ROWS), rtol=1e-9)

    @pytest.mark.parametrize("structure", COVARIANCE_STRUCTURES)
    @pytest.mark.parametrize("before", COVARIANCE_STRUCTURES)
    def test_covariances_may_have_another_structure(
        self, before: CovarianceStructure, structure: CovarianceStructure
    ) -> None:
        model = mixtures.mixture(structure)
        start = warm_start(model, ("a", "b"), NEW, fitted_of(before))
        model.validate(start)
        np.testing.assert_allclose(NEW.restore(start["means"]), OLD.restore(mixtures.parameters_of(before)["means"]))

    def test_mixed_columns_move_where_they_are_numbers_and_no_level_stays_impossible(self) -> None:
        schema = ColumnSchema(
            (CategoricalColumn("c", ("u", "v")), GaussianColumn("g"), BernoulliColumn("b"), PoissonColumn("p", 9))
        )
        model = MixedMixtureModel(2, schema)
        arrays = {
            "weights": [0.25, 0.75], "means": [[0.0], [2.0]], "covariances": [[[1.0]], [[4.0]]],
            "level_probabilities": [[1.0, 0.0], [0.5, 0.5]], "success_probabilities": [[0.0], [0.5]], "rates": [[0.0], [3.0]],
        }  # fmt: skip
        identity = Coordinates(np.zeros(4), np.ones(4))
        fitted = FittedModel(model, identity, schema.names, Parameters(arrays), {})
        there = Coordinates(np.array([0.0, 1.0, 0.0, 0.0]), np.array([1.0, 2.0, 1.0, 1.0]))
        start = warm_start(model, schema.names, there, fitted)
        np.testing.assert_allclose(start["means"], [[-0.5], [0.5]])
        np.testing.assert_allclose(start["covariances"], [[[0.25]], [[1.0]]])
        for name in ("level_probabilities", "success_probabilities", "rates"):
            assert np.all(start[name] > 0)
            np.testing.assert_allclose(start[name], arrays[name], atol=2e-6)
        other = replace(model, schema=ColumnSchema((CategoricalColumn("c", ("u", "w")), *schema.columns[1:])))
        with pytest.raises(CallerError, match="column 'c' is another one"):
            warm_start(other, schema.names, there, fitted)
        with pytest.raises(CallerError, match="family 'mixed-mixture', not 'gaussian-mixture'"):
            warm_start(GaussianMixtureModel(2, 4), schema.names, there, fitted)


def labelled_rows(known: int) -> tuple[Records, np.ndarray[tuple[int], np.dtype[np.intp]]]:
    """Three clusters, the first rows of each labelled; standardised."""
    kinds = np.repeat(np.arange(3), 50)
    rows = np.array([[0.0, 0.0], [5.0, 0.0], [0.0, 5.0]])[kinds] + np.random.default_rng(0).standard_normal((150, 2))
    told = np.arange(150) % 50 < known
    admissible = np.where(told[:, None], np.eye(3, dtype=bool)[kinds], True)
    return Records((rows - rows.mean(axis=0)) / rows.std(axis=0), admissible=admissible), kinds


def moments_of(records: Records) -> Parameters:
    one, gaussian = moments_model(2), standard_gaussian(2)
    return one.m_step(one.e_step(gaussian, records.rows), gaussian)


class TestFromLabels:
    @pytest.mark.parametrize("structure", COVARIANCE_STRUCTURES)
    def test_the_components_are_the_m_step_of_the_labelled_records(self, structure: CovarianceStructure) -> None:
        records, kinds = labelled_rows(known=8)
        model, sums = GaussianMixtureModel(3, 2, structure), []

        def total(parameters: Parameters) -> Summed:
            sums.append(model.e_step(parameters, records))
            return Summed(sums[-1])

        start = labelled_start(model, lambda: total, moments_of(records), 0)
        assert len(sums) == LABELLED_ROUNDS
        for k in range(3):
            own = records.rows[(kinds == k) & (np.arange(150) % 50 < 8)]
            # A hundredth of a record of the weak prior is at 0.
            np.testing.assert_allclose(start["means"][k], own.sum(axis=0) / (len(own) + 0.01), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(start["weights"], 1 / 3, atol=1e-6)

    def test_a_component_without_labels_or_behind_a_gate_stays_as_drawn(self) -> None:
        records, _ = labelled_rows(known=8)
        assert records.admissible is not None
        open_third = np.where(records.admissible[:, [2]] & ~records.admissible[:, [0]], True, records.admissible)
        model, moments = GaussianMixtureModel(3, 2), moments_of(records)
        found = labelled_start(model, lambda: TotalOfRows(model, replace(records, admissible=open_third)), moments, 5)
        as_drawn = drawn(model, moments, 5)
        np.testing.assert_array_equal(found["means"][2], as_drawn["means"][2])
        np.testing.assert_array_equal(found["covariances"][2], as_drawn["covariances"][2])
        assert not np.allclose(found["means"][:2], as_drawn["means"][:2])
        gated = labelled_start(model, lambda: lambda at: Summed(model.e_step(at, records), held=(1,)), moments, 5)
        np.testing.assert_array_equal(gated["means"][1], as_drawn["means"][1])

    @pytest.mark.parametrize("away", [1, 3, GONE_AFTER, GONE_AFTER + 1])
    def test_terms_of_the_sum_before_are_not_taken_for_labelled_records(self, away: int) -> None:
        """One of two parties goes away between the two sums, and comes back after some, or too late."""
        records, _ = labelled_rows(known=8)
        model, moments = GaussianMixtureModel(3, 2), moments_of(records)
        parts = {"a": records[:75], "b": records[75:]}
        total = IncrementalTotal(model, parts, lambda number: "ab" if number == 1 or number > 1 + away else "a")
        found = labelled_start(model, lambda: total, moments, 5)
        expected = labelled_start(model, lambda: TotalOfRows(model, records), moments, 5)
        first = expected["means"][0] if away <= GONE_AFTER else drawn(model, moments, 5)["means"][0]
        np.testing.assert_allclose(found["means"][0], first, rtol=1e-12)
        np.testing.assert_allclose(found["means"][1:], expected["means"][1:], rtol=1e-12)

    def test_the_sums_of_a_stream_share_no_average(self) -> None:
        records, _ = labelled_rows(known=8)
        model, moments = GaussianMixtureModel(3, 2), moments_of(records)
        of_rows = TotalOfRows(model, records)
        (averaged,) = FromLabels().begin(
            Standardised(
                model, Coordinates.identity(2), moments, lambda _: StepwiseTotal(of_rows, DecayingStep(0.7)), 5
            )
        )
        assert averaged.distance(labelled_start(model, lambda: of_rows, moments, 5)) < 1e-12

    def test_what_labels_cannot_start_is_refused(self) -> None:
        records, _ = labelled_rows(known=0)
        for model, why in (
            (GaussianMixtureModel(3, 2), "no component has records that are labelled"),
            (GaussianMixtureModel(1, 2), "one component"),
            (GaussianMixtureModel(3, 2, mixing=TenantMixing()), "each tenant's own"),
        ):
            with pytest.raises(CallerError, match=why):
                labelled_start(model, partial(TotalOfRows, model, records), moments_of(records), 0)
