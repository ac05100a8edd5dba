"""The compiled loops against those in NumPy, and which of them run."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import fed_em
from fed_em import kernels
from fed_em.compilation import NO_NUMBA_VARIABLE
from fed_em.covariance import CovarianceStructure
from fed_em.feature_map import feature_factors, n_features
from fed_em.kernels import FEWEST_COMPILED_ROWS, NUMPY, Kernels, kernels_for
from fed_em.row_stream import block_rows

FOLDER = Path(fed_em.__path__[0]).parent
ORDINARY = settings(max_examples=60, deadline=None)

LOGS = st.one_of(st.floats(-1e4, 1e4), st.floats(-1e-3, 1e-3), st.sampled_from([-np.inf, -1e300, -745.0, -708.0]))


@pytest.fixture(scope="module")
def compiled() -> Kernels:
    pytest.importorskip("numba")
    found = kernels._compiled()
    assert found is not None
    return found


def assert_equal_posteriors(compiled: Kernels, joint: np.ndarray) -> None:
    """To 1e-12, and not a number or infinite in the same places."""
    ours, theirs = joint.copy(), joint.copy()
    with np.errstate(all="ignore"):
        log_densities, entropies = compiled.normalise_in_place(ours)
        expected_log_densities, expected_entropies = NUMPY.normalise_in_place(theirs)
    np.testing.assert_allclose(log_densities, expected_log_densities, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(entropies, expected_entropies, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-300)


@given(st.integers(1, 200).flatmap(lambda n: arrays(np.float64, (1 + n % 7, n), elements=LOGS)))
@ORDINARY
def test_posteriors_are_equal(compiled: Kernels, joint: np.ndarray) -> None:
    assert_equal_posteriors(compiled, joint)


@pytest.mark.parametrize("fault", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 1, 2, slice(None)])
def test_what_has_no_density_is_told(compiled: Kernels, fault: float, place: int | slice) -> None:
    """A row of such entries only, or with one, spoils its own log-density and no other row's."""
    joint = np.random.default_rng(0).normal(size=(3, 430))
    joint[place, 370] = fault
    assert_equal_posteriors(compiled, joint)
    with np.errstate(all="ignore"):
        log_densities, _ = compiled.normalise_in_place(joint)
    impossible = fault == -np.inf and place != slice(None)
    assert np.isfinite(log_densities[370]) == impossible
    assert np.isfinite(np.delete(log_densities, 370)).all()


def test_an_impossible_component_gets_exactly_nothing(compiled: Kernels) -> None:
    joint = np.array([[0.0, -3.0], [-np.inf, -800.0]])
    _, entropies = compiled.normalise_in_place(joint)
    np.testing.assert_array_equal(joint, [[1.0, 1.0], [0.0, 0.0]])
    np.testing.assert_array_equal(entropies, [0.0, 0.0])


