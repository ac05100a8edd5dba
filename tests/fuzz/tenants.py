"""Fuzz target for the tenant's machine: a server that signs anything, shown to a tenant at any moment of a session."""

from __future__ import annotations

import copy

from fed_em_simulations.simulated_parties import seeded_randomness
from tests.fuzz.changes import changed
from tests.fuzz.choices import Choices, told_next
from tests.fuzz.record import TenantMoment, recorded
from tests.fuzz.signatures import noted_signatures
from tests.fuzz.watched import PatientWork, WatchedSession
from tests.protocols.federation import identity_of

_MOST_STEPS = 12
_SERVER = identity_of("server")
# Who signs what was changed: mostly the server.
_KEYS = (*[_SERVER] * 7, identity_of("t0"))


def tenant(data: bytes) -> None:
    """A tenant is told what comes next, or anything else that was ever said, as it is or changed; see `WatchedSession`."""
    choices, record = Choices(data), recorded()
    moment = choices.one(list(record.tenant_moments.values()))
    signatures = dict(record.signatures)
    with noted_signatures(signatures):
        session, auditor = session_at(moment), copy.deepcopy(moment.auditor)
        said, pool, following = list(record.for_tenants), record.pool.grown(), iter(moment.messages)
        for _ in range(_MOST_STEPS):
            if not choices:
                break
            message = told_next(following, said, choices)
            if choices.below(3):
                message = changed(message, choices.one(_KEYS), choices, pool)
            said.append(message)
            session.hears(message, moment.index, auditor, signatures)


def session_at(moment: TenantMoment) -> WatchedSession:
    """A tenant as it was at a moment."""
    session = WatchedSession(
        moment.state.me, PatientWork(moment.work), copy.deepcopy(moment.marks), seeded_randomness(7)
    )
    session.state = moment.state
    return session
