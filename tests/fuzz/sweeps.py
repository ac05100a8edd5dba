"""All `variants` of what is said at each kind of moment, signed validly, shown to the machine that was about to read the original."""

from __future__ import annotations

import copy
import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from fed_em_protocols.envelope import Sealed, seal, unseal
from tests.fuzz.record import ServerMoment, TenantMoment, recorded
from tests.fuzz.server import Server
from tests.fuzz.sessions import SessionKind
from tests.fuzz.signatures import Signatures, noted_signatures
from tests.fuzz.tenants import session_at
from tests.fuzz.variants import other_bytes, variants

M = TypeVar("M", TenantMoment, ServerMoment)


def tenant_defects(kind: SessionKind) -> list[str]:
    """What goes wrong at tenants in the recorded sessions of a kind; a line for each defect."""
    found: dict[str, str] = {}
    signatures = dict(recorded().signatures)
    with noted_signatures(signatures):
        for moment in _some(recorded().tenant_moments.values(), kind):
            for what, data in _changed(moment.messages[0], signatures):
                session, auditor = session_at(moment), copy.deepcopy(moment.auditor)
                _try(found, what, lambda: session.hears(data, moment.index, auditor, signatures))  # noqa: B023
    return [f"{error}: {what}" for error, what in found.items()]


def server_defects(kind: SessionKind) -> list[str]:
    """The same at the server, which is told nothing more afterwards."""
    found: dict[str, str] = {}
    for moment in _some(recorded().server_moments.values(), kind):
        tenant, genuine = moment.messages[0]
        for what, data in _changed(genuine, recorded().signatures):
            machine = Server(moment)
            _try(found, what, lambda: machine.hears(tenant, data, cut=False))  # noqa: B023
            _try(found, what, machine.hears_nothing_more)
    return [f"{error}: {what}" for error, what in found.items()]


def _some(moments: Iterable[M], kind: SessionKind) -> Iterator[M]:
    """Of the moments before a message of one type, the first, one in the middle and the last."""
    by_type: dict[type, list[M]] = {}
    for moment in moments:
        if moment.kind is kind:
            said = moment.messages[0]
            data = said if isinstance(said, bytes) else said[1]
            by_type.setdefault(type(unseal(data, "recorded").content), []).append(moment)
    for alike in by_type.values():
        yield from (alike[place] for place in sorted({0, len(alike) // 2, len(alike) - 1}))


def _changed(genuine: bytes, signatures: Signatures) -> Iterator[tuple[str, bytes]]:
    sealed: Sealed[Any] = unseal(genuine, "recorded")
    key, name = signatures[sealed.signature][0], type(sealed.content).__name__
    for what, content in variants(sealed.content):
        yield f"{name}.{what} = {getattr(content, what)!r}"[:200], seal(content, key, sealed.attachment).to_bytes()
    for attachment in other_bytes(sealed.attachment):
        yield f"{name} with an attachment of {len(attachment)} bytes", seal(sealed.content, key, attachment).to_bytes()


def _try(found: dict[str, str], what: str, step: Callable[[], object]) -> None:
    try:
        step()
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        found.setdefault(f"{type(error).__name__} in {last.name}", f"{error} after {what}")
