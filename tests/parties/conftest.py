"""Fixtures and settings that the tests of parties share."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from fed_em.model import Rows
from fed_em_protocols.description import SessionDescription
from tests.parties.forest import MakeParties, Parties, found_parties

settings.register_profile("parties", settings.get_profile("tests"), max_examples=50)
settings.load_profile("parties")


@pytest.fixture
def make_parties(tmp_path: Path) -> MakeParties:
    """Founds parties in a new folder, by default with keys made just now."""

    def make(folder: str = "parties", now: datetime | None = None) -> Parties:
        return found_parties(tmp_path / folder, datetime.now(UTC) if now is None else now)

    return make


@pytest.fixture
def parties(make_parties: MakeParties) -> Parties:
    """Parties whose keys were made just now."""
    return make_parties()


@pytest.fixture
def description() -> SessionDescription:
    """Two columns and a mixture of two components."""
    return SessionDescription.from_json(
        b'{"title": "growth", "model": {"family": "gaussian-mixture", "n_components": 2}, "columns": '
        b'[{"name": "age", "low": 0, "high": 120}, {"name": "weight", "low": 0, "high": 300}]}'
    )


@pytest.fixture
def incomplete(description: SessionDescription) -> SessionDescription:
    """The same, but that cells of the second column may be missing."""
    age, weight = description.columns
    columns = (age, weight.model_copy(update={"missing": True}))
    return SessionDescription(title=description.title, columns=columns, model=description.model)


@pytest.fixture
def rows() -> Rows:
    """Forty admissible rows."""
    generator = np.random.default_rng(5)
    return generator.uniform((20.0, 50.0), (80.0, 110.0), size=(40, 2))