def in_lanes(function: Callable[..., Any], numbers: np.ndarray) -> np.ndarray:
    """A function of lanes of so many numbers, eight by eight."""
    from fed_em.compilation import compiled
    from fed_em.vector_lanes import LANES, load, store

    def apply(given: np.ndarray, out: np.ndarray) -> None:
        for start in range(0, len(given), LANES):
            store(out, start, function(load(given, start)))

    out = np.empty(-(-len(numbers) // LANES) * LANES)
    compiled(apply)(np.resize(numbers, len(out)), out)
    return out[: len(numbers)]


def test_exp_and_log_are_good_to_the_last_place(compiled: Kernels) -> None:
    from fed_em.lane_functions import LEAST_LOG, exponential, logarithm

    halves = np.array([0.0, -1e-300, -0.3465735902799726, -0.34657359027997264, -708.0])
    x = np.concatenate((halves, np.linspace(-708.0, 0.0, 5001), np.linspace(-1.0, 0.0, 5001)))
    assert (np.abs(in_lanes(exponential, x) / np.exp(x) - 1.0) <= 2.0**-52).all()
    edges = in_lanes(exponential, np.array([LEAST_LOG, -709.0, -708.8, np.nan]))
    np.testing.assert_array_equal(edges, [0.0, 0.0, 0.0, np.nan])
    x = np.concatenate(
        ([1.0, 1.0 + 2.0**-52, 2.0**0.5, 2.0, 1e300], np.linspace(1.0, 4.0, 5001), np.linspace(1.0, 1e3, 5001))
    )
    assert (np.abs(in_lanes(logarithm, x) - np.log(x)) <= np.spacing(np.maximum(np.log(x), 0.25))).all()
    np.testing.assert_array_equal(in_lanes(logarithm, np.array([1.0, np.nan, np.inf])), [0.0, np.nan, np.nan])


def prepared_by(loops: Kernels, structure: CovarianceStructure, rows: np.ndarray, shift: np.ndarray) -> np.ndarray:
    block = np.empty((loops.n_entries(structure, rows.shape[1]), len(rows)))
    loops.prepare(structure, rows, shift, block)
    return block


@given(
    structure=st.sampled_from(["full", "diag"]),
    n=st.integers(0, 60) | st.integers(380, 800),
    n_columns=st.integers(1, 6),
    n_components=st.integers(1, 5),
)
@ORDINARY
def test_products_with_features_are_equal(
    compiled: Kernels, structure: CovarianceStructure, n: int, n_columns: int, n_components: int
) -> None:
    """To the rounding of sums of so many terms; and with each row's features as they are defined."""
    generator = np.random.default_rng(n)
    rows, shift = generator.normal(size=(n, n_columns)), generator.normal(size=n_columns)
    upper, right = np.triu_indices(n_columns) if structure == "full" else (np.arange(n_columns),) * 2
    y = (rows - shift).T
    features = np.concatenate((np.ones((1, n)), y, y[upper] * y[right]))
    coefficients = generator.normal(size=(len(features), n_components))
    responsibilities, before = generator.random((n_components, n)), generator.normal(size=coefficients.shape)
    for loops in (compiled, NUMPY):
        block = prepared_by(loops, structure, rows, shift)
        joint, total = np.full((n_components, n), np.nan), before.copy()
        loops.write_log_densities(structure, block, coefficients, joint)
        loops.add_sums(structure, block, responsibilities, total)
        scale = np.abs(coefficients.T) @ np.abs(features)
        assert (np.abs(joint - coefficients.T @ features) <= 1e-14 * scale).all()
        scale = np.abs(before) + np.abs(features) @ responsibilities.T
        assert (np.abs(total - before - features @ responsibilities.T) <= 1e-13 * scale).all()


@pytest.mark.parametrize("n_columns", [8, 20])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.15, 0.3])
def test_sums_of_few_rows_keep_the_digits_of_every_component(compiled: Kernels, share: float, n_columns: int) -> None:
    """Also of one that holds next to nothing; each sum to the rounding of sums of so many terms."""
    generator, n = np.random.default_rng(1), 501
    rows, total = generator.normal(size=(n, n_columns)), np.zeros(((1 + n_columns) * (2 + n_columns) // 2, 5))
    responsibilities = np.where(generator.random((5, n)) < share, 1.0, 1e-12) * generator.random((5, n)) ** 4
    responsibilities[:4, ::2] *= 1e-60
    responsibilities *= np.array([1.0, 1e-9, 1e-40, 1e-200, 0.0])[:, np.newaxis]
    compiled.add_sums("full", prepared_by(compiled, "full", rows, np.zeros(n_columns)), responsibilities, total)
    features = prepared_by(NUMPY, "full", rows, np.zeros(n_columns))
    assert (np.abs(total - features @ responsibilities.T) <= 1e-13 * (np.abs(features) @ responsibilities.T)).all()


def test_few_rows_are_summed_alone_only_where_that_is_worth_it(compiled: Kernels) -> None:
    from fed_em.compiled_few_rows import add_sums_of_few_rows

    def takes(n_columns: int, share: float) -> bool:
        responsibilities = np.where(np.arange(1000) < 1000 * share, 1.0, 1e-40) * np.ones((4, 1))
        points, total = np.ones((1 + n_columns, 1000)), np.zeros((n_features("full", n_columns), 4))
        return add_sums_of_few_rows(points, feature_factors("full", n_columns), responsibilities, total)

    assert takes(8, 0.19)
    assert not takes(8, 0.21)
    assert not takes(7, 0.19)


@pytest.mark.parametrize("share", [np.nan, np.inf])
def test_a_responsibility_that_is_no_number_is_in_its_sum(compiled: Kernels, share: float) -> None:
    responsibilities, total = np.full((2, 400), 1e-40), np.zeros((66, 2))
    responsibilities[:, 7], responsibilities[1, 300] = 1.0, share
    compiled.add_sums("full", np.ones((11, 400)), responsibilities, total)
    assert (total[:, 0] == 1.0).all()
    assert not np.isfinite(total[:, 1]).any()


@pytest.mark.parametrize("fault", [np.nan, np.inf, 1e200])
def test_a_row_beyond_all_bounds_spoils_no_other(compiled: Kernels, fault: float) -> None:
    rows = np.random.default_rng(0).normal(size=(100, 3))
    rows[40, 1] = fault
    block, joint = prepared_by(compiled, "full", rows, np.zeros(3)), np.empty((2, 100))
    compiled.write_log_densities("full", block, np.ones((10, 2)), joint)
    assert not np.isfinite(joint[:, 40]).any()
    assert np.isfinite(np.delete(joint, 40, axis=1)).all()


@pytest.mark.parametrize("loop", ["normalise_in_place", "write_log_densities", "add_sums"])
def test_compiled_loops_let_other_threads_run(compiled: Kernels, loop: str) -> None:
    span: list[float] = []
    points, joint = np.ones((11, 200_000)), np.random.default_rng(0).normal(size=(8, 200_000))
    arguments = {
        "normalise_in_place": (joint,),
        "write_log_densities": ("full", points, np.ones((66, 8)), joint),
        "add_sums": ("full", points, joint, np.ones((66, 8))),
    }

    def work() -> None:
        span.append(time.perf_counter())
        getattr(compiled, loop)(*arguments[loop])
        span.append(time.perf_counter())

    work()
    span.clear()
    thread, ticks = threading.Thread(target=work), []
    thread.start()
    while thread.is_alive():
        ticks.append(time.perf_counter())
    assert sum(span[0] < tick < span[1] for tick in ticks) > 100


class TestChoice:
    def test_many_rows_are_worth_the_compiler(self, compiled: Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv(NO_NUMBA_VARIABLE, raising=False)
        assert kernels_for(FEWEST_COMPILED_ROWS - 1) is NUMPY
        assert kernels_for(FEWEST_COMPILED_ROWS) is compiled

    @pytest.mark.parametrize("n_columns", [65, 1000, 10_000])
    def test_and_so_is_a_block_of_a_stream_of_many_columns(
        self, compiled: Kernels, n_columns: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv(NO_NUMBA_VARIABLE, raising=False)
        assert block_rows(n_columns) < FEWEST_COMPILED_ROWS
        assert kernels_for(block_rows(n_columns), n_columns) is compiled
        assert kernels_for(100, n_columns) is NUMPY or n_columns > 5000

    def test_it_can_be_forbidden(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(NO_NUMBA_VARIABLE, "1")
        assert kernels_for(10**9) is NUMPY

    @pytest.mark.parametrize(
        ("before", "rows", "expected"),
        [
            ("", 100, "numpy False"),
            ("", FEWEST_COMPILED_ROWS, "numba True"),
            ("sys.modules['numba'] = None", FEWEST_COMPILED_ROWS, "numpy True"),
        ],
        ids=["few rows", "many rows", "no numba"],
    )
    def test_numba_is_imported_for_many_rows_only(self, before: str, rows: int, expected: str) -> None:
        if expected.startswith("numba"):
            pytest.importorskip("numba")
        code = f"""
import sys, numpy, fed_em
{before}
from fed_em.kernels import kernels_for
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.initialisation import standard_gaussian
GaussianMixtureModel(1, 1).e_step(standard_gaussian(1), numpy.zeros(({rows}, 1)))
print(kernels_for({rows}).name, 'numba' in sys.modules)
"""
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=FOLDER, env=self.bare()
        )
        assert done.stdout.strip() == expected

    @staticmethod
    def bare() -> dict[str, str]:
        import os

        return {name: value for name, value in os.environ.items() if name != NO_NUMBA_VARIABLE}


def test_code_that_cannot_be_kept_is_compiled_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """numba refuses to cache where neither the package's folder nor the user's can be written to."""
    numba = pytest.importorskip("numba")
    from fed_em.compilation import compiled

    njit = numba.njit

    def refusing(function: object, *, cache: bool = False, **options: object) -> object:
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return njit(function, **options)

    monkeypatch.setattr(numba, "njit", refusing)
    assert compiled(lambda x: x + 1.0)(1.0) == 2.0


def test_code_that_was_kept_is_not_run_with_another_version_of_what_it_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after an upgrade that changed `vector_lanes.py` and not the file of the loop: numba looks at the latter alone."""
    pytest.importorskip("numba")
    from fed_em import compilation

    loop, shared = tmp_path / "outer_loop.py", tmp_path / "inner_loop.py"
    loop.write_text("from inner_loop import inner\ndef outer(x):\n    return inner(x)\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(compilation, "_SHARED", (shared,))
    for added in (
        "1.0",
        "20.0",
        "1.0",
    ):  # files of two lengths, as Python takes one of the same length and second for the same
        shared.write_text(f"import numba\n@numba.njit\ndef inner(x):\n    return x + {added}\n")
        for module in ("outer_loop", "inner_loop"):
            sys.modules.pop(module, None)
        importlib.invalidate_caches()
        compilation._digest.cache_clear()
        outer = compilation.compiled(importlib.import_module("outer_loop").outer)
        assert outer(0.0) == float(added)
    assert sum(outer.stats.cache_hits.values()) == 1


def test_whatever_compiled_loops_call_is_in_the_name_of_kept_code() -> None:
    """Every file that has compiled functions for others: those that import the compiler, or make lanes of numbers."""
    from fed_em import compilation

    called = {"compilation.py"}
    for file in Path(fed_em.__path__[0]).glob("*.py"):
        for found in re.findall(
            r"^from fed_em\.(vector_lanes|lane_functions|compiled_\w+) import", file.read_text(), re.M
        ):
            called.add(f"{found}.py")
    # Whole numbers are written into the code.
    for file in Path(fed_em.__path__[0]).glob("compiled_*.py"):
        for home, names in re.findall(r"^from fed_em\.(\w+) import (.+)$", file.read_text(), re.M):
            constants = [name for name in names.split(", ") if name.isupper()]
            if any(isinstance(getattr(importlib.import_module(f"fed_em.{home}"), name), int) for name in constants):
                called.add(f"{home}.py")
    assert {file.name for file in compilation._SHARED} == called
