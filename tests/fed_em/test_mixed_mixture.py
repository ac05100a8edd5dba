"""Mixtures over mixed columns: conformance, by definition, with held components and at their edges."""

from __future__ import annotations

import math
import threading
from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import bernoulli, beta, dirichlet, gamma, multivariate_normal, poisson

from fed_em import row_blocks
from fed_em.columns import BernoulliColumn, CategoricalColumn, ColumnSchema, GaussianColumn, PoissonColumn
from fed_em.covariance import COVARIANCE_STRUCTURES, CovarianceStructure, covariance_matrices
from fed_em.em import Stopping, Summed, fit
from fed_em.errors import CallerError, FedEmError
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.mixed_e_step import MixedEStep
from fed_em.mixed_mixture import MixedMixtureModel
from fed_em.mixed_priors import MixedMixturePrior
from fed_em.model import COUNT, LOG_LIKELIHOOD, ComponentModel
from fed_em.parameters import Parameters
from fed_em.priors import GaussianMixturePrior
from fed_em.records import Records
from fed_em.silence import held_entries, silence
from fed_em.statistics import Statistics
from fed_em.totals import IncrementalTotal, TotalOfRows
from fed_em_protocols.encoding import Encoding
from tests.fed_em.conformance import ModelConformance
from tests.fed_em.row_statistics import discrete_statistics, gaussian_statistics

Vector = NDArray[np.float64]

# Kinds in no order, so that places in a row and places among columns of a kind differ.
SCHEMA = ColumnSchema(
    (
        CategoricalColumn("colour", ("red", "green", "blue")),
        GaussianColumn("height"),
        PoissonColumn("visits", 60),
        BernoulliColumn("smoker"),
        GaussianColumn("weight"),
        CategoricalColumn("ward", ("north", "south")),
        BernoulliColumn("insured"),
    )
)
ITEMS = ColumnSchema(tuple(CategoricalColumn(f"item{d}", ("no", "perhaps", "yes")[: 2 + d % 2]) for d in range(5)))

PRIOR = MixedMixturePrior(
    GaussianMixturePrior((0.3, -0.1), (0.8, 1.2), mean_precision=0.6, degrees_of_freedom=5.0),
    weight_concentration=1.7,
    level_records=1.5,
    bernoulli_records=0.8,
    poisson_records=1.2,
    poisson_rates=(3.0,),
)
COVARIANCES: dict[CovarianceStructure, Vector] = {
    "full": np.array([[[1.0, 0.3], [0.3, 0.7]], [[0.8, -0.2], [-0.2, 1.1]]]),
    "tied": np.array([[1.0, 0.3], [0.3, 0.7]]),
    "diag": np.array([[1.0, 0.7], [0.8, 1.1]]),
    "spherical": np.array([0.9, 1.1]),
}


def mixed(structure: CovarianceStructure = "full", prior: MixedMixturePrior | None = None) -> MixedMixtureModel:
    return MixedMixtureModel(2, SCHEMA, structure, covariance_floor=0.0, prior=prior)


def parameters_of(structure: CovarianceStructure = "full") -> Parameters:
    return Parameters(
        {
            "weights": [0.4, 0.6],
            "means": [[1.8, 1.0], [-1.2, -0.8]],
            "covariances": COVARIANCES[structure],
            "level_probabilities": [[0.6, 0.3, 0.1, 0.8, 0.2], [0.15, 0.35, 0.5, 0.3, 0.7]],
            "success_probabilities": [[0.7, 0.4], [0.2, 0.9]],
            "rates": [[6.0], [2.0]],
        }
    )


def away(structure: CovarianceStructure = "full") -> Parameters:
    truth = parameters_of(structure)
    return Parameters(
        {
            "weights": [0.5, 0.5],
            "means": truth["means"] + [0.4, -0.5],
            "covariances": 1.6 * truth["covariances"],
            "level_probabilities": [[0.4, 0.3, 0.3, 0.6, 0.4], [0.3, 0.3, 0.4, 0.4, 0.6]],
            "success_probabilities": [[0.6, 0.5], [0.4, 0.6]],
            "rates": [[5.0], [3.0]],
        }
    )


