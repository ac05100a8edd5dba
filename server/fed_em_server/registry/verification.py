"""Everything in a registry held against everything else, as a list of checks."""

from __future__ import annotations

from collections.abc import Iterator

from fed_em.errors import FedEmError
from fed_em_server.audit.verify import Check, Verdict, Verification
from fed_em_server.registry.history import History
from fed_em_server.registry.store import Registry
from fed_em_server.registry.version import MANIFEST_FILE

HISTORY, LEFTOVERS = "history", "left over"


def verified(registry: Registry, head: str = "") -> Verification:
    """Check the chain of the history, every version's manifest, files and model, parents, and that nothing else lies there.

    Args:
        registry: What to check.
        head: A head of the history that was noted before, 64 hexadecimal digits: the history must still hold it.
    """
    try:
        history = registry.read()
    except FedEmError as error:
        return Verification((Check(HISTORY, Verdict.FAILED, error.diagnostics()),))
    checks = [_of_history(history, head.lower())]
    for each in history.numbers:
        checks += [_of_version(registry, history, each), *_beside(registry, each)]
    return Verification((*checks, *_leftovers(registry, history)))


def _of_history(history: History, head: str) -> Check:
    if head and head not in history.links:
        return Check(
            HISTORY, Verdict.FAILED, f"it has no entry {head}: it was cut, or written anew, since that was its head"
        )
    return Check(
        HISTORY, Verdict.PASSED, f"one chain of entries, {len(history.entries)} in all; its head is {history.head}"
    )


def _of_version(registry: Registry, history: History, version: str) -> Check:
    name = f"version {history.numbers[version]}"
    try:
        found = registry.version(version)
        registry.load(found)
        registry.record(found)
        missing = [parent for parent in found.parents if parent not in history.numbers]
    except FedEmError as error:
        return Check(name, Verdict.FAILED, error.diagnostics())
    if missing:
        return Check(name, Verdict.FAILED, f"its parent {missing[0]} is not in this registry")
    stages = [stage for stage, versions in history.stages.items() if versions and versions[-1] == version]
    there = f", in {' and '.join(sorted(stages))}" if stages else ""
    return Check(name, Verdict.PASSED, f"{len(found.manifest.files)} files are those of its manifest{there}")


def _beside(registry: Registry, version: str) -> Iterator[Check]:
    """Files that nobody's hash covers."""
    try:
        found = registry.version(version)
    except FedEmError:
        return
    folder = registry.path(found)
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    for name in sorted(there - {*found.manifest.files, MANIFEST_FILE}):
        said = f"{name} of version {found.number} is not in its manifest: it came later, and nothing says whether it was changed"
        yield Check(LEFTOVERS, Verdict.NOTED, said)


def _leftovers(registry: Registry, history: History) -> Iterator[Check]:
    for name in registry.leftovers(history):
        yield Check(
            LEFTOVERS,
            Verdict.NOTED,
            f"{name} is of no version: a process died while it wrote or removed it, or it is not ours",
        )
