"""One target under the coverage-guided fuzzer, in a process of its own (see `searches`): it never returns.

python -m tests.fuzz.guided TARGET [--planted DEFECT] libFuzzer options and corpus folders
"""

from __future__ import annotations

import random
import signal
import sys

import atheris
import pytest

with atheris.instrument_imports(include=["fed_em_protocols", "fed_em_client", "fed_em_server"]):
    from tests.fuzz.planted import DEFECTS
    from tests.fuzz.targets import TARGETS, Target

_SECONDS_AN_INPUT = 20
# How often a script is cut and goes on at random.
_GO_ON = 0.5


def main() -> None:
    """Fuzz until the time is up or something is found."""
    name, *options = sys.argv[1:]
    target = TARGETS[name]
    # Whatever is prepared once is prepared now: no input shall be blamed for its time.
    target.check(b"")
    if options[:1] == ["--planted"]:
        DEFECTS[options[1]].plant(pytest.MonkeyPatch())
        options = options[2:]
    signal.signal(signal.SIGALRM, _too_long)
    own = {"custom_mutator": _go_on} if target.scripted else {}
    atheris.Setup([sys.argv[0], *options], lambda data: _in_time(target, data), **own)
    atheris.Fuzz()


def _in_time(target: Target, data: bytes) -> None:
    signal.alarm(_SECONDS_AN_INPUT)
    try:
        target.check(data)
    finally:
        signal.alarm(0)


def _go_on(script: bytes, longest: int, seed: int) -> bytes:
    """Another script: often one that begins alike, or not even that, and then does anything. By itself the fuzzer prefers short ones."""
    draw = random.Random(seed)
    if draw.random() < _GO_ON:
        kept = script[: draw.choice((0, draw.randrange(len(script) + 1)))]
        return kept + draw.randbytes(draw.randrange(longest - len(kept) + 1) // 2)
    return bytes(atheris.Mutate(script, longest))


def _too_long(*_: object) -> None:
    raise TimeoutError(f"this input takes more than {_SECONDS_AN_INPUT} seconds")


if __name__ == "__main__":
    main()