def blanked(rows: Vector, share: float = 0.2, seed: int = 11) -> Vector:
    return np.where(np.random.default_rng(seed).random(rows.shape) < share, np.nan, rows)


def density_by_definition(model: MixedMixtureModel, parameters: Parameters, row: Vector, k: int) -> float:
    """The density of the observed cells of one row under component k, cell by cell."""
    schema, density = model.schema, 1.0
    cells = row[schema.gaussian]
    seen = np.flatnonzero(~np.isnan(cells))
    if len(seen):
        matrices = covariance_matrices(model.covariance, parameters["covariances"], parameters["means"])
        density *= multivariate_normal(parameters["means"][k, seen], matrices[k][np.ix_(seen, seen)]).pdf(cells[seen])
    for d, levels in zip(schema.categorical, schema.level_slices, strict=True):
        if not np.isnan(row[d]):
            density *= parameters["level_probabilities"][k, levels][int(row[d])]
    for j, d in enumerate(schema.bernoulli):
        if not np.isnan(row[d]):
            density *= bernoulli(parameters["success_probabilities"][k, j]).pmf(row[d])
    for j, d in enumerate(schema.poisson):
        if not np.isnan(row[d]):
            density *= poisson(parameters["rates"][k, j]).pmf(row[d])
    return float(density)


def cells_at_the_ends(schema: ColumnSchema, bounds: Vector, n: int, generator: np.random.Generator) -> Vector:
    """Complete rows `(n, D)` of the extreme values that the columns admit; bounds `(D,)`."""
    rows = np.empty((n, len(schema.columns)))
    for d, column in enumerate(schema.columns):
        match column:
            case GaussianColumn():
                rows[:, d] = generator.choice([-1.0, 1.0], n) * bounds[d]
            case CategoricalColumn():
                rows[:, d] = generator.integers(len(column.levels), size=n)
            case BernoulliColumn():
                rows[:, d] = generator.integers(2, size=n)
            case PoissonColumn():
                rows[:, d] = generator.choice([0.0, column.upper], n)
    return rows


class MixedConformance(ModelConformance):
    structure: CovarianceStructure = "full"
    prior: MixedMixturePrior | None = None
    missing: float = 0.2

    def model(self) -> MixedMixtureModel:
        return mixed(self.structure, self.prior)

    def truth(self) -> Parameters:
        return parameters_of(self.structure)

    def start(self) -> Parameters:
        return away(self.structure)

    def rows(self, n: int, seed: int = 7) -> Vector:
        return blanked(super().rows(n, seed), self.missing)

    def log_density_by_definition(self, parameters: Parameters, row: Vector) -> float:
        weights = parameters["weights"]
        return math.log(
            sum(weights[k] * density_by_definition(self.model(), parameters, row, k) for k in range(len(weights)))
        )

    def nearby(self, parameters: Parameters, generator: np.random.Generator, size: float) -> Parameters:
        arrays = {name: array + size * generator.standard_normal(array.shape) for name, array in parameters.items()}
        arrays["weights"] = np.abs(arrays["weights"]) / np.abs(arrays["weights"]).sum()
        if "covariances" in arrays and self.structure in ("full", "tied"):
            arrays["covariances"] = (arrays["covariances"] + np.swapaxes(arrays["covariances"], -1, -2)) / 2
        if "level_probabilities" in arrays:
            for levels in self.model().schema.level_slices:
                part = np.abs(arrays["level_probabilities"][:, levels])
                arrays["level_probabilities"][:, levels] = part / part.sum(axis=1, keepdims=True)
        return Parameters(arrays)

    def statistics_by_definition(self, parameters: Parameters, row: Vector, component: int) -> dict[str, Vector]:
        schema = self.model().schema
        sums = discrete_statistics(schema, row, component, len(parameters["weights"]))
        if not len(schema.gaussian):
            return sums
        return sums | gaussian_statistics(self.structure, parameters, row[schema.gaussian], component, missing=True)

    def rows_at_the_ends(self, column_bounds: Vector, n: int, generator: np.random.Generator) -> Vector:
        return cells_at_the_ends(self.model().schema, column_bounds, n, generator)

    def test_the_free_energy_at_the_parameters_of_the_e_step_is_the_log_likelihood(self) -> None:
        model, rows, at = self.model(), self.rows(300), self.start()
        statistics = model.e_step(at, rows)
        assert model.free_energy(statistics, at) == pytest.approx(model.log_prob(at, rows).sum(), rel=1e-11)

    def test_and_elsewhere_a_bound_from_below_that_the_m_step_raises(self) -> None:
        model, rows, at = self.model(), self.rows(300), self.start()
        statistics = model.e_step(at, rows)
        updated = model.m_step(statistics, at)
        before = model.free_energy(statistics, at) + model.log_prior(at)
        after = model.free_energy(statistics, updated) + model.log_prior(updated)
        assert before < after < model.log_prob(updated, rows).sum() + model.log_prior(updated)

    def test_it_is_a_component_model_that_says_which_blocks_are_per_component(self) -> None:
        model = self.model()
        assert isinstance(model, ComponentModel)
        of_components = [block.name for block in model.layout() if block.shape[:1] == (2,)]
        assert of_components == ["responsibilities", *model.component_blocks]


