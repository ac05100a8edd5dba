"""Small models and lineages to fill registries with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from fed_em.coordinates import Coordinates
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.model_file import FittedModel
from fed_em.parameters import Parameters
from fed_em_client import durable_files
from fed_em_server.registry import Lineage
from fed_em_server.registry import history as history_module

CREATED = "2030-01-01T00:00:00+00:00"


def mixture(shift: float = 0.0, spread: float = 1.0) -> FittedModel:
    """Two components over columns a and b, whose means are apart by 4, moved by `shift` along a."""
    model = GaussianMixtureModel(2, 2, "full")
    means = np.array([[-2.0 + shift, 0.0], [2.0 + shift, 0.0]])
    covariances = np.broadcast_to(spread * np.eye(2), (2, 2, 2))
    parameters = Parameters({"weights": np.array([0.4, 0.6]), "means": means, "covariances": covariances})
    return FittedModel(model, Coordinates.identity(2), ("a", "b"), parameters, {})


def lineage(fitted: FittedModel | None = None, **changes: object) -> Lineage:
    """Of a model without a session."""
    return Lineage.of_model(fitted or mixture(), CREATED).model_copy(update=changes)


class Clock:
    """Seconds of one day, one after another."""

    def __init__(self) -> None:
        self.second = 0

    def __call__(self) -> str:
        self.second += 1
        return f"2030-01-01T00:{self.second // 60:02}:{self.second % 60:02}+00:00"


@contextmanager
def without_sync() -> Iterator[None]:
    """For tests that write some thousand times."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda _: None)
        for module in (durable_files, history_module):
            patch.setattr(module, "sync", lambda _: None)
        yield
