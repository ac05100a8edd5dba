"""A small federation of real processes under a script of faults: an operator who starts again what stopped, and an account of it all."""

from __future__ import annotations

import base64
import json
import multiprocessing
import os
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest
from faulty_process import live
from harm import Fault, Script
from postgresql_server import PostgreSQL
from relay import Relay

from fed_em_protocols.errors import SERVER
from fed_em_simulations.federation_folder import FederationFolder

# Every process is forked from one that has imported the program and done nothing else.
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["faulty_process"])


@cache
def _ready_to_fork() -> None:
    """That process runs. It has the folders of modules from its environment, which is otherwise left as it is."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
        forkserver.ensure_running()


# Of a process that was killed; of one that a disk, a link or missing tenants ended. Its operator starts either again.
KILLED, STOPPED, PAUSED = -9, 4, 5

# Nobody is started more often.
_MOST_LIVES = 60


@dataclass
class Life:
    """One process, from its start to its end.

    Attributes:
        party: Whose it was.
        status: What it ended with.
        said: All that it printed.
    """

    party: str
    status: int
    said: str


@dataclass
class Account:
    """What came of a run.

    Attributes:
        lives: Of all processes, in the order of their ends.
        struck: Which faults came, by party.
        twice: What was signed twice with different content.
        counts: How often the last process of each party came to each place.
        noised: What a tenant of a private session gave to be masked, by tenant and round: its statistics with noise.
        uploaded: The rounds that a tenant uploaded for, by tenant.
        seconds: Wall time.
    """

    lives: list[Life] = field(default_factory=list)
    struck: dict[str, list[str]] = field(default_factory=dict)
    twice: list[str] = field(default_factory=list)
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    noised: dict[tuple[str, int], bytes] = field(default_factory=dict)
    uploaded: dict[str, set[int]] = field(default_factory=dict)
    seconds: float = 0.0

    def lives_of(self, party: str) -> list[Life]:
        """Of one of them."""
        return [life for life in self.lives if life.party == party]

    def last(self, party: str) -> Life:
        """Its last."""
        return self.lives_of(party)[-1]

    def told(self) -> str:
        """Everything, for whoever must find out what went wrong."""
        return "\n".join(f"--- {each.party} ended with {each.status}:\n{each.said}" for each in self.lives)


@dataclass
class _Running:
    """A process, and what it has printed: over a link to the harness, so that no full disk silences it. Another link tells what it did."""

    process: ForkServerProcess
    printed: list[bytes] = field(default_factory=list)
    silent: threading.Event = field(default_factory=threading.Event)
    told: threading.Event = field(default_factory=threading.Event)

    def said(self) -> str:
        return b"".join(self.printed).decode(errors="replace")


class HangsError(AssertionError):
    """A run did not come to its end in time."""


class Runs(Mapping[str, Callable[[Path], None]]):
    """Runs that wait more than they work, all begun when the first outcome is asked for. Each gets a folder of its own."""

    def __init__(self, runs: Sequence[Callable[[Path], None]]) -> None:
        self._runs = {run.__name__: run for run in runs}
        self._begun: dict[str, Future[None]] = {}

    def __getitem__(self, name: str) -> Callable[[Path], None]:
        return self._runs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._runs)

    def __len__(self) -> int:
        return len(self._runs)

    def outcome(self, name: str, folders: pytest.TempPathFactory) -> None:
        """Wait for a run, and raise what it raised."""
        if not self._begun:
            _ready_to_fork()
            pool = ThreadPoolExecutor(len(self._runs))
            self._begun = {each: pool.submit(run, folders.mktemp(each)) for each, run in self._runs.items()}
            pool.shutdown(wait=False)
        self._begun[name].result()


def at_once(*runs: Callable[[Path], None]) -> Runs:
    """See `Runs`."""
    return Runs(runs)


class Chaos:
    """One run.

    Args:
        federation: On disk.
        faults: By party, those of each of its processes in turn; processes after the last have none.
        clocks: By party, seconds that its wall clock is ahead.
        pings: See `Script`.
        patience: Seconds that a tenant dials in vain before it gives up.
        database: That of the server's checkpoints, if they are in one.
    """

    def __init__(
        self,
        federation: FederationFolder,
        faults: Mapping[str, Sequence[tuple[Fault, ...]]],
        clocks: Mapping[str, float] | None = None,
        pings: bool = False,
        patience: float = 8.0,
        database: PostgreSQL | None = None,
    ) -> None:
        self._federation = federation
        self._faults, self._clocks, self._pings = faults, clocks or {}, pings
        self._patience = patience
        self._database = database
        self._account = Account()
        self._signed: dict[tuple[str, str, str], str] = {}
        self._lives: Counter[str] = Counter()
        self._running: dict[str, _Running] = {}
        self._relays = {name: Relay() for name in federation.tenant_files}
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._stopped = threading.Event()

    def run(self, seconds: float) -> Account:
        """To the end of all processes.

        Raises:
            HangsError: it did not come within so many seconds; says all that was printed.
        """
        _ready_to_fork()
        began = time.monotonic()
        with ExitStack() as stack:
            stack.callback(self._end)
            for relay in self._relays.values():
                stack.enter_context(relay)
            threading.Thread(target=self._accept, daemon=True).start()
            for party in (SERVER, *self._relays):
                self._start(party)
            while self._running:
                if time.monotonic() > began + seconds:
                    self._give_up(seconds)
                self._look()
                time.sleep(0.02)
        self._account.seconds = time.monotonic() - began
        return self._account

    def _end(self) -> None:
        self._stopped.set()
        self._listening.close()
        for running in self._running.values():
            running.process.kill()
            running.process.join()

    def _give_up(self, seconds: float) -> None:
        waiting = ", ".join(self._running)
        still = "\n".join(f"--- {party} still runs:\n{each.said()}" for party, each in self._running.items())
        raise HangsError(f"{waiting} did not end within {seconds} seconds\n{self._account.told()}\n{still}")

    def _start(self, party: str) -> None:
        faults = self._faults.get(party, ())
        life = self._lives[party]
        self._lives[party] += 1
        mine = tuple(faults[life]) if life < len(faults) else ()
        port = self._listening.getsockname()[1]
        script = Script(port, mine, self._clocks.get(party, 0.0), self._pings)
        if party == SERVER:
            arguments = ["server", str(self._federation.session_file)]
        else:
            address = f"127.0.0.1:{self._relays[party].port}"
            tenant = str(self._federation.tenant_files[party])
            dialling = [f"--patience={self._patience}", f"--loyalty={6 * self._patience}"]
            arguments = ["tenant", tenant, "--server", address, *dialling]
        process = _FORKS.Process(target=live, args=(script, party, arguments), daemon=True)
        self._running[party] = _Running(process)
        process.start()

    def _look(self) -> None:
        for party, running in list(self._running.items()):
            if running.process.exitcode is None:
                continue
            running.silent.wait(5)
            running.told.wait(5)
            life = Life(party, running.process.exitcode, running.said())
            self._account.lives.append(life)
            del self._running[party]
            if party == SERVER:
                self._point_at(None)
            if self._starts_again(life):
                self._start(party)

    def _starts_again(self, life: Life) -> bool:
        """An operator starts again what was killed, and what says that it would go on; but no tenant of a session that is over."""
        if self._lives[life.party] >= _MOST_LIVES or life.status not in (KILLED, STOPPED, PAUSED):
            return False
        return life.party == SERVER or SERVER in self._running or life.status == KILLED

    def _point_at(self, port: int | None) -> None:
        for relay in self._relays.values():
            relay.target = port

    def _accept(self) -> None:
        while not self._stopped.is_set():
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._listen, args=(connection,), daemon=True).start()

    def _listen(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as lines:
            first = json.loads(next(lines))
            if "prints" in first:
                running = self._running[first["prints"]]
                for line in lines:
                    running.printed.append(line)
                running.silent.set()
                return
            running = self._running[first["who"]]
            try:
                for line in lines:
                    self._hear(first["who"], json.loads(line), connection)
            finally:
                running.told.set()

    def _hear(self, who: str, said: dict[str, object], connection: socket.socket) -> None:
        match said:
            case {"port": int(port)}:
                self._point_at(port)
            case {"signed": [str(what), str(how)], "session": str(session)}:
                if self._signed.setdefault((who, session, what), how) != how:
                    self._account.twice.append(f"{who} signed two of {what}")
                if what.startswith("Upload "):
                    self._account.uploaded.setdefault(who, set()).add(int(what.removeprefix("Upload ")))
            case {"noised": [int(number), str(vector)]}:
                if self._account.noised.setdefault((who, number), data := base64.b64decode(vector)) != data:
                    self._account.twice.append(f"{who} drew noise twice for round {number}")
            case {"struck": str(what)}:
                self._account.struck.setdefault(who, []).append(what)
            case {"counts": dict(counts)}:
                self._account.counts[who] = Counter(counts)
            case {"tell": str(word)}:
                self._do(word)
                connection.sendall(b"\n")

    def _do(self, word: str) -> None:
        """Of a tenant: "cut t1 2" for two seconds, "half-open t1 2", "late t1 0.2" from now on; "hold t1 2": who tells is kept waiting.
        "down database 2": of the checkpoints, for two seconds.
        """
        what, who, amount = word.split()
        seconds = float(amount)
        if what == "down":
            assert self._database is not None
            self._database.kill()
            threading.Timer(seconds, self._database.start).start()
            return
        relay = self._relays[who]
        match what:
            case "cut":
                target, relay.target = relay.target, None
                relay.cut()
                threading.Timer(seconds, lambda: setattr(relay, "target", relay.target or target)).start()
            case "half-open":
                relay.dead = True
                relay.half_open()
                threading.Timer(seconds, lambda: setattr(relay, "dead", False)).start()
            case "late":
                relay.delay = seconds
            case "hold":
                time.sleep(seconds)
            case _:
                raise AssertionError(word)
