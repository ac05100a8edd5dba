"""Settings and fixtures that the tests of the protocols share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.protocols.remembering import remembered_protocol

# Time limits belong to pytest; a failing example is printed, so none needs to be kept on disk.
settings.register_profile("protocols", deadline=None, database=None, print_blob=True)
settings.load_profile("protocols")


@pytest.fixture(scope="module")
def remembered_keys() -> Iterator[None]:
    """Thousands of seeded federations sign, verify and agree on the same things."""
    with remembered_protocol():
        yield
