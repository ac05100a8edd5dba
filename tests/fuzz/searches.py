"""Searches by the coverage-guided fuzzer, each a process of its own, and what they tell."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.targets import Target

# The process may hold this much memory.
_MEGABYTES = 2048
_DEFECTS = ("crash-", "oom-")


@dataclass(frozen=True)
class Found:
    """What a search came to.

    Attributes:
        executions: Inputs tried; `rate` of them a second (all, if it was over in less).
        coverage: Edges of our code that the first inputs reached, and that were reached at the end.
        kept: Inputs in the corpus, each of which reaches something new.
        inputs: Files with inputs that show a defect.
        trouble: The traceback of the defect.
    """

    executions: int
    rate: int
    coverage: tuple[int, int]
    kept: int
    inputs: tuple[Path, ...]
    trouble: str


def search(target: Target, seconds: int, folder: Path, planted: str = "") -> Found:
    """Fuzz a target; what is learned stays in `folder`, and the next search goes on from there.

    Args:
        planted: Name of a defect to plant first, if any; the search for it is the same each time.

    Raises:
        SystemExit: the fuzzer itself does not run.
    """
    corpus, found = folder / "corpus", folder / "found"
    for place in (corpus, found):
        place.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(target.seeds()):
        (corpus / f"seed-{number:02}").write_bytes(data)
    known = set(found.iterdir())
    done = subprocess.run(
        [
            sys.executable, "-m", "tests.fuzz.guided", target.name, *(("--planted", planted) if planted else ()),
            f"-max_total_time={seconds}", f"-max_len={target.longest}", "-len_control=0",
            f"-seed={int(bool(planted))}", "-handle_alrm=0", f"-rss_limit_mb={_MEGABYTES}",
            f"-artifact_prefix={found}/", "-print_final_stats=1", str(corpus),
        ],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False,
    )  # fmt: skip
    inputs = tuple(sorted(file for file in set(found.iterdir()) - known if file.name.startswith(_DEFECTS)))
    if (done.returncode != 0) != bool(inputs):
        raise SystemExit(f"{done.stdout}\nthe fuzzer ended with status {done.returncode}, which tells of no input")
    return _read(done.stdout, inputs)


def _read(output: str, inputs: tuple[Path, ...]) -> Found:
    reached = re.findall(r"cov: (\d+) ft: \d+ corp: (\d+)", output) or [("0", "0")]
    figures = {name: int(value) for name, value in re.findall(r"stat::(\w+):\s+(\d+)", output)}
    return Found(
        executions=figures["number_of_executed_units"],
        rate=figures["average_exec_per_sec"] or figures["number_of_executed_units"],
        coverage=(int(reached[0][0]), int(reached[-1][0])),
        kept=int(reached[-1][1]),
        inputs=inputs,
        trouble=output[output.find(" === ") :].partition("\n==")[0] if inputs else "",
    )
