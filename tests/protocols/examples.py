"""One well-formed message of every kind, and hypothesis strategies for all of them."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from hypothesis import strategies as st

from fed_em_protocols.keys import SigningKey
from fed_em_protocols.messages import (
    KINDS,
    Advertise,
    AskBase,
    Base,
    Boxes,
    Certificate,
    Close,
    Counted,
    Deposit,
    Endorsement,
    Header,
    Hello,
    Join,
    Neighbours,
    Opening,
    OpenWindow,
    Payload,
    Proposal,
    Quoted,
    Ready,
    Recover,
    Refusal,
    ReleasedShare,
    Reveal,
    SetUp,
    Shares,
    Upload,
)
from fed_em_protocols.terms import SessionTerms

KEY = SigningKey(b"k" * 32)
ID, DIGEST = b"i" * 16, b"d" * 32
QUOTED = Quoted(b"payload", DIGEST, b"s" * 64)

EXAMPLES: tuple[Payload, ...] = (
    Hello("t0", DIGEST, ID, "fed-em 1", DIGEST),
    Join(ID, DIGEST, ID, 1, DIGEST),
    Refusal(ID, 1, 7, DIGEST),
    Advertise(ID, DIGEST, ID, b"c" * 32, b"w" * 32, b"n" * 32, DIGEST),
    Reveal(ID, DIGEST, b"n" * 32),
    Deposit(ID, DIGEST, b"m" * 96),
    Ready(ID, DIGEST, b"\x05"),
    Upload(ID, 7, DIGEST),
    Endorsement(ID, 7, DIGEST, b"\x07", b"r" * 32, DIGEST),
    AskBase(ID, 7, DIGEST, DIGEST),
    Opening(ID, 7, DIGEST, b"b" * 32, b"p" * 32),
    Shares(ID, 7, DIGEST, (ReleasedShare(1, 1, b"s" * 33, b"t" * 16, b"h" * 64), ReleasedShare(2, 0, b"s" * 33, b"t" * 16, b""))),
    SessionTerms(ID, DIGEST, DIGEST, 1, 2, 3, 3, 1, 0, 0, 0, 0, 0, 2, 0, 100, 64),
    OpenWindow(ID, DIGEST, 1, 1, b"\x08", (QUOTED, QUOTED)),
    SetUp(ID, DIGEST, b"\x07", (QUOTED, QUOTED)),
    Neighbours(ID, DIGEST, (b"n" * 32, b"o" * 32), b"\x06", (QUOTED, QUOTED)),
    Boxes(ID, DIGEST, b"\x06", (QUOTED,)),
    Header(
        ID, DIGEST, DIGEST, b"\x03", 7, 2, DIGEST, DIGEST, 10, b"\x02", b"\x07", 6, 1, (QUOTED,), DIGEST, (1, 300), b"c" * 64, 32
    ),
    Proposal(ID, QUOTED, b"\x07", DIGEST),
    Certificate(ID, 7, DIGEST, b"\x07", b"r" * 32, DIGEST, b"\x03", (b"x" * 64, b"y" * 64)),
    Counted(ID, 7, QUOTED, b"p" * 32),
    Base(ID, QUOTED),
    Recover(ID, QUOTED, QUOTED, b"\x01", b"\x04"),
    Close(ID, 1, 7),
)  # fmt: skip

_NESTED: dict[tuple[str, str], type] = {
    ("OpenWindow", "last_certified"): Quoted,
    ("SetUp", "advertisements"): Quoted,
    ("Neighbours", "advertisements"): Quoted,
    ("Boxes", "deposits"): Quoted,
    ("Header", "previous"): Quoted,
    ("Proposal", "header"): Quoted,
    ("Counted", "certificate"): Quoted,
    ("Base", "header"): Quoted,
    ("Recover", "header"): Quoted,
    ("Recover", "certificate"): Quoted,
    ("Shares", "released"): ReleasedShare,
}


def _entries(kind: type, name: str, rules: Any) -> st.SearchStrategy[Any]:
    nested = _NESTED.get((kind.__name__, name))
    if nested:
        return messages_of(nested)
    if name == "base_rounds":
        return st.integers(0, 2**64 - 1)
    return st.binary(min_size=rules["entry"], max_size=rules["entry"])


def _multiples(size: int) -> st.SearchStrategy[bytes]:
    return st.integers(1, 3).flatmap(lambda k: st.binary(min_size=k * size, max_size=k * size))


def _values(kind: type, name: str, example: object, rules: Any) -> st.SearchStrategy[Any]:
    most = rules.get("most", 2**32 - 1)
    if isinstance(example, tuple):
        found = st.lists(_entries(kind, name, rules), max_size=min(most, 3)).map(tuple)
    elif (kind.__name__, name) in _NESTED:
        found = messages_of(_NESTED[kind.__name__, name])
    elif isinstance(example, str):
        found = st.text(max_size=min(most, 20))
    elif isinstance(example, int):
        found = st.integers(0, min(most, 2**32 - 1))
    elif "multiple" in rules:
        found = _multiples(rules["multiple"])
    else:
        found = st.binary(min_size=rules.get("length", 0), max_size=rules.get("length", min(most, 40)))
    return found


def messages_of(kind: type) -> st.SearchStrategy[Any]:
    """Any message of a kind that obeys its declared limits."""
    samples = {type(example): example for example in (*EXAMPLES, QUOTED, ReleasedShare(0, 0, b"", b"", b""))}
    sample = samples[kind]
    return st.builds(kind, **{f.name: _values(kind, f.name, getattr(sample, f.name), f.metadata) for f in fields(kind)})


any_message = st.sampled_from(sorted(KINDS, key=lambda kind: KINDS[kind])).flatmap(messages_of)
