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
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from harm import Deed, Fault
from harness import Account, Chaos
from oracle import assert_clear, assert_it_ended_right, federation_of
from postgresql_server import PostgreSQL
from session_kinds import FILED, PLAIN, in_database

from fed_em_protocols.errors import SERVER

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
    "database down": _database,
}

# Checkpoints are in SQLite, in the last in PostgreSQL.
SESSIONS = (*FILED, "postgresql")


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
        database: For the sessions whose checkpoints are in one; None leaves them out.
    """

    database: PostgreSQL | None
    tallies: dict[str, Tally] = field(default_factory=dict)
    complaints: list[tuple[int, str]] = field(default_factory=list)
    _counts: dict[str, Counts] = field(default_factory=dict)

    def kind_of(self, seed: int) -> tuple[str, str]:
        """Of harm and of a session. The numbers of kinds have no divisor in common, so that each comes to each."""
        harm, session = list(KINDS)[seed % len(KINDS)], SESSIONS[seed % len(SESSIONS)]
        if harm == "database down" and self.database is not None:
            return harm, "postgresql"
        return harm, "plain" if self.database is None and session == "postgresql" else session

    def session(self, name: str) -> str:
        """Its file."""
        if name != "postgresql":
            return FILED[name]
        assert self.database is not None
        return in_database(self.database.url, PLAIN)

    def places(self, name: str) -> Counts:
        """How often the parties of an undisturbed session come to each place."""
        if name not in self._counts:
            with TemporaryDirectory(prefix="chaos-") as folder:
                self._counts[name] = Chaos(federation_of(Path(folder), self.session(name)), {}).run(300).counts
        return self._counts[name]

    def run(self, seed: int) -> None:
        """One session."""
        harm, name = self.kind_of(seed)
        if harm == "database down" and self.database is None:
            return
        session, faults = self.session(name), KINDS[harm](Draw(Random(seed), self.places(name)))
        tallies = [self.tallies.setdefault(kind, Tally()) for kind in (harm, name)]
        try:
            account, lacking = self._held(session, faults)
        except AssertionError as error:
            print(f"seed {seed}, {harm} of {name}: a violation", file=sys.stderr, flush=True)
            self.complaints.append((seed, f"{faults}\n{error}"))
            for tally in tallies:
                tally.violations += 1
            return
        finally:
            for tally in tallies:
                tally.runs += 1
        print(f"seed {seed}, {harm} of {name}: {account.seconds:.1f} s", file=sys.stderr, flush=True)
        for tally in tallies:
            tally.seconds.append(account.seconds)
            tally.struck += sum(map(len, account.struck.values()))
            tally.whole += not lacking
            tally.lacking += bool(lacking)

    def _held(self, session: str, faults: dict[str, Lives]) -> tuple[Account, tuple[str, ...]]:
        """The account of a run that is as it should be, and who says that it lacks the model."""
        with TemporaryDirectory(prefix="chaos-") as folder:
            federation = federation_of(Path(folder), session)
            account = Chaos(federation, faults, pings=True, patience=10, database=self.database).run(600)
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
    options = parser.parse_args()
    with ExitStack() as stack:
        database = None
        if shutil.which("initdb") and shutil.which("postgres"):
            database = stack.enter_context(PostgreSQL(Path))
        else:
            print("no initdb and postgres on the path: sessions with checkpoints in PostgreSQL are left out")
        campaign = Campaign(database)
        _run(campaign, options.first if options.seed is None else options.seed, options.seconds, options.seed is None)
    print(campaign.table())
    for failed, complaint in campaign.complaints:
        print(f"\nseed {failed}, {' of '.join(campaign.kind_of(failed))}: {complaint}")
    return int(bool(campaign.complaints))


def _run(campaign: Campaign, seed: int, seconds: float, on: bool) -> None:
    until = time.monotonic() + seconds
    while True:
        campaign.run(seed)
        seed += 1
        if not on or time.monotonic() > until:
            return


if __name__ == "__main__":
    sys.exit(main())
