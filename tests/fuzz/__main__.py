"""Fuzzing: `make fuzz`.

    python -m tests.fuzz [--seconds N] [--target NAME]    search, and keep what is learned in build/fuzz
    python -m tests.fuzz --self-check                     plant defects, each of which must be found
    python -m tests.fuzz --replay FILE                    try one input again

The exit status is 1 if there is a defect (or if a planted one was not found).
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
from pathlib import Path

from tests.fuzz.planted import DEFECTS
from tests.fuzz.searches import Found, search
from tests.fuzz.shrinking import shrunk
from tests.fuzz.targets import TARGETS, Target

BUILD = Path("build/fuzz")
_SECONDS = 60
# A planted defect must be found in this time.
_SECONDS_A_DEFECT = 180


def main() -> int:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--seconds", type=int, default=_SECONDS, help="how long to fuzz each target")
    parser.add_argument("--target", choices=sorted(TARGETS), help="one target; all, if it is not given")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="an input that was found")
    parser.add_argument("--self-check", action="store_true", help="find planted defects")
    given = parser.parse_args()
    if given.replay:
        return _replay(given.replay, given.target)
    if importlib.util.find_spec("atheris") is None:
        print(
            "the fuzzer 'atheris' runs on Linux on x86-64 only; `make test` tries some inputs anywhere", file=sys.stderr
        )
        return 2
    if given.self_check:
        return max([_self_check(name) for name in DEFECTS])
    return max([_fuzz(target, given.seconds) for target in TARGETS.values() if given.target in {None, target.name}])


def _fuzz(target: Target, seconds: int) -> int:
    print(f"{target.name:10}", end="", flush=True)
    found = search(target, seconds, BUILD / target.name)
    print(_figures(found), flush=True)
    for file in found.inputs:
        small = file.with_name(f"{file.name}.small")
        small.write_bytes(shrunk(target.check, file.read_bytes()))
        print(f"\n{found.trouble}\n\nThe input is {file}; {small.stat().st_size} bytes of it show the same. Once more:")
        print(f"  {sys.executable} -m tests.fuzz --replay {small}\n")
    return int(bool(found.inputs))


def _figures(found: Found) -> str:
    first, last = found.coverage
    return (
        f"{found.executions:>10,} executions, {found.rate:>7,} a second; coverage {first:>5,} → {last:>5,} edges; "
        f"{found.kept:>4,} inputs kept; {'DEFECT' if found.inputs else 'no defect'}"
    )


def _self_check(name: str) -> int:
    target = TARGETS[DEFECTS[name].targets[0]]
    with tempfile.TemporaryDirectory() as folder:
        found = search(target, _SECONDS_A_DEFECT, Path(folder), name)
    after = f"found by '{target.name}' after {found.executions:,} executions"
    print(f"planted: {name:40} {after if found.inputs else f'NOT FOUND by {target.name}'}", flush=True)
    return int(not found.inputs)


def _replay(file: Path, name: str | None) -> int:
    """Raise what the input makes a target raise. Files lie in a folder that is named for their target."""
    named = [folder for folder in reversed(file.resolve().parts) if folder in TARGETS]
    if not name and not named:
        raise SystemExit(f"which target is {file} for? add --target")
    target = TARGETS[name or named[0]]
    target.check(file.read_bytes())
    print(f"{target.name}: no defect")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
