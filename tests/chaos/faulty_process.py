"""`fed-em`, with harm to come at given places of the protocol.

Everything that does harm is in this file. The program under it is the one that is installed, with functions wrapped. Processes are forked
from one that has imported it all, with what it imports when it is first needed, and has done nothing else: starting takes milliseconds.
"""

from __future__ import annotations

import base64
import functools
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta, tzinfo
from importlib import import_module
from typing import Any

from harm import Fault, Script
from once import signed_once

from fed_em import model_file
from fed_em.statistics import Statistics
from fed_em_client import grpc_link
from fed_em_client.grpc_link import GrpcLink
from fed_em_client.privacy_ledger import PrivacyLedger
from fed_em_client.round_marks import FileRoundMarks
from fed_em_client.rows_work import RowsWork
from fed_em_client.tenant_log_file import TenantLogFile
from fed_em_client.tenant_session import TenantSession
from fed_em_protocols.encoding import Encoding
from fed_em_protocols.envelope import unseal
from fed_em_protocols.masks import RingVector
from fed_em_protocols.tenant_state import Evaluate
from fed_em_protocols.wire.grpc_service import ChannelOptions, channel_options
from fed_em_server import grpc_hub, report, serve
from fed_em_server.checkpoints import resumable_sum
from fed_em_server.checkpoints.store import CheckpointStore
from fed_em_server.grpc_hub import GrpcHub
from fed_em_server.hub import Arrived, HubEvent
from fed_em_server.serve import Server
from fed_em_server.transcript_folder import TranscriptFolder
from fed_em_simulations.command_line import main as command

for _late in (
    "dp_accounting.pld.privacy_loss_distribution",
    "fed_em_server.report_page",
    "psycopg",
    "sqlalchemy.dialects.postgresql",
):
    import_module(_late)


