"""Simulate sessions with faults, or one of them again: `python -m tests.faults --help`."""

from __future__ import annotations

import argparse
import sys

from tests.faults.campaign import complaint_about, run_campaign, shrink
from tests.faults.plan import plan_of
from tests.protocols.remembering import remembered_protocol


def main() -> int:
    """Exit status 1 if a property was violated."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--sessions", type=int, default=1000, help="how many seeds, from --first on")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="replay this one, and shrink it if it fails")
    options = parser.parse_args()
    if options.seed is None:
        tally = run_campaign(options.first, options.sessions)
        print(tally)
        for plan, complaint in tally.violations:
            print(f"{plan}\n  {complaint}\n  replay: python -m tests.faults --seed {plan.seed}")
        return int(bool(tally.violations))
    plan = plan_of(options.seed)
    with remembered_protocol():
        complaint, tally = complaint_about(plan)
    print(plan, complaint or f"{tally.opened} sums opened, {tally.failed} requests without one", sep="\n  ")
    if complaint:
        smallest = shrink(plan)
        print(f"shrunk to {smallest}\n  {complaint_about(smallest)[0]}")
    return int(bool(complaint))


if __name__ == "__main__":
    sys.exit(main())
