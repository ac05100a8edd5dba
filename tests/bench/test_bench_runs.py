"""The measurements run, at their smallest sizes. What they take is nobody's business here."""

from __future__ import annotations

import dataclasses
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from fed_em.parameters import Parameters
from fed_em_protocols.terms import Trust
from tests.bench.figures import Absent, FlowerFigures
from tests.bench.flower_rounds import measure_flower_rounds
from tests.bench.incomplete import log_likelihood_of, plain_loop
from tests.bench.peer_em import blanked, made_case
from tests.bench.privacy_utility import measure_utility
from tests.bench.run import run_bench
from tests.bench.scale import draw, measure_scale
from tests.bench.shapes import Shape
from tests.bench.sizes import SMALLEST, GatedRounds, MeasuredTraffic, PrivateFits
from tests.bench.table_cells import Page
from tests.bench.tables import print_bench
from tests.bench.traffic import counts_encoding, measure_traffic
from tests.bench.utility_table import print_utility


@pytest.mark.slow
def test_a_run_of_the_smallest_sizes_is_printed_and_can_be_kept(tmp_path: Path) -> None:
    said: list[str] = []
    bench = run_bench(SMALLEST, tmp_path, said.append)
    assert list(bench.seconds) == said
    assert not list(tmp_path.iterdir())
    console = Console(file=io.StringIO(), width=200)
    print_bench(bench, console)
    page = console.file.getvalue()  # type: ignore[attr-defined]
    for words in (
        bench.machine.cpu,
        "N = 2 000, D = 2, K = 2",
        "scikit-learn, one BLAS thread",
        "pomegranate: not asked for",
        "20% of the cells missing, N = 100, D = 3, K = 2",
        "a NumPy loop over patterns",
        "stepmix: not asked for",
        "K = 3, D = 2, separation 1.5",
        "lbfgs: geometric mean",
        "k-means++",
        "L = 50",
        "malicious-server, L = 50",
        "k = 3, L = 50",
        "silent after the upload",
        "Memory of the server",
        "gated EM round",
        "predict over gRPC, Gaussian",
        "impute over HTTP, mixed",
        "Aim of one client: p99",
        "fed_em.impute_one: imported",
        "Rounds through Flower: absent: not asked for",
        "Flower SecAgg+, semi-honest",
    ):
        assert words in page
    print_bench(bench, Console(file=io.StringIO(), width=200), markdown=True)
    assert json.loads(json.dumps(dataclasses.asdict(bench)))["grpc"]["tenants"] == SMALLEST.tenants


def test_the_loop_over_patterns_sums_what_ours_does() -> None:
    rows, weights, means, covariances = made_case(200, 4, 2)
    rows = blanked(rows, 0.3)[:150]
    rows = rows[~np.isnan(rows).all(axis=1)]
    at = Parameters({"weights": weights, "means": means, "covariances": covariances})
    assert plain_loop((rows, weights, means, covariances)) == pytest.approx(log_likelihood_of(rows, at), rel=1e-12)


@pytest.mark.slow
def test_rounds_through_a_real_fleet(tmp_path: Path) -> None:
    """Those over the stream: a relayed session starts some thirty processes of Flower's, and `tests/flower/test_engines.py` has one."""
    sizes = replace(SMALLEST, flower_iterations={"stream": 2}, flower_seconds=220.0)
    figures = measure_flower_rounds(tmp_path, sizes)
    assert isinstance(figures, FlowerFigures), figures
    assert figures.relay == figures.relay_start == Absent("not asked for")
    assert not isinstance(figures.stream, Absent), figures.stream
    assert not isinstance(figures.semi_honest, Absent), figures.semi_honest


@pytest.mark.slow
def test_noise_inside_the_sum_costs_less_than_local_noise() -> None:
    (figures,) = measure_utility(PrivateFits((4000,), (5.0,), 10, components=2, columns=2, held_out=2000))
    (fit,) = figures.private
    inside, local = figures.cost(fit.inside), figures.cost(fit.local)
    assert inside is not None and local is not None
    assert inside < 0.1 and inside < local
    assert figures.without == pytest.approx(figures.truth, abs=0.02)
    console = Console(file=io.StringIO(), width=200)
    print_utility([figures], Page(console))
    assert f"{fit.local:.3f}" in console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("row_cap", "missing", "length", "bits"),
    [
        # 2 K + 1 = 21 counts, or 2 K (D + 1) + 1 = 881; a word for faults; 2560 bits of check words.
        (5000, False, 21 + 1 + 40, 64),
        (5000, True, 881 + 1 + 40, 64),
        (204, False, 21 + 1 + 80, 32),
        (205, False, 21 + 1 + 40, 64),
    ],
)
def test_counts_behind_a_gate_are_those_that_sessions_send(row_cap: int, missing: bool, length: int, bits: int) -> None:
    encoding = counts_encoding(GatedRounds(row_cap, missing), tenants=10, columns=43, components=10)
    assert (encoding.length, encoding.ring.bits) == (length, bits)
    figures = measure_traffic(
        MeasuredTraffic(Shape(3), (GatedRounds(row_cap, missing),)),
        length=4,
        columns=43,
        components=10,
        window_rounds=8,
    )
    (gated,) = figures.gated
    assert gated.counts_length == counts_encoding(GatedRounds(row_cap, missing), 3, 43, 10).length
    # The upload of the counts and of four numbers at most, beside what a message has around them.
    assert 0 < gated.both.bytes_up - gated.counts_length * gated.ring_bits / 8 < 3000


def test_one_section_runs_alone(tmp_path: Path) -> None:
    bench = run_bench(SMALLEST, tmp_path, lambda _: None, ("client",))
    assert list(bench.seconds) == ["client"]
    assert bench.client and bench.grpc is None


# It forks: apart from tests whose threads a fork would find at work.
@pytest.mark.slow
@pytest.mark.all_cores
@pytest.mark.parametrize("trust", list(Trust))
def test_the_bench_of_scale_sums_over_a_sparse_graph(trust: Trust, tmp_path: Path) -> None:
    figures = measure_scale(100, rounds=2, workers=2, trust=trust, share=0.02, seconds=200.0)
    assert (figures.tenants, figures.rounds, figures.failure) == (100, 2, "")
    assert 0 < figures.neighbours < 99 and figures.agreements > 2 * 100 * figures.neighbours
    # Three processes, each with an interpreter and numpy.
    assert figures.memory > 3 * 50 * 2**20 and figures.tenants_cpu > 0
    draw([figures], tmp_path / "scale.png")
    assert (tmp_path / "scale.png").stat().st_size > 1000


@pytest.mark.slow
@pytest.mark.all_cores
def test_the_bench_of_scale_ends_at_the_first_notice_behind_its_time() -> None:
    """Not only when a sum is opened: setting up the window alone takes longer than a millisecond."""
    figures = measure_scale(70, rounds=2, workers=2, trust=Trust.SEMI_HONEST, share=0.02, seconds=0.001)
    assert figures.rounds == 0 and "time is up" in figures.failure
