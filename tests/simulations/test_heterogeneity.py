"""Each way in which tenants differ does what its page says, and moves nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from fed_em.errors import CallerError
from fed_em_simulations.covariance_shift import CovarianceShift
from fed_em_simulations.dirichlet_mixing import DirichletMixing
from fed_em_simulations.feature_shift import FeatureShift
from fed_em_simulations.label_availability import LabelAvailability
from fed_em_simulations.missing_cells import MissingCells
from fed_em_simulations.partitions import homes_by_label, homes_by_size, homes_by_value, parted
from fed_em_simulations.population import Heterogeneity, Population
from fed_em_simulations.random_streams import stream
from fed_em_simulations.size_skew import SizeSkew


class TestMixing:
    @pytest.mark.parametrize("concentration", [0.05, 0.3, 100.0])
    def test_shares_have_the_moments_of_their_distribution(self, concentration: float) -> None:
        """Mean w, variance w(1 − w)/(αK + 1). False alarms: z of 3 + 3 numbers below 5, 4e-6."""
        weights, n = np.array([0.5, 0.3, 0.2]), 20_000
        shares = DirichletMixing(concentration=concentration).shares(n, weights, stream(0, "test"))
        np.testing.assert_allclose(shares.sum(axis=1), 1.0)
        variance = weights * (1 - weights) / (3 * concentration + 1)
        assert (np.abs(shares.mean(axis=0) - weights) / np.sqrt(variance / n)).max() < 5
        squares = (shares - weights) ** 2
        assert (np.abs(squares.mean(axis=0) - variance) / (squares.std(axis=0) / np.sqrt(n))).max() < 5

    def test_with_equal_weights_it_is_the_symmetric_one(self) -> None:
        ours = DirichletMixing(concentration=0.3).shares(5, np.full(4, 0.25), np.random.default_rng(3))
        np.testing.assert_array_equal(ours, np.random.default_rng(3).dirichlet(np.full(4, 0.3), 5))


class TestShifts:
    def test_a_site_moves_and_stretches_each_column_about_its_mean(self) -> None:
        mean, deviation = np.array([10.0, -3.0]), np.array([2.0, 0.5])
        shift = FeatureShift(scale=0.4).draw(mean, deviation, stream(0, "test"))
        np.testing.assert_allclose(shift.apply(mean[np.newaxis]), mean[np.newaxis])
        assert (shift.factor != 1).all()
        none = FeatureShift().draw(mean, deviation, stream(0, "test"))
        np.testing.assert_allclose(none.apply(np.ones((1, 2))), 1.0)

    def test_offsets_are_in_units_of_the_column(self) -> None:
        """Standard deviation over 4000 sites within 5 of its own standard errors: 1e-6 a column."""
        deviation, n = np.array([2.0, 50.0]), 4000
        shift, generator = FeatureShift(offset=0.3), stream(1, "test")
        offsets = np.array([shift.draw(np.zeros(2), deviation, generator).location for _ in range(n)]) / deviation
        assert (np.abs(offsets.std(axis=0) / 0.3 - 1) * np.sqrt(2 * n)).max() < 5

    def test_shapes_change_and_volumes_do_not(self) -> None:
        turn = CovarianceShift(strength=0.3).draw(4, stream(0, "test"))
        np.testing.assert_allclose(turn, turn.T)
        assert np.linalg.det(turn) == pytest.approx(1.0)
        assert np.abs(turn - np.eye(4)).max() > 0.1
        np.testing.assert_allclose(CovarianceShift(strength=0.0).draw(4, stream(0, "test")), np.eye(4))


class TestSizes:
    @given(
        n_tenants=st.integers(1, 40),
        more=st.integers(0, 5000),
        exponent=st.floats(0, 3),
        least=st.integers(0, 5),
        seed=st.integers(0, 99),
    )
    @settings(max_examples=60, deadline=None)
    def test_they_sum_up_and_fall_by_the_power_law(
        self, n_tenants: int, more: int, exponent: float, least: int, seed: int
    ) -> None:
        n_rows = least * n_tenants + more
        sizes = SizeSkew(exponent=exponent, least=least).sizes(n_rows, n_tenants, stream(seed, "test"))
        assert sizes.sum() == n_rows and sizes.min() >= least
        shares = np.arange(1, n_tenants + 1) ** -exponent
        wanted = least + more * shares / shares.sum()
        assert np.abs(np.sort(sizes)[::-1] - wanted).max() < 1

    def test_too_few_rows_are_refused(self) -> None:
        with pytest.raises(CallerError, match="too few"):
            SizeSkew(least=3).sizes(5, 2, stream(0, "test"))


class TestMissingCells:
    @pytest.mark.parametrize("mechanism", ["mcar", "mar", "mnar"])
    def test_the_rate_is_the_one_asked_for_and_the_mechanism_shows(self, mechanism: str) -> None:
        """Rates within 5 standard errors; signs of correlations far from 0 at this size: false alarms below 1e-5."""
        n, rate = 20_000, 0.3
        rows = stream(0, "test").standard_normal((n, 3)) @ np.array([[1, 0.5, 0], [0, 1, 0.5], [0, 0, 1]])
        cells = MissingCells.model_validate({"rate": rate, "mechanism": mechanism, "strength": 1.5})
        missing = np.isnan(cells.apply(rows, rows, rate, stream(1, "test")))
        rates = missing.mean(axis=0)
        assert np.abs(rates[1:] - rate).max() < 5 * np.sqrt(rate * (1 - rate) / n)
        assert rates[0] == 0 if mechanism == "mar" else abs(rates[0] - rate) < 5 * np.sqrt(rate * (1 - rate) / n)
        with_own = np.corrcoef(missing[:, 2], rows[:, 2])[0, 1]
        with_first = np.corrcoef(missing[:, 2], rows[:, 0])[0, 1]
        noise = 5 / np.sqrt(n)
        assert (abs(with_own) < noise and abs(with_first) < noise) == (mechanism == "mcar")
        assert (with_first > 0.2) == (mechanism == "mar")
        assert (with_own > 0.2) == (mechanism == "mnar")
        np.testing.assert_array_equal(
            np.where(missing, 0, rows), np.where(missing, 0, cells.apply(rows, rows, rate, stream(1, "test")))
        )

    def test_rates_of_tenants_spread_about_the_one_of_all(self) -> None:
        """Mean over 4000 tenants within 5 standard errors: 6e-7."""
        generator, n = stream(0, "test"), 4000
        cells = MissingCells(rate=0.2, concentration=4.0)
        rates = np.array([cells.rate_of_tenant(generator) for _ in range(n)])
        assert abs(rates.mean() - 0.2) < 5 * np.sqrt(0.2 * 0.8 / 5 / n)
        assert rates.std() > 0.1
        assert {MissingCells(rate=0.2).rate_of_tenant(generator) for _ in range(3)} == {0.2}

    def test_a_single_column_has_nothing_to_depend_on(self) -> None:
        with pytest.raises(CallerError, match="there is no other"):
            MissingCells(rate=0.2, mechanism="mar").apply(np.zeros((3, 1)), np.zeros((3, 1)), 0.2, stream(0, "test"))


class TestLabels:
    def test_labels_are_true_and_only_where_they_are(self) -> None:
        labels, components = LabelAvailability(tenants=0.3, rows=0.5), np.tile([0, 1, 2], 200)
        who = labels.who(10, stream(0, "test"))
        assert who.sum() == 3
        with_labels = labels.admissible(components, 3, True, stream(0, "test"))
        assert with_labels[np.arange(600), components].all()
        labelled = with_labels.sum(axis=1) == 1
        # Binomial(600, ½) within 5 standard deviations: 6e-7.
        assert abs(labelled.sum() - 300) < 5 * np.sqrt(150)
        assert with_labels[~labelled].all()
        assert labels.admissible(components, 3, False, stream(0, "test")).all()


class TestPartitions:
    def test_by_value_each_tenant_has_one(self) -> None:
        homes, names = homes_by_value(np.array(["ulm", "bonn", "ulm", "jena"]))
        assert names == ("bonn", "jena", "ulm")
        assert homes.tolist() == [2, 0, 2, 1]
        parts = parted(np.arange(8.0).reshape(4, 2), homes, names)
        assert parts["ulm"].tolist() == [[0, 1], [4, 5]] and parts["bonn"].tolist() == [[2, 3]]

    def test_by_label_the_spread_follows_the_concentration(self) -> None:
        labels, sizes = np.repeat(np.arange(5), 2000), np.array([3.0, 2.0, 1.0])
        alike = homes_by_label(labels, sizes, 1e4, stream(0, "test"))
        np.testing.assert_allclose(np.bincount(alike) / len(labels), sizes / 6, atol=0.03)
        apart = homes_by_label(labels, sizes, 1e-3, stream(0, "test"))
        for label in range(5):
            assert np.bincount(apart[labels == label], minlength=3).max() > 1990
        with pytest.raises(CallerError, match="concentration"):
            homes_by_label(labels, sizes, 0.0, stream(0, "test"))
        with pytest.raises(CallerError, match="sizes"):
            homes_by_label(labels, np.array([1.0, 0.0]), 1.0, stream(0, "test"))

    def test_by_size_every_row_has_a_home(self) -> None:
        homes = homes_by_size(1000, 7, SizeSkew(exponent=1.5, least=4), stream(0, "test"))
        counts = np.bincount(homes, minlength=7)
        assert counts.sum() == 1000 and counts.min() >= 4 and counts.max() > 300


class TestPopulation:
    def population(self, **differ: object) -> Population:
        return Population(tenants=6, rows=300, held_out=20, heterogeneity=Heterogeneity.model_validate(differ))

    def test_the_same_seed_gives_the_same_tenants(self) -> None:
        first, again, other = (self.population().draw(seed).pooled.rows for seed in (4, 4, 5))
        np.testing.assert_array_equal(first, again)
        assert (first != other).all()

    def test_what_one_concept_draws_moves_no_other(self) -> None:
        plain = self.population().draw(4)
        holes = self.population(missing={"rate": 0.3}).draw(4)
        shifted = self.population(features={"offset": 1.0}).draw(4)
        labelled = self.population(labels={"tenants": 0.5}).draw(4)
        seen = ~np.isnan(holes.pooled.rows)
        assert 0.5 < seen.mean() < 0.9
        np.testing.assert_array_equal(holes.pooled.rows[seen], plain.pooled.rows[seen])
        np.testing.assert_array_equal(labelled.pooled.rows, plain.pooled.rows)
        assert labelled.pooled.admissible is not None and plain.pooled.admissible is None
        for member, base in zip(shifted.members, plain.members, strict=True):
            moved = member.held_out - base.held_out
            np.testing.assert_allclose(moved, np.tile(moved[0], (len(moved), 1)), atol=1e-9)

    def test_the_truth_has_the_weights_of_all_rows(self) -> None:
        """Shares of 40 000 rows within 5 standard errors of the truth's weights: below 3e-6 for the four."""
        population = Population(
            tenants=5, rows=200, held_out=8000, heterogeneity=Heterogeneity(mixing=DirichletMixing(concentration=0.3))
        )
        tenants = population.draw(1)
        assert tenants.truth is not None
        components = np.concatenate([m.components for m in tenants.members if m.components is not None])
        shares, weights = np.bincount(components, minlength=4) / 40_000, tenants.truth.parameters["weights"]
        assert (np.abs(shares - weights) <= 5 * np.sqrt(weights * (1 - weights) / 40_000)).all()

    def test_fewer_rows_than_tenants_are_refused(self) -> None:
        with pytest.raises(ValidationError, match="too few for 20 tenants"):
            Population(rows=5)
