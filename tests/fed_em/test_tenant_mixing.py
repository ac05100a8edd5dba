"""Mixing weights of each tenant's own: what is summed, what rises, what is refused."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fed_em.chart import ChartedModel
from fed_em.columns import ColumnSchema, GaussianColumn
from fed_em.coordinates import Coordinates
from fed_em.covariance import COVARIANCE_STRUCTURES, CovarianceStructure
from fed_em.em import Stopping, fit
from fed_em.errors import CallerError
from fed_em.families import build_model
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.layout import Layout
from fed_em.mixed_mixture import MixedMixtureModel
from fed_em.model import LOCAL_LOG_PRIOR, LOG_LIKELIHOOD, ComponentModel, Model, Rows
from fed_em.optimiser import OPTIMISERS, PlainEM, optimiser_for
from fed_em.parameters import Parameters
from fed_em.priors import GaussianMixturePrior
from fed_em.records import Records
from fed_em.row_stream import TotalOfStream
from fed_em.starts import best_starts
from fed_em.statistics import Statistics
from fed_em.table_files import open_table
from fed_em.tenant_mixing import MIXING, TenantMixing, at_home, e_step_at_home, has_own_weights
from fed_em.totals import IncrementalTotal, TotalOfRows
from tests.fed_em.mixtures import COVARIANCES, MEANS, log_joint, mixture, parameters_of
from tests.fed_em.own_weights import gains
from tests.fed_em.test_increments import NAMES, heterogeneous
from tests.fed_em.test_mixed_mixture import SCHEMA, blanked, mixed
from tests.fed_em.test_mixed_mixture import parameters_of as mixed_parameters_of

Vector = NDArray[np.float64]

PRIOR = GaussianMixturePrior((0.5, -0.2), (0.6, 1.1), mean_precision=0.7, degrees_of_freedom=5.0)


def own(
    structure: CovarianceStructure = "full", records: float = 1.0, prior: GaussianMixturePrior | None = None
) -> GaussianMixtureModel:
    return GaussianMixtureModel(3, 2, structure, covariance_floor=0.0, prior=prior, mixing=TenantMixing(records))


def mixed_own(records: float = 1.0) -> MixedMixtureModel:
    base = mixed()
    return MixedMixtureModel(
        base.n_components, SCHEMA, base.covariance, base.covariance_floor, base.prior, TenantMixing(records)
    )


def objective_by_definition(model: GaussianMixtureModel, parameters: Parameters, parts: Collection[Vector]) -> float:
    """ℓ(θ), with the best weights by many iterations of EM over the weights alone."""
    assert model.mixing is not None
    total, a = model.log_prior(parameters), model.mixing.records
    equal = Parameters({**parameters, "weights": np.full(3, 1 / 3)})
    for rows in parts:
        log_densities = log_joint(model, equal, rows) + np.log(3)
        densities, weights = np.exp(log_densities), np.full(3, 1 / 3)
        for _ in range(3000):
            shares = densities * weights
            shares /= shares.sum(axis=1, keepdims=True)
            weights = (shares.sum(axis=0) + a / 3) / (len(rows) + a)
        total += float(np.log(densities @ weights).sum()) + a / 3 * float(np.log(weights).sum())
    return total


@pytest.mark.parametrize("structure", COVARIANCE_STRUCTURES)
def test_the_sum_is_the_e_step_at_the_weights_of_the_rows(structure: CovarianceStructure) -> None:
    model, rows, parameters = own(structure), heterogeneous(40)["east"], parameters_of(structure)
    home = at_home(model, parameters, rows)
    assert abs(home["weights"] - [0.1, 0.8, 0.1]).max() < 0.25
    for name in ("means", "covariances"):
        np.testing.assert_array_equal(home[name], parameters[name])
    ours, theirs = model.e_step(parameters, rows), model.with_shared_weights.e_step(home, rows)
    for block in theirs.layout:
        np.testing.assert_array_equal(ours[block.name], theirs[block.name])
    # π is best: the responsibilities and the pseudo-records give it back.
    np.testing.assert_allclose((ours["responsibilities"] + 1 / 3) / (40 + 1), home["weights"], atol=1e-5)
    np.testing.assert_allclose(ours[MIXING], ours["responsibilities"] @ np.log(home["weights"]), rtol=1e-12)
    np.testing.assert_allclose(ours[LOCAL_LOG_PRIOR], np.log(home["weights"]).sum() / 3, rtol=1e-12)


def test_it_is_a_function_of_rows_and_parameters_alone() -> None:
    """Not of the shared weights, nor of what was computed before: what was lost is computed again, bit for bit."""
    model, rows, parameters = own(), heterogeneous(40)["south"], parameters_of("full")
    first = model.e_step(parameters, rows)
    model.e_step(parameters_of("full", spread=0.3), heterogeneous(40)["north"])
    other = Parameters({**parameters, "weights": [0.98, 0.01, 0.01]})
    assert own().e_step(other, rows.copy()).vector.tobytes() == first.vector.tobytes()


def test_the_objective_is_the_likelihood_at_the_best_weights() -> None:
    model, parts, at = own("full", 1.5, PRIOR), heterogeneous(30), parameters_of("full")
    run = fit(model, IncrementalTotal(model, parts, lambda _: NAMES), at, Stopping(0.0, 1))
    iteration = run.iterations[0]
    np.testing.assert_allclose(
        iteration.objective * iteration.records, objective_by_definition(model, at, parts.values()), rtol=1e-9
    )
    expected = sum(model.log_prob(at_home(model, at, rows), rows).sum() for rows in parts.values())
    np.testing.assert_allclose(iteration.log_likelihood * iteration.records, expected, rtol=1e-12)


patterns = st.lists(st.frozensets(st.sampled_from(NAMES)), min_size=1, max_size=10)


@pytest.mark.parametrize("prior", [None, PRIOR], ids=["likelihood", "posterior"])
@pytest.mark.parametrize("structure", COVARIANCE_STRUCTURES)
@given(pattern=patterns, records=st.sampled_from([0.0, 1.0, 20.0]))
@settings(max_examples=10, deadline=None)
def test_the_objective_never_falls_whoever_answers(
    structure: CovarianceStructure, prior: GaussianMixturePrior | None, pattern: list[frozenset[str]], records: float
) -> None:
    model, parts, start = own(structure, records, prior), heterogeneous(12), parameters_of(structure, spread=0.6)
    answering = [frozenset(NAMES), *pattern]
    run = fit(model, IncrementalTotal(model, parts, lambda n: answering[n - 1]), start, Stopping(0.0, len(answering)))
    assert np.diff([iteration.objective for iteration in run.iterations]).min(initial=0.0) > -1e-8


def test_mixed_objectives_never_fall_either() -> None:
    model, generator = mixed_own(), np.random.default_rng(2)
    truth = mixed_parameters_of()
    shares = ([0.95, 0.05], [0.3, 0.7], [0.05, 0.95])
    parts = {
        name: blanked(model.sample(Parameters({**truth, "weights": weights}), 80, generator)[0])
        for name, weights in zip("abc", shares, strict=True)
    }
    answering = [("a", "b", "c"), ("a", "b"), ("b", "c"), ("a",)] * 6
    run = fit(model, IncrementalTotal(model, parts, lambda n: answering[n - 1]), truth, Stopping(0.0, 24))
    assert np.diff([iteration.objective for iteration in run.iterations]).min() > -1e-8
    found = [at_home(model, run.parameters, rows)["weights"][0] for rows in parts.values()]
    assert found[0] > 0.8 and found[2] < 0.2


def test_the_free_energy_of_fresh_terms_is_the_log_likelihood() -> None:
    for model, rows, at in (
        (own(records=0.5), heterogeneous(30)["north"], parameters_of("full")),
        (
            mixed_own(),
            blanked(mixed().sample(mixed_parameters_of(), 90, np.random.default_rng(1))[0]),
            mixed_parameters_of(),
        ),
    ):
        statistics = model.e_step(at, rows)
        np.testing.assert_allclose(model.free_energy(statistics, at), float(statistics[LOG_LIKELIHOOD]), rtol=1e-10)


def test_one_tenant_ends_where_shared_weights_do() -> None:
    rows, start = np.concatenate(list(heterogeneous(60).values())), parameters_of("full", spread=0.8)
    ours = fit(own(records=0.0), TotalOfRows(own(records=0.0), rows), start, Stopping(1e-12, 2000))
    theirs = fit(mixture("full"), TotalOfRows(mixture("full"), rows), start, Stopping(1e-12, 2000))
    assert ours.parameters.distance(theirs.parameters) < 1e-4
    assert len(ours.iterations) <= len(theirs.iterations)


@pytest.mark.slow
@pytest.mark.parametrize(("concentration", "at_least"), [(0.3, 0.25), (0.05, 0.55)])
def test_rows_that_nobody_trained_on_are_likelier_at_their_tenants_weights(
    concentration: float, at_least: float
) -> None:
    """Nearly all that the true weights of the tenants say is gained; seeded, so there is no false alarm."""
    found = gains(concentration, seed=0)
    assert found.fitted > at_least
    assert abs(found.fitted - found.truth) < 0.08


class TestWhatATenantMayHold:
    def test_no_rows_at_all(self) -> None:
        model = own(records=2.0)
        statistics = model.e_step(parameters_of("full"), np.empty((0, 2)))
        np.testing.assert_allclose(at_home(model, parameters_of("full"), np.empty((0, 2)))["weights"], 1 / 3)
        np.testing.assert_allclose(statistics[LOCAL_LOG_PRIOR], -2 * np.log(3))
        assert float(statistics[MIXING]) == 0.0

    def test_weights_count_as_rows_do(self) -> None:
        model, rows = own(), heterogeneous(10)["west"]
        counts = np.arange(len(rows), dtype=np.float64) % 3
        ours = model.e_step(parameters_of("full"), Records(rows, counts, weight_bound=2.0))
        theirs = model.e_step(parameters_of("full"), np.repeat(rows, counts.astype(int), axis=0))
        np.testing.assert_allclose(ours.vector, theirs.vector, rtol=1e-6, atol=1e-6)

    def test_labels_are_obeyed(self) -> None:
        model, rows = own(records=0.0), heterogeneous(10)["north"]
        admissible = np.tile([False, True, True], (len(rows), 1))
        home = at_home(model, parameters_of("full"), Records(rows, admissible=admissible))
        assert home["weights"][0] < 1e-9

    def test_missing_cells(self) -> None:
        model = GaussianMixtureModel(3, 2, missing=True, mixing=TenantMixing())
        rows = heterogeneous(20)["east"].copy()
        rows[::3, 1] = np.nan
        statistics = model.e_step(parameters_of("full"), rows)
        free = model.free_energy(statistics, parameters_of("full"))
        np.testing.assert_allclose(free, float(statistics[LOG_LIKELIHOOD]), rtol=1e-10)

    @given(n=st.integers(0, 30), n_components=st.integers(1, 3), records=st.sampled_from([0.0, 1e-6, 1.0, 100.0]))
    @settings(max_examples=60, deadline=None)
    def test_the_bounds_hold(self, n: int, n_components: int, records: float) -> None:
        model = GaussianMixtureModel(n_components, 2, mixing=TenantMixing(records))
        at = Parameters(
            {
                "weights": np.full(n_components, 1 / n_components),
                "means": MEANS[:n_components],
                "covariances": COVARIANCES["full"][:n_components],
            }
        )
        rows = np.tile(MEANS[:1], (n, 1)) + np.random.default_rng(n).normal(0, 0.1, (n, 2))
        statistics = model.e_step(at, rows)
        for name in (MIXING, LOCAL_LOG_PRIOR):
            assert abs(float(statistics[name])) <= max(n, 1) * model.layout()[name].bound


class TestDescription:
    @pytest.mark.parametrize("model", [own(), own("diag", 0.0, PRIOR), mixed_own(2.5)])
    def test_it_comes_back(self, model: ComponentModel) -> None:
        assert build_model(model.describe()) == model
        assert has_own_weights(model) and model.describe()["mixing"] == "tenant"

    def test_shared_weights_are_described_as_before(self) -> None:
        described = mixture("full").describe()
        assert "mixing" not in described
        assert build_model({**described, "mixing": "shared"}) == mixture("full")
        assert build_model({**described, "mixing": "tenant"}) == own()

    @pytest.mark.parametrize(
        ("fields", "complaint"),
        [
            ({"mixing": "tennant"}, "no mixing 'tennant'.*'tenant'"),
            ({"mixing_records": 1.0}, "tenants' own weights"),
            ({"mixing": "tenant", "mixing_records": -1.0}, "mixing_records"),
            ({"mixing": "tenant", "mixing_records": "one"}, "mixing_records"),
            ({"mixing": "tenant", "prior": {**PRIOR.describe(), "weight_concentration": 2.0}}, "weight_concentration"),
        ],
    )
    def test_what_is_wrong_is_named(self, fields: dict[str, Any], complaint: str) -> None:
        with pytest.raises(CallerError, match=complaint):
            build_model({**mixture("full").describe(), **fields})

    def test_shared_parameters_are_as_they_are(self) -> None:
        at = parameters_of("full")
        assert at_home(mixture("full"), at, np.zeros((3, 2))) is at
        assert not has_own_weights(mixture("full"))

    def test_the_blocks_are_the_last_of_the_layout(self) -> None:
        names = [block.name for block in own().layout()]
        assert names[-2:] == [MIXING, LOCAL_LOG_PRIOR]
        assert Statistics.zero(mixed_own().layout()).layout[MIXING].bound > 0


class TestNoOptimiser:
    @pytest.mark.parametrize("model", [own(), mixed_own()], ids=["gaussian", "mixed"])
    def test_own_weights_are_fitted_by_plain_em(self, model: ChartedModel) -> None:
        for name in OPTIMISERS:
            assert optimiser_for(name, model) == PlainEM()
        start = parameters_of("full") if isinstance(model, GaussianMixtureModel) else mixed_parameters_of()
        with pytest.raises(CallerError, match="no coordinates of the model"):
            model.chart(start)


class TestInParts:
    """Own weights are of all rows of a tenant, so neither a block nor a shard has any."""

    def test_a_sum_in_parts_is_the_e_step_of_all(self) -> None:
        model, rows, parameters = own("diag", 2.0), heterogeneous(50)["west"], parameters_of("diag")

        def in_parts(shared: Model, there: Parameters, records: Rows | Records, layout: Layout) -> Statistics:
            parts = (shared.e_step(there, records[part], layout) for part in (slice(20), slice(20, None)))
            return sum(parts, start=Statistics.zero(layout))

        bounds = model.layout(np.array([9.0, 9.0]))
        summed = e_step_at_home(model, parameters, rows, bounds, in_parts)
        assert summed.layout == bounds
        np.testing.assert_allclose(summed.vector, model.e_step(parameters, rows).vector, rtol=1e-11)

    def test_a_table_that_is_read_in_blocks_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "rows.csv").write_text("a,b\n1,2\n3,4\n")
        stream = open_table(tmp_path / "rows.csv").rows(ColumnSchema((GaussianColumn("a"), GaussianColumn("b"))))
        with pytest.raises(CallerError, match="read the table into memory"):
            TotalOfStream(own(), Coordinates(np.zeros(2), np.ones(2)), stream)


def test_many_starts_are_found_with_shared_weights() -> None:
    rows = np.concatenate(list(heterogeneous(30).values()))
    moments = Parameters({"weights": [1.0], "means": rows.mean(axis=0)[None], "covariances": np.cov(rows.T)[None]})
    starts = [
        best_starts([model], lambda candidates: TotalOfRows(candidates, rows), moments, 0, n_starts=2)[0]
        for model in (own(), own().with_shared_weights)
    ]
    assert starts[0].objectives == starts[1].objectives