class Harness:
    """The other end of this process's line to those who look on. What was said is not lost when the process is killed."""

    def __init__(self, port: int, who: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._answers = self._socket.makefile("rb")
        self.say(who=who)

    def say(self, **what: object) -> None:
        """A line, without an answer."""
        self._socket.sendall(json.dumps(what).encode() + b"\n")

    def ask(self, **what: object) -> None:
        """A line, and wait for its answer."""
        self.say(**what)
        self._answers.readline()


def programs_modules() -> list[Any]:
    """Of the program under test."""
    return [module for name, module in list(sys.modules.items()) if name.startswith("fed_em")]


class Clock:
    """The wall clock, as the program's own code reads it. That of TLS, below Python, is the machine's."""

    ahead = timedelta()

    @classmethod
    def install(cls) -> None:
        """In the program's modules. Compiled packages rely on the true `datetime`, and so does Typer in modules of commands."""
        real_time = time.time

        class Moved(datetime):
            @classmethod
            def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
                return datetime.now(tz) + Clock.ahead

        for module in programs_modules():
            if getattr(module, "datetime", None) is datetime and not hasattr(module, "typer"):
                module.datetime = Moved
        time.time = lambda: real_time() + Clock.ahead.total_seconds()

    @classmethod
    def set_on(cls, seconds: float) -> None:
        """Forwards, or backwards."""
        cls.ahead += timedelta(seconds=seconds)


class Places:
    """Counts how often the process comes to each place, and strikes where the script says so."""

    def __init__(self, script: Script, harness: Harness) -> None:
        self._faults, self._harness = script.faults, harness
        self.counts: Counter[str] = Counter()

    def come(self, place: str) -> None:
        """The process is there."""
        self.counts[place] += 1
        for fault in self._faults:
            if (fault.place, fault.number) == (place, self.counts[place]):
                self._harness.say(struck=f"{fault.deed} {place} {fault.number}")
                self._strike(fault)

    def _strike(self, fault: Fault) -> None:
        me = os.getpid()
        match fault.deed:
            case "kill":
                if fault.place.startswith("after send"):
                    time.sleep(0.1)  # until gRPC's thread has sent it
                os.kill(me, signal.SIGKILL)
            case "stop":
                # The one who wakes it is in the background, so that nobody waits for it.
                subprocess.run(["sh", "-c", f"(sleep {fault.amount}; kill -CONT {me}) >/dev/null 2>&1 &"], check=True)
                os.kill(me, signal.SIGSTOP)
            case "full":
                resource.setrlimit(resource.RLIMIT_FSIZE, (int(fault.amount), resource.RLIM_INFINITY))
            case "clock":
                Clock.set_on(fault.amount)
            case "tell":
                self._harness.ask(tell=fault.word)

    def wrap(self, owner: Any, name: str, place: str | Callable[..., str]) -> None:
        """Come before and after each call of a function."""
        function = getattr(owner, name)

        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            where = place if isinstance(place, str) else place(*args)
            self.come(f"before {where}")
            result = function(*args, **kwargs)
            self.come(f"after {where}")
            return result

        setattr(owner, name, wrapped)


def kind_of(data: bytes) -> str:
    """Of a message, by its name in the protocol."""

    return type(unseal(data, "").content).__name__


def tell_signed(harness: Harness, data: bytes) -> None:
    """What a party may sign once in a session, and signs here."""
    if (known := signed_once(data)) is not None:
        what, how = known
        content = unseal(data, "").content
        harness.say(signed=[what, how], session=getattr(content, "session", b"").hex())


def wrap_disk(places: Places) -> None:
    """What reaches the disk, on either side, in every module that has the function."""
    true = os.fdatasync
    for module in programs_modules():
        if getattr(module, "sync", None) is true:
            places.wrap(module, "sync", "sync")
    places.wrap(os, "fsync", "sync")


def wrap_server(places: Places, harness: Harness) -> None:
    """Steps of the server."""

    listen, receive, send = Server.hub, GrpcHub.receive, GrpcHub.send

    def hub(server: Server) -> GrpcHub:
        listening = listen(server)
        harness.say(port=listening.port)
        return listening

    def received(self: GrpcHub, until: float | None) -> HubEvent | None:
        event = receive(self, until)
        if isinstance(event, Arrived):
            places.come(f"after receive {kind_of(event.data)}")
        return event

    def sent(self: GrpcHub, tenant: int, data: bytes) -> None:
        tell_signed(harness, data)
        send(self, tenant, data)

    Server.hub, GrpcHub.receive, GrpcHub.send = hub, received, sent  # type: ignore[method-assign]
    places.wrap(GrpcHub, "send", lambda _, __, data: f"send {kind_of(data)}")
    places.wrap(CheckpointStore, "begin", "begin")
    places.wrap(CheckpointStore, "commit", "commit")
    places.wrap(TranscriptFolder, "append", "entry")
    places.wrap(TranscriptFolder, "checkpoint", "signed head")
    places.wrap(model_file, "write_whole", lambda path, _: f"file {path.name}")
    places.wrap(serve, "write_record", "record")
    places.wrap(report, "write_page", "report")


def wrap_tenant(places: Places, harness: Harness) -> None:
    """Steps of a tenant."""

    send = GrpcLink.send

    def sent(self: GrpcLink, data: bytes) -> None:
        tell_signed(harness, data)
        send(self, data)

    noise = RowsWork._noised

    def noised(self: RowsWork, asked: Evaluate, encoding: Encoding, statistics: Statistics) -> RingVector:
        vector = noise(self, asked, encoding, statistics)
        harness.say(noised=[asked.round, base64.b64encode(vector.tobytes()).decode()])
        return vector

    GrpcLink.send, RowsWork._noised = sent, noised  # type: ignore[method-assign]
    places.wrap(GrpcLink, "send", lambda _, data: f"send {kind_of(data)}")
    places.wrap(TenantSession, "handle", lambda _, data: f"handle {kind_of(data)}")
    places.wrap(TenantLogFile, "append", "log")
    places.wrap(PrivacyLedger, "_keep", "ledger")
    for name, what in (("record", "round"), ("endorse", "endorsement"), ("record_work", "work")):
        places.wrap(FileRoundMarks, name, f"mark {what}")
    places.wrap(model_file, "write_whole", lambda path, _: f"file {path.name}")


def end_soon() -> None:
    """A server that only has the end to tell waits for tenants for two seconds and not ten."""
    resumable_sum._REUNION_SECONDS = 2.0


def find_dead_links_soon() -> None:
    """Pings every two seconds, and one for the answer."""

    def quick() -> ChannelOptions:
        times: dict[str, int | str] = {
            "grpc.keepalive_time_ms": 2000,
            "grpc.keepalive_timeout_ms": 1000,
            "grpc.http2.ping_timeout_ms": 1000,
            "grpc.http2.min_ping_interval_without_data_ms": 500,
            "grpc.http2.max_ping_strikes": 0,
        }
        return list({**dict(channel_options()), **times}.items())

    grpc_link.channel_options = grpc_hub.channel_options = quick  # type: ignore[attr-defined]


def live(script: Script, who: str, arguments: Sequence[str]) -> None:
    """The whole life of one process: the command, under the script. What it prints goes to the harness as well."""
    said = socket.create_connection(("127.0.0.1", script.harness))
    said.sendall(json.dumps({"prints": who}).encode() + b"\n")
    for stream in (sys.stdout, sys.stderr):
        os.dup2(said.fileno(), stream.fileno())
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    said.close()
    sys.argv = ["fed-em", *arguments]
    harness = Harness(script.harness, who)
    places = Places(script, harness)
    wrap_disk(places)
    (wrap_server if who == "server" else wrap_tenant)(places, harness)
    end_soon()
    if script.pings:
        find_dead_links_soon()
    Clock.install()
    Clock.set_on(script.clock)
    places.come("start")
    try:
        command()
    finally:
        with suppress(OSError):
            harness.say(counts=places.counts)
