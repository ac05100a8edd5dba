"""EM rounds through Flower's deployment engine on loopback: a SuperLink with TLS and one authenticated SuperNode a tenant.

Three sessions of the real ServerApp and ClientApp, over the tenants' rows: in two of them, one a trust, Flower carries the
tickets only and the rounds go over the coordinator's own stream; in the third it relays every message of the protocol. An E-step
over a hundred rows a tenant is part of all of them, and takes about a millisecond.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from fed_em.errors import FedEmError
from fed_em_protocols.ring import RING_64
from fed_em_protocols.terms import Trust
from fed_em_server.record import RECORD_FILE, SessionRecord
from fed_em_simulations.federation_folder import FederationFolder
from fed_em_simulations.flower_fleet import FlowerFleet
from tests.bench.bench_federation import TenantProcesses, session_toml, write_bench_federation
from tests.bench.figures import Absent, FlowerFigures, Spread
from tests.bench.sizes import Sizes

# A fleet that stands takes a minute at least for a relayed session.
_LEAST_SECONDS = 60.0


def measure_flower_rounds(folder: Path, sizes: Sizes) -> FlowerFigures | Absent:
    """Start a fleet, run both sessions, stop it. What fails, or has no time left, is absent with the reason."""
    if sizes.flower_seconds < _LEAST_SECONDS:
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
                stream = _session(fleet, federation, sizes, "stream", deadline)
                semi_honest = _session(fleet, federation, sizes, "stream", deadline, Trust.SEMI_HONEST)
                # The longest comes last.
                asked = "relay" in sizes.flower_iterations
                relay = _session(fleet, federation, sizes, "relay", deadline) if asked else Absent("not asked for")
        except FedEmError as error:
            return Absent(error.message)
    return FlowerFigures(
        nodes=sizes.tenants,
        length=federation.server.description.fitted_model.layout().size + RING_64.tail_words,
        start=start,
        relay_start=relay if isinstance(relay, Absent) else relay[0],
        relay=relay if isinstance(relay, Absent) else Spread.of(relay[1:]),
        stream=stream if isinstance(stream, Absent) else Spread.of(stream[1:]),
        semi_honest=semi_honest if isinstance(semi_honest, Absent) else Spread.of(semi_honest[1:]),
    )


def _session(
    fleet: FlowerFleet,
    federation: FederationFolder,
    sizes: Sizes,
    link: str,
    deadline: float,
    trust: Trust = Trust.MALICIOUS_SERVER,
) -> tuple[float, ...] | Absent:
    """Run one session to its end; the seconds of its rounds, the first of which sums the moments."""
    seconds = deadline - time.monotonic()
    if seconds < _LEAST_SECONDS:
        return Absent("its time was used up")
    output = f"{link}-{trust.label}"
    file = federation.session_file.with_name(f"{output}.toml")
    file.write_text(session_toml(sizes, output, sizes.flower_iterations[link], trust), encoding="utf-8")
    try:
        fleet.run(file, link=link, seconds=seconds)
    except FedEmError as error:
        return Absent(error.message)
    record = SessionRecord.model_validate_json((federation.folder / output / RECORD_FILE).read_text(encoding="utf-8"))
    assert all(each.complete for each in record.rounds), "everybody is in every sum"
    return tuple(each.seconds for each in record.rounds)
