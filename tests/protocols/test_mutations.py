"""Mutations of the protocol's code, each of which must turn named tests red: the breaks of other systems, and our own rules.

A mutation replaces a piece of a function's source. The named tests are run with the mutant in place, and must fail;
`test_without_mutations.py` runs them without it.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import pytest

from tests.protocols import test_certificates, test_tenant_rules, test_window_rules
from tests.protocols.mutants import Mutation, goes_red, mutant_of, put_in_place
from tests.protocols.mutations_of_certificates import CERTIFICATES
from tests.protocols.mutations_of_keys import BREAKS_OF_OTHER_SYSTEMS, NO_CHECK_OF_SIGNATURES, PRIMITIVES
from tests.protocols.mutations_of_servers import RULES_OF_THE_SERVER
from tests.protocols.mutations_of_tenants import RULES_OF_THE_TENANT

ALL = [
    *BREAKS_OF_OTHER_SYSTEMS,
    *NO_CHECK_OF_SIGNATURES,
    *PRIMITIVES,
    *RULES_OF_THE_TENANT,
    *CERTIFICATES,
    *RULES_OF_THE_SERVER,
]


@pytest.fixture(autouse=True)
def _nothing_is_kept() -> Iterator[None]:
    """What tests make once for all must be made neither by a mutant nor before it."""
    forget()
    yield
    forget()


def forget() -> None:
    """All that tests keep for each other, which they may have changed."""
    for module in (test_certificates, test_tenant_rules, test_window_rules):
        for _, function in inspect.getmembers(module, lambda found: hasattr(found, "cache_clear")):
            function.cache_clear()


def test_every_mutation_has_a_name_of_its_own() -> None:
    assert len({mutation.name for mutation in ALL}) == len(ALL)


@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
@pytest.mark.parametrize("mutation", ALL, ids=str)
def test_the_mutation_turns_its_tests_red(mutation: Mutation, monkeypatch: pytest.MonkeyPatch) -> None:
    put_in_place(monkeypatch, mutation.where, mutant_of(mutation))
    still_green = [place for place, red in enumerate(mutation.turns_red) if not goes_red(red)]
    assert still_green == []