class TestComplete(MixedConformance):
    missing = 0.0


class TestFull(MixedConformance):
    structure = "full"


class TestTied(MixedConformance):
    structure = "tied"


class TestDiag(MixedConformance):
    structure = "diag"


class TestSpherical(MixedConformance):
    structure = "spherical"


class TestWithPrior(MixedConformance):
    prior = PRIOR


class TestTiedWithPrior(MixedConformance):
    structure = "tied"
    prior = PRIOR


class TestLatentClass(MixedConformance):
    def model(self) -> MixedMixtureModel:
        return MixedMixtureModel(2, ITEMS)

    def truth(self) -> Parameters:
        probabilities = [
            [0.8, 0.2, 0.1, 0.1, 0.8, 0.7, 0.3, 0.6, 0.3, 0.1, 0.9, 0.1],
            [0.2, 0.8, 0.5, 0.4, 0.1, 0.2, 0.8, 0.1, 0.2, 0.7, 0.25, 0.75],
        ]
        return Parameters({"weights": [0.35, 0.65], "level_probabilities": probabilities})

    def start(self) -> Parameters:
        truth = self.truth()["level_probabilities"]
        halfway = truth.copy()
        for levels in ITEMS.level_slices:
            halfway[:, levels] = (truth[:, levels] + truth[:, levels].mean(axis=1, keepdims=True)) / 2
        return Parameters({"weights": [0.5, 0.5], "level_probabilities": halfway})


class TestLatentClassWithPrior(TestLatentClass):
    def model(self) -> MixedMixtureModel:
        return MixedMixtureModel(2, ITEMS, prior=MixedMixturePrior(weight_concentration=1.5, level_records=1.0))


