"""A registry of format 1 is read for ever."""

from __future__ import annotations

import shutil
from pathlib import Path

from models import lineage, mixture

from fed_em_server.registry import Registry
from fed_em_server.registry.verification import verified

STORED = Path(__file__).with_name("version-1")
FIRST = "a8998cf23ccaf9820ef1e1dc2a8ada08daed82e0d4e1dedeb8e1d92dabc07f85"
HEAD = "03ecd77fcec0e73688a93ef5a52bc23a5df3918c4ad3d1edfdc1af17d3079660"


def test_it_is_verified_read_and_gone_on_with(tmp_path: Path) -> None:
    registry = Registry(shutil.copytree(STORED, tmp_path / "registry"))
    found = verified(registry, HEAD)
    assert found.passed, [check.said for check in found.checks]
    assert registry.read().head == HEAD
    first, second = registry.versions()
    assert (first.id, second.parents, registry.current()) == (FIRST, (FIRST,), first)
    assert first.lineage.metrics.log_likelihood == -3.25
    assert first.lineage.policies == {"ash": ("4" * 64,)}
    assert registry.load(second).parameters.distance(mixture(0.5).parameters) == 0.0
    assert [entry.kind for entry in registry.read().entries] == (
        ["added"] * 3 + ["promoted"] * 2 + ["decided", "promoted", "withdrawn", "rolled-back", "removed"]
    )
    assert registry.add(mixture(2.0), lineage()).number == 4
