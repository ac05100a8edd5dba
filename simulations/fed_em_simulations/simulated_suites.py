"""Cryptographic suites that exist in simulations alone, by numbers that a tenant with data refuses.

Whoever knows the seed of a simulation knows every key of it, and whoever reads a costed one needs none: neither protects anybody. So their
sessions must not pass for real ones, nor a real tenant be talked into one: the number stands in the terms, and these in every message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from fed_em_protocols import policy
from fed_em_protocols.errors import TermsRefused
from fed_em_protocols.policy import TermsPolicy
from fed_em_protocols.roster import Roster
from fed_em_protocols.terms import FIRST_SIMULATED_SUITE, SUITE, SessionTerms
from fed_em_simulations.substitution import substituted

COSTED_SUITE = FIRST_SIMULATED_SUITE
"""Every operation is replaced by its cost: `fed_em_simulations.costed_cipher`."""
SEEDED_SUITE = FIRST_SIMULATED_SUITE + 1
"""The operations of the real suite on keys that follow from a seed: `fed_em_simulations.simulated_parties`."""


@contextmanager
def admitted(suite: int) -> Iterator[None]:
    """Tenants of this process take one simulated suite in place of the real one, and no other, while the context lasts."""
    with substituted(policy.check_terms, _admitting(policy.check_terms, suite)):
        yield


def _admitting(real: Callable[[TermsPolicy, SessionTerms, Roster], None], suite: int) -> Callable[..., None]:
    """Terms are held against a policy as by any tenant, but for the suite."""

    def check_terms(demands: TermsPolicy, terms: SessionTerms, roster: Roster) -> None:
        if terms.suite != suite:
            raise TermsRefused(f"the session asks for suite {terms.suite}, this simulation for {suite}")
        real(demands, replace(terms, suite=SUITE), roster)

    return check_terms
