"""Every fuzz target without the fuzzer: under hypothesis, at every edge of every field, on inputs that once showed a defect, and
with defects planted."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.planted import DEFECTS, Defect
from tests.fuzz.record import recorded
from tests.fuzz.sessions import SESSION_KINDS, SessionKind
from tests.fuzz.shapes import KNOWN_RULES, ORDERED_KINDS, example_of, nested_kinds, obeys
from tests.fuzz.shrinking import shrunk
from tests.fuzz.sweeps import server_defects, tenant_defects
from tests.fuzz.targets import TARGETS, blind_inputs

REGRESSIONS = Path(__file__).parent / "regressions"
# How many inputs find a planted defect; drawn inputs are the same each time.
ENOUGH = 40_000

each_session = pytest.mark.parametrize("kind", SESSION_KINDS, ids=str)
quickly = settings(deadline=None, database=None, max_examples=300)
# Short ones are shrunk to the point; long ones go further.
scripts = st.one_of(
    st.binary(max_size=64), st.integers(0, 2**32 - 1).map(lambda seed: random.Random(seed).randbytes(256))
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A valid message with a few bytes changed, cut out or put in."""
    data = bytearray(draw(st.sampled_from(TARGETS["parse"].seeds())))
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, len(data)))
        data[place : place + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(data)


@quickly
@given(st.one_of(st.binary(max_size=300), mutated()))
def test_whatever_parses_says_what_it_serialises(data: bytes) -> None:
    TARGETS["parse"].check(data)


@quickly
@given(scripts)
def test_signed_messages_parse_exactly_if_they_obey_their_rules(script: bytes) -> None:
    TARGETS["messages"].check(script)


@pytest.mark.slow
@quickly
@given(scripts)
def test_a_tenant_takes_whatever_a_server_signs(script: bytes) -> None:
    TARGETS["tenant"].check(script)


@pytest.mark.slow
@quickly
@given(scripts)
def test_the_server_takes_whatever_tenants_sign(script: bytes) -> None:
    TARGETS["server"].check(script)


@pytest.mark.slow
@settings(quickly, max_examples=60)
@given(scripts)
def test_a_federation_takes_whatever_the_network_does(script: bytes) -> None:
    TARGETS["network"].check(script)


@pytest.mark.slow
@each_session
def test_every_field_and_attachment_at_every_edge_is_taken_or_refused_by_a_tenant(kind: SessionKind) -> None:
    assert tenant_defects(kind) == []


@each_session
def test_every_field_and_attachment_at_every_edge_is_taken_or_refused_by_the_server(kind: SessionKind) -> None:
    assert server_defects(kind) == []


@pytest.mark.parametrize("name", TARGETS)
def test_inputs_that_once_showed_a_defect_show_none(name: str) -> None:
    for file in sorted((REGRESSIONS / name).glob("*")):
        TARGETS[name].check(file.read_bytes())


@pytest.mark.parametrize(
    ("defect", "name"),
    [(defect, name) for defect in DEFECTS.values() for name in defect.targets if not defect.deep],
    ids=lambda value: value if isinstance(value, str) else value.name.replace(" ", "-"),
)
def test_a_planted_defect_is_found(defect: Defect, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    target = TARGETS[name]
    target.check(b"")
    defect.plant(monkeypatch)
    found = next((data for data in islice(blind_inputs(target, 0), ENOUGH) if raises(target.check, data)), None)
    assert found is not None
    monkeypatch.undo()
    target.check(found)


def raises(check: Callable[[bytes], None], data: bytes) -> bool:
    try:
        check(data)
    except Exception:
        return True
    return False


def test_a_defect_is_shown_by_less() -> None:
    def check(data: bytes) -> None:
        assert data.count(b"x") < 3

    assert shrunk(check, b"a lot of xenon, an axe, and more xylem") == b"xxx"


@pytest.mark.parametrize("kind", ORDERED_KINDS, ids=lambda kind: kind.__name__)
def test_the_plain_example_of_a_kind_obeys_its_rules(kind: type) -> None:
    assert obeys(example_of(kind))


def test_no_field_has_a_rule_that_the_fuzzer_does_not_know() -> None:
    """If this fails, `shapes.obeys` must learn the rule: it says which messages the parser must refuse."""
    rules = {rule for kind in nested_kinds() for declared in fields(kind) for rule in declared.metadata}
    assert rules <= KNOWN_RULES


@pytest.mark.slow
def test_the_record_is_the_same_each_time() -> None:
    """Otherwise an input that was found would mean something else in the next process."""
    first, second = recorded(), recorded.__wrapped__()
    assert list(first.tenant_moments) == list(second.tenant_moments)
    assert list(first.server_moments) == list(second.server_moments)
    assert len(first.tenant_moments) > 50 and len(first.server_moments) > 50


@pytest.mark.slow
def test_no_input_changes_a_state_that_is_a_value() -> None:
    moments: list[Any] = [*recorded().tenant_moments.values(), *recorded().server_moments.values()]
    before = [fingerprint(moment.state) for moment in moments]
    for name in ("tenant", "server"):
        for data in islice(blind_inputs(TARGETS[name], 1), 200):
            TARGETS[name].check(data)
    assert [fingerprint(moment.state) for moment in moments] == before


def fingerprint(value: Any) -> bytes:
    """A digest of all that can be reached through dataclasses and containers."""
    state = hashlib.sha256()
    for part in _parts(value):
        state.update(len(part).to_bytes(8, "little") + part)
    return state.digest()


def _parts(value: Any) -> Iterator[bytes]:
    if is_dataclass(value):
        for declared in fields(value):
            yield from _parts(getattr(value, declared.name))
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            yield from _parts(key)
            yield from _parts(entry)
    elif isinstance(value, (tuple, list)):
        for entry in value:
            yield from _parts(entry)
    elif isinstance(value, np.ndarray):
        yield value.tobytes()
    elif isinstance(value, (bytes, str, int, float, frozenset, type(None))):
        yield repr(value).encode()
