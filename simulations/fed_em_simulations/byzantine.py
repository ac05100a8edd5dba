"""Tenants that break the protocol, and tenants that keep to it and poison the sum.

Whoever breaks it is found out and named; a false statistic, within its declared bounds, is not: nobody sees it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fed_em.description import check_whole_number
from fed_em.errors import CallerError
from fed_em.records import Records
from fed_em_client.tenant_session import TenantSession, TenantWork
from fed_em_protocols.description import SessionDescription
from fed_em_protocols.masks import RingVector
from fed_em_protocols.messages import Deposit, Opening, Payload, Shares
from fed_em_protocols.tenant_state import Evaluate
from fed_em_simulations.liars import Liar, deals_falsely, flipped, lying
from fed_em_simulations.records_work import RecordsWork
from fed_em_simulations.scene import Mischief, Scene, Trouble


def _false_shares(liar: Liar, content: Any, attachment: bytes) -> bytes:
    released = tuple(replace(each, share=flipped(each.share)) for each in content.released)
    return liar.sign(replace(content, released=released), attachment)


def _false_seed(liar: Liar, content: Any, attachment: bytes) -> bytes:
    return liar.sign(replace(content, self_seed=flipped(content.self_seed)), attachment)


# By what a tenant lies about: the messages it twists, and how.
_LIES: dict[str, tuple[type[Payload], Any]] = {
    "shares": (Shares, _false_shares),
    "opening": (Opening, _false_seed),
    "deposit": (Deposit, deals_falsely),
}


@dataclass(frozen=True)
class _OfTenants(Trouble):
    """What tenants do of their own accord, whatever happens.

    Attributes:
        tenants: Roster indices.
    """

    tenants: Sequence[int]

    def begin(self, scene: Scene) -> Mischief:
        """See `Trouble`. Raises `CallerError` if there is no such tenant."""
        scene.those(self.tenants)
        return Mischief()


@dataclass(frozen=True)
class Liars(_OfTenants):
    """Tenants that lie to the server; it names them, or their lie comes to light once it would matter.

    Attributes:
        about: "shares": what they were dealt by somebody who falls silent; "opening": their own mask; "deposit": they deal shares
            of other secrets than they advertise.
    """

    about: str = "shares"

    def __post_init__(self) -> None:
        if self.about not in _LIES:
            raise CallerError(f"nobody lies about '{self.about}'", remedy=f"one of {', '.join(_LIES)}")

    def session_of(self, tenant: int) -> type[TenantSession] | None:
        """See `Trouble`."""
        return lying(*_LIES[self.about]) if tenant in self.tenants else None


@dataclass(frozen=True)
class Overstates(_OfTenants):
    """Tenants whose statistics are those of each of their rows several times over. Nobody can tell.

    Attributes:
        times: At least 2.
    """

    times: int = 10

    def __post_init__(self) -> None:
        check_whole_number("times", self.times, 2)

    def work_of(self, tenant: int, work: TenantWork) -> TenantWork:
        """See `Trouble`."""
        return _Overstated(work, self.times) if tenant in self.tenants else work


@dataclass(frozen=True)
class _Overstated:
    """A tenant's work, its statistics multiplied. Implements `TenantWork`."""

    _work: TenantWork
    _times: int

    def prepare(self, description: bytes, mass_floor: int) -> None:
        """See `TenantWork`."""
        self._work.prepare(description, mass_floor)

    def changed(self, session: bytes) -> bool:
        """See `TenantWork`."""
        return self._work.changed(session)

    def evaluate(self, asked: Evaluate) -> RingVector:
        """See `TenantWork`."""
        vector = self._work.evaluate(asked)
        return vector * vector.dtype.type(self._times)

    def held(self, counts: RingVector) -> bytes:
        """See `TenantWork`."""
        return self._work.held(counts)


@dataclass(frozen=True)
class PoisonedRows(_OfTenants):
    """Tenants all of whose rows stand in the corner of the declared ranges: the worst that declared bounds let through. Nobody can tell."""

    def work_of(self, tenant: int, work: TenantWork) -> TenantWork:
        """See `Trouble`. Raises `CallerError` if the work is not over records in memory."""
        if tenant not in self.tenants:
            return work
        if not isinstance(work, RecordsWork):
            raise CallerError("rows are poisoned before anything else", remedy="put PoisonedRows first")
        return work.over(_in_the_corner)


def _in_the_corner(records: Records, description: SessionDescription) -> Records:
    return replace(records, rows=np.tile(description.high, (len(records), 1)))
