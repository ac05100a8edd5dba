"""EM rounds through Flower's deployment engine on loopback: a SuperLink with TLS and one authenticated SuperNode a tenant.

Two sessions of the real ServerApp and ClientApp, over the tenants' rows: in the first Flower relays every message of the protocol, in
the second it carries the tickets only and the rounds go over the coordinator's own stream. An E-step over a hundred rows a
tenant is part of both, and takes about a millisecond.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fed_em.errors import FedEmError
from fed_em_protocols.encoding import CHECK_WORDS
from fed_em_server.record import SessionRecord
from fed_em_simulations.federation_folder import FederationFolder
from fed_em_simulations.flower_fleet import FlowerFleet
from tests.bench.bench_federation import TenantProcesses, session_toml, write_bench_federation
from tests.bench.figures import Absent, FlowerFigures, Spread
from tests.bench.sizes import Sizes

# A fleet that stands takes a minute at least for a relayed session.
_LEAST_SECONDS = 60.0


@dataclass(frozen=True)
class _Session:
    """One session to run: its link and its EM iterations."""

    link: str
    iterations: int


def measure_flower_rounds(folder: Path, sizes: Sizes) -> FlowerFigures | Absent:
    """Start a fleet, run both sessions, stop it. What fails, or has no time left, is absent with the reason."""
    relayed, streamed = (_Session(*pair) for pair in zip(("relay", "stream"), sizes.flower_iterations, strict=True))
    if not relayed.iterations:
        return Absent("not asked for")
    deadline = time.monotonic() + sizes.flower_seconds
    federation = write_bench_federation(folder / "federation", sizes)
    # Paths of sockets must be short.
    with tempfile.TemporaryDirectory(prefix="bench-") as doors:
        sockets = {name: Path(doors) / name / "door" for name in federation.tenant_files}
        began = time.monotonic()
        try:
            with (
                TenantProcesses(federation, "flower", lambda tenant: str(sockets[tenant.name])),
                FlowerFleet(folder / "fleet", sockets) as fleet,
            ):
                start = time.monotonic() - began
                relay = _session(fleet, federation, sizes, relayed, deadline)
                stream = _session(fleet, federation, sizes, streamed, deadline)
        except FedEmError as error:
            return Absent(error.message)
    return FlowerFigures(
        nodes=sizes.tenants,
        length=_length(federation),
        start=start,
        relay_start=_part(relay, lambda rounds: rounds[0]),
        relay=_part(relay, lambda rounds: Spread.of(rounds[1:])),
        stream=_part(stream, lambda rounds: Spread.of(rounds[1:])),
    )
