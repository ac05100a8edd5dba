"""What standard errors cost, by shape of a Gaussian mixture: `python -m tests.fed_em.error_costs`."""

from __future__ import annotations

import time

import numpy as np

from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.initialisation import start_from_moments
from fed_em.parameters import Parameters
from fed_em.standard_errors import standard_errors
from fed_em.statistic_products import StatisticProducts

_ROWS = 50_000
SHAPES = ((3, 4, "full", 0.0), (3, 4, "full", 0.1), (10, 10, "full", 0.0), (10, 10, "full", 0.1), (5, 20, "full", 0.0))
OTHERS = ((10, 10, "tied", 0.0), (10, 10, "diag", 0.0), (10, 10, "spherical", 0.0))


def _costs(k: int, d: int, structure: str, missing: float) -> None:
    model = GaussianMixtureModel(k, d, structure, missing=missing > 0)  # type: ignore[arg-type]
    products, generator = StatisticProducts(model), np.random.default_rng(0)
    unit = Parameters({"weights": np.ones(1), "means": np.zeros((1, d)), "covariances": np.eye(d)[np.newaxis]})
    parameters = start_from_moments(model, unit, 0)
    rows, _ = model.sample(parameters, _ROWS, generator)
    rows[generator.random(rows.shape) < missing] = np.nan
    statistics = products.e_step(parameters, rows)  # compiles, and finds the distinct products
    seconds = []
    for work in (lambda: products.e_step(parameters, rows), lambda: model.e_step(parameters, rows)):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    began = time.perf_counter()
    standard_errors(products, parameters, statistics)
    size = products.of_record.size
    print(
        f"K = {k}, D = {d}, {structure}{', cells missing' if missing else '':15}"
        f" {size:5} {size * (size + 1) // 2:8} {products.n_products:8} {8 * products.n_products / 1e3:9.0f} kB"
        f" {seconds[0]:6.2f} s {seconds[1]:6.3f} s {time.perf_counter() - began:6.2f} s"
    )


if __name__ == "__main__":
    print(
        f"{_ROWS} rows: M, triangle, summed, bytes of it, E-step of products, E-step of the mixture, errors from the sum"
    )
    for shape in (*SHAPES, *OTHERS):
        _costs(*shape)
