"""What an adversary has: opened sums of one session or several, and what is public of these.

Whatever the adversary knows besides, such as the tables of colluding tenants, it can put through the E-step itself, at the parameters that
each term belongs to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import cast

import numpy as np
from numpy.typing import NDArray

from fed_em.ball import into_ball
from fed_em.broadcast import Broadcast
from fed_em.candidates import Candidates
from fed_em.component_counts import component_counts
from fed_em.errors import CallerError
from fed_em.model import CountedModel
from fed_em.statistics import Statistics
from fed_em_protocols.description import SessionDescription
from fed_em_protocols.roster import Roster
from fed_em_protocols.terms import SessionTerms
from fed_em_protocols.transcript.released import ReleasedSum
from fed_em_simulations.attacks.record_terms import terms_of_records

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class PublicFacts:
    """What is public of a session.

    Attributes:
        tenants: Names, in roster order.
        colluders: f that it is to withstand.
        cohort: The least tenants of an opened sum.
        row_caps: The most rows of each tenant.
        description: Its columns, model and, if it is private, its promise; None where only sums are known.
    """

    tenants: tuple[str, ...]
    colluders: int
    cohort: int
    row_caps: tuple[int, ...] = ()
    description: SessionDescription | None = field(default=None, repr=False)

    @classmethod
    def of(cls, description: SessionDescription, terms: SessionTerms, roster: Roster) -> PublicFacts:
        """Of a session of the protocol."""
        names = tuple(tenant.name for tenant in roster.tenants)
        return cls(names, terms.colluders, terms.minimum_survivors, tuple(roster.row_caps), description)

    def prepared(self, at: Broadcast, rows: Vector) -> Vector:
        """Rows `(n, D)` in original units as tenants put them into an E-step: in its coordinates, in a private session within its ball."""
        z = at.coordinates.apply(rows)
        radius = None if self.description is None else self.description.radius_of(at.model, at.coordinates)
        if radius is None or self.description is None:
            return z
        return into_ball(z, radius, self.description.schema_of_columns)


@dataclass(frozen=True, eq=False)
class Overheard:
    """Opened sums, in the order in which they were.

    Attributes:
        sums: All of them.
        facts: Of each session, by its number.

    Raises:
        CallerError: nothing is known of a sum's session, or its roster is of another length.
    """

    sums: tuple[ReleasedSum, ...] = field(repr=False)
    facts: Mapping[bytes, PublicFacts]

    def __post_init__(self) -> None:
        for released in self.sums:
            known = self.facts.get(released.session)
            if known is None:
                raise CallerError(
                    f"nothing is known of session {released.session.hex()}",
                    remedy="give the public facts of every session",
                )
            if len(known.tenants) != len(released.bases):
                raise CallerError(
                    f"round {released.round} of session {released.session.hex()} says of {len(released.bases)} tenants whether they are "
                    f"in the sum, and the session has {len(known.tenants)}"
                )

    @classmethod
    def of(cls, sums: Iterable[ReleasedSum], facts: PublicFacts) -> Overheard:
        """Sums of sessions that the same is known of."""
        heard = tuple(sums)
        return cls(heard, {released.session: facts for released in heard})

    @cached_property
    def tenants(self) -> tuple[str, ...]:
        """All tenants' names, each once."""
        return tuple(dict.fromkeys(name for known in self.facts.values() for name in known.tenants))

    @cached_property
    def moments(self) -> tuple[ReleasedSum, ...]:
        """The sums of one model's statistics, without those of counts, and of several candidates side by side."""
        return tuple(
            released
            for released in self.sums
            if released.kind != "counts" and not isinstance(released.broadcast.model, Candidates)
        )

    def members(self, released: ReleasedSum) -> dict[str, int]:
        """Who has a term in a sum, and its base."""
        names = self.facts[released.session].tenants
        return {name: base for name, base in zip(names, released.bases, strict=True) if base}

    def base(self, released: ReleasedSum, base: int) -> Broadcast | None:
        """What was evaluated in a term's base round; None if that round was not heard."""
        return self._broadcasts.get((released.session, released.kind == "counts", base))

    def term(self, released: ReleasedSum, base: int, rows: Vector) -> Statistics | None:
        """What a tenant with these rows, `(n, D)` in original units, has added to a sum; None if its base round was not heard."""
        at, layout = self.base(released, base), released.statistics.layout
        if at is None:
            return None
        z = self.facts[released.session].prepared(at, rows)
        if released.kind == "counts":
            return component_counts(cast(CountedModel, at.model), at.parameters, z, layout)
        return at.model.e_step(at.parameters, z, layout)

    def terms_of(self, released: ReleasedSum, rows: Vector) -> Vector:
        """What each of some records, `(n, D)` in original units, adds at a sum's own parameters, `(n, size)`."""
        z = self.facts[released.session].prepared(released.broadcast, rows)
        return terms_of_records(released.broadcast, z, released.statistics.layout)

    def unexplained(self, released: ReleasedSum, tables: Mapping[str, Vector]) -> Statistics | None:
        """A sum without what these tables, by tenant and in original units, have added; None if a term's base round was not heard."""
        left = released.statistics
        for name, base in self.members(released).items():
            if name in tables:
                term = self.term(released, base, tables[name])
                if term is None:
                    return None
                left = left - term
        return left

    def record_terms(self, released: ReleasedSum, owners: Sequence[str], rows: Vector) -> Vector:
        """What each of some records adds to a sum of statistics, `(m, size)`, given whose it is and `(m, D)` in original units.

        It is zero if its tenant has no term in the sum, or none whose base round was heard.
        """
        members, layout = self.members(released), released.statistics.layout
        bases = np.array([members.get(owner, 0) for owner in owners])
        found = np.zeros((len(rows), layout.size))
        for base in set(bases.tolist()) - {0}:
            at = self.base(released, base)
            if at is not None:
                z = self.facts[released.session].prepared(at, rows[bases == base])
                found[bases == base] = terms_of_records(at, z, layout)
        return found

    @cached_property
    def _broadcasts(self) -> dict[tuple[bytes, bool, int], Broadcast]:
        return {(each.session, each.kind == "counts", each.round): each.broadcast for each in self.sums}
