"""EM by sums with noise, of rows in one place: what shares of the noise, radius and averaging of sums do to the fit.

`python -m tests.fed_em.noised_em` prints the tables of docs/adr/0032-what-one-record-can-add.md.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import norm

from fed_em.admissible import admissible
from fed_em.ball import into_ball
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.layout import Layout
from fed_em.model import COUNT, LOG_LIKELIHOOD
from fed_em.parameters import Parameters
from fed_em.statistics import Statistics

Vector = NDArray[np.float64]

# Follow from the others, so they are not summed at all.
SILENT = (COUNT, LOG_LIKELIHOOD)

NOISED = ("responsibilities", "first", "second", "entropy")


@dataclass(frozen=True)
class Setting:
    """How sums are noised.

    Attributes:
        epsilon, delta: Of all sums together.
        sums: How many there are.
        radius: R / √D.
        shares: Of the noised blocks, as `NOISED`; None for a_b ∝ norm_b √size_b.
        averaged_from: The first sum, from 0, into which later ones are averaged; None if each counts alone.
        known: Whether projections read how much noise there is.
    """

    epsilon: float = 1.0
    delta: float = 1e-6
    sums: int = 15
    radius: float = 1.5
    shares: tuple[float, ...] | None = None
    averaged_from: int | None = 2
    known: bool = True

    @property
    def noise_multiplier(self) -> float:
        """z of each sum: that of one Gaussian mechanism with z / √sums (Balle and Wang 2018, theorem 8)."""

        def excess(z: float) -> float:
            one = z / math.sqrt(self.sums)
            lost = norm.cdf(0.5 / one - self.epsilon * one)
            return float(lost - math.exp(self.epsilon) * norm.cdf(-0.5 / one - self.epsilon * one) - self.delta)

        return float(brentq(excess, 0.05, 1e5))

    def deviations(self, layout: Layout) -> Vector:
        """The standard deviation of the noise of each entry of a sum."""
        noised = [block for block in layout if block.name not in SILENT]
        by_size = {block.name: block.norm * math.sqrt(block.size) for block in noised}
        total = sum(by_size.values())
        shares: Mapping[str, float] = {name: each / total for name, each in by_size.items()}
        if self.shares is not None:
            shares = dict(zip(NOISED, self.shares, strict=True))
        out = np.zeros(layout.size)
        for block in noised:
            out[layout.offsets[block.name]] = self.noise_multiplier * block.norm / math.sqrt(shares[block.name])
        return out


@dataclass(frozen=True, eq=False)
class World:
    """Rows of a mixture with overlapping components, standardised, and where EM starts: near the truth, with wide components."""

    model: GaussianMixtureModel
    rows: Vector
    held_out: Vector
    start: Parameters

    @classmethod
    def of(cls, k: int, d: int, n: int, seed: int) -> World:
        """K components of D columns, n rows to fit to and 20 000 others."""
        generator = np.random.default_rng(seed)
        roots = generator.standard_normal((k, d, 2 * d)) / math.sqrt(2 * d)
        truth = Parameters(
            {
                "weights": generator.dirichlet(np.full(k, 5.0)),
                "means": 2.0 * generator.standard_normal((k, d)),
                "covariances": roots @ np.swapaxes(roots, 1, 2) + 0.2 * np.eye(d),
            }
        )
        model = GaussianMixtureModel(k, d)
        rows, _ = model.sample(truth, n + 20_000, generator)
        centre, spread = rows[:n].mean(axis=0), rows[:n].std(axis=0)
        rows = (rows - centre) / spread
        near = (truth["means"] - centre) / spread + 0.3 * generator.standard_normal((k, d))
        wide = np.tile(0.5 * np.eye(d), (k, 1, 1))
        start = Parameters({"weights": np.full(k, 1.0 / k), "means": near, "covariances": wide})
        return cls(model, rows[:n], rows[n:], start)

    def score(self, parameters: Parameters) -> float:
        """Nats a held-out row; those are in no ball."""
        return float(self.model.log_prob(parameters, self.held_out).mean())

    @cached_property
    def without_noise(self) -> Parameters:
        """Forty steps of plain EM on rows outside of any ball."""
        parameters = self.start
        for _ in range(40):
            parameters = self.model.m_step(self.model.e_step(parameters, self.rows), parameters)
        return parameters

    def with_noise(self, setting: Setting, seed: int) -> tuple[Parameters, int]:
        """EM by noised sums, and how many components had to be projected in all of them."""
        generator, radius = np.random.default_rng(seed), setting.radius * math.sqrt(self.model.n_columns)
        rows, layout = into_ball(self.rows, radius), self.model.layout(radius=radius)
        deviations, parameters, changed = setting.deviations(layout), self.start, 0
        kept = np.zeros(layout.size)
        for number in range(setting.sums):
            vector = self.model.e_step(parameters, rows, layout).vector
            vector = np.where(deviations > 0, vector + deviations * generator.standard_normal(layout.size), 0.0)
            averaged = 0 if setting.averaged_from is None else max(number - setting.averaged_from, 0)
            # The mean of the newest sum and those before it.
            kept = (kept * averaged + vector) / (averaged + 1)
            noise = (
                {"second": deviations[layout.offsets["second"]][0] / math.sqrt(averaged + 1)} if setting.known else None
            )
            statistics, wrong = admissible(self.model, Statistics(layout, kept), radius, noise)
            parameters, changed = self.model.m_step(statistics, parameters), changed + wrong
        return parameters, changed


def losses(worlds: Sequence[World], setting: Setting, repeats: int = 1) -> tuple[Vector, float]:
    """Nats a held-out row below plain EM, of each world and repeat, and components projected a sum."""
    below, projected = [], 0
    for seed, world in enumerate(worlds):
        best = world.score(world.without_noise)
        for repeat in range(repeats):
            parameters, changed = world.with_noise(setting, 1000 * repeat + seed)
            below.append(best - world.score(parameters))
            projected += changed
    return np.array(below), projected / (len(below) * setting.sums)


def _table(k: int, d: int, n: int, seeds: int, repeats: int) -> None:
    worlds, base = [World.of(k, d, n, seed) for seed in range(seeds)], Setting()
    rows = [("as decided", base), ("no averaging", replace(base, averaged_from=None))]
    rows.append(("noise not known to projections", replace(base, known=False)))
    rows += [(f"R = {radius} √D", replace(base, radius=radius)) for radius in (1.1, 1.3, 1.7, 2.0, 2.5)]
    rows += [(f"{sums} sums", replace(base, sums=sums)) for sums in (8, 30)]
    for shares in ((0.03, 0.3, 0.65, 0.02), (0.1, 0.2, 0.68, 0.02), (0.1, 0.5, 0.38, 0.02), (0.3, 0.3, 0.38, 0.02)):
        rows.append((f"shares {shares}", replace(base, shares=shares)))
    rows += [(f"ε = {epsilon:g}", replace(base, epsilon=epsilon)) for epsilon in (0.5, 3.0, 8.0)]
    print(f"K = {k}, D = {d}, N = {n}: {seeds} worlds, {repeats} draws of noise each")
    for name, setting in rows:
        below, projected = losses(worlds, setting, repeats)
        print(f"  {name:38} mean {below.mean():.4f}  median {np.median(below):.4f}  worst {below.max():.4f}  ", end="")
        print(f"projected a sum {projected:.2f}", flush=True)


if __name__ == "__main__":
    _table(3, 4, 20_000, 10, 2)
    if "--large" in sys.argv:
        _table(5, 10, 200_000, 2, 1)
