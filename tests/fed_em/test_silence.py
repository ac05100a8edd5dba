"""Held components: their moments are silenced, what these would move stays, and the rest of EM goes on around it."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fed_em.covariance import COVARIANCE_STRUCTURES, CovarianceStructure
from fed_em.em import Stopping, Summed, Total, fit
from fed_em.errors import CallerError, FedEmError
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.model import ComponentModel, Model
from fed_em.parameters import Parameters
from fed_em.priors import GaussianMixturePrior
from fed_em.silence import held_entries, silence
from fed_em.statistics import Statistics
from tests.fed_em.mixtures import PRIOR, expected_log_joint, mixture, parameters_of

Vector = NDArray[np.float64]

EVERY_STRUCTURE = pytest.mark.parametrize("structure", COVARIANCE_STRUCTURES)
EVERY_PRIOR = pytest.mark.parametrize("prior", [None, PRIOR], ids=["likelihood", "posterior"])
SOME_HELD = [held for size in (1, 2) for held in combinations(range(3), size)]
EVERY_HELD = pytest.mark.parametrize("held", SOME_HELD, ids=str)

# The moments of a component. How much it holds is opened by the counts anyway.
MOMENTS = ("first", "second")


def rows_of(structure: CovarianceStructure, n: int = 120) -> Vector:
    return mixture(structure).sample(parameters_of(structure), n, np.random.default_rng(3))[0]


def start_of(structure: CovarianceStructure) -> Parameters:
    return parameters_of(structure, spread=0.7)


def same_bits(left: Vector, right: Vector) -> bool:
    return left.tobytes() == right.tobytes()


class TestSilence:
    @EVERY_STRUCTURE
    @pytest.mark.parametrize("held", [(), *SOME_HELD, (0, 1, 2)], ids=str)
    def test_entries_of_held_components_are_zero_and_all_others_untouched(
        self, structure: CovarianceStructure, held: tuple[int, ...]
    ) -> None:
        model = mixture(structure)
        statistics = model.e_step(start_of(structure), rows_of(structure))
        before = statistics.vector.copy()
        silent = silence(model, statistics, held)
        assert statistics.vector.tobytes() == before.tobytes()
        assert silent.layout == statistics.layout
        for block in statistics.layout:
            if block.name not in MOMENTS:
                assert same_bits(silent[block.name], statistics[block.name])
                continue
            for k in range(3):
                expected = np.zeros(block.shape[1:]) if k in held else statistics[block.name][k]
                assert same_bits(silent[block.name][k], expected)

    @given(k=st.integers(1, 6), d=st.integers(1, 4), data=st.data())
    def test_the_places_are_those_of_the_blocks(self, k: int, d: int, data: st.DataObject) -> None:
        model = GaussianMixtureModel(k, d, data.draw(st.sampled_from(COVARIANCE_STRUCTURES)))
        held = tuple(sorted(data.draw(st.frozensets(st.integers(0, k - 1)))))
        layout = model.layout()
        marked = Statistics(layout, np.arange(float(layout.size)))
        expected = sorted(place for name in MOMENTS for j in held for place in marked[name][j].ravel().tolist())
        assert held_entries(model, layout, held).tolist() == expected

    def test_a_mixture_says_which_blocks_are_per_component(self) -> None:
        model = mixture("full")
        assert isinstance(model, ComponentModel)
        assert model.component_blocks == MOMENTS
        assert [b.name for b in model.layout() if b.shape[:1] == (3,)] == ["responsibilities", *MOMENTS]

    def test_values_that_are_not_numbers_are_silenced_too(self) -> None:
        model = mixture("full")
        statistics = Statistics(model.layout(), np.full(model.layout().size, np.nan))
        assert same_bits(silence(model, statistics, (1,))["first"][1], np.zeros(2))

    @pytest.mark.parametrize("held", [(3,), (-1,), (1, 1), (2, 0)], ids=str)
    def test_only_components_of_the_model_once_each_in_order(self, held: tuple[int, ...]) -> None:
        model, at = mixture("full"), start_of("full")
        statistics = model.e_step(at, rows_of("full"))
        with pytest.raises(CallerError, match="held"):
            silence(model, statistics, held)
        with pytest.raises(CallerError, match="held"):
            model.m_step(statistics, at, held)
        with pytest.raises(CallerError, match="held"):
            model.hold(at, at, held)

    def test_statistics_of_another_model_are_refused(self) -> None:
        statistics = Statistics.zero(mixture("full", n_components=2).layout())
        with pytest.raises(CallerError, match="2 components, the model of 3"):
            silence(mixture("full"), statistics, (0,))


class TestHold:
    @EVERY_STRUCTURE
    @EVERY_HELD
    def test_moments_of_held_components_move_nothing_and_weights_all(
        self, structure: CovarianceStructure, held: tuple[int, ...]
    ) -> None:
        model, before, after = mixture(structure), start_of(structure), parameters_of(structure, spread=1.3)
        after = Parameters({**after, "weights": [0.2, 0.7, 0.1], "covariances": 1.7 * after["covariances"]})
        result = model.hold(before, after, held)
        for k in range(3):
            side = before if k in held else after
            assert same_bits(result["means"][k], side["means"][k])
            if structure != "tied":
                assert same_bits(result["covariances"][k], side["covariances"][k])
        if structure == "tied":
            assert same_bits(result["covariances"], before["covariances"])
        assert same_bits(result["weights"], after["weights"])
        model.validate(result)

    @EVERY_STRUCTURE
    def test_none_and_all(self, structure: CovarianceStructure) -> None:
        model, before, after = mixture(structure), start_of(structure), parameters_of(structure, spread=2.0)
        assert model.hold(before, after, ()) is after
        after = Parameters({**after, "weights": [0.2, 0.7, 0.1]})
        all_held = model.hold(before, after, (0, 1, 2))
        assert same_bits(all_held["weights"], after["weights"])
        assert all(same_bits(all_held[name], before[name]) for name in ("means", "covariances"))


class TestMStep:
    @EVERY_STRUCTURE
    @EVERY_PRIOR
    @EVERY_HELD
    def test_it_is_the_m_step_then_held(
        self, structure: CovarianceStructure, prior: GaussianMixturePrior | None, held: tuple[int, ...]
    ) -> None:
        model, at = mixture(structure, prior), start_of(structure)
        statistics = model.e_step(at, rows_of(structure))
        updated = model.m_step(silence(model, statistics, held), at, held)
        model.validate(updated)
        expected = model.hold(at, model.m_step(statistics, at), held)
        for name in expected:
            np.testing.assert_allclose(updated[name], expected[name], rtol=1e-12)

    @EVERY_STRUCTURE
    @EVERY_PRIOR
    @EVERY_HELD
    def test_nothing_nearby_is_better_with_held_ones_fixed(
        self, structure: CovarianceStructure, prior: GaussianMixturePrior | None, held: tuple[int, ...]
    ) -> None:
        """Brute force: it maximises the expected log joint density of everything plus the log prior."""
        model, at, rows = mixture(structure, prior), start_of(structure), rows_of(structure, 40)
        r = model.responsibilities(at, rows)
        best = model.m_step(model.e_step(at, rows), at, held)

        def value(parameters: Parameters) -> float:
            return expected_log_joint(model, parameters, r, rows, range(3)) + model.log_prior(parameters)

        generator, top = np.random.default_rng(0), value(best)
        for _ in range(40):
            noise = 1e-3 * generator.standard_normal(best["covariances"].shape)
            if structure in ("full", "tied"):
                noise = noise + np.swapaxes(noise, -1, -2)
            weights = best["weights"] * np.exp(1e-3 * generator.standard_normal(3))
            moved = {
                "weights": weights / weights.sum(),
                "means": best["means"] + 1e-3 * generator.standard_normal((3, 2)),
                "covariances": best["covariances"] + noise,
            }
            assert value(model.hold(at, Parameters(moved), held)) < top

    @EVERY_STRUCTURE
    @EVERY_PRIOR
    def test_what_is_said_of_held_components_is_not_read(
        self, structure: CovarianceStructure, prior: GaussianMixturePrior | None
    ) -> None:
        model, at = mixture(structure, prior), start_of(structure)
        statistics = model.e_step(at, rows_of(structure))
        silent = model.m_step(silence(model, statistics, (0, 2)), at, (0, 2))
        nonsense = Statistics(statistics.layout, statistics.vector.copy())
        nonsense.vector[held_entries(model, nonsense.layout, (0, 2))] = np.nan
        for other in (statistics, nonsense):
            updated = model.m_step(other, at, (0, 2))
            assert all(same_bits(updated[name], silent[name]) for name in silent)

    @EVERY_STRUCTURE
    @EVERY_PRIOR
    def test_all_held_moves_the_weights_alone(
        self, structure: CovarianceStructure, prior: GaussianMixturePrior | None
    ) -> None:
        for n_components in (1, 3):
            model = mixture(structure, prior, n_components)
            at = parameters_of(structure, n_components)
            held = tuple(range(n_components))
            statistics = model.e_step(at, rows_of(structure))
            updated = model.m_step(silence(model, statistics, held), at, held)
            assert all(same_bits(updated[name], at[name]) for name in ("means", "covariances"))
            assert same_bits(updated["weights"], model.m_step(statistics, at)["weights"])

    @EVERY_STRUCTURE
    def test_none_held_is_the_plain_m_step(self, structure: CovarianceStructure) -> None:
        model, at = mixture(structure), start_of(structure)
        statistics = model.e_step(at, rows_of(structure))
        plain, none = model.m_step(statistics, at), model.m_step(statistics, at, ())
        assert all(same_bits(plain[name], none[name]) for name in plain)

    @pytest.mark.parametrize("structure", ["full", "diag", "spherical"])
    def test_a_fault_of_an_open_component_is_still_named(self, structure: CovarianceStructure) -> None:
        model, at = mixture(structure), start_of(structure)
        silent = silence(model, model.e_step(at, rows_of(structure)), (0, 1))
        model.validate(model.m_step(silent, at, (0, 1)))
        with pytest.raises(FedEmError, match="component 1"):
            model.m_step(silent, at, (0,))


class TestEM:
    def total(self, model: GaussianMixtureModel, rows: Vector, held: tuple[int, ...]) -> Total:
        def total(parameters: Parameters) -> Summed:
            return Summed(silence(model, model.e_step(parameters, rows), held), held=held)

        return total

    @EVERY_STRUCTURE
    @EVERY_PRIOR
    @EVERY_HELD
    def test_the_objective_never_falls_with_components_held_throughout(
        self, structure: CovarianceStructure, prior: GaussianMixturePrior | None, held: tuple[int, ...]
    ) -> None:
        model, rows, start = mixture(structure, prior), rows_of(structure), start_of(structure)
        run = fit(model, self.total(model, rows, held), start, Stopping(0.0, 60))
        parameters = [start, *(iteration.parameters for iteration in run.iterations)]
        objectives = [float(model.log_prob(at, rows).sum()) + model.log_prior(at) for at in parameters]
        np.testing.assert_allclose([120 * i.objective for i in run.iterations], objectives[:-1], rtol=1e-10)
        assert (np.diff(objectives) > -1e-9).all()
        assert objectives[-1] > objectives[0] + 1
        for iteration in run.iterations:
            assert iteration.held == held
            assert same_bits(iteration.parameters["means"][list(held)], start["means"][list(held)])
            kept = slice(None) if structure == "tied" else list(held)
            assert same_bits(iteration.parameters["covariances"][kept], start["covariances"][kept])
        assert all(run.parameters["weights"] != start["weights"])

    @EVERY_STRUCTURE
    def test_nor_when_who_is_held_changes(self, structure: CovarianceStructure) -> None:
        model, rows, start = mixture(structure), rows_of(structure), start_of(structure)
        held = [(), (1, 2), (0, 1), (), (0, 2), (0, 1, 2), (1,)]
        sums = 0

        def total(parameters: Parameters) -> Summed:
            nonlocal sums
            sums += 1
            now = held[sums % len(held)]
            return Summed(silence(model, model.e_step(parameters, rows), now), held=now)

        run = fit(model, total, start, Stopping(0.0, 70))
        assert np.diff([iteration.objective for iteration in run.iterations]).min() > -1e-12

    def test_a_component_that_was_held_goes_on_when_it_opens(self) -> None:
        model, rows, start = mixture("full"), rows_of("full"), start_of("full")
        sums = 0

        def total(parameters: Parameters) -> Summed:
            nonlocal sums
            sums += 1
            held = (1,) if sums <= 4 else ()
            return Summed(silence(model, model.e_step(parameters, rows), held), held=held)

        run = fit(model, total, start, Stopping(1e-13, 2000))
        plain = fit(model, lambda at: Summed(model.e_step(at, rows)), start, Stopping(1e-13, 2000))
        assert [i.held for i in run.iterations[:6]] == [(1,)] * 4 + [()] * 2
        assert np.diff([i.objective for i in run.iterations]).min() > -1e-11
        assert run.converged
        assert run.parameters.distance(plain.parameters) < 1e-4

    def test_all_held_ends_where_the_weights_stand_still_and_is_not_called_converged(self) -> None:
        model, start = mixture("full"), start_of("full")
        run = fit(model, self.total(model, rows_of("full"), (0, 1, 2)), start, Stopping(1e-12, 5000))
        assert not run.converged
        assert 2 < len(run.iterations) < 5000, "the next sum would be the same again"
        assert np.diff([iteration.objective for iteration in run.iterations]).min() > -1e-12
        for iteration in run.iterations:
            assert iteration.held == (0, 1, 2) and iteration.complete
            assert all(same_bits(iteration.parameters[name], start[name]) for name in ("means", "covariances"))

    def test_with_some_held_the_others_converge_around_them(self) -> None:
        run = fit(
            mixture("full"), self.total(mixture("full"), rows_of("full"), (2,)), start_of("full"), Stopping(1e-6, 500)
        )
        assert run.converged and run.iterations[-1].held == (2,)

    def test_a_model_without_components_holds_none(self) -> None:
        class Bare:
            """A mixture's `Model` part alone."""

            def __init__(self, model: Model) -> None:
                for name in ("family", "n_columns", "n_free_parameters"):
                    setattr(self, name, getattr(model, name))
                for name in ("describe", "layout", "e_step", "m_step", "log_prior", "validate", "log_prob", "sample"):
                    setattr(self, name, getattr(model, name))

        model = mixture("full")
        bare, rows = Bare(model), rows_of("full")
        with pytest.raises(CallerError, match="no components to hold"):
            fit(bare, self.total(model, rows, (1,)), start_of("full"), Stopping())  # type: ignore[arg-type]
