"""Whether a session that is not over is the one that a configuration means; if so, it goes on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

from fed_em.errors import CallerError
from fed_em_protocols.envelope import unseal
from fed_em_protocols.errors import SERVER
from fed_em_protocols.limits import PROTOCOL_VERSION
from fed_em_protocols.messages import Payload
from fed_em_protocols.terms import SessionTerms
from fed_em_protocols.transcript.fit_plan import planned
from fed_em_server.checkpoints.session_checkpoint import KeptPlan, SessionCheckpoint
from fed_em_server.checkpoints.store import ABANDONED, FINISHED, Changes, CheckpointStore
from fed_em_server.session import SessionPlan

_TWO_WAYS = (
    "put back what was changed to go on with it, or begin another session with --new, which leaves this one as it is"
)

# Where a session's file says what its description holds, if not in a table of the same name.
_IN_FIT = {
    "starts": "starts",
    "tracks": "tracks",
    "standard_errors": "standard_errors",
    "bootstrap": "bootstrap",
    "final_components": "least_weight or least_distance",
}


def take_up(store: CheckpointStore, plan: SessionPlan, new: bool = False) -> tuple[SessionPlan, SessionCheckpoint]:
    """The session to run: the one of the store that is not over, or a new one.

    Args:
        store: Open.
        plan: A fresh one, of the present configuration.
        new: Abandon the session that is not over. What was kept of it stays.

    Returns:
        The plan, with the number of the session that goes on, and its checkpoints.

    Raises:
        CallerError: the session in the store has another plan: names what differs.
        EnvironmentFault: as `CheckpointStore` and `SessionCheckpoint`.
    """
    row = store.unfinished()
    if row is not None and new:
        store.commit(row.session, row.life, Changes({"status": ABANDONED}))
        row = None
    checkpoint = SessionCheckpoint(store, row)
    if row is None:
        return plan, checkpoint
    same = replace(plan, terms=replace(plan.terms, session=bytes.fromhex(row.session)))
    _require_same(checkpoint, same)
    checkpoint.take_over()
    return same, checkpoint


def ended_well(store: CheckpointStore, plan: SessionPlan) -> str | None:
    """The number, hexadecimal, of the newest session of a store, if it ended with a model and had this very plan; else None.

    Raises:
        EnvironmentFault: as `CheckpointStore` and `SessionCheckpoint`.
    """
    row = store.newest()
    if row is None or row.status != FINISHED:
        return None
    same = replace(plan, terms=replace(plan.terms, session=bytes.fromhex(row.session)))
    return None if any(_changed(SessionCheckpoint(store, row).plan, same)) else row.session


def _require_same(checkpoint: SessionCheckpoint, plan: SessionPlan) -> None:
    kept, what = checkpoint.plan, f"session {checkpoint.session} is not over (round {checkpoint.last_round})"
    if kept.protocol != PROTOCOL_VERSION:
        raise CallerError(
            f"{what}, and speaks version {kept.protocol} of the protocol; this version of fed-em speaks {PROTOCOL_VERSION}",
            remedy="go on with the version that began it, or begin another session with --new",
        )
    changed = list(_changed(kept, plan))
    if changed:
        raise CallerError(f"{what}, and these have changed since it began: {', '.join(changed)}", remedy=_TWO_WAYS)


def _changed(kept: KeptPlan, plan: SessionPlan) -> Iterator[str]:
    """What is not as it was, by the names of the session's file."""
    sealed = unseal(kept.terms, SERVER)
    then: Payload = sealed.content
    assert isinstance(then, SessionTerms)
    if then.roster != plan.terms.roster:
        yield "the roster"
    described = type(plan.description).from_json(sealed.attachment)
    for name in _differing(described.model_dump(), plan.description.model_dump()):
        yield f"[fit] {_IN_FIT[name]}" if name in _IN_FIT else name
    terms = _differing(asdict(then), asdict(plan.terms))
    yield from (f"[trust] {name}" for name in terms if name not in ("roster", "schema"))
    yield from (f"[fit] {name}" for name in _differing(kept.fit.model_dump(), planned(plan).model_dump()))


def _differing(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [name for name in {**then, **now} if then.get(name) != now.get(name)]
