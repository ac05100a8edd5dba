"""A thousand tenants at little cost: only those that a bench watches do all their work, the others what the server and the watched need.

Whatever the server or a watched tenant gets is a real message, and costs them what it costs in earnest. The others

* remember what one of them has verified, parsed or drawn: signatures, advertisements, sets of tenants, the graph;
* leave out masks that cancel in the sum: those with somebody who uploads and is not watched;
* with `fake_deals`, deal real shares to the watched alone, and keep no shares. Then nobody who falls silent can be replaced.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import lru_cache
from typing import Any
from unittest.mock import patch

from fed_em_client.tenant_session import TenantSession
from fed_em_protocols import (
    certification,
    deposits,
    envelope,
    keys,
    members,
    tenant_outcome,
    tenant_round,
    tenant_state,
    tenant_window,
    terms,
    window,
)
from fed_em_protocols.deposits import HeldShares, box_bytes
from fed_em_protocols.graph import NeighbourGraph
from fed_em_protocols.hashing import DIGEST_BYTES
from fed_em_protocols.window import WindowSetUp
from tests.bench.drive import BEFORE_UPLOAD, CHEAP, Drive

_REMEMBERED = 1 << 15


@contextmanager
def cheap_tenants(drive: Drive, fake_deals: bool = False) -> Iterator[None]:
    """Let those whom `drive` does not watch save work."""
    with ExitStack() as stack:
        _remember(drive, stack)
        _leave_out_masks(drive, stack)
        if fake_deals:
            _fake_deals(drive, stack)
        yield


def light(session: TenantSession) -> None:
    """Let go of the bytes of an upload, which are kept in case they are asked for again, and of the vector that it was made of."""
    state = session.state
    if state.round and state.vectors:
        session.state = replace(state, vectors={}, round=replace(state.round, answers={}))


def _remember(drive: Drive, stack: ExitStack) -> None:
    def saving(real: Callable[..., Any]) -> Callable[..., Any]:
        remembered = lru_cache(_REMEMBERED)(real)

        def called(*arguments: Any) -> Any:
            return (remembered if drive.ledger.owner == CHEAP else real)(*arguments)

        return called

    for real, modules in (
        (keys.verifies, (envelope, certification)),
        (envelope.unquote, (window, tenant_window)),
        (window.check_round_keys, (window,)),
        (members.from_bitmap, (window, certification, tenant_state, tenant_round, tenant_outcome)),
    ):
        for module in modules:
            stack.enter_context(patch.object(module, real.__name__, saving(real)))
    stack.enter_context(patch.object(NeighbourGraph, "seeded", saving(NeighbourGraph.seeded)))
    units = terms.guarded_units(drive.roster, drive.state.terms.content)
    for module in (certification, tenant_round):
        stack.enter_context(
            patch.object(
                module, "guarded_units",
                lambda *given: units if drive.ledger.owner == CHEAP else terms.guarded_units(*given),
            )
        )  # fmt: skip


def _leave_out_masks(drive: Drive, stack: ExitStack) -> None:
    real = tenant_round.pair_keys

    def pair_keys(state: Any, window: Any, current: Any, peers: Iterable[int]) -> dict[int, bytes]:
        if drive.ledger.owner == CHEAP:
            lost = drive.silent if drive.silent_at is BEFORE_UPLOAD else frozenset()
            peers = drive.watched.union(lost).intersection(peers)
        return real(state, window, current, peers)

    stack.enter_context(patch.object(tenant_round, "pair_keys", pair_keys))


class _FewHolders:
    """A window's set-up in which a dealer has few holders, and two of them rebuild a secret."""

    threshold = 2

    def __init__(self, setup: WindowSetUp, holders: tuple[int, ...]) -> None:
        self._setup = setup
        self._holders = holders

    def neighbours(self, index: int) -> tuple[int, ...]:
        return self._holders

    def __getattr__(self, name: str) -> Any:
        return getattr(self._setup, name)


def _fake_deals(drive: Drive, stack: ExitStack) -> None:
    real_deal, real_open = deposits.deal, deposits.open_box

    def deal(setup: Any, index: int, *others: Any) -> tuple[bytes, bytes]:
        if drive.ledger.owner != CHEAP:
            return real_deal(setup, index, *others)
        neighbours, size = setup.neighbours(index), box_bytes(setup)
        chosen = [holder for holder in neighbours if holder in drive.watched]
        chosen += [holder for holder in neighbours if holder not in drive.watched][: max(0, 2 - len(chosen))]
        roots, boxes = secrets.token_bytes(DIGEST_BYTES * len(neighbours)), secrets.token_bytes(size * len(neighbours))
        few = tuple(sorted(chosen))
        dealt_roots, dealt_boxes = real_deal(_FewHolders(setup, few), index, *others)  # type: ignore[arg-type]
        roots = _with_entries(roots, DIGEST_BYTES, neighbours, few, dealt_roots)
        return roots, _with_entries(boxes, size, neighbours, few, dealt_boxes)

    def open_box(setup: Any, deposit: Any, dealer: int, holder: int, *others: Any) -> HeldShares | None:
        if drive.ledger.owner != CHEAP:
            return real_open(setup, deposit, dealer, holder, *others)
        return _Nothing(dealer)  # type: ignore[return-value]

    stack.enter_context(patch.object(tenant_window, "deal", deal))
    stack.enter_context(patch.object(tenant_window, "open_box", open_box))


class _Nothing:
    """Stands where a holder keeps a dealer's shares."""

    def __init__(self, dealer: int) -> None:
        self.dealer = dealer

    def from_round(self, round_number: int) -> _Nothing:
        return self


def _with_entries(table: bytes, size: int, holders: tuple[int, ...], few: tuple[int, ...], entries: bytes) -> bytes:
    """A table with an entry a holder, in which some holders' entries are put."""
    written = bytearray(table)
    for k, holder in enumerate(few):
        place = holders.index(holder) * size
        written[place : place + size] = entries[k * size : (k + 1) * size]
    return bytes(written)
