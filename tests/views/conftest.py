"""Troubled sessions, run once for all tests of the views."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, wraps
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fed_em.model_file import FittedModel
from fed_em_protocols.coordinator_state import Notice
from fed_em_server import report_charts, report_page
from fed_em_server.record import RoundRecord, SessionRecord
from fed_em_server.session import SessionOutcome
from fed_em_simulations.digits import digits_federation
from tests.views.clinics import EXPOSED, Onlooker, compared, train


@pytest.hookimpl(tryfirst=True)  # xdist reads groups in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whoever looks at them does so in one worker, so that they are run once and not once a worker."""
    for item in items:
        if {"session", "exposed"} & set(getattr(item, "fixturenames", ())) and item.path.parent == Path(
            __file__
        ).parent:
            item.add_marker(pytest.mark.xdist_group("troubled sessions"))


@cache
def _once(draw: Callable[..., str]) -> Callable[..., str]:
    """Draws what it has not drawn yet."""
    drawn: dict[bytes, str] = {}

    @wraps(draw)
    def once(*shown: object) -> str:
        key = pickle.dumps(shown)
        if key not in drawn:
            drawn[key] = draw(*shown)
        return drawn[key]

    return once


@pytest.fixture(autouse=True, scope="module")
def _charts_are_drawn_once() -> Iterator[None]:
    """A chart is a function of what it shows, and most pages of these tests show the same rounds."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (report_charts, report_page):
            for name, draw in inspect.getmembers(module, inspect.isfunction):
                if name.endswith("_chart"):
                    patch.setattr(module, name, _once(draw))
        yield


@dataclass(frozen=True)
class Session:
    """What a session leaves: its record with a comparison, its model, images of its components, and all it told."""

    record: SessionRecord
    fitted: FittedModel
    images: NDArray[np.float64]
    told: tuple[SessionRecord | Notice | RoundRecord, ...]


@pytest.fixture(scope="session")
def session() -> Session:
    onlooker = Onlooker()
    outcome = train(onlooker)
    return _left_by(outcome, compared(outcome), onlooker)


@pytest.fixture(scope="session")
def exposed() -> Session:
    """A short one under terms that protect less: a server that is trusted, no difference guard."""
    onlooker = Onlooker()
    outcome = train(onlooker, 16, **EXPOSED)
    return _left_by(outcome, outcome.record, onlooker)


def _left_by(outcome: SessionOutcome, record: SessionRecord, onlooker: Onlooker) -> Session:
    fitted = outcome.fitted
    means = fitted.coordinates.restore(fitted.parameters["means"])
    images = digits_federation().projection.images(means)
    return Session(record, fitted, images, tuple(onlooker.told))
