"""Incremental EM: some answer, of the others the last terms stand."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fed_em.covariance import COVARIANCE_STRUCTURES, CovarianceStructure
from fed_em.em import GONE_AFTER, Fit, Iteration, Stopping, Summed, converged, fit
from fed_em.errors import CallerError
from fed_em.parameters import Parameters
from fed_em.priors import GaussianMixturePrior
from fed_em.silence import silence
from fed_em.totals import IncrementalTotal, TotalOfRows
from fed_em_simulations.whoever_came import WhoeverCame
from tests.fed_em.mixtures import PRIOR, mixture, negative_free_energy, parameters_of

Vector = NDArray[np.float64]

NAMES = ("north", "east", "south", "west")


def heterogeneous(n: int, seed: int = 0) -> dict[str, Vector]:
    """Parties with unlike shares of the components, and one of another size."""
    generator = np.random.default_rng(seed)
    truth = parameters_of("full")
    shares = ([0.9, 0.05, 0.05], [0.1, 0.8, 0.1], [0.05, 0.15, 0.8], [0.3, 0.3, 0.4])
    return {
        name: mixture("full").sample(Parameters({**truth, "weights": share}), size, generator)[0]
        for name, share, size in zip(NAMES, shares, (n, n, n, 2 * n), strict=True)
    }


patterns = st.lists(st.frozensets(st.sampled_from(NAMES)), min_size=1, max_size=10)


@pytest.mark.slow
@pytest.mark.parametrize("prior", [None, PRIOR], ids=["likelihood", "posterior"])
@pytest.mark.parametrize("structure", COVARIANCE_STRUCTURES)
@given(pattern=patterns)
@settings(max_examples=15, deadline=None)
def test_the_free_energy_never_falls_whoever_answers(
    structure: CovarianceStructure, prior: GaussianMixturePrior | None, pattern: list[frozenset[str]]
) -> None:
    """After every E-step and after every M-step, by its definition from rows."""
    model, parts, start = mixture(structure, prior), heterogeneous(12), parameters_of(structure, spread=0.6)
    answering = [frozenset(NAMES), *pattern]
    run = fit(model, IncrementalTotal(model, parts, lambda n: answering[n - 1]), start, Stopping(0.0, len(answering)))
    believed: dict[str, Vector] = {}
    energies, parameters = [], start
    for answers, iteration in zip(answering, run.iterations, strict=True):
        assert iteration.stale == tuple(name for name in NAMES if name not in answers)
        assert iteration.missing == ()
        believed |= {name: model.responsibilities(parameters, parts[name]) for name in answers}
        parties = [(parts[name], believed[name]) for name in NAMES]
        energies += [negative_free_energy(model, at, parties) for at in (parameters, iteration.parameters)]
        # What the loop knows of it: from the sum alone, without a row.
        np.testing.assert_allclose(iteration.objective * iteration.records, energies[-2], rtol=1e-10)
        parameters = iteration.parameters
    assert np.diff(energies).min() > -1e-9
    pooled = float(model.log_prob(parameters, np.concatenate(list(parts.values()))).sum())
    assert energies[-1] <= pooled + model.log_prior(parameters) + 1e-9


def test_with_everybody_fresh_the_free_energy_is_the_log_likelihood() -> None:
    model, parts, at = mixture("full"), heterogeneous(12), parameters_of("full")
    parties = [(rows, model.responsibilities(at, rows)) for rows in parts.values()]
    pooled = float(model.log_prob(at, np.concatenate(list(parts.values()))).sum())
    np.testing.assert_allclose(negative_free_energy(model, at, parties), pooled, rtol=1e-12)


def test_with_everybody_fresh_it_is_batch_em_bit_for_bit() -> None:
    model, parts, start = mixture("full"), heterogeneous(50), parameters_of("full", spread=0.6)

    def batch(parameters: Parameters) -> Summed:
        terms = [model.e_step(parameters, rows) for rows in parts.values()]
        return Summed(terms[0] + terms[1] + terms[2] + terms[3])

    ours = fit(model, IncrementalTotal(model, parts, lambda _: NAMES), start, Stopping(1e-8, 200))
    theirs = fit(model, batch, start, Stopping(1e-8, 200))
    assert ours.converged and len(ours.iterations) == len(theirs.iterations) > 10
    for mine, other in zip(ours.iterations, theirs.iterations, strict=True):
        assert mine.complete and mine.objective == other.objective
        assert all(mine.parameters[name].tobytes() == other.parameters[name].tobytes() for name in start)


def test_increments_reach_the_pooled_optimum_where_dropping_the_absent_ends_elsewhere() -> None:
    model, parts, start = mixture("full"), heterogeneous(150), parameters_of("full", spread=0.8)
    pooled = np.concatenate(list(parts.values()))
    best = fit(model, TotalOfRows(model, pooled), start, Stopping(0.0, 500)).parameters
    generator = np.random.default_rng(4)
    rounds = 600
    answering = [frozenset(NAMES)]
    while len(answering) < rounds:
        answering.append(frozenset(name for name in NAMES if generator.random() < 0.5) or answering[0])
    incremental = fit(model, IncrementalTotal(model, parts, lambda n: answering[n - 1]), start, Stopping(0.0, rounds))
    dropping = fit(model, WhoeverCame(model, parts, lambda n: answering[n - 1]), start, Stopping(0.0, rounds))
    assert incremental.parameters.distance(best) < 1e-8
    assert model.log_prob(best, pooled).mean() - model.log_prob(incremental.parameters, pooled).mean() < 1e-12
    # Not one unlucky round: the parameters wander with those who answer, to the end.
    assert (
        min(iteration.parameters.distance(best) for iteration in dropping.iterations[-50:] if iteration.missing) > 0.05
    )
    lost = [
        model.log_prob(best, pooled).mean() - model.log_prob(i.parameters, pooled).mean() for i in dropping.iterations
    ]
    assert np.mean(lost[-50:]) > 0.02


def test_it_says_who_is_stale_and_who_is_missing() -> None:
    model, parts = mixture("full"), heterogeneous(12)
    answering: list[Collection[str]] = [["east"], ("west", "north"), [], NAMES]
    total, at = IncrementalTotal(model, parts, lambda n: answering[n - 1]), parameters_of("full")
    first, second, third, fourth = (total(at) for _ in range(4))
    assert (first.missing, first.stale) == (("north", "south", "west"), ())
    assert (second.missing, second.stale) == (("south",), ("east",))
    assert (third.missing, third.stale) == (("south",), ("north", "east", "west"))
    assert (fourth.missing, fourth.stale) == ((), ())
    assert first.statistics["count"] == 12
    assert second.statistics["count"] == third.statistics["count"] == 48


def test_strangers_do_not_answer() -> None:
    model = mixture("full")
    with pytest.raises(CallerError, match="'centre'"):
        IncrementalTotal(model, heterogeneous(5), lambda _: ["centre"])(parameters_of("full"))


class TestConvergence:
    def run(self, faults: list[tuple[str, ...]], fault: str, tolerance: float = 1e9) -> Fit:
        """A fit over the same rows each time, with those names at fault."""
        model, rows = mixture("full"), heterogeneous(20)["west"]
        names = iter(faults)

        def total(parameters: Parameters) -> Summed:
            return Summed(model.e_step(parameters, rows), **{fault: next(names)})

        seen: list[Iteration] = []
        run = fit(model, total, parameters_of("full"), Stopping(tolerance, len(faults)), seen.append)
        assert [iteration.complete for iteration in seen] == [not at_fault for at_fault in faults[: len(seen)]]
        assert [getattr(iteration, fault) for iteration in seen] == faults[: len(seen)]
        return run

    def test_sums_with_somebody_missing_are_never_compared(self) -> None:
        """Complete, not, complete, not: however loose the tolerance, never; then two complete ones, and it is over."""
        run = self.run([(), ("east",), (), ("east",), (), ()], "missing")
        assert run.converged and len(run.iterations) == 6
        assert not self.run(20 * [("east",)], "missing").converged

    @pytest.mark.parametrize(
        ("faults", "expected"),
        [
            ([(), ()], 2),
            ([(), ("east",), ()], 3),
            ([(), ("east",), ("west",)], 3),
            ([(), ("east",), ("east", "west"), ("west",)], 4),
            ([(), ("east",), ("east",), ("east",), ()], 5),
        ],
    )
    def test_it_is_over_a_span_in_which_everybody_answered(self, faults: list[tuple[str, ...]], expected: int) -> None:
        run = self.run(faults, "stale")
        assert run.converged and len(run.iterations) == expected

    def test_the_span_is_compared_as_a_whole(self) -> None:
        """East and west take turns: what one of them adds is seen two iterations later, and counts."""
        model, parts, start = mixture("full"), heterogeneous(50), parameters_of("full", spread=0.8)
        absent = [(), *(60 * [("east",), ("west",)])]
        total = IncrementalTotal(model, parts, lambda n: set(NAMES) - set(absent[n - 1]))
        run = fit(model, total, start, Stopping(1e-4, 100))
        objectives = [iteration.objective for iteration in run.iterations]
        assert run.converged and objectives[-1] - objectives[-3] < 1e-4
        assert all(later - earlier >= 1e-4 for earlier, later in zip(objectives[1:-3], objectives[3:-1], strict=True))

    @pytest.mark.parametrize("faults", [GONE_AFTER - 1, GONE_AFTER])
    def test_whoever_is_silent_for_long_is_not_waited_for(self, faults: int) -> None:
        run = self.run([(), *(faults * [("east",)])], "stale")
        assert run.converged == (faults == GONE_AFTER)
        assert len(run.iterations) == faults + 1

    @pytest.mark.parametrize(
        ("absent", "compared"),
        [
            ("", None),
            ("e", None),
            (" e", None),
            ("  ", 1),
            (" ew", 1),
            ("  ee", 1),
            (" ewb", 1),
            (" ewbe", 2),
            (" ewbb", 1),
            (" wbwb", None),
            (" e" + GONE_AFTER * "b", GONE_AFTER + 1),
            (" " + GONE_AFTER * "e", GONE_AFTER),
            (" " + GONE_AFTER * "e" + "bb", GONE_AFTER),
            (" " + GONE_AFTER * "e" + " e", GONE_AFTER + 1),
            (" " + GONE_AFTER * "e" + " eb", GONE_AFTER + 1),
        ],
    )
    def test_which_iteration_the_last_is_compared_with(self, absent: str, compared: int | None) -> None:
        """e: east was stale, w: west, b: both. Counted from 1."""
        stale = {"e": ("east",), "w": ("west",), "b": ("west", "east"), " ": ()}
        at, found = parameters_of("full"), []
        for one in range(1, len(absent)):
            objectives = [0.0 if number in (one, len(absent)) else 1e6 for number in range(1, len(absent) + 1)]
            iterations = [
                Iteration(number, objective, 0.0, 1.0, (), stale[letter], (), at)
                for number, (objective, letter) in enumerate(zip(objectives, absent, strict=True), 1)
            ]
            found += [one] if converged(iterations, 1.0) else []
        assert found == ([] if compared is None else [compared])

    def test_stale_terms_without_some_moments_are_no_evidence(self) -> None:
        model, rows, held = mixture("full"), heterogeneous(20)["west"], (1,)

        def total(parameters: Parameters) -> Summed:
            return Summed(silence(model, model.e_step(parameters, rows), held), stale=("east",), held=held)

        run = fit(model, total, parameters_of("full"), Stopping(1e9, 2 * GONE_AFTER))
        assert not run.converged
        assert all(iteration.objective == iteration.log_likelihood for iteration in run.iterations)

    @pytest.mark.parametrize("structure", COVARIANCE_STRUCTURES)
    @pytest.mark.parametrize("prior", [None, PRIOR], ids=["likelihood", "posterior"])
    def test_with_one_gone_for_good_it_is_the_optimum_of_the_free_energy(
        self, structure: CovarianceStructure, prior: GaussianMixturePrior | None
    ) -> None:
        model, parts, start = mixture(structure, prior), heterogeneous(60), parameters_of(structure, spread=0.6)
        left = 5
        total = IncrementalTotal(model, parts, lambda n: set(NAMES) - ({"east"} if n > left else set()))
        run = fit(model, total, start, Stopping(1e-13, 5000))
        assert run.converged and len(run.iterations) > left + GONE_AFTER
        assert run.iterations[-1].stale == ("east",)
        # By brute force: the terms that east left are those of its rows at the parameters of the last sum it was in.
        their_parameters = run.iterations[left - 2].parameters
        terms = {"east": model.responsibilities(their_parameters, parts["east"])}

        def energy(at: Parameters) -> float:
            fresh = {name: model.responsibilities(at, rows) for name, rows in parts.items() if name not in terms}
            return negative_free_energy(model, at, [(parts[name], (fresh | terms)[name]) for name in NAMES])

        top, generator = energy(run.parameters), np.random.default_rng(0)
        records = run.iterations[-1].records
        np.testing.assert_allclose(run.iterations[-1].objective, top / records, rtol=1e-12)
        for _ in range(30):
            assert energy(nearby(run.parameters, generator)) < top

    @pytest.mark.parametrize("answering", [0.5, 0.8])
    @pytest.mark.parametrize("tolerance", [1e-3, 1e-5])
    def test_random_participation_never_ends_it_early(self, answering: float, tolerance: float) -> None:
        """Where it stops, a step of batch EM gains little more than where batch EM stops."""
        model, start = mixture("full"), parameters_of("full", spread=0.6)
        for seed in range(4):
            parts, generator = heterogeneous(60, seed), np.random.default_rng(seed)

            def some(_: int, generator: np.random.Generator = generator) -> list[str]:
                return [name for name in NAMES if generator.random() < answering]

            total = IncrementalTotal(model, parts, lambda n: NAMES if n == 1 else some(n))
            run = fit(model, total, start, Stopping(tolerance, 3000))
            assert run.converged
            pooled = TotalOfRows(model, np.concatenate(list(parts.values())))
            one_more = [i.objective for i in fit(model, pooled, run.parameters, Stopping(0.0, 2)).iterations]
            assert one_more[1] - one_more[0] < 1.3 * tolerance


def nearby(parameters: Parameters, generator: np.random.Generator) -> Parameters:
    """Admissible parameters, each moved by about 1e-3."""
    weights = parameters["weights"] * np.exp(1e-3 * generator.standard_normal(3))
    return Parameters(
        {
            "weights": weights / weights.sum(),
            "means": parameters["means"] + 1e-3 * generator.standard_normal((3, 2)),
            "covariances": parameters["covariances"] * np.exp(1e-3 * generator.standard_normal()),
        }
    )


class TestFreeEnergy:
    @pytest.mark.parametrize("structure", COVARIANCE_STRUCTURES)
    def test_it_is_the_one_by_definition_at_any_parameters(self, structure: CovarianceStructure) -> None:
        model, parts = mixture(structure), heterogeneous(30)
        spreads = dict(zip(NAMES, (0.4, 0.7, 1.0, 1.3), strict=True))
        at = {name: parameters_of(structure, spread=spread) for name, spread in spreads.items()}
        terms = [model.e_step(at[name], parts[name]) for name in NAMES]
        parties = [(parts[name], model.responsibilities(at[name], parts[name])) for name in NAMES]
        for spread in (0.5, 1.0, 2.0):
            where = parameters_of(structure, spread=spread)
            ours = model.free_energy(terms[0] + terms[1] + terms[2] + terms[3], where)
            np.testing.assert_allclose(ours, negative_free_energy(model, where, parties), rtol=1e-11)

    def test_an_empty_component_of_weight_zero_adds_nothing(self) -> None:
        model, rows = mixture("full"), heterogeneous(30)["west"]
        two = mixture("full", n_components=2)
        at, without = parameters_of("full"), parameters_of("full", 2)
        statistics = model.e_step(Parameters({**at, "weights": [0.4, 0.6, 0.0]}), rows)
        at = Parameters({**at, "weights": [0.3, 0.7, 0.0]})
        without = Parameters({**without, "weights": [0.3, 0.7]})
        smaller = two.e_step(Parameters({**without, "weights": [0.4, 0.6]}), rows)
        np.testing.assert_allclose(model.free_energy(statistics, at), two.free_energy(smaller, without), rtol=1e-12)
        full = model.e_step(parameters_of("full"), rows)
        assert model.free_energy(full, at) == -np.inf
