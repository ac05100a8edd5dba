"""The tests that mutations turn red are green without them. What they compute more than once is remembered: nothing is changed here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.protocols.mutants import Mutation
from tests.protocols.test_mutations import ALL, forget

pytestmark = pytest.mark.usefixtures("remembered_keys")


@pytest.fixture(autouse=True)
def _each_by_itself() -> Iterator[None]:
    forget()
    yield
    forget()


@pytest.mark.parametrize("mutation", ALL, ids=str)
def test_they_are_green(mutation: Mutation) -> None:
    for red in mutation.turns_red:
        red()
