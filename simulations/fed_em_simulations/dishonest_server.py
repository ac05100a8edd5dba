"""Servers that break the protocol: what tenants hold against them, under malicious-server trust.

The coordinator is the real one; what it sends to some tenants is twisted on its way out, and signed with the server's own key. Tenants that
find it out leave and say why: the federation's outcome lists their accusations. Under semi-honest trust some of it passes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from fed_em.description import check_whole_number
from fed_em_protocols.certification import EVIDENCE_BYTES
from fed_em_protocols.envelope import Sealed, seal, unquote
from fed_em_protocols.hashing import digest
from fed_em_protocols.keys import SigningKey
from fed_em_protocols.members import from_bitmap, to_bitmap
from fed_em_protocols.messages import Advertise, Header, Neighbours, Proposal, SetUp
from fed_em_simulations.memory_hub import Direction, Fate, Passing
from fed_em_simulations.scene import Mischief, Scene, Trouble, kind_of, read


class _Twisting(Mischief):
    """Twists messages of some kinds to some tenants, from a round on."""

    kinds: tuple[type, ...]

    def __init__(self, scene: Scene, tenants: Sequence[int] | None, first_round: int) -> None:
        self._scene = scene
        self._tenants = scene.those(tenants)
        self._first_round = first_round

    def forged(self, tenant: int, data: bytes) -> Sequence[bytes]:
        """See `Mischief`."""
        if tenant not in self._tenants or kind_of(data) not in self.kinds:
            return (data,)
        sealed = read(data)
        return (data,) if self.round_of(sealed) < self._first_round else self.twisted(sealed, data)

    def round_of(self, sealed: Sealed[Any]) -> int:
        """The round that a message belongs to."""
        return int(sealed.content.round)

    def twisted(self, sealed: Sealed[Any], data: bytes) -> Sequence[bytes]:
        """What is sent in place of a message."""
        raise NotImplementedError

    def sign(self, content: Any, attachment: bytes) -> bytes:
        """With the server's own key."""
        return seal(content, self._scene.server, attachment).to_bytes()


@dataclass(frozen=True)
class TwoHeaders(Trouble):
    """Equivocation: some tenants are shown a second header of a round, over other parameters.

    Attributes:
        tenants: Roster indices; None: all.
        first_round: From which on.
        instead: Whether they see the second alone. Their uploads are noise to the sum then, and what convicts the server is whatever it
            shows them next of a round that they saw otherwise.
    """

    tenants: Sequence[int] | None = None
    first_round: int = 2
    instead: bool = False

    def __post_init__(self) -> None:
        check_whole_number("first_round", self.first_round, 1)

    def begin(self, scene: Scene) -> Mischief:
        """See `Trouble`."""
        mischief = _TwoHeaders(scene, self.tenants, self.first_round)
        mischief.instead = self.instead
        return mischief


class _TwoHeaders(_Twisting):
    kinds = (Header,)
    instead = False

    def twisted(self, sealed: Sealed[Header], data: bytes) -> Sequence[bytes]:
        """The session's parameters with one bit turned, under a header that names them."""
        other = bytes([*sealed.attachment[:-1], sealed.attachment[-1] ^ 1])
        forged = self.sign(replace(sealed.content, parameters=hashlib.sha256(other).digest()), other)
        return (forged,) if self.instead else (data, forged)


@dataclass(frozen=True)
class ChangedParameters(Trouble):
    """Some tenants are sent other parameters than those that the header names.

    Attributes:
        tenants: Roster indices; None: all.
        first_round: From which on.
    """

    tenants: Sequence[int] | None = None
    first_round: int = 2

    def __post_init__(self) -> None:
        check_whole_number("first_round", self.first_round, 1)

    def begin(self, scene: Scene) -> Mischief:
        """See `Trouble`."""
        return _ChangedParameters(scene, self.tenants, self.first_round)


class _ChangedParameters(_Twisting):
    kinds = (Header,)

    def twisted(self, sealed: Sealed[Header], data: bytes) -> Sequence[bytes]:
        """The same header with one bit of the parameters turned."""
        return (self.sign(sealed.content, bytes([*sealed.attachment[:-1], sealed.attachment[-1] ^ 1])),)


