"""Checks that what is generated is what its source gives; `--write` writes it anew.

protocols/fed_em_protocols/wire/*_pb2.py, .pyi    from wire/*.proto
docs/transitions.md                               from the tables in transitions.py
docs/scenario-fields.md                           from the settings of simulations
deploy/observability/, docs/observability.md      from metric_catalogue.py and the objectives
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable, Mapping
from enum import Enum
from pathlib import Path

from grpc_tools import protoc

from fed_em_protocols.transitions import (
    COORDINATOR_MOVES,
    ROUND_TRANSITIONS,
    SESSION_TRANSITIONS,
    SET_UP_MOVES,
    WINDOW_TRANSITIONS,
    CoordinatorPhase,
    RoundStage,
    SetUpPhase,
    TenantPhase,
    WindowStage,
    concerns_round,
    concerns_window,
)
from fed_em_server.observability.alert_rules import DOCUMENTATION
from fed_em_server.observability.generate import generated as observability
from tests.scenario_fields import PAGE as SCENARIO_FIELDS
from tests.scenario_fields import scenario_fields_page

REPOSITORY = Path(__file__).resolve().parent.parent
PROTOCOLS = REPOSITORY / "protocols"
DEFINITIONS = tuple(f"fed_em_protocols/wire/{name}.proto" for name in ("messages", "serving"))
WIRE = tuple(
    f"protocols/{each.removesuffix('.proto')}_pb2{suffix}" for each in DEFINITIONS for suffix in (".py", ".pyi")
)
TRANSITIONS = "docs/transitions.md"

# From, to, and why: an arrow of a drawing.
Arrow = tuple[Enum, Enum, str]

# What a tenant does of its own accord, which is no message of the server's.
OWN_STEPS: tuple[Arrow, ...] = (
    (TenantPhase.OFFERED, TenantPhase.JOINED, "rows and policy admit the session"),
    (TenantPhase.OFFERED, TenantPhase.CLOSED, "they do not"),
    (RoundStage.ANSWERING, RoundStage.UPLOADED, "its statistics are masked and uploaded"),
)


def generate(folder: Path) -> None:
    """Write everything that is generated below `folder`."""
    wire = folder / "protocols"
    wire.mkdir(exist_ok=True)
    status = protoc.main(["protoc", f"-I{PROTOCOLS}", f"--python_out={wire}", f"--pyi_out={wire}", *DEFINITIONS])
    if status != 0:
        raise SystemExit(f"protoc failed with status {status}")
    (folder / "docs").mkdir(exist_ok=True)
    (folder / TRANSITIONS).write_text(transitions_page(), encoding="utf-8")
    (folder / SCENARIO_FIELDS).write_text(scenario_fields_page(), encoding="utf-8")
    for name, text in _observability().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


def _observability() -> Mapping[str, str]:
    return observability((REPOSITORY / DOCUMENTATION).read_text(encoding="utf-8"))


def transitions_page() -> str:
    """All machines as Mermaid state diagrams."""
    session = {before: _own_messages(row) for before, row in SESSION_TRANSITIONS.items()}
    return f"""\
# Transitions

Drawn from the tables in `protocols/fed_em_protocols/transitions.py` by `make wire`. Either side runs small machines beside each other: a
window is set up while rounds of the one before go on. A message that is on no arrow out of a phase, and not listed below the drawing as
changing nothing there, is refused, and the state is unchanged. One that was answered before is answered with the same bytes.

## Tenant: session

What belongs to a set-up or to a round is heard once the tenant has joined, and goes to the other two machines. A tenant that is
outside takes it for what an earlier process of its own was meant to hear: it changes nothing.

{_drawing(_arrows(session), TenantPhase.OUTSIDE)}

{_unchanging(session)}

## Tenant: set-up of the next window

A new `OpenWindow` may come at every stage, and begins it again.

{_drawing(_arrows(WINDOW_TRANSITIONS, leave_out="OpenWindow"), WindowStage.NONE)}

