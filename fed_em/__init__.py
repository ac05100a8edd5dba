"""fed-em: latent-variable models by expectation-maximisation, over rows in memory or over a secure sum.

Importing this package loads nothing else: every name is imported from its module when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fed_em.alignment import Alignment, align, canonical_order, reordered
    from fed_em.broadcast import Broadcast
    from fed_em.columns import BernoulliColumn, CategoricalColumn, ColumnSchema, GaussianColumn, PoissonColumn
    from fed_em.coordinates import Coordinates
    from fed_em.em import Fit, Iteration, Stopping, Summed, Total, fit
    from fed_em.errors import CallerError, EnvironmentFault, FedEmError
    from fed_em.estimators import GaussianMixture
    from fed_em.families import build_model, register
    from fed_em.gaussian_mixture import GaussianMixtureModel
    from fed_em.imputation import Imputation
    from fed_em.initialisation import moments_model, standard_gaussian, start_from_moments
    from fed_em.layout import Block, Layout
    from fed_em.mixed_estimators import LatentClass, MixedMixture
    from fed_em.mixed_mixture import MixedMixtureModel
    from fed_em.mixed_priors import MixedMixturePrior
    from fed_em.model import ComponentModel, Model
    from fed_em.model_file import FittedModel, load_model, save_model
    from fed_em.parameters import Parameters
    from fed_em.priors import GaussianMixturePrior
    from fed_em.pruning import merge, merge_to, prune
    from fed_em.records import Records
    from fed_em.row_blocks import use_threads
    from fed_em.row_stream import TotalOfStream
    from fed_em.schema_file import read_schema, schema_to_toml
    from fed_em.search import MixtureSearch
    from fed_em.statistics import Statistics
    from fed_em.step_size import ConstantStep, DecayingStep
    from fed_em.stepwise import StepwiseTotal
    from fed_em.table_files import open_table
    from fed_em.tenant_mixing import TenantMixing
    from fed_em.totals import TotalOfRows

__version__: str

__all__ = [
    "Alignment",
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
    "Imputation",
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
    "align",
    "build_model",
    "canonical_order",
    "fit",
    "load_model",
    "merge",
    "merge_to",
    "moments_model",
    "open_table",
    "prune",
    "read_schema",
    "register",
    "reordered",
    "save_model",
    "schema_to_toml",
    "standard_gaussian",
    "start_from_moments",
    "use_threads",
]

# The modules of the names that stand above.
_HOMES = {
    "alignment": ("Alignment", "align", "canonical_order", "reordered"),
    "broadcast": ("Broadcast",),
    "columns": ("BernoulliColumn", "CategoricalColumn", "ColumnSchema", "GaussianColumn", "PoissonColumn"),
    "coordinates": ("Coordinates",),
    "em": ("Fit", "Iteration", "Stopping", "Summed", "Total", "fit"),
    "errors": ("CallerError", "EnvironmentFault", "FedEmError"),
    "estimators": ("GaussianMixture",),
    "families": ("build_model", "register"),
    "imputation": ("Imputation",),
    "gaussian_mixture": ("GaussianMixtureModel",),
    "initialisation": ("moments_model", "standard_gaussian", "start_from_moments"),
    "layout": ("Block", "Layout"),
    "mixed_estimators": ("LatentClass", "MixedMixture"),
    "mixed_mixture": ("MixedMixtureModel",),
    "mixed_priors": ("MixedMixturePrior",),
    "model": ("ComponentModel", "Model"),
    "model_file": ("FittedModel", "load_model", "save_model"),
    "parameters": ("Parameters",),
    "priors": ("GaussianMixturePrior",),
    "pruning": ("merge", "merge_to", "prune"),
    "records": ("Records",),
    "row_blocks": ("use_threads",),
    "row_stream": ("TotalOfStream",),
    "schema_file": ("read_schema", "schema_to_toml"),
    "search": ("MixtureSearch",),
    "statistics": ("Statistics",),
    "step_size": ("ConstantStep", "DecayingStep"),
    "stepwise": ("StepwiseTotal",),
    "table_files": ("open_table",),
    "tenant_mixing": ("TenantMixing",),
    "totals": ("TotalOfRows",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    found: object
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415  searches the installed distributions

        found = version("fed-em")
    elif name in _HOME_OF:
        found = getattr(import_module(f"fed_em.{_HOME_OF[name]}"), name)
    else:
        raise AttributeError(f"module 'fed_em' has no attribute '{name}'")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return [*globals(), *(name for name in __all__ if name not in globals())]
