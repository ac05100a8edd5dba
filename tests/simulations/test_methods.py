"""Methods side by side: each is what its name says, and they differ only where they should."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from fed_em.alignment import canonical_order, reordered
from fed_em.em import Stopping, fit
from fed_em.parameters import Parameters
from fed_em.records import Records
from fed_em.totals import TotalOfRows
from fed_em_simulations.attendance import Attendance
from fed_em_simulations.common_ground import CommonGround, common_ground
from fed_em_simulations.dirichlet_mixing import DirichletMixing
from fed_em_simulations.fit_measures import held_out, in_coordinates, loss, parameter_error
from fed_em_simulations.known_mixture import KnownMixture
from fed_em_simulations.methods import METHODS, Fitted, run_method
from fed_em_simulations.methods_experiment import MethodsExperiment
from fed_em_simulations.mixture_to_fit import MixtureToFit
from fed_em_simulations.one_shot import union
from fed_em_simulations.population import Heterogeneity, Population, Tenants
from fed_em_simulations.session_settings import in_other_coordinates

NAMES = tuple(f"t{k}" for k in range(8))
ROUNDS = 25


def ground_of(share: float, rounds: int, starts: int = 3, n: int = 8, concentration: float = 0.3) -> CommonGround:
    differ = Heterogeneity(mixing=DirichletMixing(concentration=concentration))
    truth = KnownMixture(components=3, columns=2, overlap=0.15)
    tenants = Population(tenants=n, rows=100 * n, held_out=50, truth=truth, heterogeneity=differ).draw(0)
    pattern = Attendance(share=share).pattern(tenants.names, rounds, 0)
    return common_ground(MixtureToFit(components=3).model(2, missing=False), tenants, pattern, starts, 0)


@pytest.fixture(scope="module")
def half() -> CommonGround:
    return ground_of(0.5, ROUNDS)


@pytest.fixture(scope="module")
def fits(half: CommonGround) -> dict[str, Fitted]:
    """All methods, once."""
    return {name: run_method(name, half) for name in METHODS}


class TestAttendance:
    @pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
    def test_a_fixed_number_comes(self, share: float) -> None:
        pattern = Attendance(share=share).pattern(NAMES, 30, 1)
        assert {len(names) for names in pattern} == {max(1, round(8 * share))}
        assert len(set(pattern)) > 1 or share == 1
        assert pattern == Attendance(share=share).pattern(NAMES, 30, 1) != Attendance(share=0.3).pattern(NAMES, 30, 1)

    def test_or_each_by_a_toss_and_somebody_always(self) -> None:
        """Comings within 5 standard deviations of Binomial(16 000, 0.3): 6e-7."""
        counts = [len(names) for names in Attendance(share=0.3, fixed=False).pattern(NAMES, 2000, 1)]
        assert min(counts) == 1 and len(set(counts)) > 5
        # Where nobody would have come one does.
        expected = 16_000 * 0.3 + 2000 * 0.7**8
        assert abs(sum(counts) - expected) < 5 * np.sqrt(16_000 * 0.21)
        assert min(len(names) for names in Attendance(share=0.01, fixed=False).pattern(NAMES, 200, 1)) == 1


class TestWithEverybody:
    def test_sums_are_batch_em(self) -> None:
        ground = ground_of(1.0, 12)
        pooled = fit(
            ground.model,
            TotalOfRows(ground.model, Records.concatenated(list(ground.parts.values()))),
            ground.start,
            Stopping(0.0, 12),
        ).parameters
        for name in ("increments", "whoever-came"):
            parameters = run_method(name, ground).parameters
            assert parameters is not None and parameters.distance(pooled) < 1e-10

    def test_averaging_over_one_tenant_is_its_own_em(self) -> None:
        ground = ground_of(1.0, 4, n=1, concentration=50)
        averaged = run_method("averaging", ground).parameters
        (records,) = ground.parts.values()
        alone = fit(ground.model, TotalOfRows(ground.model, records), ground.start, Stopping(0.0, 20)).parameters
        assert averaged is not None and averaged.distance(alone) < 1e-10


class TestHalfOfThem:
    def test_increments_end_at_the_pooled_optimum_and_the_last_to_come_do_not_rule(
        self, half: CommonGround, fits: dict[str, Fitted]
    ) -> None:
        lost = {name: loss(half, fits[name]) for name in ("pooled", "increments", "whoever-came", "averaging")}
        assert lost["pooled"] == 0
        assert abs(lost["increments"]) < 1e-4
        assert lost["whoever-came"] > 0.005 and lost["averaging"] > 0.005

    def test_own_weights_suit_each_tenant(self, half: CommonGround, fits: dict[str, Fitted]) -> None:
        own, shared = held_out(half, fits["own-weights"]), held_out(half, fits["increments"])
        assert own.mean > shared.mean + 0.2 and own.worst > shared.worst
        assert own.lacking == shared.lacking == 0

    def test_alone_everybody_has_something_of_their_own(self, half: CommonGround, fits: dict[str, Fitted]) -> None:
        alone = fits["alone"]
        assert set(alone.of_tenants) == set(NAMES) and alone.parameters is None and alone.spent.bytes_up == 0
        assert loss(half, alone) < 0

    def test_what_is_sent_is_counted(self, fits: dict[str, Fitted]) -> None:
        # 1 + 1 + 1 + 3 + 6 + 9 statistics of three components in two columns; 3 + 6 + 12 parameters.
        sent = {name: fits[name].spent.bytes_up for name in ("increments", "averaging", "one-shot-moments")}
        in_rounds = 8 * 21 * 4 * ROUNDS
        assert sent == {"increments": in_rounds, "averaging": in_rounds, "one-shot-moments": 8 * 21 * 8}

    def test_every_method_gives_admissible_parameters(self, half: CommonGround, fits: dict[str, Fitted]) -> None:
        for fitted in fits.values():
            for tenant in NAMES:
                parameters = fitted.of(tenant)
                assert parameters is not None
                half.model.validate(parameters)


def test_the_protocol_ends_where_the_sums_in_memory_do() -> None:
    """Half of the tenants in each round, by the real machines with real cryptography."""
    ground = ground_of(0.5, 10, starts=0)
    real, memory = run_method("protocol", ground), run_method("increments", ground)
    assert real.parameters is not None and memory.parameters is not None
    # A session's components are in canonical order in the end; those of sums in memory stay where they began.
    ends = reordered(ground.model, memory.parameters, canonical_order(memory.parameters))
    spent, plain = real.spent, memory.spent
    assert spent.rounds == plain.rounds == 10
    assert (
        spent.bytes_up > 5 * plain.bytes_up
        and spent.bytes_down > 5 * plain.bytes_down
        and spent.seconds > plain.seconds
    )
    assert real.parameters.distance(ends) < 1e-6
    assert abs(loss(ground, real) - loss(ground, memory)) < 1e-6
    # Far from where it began, and from what others end at.
    assert real.parameters.distance(ground.start) > 0.05
    other = run_method("whoever-came", ground).parameters
    assert other is not None and real.parameters.distance(other) > 1e-3


class TestMeasures:
    def test_the_truth_has_no_error_in_whatever_order(self, half: CommonGround) -> None:
        truth = half.tenants.truth
        assert truth is not None
        model, true = in_coordinates(truth, half.coordinates)
        error = parameter_error(truth, model, reordered(model, true, np.array([2, 0, 1])), half.coordinates)
        assert error is not None
        assert max(error.weights, error.means, error.covariances) < 1e-12
        moved = Parameters({**true, "means": true["means"] + 0.1, "weights": true["weights"][[1, 0, 2]]})
        error = parameter_error(truth, model, moved, half.coordinates)
        assert error is not None and error.means == pytest.approx(0.1) and error.covariances < 1e-12
        assert error.weights == pytest.approx(abs(true["weights"][0] - true["weights"][1]))
        assert parameter_error(truth, replace(model, n_components=2), true, half.coordinates) is None

    def test_held_out_densities_are_in_original_units(self, half: CommonGround) -> None:
        truth = half.tenants.truth
        assert truth is not None
        found = held_out(half, Fitted(in_coordinates(truth, half.coordinates)[1]))
        each = [truth.model.log_prob(truth.parameters, m.held_out).mean() for m in half.tenants.members]
        assert found.mean == pytest.approx(np.mean(each)) and found.worst == pytest.approx(min(each))
        assert found.ari > 0.8

    def test_tenants_without_anything_are_lacking(self, half: CommonGround) -> None:
        found = held_out(half, Fitted(None, of_tenants={"t3": half.optimum}))
        assert found.lacking == 7 and found.mean == found.worst
        assert held_out(half, Fitted(None)).lacking == 8

    @pytest.mark.parametrize("structure", ["full", "diag", "spherical"])
    def test_parameters_go_to_other_coordinates_and_back(self, structure: str, half: CommonGround) -> None:
        model = MixtureToFit.model_validate({"components": 3, "covariance": structure}).model(2, missing=False)
        rows = half.tenants.members[0].held_out
        parameters = fit(
            model, TotalOfRows(model, half.coordinates.apply(rows)), _start(structure), Stopping(0, 2)
        ).parameters
        scale = half.coordinates.scale * (np.array([3.0, 0.5]) if structure != "spherical" else 3.0)
        there = type(half.coordinates)(half.coordinates.location + 1, scale)
        moved = in_other_coordinates(model, parameters, half.coordinates, there)
        before = model.log_prob(parameters, half.coordinates.apply(rows)) + half.coordinates.log_jacobian
        np.testing.assert_allclose(model.log_prob(moved, there.apply(rows)) + there.log_jacobian, before)

    def test_a_union_weighs_tenants_by_their_rows(self, half: CommonGround) -> None:
        one, other = half.optimum, half.start
        joined, parameters = union(half.model, {"a": one, "b": other}, {"a": 3000, "b": 1000})
        assert joined.n_components == 6
        np.testing.assert_allclose(parameters["weights"][:3], 0.75 * one["weights"])
        np.testing.assert_allclose(parameters["weights"].sum(), 1.0)


def _start(structure: str) -> Parameters:
    covariances = {"full": np.tile(np.eye(2), (3, 1, 1)), "diag": np.ones((3, 2)), "spherical": np.ones(3)}
    means = np.array([[-1.0, 0], [0, 1], [1, 0]])
    return Parameters({"weights": np.full(3, 1 / 3), "means": means, "covariances": covariances[structure]})


def test_a_fit_to_rows_with_holes_and_labels() -> None:
    population = Population.model_validate(
        {
            "tenants": 4,
            "rows": 400,
            "held_out": 20,
            "truth": {"components": 3, "columns": 2, "overlap": 0.15},
            "heterogeneity": {"missing": {"rate": 0.2, "mechanism": "mar"}, "labels": {"tenants": 0.5}},
        }
    )
    model, methods = MixtureToFit(components=3), ("pooled", "increments", "one-shot-samples")
    experiment = MethodsExperiment(data=population, model=model, rounds=10, starts=2, methods=methods)
    rows = {str(row["method"]): row for row in experiment.run(0)}
    assert tuple(rows) == methods
    assert abs(float(rows["increments"]["loss"] or 0)) < 1e-3
    assert float(rows["pooled"]["ari"] or 0) > 0.7


def test_the_protocol_needs_the_start_of_a_session() -> None:
    with pytest.raises(ValidationError, match="starts = 0"):
        MethodsExperiment(data=Population(), methods=("protocol",))


def test_tenants_of_a_ground_are_those_that_were_given(half: CommonGround) -> None:
    assert isinstance(half.tenants, Tenants) and half.tenants.names == NAMES