@dataclass(frozen=True)
class InventedTenant(Trouble):
    """The server takes a tenant's place: tenants are shown an advertisement in its name, with keys that are the server's.

    Attributes:
        tenant: Whose place.
        tenants: Who are shown it; None: all. On a sparse graph an advertisement reaches only those who share masks with its tenant, and
            the witnesses.
    """

    tenant: int = 0
    tenants: Sequence[int] | None = None

    def begin(self, scene: Scene) -> Mischief:
        """See `Trouble`."""
        scene.those([self.tenant])
        mischief = _InventedTenant(scene, self.tenants, 0)
        mischief.tenant = self.tenant
        return mischief


class _InventedTenant(_Twisting):
    kinds = (SetUp, Neighbours)
    tenant = 0

    def __init__(self, scene: Scene, tenants: Sequence[int] | None, first_round: int) -> None:
        super().__init__(scene, tenants, first_round)
        self._invented: dict[bytes, Sealed[Advertise]] = {}

    def fate(self, passing: Passing) -> Fate:
        """See `Mischief`. What is invented is the tenant's own advertisement with other keys."""
        theirs = passing.direction is Direction.TO_SERVER and passing.tenant == self.tenant
        if theirs and kind_of(passing.data) is Advertise:
            real, own = read(passing.data), SigningKey(digest("invented", self._scene.seed, self.tenant))
            keys = replace(real.content, window_key=own.public, channel_key=own.public)
            self._invented[real.digest] = seal(keys, own, b"")
        return Fate.DELIVER

    def round_of(self, sealed: Sealed[SetUp | Neighbours]) -> int:
        """It belongs to none."""
        return self._first_round

    def twisted(self, sealed: Sealed[SetUp | Neighbours], data: bytes) -> Sequence[bytes]:
        """What quotes the advertisement quotes the invented one: set-ups if its tenant is a witness, else messages to neighbours."""
        quoted = list(sealed.content.advertisements)
        for place, each in enumerate(quoted):
            real = unquote(each, Advertise, "somebody").digest
            if real in self._invented:
                invented = self._invented[real]
                quoted[place] = invented.quoted()
                # A set-up binds all advertisements by their digests.
                bound = sealed.attachment.replace(real, invented.digest)
                return (self.sign(replace(sealed.content, advertisements=tuple(quoted)), bound),)
        return (data,)


@dataclass(frozen=True)
class SplitBlock(Trouble):
    """The server wants the sum without one tenant of a block opened as well, to subtract it from the sum with it.

    Attributes:
        tenant: Whose statistics it is after.
        first_round: From which on.
    """

    tenant: int = 0
    first_round: int = 2

    def __post_init__(self) -> None:
        check_whole_number("first_round", self.first_round, 1)

    def begin(self, scene: Scene) -> Mischief:
        """See `Trouble`."""
        scene.those([self.tenant])
        mischief = _SplitBlock(scene, None, self.first_round)
        mischief.tenant = self.tenant
        return mischief


class _SplitBlock(_Twisting):
    kinds = (Proposal,)
    tenant = 0

    def round_of(self, sealed: Sealed[Proposal]) -> int:
        """As the header says that it quotes."""
        return unquote(sealed.content.header, Header, "somebody").content.round

    def twisted(self, sealed: Sealed[Proposal], data: bytes) -> Sequence[bytes]:
        """The same outcome without the tenant: all else about it is true."""
        survivors = sorted(from_bitmap(sealed.content.survivors, self._scene.n))
        if self.tenant not in survivors:
            return (data,)
        place = survivors.index(self.tenant) * EVIDENCE_BYTES
        evidence = sealed.attachment[:place] + sealed.attachment[place + EVIDENCE_BYTES :]
        survivors.remove(self.tenant)
        smaller = replace(sealed.content, survivors=to_bitmap(survivors, self._scene.n))
        return (self.sign(smaller, evidence),)
