"""Whatever is done in whatever order, a registry says what a list of what was done says."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st
from models import lineage, mixture, without_sync

from fed_em.errors import CallerError
from fed_em_server.registry import Registry
from fed_em_server.registry.verification import verified

STAGES = ("production", "canary")
STEPS = st.one_of(
    st.tuples(st.just("add"), st.integers(0, 3), st.just("")),
    st.tuples(st.just("promote"), st.integers(0, 3), st.sampled_from(STAGES)),
    st.tuples(st.sampled_from(["rollback", "withdraw"]), st.just(0), st.sampled_from(STAGES)),
    st.tuples(st.just("remove"), st.integers(0, 3), st.just("")),
)


class Expected:
    """Versions by the shift of their model, stages as stacks."""

    def __init__(self) -> None:
        self.there: list[int] = []
        self.stages: dict[str, list[int]] = {stage: [] for stage in STAGES}
        self.seen: set[int] = set()

    def take(self, step: str, k: int, stage: str) -> bool:
        """Whether it is admitted."""
        stack = self.stages.get(stage, [])
        match step:
            case "add":
                if k not in self.there:
                    self.there.append(k)
            case "promote":
                if k not in self.there:
                    return False
                if stack[-1:] != [k]:
                    stack.append(k)
                self.seen.add(k)
            case "rollback":
                if len(stack) < 2:
                    return False
                stack.pop()
            case "withdraw":
                if not stack:
                    return False
                stack.clear()
            case "remove":
                if k not in self.there or k in self.seen:
                    return False
                self.there.remove(k)
        return True


@settings(max_examples=12, deadline=None)
@given(steps=st.lists(STEPS, max_size=25))
def test_a_registry_does_what_a_list_does(steps: list[tuple[str, int, str]]) -> None:
    with TemporaryDirectory() as folder, without_sync():
        registry, expected = Registry(Path(folder) / "registry"), Expected()
        ids: dict[int, str] = {}
        for step, k, stage in steps:
            admitted, done = expected.take(step, k, stage), False
            with suppress(CallerError, KeyError):
                match step:
                    case "add":
                        ids[k] = registry.add(mixture(float(k)), lineage()).id
                    case "promote":
                        registry.promote(registry.version(ids[k]), stage)
                    case "rollback":
                        registry.rollback(stage)
                    case "withdraw":
                        registry.withdraw(stage)
                    case "remove":
                        registry.remove(registry.version(ids[k]))
                done = True
            assert done == admitted
        # One that has followed all along, and one that reads all of it now.
        for each in (registry, Registry(registry.folder)):
            assert [version.id for version in each.versions()] == [ids[k] for k in expected.there]
            for stage in STAGES:
                current = each.current(stage)
                assert ([current.id] if current else []) == [ids[k] for k in expected.stages[stage][-1:]]
        assert verified(registry).passed
