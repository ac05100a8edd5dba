"""Conjugate prior of a Gaussian mixture, for maximum a posteriori (MAP) estimates.

Dirichlet on the weights and, for every component, normal-inverse-Wishart on (mean, covariance), as in Fraley
and Raftery (2007), "Bayesian regularization for normal mixture estimation and model-based clustering",
Journal of Classification 24, section 3 and tables 1 to 3:

    w ~ Dirichlet(α, …, α),   μ_k | Σ_k ~ N(μ₀, Σ_k / κ),   Σ_k ~ inverse-Wishart(ν, Λ),   Λ = diag(λ₁, …,
    λ_D).

With the variance of one column or of one component instead of a matrix, the inverse-Wishart becomes the
inverse gamma (ν/2, λ_d/2), and for the spherical structure (ν/2, λ̄/2), λ̄ the mean of λ. For the sums N_k,
S1_k = Σ r x and S2_k = Σ r xxᵀ, the posterior mode is

    w_k = (N_k + α − 1) / Σ_j (N_j + α − 1)
    μ_k = (S1_k + κ μ₀) / (N_k + κ)
    A_k = S2_k + κ μ₀μ₀ᵀ − (N_k + κ) μ_kμ_kᵀ         κ pseudo-records at μ₀, then the scatter about μ_k
    full       Σ_k   = (Λ + A_k) / (N_k + ν + D + 2)
    tied       Σ     = (Λ + Σ_k A_k) / (Σ_k N_k + ν + D + 1 + K)
    diag       σ²_kd = (λ_d + A_kdd) / (N_k + ν + 3)
    spherical  σ²_k  = (λ̄ + Σ_d A_kdd) / (D N_k + ν + D + 2)

The mode bounds the likelihood: no component can shrink on a single value. μ₀ and λ are in the coordinates of
the E-step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fed_em.coordinates import Coordinates
from fed_em.covariance import CovarianceStructure, Whitening
from fed_em.description import check_real, read_mapping
from fed_em.errors import CallerError
from fed_em.feature_map import features_of

Vector = NDArray[np.float64]


# Priors by name, as sessions and estimators take them: the weak ones of `weakly_informative`, and maximum likelihood.
WEAK, NONE = "weak", "none"


def check_prior_name(name: str, otherwise: str) -> None:
    """Raise `CallerError` unless a prior has this name; `otherwise` says what may be given besides."""
    if name not in (WEAK, NONE):
        raise CallerError(f"no prior '{name}'", remedy=f"give '{WEAK}', '{NONE}', or {otherwise}")


@dataclass(frozen=True)
class GaussianMixturePrior:
    """Dirichlet and normal-inverse-Wishart prior; the symbols are those of the module's formulas.

    Attributes:
        mean: μ₀, D numbers.
        scale: λ, D positive numbers: the diagonal of Λ.
        mean_precision: κ > 0, how many records the prior mean counts for.
        degrees_of_freedom: ν > 0; more than D − 1 for the full and tied structures.
        weight_concentration: α ≥ 1; 1 is the uniform prior.

    Raises:
        CallerError: a value is out of its range, or `mean` and `scale` differ in length.
    """

    mean: tuple[float, ...]
    scale: tuple[float, ...]
    mean_precision: float
    degrees_of_freedom: float
    weight_concentration: float = 1.0

    def __post_init__(self) -> None:
        for name, low in (("mean", -math.inf), ("scale", 0.0)):
            values = getattr(self, name)
            if not isinstance(values, Sequence | np.ndarray) or len(values) == 0:
                raise CallerError(f"the prior's {name} must be a list of numbers, one for each column")
            for d, value in enumerate(values):
                check_real(f"the prior's {name} of column {d}", value, low, strict=True)
            object.__setattr__(self, name, tuple(float(value) for value in values))
        if len(self.mean) != len(self.scale):
            raise CallerError(f"the prior's mean has {len(self.mean)} columns and its scale {len(self.scale)}")
        check_real("the prior's mean_precision", self.mean_precision, 0.0, strict=True)
        check_real("the prior's degrees_of_freedom", self.degrees_of_freedom, 0.0, strict=True)
        check_real("the prior's weight_concentration", self.weight_concentration, 1.0)

    @classmethod
    def weakly_informative(
        cls, n_components: int, mean: Sequence[float], variance: Sequence[float]
    ) -> GaussianMixturePrior:
        """The default of Fraley and Raftery (2007), section 3.2: κ = 0.01, ν = D + 2, Λ = diag(variance) /
        K^(2/D).

        Args:
            n_components: K.
            mean: The mean of each column over all records; zeros in standardised coordinates.
            variance: The variance of each column over all records; ones in standardised coordinates.
        """
        shrinkage = n_components ** (2.0 / len(variance))
        return cls(
            mean=tuple(mean),
            scale=tuple(value / shrinkage for value in variance),
            mean_precision=0.01,
            degrees_of_freedom=len(variance) + 2.0,
        )

    @classmethod
    def from_description(cls, description: object) -> GaussianMixturePrior:
        """The prior that `describe` described.

        Raises:
            CallerError: a key is unknown or missing, or a value is out of its range.
        """
        required = ("mean", "scale", "mean_precision", "degrees_of_freedom")
        return cls(**read_mapping("a Gaussian mixture prior", description, required, ("weight_concentration",)))

    def describe(self) -> Mapping[str, Any]:
        """The prior as JSON-able values."""
        return {**asdict(self), "mean": list(self.mean), "scale": list(self.scale)}

    def in_coordinates(self, coordinates: Coordinates) -> GaussianMixturePrior:
        """This prior, stated in original units, as the prior of rows in `coordinates`.

        The posterior mode is the same in both for full, tied and diag. For spherical, whose single variance a
        scaling of single columns does not preserve, it is only where all columns have one scale.
        """
        if coordinates.n_columns != len(self.mean):
            raise CallerError(f"the prior has {len(self.mean)} columns, the coordinates {coordinates.n_columns}")
        mean = coordinates.apply(np.array([self.mean]))[0]
        scale = np.array(self.scale) / coordinates.scale**2
        return GaussianMixturePrior(
            tuple(mean.tolist()),
            tuple(scale.tolist()),
            self.mean_precision,
            self.degrees_of_freedom,
            self.weight_concentration,
        )

    def with_pseudo_records(
        self, structure: CovarianceStructure, counts: Vector, first: Vector, second: Vector
    ) -> tuple[Vector, Vector, Vector]:
        """N_k, S1_k and S2_k with the κ pseudo-records at μ₀ added to each component's.

        Args:
            structure: Says which second moments there are.
            counts: `(K,)`.
            first: `(K, D)`.
            second: `(K, n_second_moments)`.
        """
        centre = np.array([self.mean])
        moments = features_of(structure, centre)[1 + len(self.mean) :, 0]
        return (
            counts + self.mean_precision,
            first + self.mean_precision * centre,
            second + self.mean_precision * moments,
        )

    def pooled(self, structure: CovarianceStructure, scatter: Vector, counts: Vector) -> tuple[Vector, Vector]:
        """Numerators and denominators of the covariances at the posterior mode, by the module's formulas.

        Log-likelihood and log prior depend on a covariance Σ by −½ (m log |Σ| + tr Σ⁻¹M), M the numerator and m the denominator.

        Args:
            scatter: A_k, `(K, D, D)` for full and tied, `(K, D)` for diag and spherical.
            counts: N_k, `(K,)`, without the pseudo-records.

        Returns:
            M in the shape of the covariances, and m: `(K,)`, for tied `()`.
        """
        scale = np.array(self.scale)
        n_components, n_columns = len(counts), len(scale)
        freedom = self.degrees_of_freedom
        match structure:
            case "full":
                return np.diag(scale) + scatter, counts + freedom + n_columns + 2
            case "tied":
                mass = counts.sum() + freedom + n_columns + 1 + n_components
                return np.diag(scale) + scatter.sum(axis=0), np.asarray(mass)
            case "diag":
                return scale + scatter, counts + freedom + 3
            case "spherical":
                return scale.mean() + scatter.sum(axis=1), n_columns * counts + freedom + n_columns + 2

    def posterior_covariances(self, structure: CovarianceStructure, scatter: Vector, counts: Vector) -> Vector:
        """The covariances at the posterior mode; arguments as for `pooled`."""
        numerators, denominators = self.pooled(structure, scatter, counts)
        return np.asarray(
            numerators / denominators.reshape(denominators.shape + (1,) * (numerators.ndim - denominators.ndim))
        )

    def log_density(self, weights: Vector, means: Vector, whitening: Whitening) -> float:
        """Log density at the parameters, up to a constant, in nats.

        Args:
            weights: `(K,)`.
            means: `(K, D)`.
            whitening: The factorised covariances.
        """
        n_components, n_columns = means.shape
        scale, deviations = np.array(self.scale), means - np.array(self.mean)
        freedom, factors, structure = self.degrees_of_freedom, whitening.factors, whitening.structure
        exponent = freedom + n_columns + 2
        logs = whitening.log_determinants
        if structure == "full":
            traces = np.einsum("kij,j->", factors**2, scale)
            distances = np.einsum("kij,kj->ki", factors, deviations)
        elif structure == "tied":
            traces = np.einsum("ij,j->", factors**2, scale)
            distances = deviations @ factors.T
            logs = logs[:1]
            exponent = freedom + n_columns + 1 + n_components
        elif structure == "diag":
            traces = np.einsum("kd,d->", factors**2, scale)
            distances = deviations * factors
            exponent = freedom + 3
        else:
            traces = scale.mean() * (factors**2).sum()
            distances = deviations * factors[:, np.newaxis]
            logs = logs / n_columns
        normal_inverse_wishart = (
            exponent * logs.sum() - 0.5 * traces - 0.5 * self.mean_precision * np.square(distances).sum()
        )
        return float(self._log_dirichlet(weights) + normal_inverse_wishart)

    def _log_dirichlet(self, weights: Vector) -> float:
        if self.weight_concentration == 1.0:
            return 0.0  # and not 0 · log 0 for a component of weight zero
        with np.errstate(divide="ignore"):
            return float((self.weight_concentration - 1.0) * np.log(weights).sum())
