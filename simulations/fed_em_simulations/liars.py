"""Tenants that lie: real sessions whose outgoing messages are twisted and signed anew with the tenant's own keys."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from fed_em_client.tenant_session import TenantSession
from fed_em_protocols.deposits import deal
from fed_em_protocols.envelope import Sealed, seal, unseal
from fed_em_protocols.messages import Advertise, Deposit, Hello, Join, Payload, Ready, Refusal, Reveal
from fed_em_protocols.round_keys import KeyChain
from fed_em_protocols.tenant_state import TenantWindow
from fed_em_simulations.simulated_parties import seeded_randomness

Twist = Callable[["Liar", Any, bytes], "bytes | tuple[bytes, ...] | None"]

_LONG_TERM = (Hello, Join, Refusal, Advertise)
_OF_SET_UP = (Reveal, Deposit, Ready)


class Liar(TenantSession):
    """Replaces messages of one kind by what `twist` makes of them (None: nothing); see `lying`."""

    kind: type
    twist: Twist

    def handle(self, data: bytes) -> tuple[bytes, ...]:
        return self._twisted(super().handle(data))

    def greet(self) -> tuple[bytes, ...]:
        return self._twisted(super().greet())

    def sign(self, content: Payload, attachment: bytes = b"") -> bytes:
        """Sign with the key that the server expects for this kind."""
        window = self._window_of(content)
        identity = self.state.me.identity
        key = identity if window is None or isinstance(content, _LONG_TERM) else window.secrets.signing_key
        return seal(content, key, attachment).to_bytes()

    def _window_of(self, content: Payload) -> TenantWindow | None:
        """The window that a message belongs to: the one being set up, one that it names, or the one in use."""
        if isinstance(content, _OF_SET_UP):
            return self.state.upcoming
        return self.state.window_of(getattr(content, "setup", b"")) or self.state.window or self.state.upcoming

    def _twisted(self, messages: tuple[bytes, ...]) -> tuple[bytes, ...]:
        sent: list[bytes] = []
        for data in messages:
            sealed: Sealed[Any] = unseal(data, "itself")
            lies = (
                type(self).twist(self, sealed.content, sealed.attachment) if type(sealed.content) is self.kind else data
            )
            sent += () if lies is None else (lies,) if isinstance(lies, bytes) else lies
        return tuple(sent)


def lying(kind: type, twist: Twist) -> type[Liar]:
    """A kind of tenant that twists its messages of one kind."""
    return type("Lying", (Liar,), {"kind": kind, "twist": staticmethod(twist)})


def with_changes(**changes: Any) -> Twist:
    """Other fields, the rest as it is."""
    return lambda liar, content, attachment: liar.sign(replace(content, **changes), attachment)


def deals_falsely(liar: Liar, content: Any, attachment: bytes) -> bytes:  # noqa: ARG001  as any twist
    """Shares of other secrets than those advertised, under roots that it signs."""
    window, me = liar.state.upcoming, liar.state.me
    assert window is not None and window.setup is not None
    false = replace(window.secrets, chain=KeyChain(b"false" * 6 + b"!!", window.secrets.chain.round))
    names = {index: tenant.name for index, tenant in enumerate(me.roster.tenants)}
    roots, boxes = deal(window.setup, me.index, false, names, seeded_randomness(99))
    return liar.sign(replace(content, roots=roots), boxes)


def flipped(data: bytes) -> bytes:
    """The same bytes with one bit changed."""
    return bytes([data[0] ^ 1]) + data[1:]


def with_attachment(change: Callable[[bytes], bytes]) -> Twist:
    """The same content with other bulk bytes."""
    return lambda liar, content, attachment: liar.sign(content, change(attachment))
