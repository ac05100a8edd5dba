"""fed-em: latent-variable models by expectation-maximisation, over rows in memory or over a secure sum.

Importing this package is light; the estimators, which need scikit-learn, and `open_table`, which needs Arrow, are
loaded when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fed_em.broadcast import Broadcast
from fed_em.columns import BernoulliColumn, CategoricalColumn, ColumnSchema, GaussianColumn, PoissonColumn
from fed_em.coordinates import Coordinates
from fed_em.em import Fit, Iteration, Stopping, Summed, Total, fit
from fed_em.errors import CallerError, EnvironmentFault, FedEmError
from fed_em.families import build_model
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.initialisation import moments_model, standard_gaussian, start_from_moments
from fed_em.layout import Block, Layout
from fed_em.mixed_mixture import MixedMixtureModel
from fed_em.mixed_priors import MixedMixturePrior
from fed_em.model import ComponentModel, Model
from fed_em.model_file import FittedModel, load_model, save_model
from fed_em.parameters import Parameters
from fed_em.priors import GaussianMixturePrior
from fed_em.records import Records
from fed_em.row_stream import TotalOfStream
from fed_em.schema_file import read_schema, schema_to_toml
from fed_em.statistics import Statistics
from fed_em.step_size import ConstantStep, DecayingStep
from fed_em.stepwise import StepwiseTotal
from fed_em.tenant_mixing import TenantMixing
from fed_em.totals import TotalOfRows

if TYPE_CHECKING:
    from fed_em.estimators import GaussianMixture
    from fed_em.mixed_estimators import LatentClass, MixedMixture
    from fed_em.search import MixtureSearch
    from fed_em.table_files import open_table

__version__: str

__all__ = [
    "BernoulliColumn",
    "Block",
    "Broadcast",
    "CallerError",
    "CategoricalColumn",
    "ColumnSchema",
    "ComponentModel",
    "ConstantStep",
    "Coordinates",
    "DecayingStep",
    "EnvironmentFault",
    "FedEmError",
    "Fit",
    "FittedModel",
    "GaussianColumn",
    "GaussianMixture",
    "GaussianMixtureModel",
    "GaussianMixturePrior",
    "Iteration",
    "LatentClass",
    "Layout",
    "MixedMixture",
    "MixedMixtureModel",
    "MixedMixturePrior",
    "MixtureSearch",
    "Model",
    "Parameters",
    "PoissonColumn",
    "Records",
    "Statistics",
    "StepwiseTotal",
    "Stopping",
    "Summed",
    "TenantMixing",
    "Total",
    "TotalOfRows",
    "TotalOfStream",
    "__version__",
    "build_model",
    "fit",
    "load_model",
    "moments_model",
    "open_table",
    "read_schema",
    "save_model",
    "schema_to_toml",
    "standard_gaussian",
    "start_from_moments",
]


def __getattr__(name: str) -> object:
    if name == "GaussianMixture":
        from fed_em.estimators import GaussianMixture  # noqa: PLC0415  scikit-learn takes a second to import

        return GaussianMixture
    if name in ("LatentClass", "MixedMixture"):
        from fed_em import mixed_estimators  # noqa: PLC0415  as above

        return getattr(mixed_estimators, name)
    if name == "MixtureSearch":
        from fed_em.search import MixtureSearch  # noqa: PLC0415  as above

        return MixtureSearch
    if name == "open_table":
        from fed_em.table_files import open_table  # noqa: PLC0415  Arrow takes a while to import

        return open_table
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415  searches the installed distributions

        return version("fed-em")
    raise AttributeError(f"module 'fed_em' has no attribute '{name}'")
