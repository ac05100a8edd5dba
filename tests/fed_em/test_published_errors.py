"""Standard errors that others have published, or that their programs give.

Latent classes: those of poLCA (Linzer and Lewis 2011, J. Stat. Soft. 42/10), whose function `poLCA.se` takes them from the outer products
of scores, a generalised inverse and the delta method. That function, of version 1.4, was run by R 4.2.2 with MASS 7.3-58.2 as

    poLCA.se(y, matrix(1, N, 1), probs, prior, posterior)

with the arguments that poLCA(cbind(A, …) ~ 1, data, nclass) has where it ends: at the maximum, to a change of the log-likelihood below
1e-13, of EM from twelve random starts. The maxima of carcinoma and gss82 with three classes are those that its manual prints. `polca` 0.4.0
for Python, another program, gives the same errors of the shares of two classes.

Gaussian mixtures: the bootstrap of mclust 6.0.0 (Scrucca, Fop, Murphy and Raftery 2016, The R Journal 8/1). Of the diabetes table (Reaven
and Miller 1979, Diabetologia 16; `diabetes` in mclust, here without the diagnoses) they are what its vignette "A quick tour of mclust"
prints, of 999 replicates. Of Old Faithful R 4.2.2 gave them:

    m <- Mclust(faithful, G=2, modelNames="VVV"); set.seed(1)
    summary(MclustBootstrap(m, nboot=4999, type="bs"), what="se")
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kurtosis

from fed_em.bootstrap import bootstrap, replicates_of
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.mixed_mixture import MixedMixtureModel
from fed_em.standard_errors import Remark, standard_errors
from fed_em.statistic_products import StatisticProducts
from fed_em.totals import TotalOfRows
from tests.fed_em.published_tables import Vector, classes_of, fitted_by_sums


@dataclass(frozen=True)
class PoLCA:
    """What it says of a table.

    Attributes:
        table: Name of the file.
        log_likelihood: The maximum.
        shares: Errors of the classes' shares, the largest class first.
        errors: Of the probabilities, by column, for each class: of all levels, or once where there are two; 0 on the boundary.
    """

    table: str
    log_likelihood: float
    shares: tuple[float, ...]
    errors: Mapping[str, Sequence[float] | Sequence[Sequence[float]]]


POLCA = (
    PoLCA(
        "carcinoma",
        -317.256837,
        (0.04633576, 0.04633576),
        {
            "A": [0, 0.04509219],
            "B": [0.0170644, 0.08283464],
            "C": [0.05886992, 0],
            "D": [0.07202397, 0],
            "E": [0.02163373, 0.06809304],
            "F": [0.07078141, 0],
            "G": [0, 0.05151675],
        },
    ),
    PoLCA(
        "carcinoma",
        -293.704979,
        (0.04793087, 0.04746358, 0.04067259),
        {
            "A": [0, 0.03863944, 0.12589462],
            "B": [0.01925765, 0.06380798, 0],
            "C": [0.05602418, 0, 0],
            "D": [0.07452486, 0, 0.06321352],
            "E": [0, 0.03776436, 0.12377482],
            "F": [0.07484401, 0, 0],
            "G": [0, 0, 0.12106575],
        },
    ),
    PoLCA(
        "cheating",
        -440.027112,
        (0.07917248, 0.07917248),
        {
            "LIEEXAM": [0.02941175, 0.18727632],
            "LIEPAPER": [0.03118411, 0.18239625],
            "FRAUD": [0.01516328, 0.08797588],
            "COPYEXAM": [0.02643532, 0.10029845],
        },
    ),
    PoLCA(
        "gss82",
        -2783.268010,
        (0.03652517, 0.03652517),
        {
            "PURPOSE": [[0.01051225, 0.01972429, 0.01417966], [0.03951937, 0.09163762, 0.07793919]],
            "ACCURACY": [0.02517452, 0.05892393],
            "UNDERSTA": [0.01336657, 0.03705937],
            "COOPERAT": [[0.01185094, 0.00444261, 0.01319747], [0.03550778, 0.02423181, 0.04247658]],
        },
    ),
    PoLCA(
        "gss82",
        -2754.545405,
        (0.0455403, 0.05193979, 0.03505837),
        {
            "PURPOSE": [
                [0.01158939, 0.02021633, 0.01568853],
                [0.02507976, 0.03933721, 0.02451421],
                [0.04478866, 0.10817543, 0.0921031],
            ],
            "ACCURACY": [0.02406712, 0.05150634, 0.0619083],
            "UNDERSTA": [0, 0.15301998, 0.03855895],
            "COOPERAT": [
                [0.01861282, 0, 0.01861282],
                [0.0347623, 0.01876833, 0.03704512],
                [0.03668241, 0.0251119, 0.04310272],
            ],
        },
    ),
)


@pytest.mark.parametrize("said", POLCA, ids=lambda said: f"{said.table}-{len(said.shares)}")
def test_latent_classes_have_the_errors_of_polca(shared_data: Callable[[str], Path], said: PoLCA) -> None:
    schema, rows = classes_of(shared_data(f"{said.table}.csv"), tuple(said.errors))
    model = MixedMixtureModel(len(said.shares), schema)
    fit, _ = fitted_by_sums(model, rows, seed=0, tolerance=1e-13)
    parameters, products = fit.fit.parameters, StatisticProducts(model)
    assert model.log_prob(parameters, rows).sum() == pytest.approx(said.log_likelihood, abs=2e-6)
    found = standard_errors(products, parameters, TotalOfRows(products, rows)(parameters).statistics)
    order = np.argsort(-parameters["weights"])
    np.testing.assert_allclose(found.errors["weights"][order], said.shares, rtol=1e-3)
    for column, part in zip(schema.columns, schema.level_slices, strict=True):
        errors = found.errors["level_probabilities"][order, part]
        theirs = np.array(said.errors[column.name])
        theirs = np.broadcast_to(theirs[:, np.newaxis] if theirs.ndim == 1 else theirs, errors.shape)
        on_boundary = found.remarks["level_probabilities"][order, part] == Remark.BOUNDARY
        np.testing.assert_array_equal(on_boundary, theirs == 0)
        np.testing.assert_allclose(errors[~on_boundary], theirs[~on_boundary], rtol=1e-3)


@dataclass(frozen=True)
class Mclust:
    """What it says of a table.

    Attributes:
        log_likelihood: The maximum.
        replicates: Of the bootstrap.
        weights, means, covariances: Their errors, `(K,)`, `(K, D)` and of the upper triangles `(K, D (D + 1) / 2)`; the largest component
            first.
    """

    log_likelihood: float
    replicates: int
    weights: Sequence[float]
    means: Sequence[Sequence[float]]
    covariances: Sequence[Sequence[float]]


OLD_FAITHFUL = Mclust(
    -1130.263960, 4999,
    weights=(0.0287362, 0.0287362),
    means=((0.0323949, 0.4673272), (0.0292046, 0.5994155)),
    covariances=((0.0199106, 0.2706297, 4.3582707), (0.0144526, 0.1695253, 4.3062755)),
)  # fmt: skip
DIABETES = Mclust(
    -2303.4918, 999,
    weights=(0.05185780, 0.05058160, 0.03559685),
    means=((1.042239, 7.554105, 7.669033), (3.444948, 29.047203, 31.684647), (16.340816, 63.483315, 9.926121)),
    covariances=(
        (10.78177, 51.28084, 51.61617, 529.62298, 416.38176, 623.81098),
        (65.66172, 616.6785, 442.0993, 7279.0671, 3240.3558, 7070.4152),
        (1045.6542, 4178.685, 667.2709, 18873.253, 2495.0278, 506.8173),
    ),
)  # fmt: skip


def check_bootstrap(rows: Vector, said: Mclust, n_replicates: int) -> None:
    """Hold each error against theirs.

    The logarithm of a standard deviation over B replicates is off by √((κ − 1) / 4B), κ their kurtosis; that of theirs is taken to be
    ours. None of the 42 entries of both tables may be off by 5.7 of these, which each is with probability 1.2e-8: a false alarm for one
    key in two millions, and the key is fixed. Poisson counts in place of multinomial ones change an error by the order of 1 / n.
    """
    model = GaussianMixtureModel(len(said.weights), rows.shape[1], covariance_floor=0.0)
    fit, standardised = fitted_by_sums(model, rows, seed=0)
    fitted, scale = fit.fit.parameters, fit.coordinates.scale
    log_likelihood = model.log_prob(fitted, standardised).sum() + len(rows) * fit.coordinates.log_jacobian
    assert log_likelihood == pytest.approx(said.log_likelihood, abs=2e-4)
    candidates = replicates_of(model, n_replicates, b"published")
    found = bootstrap(candidates, TotalOfRows(candidates, standardised), fitted, len(rows))
    assert found.n_collapsed == 0
    order, triangle = np.argsort(-fitted["weights"]), np.triu_indices(rows.shape[1])
    units = {"weights": np.ones(()), "means": scale, "covariances": np.outer(scale, scale)[triangle]}
    theirs = {"weights": said.weights, "means": said.means, "covariances": said.covariances}
    for name, unit in units.items():
        replicates = np.array([each[name][order] for each in found.replicates])
        errors = found.errors[name][order]
        if name == "covariances":
            replicates, errors = replicates[(..., *triangle)], errors[(..., *triangle)]
        off = np.sqrt((kurtosis(replicates, fisher=False) - 1) / 4 * (1 / n_replicates + 1 / said.replicates))
        assert (np.abs(np.log(errors * unit / np.array(theirs[name]))) < 5.7 * off).all(), name
        assert np.median(off) < 0.08


@pytest.mark.slow
def test_the_bootstrap_of_old_faithful_is_that_of_mclust(shared_data: Callable[[str], Path]) -> None:
    check_bootstrap(np.loadtxt(shared_data("faithful.csv"), delimiter=",", skiprows=1), OLD_FAITHFUL, 400)


@pytest.mark.slow
def test_the_bootstrap_of_diabetes_is_the_published_one() -> None:
    rows = np.loadtxt(Path(__file__).parent / "reaven_miller.csv", delimiter=",", skiprows=1)
    assert rows.shape == (145, 3)
    check_bootstrap(rows, DIABETES, 200)
