"""Settings and fixtures that the tests of the protocols share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.protocols.remembering import remembered_protocol

settings.load_profile("tests")  # and not what another folder has made of it


@pytest.fixture(scope="module")
def remembered_keys() -> Iterator[None]:
    """Thousands of seeded federations sign, verify and agree on the same things."""
    with remembered_protocol():
        yield
