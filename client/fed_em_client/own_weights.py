"""What a tenant gains from mixing weights of its own: both models that it was left, on rows that nobody trained on. It stays at home."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fed_em.errors import CallerError
from fed_em.model import CountedModel
from fed_em.model_file import FittedModel, load_model
from fed_em_client.configuration import TenantConfiguration
from fed_em_client.data_files import data_paths
from fed_em_client.rows import read_columns
from fed_em_client.take_part import MODEL_FOLDER, OWN_MODEL_FOLDER

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class WeightsCompared:
    """Log-densities of a tenant's held-out rows, in nats a row and original units.

    Attributes:
        rows: How many.
        own: Mean at the tenant's own weights.
        shared: Mean at the weights that all rows of all tenants have together.
        error: Standard error of the difference of the two; NaN of one row.
    """

    rows: int
    own: float
    shared: float
    error: float

    @classmethod
    def of(cls, own: Vector, shared: Vector) -> WeightsCompared:
        """Of the log-densities of each row, `(n,)` both."""
        gains = own - shared
        error = float(gains.std(ddof=1)) / math.sqrt(len(gains)) if len(gains) > 1 else math.nan
        return cls(len(gains), float(own.mean()), float(shared.mean()), error)

    @property
    def in_words(self) -> str:
        """A sentence."""
        gain = self.own - self.shared
        return (
            f"on {self.rows} rows {self.own:.4f} nats a row at this tenant's own weights, {self.shared:.4f} at those of all tenants "
            f"together: own weights {'gain' if gain >= 0 else 'lose'} {abs(gain):.4f} (standard error {self.error:.4f})"
        )


def compare_weights(tenant: TenantConfiguration, rows: Sequence[Path] = ()) -> WeightsCompared:
    """Score rows under `model` and `own-model`, as the tenant's last session left them in its state folder.

    Args:
        tenant: The tenant.
        rows: Files as `data` in its configuration, of rows that no model was fitted to; by default its `fresh`.

    Raises:
        CallerError: there are no such rows, the last session's tenants shared their weights, or the rows do not fit its model.
        EnvironmentFault: the disk does not give them.
    """
    named = rows or tenant.fresh
    if not named:
        raise CallerError(
            f"{tenant.name} names no rows that no model was fitted to",
            remedy="give files of them, or name them as `fresh` in the tenant's file: on rows of the fit own weights look too good",
        )
    if not (tenant.state / OWN_MODEL_FOLDER).exists():
        raise CallerError(
            f"{tenant.state} holds no model with mixing weights of this tenant's own",
            remedy='a session leaves one where its file says mixing = "tenant" in [model]',
        )
    shared, own = load_model(tenant.state / MODEL_FOLDER), load_model(tenant.state / OWN_MODEL_FOLDER)
    if shared.provenance.get("session") != own.provenance.get("session"):
        raise CallerError(
            f"the models in {tenant.state} are of different sessions: in the last one tenants shared their weights",
            remedy=f"compare after a session with weights of tenants' own, or remove {tenant.state / OWN_MODEL_FOLDER}",
        )
    table = np.concatenate(list(_rows_of(shared, data_paths(named), tenant)))
    return WeightsCompared.of(own.score_samples(table), shared.score_samples(table))


def _rows_of(fitted: FittedModel, paths: Iterable[Path], tenant: TenantConfiguration) -> Iterable[Vector]:
    may_be_missing = fitted.columns if isinstance(fitted.model, CountedModel) and fitted.model.missing else ()
    columns = {name: source for name, source in tenant.columns.items() if name in fitted.columns}
    for path in paths:
        yield read_columns(path, fitted.columns, columns, may_be_missing, fitted.schema)