class TestStatistics:
    def test_they_are_those_by_definition(self) -> None:
        model, at = mixed(), away()
        rows = blanked(model.sample(parameters_of(), 60, np.random.default_rng(0))[0], 0.3)
        joint = np.array(
            [[at["weights"][k] * density_by_definition(model, at, row, k) for k in range(2)] for row in rows]
        )
        r = joint / joint.sum(axis=1, keepdims=True)
        statistics = model.e_step(at, rows)
        assert statistics[LOG_LIKELIHOOD] == pytest.approx(np.log(joint.sum(axis=1)).sum())
        visits, smoker, ward = rows[:, 2], rows[:, 3], rows[:, 5]
        np.testing.assert_allclose(statistics["events"][:, 0], r.T @ np.nan_to_num(visits))
        np.testing.assert_allclose(statistics["exposure"][:, 0], r.T @ ~np.isnan(visits))
        np.testing.assert_allclose(statistics["successes"][:, 0], r.T @ (smoker == 1))
        np.testing.assert_allclose(statistics["failures"][:, 0], r.T @ (smoker == 0))
        np.testing.assert_allclose(statistics["level_counts"][:, 4], r.T @ (ward == 1))

    @pytest.mark.parametrize("structure", COVARIANCE_STRUCTURES)
    def test_with_gaussian_columns_alone_it_is_a_gaussian_mixture(self, structure: CovarianceStructure) -> None:
        columns = ColumnSchema((GaussianColumn("a"), GaussianColumn("b")))
        gaussian_prior = GaussianMixturePrior((0.3, -0.1), (0.8, 1.2), 0.6, 5.0)
        ours = MixedMixtureModel(2, columns, structure, 1e-3, MixedMixturePrior(gaussian_prior))
        theirs = GaussianMixtureModel(2, 2, structure, 1e-3, gaussian_prior, missing=True)
        at = Parameters({name: parameters_of(structure)[name] for name in ("weights", "means", "covariances")})
        rows = blanked(theirs.sample(at, 200, np.random.default_rng(0))[0])
        mine, reference = ours.e_step(at, rows), theirs.e_step(at, rows)
        assert mine.layout == reference.layout
        np.testing.assert_allclose(mine.vector, reference.vector, rtol=1e-12)
        assert ours.m_step(mine, at).distance(theirs.m_step(reference, at)) < 1e-12
        assert ours.log_prior(at) == pytest.approx(theirs.log_prior(at))
        assert ours.n_free_parameters == theirs.n_free_parameters
        assert ours.free_energy(mine, at) == pytest.approx(theirs.free_energy(reference, at))

    def test_the_m_step_over_observed_cells_is_one_step_and_not_many(self) -> None:
        """One component: the means of the observed cells, at once."""
        schema = ColumnSchema((BernoulliColumn("b"), PoissonColumn("c", 9), CategoricalColumn("d", ("x", "y"))))
        model = MixedMixtureModel(1, schema)
        at = Parameters(
            {"weights": [1.0], "success_probabilities": [[0.5]], "rates": [[1.0]], "level_probabilities": [[0.5, 0.5]]}
        )
        n = np.nan
        rows = np.array([[1, 3, 1], [1, n, n], [0, 4, 0], [n, n, 1], [n, 8, n]], dtype=float)
        updated = model.m_step(model.e_step(at, rows), at)
        assert updated["success_probabilities"][0, 0] == pytest.approx(2 / 3)
        assert updated["rates"][0, 0] == pytest.approx(5.0)
        np.testing.assert_allclose(updated["level_probabilities"], [[1 / 3, 2 / 3]])

    def test_a_column_that_nobody_observed_keeps_its_parameters(self) -> None:
        model, at = mixed(), away()
        rows = model.sample(parameters_of(), 50, np.random.default_rng(0))[0]
        rows[:, [0, 2, 3]] = np.nan
        updated = model.m_step(model.e_step(at, rows), at)
        model.validate(updated)
        np.testing.assert_array_equal(updated["rates"], at["rates"])
        np.testing.assert_array_equal(updated["level_probabilities"][:, :3], at["level_probabilities"][:, :3])
        np.testing.assert_array_equal(updated["success_probabilities"][:, 0], at["success_probabilities"][:, 0])
        assert (updated["success_probabilities"][:, 1] != at["success_probabilities"][:, 1]).all()

    def test_available_case_means_of_counts_are_biased_and_these_are_not(self) -> None:
        """A count is missing more often in the component of high rates, which the other columns tell apart."""
        schema = ColumnSchema((GaussianColumn("x"), PoissonColumn("c", 100)))
        model, ours, available = MixedMixtureModel(2, schema, covariance_floor=0.0), [], []
        truth = Parameters(
            {
                "weights": [0.5, 0.5],
                "means": [[-2.0], [2.0]],
                "covariances": [[[1.0]], [[1.0]]],
                "rates": [[2.0], [9.0]],
            }
        )
        for seed in range(10):
            generator = np.random.default_rng(seed)
            rows = model.sample(truth, 2000, generator)[0]
            rows[generator.random(2000) < np.where(rows[:, 0] > 0, 0.7, 0.1), 1] = np.nan
            at = fit(model, TotalOfRows(model, rows), truth, Stopping(1e-10, 500)).parameters
            ours.append(float(at["weights"] @ at["rates"][:, 0]) - 5.5)
            available.append(float(np.nanmean(rows[:, 1])) - 5.5)
        assert abs(np.mean(available)) > 1.0
        assert abs(np.mean(ours)) < abs(np.mean(available)) / 5


