"""The phases of the two machines and the one table of legal transitions.

A message that its row does not list is out of turn: the step raises and the state is unchanged. `docs/transitions.md` is drawn
from this table. A round under malicious-server trust adds a phase between upload and opening on either side.
"""

from __future__ import annotations

from collections.abc import Mapping
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

# Kinds that may come in any phase of the server: links come and go, and slow answers come late (then they change nothing).
_STAY: tuple[type, ...] = (Hello, Join, Refusal, Advertise, Deposit, Ready, Upload, Opening, Shares)


def _coordinator_row(phase: CoordinatorPhase, **more: CoordinatorPhase) -> dict[type, frozenset[CoordinatorPhase]]:
    row = {kind: frozenset({phase}) for kind in _STAY}
    for kind in _STAY:
        if kind.__name__ in more:
            row[kind] = frozenset({phase, more[kind.__name__]})
    return row


COORDINATOR_TRANSITIONS: Mapping[CoordinatorPhase, Mapping[type, frozenset[CoordinatorPhase]]] = {
    _C.GATHERING: _coordinator_row(_C.GATHERING),
    _C.ADVERTISING: _coordinator_row(_C.ADVERTISING, Advertise=_C.DEPOSITING),
    _C.DEPOSITING: _coordinator_row(_C.DEPOSITING, Deposit=_C.CONFIRMING),
    _C.CONFIRMING: _coordinator_row(_C.CONFIRMING, Ready=_C.READY),
    _C.READY: _coordinator_row(_C.READY),
    _C.UPLOADING: _coordinator_row(_C.UPLOADING, Upload=_C.OPENING),
    _C.OPENING: _coordinator_row(_C.OPENING, Opening=_C.RECOVERING),
    _C.RECOVERING: _coordinator_row(_C.RECOVERING, Shares=_C.READY),
    _C.CLOSED: {},
}

Phase = TypeVar("Phase", TenantPhase, CoordinatorPhase)


def require_turn(table: Mapping[Phase, Mapping[type, frozenset[Phase]]], phase: Phase, kind: type, sender: str) -> None:
    """Raise `OutOfTurn`, naming the sender, if a message of `kind` may not come in `phase`."""
    if kind not in table[phase]:
        raise OutOfTurn(
            sender,
            f"sent {kind.__name__} while this side is {phase.value}",
            proves="its software is out of step",
        )


def require_target(
    table: Mapping[Phase, Mapping[type, frozenset[Phase]]], before: Phase, kind: type, after: Phase
) -> None:
    """Raise `IllegalStep` if a step went where the table does not let it: a bug on this side."""
    if after not in table[before][kind]:
        raise IllegalStep(f"a {kind.__name__} led from {before.value} to {after.value}, which the table does not know")
