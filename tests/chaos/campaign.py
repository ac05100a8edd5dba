"""Sessions of real processes under faults drawn by seed, until the time is over: `make chaos`.

Where a process is struck is drawn among all places that an undisturbed session comes to. A run that fails prints its seed, with which
`--seed` runs it again; processes in real time do not come to the very same, but to the same places.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from harm import Deed, Fault
from harness import Account, Chaos
from oracle import BRISK, TRUST, assert_clear, assert_it_ended_right, federation_of
from small_federation import session_toml

from fed_em_protocols.errors import SERVER

# Windows of five rounds, so that set-ups are among all that is struck.
SESSION = session_toml(fit="tolerance = 0\nmax_iterations = 11", times=BRISK, trust=TRUST).replace(
    "window_rounds = 16", "window_rounds = 5"
)
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
}


@dataclass
class Tally:
    """Of the runs of one kind: faults that struck, runs that ended with the model everywhere, or with tenants who say that they lack it."""

    runs: int = 0
    struck: int = 0
    whole: int = 0
    lacking: int = 0
    seconds: list[float] = field(default_factory=list)
    violations: list[tuple[int, str]] = field(default_factory=list)


def run(seed: int, counts: Counts, tally: Tally) -> None:
    """One session."""
    name = kind_of(seed)
    faults = KINDS[name](Draw(Random(seed), counts))
    tally.runs += 1
    try:
        with TemporaryDirectory(prefix="chaos-") as folder:
            federation = federation_of(Path(folder), SESSION)
            account = Chaos(federation, faults, pings=True, patience=5).run(240)
            tally.seconds.append(account.seconds)
            tally.struck += sum(map(len, account.struck.values()))
            lacking = tuple(name for name in federation.tenant_files if account.last(name).status != 0)
            for each in lacking:
                assert_clear(account.last(each).said)
            assert_it_ended_right(federation, account, SESSION, without=lacking)
            tally.whole += not lacking
            tally.lacking += bool(lacking)
    except AssertionError as error:
        tally.violations.append((seed, f"{faults}\n{error}"))


def kind_of(seed: int) -> str:
    """In turn."""
    return list(KINDS)[seed % len(KINDS)]


def places() -> Counts:
    """How often the parties of an undisturbed session come to each place."""
    with TemporaryDirectory(prefix="chaos-") as folder:
        account: Account = Chaos(federation_of(Path(folder), SESSION), {}).run(120)
    return account.counts


def table(tallies: Mapping[str, Tally]) -> str:
    """Markdown."""
    head = ["kind", "sessions", "faults", "all have the model", "some say they lack it", "violations", "median s"]
    rows: list[Sequence[object]] = [head, ["---"] * len(head)]
    for name, tally in tallies.items():
        middle = f"{statistics.median(tally.seconds):.1f}" if tally.seconds else ""
        rows.append([name, tally.runs, tally.struck, tally.whole, tally.lacking, len(tally.violations), middle])
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows)


def main() -> int:
    """Exit status 1 if a run violated what is promised."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600, help="no session begins later")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="this one alone")
    options = parser.parse_args()
    began, counts = time.monotonic(), places()
    tallies = {name: Tally() for name in KINDS}
    seed = options.first if options.seed is None else options.seed
    while time.monotonic() < began + options.seconds:
        run(seed, counts, tallies[kind_of(seed)])
        if options.seed is not None:
            break
        seed += 1
    print(table(tallies))
    violations = [each for tally in tallies.values() for each in tally.violations]
    for failed, complaint in violations:
        print(f"\nseed {failed}, {kind_of(failed)}: {complaint}")
    return int(bool(violations))


if __name__ == "__main__":
    sys.exit(main())