class TestHeld:
    @pytest.mark.parametrize("structure", ["full", "tied"])
    @pytest.mark.parametrize("prior", [None, PRIOR], ids=["likelihood", "posterior"])
    @pytest.mark.parametrize("held", [held for n in (1, 2) for held in combinations(range(2), n)], ids=str)
    def test_the_m_step_is_held_and_reads_nothing_of_the_held(
        self, structure: CovarianceStructure, prior: MixedMixturePrior | None, held: tuple[int, ...]
    ) -> None:
        model, at = mixed(structure, prior), away(structure)
        statistics = model.e_step(at, blanked(model.sample(parameters_of(structure), 200, np.random.default_rng(1))[0]))
        updated = model.m_step(silence(model, statistics, held), at, held)
        model.validate(updated)
        expected = model.hold(at, model.m_step(statistics, at), held)
        for name in expected:
            np.testing.assert_allclose(updated[name], expected[name], rtol=1e-12)
            kept = slice(None) if name == "covariances" and structure == "tied" else list(held)
            if name != "weights":
                np.testing.assert_array_equal(updated[name][kept], at[name][kept])
        nonsense = Statistics(statistics.layout, statistics.vector.copy())
        nonsense.vector[held_entries(model, nonsense.layout, held)] = np.nan
        again = model.m_step(nonsense, at, held)
        assert all(again[name].tobytes() == updated[name].tobytes() for name in updated)

    def test_none_held_is_the_plain_m_step(self) -> None:
        model, at, after = mixed(), away(), parameters_of()
        assert model.hold(at, after, ()) is after
        with pytest.raises(CallerError, match="held"):
            model.hold(at, at, (2,))

    @pytest.mark.parametrize("structure", ["full", "tied"])
    def test_the_objective_never_falls_whoever_is_held(self, structure: CovarianceStructure) -> None:
        model = mixed(structure, PRIOR)
        rows = blanked(model.sample(parameters_of(structure), 200, np.random.default_rng(1))[0])
        held, sums = [(), (1,), (0,), (), (0, 1)], 0

        def total(parameters: Parameters) -> Summed:
            nonlocal sums
            sums += 1
            now = held[sums % len(held)]
            return Summed(silence(model, model.e_step(parameters, rows), now), held=now)

        run = fit(model, total, away(structure), Stopping(0.0, 50))
        assert np.diff([iteration.objective for iteration in run.iterations]).min() > -1e-12


