"""What every model must satisfy, whatever its family. Subclass `ModelConformance` and fill in its six parts."""

from __future__ import annotations

import json
import math
from abc import abstractmethod
from collections.abc import Mapping
from itertools import product

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp, xlogy

from fed_em.em import Stopping, fit
from fed_em.errors import CallerError
from fed_em.families import build_model
from fed_em.model import COUNT, ENTROPY, LOG_LIKELIHOOD, Model
from fed_em.parameters import Parameters
from fed_em.records import Records
from fed_em.statistics import Statistics
from fed_em.totals import TotalOfRows
from fed_em_protocols.encoding import Encoding

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

    @abstractmethod
    def statistics_by_definition(self, parameters: Parameters, row: Vector, component: int) -> Mapping[str, ArrayLike]:
        """What one row adds to each statistic if a component is known to have made it; not `count`, `log_likelihood` and `entropy`."""

    def rows(self, n: int, seed: int = 7) -> Vector:
        return self.model().sample(self.truth(), n, np.random.default_rng(seed))[0]

    def rows_at_the_ends(self, column_bounds: Vector, n: int, generator: np.random.Generator) -> Vector:
        """Complete rows at the ends of what columns of such bounds can hold, and in the middle."""
        return generator.integers(-1, 2, size=(n, len(column_bounds))) * column_bounds

    def log_joint_by_definition(self, parameters: Parameters, rows: Vector) -> Vector:
        """log w_k p_k(x), `(n, K)`."""
        joint = np.empty((len(rows), len(parameters["weights"])))
        for k, weight in enumerate(parameters["weights"]):
            alone = Parameters({**parameters, "weights": np.eye(joint.shape[1])[k]})
            joint[:, k] = [math.log(weight) + self.log_density_by_definition(alone, row) for row in rows]
        return joint

    def test_the_log_density_is_the_one_by_definition(self) -> None:
        model, rows = self.model(), self.rows(40)
        expected = [self.log_density_by_definition(self.start(), row) for row in rows]
        np.testing.assert_allclose(model.log_prob(self.start(), rows), expected, rtol=1e-10, atol=1e-10)

    def test_the_log_likelihood_is_the_sum_of_log_densities(self) -> None:
        model, rows = self.model(), self.rows(1500)
        statistics = model.e_step(self.start(), rows)
        assert statistics[COUNT] == 1500
        np.testing.assert_allclose(statistics[LOG_LIKELIHOOD], model.log_prob(self.start(), rows).sum(), rtol=1e-12)

    def test_statistics_are_expectations_over_all_latent_states(self) -> None:
        """By brute force: each of K^n ways in which components can have made n rows, with its posterior probability."""
        model, at, rows = self.model(), self.start(), self.rows(5)
        joint = self.log_joint_by_definition(at, rows)
        n, n_components = joint.shape
        states = np.array(list(product(range(n_components), repeat=n)))
        logs = joint[np.arange(n), states].sum(axis=1)
        log_likelihood = logsumexp(logs)
        posterior = np.exp(logs - log_likelihood)
        of_row = [[self.statistics_by_definition(at, row, k) for k in range(n_components)] for row in rows]
        statistics = model.e_step(at, rows)
        expected: dict[str, ArrayLike] = {COUNT: n, LOG_LIKELIHOOD: log_likelihood}
        if ENTROPY in statistics.layout.offsets:
            expected[ENTROPY] = -xlogy(posterior, posterior).sum()
        for name in of_row[0][0]:
            of_states = [sum(np.asarray(of_row[i][k][name]) for i, k in enumerate(state)) for state in states]
            expected[name] = np.tensordot(posterior, np.array(of_states), axes=1)
        assert set(expected) == {block.name for block in statistics.layout}
        for name, value in expected.items():
            np.testing.assert_allclose(statistics[name], value, rtol=1e-9, atol=1e-9, err_msg=name)

    def test_a_weight_is_as_many_equal_rows(self) -> None:
        """And a weight of 0 a row that is not there."""
        model, rows, times = self.model(), self.rows(80), np.random.default_rng(0).integers(0, 4, 80)
        weighted = model.e_step(self.start(), Records(rows, times.astype(np.float64), weight_bound=3.0))
        repeated = model.e_step(self.start(), np.repeat(rows, times, axis=0))
        scale = np.abs(repeated.vector).max()
        np.testing.assert_allclose(weighted.vector, repeated.vector, rtol=1e-10, atol=1e-12 * scale)

    def test_a_label_deletes_the_components_that_it_does_not_name(self) -> None:
        """Rows of one label add what they add to the mixture without the others; all components named are no label at all."""
        model, rows, weights = self.model(), self.rows(80), self.start()["weights"]
        admissible = np.random.default_rng(0).random((80, len(weights))) < 0.5
        admissible[~admissible.any(axis=1)] = True
        labelled = model.e_step(self.start(), Records(rows, admissible=admissible))
        summed = Statistics.zero(model.layout())
        for label in np.unique(admissible, axis=0):
            fewer = Parameters({**self.start(), "weights": np.where(label, weights, 0.0)})
            summed = summed + model.e_step(fewer, rows[(admissible == label).all(axis=1)])
        scale = np.abs(summed.vector).max()
        np.testing.assert_allclose(labelled.vector, summed.vector, rtol=1e-10, atol=1e-12 * scale)

    def test_labels_of_another_number_of_components_are_refused(self) -> None:
        rows, n_components = self.rows(3), len(self.start()["weights"])
        with pytest.raises(CallerError, match="the labels are of"):
            self.model().e_step(self.start(), Records(rows, admissible=np.ones((3, n_components + 1), dtype=bool)))

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
        rows = self.rows_at_the_ends(column_bounds, n, np.random.default_rng(seed))
        layout = model.layout(column_bounds)
        statistics = model.e_step(self.start(), rows, layout)
        for block in layout:
            # Rounding may take an attained bound over it by some units in the last place.
            assert np.abs(statistics[block.name]).max() <= n * block.bound * (1 + 1e-12), block.name

    def test_sums_of_encoded_statistics_are_those_of_the_pool(self) -> None:
        """Of as many rows as the caps admit, at the ends of their columns: nothing overflows, and only rounding is lost."""
        model, caps = self.model(), (7, 40, 3)
        column_bounds = np.linspace(0.5, 2.5, model.n_columns)
        rows = self.rows_at_the_ends(column_bounds, sum(caps), np.random.default_rng(0))
        layout = model.layout(column_bounds)
        encoding = Encoding.proved(layout, caps)
        vector = encoding.ring.zeros(encoding.length)
        for tenant, part in enumerate(np.split(rows, np.cumsum(caps)[:-1])):
            vector += encoding.encode(model.e_step(self.start(), part, layout), tenant)
        decoded, pooled = encoding.decode(vector), model.e_step(self.start(), rows, layout)
        for block, bits in zip(layout, encoding.bits, strict=True):
            lost = len(caps) * 2.0 ** -(bits + 1) + 1e-12 * sum(caps) * block.bound
            np.testing.assert_allclose(decoded[block.name], pooled[block.name], rtol=0, atol=lost, err_msg=block.name)

    def test_more_rows_than_the_caps_admit_are_not_encoded(self) -> None:
        model, column_bounds = self.model(), np.ones(self.model().n_columns)
        layout = model.layout(column_bounds)
        statistics = model.e_step(
            self.start(), self.rows_at_the_ends(column_bounds, 9, np.random.default_rng(0)), layout
        )
        with pytest.raises(CallerError, match="'count' is beyond its declared bound"):
            Encoding.proved(layout, (8, 100)).encode(statistics, 0)

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
