"""Checks that what is generated is what its source gives; `--write` writes it anew.

protocols/fed_em_protocols/wire/messages_pb2.py, .pyi    from wire/messages.proto
docs/transitions.md                                      from the tables in transitions.py
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

from fed_em_protocols.transitions import COORDINATOR_MOVES, TENANT_TRANSITIONS, TenantPhase

REPOSITORY = Path(__file__).resolve().parent.parent
PROTOCOLS = REPOSITORY / "protocols"
DEFINITION = "fed_em_protocols/wire/messages.proto"
WIRE = tuple(f"protocols/fed_em_protocols/wire/messages_pb2{suffix}" for suffix in (".py", ".pyi"))
TRANSITIONS = "docs/transitions.md"

# What the tenant itself does, which is no message of the server's.
OWN_STEPS = (
    (TenantPhase.OFFERED, "the rows and the policy admit the session", TenantPhase.JOINED),
    (TenantPhase.ANSWERING, "its statistics are masked and uploaded", TenantPhase.UPLOADED),
)


def generate(folder: Path) -> None:
    """Write everything that is generated below `folder`."""
    wire = folder / "protocols"
    wire.mkdir(exist_ok=True)
    status = protoc.main(["protoc", f"-I{PROTOCOLS}", f"--python_out={wire}", f"--pyi_out={wire}", DEFINITION])
    if status != 0:
        raise SystemExit(f"protoc failed with status {status}")
    (folder / "docs").mkdir(exist_ok=True)
    (folder / TRANSITIONS).write_text(transitions_page(), encoding="utf-8")


def transitions_page() -> str:
    """Both machines as Mermaid state diagrams."""
    return f"""\
# Transitions

Drawn from the tables in `protocols/fed_em_protocols/transitions.py` by `make wire`; a message that is not on an arrow out of a phase (or
told to change nothing there) is refused, and the state is unchanged.

## Tenant

A new window (`OpenWindow`) and the end (`Close`) may come in any phase after joining; the terms may come again on a new link.

```mermaid
stateDiagram-v2
    [*] --> outside
{_tenant_arrows()}
```

## Server

Tenants' messages may come at any time, for links come and go and slow answers come late; those that the present stage does not wait for
change nothing. The arrows are where the server goes once enough has come in, or time is up.

```mermaid
stateDiagram-v2
    [*] --> gathering
{_server_arrows()}
```
"""


def _tenant_arrows() -> str:
    labels: dict[tuple[str, str], list[str]] = {}
    for before, row in TENANT_TRANSITIONS.items():
        for kind, targets in row.items():
            for after in targets:
                any_time = kind.__name__ in {"OpenWindow", "Close"} and before is not TenantPhase.JOINED
                if before is not after and not any_time:
                    labels.setdefault((before.value, after.value), []).append(kind.__name__)
    for before, step, after in OWN_STEPS:
        labels.setdefault((before.value, after.value), []).append(step)
    return "\n".join(f"    {a} --> {b}: {', '.join(sorted(kinds))}" for (a, b), kinds in sorted(labels.items()))


def _server_arrows() -> str:
    pairs = sorted((a.value, b.value) for a, targets in COORDINATOR_MOVES.items() for b in targets)
    return "\n".join(f"    {a} --> {b}" for a, b in pairs)


def main() -> None:
    """Compare, or write."""
    if "--write" in sys.argv:
        generate(REPOSITORY)
        return
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        stale = [
            name
            for name in (*WIRE, TRANSITIONS)
            if (REPOSITORY / name).read_bytes() != (Path(folder) / name).read_bytes()
        ]
    if stale:
        raise SystemExit(f"{', '.join(stale)}: not what the source gives; run `make wire`")
    print("generated files are up to date")


if __name__ == "__main__":
    main()
