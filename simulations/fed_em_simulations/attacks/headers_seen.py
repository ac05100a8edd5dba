"""Tenants' logs of the headers that they were shown, in a simulation: what the equivocation search lays side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from fed_em_protocols.messages import Header
from fed_em_simulations.scene import Mischief, Scene, Trouble, kind_of, read


@dataclass(frozen=True)
class SeenHeader:
    """One line of a log. Implements `fed_em_simulations.attacks.equivocation.HeaderSeen`."""

    tenant: str
    session: bytes
    round: int
    header: bytes


@dataclass(frozen=True, eq=False)
class HeaderLogs(Trouble):
    """Makes no trouble, but writes down what headers tenants are sent; put it last, behind whatever twists them.

    Attributes:
        lines: What was written so far.
    """

    lines: list[SeenHeader] = field(default_factory=list)

    def begin(self, scene: Scene) -> Mischief:
        """See `Trouble`."""
        return _Writing(scene, self.lines)


class _Writing(Mischief):
    def __init__(self, scene: Scene, lines: list[SeenHeader]) -> None:
        self._names = [tenant.name for tenant in scene.roster.tenants]
        self._lines = lines

    def forged(self, tenant: int, data: bytes) -> Sequence[bytes]:
        """See `Mischief`."""
        if kind_of(data) is Header:
            sealed = read(data)
            content = sealed.content
            self._lines.append(SeenHeader(self._names[tenant], content.session, content.round, sealed.digest))
        return (data,)
