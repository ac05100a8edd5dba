"""Models in words."""

from __future__ import annotations

from collections.abc import Sequence

from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.mixed_mixture import MixedMixtureModel
from fed_em.model import ComponentModel, Model
from fed_em.tenant_mixing import TenantMixedModel, has_own_weights


def model_in_words(model: Model) -> str:
    """`Gaussian mixture with 3 components and full covariances`."""
    if has_own_weights(model):
        assert isinstance(model, TenantMixedModel)
        return f"{model_in_words(model.with_shared_weights)}, and mixing weights of each tenant's own"
    if isinstance(model, GaussianMixtureModel):
        return f"Gaussian mixture with {_counted(model, 'component', 'components')} and {model.covariance} covariances"
    if not isinstance(model, MixedMixtureModel):
        return model.family
    schema = model.schema
    if len(schema.categorical) == len(schema.columns):
        return f"latent class model with {_counted(model, 'class', 'classes')}"
    covariances = f" and {model.covariance} covariances" if len(schema.gaussian) else ""
    return f"mixture over columns of mixed kinds with {_counted(model, 'component', 'components')}{covariances}"


def models_in_words(models: Sequence[Model]) -> str:
    """The model; or, of several to pick from, `one of 8 models, from a Gaussian mixture … to a Gaussian mixture …`."""
    first, last = model_in_words(models[0]), model_in_words(models[-1])
    return first if len(models) == 1 else f"one of {len(models)} models, from a {first} to a {last}"


def _counted(model: ComponentModel, one: str, several: str) -> str:
    return f"1 {one}" if model.n_components == 1 else f"{model.n_components} {several}"