class TestFederated:
    """What a federation does with these statistics: stale terms, and encoded sums."""

    @pytest.mark.parametrize("prior", [None, PRIOR], ids=["likelihood", "posterior"])
    def test_the_free_energy_never_falls_whoever_answers(self, prior: MixedMixturePrior | None) -> None:
        model, generator = mixed("full", prior), np.random.default_rng(2)
        rows = blanked(model.sample(parameters_of(), 300, np.random.default_rng(1))[0])
        parts = dict(zip("abc", np.array_split(rows, [40, 150]), strict=True))
        parts["b"] = Records(parts["b"], np.linspace(0.1, 1.0, 110))
        total = IncrementalTotal(
            model, parts, lambda number: "abc" if number == 1 else [c for c in "abc" if generator.random() < 0.5]
        )
        run = fit(model, total, away(), Stopping(0.0, 60))
        assert any(iteration.stale for iteration in run.iterations)
        assert np.diff([iteration.objective for iteration in run.iterations]).min() > -1e-11

    def test_encoded_sums_lead_to_the_pooled_m_step(self) -> None:
        model, at = mixed(), away()
        rows = blanked(model.sample(parameters_of(), 300, np.random.default_rng(1))[0])
        layout = model.layout(np.array([1.0, 8.0, 1.0, 1.0, 8.0, 1.0, 1.0]))
        encoding = Encoding.proved(layout, [100, 200])
        vectors = [
            encoding.encode(model.e_step(at, part, layout), j) for j, part in enumerate((rows[:100], rows[100:]))
        ]
        decoded = encoding.decode(vectors[0] + vectors[1])
        assert model.m_step(decoded, at).distance(model.m_step(model.e_step(at, rows), at)) < 1e-6

    def test_the_rounding_of_an_encoded_sum_of_nothing_moves_nothing(self) -> None:
        model, at = mixed(), away()
        statistics = model.e_step(at, model.sample(parameters_of(), 50, np.random.default_rng(0))[0])
        for name in ("events", "exposure", "successes", "failures", "level_counts"):
            statistics[name][0] = [1e-13, -1e-13][len(name) % 2]
        updated = model.m_step(statistics, at)
        model.validate(updated)
        for name in ("rates", "success_probabilities", "level_probabilities"):
            np.testing.assert_array_equal(updated[name][0], at[name][0])


class TestPrior:
    def test_the_log_density_is_scipys_up_to_a_constant(self) -> None:
        model, differences = mixed("full", PRIOR), []
        generator = np.random.default_rng(0)
        for _ in range(5):
            arrays = dict(parameters_of())
            arrays["weights"] = generator.dirichlet([1.0, 1.0])
            arrays["level_probabilities"] = np.concatenate(
                (generator.dirichlet([2.0] * 3, 2), generator.dirichlet([2.0] * 2, 2)), axis=1
            )
            arrays["success_probabilities"] = generator.uniform(0.1, 0.9, (2, 2))
            arrays["rates"] = generator.uniform(0.5, 8.0, (2, 1))
            expected = dirichlet([1.7, 1.7]).logpdf(arrays["weights"])
            for k in range(2):
                levels = arrays["level_probabilities"][k]
                expected += dirichlet([1.5] * 3).logpdf(levels[:3]) + dirichlet([1.75] * 2).logpdf(levels[3:])
                expected += beta(1.4, 1.4).logpdf(arrays["success_probabilities"][k]).sum()
                expected += gamma(1 + 1.2 * 3.0, scale=1 / 1.2).logpdf(arrays["rates"][k, 0])
            differences.append(model.log_prior(Parameters(arrays)) - expected)
        np.testing.assert_allclose(differences, differences[0], atol=1e-10)

    def test_the_modes_count_pseudo_records(self) -> None:
        schema = ColumnSchema((BernoulliColumn("b"), PoissonColumn("c", 9), CategoricalColumn("d", ("x", "y", "z"))))
        prior = MixedMixturePrior(None, 2.0, 1.0, 1.0, 1.0, (2.0,))
        model = MixedMixtureModel(1, schema, prior=prior)
        third = [1 / 3] * 3
        at = Parameters(
            {"weights": [1.0], "success_probabilities": [[0.5]], "rates": [[1.0]], "level_probabilities": [third]}
        )
        updated = model.m_step(model.e_step(at, np.array([[1.0, 4.0, 0.0], [1.0, 6.0, 0.0]])), at)
        assert updated["success_probabilities"][0, 0] == pytest.approx(2.5 / 3)
        assert updated["rates"][0, 0] == pytest.approx(12 / 3)
        np.testing.assert_allclose(updated["level_probabilities"][0], np.array([2 + 1 / 3, 1 / 3, 1 / 3]) / 3)

    def test_the_weak_default(self) -> None:
        prior = MixedMixturePrior.weakly_informative(SCHEMA, 4, np.arange(7.0), np.full(7, 2.0))
        assert prior.gaussian == GaussianMixturePrior.weakly_informative(4, [1.0, 4.0], [2.0, 2.0])
        assert prior == MixedMixturePrior(prior.gaussian, 1.25, 1.0, 1.0, 1.0, (2.0,))

    @pytest.mark.parametrize(
        ("fields", "named"),
        [
            ({"weight_concentration": 0.5}, "weight_concentration"),
            ({"level_records": -1.0}, "level_records"),
            ({"poisson_rates": [-1.0]}, "rate of a Poisson"),
            ({"poisson_rates": 3.0}, "poisson_rates"),
            ({"gaussian": {"mean": [0.0]}}, "lacks 'scale'"),
            ({"levels_records": 1.0}, "levels_records"),
            ({"gaussian": {**GaussianMixturePrior((0.0,), (1.0,), 1.0, 3.0, 2.0).describe()}}, "of its own"),
        ],
    )
    def test_a_value_out_of_range_is_named(self, fields: dict[str, object], named: str) -> None:
        with pytest.raises(CallerError, match=named):
            MixedMixturePrior.from_description(fields)

    def test_it_must_fit_the_schema(self) -> None:
        with pytest.raises(CallerError, match="1 Gaussian columns, the schema 2"):
            MixedMixtureModel(2, SCHEMA, prior=MixedMixturePrior(GaussianMixturePrior((0.0,), (1.0,), 1.0, 3.0)))
        with pytest.raises(CallerError, match="rates of 0 Poisson"):
            MixedMixtureModel(2, SCHEMA, prior=MixedMixturePrior(poisson_records=1.0))


