"""The phases of the two machines and the tables of their legal transitions.

A message that its row does not list is out of turn: the step raises and the state is unchanged. `docs/transitions.md` is
drawn from these tables.

Either side runs three small machines beside each other: the session, the set-up of the next window, and the round. A window is set
up while rounds of the one before go on; the first header that names the new one makes it the window in use.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import Enum
from typing import TypeVar

from fed_em_protocols.errors import IllegalStep, OutOfTurn
from fed_em_protocols.messages import (
    Advertise,
    AskBase,
    Base,
    Boxes,
    Certificate,
    Close,
    Counted,
    Deposit,
    Endorsement,
    Header,
    Hello,
    Join,
    Neighbours,
    Opening,
    OpenWindow,
    Proposal,
    Ready,
    Recover,
    Refusal,
    Reveal,
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
    CLOSED = "closed"


class WindowStage(Enum):
    """Where a tenant stands in the set-up of its next window."""

    NONE = "no-window"
    ADVERTISED = "advertised"
    FIXED = "set-up-fixed"
    DEPOSITED = "deposited"
    READY = "ready"


class RoundStage(Enum):
    """Where a tenant stands in a round."""

    NONE = "no-round"
    ANSWERING = "answering"
    UPLOADED = "uploaded"
    OPENED = "opened"


class CoordinatorPhase(Enum):
    """Where the server stands in its rounds."""

    GATHERING = "gathering"
    UPLOADING = "uploading"
    CERTIFYING = "certifying"
    OPENING = "opening"
    RECOVERING = "recovering"
    CLOSING = "closing-a-round"
    CLOSED = "closed"


class SetUpPhase(Enum):
    """Where the server stands in the set-up of the next window."""

    ADVERTISING = "advertising"
    DRAWING = "drawing-the-graph"
    DEPOSITING = "depositing"
    CONFIRMING = "confirming"
    READY = "ready"


_T, _W, _R = TenantPhase, WindowStage, RoundStage
_C, _S = CoordinatorPhase, SetUpPhase

_Stage = TypeVar("_Stage", bound=Enum)

_WINDOW_MESSAGES = (OpenWindow, SetUp, Neighbours, Boxes)
_ROUND_MESSAGES = (Header, Base, Proposal, Certificate, Counted, Recover)

# A new process may be told what was meant for the one before it: that changes nothing.
SESSION_TRANSITIONS: Mapping[TenantPhase, Mapping[type, frozenset[TenantPhase]]] = {
    _T.OUTSIDE: {
        SessionTerms: frozenset({_T.OFFERED}),
        **dict.fromkeys((*_WINDOW_MESSAGES, *_ROUND_MESSAGES, Close), frozenset({_T.OUTSIDE})),
    },
    _T.OFFERED: {SessionTerms: frozenset({_T.OFFERED}), Close: frozenset({_T.CLOSED})},
    _T.JOINED: {
        SessionTerms: frozenset({_T.JOINED}),
        **dict.fromkeys((*_WINDOW_MESSAGES, *_ROUND_MESSAGES), frozenset({_T.JOINED})),
        Close: frozenset({_T.CLOSED}),
    },
    _T.CLOSED: {},
}

WINDOW_TRANSITIONS: Mapping[WindowStage, Mapping[type, frozenset[WindowStage]]] = {
    _W.NONE: {OpenWindow: frozenset({_W.ADVERTISED})},
    # Neighbours without their set-up, which was lost on the way, say nothing: the server gives up waiting, or tells both again.
    _W.ADVERTISED: {
        OpenWindow: frozenset({_W.ADVERTISED}),
        SetUp: frozenset({_W.FIXED}),
        Neighbours: frozenset({_W.ADVERTISED}),
    },
    _W.FIXED: {OpenWindow: frozenset({_W.ADVERTISED}), Neighbours: frozenset({_W.DEPOSITED})},
    _W.DEPOSITED: {OpenWindow: frozenset({_W.ADVERTISED}), Boxes: frozenset({_W.READY})},
    # Whatever first shows a header of the new window makes it the one in use.
    _W.READY: {
        OpenWindow: frozenset({_W.ADVERTISED}),
        **dict.fromkeys((Header, Proposal, Recover), frozenset({_W.NONE})),
    },
}

# Whoever only certifies a round or helps to recover it is in no round of its own; nor is whoever learns from the opening of a window
# that its last round is over.
ROUND_TRANSITIONS: Mapping[RoundStage, Mapping[type, frozenset[RoundStage]]] = {
    _R.NONE: {
        Header: frozenset({_R.ANSWERING}),
        Proposal: frozenset({_R.NONE}),
        Counted: frozenset({_R.NONE}),
        Recover: frozenset({_R.NONE}),
    },
    _R.ANSWERING: {
        OpenWindow: frozenset({_R.ANSWERING, _R.NONE}),
        Header: frozenset({_R.ANSWERING}),
        Base: frozenset({_R.ANSWERING}),
        Proposal: frozenset({_R.ANSWERING, _R.NONE}),
        Counted: frozenset({_R.ANSWERING}),
        Recover: frozenset({_R.ANSWERING, _R.NONE}),
    },
    _R.UPLOADED: {
        OpenWindow: frozenset({_R.UPLOADED, _R.NONE}),
        Header: frozenset({_R.ANSWERING}),
        Proposal: frozenset({_R.UPLOADED, _R.NONE}),
        Certificate: frozenset({_R.OPENED}),
        Counted: frozenset({_R.UPLOADED}),
        Recover: frozenset({_R.UPLOADED, _R.NONE}),
    },
    _R.OPENED: {
        OpenWindow: frozenset({_R.OPENED, _R.NONE}),
        Header: frozenset({_R.ANSWERING}),
        Proposal: frozenset({_R.OPENED, _R.NONE}),
        Counted: frozenset({_R.OPENED}),
        Recover: frozenset({_R.OPENED, _R.NONE}),
    },
}

# What tenants may send in any phase of the server: links come and go, and slow answers come late (they change nothing then).
_FROM_TENANTS: frozenset[type] = frozenset(
    {Hello, Join, Refusal, Advertise, Reveal, Deposit, Ready, Upload, Endorsement, AskBase, Opening, Shares}
)

COORDINATOR_HEARS: Mapping[CoordinatorPhase, frozenset[type]] = {
    phase: frozenset() if phase is _C.CLOSED else _FROM_TENANTS for phase in CoordinatorPhase
}

# Where the server goes by itself, once enough has come in or time is up. Ending the session leads from anywhere to CLOSED.
COORDINATOR_MOVES: Mapping[CoordinatorPhase, frozenset[CoordinatorPhase]] = {
    _C.GATHERING: frozenset({_C.UPLOADING, _C.CLOSING}),
    _C.UPLOADING: frozenset({_C.CERTIFYING, _C.OPENING, _C.GATHERING}),
    _C.CERTIFYING: frozenset({_C.OPENING, _C.GATHERING}),
    _C.OPENING: frozenset({_C.RECOVERING, _C.GATHERING}),
    _C.RECOVERING: frozenset({_C.GATHERING}),
    _C.CLOSING: frozenset({_C.GATHERING}),
    _C.CLOSED: frozenset(),
}

SET_UP_MOVES: Mapping[SetUpPhase, frozenset[SetUpPhase]] = {
    _S.ADVERTISING: frozenset({_S.DRAWING, _S.DEPOSITING}),
    _S.DRAWING: frozenset({_S.DEPOSITING}),
    _S.DEPOSITING: frozenset({_S.CONFIRMING}),
    _S.CONFIRMING: frozenset({_S.READY}),
    _S.READY: frozenset(),
}


def require_turn(table: Mapping[_Stage, Collection[type]], phase: _Stage, kind: type, sender: str) -> None:
    """Raise `OutOfTurn`, naming the sender, if a message of `kind` may not come in `phase`."""
    if kind not in table[phase]:
        raise OutOfTurn(
            sender,
            f"sent {kind.__name__} while this side is {phase.value}",
            proves="its software is out of step",
        )


def require_target(
    table: Mapping[_Stage, Mapping[type, Collection[_Stage]]], before: _Stage, kind: type, after: _Stage
) -> None:
    """Raise `IllegalStep` if a tenant's step went where its table does not let it: a bug on this side."""
    if after is not before and after not in table[before].get(kind, ()):
        raise IllegalStep(f"a {kind.__name__} led from {before.value} to {after.value}, which the table does not know")


def require_move(table: Mapping[_Stage, Collection[_Stage]], before: _Stage, after: _Stage) -> None:
    """Raise `IllegalStep` if the server moved where its table does not let it: a bug on this side."""
    if after is not before and after not in table[before]:
        raise IllegalStep(f"the server went from {before.value} to {after.value}, which the table does not know")


def concerns_window(kind: type) -> bool:
    """Whether a message from the server belongs to the set-up of a window."""
    return kind in _WINDOW_MESSAGES


def concerns_round(kind: type) -> bool:
    """Whether a message from the server belongs to a round."""
    return kind in _ROUND_MESSAGES
