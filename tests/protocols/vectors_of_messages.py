"""Known answers of signed messages: one of every kind, the headers of a session, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from fed_em_protocols.envelope import Sealed, seal, unseal
from fed_em_protocols.messages import BULKY, Header, Mode, Outcome
from tests.protocols.drill import Drill
from tests.protocols.examples import EXAMPLES, KEY
from tests.protocols.vector_cases import Case, error_of


def envelopes() -> list[Case]:
    """One message of every kind, signed, and messages that are refused."""
    cases: list[Case] = []
    for content in EXAMPLES:
        bulk = b"bulk" if type(content) in BULKY else b""
        sealed = seal(content, KEY, bulk)
        cases.append({
            "kind": type(content).__name__, "message": sealed.to_bytes().hex(), "payload": sealed.payload.hex(),
            "attachment": bulk.hex(), "digest": sealed.digest.hex(), "signature": sealed.signature.hex(),
            "signer": KEY.public.hex(),
        })  # fmt: skip
    good = seal(EXAMPLES[0], KEY).to_bytes()
    bad = {
        "truncated": good[:-1],
        "trailing byte": good + b"\0",
        "unknown field": good + b"\x9a\x06\x01x",
        "version 2": good.replace(b"\x08\x03", b"\x08\x02", 1),
        "field sent twice": good + b"\x08\x03",
        "unknown kind": good.replace(b"\x10\x01", b"\x10\x63", 1),
        "empty": b"",
        "attachment of a kind without": seal(EXAMPLES[0], KEY, b"bulk").to_bytes(),
    }
    for what, data in bad.items():
        text = error_of(lambda data=data: unseal(data, "sender"))  # type: ignore[misc]
        cases.append({"what": what, "message": data.hex(), "error": text})
    return cases


Change = Callable[[Header], Header]


def changed(**changes: Any) -> Change:
    """The same header with other fields."""
    return lambda header: replace(header, **changes)


def headers() -> list[Case]:
    """The headers of three rounds of a session of two blocks, and third headers that tenant 0, who was in both others, refuses."""
    drill = Drill(6, blocks=2, colluders=1)
    drill.run(1, theta=b"first")
    drill.run(2, survivors=(0, 2, 4), theta=b"second", mode=Mode.INCREMENT, bases=(1, 1))
    third = drill.header(3, theta=b"third", mode=Mode.INCREMENT, bases=(2, 1))
    cases = [header_case(drill, sealed) for sealed in (drill.certified[1][0], drill.certified[2][0], third)]
    first, second = (drill.certified[number][0].digest for number in (1, 2))
    void = drill.certificate(drill.certified[2][0], ())
    wrong: dict[str, Change] = {
        "another mode": changed(mode=9),
        "another ring": changed(ring=16),
        "a participant beyond the roster": changed(participants=b"\x7f"),
        "too few participants": changed(participants=b"\x05"),
        "other witnesses": changed(witnesses=b"\x1f"),
        "beyond the window": changed(round=5, previous_round=4),
        "a gap in the chain": changed(previous_round=1),
        "no certificate of the round before": changed(previous=(), previous_outcome=int(Outcome.NOT_OPENED)),
        "another outcome of the round before": changed(
            previous=(void.quoted(),), previous_outcome=int(Outcome.NOT_OPENED)
        ),
        "void and opened": changed(previous=(void.quoted(),)),
        "the base of a round that it was not in": changed(base_rounds=(1, 2)),
        "another context of its base": changed(base_contexts=second + first),
        "a base that is not over": changed(base_rounds=(3, 1)),
        "one base for two blocks": changed(base_rounds=(2,)),
        "bases where whole vectors are asked for": changed(mode=int(Mode.WHOLE)),
        "a gate without counts": changed(held=b"\x01"),
    }
    for what, change in wrong.items():
        message = drill.sealed(change(third.content), b"third")
        text = error_of(lambda message=message: drill.deliver(0, message.to_bytes()))  # type: ignore[misc]
        cases.append({"what": what, "message": message.to_bytes().hex(), "error": text})
    return cases


def header_case(drill: Drill, sealed: Sealed[Header]) -> Case:
    """One header, the fields that tell how the session went on, and its context."""
    content = sealed.content
    return {
        "round": content.round, "mode": content.mode, "participants": content.participants.hex(),
        "previous_outcome": content.previous_outcome, "base_rounds": list(content.base_rounds),
        "base_contexts": content.base_contexts.hex(), "message": sealed.to_bytes().hex(), "ctx": sealed.digest.hex(),
        "signer": drill.key.public.hex(),
    }  # fmt: skip