class TestEdges:
    @pytest.mark.parametrize(
        ("column", "value", "name"),
        [(0, 3.0, "colour"), (0, 0.5, "colour"), (1, np.inf, "height"), (2, -1.0, "visits"), (2, 1.5, "visits"), (3, 2.0, "smoker")],
    )  # fmt: skip
    def test_cells_that_do_not_fit_are_counted_by_column_and_never_quoted(
        self, column: int, value: float, name: str
    ) -> None:
        rows = mixed().sample(parameters_of(), 30, np.random.default_rng(0))[0]
        rows[[3, 8], column] = value
        for evaluate in (mixed().e_step, mixed().log_prob, mixed().responsibilities):
            with pytest.raises(CallerError, match=f"2 values of column '{name}'"):
                evaluate(parameters_of(), rows)

    def test_a_row_that_no_component_can_show_is_an_error(self) -> None:
        at = Parameters({**parameters_of(), "success_probabilities": [[0.0, 0.4], [0.0, 0.9]]})
        row = mixed().sample(parameters_of(), 1, np.random.default_rng(0))[0]
        row[0, 3] = 1.0
        with pytest.raises(FedEmError, match="no component can show") as caught:
            mixed().e_step(at, row)
        assert "prior" in caught.value.remedy
        row[0, 3] = np.nan
        assert np.isfinite(mixed().log_prob(at, row)).all()

    def test_probabilities_of_zero_and_one_are_exact(self) -> None:
        at = Parameters({**parameters_of(), "success_probabilities": [[1.0, 0.4], [0.0, 0.9]], "rates": [[0.0], [2.0]]})
        mixed().validate(at)
        row = mixed().sample(parameters_of(), 1, np.random.default_rng(0))[0]
        row[0, 3], row[0, 2] = 0.0, 4.0
        np.testing.assert_array_equal(mixed().responsibilities(at, row), [[0.0, 1.0]])
        statistics = mixed().e_step(at, row)
        assert mixed().free_energy(statistics, at) == pytest.approx(float(statistics[LOG_LIKELIHOOD]))

    @pytest.mark.parametrize(
        ("change", "named"),
        [
            ({"level_probabilities": np.full((2, 5), 0.3)}, "level_probabilities"),
            ({"success_probabilities": np.full((2, 2), 1.1)}, "success_probabilities"),
            ({"rates": np.full((2, 1), -0.1)}, "rates"),
            ({"weights": np.array([0.5, 0.6])}, "weights"),
            ({"covariances": -COVARIANCES["full"]}, "covariances"),
        ],
    )
    def test_inadmissible_parameters_are_named(self, change: dict[str, Vector], named: str) -> None:
        with pytest.raises(CallerError, match=named):
            mixed().validate(Parameters({**parameters_of(), **change}))

    def test_bounds_are_of_the_schema_and_of_gaussian_ranges(self) -> None:
        layout = mixed().layout(np.array([9.0, 2.0, 9.0, 9.0, 0.5, 9.0, 9.0]))
        bounds = {block.name: block.bound for block in layout}
        assert (bounds["first"], bounds["second"]) == (36.0, 36.0**2)
        assert layout["first"].source == "column 'height'"
        assert (bounds["level_counts"], bounds["successes"], bounds["failures"], bounds["exposure"]) == (1, 1, 1, 1)
        assert bounds["events"] == 60.0
        assert layout["events"].source == "column 'visits'"
        assert bounds["log_factorials"] == pytest.approx(math.lgamma(61))
        with pytest.raises(CallerError, match="'weight'"):
            mixed().layout(np.array([1.0, 1.0, 1.0, 1.0, 0.0, 1.0, 1.0]))
        mixed().layout(np.array([0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0]))

    def test_free_parameters_are_counted(self) -> None:
        assert mixed().n_free_parameters == 1 + 2 * 2 + 2 * 3 + 2 * (2 + 1) + 2 * 2 + 2
        assert MixedMixtureModel(2, ITEMS).n_free_parameters == 1 + 2 * (1 + 2 + 1 + 2 + 1)

    def test_no_record_has_no_maximum(self) -> None:
        with pytest.raises(CallerError, match="no record"):
            mixed().m_step(Statistics.zero(mixed().layout()), parameters_of())

    def test_wide_tables_are_treated_in_parts(self) -> None:
        """More rows than one block holds give the statistics of their parts."""
        rows = blanked(mixed().sample(parameters_of(), 90_000, np.random.default_rng(0))[0], 0.1)
        whole = mixed().e_step(away(), rows)
        parts = mixed().e_step(away(), rows[:70_000]) + mixed().e_step(away(), rows[70_000:])
        np.testing.assert_allclose(whole.vector, parts.vector, rtol=1e-10)
        assert whole[COUNT] == 90_000


