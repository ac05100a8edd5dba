"""Tenants that lie to the server: the right one is named, and the others get their sum."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fed_em_protocols.coordinator_state import NoticeKind
from fed_em_protocols.envelope import seal, unseal
from fed_em_protocols.errors import SumFailed
from fed_em_protocols.hashing import digest
from fed_em_protocols.limits import PROTOCOL_VERSION
from fed_em_protocols.messages import (
    KINDS,
    Advertise,
    AskBase,
    Certificate,
    Deposit,
    Endorsement,
    Header,
    Hello,
    Join,
    Opening,
    Ready,
    Recover,
    Refusal,
    ReleasedShare,
    Reveal,
    SharedSecret,
    Shares,
    Upload,
)
from fed_em_protocols.wire import messages_pb2
from fed_em_simulations.liars import Liar, Twist, deals_falsely, flipped, lying, with_attachment, with_changes
from fed_em_simulations.memory_hub import Direction, Fate, Passing
from tests.protocols.auditor import Auditor
from tests.protocols.drill_window import SPARSE
from tests.protocols.examples import any_message, messages_of
from tests.protocols.federation import TestFederation, identity_of, kind_of

pytestmark = pytest.mark.usefixtures("remembered_keys")

LIAR = 1
Death = tuple[int, Direction, type]


def federation(n: int, twist: tuple[type, Twist], *deaths: Death, **options: Any) -> TestFederation:
    """Tenant 1 lies; others die where they are told to."""

    def interfere(passing: Passing) -> Fate:
        dying = [death[1:] for death in deaths if death[0] == passing.tenant]
        return Fate.KILL if dying and (passing.direction, kind_of(passing.data)) in dying else Fate.DELIVER

    return TestFederation(n, interfere=interfere, sessions={LIAR: lying(*twist)}, **options)


def named(federation: TestFederation) -> set[str]:
    return {tenants[0] for tenants, _ in federation.faults()}


SILENT_AT_OPENING: Death = (3, Direction.TO_TENANT, Certificate)
DROPPED_BEFORE_UPLOAD: Death = (4, Direction.TO_TENANT, Header)


def false_share(liar: Liar, content: Any, attachment: bytes) -> bytes:
    wrong = replace(content.released[0], share=flipped(content.released[0].share))
    return liar.sign(replace(content, released=(wrong, *content.released[1:])))


def test_a_holders_false_share_names_the_holder_and_the_others_suffice() -> None:
    trouble = federation(5, (Shares, false_share), SILENT_AT_OPENING)
    opened = trouble.sum()
    assert opened.round == 1 and opened.survivors == (0, 1, 2, 3, 4)
    assert trouble.faults() == [(("t1",), "released a share of 't3' that is not the one it was dealt")]


@pytest.mark.parametrize("part", ["salt", "path"])
def test_a_share_with_a_false_proof_is_no_better(part: str) -> None:
    def twist(liar: Liar, content: Any, attachment: bytes) -> bytes:
        share = content.released[0]
        return liar.sign(replace(content, released=(replace(share, **{part: flipped(getattr(share, part))}),)))

    trouble = federation(5, (Shares, twist), SILENT_AT_OPENING)
    trouble.sum()
    assert named(trouble) == {"t1"}


def test_a_false_share_without_enough_others_fails_the_round_and_says_so() -> None:
    trouble = federation(4, (Shares, false_share), SILENT_AT_OPENING, colluders=1)  # three shares needed, two true ones
    opened = trouble.sum()
    assert opened.round == 2 and opened.survivors == (0, 1, 2)
    failures = [notice.text for notice in trouble.notices if notice.kind.value == "round-failed"]
    assert failures == ["round 1: 't3' fell silent and 2 of the 3 shares that would replace it came back"]


def share_of(dealer: int) -> Twist:
    """Releases a share of a tenant that nobody asked for."""

    def twist(liar: Liar, content: Any, attachment: bytes) -> bytes:
        return liar.sign(replace(content, released=(replace(content.released[0], dealer=dealer),)))

    return twist


@pytest.mark.parametrize("dealer", [0, 1, 2, 63, 64])
def test_a_share_that_nobody_asked_for_names_the_holder(dealer: int) -> None:
    trouble = federation(5, (Shares, share_of(dealer)), SILENT_AT_OPENING)
    trouble.sum()
    assert trouble.faults() == [(("t1",), "released a share that nobody asked for")]


def test_a_share_of_its_own_secret_names_the_holder() -> None:
    """A dropped tenant is asked for shares too, but it was dealt none of its own secret."""

    def own(liar: Liar, content: Any, attachment: bytes) -> bytes:
        forged = ReleasedShare(LIAR, int(SharedSecret.AGREEMENT), bytes(33), bytes(16), b"")
        return liar.sign(replace(content, released=(forged,)))

    class Slow(lying(Shares, own)):  # type: ignore[misc]
        """Lies, and uploads nothing."""

        def _twisted(self, messages: tuple[bytes, ...]) -> tuple[bytes, ...]:
            return super()._twisted(tuple(data for data in messages if kind_of(data) is not Upload))

    def interfere(passing: Passing) -> Fate:
        dies = (passing.tenant, passing.direction, kind_of(passing.data)) == SILENT_AT_OPENING
        return Fate.KILL if dies else Fate.DELIVER

    trouble = TestFederation(5, interfere=interfere, sessions={LIAR: Slow})
    opened = trouble.sum()
    assert opened.survivors == (0, 2, 3, 4)
    assert trouble.faults() == [(("t1",), "released a share that nobody asked for")]


def test_a_dealers_false_shares_name_the_dealer_when_it_falls_silent() -> None:
    trouble = federation(5, (Deposit, deals_falsely), (LIAR, Direction.TO_TENANT, Certificate))
    opened = trouble.sum()
    assert opened.round == 2 and opened.survivors == (0, 2, 3, 4)
    assert trouble.faults() == [(("t1",), "the shares that 't1' dealt do not give back its secret")]


def test_a_dealer_that_is_found_out_leaves_the_window_even_if_it_lives() -> None:
    """It would otherwise fall silent in every round and be heard again before the next."""

    class Moody(lying(Deposit, deals_falsely)):  # type: ignore[misc]
        """Deals falsely, and never opens."""

        def _twisted(self, messages: tuple[bytes, ...]) -> tuple[bytes, ...]:
            return tuple(data for data in super()._twisted(messages) if kind_of(data) is not Opening)

    def heard_again(passing: Passing) -> Fate:
        if kind_of(passing.data) is Recover and passing.tenant == 0:
            trouble.hub.break_link(LIAR)
        return Fate.DELIVER

    trouble = TestFederation(5, sessions={LIAR: Moody}, interfere=heard_again)
    opened = trouble.sum()
    assert opened.round == 2 and opened.survivors == (0, 2, 3, 4)
    assert named(trouble) == {"t1"}


def test_a_false_pair_key_is_replaced_through_shares_and_its_giver_named() -> None:
    def twist(liar: Liar, content: Any, attachment: bytes) -> bytes:
        return liar.sign(replace(content, pair_keys=flipped(content.pair_keys)))

    trouble = federation(5, (Opening, twist), DROPPED_BEFORE_UPLOAD)
    opened = trouble.sum()
    assert opened.round == 1 and opened.survivors == (0, 1, 2, 3)
    assert trouble.faults() == [(("t1",), "opened with a false pair key")]


def test_a_false_pair_key_and_a_silent_survivor_at_once() -> None:
    def twist(liar: Liar, content: Any, attachment: bytes) -> bytes:
        return liar.sign(replace(content, pair_keys=flipped(content.pair_keys)))

    trouble = federation(7, (Opening, twist), DROPPED_BEFORE_UPLOAD, SILENT_AT_OPENING)
    opened = trouble.sum()
    assert opened.round == 1 and opened.survivors == (0, 1, 2, 3, 5, 6)
    assert trouble.faults() == [(("t1",), "opened with a false pair key")]


def test_a_false_self_seed_is_refused_and_recovered() -> None:
    trouble = federation(5, (Opening, with_changes(self_seed=bytes(32))))
    opened = trouble.sum()
    assert opened.round == 1 and opened.survivors == (0, 1, 2, 3, 4)
    assert set(trouble.faults()) == {(("t1",), "opened a self seed that is not the one it committed to")}


def test_an_upload_that_is_not_masked_as_agreed_fails_every_sum_it_is_in() -> None:
    """Nobody can be named for it: a sum that is none is all that shows."""

    def twist(liar: Liar, content: Any, attachment: bytes) -> bytes:
        return liar.sign(content, bytes(len(attachment)))

    trouble = federation(4, (Upload, twist))
    with pytest.raises(SumFailed, match="the unmasked vector is not a sum"):
        trouble.sum()
    assert trouble.faults() == []


AT_THE_END = np.array([0] * 8 + [1], dtype=np.uint64)


@pytest.mark.parametrize("victims", [[], [DROPPED_BEFORE_UPLOAD]])
def test_check_words_that_are_not_zero_fail_the_sum(victims: list[Death]) -> None:
    trouble = federation(5, (Hello, with_changes()), *victims)
    plain = trouble.works[LIAR].vector_at
    trouble.works[LIAR].vector_at = lambda parameters, ring: plain(parameters, ring) + AT_THE_END  # type: ignore[method-assign]
    with pytest.raises(SumFailed, match="the unmasked vector is not a sum"):
        trouble.sum()


@pytest.mark.parametrize(
    ("kind", "twist", "text"),
    [
        (Hello, with_changes(tenant="t2"), "says that it is another tenant"),
        (Hello, with_changes(roster=bytes(32)), "runs on another roster"),
        (Hello, lambda _, content, __: seal(content, identity_of("t2")).to_bytes(), "signature that does not verify"),
        (Join, with_changes(terms=bytes(32)), "accepted other terms than were offered"),
        (Join, with_changes(boot=bytes(16)), "accepted other terms than were offered"),
        (Join, with_changes(session=bytes(16)), "sent Join of another session"),
        (Join, with_changes(policy=bytes(32)), "signed under another policy than it said hello with"),
        (Advertise, with_changes(policy=bytes(32)), "signed under another policy than it said hello with"),
        (Advertise, with_changes(channel_key=bytes(32)), "advertised a key of small order"),
        (Advertise, with_attachment(lambda table: bytes(32) + table[32:]), "advertised a key of small order"),
        (Advertise, with_attachment(lambda table: table[:-32]), "do not hold 4 rounds"),
        (Advertise, with_changes(nonce_commitment=b"n" * 32), "a nonce where none is due"),
        (Advertise, with_changes(boot=bytes(16)), "advertised keys of another process"),
        (Advertise, with_changes(window=bytes(32)), None),
        (Deposit, with_changes(roots=bytes(32)), "another number of roots"),
        (Deposit, lambda liar, content, boxes: liar.sign(content, boxes[:-1]), "boxes have the wrong length"),
        (Deposit, with_changes(setup=bytes(32)), None),
        (Ready, with_changes(held=b"\xff"), "names tenant 7"),
        (Ready, with_changes(held=b"\x01\x00"), "a bitmap of 2 bytes"),
        (Ready, with_changes(setup=bytes(32)), None),
        (Upload, lambda liar, content, ring: liar.sign(content, ring[:-8]), "uploaded 64 bytes instead of 72"),
        (Upload, with_changes(context=bytes(32)), "uploaded for another header of round 1"),
        (Upload, lambda _, content, ring: seal(content, identity_of("t1"), ring).to_bytes(), "does not verify"),
        (Upload, lambda *_: b"noise", "bytes that are no Envelope"),
        (Endorsement, with_changes(survivors=b"\x1f"), "endorsed another outcome of round 1"),
        (Endorsement, with_changes(root=bytes(32)), "endorsed another outcome of round 1"),
        (Endorsement, with_changes(context=bytes(32)), "endorsed another outcome of round 1"),
        (Endorsement, lambda liar, content, _: liar.sign(content, b"!"), "which that kind has not"),
        (Endorsement, with_changes(setup=bytes(32)), None),
        (Endorsement, with_changes(round=9), None),
        (Endorsement, lambda *_: None, None),
        (Opening, with_changes(pair_keys=bytes(16)), "keys that do not fit it"),
        (Opening, with_changes(context=bytes(32)), "keys that do not fit it"),
    ],
)
def test_whatever_one_tenant_does_the_others_get_their_sum(kind: type, twist: Twist, text: str | None) -> None:
    trouble = federation(7, (kind, twist))
    for _ in range(2):
        opened = trouble.sum()
        assert set(opened.survivors) >= {0, 2, 3, 4, 5, 6}
    assert all(tenants == ("t1",) for tenants, _ in trouble.faults())
    assert text is None or any(text in said for _, said in trouble.faults())
    assert all(trouble.hub.error_of(index) is None for index in range(7) if index != LIAR)


@pytest.mark.parametrize(
    "kind", [Hello, Join, Refusal, Advertise, Deposit, Ready, Upload, Endorsement, Opening, Shares]
)
def test_every_message_must_carry_its_tenants_own_signature(kind: type) -> None:
    def twist(liar: Liar, content: Any, attachment: bytes) -> bytes:
        forged = Refusal(content.session, 1, 1, bytes(32)) if kind is Refusal else content
        return seal(forged, identity_of("t2"), attachment).to_bytes()

    trouble = federation(7, (Join if kind is Refusal else kind, twist), SILENT_AT_OPENING)
    trouble.sum()
    assert (("t1",), f"its {kind.__name__} message has a signature that does not verify") in trouble.faults()
    assert NoticeKind.REFUSED not in {notice.kind for notice in trouble.notices}


@pytest.mark.parametrize(("times", "complaint"), [(100, "longer than what it says"), (1000, "beyond its limit of 1")])
def test_an_advertisement_blown_up_by_repetition_is_refused(times: int, complaint: str) -> None:
    """Protobuf reads a field that is sent often as sent once: quoted in the set-up, it would be too long for everybody."""

    def twist(liar: Liar, content: Any, attachment: bytes) -> bytes:
        sealed = messages_pb2.Envelope.FromString(liar.sign(content))
        payload = sealed.payload * times
        signed = digest("message", KINDS[Advertise], payload, hashlib.sha256(attachment).digest())
        envelope = messages_pb2.Envelope(
            version=PROTOCOL_VERSION, kind=KINDS[Advertise], payload=payload, attachment=attachment
        )
        envelope.signature = liar.state.me.identity.sign(signed)
        return bytes(envelope.SerializeToString())

    trouble = federation(5, (Advertise, twist))
    opened = trouble.sum()
    assert opened.survivors == (0, 2, 3, 4)
    assert complaint in trouble.faults()[0][1]


def copied_window_key(liar: Liar, content: Any, attachment: bytes) -> bytes:
    return liar.sign(replace(content, window_key=_KEY_OF_A_FRIEND), attachment)


_KEY_OF_A_FRIEND = identity_of("friend").public


def test_two_tenants_that_share_a_window_key_do_not_stop_the_others() -> None:
    kind = lying(Advertise, copied_window_key)
    trouble = TestFederation(7, sessions={1: kind, 2: kind})
    opened = trouble.sum()
    assert opened.survivors == (0, 3, 4, 5, 6)
    assert (("t2",), "advertised the window key of another tenant") in trouble.faults()


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (Advertise, "advertised two sets of keys for one window"),
        (Deposit, "made two deposits for one window"),
        (Upload, "uploaded two vectors for one round"),
    ],
)
def test_two_different_messages_where_one_is_allowed_are_equivocation(kind: type, text: str) -> None:
    other: dict[type, Any] = {Advertise: {"channel_key": b"\x09" * 32}, Deposit: {}, Upload: {}}

    def twist(liar: Liar, content: Any, attachment: bytes) -> tuple[bytes, ...]:
        first = liar.sign(content, attachment)
        second = liar.sign(replace(content, **other[kind]), flipped(attachment) if attachment else b"")
        return (first, first, second)  # the same twice is none

    trouble = federation(7, (kind, twist))
    trouble.sum()
    assert trouble.faults()[0] == (("t1",), text)


def test_a_round_that_a_quorum_does_not_certify_is_not_opened() -> None:
    """Two of four witnesses keep silent: one more is needed, and nobody is asked to open."""
    silent = lying(Endorsement, lambda *_: None)
    auditor, opened = Auditor(4), []

    def interfere(passing: Passing) -> Fate:
        auditor.sees(passing.tenant, passing.data)
        opened.append(kind_of(passing.data) in {Certificate, Opening})
        return Fate.DELIVER

    trouble = TestFederation(4, interfere=interfere, sessions={1: silent, 2: silent}, colluders=1)
    with pytest.raises(SumFailed, match=r"witnesses of round 1 to certify how it ended|of the 3 endorsements"):
        trouble.sum()
    assert not any(opened) and trouble.faults() == []


def test_a_holder_that_denies_a_share_is_told_with_the_dealer() -> None:
    trouble = federation(7, (Ready, with_changes(held=b"\x7c")))  # "t0's is missing"
    opened = trouble.sum()
    assert opened.missing == ()
    assert trouble.faults() == [
        (("t1", "t0"), "the first says that it holds no valid share of the second; this proves nothing against either")
    ]


def test_a_dealers_spoiled_box_is_told_by_its_holder() -> None:
    def twist(liar: Liar, content: Any, boxes: bytes) -> bytes:
        return liar.sign(content, flipped(boxes))

    trouble = federation(7, (Deposit, twist))
    trouble.sum()
    assert trouble.faults() == [
        (("t0", "t1"), "the first says that it holds no valid share of the second; this proves nothing against either")
    ]


def test_a_dealer_whose_boxes_are_all_spoiled_takes_no_part() -> None:
    trouble = federation(7, (Deposit, lambda liar, content, boxes: liar.sign(content, bytes(len(boxes)))))
    opened = trouble.sum()
    assert opened.missing == (1,)


@pytest.mark.parametrize(
    ("number", "text"),
    [(1, "without being asked for an increment"), (2, "asks for a base round that nobody named")],
)
def test_a_base_that_nobody_named_is_not_told(number: int, text: str) -> None:
    def twist(liar: Liar, content: Any, attachment: bytes) -> tuple[bytes, ...]:
        ask = liar.sign(AskBase(content.session, content.round, bytes(32), content.context))
        return (ask, liar.sign(content, attachment)) if content.round == number else (liar.sign(content, attachment),)

    trouble = federation(7, (Upload, twist))
    for _ in range(number):
        assert set(trouble.sum().survivors) >= {0, 2, 3, 4, 5, 6}
    assert trouble.faults() and all(tenants == ("t1",) and text in said for tenants, said in trouble.faults())


def forgetful(liar: Liar, content: Any, attachment: bytes) -> bytes:
    """Uploads, and loses what it gave."""
    liar.state = replace(liar.state, vectors={})
    return liar.sign(content, attachment)


def test_a_request_for_a_base_must_carry_its_tenants_own_signature() -> None:
    class Forgetful(lying(Upload, forgetful)):  # type: ignore[misc]
        """Asks for its base with another key."""

        def _twisted(self, messages: tuple[bytes, ...]) -> tuple[bytes, ...]:
            sent = super()._twisted(messages)
            asks = [kind_of(data) is AskBase for data in sent]
            return tuple(
                seal(unseal(data, "itself").content, identity_of("t2")).to_bytes() if ask else data
                for data, ask in zip(sent, asks, strict=True)
            )

    trouble = TestFederation(7, sessions={LIAR: Forgetful})
    trouble.sum()
    assert trouble.sum().stale == (LIAR,)
    assert (("t1",), "its AskBase message has a signature that does not verify") in trouble.faults()


def with_a_foreign_signature(liar: Liar, content: Any, attachment: bytes) -> bytes:
    return seal(content, identity_of("t2"), attachment).to_bytes()


@pytest.mark.parametrize(
    ("twist", "text"),
    [
        (with_changes(nonce=b"n" * 32), "revealed a nonce that it did not commit to"),
        (with_a_foreign_signature, "signature that does not verify"),
        (with_changes(setup=bytes(32)), None),
        (lambda *_: None, None),
    ],
)
def test_a_witness_that_does_not_reveal_its_nonce_is_excused(twist: Twist, text: str | None) -> None:
    """The graph is drawn from the nonces of the others."""
    trouble = federation(66, (Reveal, twist), **SPARSE)
    opened = trouble.sum()
    assert set(range(66)) - set(opened.survivors) <= {LIAR}
    window = trouble.server.state.window
    assert window is not None and window.fixed.witnesses == (0, 2, 3, 4, 5)
    assert named(trouble) <= {"t1"} and (text is None or any(text in said for _, said in trouble.faults()))


@pytest.mark.slow
@settings(max_examples=80)
@given(st.data())
def test_noise_from_a_tenant_never_breaks_the_server(data: st.DataObject) -> None:
    """Well-signed messages of any kind and content, at any point: the others get their sum, and nobody else is blamed."""
    when = data.draw(
        st.sampled_from([Hello, Join, Advertise, Deposit, Ready, Upload, Endorsement, Opening, Shares]), label="when"
    )
    plans = st.one_of(any_message, messages_of(when))
    noise = [(data.draw(plans), data.draw(st.booleans())) for _ in range(data.draw(st.integers(1, 3)))]

    def twist(liar: Liar, content: Any, attachment: bytes) -> tuple[bytes, ...]:
        sent = []
        for lie, plausible in noise:
            bound = {"session": liar.state.terms.content.session if liar.state.terms else bytes(16)}
            bound |= {"round": 1} if hasattr(lie, "round") else {}
            bound |= {"context": content.context} if hasattr(lie, "context") and hasattr(content, "context") else {}
            bound |= {"setup": content.setup} if hasattr(lie, "setup") and hasattr(content, "setup") else {}
            real = {name: value for name, value in bound.items() if hasattr(lie, name)} if plausible else {}
            sent.append(liar.sign(replace(lie, **real), attachment if plausible else b""))
        return (*sent, liar.sign(content, attachment))

    # Five of eight certify, and five hold what replaces a sixth.
    trouble = federation(8, (when, twist), SILENT_AT_OPENING, DROPPED_BEFORE_UPLOAD, colluders=0)
    trouble.sum()
    assert all(tenants[0] == "t1" for tenants, _ in trouble.faults())
    assert all(trouble.hub.error_of(index) is None for index in range(8) if index != LIAR)
