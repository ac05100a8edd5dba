"""The phases of the two machines and the tables of their legal transitions.

A message that its row does not list is out of turn: the step raises and the state is unchanged. `docs/transitions.md` is
drawn from these tables. A round under malicious-server trust adds a phase between upload and opening on either side.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import Enum
from typing import TypeVar

from fed_em_protocols.errors import IllegalStep, OutOfTurn
from fed_em_protocols.messages import (
    Advertise,
    Boxes,
    Certificate,
    Close,
    Deposit,
    Header,
    Hello,
    Join,
    Opening,
    OpenWindow,
    Ready,
    Recover,
    Refusal,
    SetUp,
    Shares,
    Upload,
)
from fed_em_protocols.terms import SessionTerms


class TenantPhase(Enum):
    """Where a tenant stands in a session."""

    OUTSIDE = "outside"
    OFFERED = "offered"
    JOINED = "joined"
    ADVERTISED = "advertised"
    DEPOSITED = "deposited"
    READY = "ready"
    ANSWERING = "answering"
    UPLOADED = "uploaded"
    OPENED = "opened"
    CLOSED = "closed"


class CoordinatorPhase(Enum):
    """Where the server stands in a session."""

    GATHERING = "gathering"
    ADVERTISING = "advertising"
    DEPOSITING = "depositing"
    CONFIRMING = "confirming"
    READY = "ready"
    UPLOADING = "uploading"
    OPENING = "opening"
    RECOVERING = "recovering"
    CLOSED = "closed"


_T = TenantPhase
_C = CoordinatorPhase

Phase = TypeVar("Phase", TenantPhase, CoordinatorPhase)

# What a tenant can only make sense of once it was offered terms.
_LATER: tuple[type, ...] = (OpenWindow, SetUp, Boxes, Header, Certificate, Recover, Close)

# What a member of a window may always be told: the terms again (a new link), a new window, the end.
_ANY_TIME: Mapping[type, frozenset[TenantPhase]] = {
    OpenWindow: frozenset({_T.ADVERTISED}),
    Close: frozenset({_T.CLOSED}),
}


def _tenant_row(phase: TenantPhase, **more: frozenset[TenantPhase]) -> dict[type, frozenset[TenantPhase]]:
    by_name = {kind.__name__: kind for kind in (SetUp, Boxes, Header, Certificate, Recover)}
    row = {**_ANY_TIME, SessionTerms: frozenset({phase})}
    row.update({by_name[name]: targets for name, targets in more.items()})
    return row


TENANT_TRANSITIONS: Mapping[TenantPhase, Mapping[type, frozenset[TenantPhase]]] = {
    # A new process may be told what was meant for the one before it: that changes nothing.
    _T.OUTSIDE: {SessionTerms: frozenset({_T.OFFERED}), **dict.fromkeys(_LATER, frozenset({_T.OUTSIDE}))},
    _T.OFFERED: {SessionTerms: frozenset({_T.OFFERED}), Close: frozenset({_T.CLOSED})},
    _T.JOINED: _tenant_row(_T.JOINED),
    _T.ADVERTISED: _tenant_row(_T.ADVERTISED, SetUp=frozenset({_T.DEPOSITED})),
    _T.DEPOSITED: _tenant_row(_T.DEPOSITED, Boxes=frozenset({_T.READY})),
    _T.READY: _tenant_row(_T.READY, Header=frozenset({_T.ANSWERING}), Recover=frozenset({_T.READY})),
    _T.ANSWERING: _tenant_row(
        _T.ANSWERING, Header=frozenset({_T.ANSWERING}), Recover=frozenset({_T.ANSWERING, _T.READY})
    ),
    _T.UPLOADED: _tenant_row(
        _T.UPLOADED,
        Header=frozenset({_T.ANSWERING}),
        Certificate=frozenset({_T.OPENED}),
        Recover=frozenset({_T.UPLOADED, _T.READY}),
    ),
    _T.OPENED: _tenant_row(_T.OPENED, Header=frozenset({_T.ANSWERING}), Recover=frozenset({_T.OPENED, _T.READY})),
    _T.CLOSED: {},
}

# What tenants may send in any phase of the server: links come and go, and slow answers come late (they change nothing then).
_FROM_TENANTS: frozenset[type] = frozenset({Hello, Join, Refusal, Advertise, Deposit, Ready, Upload, Opening, Shares})

COORDINATOR_HEARS: Mapping[CoordinatorPhase, frozenset[type]] = {
    phase: frozenset() if phase is _C.CLOSED else _FROM_TENANTS for phase in CoordinatorPhase
}

# Where the server goes by itself, once enough has come in or time is up. Closing leads from anywhere to CLOSED.
COORDINATOR_MOVES: Mapping[CoordinatorPhase, frozenset[CoordinatorPhase]] = {
    _C.GATHERING: frozenset({_C.ADVERTISING, _C.UPLOADING}),
    _C.ADVERTISING: frozenset({_C.DEPOSITING, _C.GATHERING}),
    _C.DEPOSITING: frozenset({_C.CONFIRMING, _C.GATHERING}),
    _C.CONFIRMING: frozenset({_C.READY, _C.GATHERING}),
    _C.READY: frozenset({_C.GATHERING}),
    _C.UPLOADING: frozenset({_C.OPENING, _C.GATHERING}),
    _C.OPENING: frozenset({_C.RECOVERING, _C.READY, _C.GATHERING}),
    _C.RECOVERING: frozenset({_C.READY, _C.GATHERING}),
    _C.CLOSED: frozenset(),
}


def require_turn(table: Mapping[Phase, Collection[type]], phase: Phase, kind: type, sender: str) -> None:
    """Raise `OutOfTurn`, naming the sender, if a message of `kind` may not come in `phase`."""
    if kind not in table[phase]:
        raise OutOfTurn(
            sender,
            f"sent {kind.__name__} while this side is {phase.value}",
            proves="its software is out of step",
        )


def require_target(before: TenantPhase, kind: type, after: TenantPhase) -> None:
    """Raise `IllegalStep` if a tenant's step went where its table does not let it: a bug on this side."""
    if after not in TENANT_TRANSITIONS[before][kind]:
        raise IllegalStep(f"a {kind.__name__} led from {before.value} to {after.value}, which the table does not know")


def require_move(before: CoordinatorPhase, after: CoordinatorPhase) -> None:
    """Raise `IllegalStep` if the server moved where its table does not let it: a bug on this side."""
    if after is not before and after not in COORDINATOR_MOVES[before]:
        raise IllegalStep(f"the server went from {before.value} to {after.value}, which the table does not know")
