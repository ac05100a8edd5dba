"""Makes `version-1`, a registry of format 1, once; later versions of fed-em must read it for ever.

python -m tests.registry.make_version_1, with the tests' folders on the path
"""

from __future__ import annotations

from pathlib import Path

from models import Clock, lineage, mixture

from fed_em_server.registry import Registry
from fed_em_server.registry.history import Decision
from fed_em_server.registry.lineage import Metrics, TranscriptHead

FOLDER = Path(__file__).with_name("version-1")


def make() -> None:
    """Versions with and without a session and a parent, and an entry of every kind."""
    registry = Registry(FOLDER, Clock(), "ash@forest")
    session = lineage(
        title="blood", federation="forest", session="ab" * 16, description="1" * 64, terms="2" * 64, roster="3" * 64,
        tenants=("ash", "elm", "oak"), policies={"ash": ("4" * 64,)},
        transcript=TranscriptHead(root="5" * 64, entries=30, time="2030-01-01T00:00:00+00:00"),
        metrics=Metrics(log_likelihood=-3.25, records=75.0, rounds=5, iterations=4, converged=True, epsilon=1.0, delta=1e-6),
    )  # fmt: skip
    first = registry.add(mixture(), session, reason="the first")
    second = registry.add(mixture(0.5), lineage(), parents=[first])
    third = registry.add(mixture(1.0), lineage())
    registry.promote(first, reason="the first")
    registry.promote(second, "canary")
    decision = Decision(candidate=second.id, baseline=first.id, outcome="keep", numbers={"gain": 0.001})
    registry.decided("production", decision, "nothing is proved yet")
    registry.promote(second, reason="better", decision=decision.model_copy(update={"outcome": "promote"}))
    registry.withdraw("canary")
    registry.rollback(reason="worse after all")
    registry.remove(third, "a test")
    (FOLDER / "lock").unlink()


if __name__ == "__main__":
    make()
