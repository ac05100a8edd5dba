"""What the page is told: a picture as JSON. It holds names, sums and timings, as the record does, and nothing else."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

from fed_em.errors import CallerError
from fed_em_protocols.coordinator_state import NoticeKind
from fed_em_protocols.privacy.accounting import Spend, epsilon_of
from fed_em_protocols.privacy.promise import SAMPLING_SLACK, Privacy
from fed_em_server.live_picture import Picture
from fed_em_server.record import Participation, RoundRecord, SessionRecord
from fed_em_server.report_words import (
    banner_in_words,
    blocks_in_words,
    lacking_in_words,
    start_in_words,
    together_in_words,
    told_with_round,
)

_PARTS = {part: str(number) for number, part in enumerate(Participation)}


def state_of(picture: Picture | None, now: float, known: int = 0) -> dict[str, Any]:
    """A picture for the page.

    Args:
        picture: None before the session's terms are fixed.
        now: Seconds of the session.
        known: How many of its rounds the page has already; they are left out.

    Returns:
        `session` (what stays, or changes once), `now`, and `rounds` from number `first` on; an empty `session` without a picture.
    """
    if picture is None:
        return {"session": None, "now": None, "first": 0, "rounds": []}
    return {
        "session": _session(picture.record),
        "now": _now(picture, now),
        "first": known,
        "rounds": [_round(opened) for opened in picture.rounds[known:]],
    }


def _session(record: SessionRecord) -> dict[str, Any]:
    return {
        "title": record.title,
        "federation": record.federation,
        "session": record.session,
        "started": record.started,
        "transport": record.transport,
        "model": record.model,
        "columns": list(record.columns),
        "trust": record.trust,
        "banner": banner_in_words(record),
        "certified": record.certified,
        "private": record.privacy.in_words if record.privacy else "",
        "doubts": list(record.doubts),
        "warnings": list(record.warnings),
        "tenants": list(record.tenants),
        "blocks": [list(block) for block in record.block_members()] if record.blocks else [],
        "arranged": f"{blocks_in_words(record)}, f = {record.colluders}",
        "minimum": record.minimum_survivors,
        "pause": record.pause,
        "tolerance": None if record.stream or record.privacy else record.tolerance,
    }


def _now(picture: Picture, now: float) -> dict[str, Any]:
    last = picture.rounds[-1] if picture.rounds else None
    up, down = picture.traffic
    return {
        "second": picture.now if picture.ending else now,
        "stage": picture.stage.name.lower(),
        "doing": picture.stage.value,
        "since": picture.since,
        "round": picture.round,
        "serves": _serves(last),
        "standings": [picture.standings.of[name].name.lower() for name in picture.record.tenants],
        "here": picture.standings.here,
        "waiting": list(picture.waiting_for),
        "lacking": lacking_in_words(last) if last else "",
        "bytes": [up, down],
        "troubles": _troubles(picture),
        "privacy": _spent(picture.record.privacy, picture.round) if picture.record.privacy else None,
        "happenings": [[happening.second, told_with_round(happening)] for happening in reversed(picture.happenings)],
        "ending": list(picture.ending),
        "failed": picture.failed,
    }


def _serves(last: RoundRecord | None) -> str:
    if last is None:
        return ""
    if last.fitted_together:
        return together_in_words(last)
    return start_in_words(last) if last.start else f"iteration {last.iteration}"


def _troubles(picture: Picture) -> dict[str, int]:
    """How often what went wrong, by its name on the page."""
    named = {
        "refusals": NoticeKind.REFUSED,
        "faults": NoticeKind.FAULT,
        "failed rounds": NoticeKind.ROUND_FAILED,
        "abandoned windows": NoticeKind.WINDOW_ABANDONED,
        "pauses": NoticeKind.PAUSED,
        "lost links": NoticeKind.LEFT,
    }
    return {name: picture.told.get(kind, 0) for name, kind in named.items()} | {"restarts": picture.restarts}


def _spent(promise: Privacy, rounds: int) -> dict[str, Any]:
    """ε at the promised δ. Every round that was started may have been answered, so each counts."""
    sums = min(rounds, promise.sums)
    return {
        "epsilon": promise.epsilon,
        "delta": promise.delta,
        "sums": promise.sums,
        "started": sums,
        "spent": _epsilon_after(promise.noise_multiplier, sums, promise.delta),
    }


@lru_cache(maxsize=16)
def _epsilon_after(noise: float, sums: int, delta: float) -> float | None:
    if not sums:
        return 0.0
    try:
        return _finite(epsilon_of([Spend(noise, sums, SAMPLING_SLACK * sums)], delta))
    except CallerError:  # the accounting is not installed here
        return None


def _round(opened: RoundRecord) -> dict[str, Any]:
    return {
        "round": opened.round,
        "first": opened.first_number,
        "iteration": opened.iteration,
        "start": opened.start,
        "fit": _finite(opened.log_likelihood),
        "objective": _finite(opened.objective),
        "onward": opened.step.is_gone_on_from,
        "complete": opened.complete,
        "parts": "".join(_PARTS[part] for part in opened.participation),
        "stale": opened.stale,
        "missing": opened.missing,
        "held": len(opened.held),
        "weights": [round(weight, 5) for weight in opened.weights],
        "seconds": opened.seconds,
        "bytes": [opened.bytes_up, opened.bytes_down],
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
