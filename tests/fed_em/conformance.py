"""What every model must satisfy, whatever its family. Subclass `ModelConformance` and fill in its five parts."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fed_em.em import Stopping, fit
from fed_em.families import build_model
from fed_em.model import COUNT, LOG_LIKELIHOOD, Model
from fed_em.parameters import Parameters
from fed_em.statistics import Statistics
from fed_em.totals import TotalOfRows

Vector = NDArray[np.float64]

# A property that subclasses inherit runs for each of them, which is what this health check is about.
INHERITED = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.differing_executors, HealthCheck.too_slow]
)


class ModelConformance:
    """The tests. `truth` should be identifiable from some thousand rows, and `start` lie in its basin."""

    @abstractmethod
    def model(self) -> Model:
        """The model; its M-step an exact maximiser."""

    @abstractmethod
    def truth(self) -> Parameters:
        """Parameters to sample from."""

    @abstractmethod
    def start(self) -> Parameters:
        """Parameters away from the truth, from which EM finds it."""

    @abstractmethod
    def log_density_by_definition(self, parameters: Parameters, row: Vector) -> float:
        """Log density of one row, computed in the plainest way there is."""

    @abstractmethod
    def nearby(self, parameters: Parameters, generator: np.random.Generator, size: float) -> Parameters:
        """Admissible parameters about `size` away from `parameters`, in a random direction."""

    def rows(self, n: int, seed: int = 7) -> Vector:
        return self.model().sample(self.truth(), n, np.random.default_rng(seed))[0]

    def test_the_log_density_is_the_one_by_definition(self) -> None:
        model, rows = self.model(), self.rows(40)
        expected = [self.log_density_by_definition(self.start(), row) for row in rows]
        np.testing.assert_allclose(model.log_prob(self.start(), rows), expected, rtol=1e-10, atol=1e-10)

    def test_the_log_likelihood_is_the_sum_of_log_densities(self) -> None:
        model, rows = self.model(), self.rows(1500)
        statistics = model.e_step(self.start(), rows)
        assert statistics[COUNT] == 1500
        np.testing.assert_allclose(statistics[LOG_LIKELIHOOD], model.log_prob(self.start(), rows).sum(), rtol=1e-12)

    @given(labels=st.lists(st.integers(0, 3), min_size=1, max_size=80))
    @INHERITED
    def test_statistics_add_over_any_split(self, labels: list[int]) -> None:
        model, rows, part = self.model(), self.rows(len(labels)), np.array(labels)
        pooled = model.e_step(self.start(), rows)
        summed = Statistics.zero(model.layout())
        for holder in range(4):
            summed = summed + model.e_step(self.start(), rows[part == holder])
        scale = np.abs(pooled.vector).max()
        np.testing.assert_allclose(summed.vector, pooled.vector, rtol=1e-10, atol=1e-12 * scale)

    def test_the_m_step_of_a_sum_is_that_of_the_pool(self) -> None:
        model, rows = self.model(), self.rows(900)
        pooled = model.m_step(model.e_step(self.start(), rows), self.start())
        parts = [model.e_step(self.start(), part) for part in np.array_split(rows, [10, 11, 500])]
        summed = model.m_step(parts[0] + parts[1] + parts[2] + parts[3], self.start())
        assert summed.distance(pooled) < 1e-11

    def test_no_rows_give_zero_statistics(self) -> None:
        model = self.model()
        statistics = model.e_step(self.start(), np.empty((0, model.n_columns)))
        np.testing.assert_array_equal(statistics.vector, np.zeros(model.layout().size))

    def test_the_objective_never_falls(self) -> None:
        model, rows = self.model(), self.rows(400)
        run = fit(model, TotalOfRows(model, rows), self.start(), Stopping(0.0, 60))
        objectives = [iteration.objective for iteration in run.iterations]
        assert np.diff(objectives).min() > -1e-11
        assert objectives[-1] > objectives[0]

    def test_the_fixed_point_is_a_maximum(self) -> None:
        model, rows = self.model(), self.rows(400)
        best = fit(model, TotalOfRows(model, rows), self.start(), Stopping(1e-14, 3000)).parameters
        generator = np.random.default_rng(5)

        def objective(parameters: Parameters) -> float:
            return float(model.log_prob(parameters, rows).sum()) + model.log_prior(parameters)

        top = objective(best)
        for _ in range(30):
            assert objective(self.nearby(best, generator, 1e-3)) < top

    def test_a_sample_leads_back_to_the_truth(self) -> None:
        model, rows = self.model(), self.rows(20_000)
        run = fit(model, TotalOfRows(model, rows), self.start(), Stopping(1e-9, 500))
        assert run.converged
        assert run.parameters.distance(self.truth()) < 0.05
        assert self.start().distance(self.truth()) > 0.1

    @given(
        bounds=st.lists(st.floats(0.01, 3.0), min_size=8, max_size=8),
        n=st.integers(1, 40),
        seed=st.integers(0, 2**32 - 1),
    )
    @INHERITED
    def test_statistics_stay_within_the_bounds_of_the_layout(self, bounds: list[float], n: int, seed: int) -> None:
        model = self.model()
        column_bounds = np.array(bounds[: model.n_columns])
        corners = np.random.default_rng(seed).integers(-1, 2, size=(n, model.n_columns))
        layout = model.layout(column_bounds)
        statistics = model.e_step(self.start(), corners * column_bounds, layout)
        for block in layout:
            # Rounding may take an attained bound over it by some units in the last place.
            assert np.abs(statistics[block.name]).max() <= n * block.bound * (1 + 1e-12), block.name

    def test_the_same_input_gives_the_same_bits(self) -> None:
        model, rows = self.model(), self.rows(3000)
        first = model.e_step(self.start(), rows)
        second = model.e_step(self.start(), np.asfortranarray(rows.copy()))
        assert first.vector.tobytes() == second.vector.tobytes()

    def test_a_sample_is_determined_by_its_generator(self) -> None:
        rows, labels = self.model().sample(self.truth(), 50, np.random.default_rng(3))
        again, same = self.model().sample(self.truth(), 50, np.random.default_rng(3))
        other, _ = self.model().sample(self.truth(), 50, np.random.default_rng(4))
        np.testing.assert_array_equal(rows, again)
        np.testing.assert_array_equal(labels, same)
        assert not np.array_equal(rows, other)

    def test_the_description_survives_json(self) -> None:
        description = json.loads(json.dumps(self.model().describe()))
        assert isinstance(description, Mapping)
        assert build_model(description) == self.model()

    def test_parameters_of_its_own_are_valid(self) -> None:
        model = self.model()
        model.validate(self.truth())
        model.validate(self.start())
        model.validate(model.m_step(model.e_step(self.start(), self.rows(100)), self.start()))

    @pytest.mark.parametrize("fault", ["missing", "unknown", "shape", "infinite"])
    def test_wrong_parameters_are_named(self, fault: str) -> None:
        arrays = dict(self.truth())
        name = next(iter(arrays))
        if fault == "missing":
            del arrays[name]
        elif fault == "unknown":
            name = "wieghts"
            arrays[name] = np.zeros(1)
        elif fault == "shape":
            arrays[name] = np.append(arrays[name], 0.0)
        else:
            arrays[name] = np.full_like(arrays[name], np.inf)
        with pytest.raises(ValueError, match=name):
            self.model().validate(Parameters(arrays))