@pytest.mark.parametrize("structure", [*COVARIANCE_STRUCTURES, None], ids=str)
def test_the_number_of_threads_changes_no_bit(
    structure: CovarianceStructure | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_blocks, "_MEMORY_ENTRIES", 1)  # blocks of 256 rows
    monkeypatch.setattr(row_blocks, "_CACHE_ENTRIES", 1)  # and of 216
    monkeypatch.setattr(row_blocks, "_BLOCKS_IN_SEGMENT", 1)
    generator = np.random.default_rng(4)
    model = mixed(structure) if structure else TestLatentClass().model()
    at = parameters_of(structure) if structure else TestLatentClass().truth()
    rows = model.sample(at, 2000, generator)[0]
    rows[generator.random(rows.shape) < 0.2] = np.nan
    records = Records(rows, generator.random(2000))
    found, threads_seen = [], set[int]()
    joint = MixedEStep._write_joint
    monkeypatch.setattr(MixedEStep, "_write_joint", lambda *all: threads_seen.add(threading.get_ident()) or joint(*all))
    for threads in (1, 2, 5):
        with row_blocks.use_threads(threads):
            arrays = model.e_step(at, records).vector, model.responsibilities(at, rows), model.log_prob(at, rows)
        found.append([each.tobytes() for each in arrays])
    assert found[0] == found[1] == found[2]
    assert len(threads_seen) > 2


def test_wrong_cells_of_all_blocks_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_blocks, "_MEMORY_ENTRIES", 1)
    rows = mixed().sample(parameters_of(), 2000, np.random.default_rng(5))[0]
    rows[[3, 700, 1999], 0] = 9
    with row_blocks.use_threads(2), pytest.raises(CallerError, match="3 values of column 'colour'"):
        mixed().e_step(parameters_of(), rows)