## Tenant: round

A `Proposal` or a `Recover` may be of another round than the tenant's own: one that it only certifies, or helps to recover. It is
in no round then.

{_drawing(_arrows(ROUND_TRANSITIONS), RoundStage.NONE)}

{_unchanging(ROUND_TRANSITIONS)}

## Server: rounds

Tenants' messages may come at any time, for links come and go and slow answers come late; those that the present phase does not wait for
change nothing. The arrows are where the server goes once enough has come in, or time is up. The end of the session leads from anywhere to
`{CoordinatorPhase.CLOSED.value}`.

{_drawing(_moves(COORDINATOR_MOVES), CoordinatorPhase.GATHERING)}

## Server: set-up of the next window

A set-up that too few tenants go through is given up in any phase; one that is ready serves the next round.

{_drawing(_moves(SET_UP_MOVES), SetUpPhase.ADVERTISING)}
"""


def _own_messages(row: Mapping[type, Iterable[Enum]]) -> Mapping[type, Iterable[Enum]]:
    """What the session's own machine hears: the rest goes to the others."""
    return {kind: targets for kind, targets in row.items() if not (concerns_window(kind) or concerns_round(kind))}


def _arrows(table: Mapping[Enum, Mapping[type, Iterable[Enum]]], leave_out: str = "") -> list[Arrow]:
    """Where messages lead, but for those that are left out because they lead to one phase from all others but the first."""
    first = next(iter(table))
    found = [
        (before, after, kind.__name__)
        for before, row in table.items()
        for kind, targets in row.items()
        for after in targets
        if after is not before and (kind.__name__ != leave_out or before is first)
    ]
    return found + [arrow for arrow in OWN_STEPS if arrow[0] in table]


def _moves(table: Mapping[Enum, Iterable[Enum]]) -> list[Arrow]:
    return [(before, after, "") for before, targets in table.items() for after in targets]


def _drawing(arrows: Iterable[Arrow], first: Enum) -> str:
    """One state diagram, with the arrows between two phases drawn as one."""
    labels: dict[tuple[str, str], set[str]] = {}
    for before, after, why in arrows:
        labels.setdefault((before.value, after.value), set()).add(why)
    names = sorted({name for pair in labels for name in pair})
    lines = [f'    state "{name}" as {_id(name)}' for name in names if _id(name) != name]
    lines.append(f"    [*] --> {_id(first.value)}")
    for (before, after), whys in sorted(labels.items()):
        why = ", ".join(sorted(whys - {""}))
        lines.append(f"    {_id(before)} --> {_id(after)}" + (f": {why}" if why else ""))
    return "\n".join(["```mermaid", "stateDiagram-v2", *lines, "```"])


def _id(name: str) -> str:
    """A phase's name without what Mermaid takes for the start of an arrow."""
    return name.replace("-", "_")


def _unchanging(table: Mapping[Enum, Mapping[type, Iterable[Enum]]]) -> str:
    """What is heard in each phase and may leave it as it is."""
    rows = [
        (phase.value, sorted(kind.__name__ for kind, targets in row.items() if phase in targets))
        for phase, row in table.items()
    ]
    cells = [f"| {phase} | {', '.join(kinds)} |" for phase, kinds in rows if kinds]
    return "\n".join(["| phase | heard, and may change nothing |", "|---|---|", *cells])


def main() -> None:
    """Compare, or write."""
    if "--write" in sys.argv:
        generate(REPOSITORY)
        return
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        stale = [
            name
            for name in (*WIRE, TRANSITIONS, SCENARIO_FIELDS, *_observability())
            if (REPOSITORY / name).read_bytes() != (Path(folder) / name).read_bytes()
        ]
    if stale:
        raise SystemExit(f"{', '.join(stale)}: not what the source gives; run `make wire` or `make observability`")
    print("generated files are up to date")


if __name__ == "__main__":
    main()
