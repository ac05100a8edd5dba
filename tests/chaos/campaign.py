"""Sessions of real processes under faults drawn by seed, until the time is over: `make chaos`.

Where a process is struck is drawn among all places that an undisturbed session comes to. A run that fails prints its seed, with which
`--seed` runs it again; processes in real time do not come to the very same, but to the same places.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count, takewhile
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from threading import Lock

from harm import Deed, Fault
from harness import Account, Chaos
from oracle import assert_clear, assert_it_ended_right, federation_of
from postgresql_server import PostgreSQL
from session_kinds import FILED, PLAIN, in_database

from fed_em_protocols.errors import SERVER

# A session with its checkpoints in PostgreSQL, and the harm that comes to that alone.
IN_DATABASE, DATABASE_DOWN = "postgresql", "database down"
TENANTS = ("t0", "t1", "t2", "t3")

_DAY = 86400.0

Lives = list[tuple[Fault, ...]]
Counts = Mapping[str, Counter[str]]


@dataclass
class Draw:
    """Draws faults."""

    random: Random
    counts: Counts

    def place(self, party: str) -> tuple[str, int]:
        """Where, and at which time: every place is as likely as any other, however often it is come to."""
        counts = self.counts[party]
        place = self.random.choice(sorted(counts))
        return place, self.random.randint(1, counts[place])

    def fault(self, party: str, deed: Deed, amount: float = 0.0, word: str = "") -> Fault:
        """One at such a place."""
        return Fault(*self.place(party), deed, amount, word)

    def lives(self, party: str, deed: Deed, amount: Callable[[], float] = lambda: 0.0) -> Lives:
        """Up to four processes that are struck once each."""
        return [(self.fault(party, deed, amount()),) for _ in range(self.random.randint(1, 4))]

    def tenant(self) -> str:
        """Any."""
        return self.random.choice(TENANTS)


def _kill_server(draw: Draw) -> dict[str, Lives]:
    return {SERVER: draw.lives(SERVER, "kill")}


def _kill_tenant(draw: Draw) -> dict[str, Lives]:
    return {(tenant := draw.tenant()): draw.lives(tenant, "kill")}


def _kill_both(draw: Draw) -> dict[str, Lives]:
    return _kill_server(draw) | _kill_tenant(draw)


def _fill(draw: Draw, party: str) -> dict[str, Lives]:
    # Beyond some bytes only: so files are written in part.
    return {party: draw.lives(party, "full", lambda: draw.random.choice([0, draw.random.randint(1, 60_000)]))}


def _stop(draw: Draw, party: str) -> dict[str, Lives]:
    return {party: [(draw.fault(party, "stop", draw.random.uniform(1, 6)),)]}


def _clocks(draw: Draw) -> dict[str, Lives]:
    def jumps(party: str) -> Lives:
        return [tuple(draw.fault(party, "clock", draw.random.uniform(-60, 60) * _DAY) for _ in range(2))]

    return {party: jumps(party) for party in (SERVER, draw.tenant())}


def _links(draw: Draw, what: str, times: int) -> dict[str, Lives]:
    words = [f"{what} {draw.tenant()} {draw.random.uniform(0, 3):.1f}" for _ in range(times)]
    return {SERVER: [tuple(draw.fault(SERVER, "tell", word=word) for word in words)]}


def _database(draw: Draw) -> dict[str, Lives]:
    words = [f"down database {draw.random.uniform(0, 3):.1f}" for _ in range(2)]
    return {SERVER: [(draw.fault(SERVER, "tell", word=word),) for word in words]}


def _late(draw: Draw) -> dict[str, Lives]:
    words = [f"late {draw.tenant()} {draw.random.uniform(0, 0.3):.2f}" for _ in range(2)]
    return {SERVER: [tuple(draw.fault(SERVER, "tell", word=word) for word in words)]}


KINDS: dict[str, Callable[[Draw], dict[str, Lives]]] = {
    "server killed": _kill_server,
    "tenant killed": _kill_tenant,
    "both killed": _kill_both,
    "server's disk full": lambda draw: _fill(draw, SERVER),
    "tenant's disk full": lambda draw: _fill(draw, draw.tenant()),
    "server stopped": lambda draw: _stop(draw, SERVER),
    "tenant stopped": lambda draw: _stop(draw, draw.tenant()),
    "clocks moved": _clocks,
    "links cut": lambda draw: _links(draw, "cut", 4),
    "links half-open": lambda draw: _links(draw, "half-open", 2),
    "links late": _late,
    DATABASE_DOWN: _database,
}
SESSIONS = (*FILED, IN_DATABASE)


@dataclass
class Tally:
    """Of some runs: faults that struck, runs that ended with the model everywhere, or with tenants who say that they lack it."""

    runs: int = 0
    struck: int = 0
    whole: int = 0
    lacking: int = 0
    seconds: list[float] = field(default_factory=list)
    violations: int = 0


@dataclass
class Campaign:
    """All runs so far.

    Args:
        databases: Whether there is PostgreSQL; without it, sessions that would have their checkpoints there have them in SQLite.
    """

    databases: bool
    tallies: dict[str, Tally] = field(default_factory=dict)
    complaints: list[tuple[int, str]] = field(default_factory=list)
    _counts: dict[str, Counts] = field(default_factory=dict)

    def kind_of(self, seed: int) -> tuple[str, str]:
        """Of harm and of a session. The numbers of kinds have no divisor in common, so that each comes to each."""
        harm, session = list(KINDS)[seed % len(KINDS)], SESSIONS[seed % len(SESSIONS)]
        session = IN_DATABASE if harm == DATABASE_DOWN else session
        if session == IN_DATABASE and not self.databases:
            return ("server killed" if harm == DATABASE_DOWN else harm), "plain"
        return harm, session

    @contextmanager
    def _session(self, name: str) -> Iterator[tuple[str, PostgreSQL | None]]:
        """Its file, and the database of its checkpoints."""
        if name != IN_DATABASE:
            yield FILED[name], None
            return
        with PostgreSQL(Path) as database:
            yield in_database(database.url, PLAIN), database

    def places(self, name: str) -> Counts:
        """How often the parties of an undisturbed session come to each place."""
        if name not in self._counts:
            with TemporaryDirectory(prefix="chaos-") as folder, self._session(name) as (session, database):
                account = Chaos(federation_of(Path(folder), session), {}, database=database).run(600)
                self._counts[name] = account.counts
        return self._counts[name]

    def run(self, seed: int) -> None:
        """One session."""
        harm, name = self.kind_of(seed)
        faults = KINDS[harm](Draw(Random(seed), self.places(name)))
        tallies = [self.tallies.setdefault(kind, Tally()) for kind in (harm, name)]
        for tally in tallies:
            tally.runs += 1
        try:
            account, lacking = self._held(name, faults)
        except AssertionError as error:
            said = "a violation"
            self.complaints.append((seed, f"{faults}\n{error}"))
            for tally in tallies:
                tally.violations += 1
        else:
            said = f"{account.seconds:.1f} s"
            for tally in tallies:
                tally.seconds.append(account.seconds)
                tally.struck += sum(map(len, account.struck.values()))
                tally.whole += not lacking
                tally.lacking += bool(lacking)
        print(f"seed {seed}, {harm} of {name}: {said}", file=sys.stderr, flush=True)

    def _held(self, name: str, faults: dict[str, Lives]) -> tuple[Account, tuple[str, ...]]:
        """The account of a run that is as it should be, and who says that it lacks the model."""
        with TemporaryDirectory(prefix="chaos-") as folder, self._session(name) as (session, database):
            federation = federation_of(Path(folder), session)
            account = Chaos(federation, faults, pings=True, patience=10, database=database).run(600)
            lacking = tuple(name for name in federation.tenant_files if account.last(name).status != 0)
            for each in lacking:
                assert_clear(account.last(each).said)
            assert_it_ended_right(federation, account, session, without=lacking)
            return account, lacking

    def table(self) -> str:
        """Markdown: by harm, and by session."""
        head = ["kind", "sessions", "faults", "all have the model", "some say they lack it", "violations", "median s"]
        rows: list[Sequence[object]] = [head, ["---"] * len(head)]
        for name in (*KINDS, *SESSIONS):
            if (tally := self.tallies.get(name)) is None:
                continue
            middle = f"{statistics.median(tally.seconds):.1f}" if tally.seconds else ""
            said = name if name in KINDS else f"*{name}*"
            rows.append([said, tally.runs, tally.struck, tally.whole, tally.lacking, tally.violations, middle])
        return "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows)


def main() -> int:
    """Exit status 1 if a run violated what is promised."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600, help="no session begins later")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="this one alone")
    parser.add_argument("--at-once", type=int, default=2, help="sessions")
    options = parser.parse_args()
    databases = bool(shutil.which("initdb") and shutil.which("postgres"))
    if not databases:
        print("no initdb and postgres on the path: no session has its checkpoints in PostgreSQL")
    campaign, until = Campaign(databases), time.monotonic() + options.seconds
    campaign.places("plain")  # processes are forked from one that the main thread starts
    if options.seed is None:
        seeds = takewhile(lambda _: time.monotonic() < until, count(options.first))
        with ThreadPoolExecutor(options.at_once) as pool:
            # A thread takes a seed when it is done with the one before.
            taken = Lock()
            list(pool.map(lambda _: _run_all(campaign, seeds, taken), range(options.at_once)))
    else:
        campaign.run(options.seed)
    print(campaign.table())
    for failed, complaint in campaign.complaints:
        print(f"\nseed {failed}, {' of '.join(campaign.kind_of(failed))}: {complaint}")
    return int(bool(campaign.complaints))


def _run_all(campaign: Campaign, seeds: Iterator[int], taken: Lock) -> None:
    while True:
        with taken:
            seed = next(seeds, None)
        if seed is None:
            return
        campaign.run(seed)


if __name__ == "__main__":
    sys.exit(main())
