"""One outcome a round: what a tenant endorses, what it takes for a certificate, and what it releases under one.

Proof obligations of the design page against a malicious server; rules that hold under either trust are tested under both.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from fed_em.errors import FedEmError
from fed_em_protocols.certification import require_certified
from fed_em_protocols.envelope import Sealed, seal
from fed_em_protocols.errors import BadSignature, Equivocation, MalformedMessage, OutOfTurn, PeerFault
from fed_em_protocols.messages import Certificate, Header, Opening, Outcome, SharedSecret, Shares
from fed_em_protocols.terms import Trust
from tests.protocols.drill import Drill
from tests.protocols.drill_window import SPARSE
from tests.protocols.federation import identity_of

pytestmark = pytest.mark.usefixtures("remembered_keys")

ALL = range(4)
either_trust = pytest.mark.parametrize("trust", Trust)


def uploaded(trust: Trust = Trust.MALICIOUS_SERVER, **options: Any) -> tuple[Drill, Sealed[Header]]:
    """A drill in which everybody has uploaded for round 1."""
    drill = Drill(trust=int(trust), **options)
    header = drill.header(1)
    for i in drill.fixed.members:
        drill.upload(i, header)
    return drill, header


# --- what is released, and for whom ---


@either_trust
def test_a_round_opens_under_its_certificate(trust: Trust) -> None:
    drill, header = uploaded(trust)
    certificate = drill.certify(header, [0, 1, 2])
    openings = drill.openings(certificate)
    assert all(len(opening.pair_keys) == 16 for opening in openings.values())
    assert not drill.opened_sum(header, openings).any()  # everybody gave zeros
    answer = drill.told(0, drill.recover(header, certificate, silent=[1], dropped=[3]))
    assert isinstance(answer, Shares) and len(answer.released) == 2


@either_trust
def test_an_opening_holds_the_own_seed_and_keys_with_the_dropped_only(trust: Trust) -> None:
    drill, header = uploaded(trust)
    openings = drill.openings(drill.certificate(header, [0, 1, 2]))
    assert {len(opening.pair_keys) for opening in openings.values()} == {16}
    drill, header = uploaded(trust)
    assert {opening.pair_keys for opening in drill.openings(drill.certificate(header, ALL)).values()} == {b""}


@either_trust
def test_what_is_released_is_what_was_asked(trust: Trust) -> None:
    drill, header = uploaded(trust)
    answer = drill.told(0, drill.recover(header, drill.certificate(header, [0, 1, 2]), silent=[0, 1], dropped=[3]))
    assert isinstance(answer, Shares)
    released = {(share.dealer, SharedSecret(share.secret)) for share in answer.released}
    assert released == {(1, SharedSecret.SELF_SEED), (3, SharedSecret.AGREEMENT)}  # nobody holds shares of its own


@either_trust
@pytest.mark.parametrize(("silent", "dropped"), [([3], []), ([], [1]), ([], [0]), ([3], [3]), ([0, 1, 2, 3], [])])
def test_shares_of_both_secrets_of_one_tenant_are_never_released(
    trust: Trust, silent: list[int], dropped: list[int]
) -> None:
    drill, header = uploaded(trust)
    message = drill.recover(header, drill.certificate(header, [0, 1, 2]), silent, dropped)
    drill.refused(0, message, PeerFault, "that cannot be any")


def test_shares_are_asked_for_a_few_times_only() -> None:
    drill, header = uploaded()
    certificate = drill.certificate(header, [0, 1, 2])
    asked = [
        ({1}, {3}),
        ({2}, {3}),
        ({1, 2}, {3}),
        ({1}, ()),
        ({2}, ()),
        ({1, 2}, ()),
        ((), {3}),
        ({0, 1}, {3}),
        ({0, 2}, {3}),
    ]
    for silent, dropped in asked[:8]:
        drill.told(3, drill.recover(header, certificate, silent, dropped))
    drill.refused(3, drill.recover(header, certificate, *asked[8]), OutOfTurn, "shares of round 1 again and again")


# --- double opening ---


@either_trust
def test_a_second_header_is_not_opened_against_the_firsts_certificate(trust: Trust) -> None:
    drill = Drill(trust=int(trust))
    first, second = drill.header(1), drill.header(1, theta=b"others")
    drill.upload(0, first)
    drill.refused(0, drill.certificate(second, ALL), OutOfTurn, "certificate for another round")
    recover = drill.recover(first, drill.certificate(second, ALL), silent=[1])
    drill.refused(0, recover, OutOfTurn, "certificate for another round")
    drill.refused(0, drill.recover(second, drill.certificate(first, ALL), silent=[1]), Equivocation, "two different")
    assert drill.told(0, drill.certificate(first, ALL)).context == first.digest


@either_trust
def test_the_first_survivors_are_the_only_ones_for_the_own_opening(trust: Trust) -> None:
    drill, header = uploaded(trust)
    drill.tell(0, drill.certificate(header, ALL))
    drill.refused(0, drill.certificate(header, [0, 1, 2]), OutOfTurn, "while this side is opened")
    second = drill.recover(header, drill.certificate(header, [0, 1, 2]), silent=[1], dropped=[3])
    drill.refused(0, second, Equivocation, "two different outcomes of round 1")


@either_trust
def test_the_first_survivors_are_the_only_ones_for_shares(trust: Trust) -> None:
    drill, header = uploaded(trust)
    drill.tell(0, drill.recover(header, drill.certificate(header, [0, 1, 2]), silent=[1], dropped=[3]))
    drill.refused(0, drill.certificate(header, ALL), Equivocation, "two different outcomes")
    again = drill.recover(header, drill.certificate(header, ALL), silent=[3])
    drill.refused(0, again, Equivocation, "two different outcomes")
    # The same survivors may fall silent one after the other.
    drill.told(0, drill.recover(header, drill.certificate(header, [0, 1, 2]), silent=[2], dropped=[3]))


@either_trust
def test_the_first_survivors_bind_a_holder_that_only_helps(trust: Trust) -> None:
    drill = Drill(trust=int(trust))
    header = drill.header(1, [1, 2, 3])
    drill.tell(0, drill.recover(header, drill.certificate(header, [1, 2, 3]), silent=[1]))
    other = drill.certificate(header, [1, 2, 3], root=b"r" * 32)
    drill.refused(0, drill.recover(header, other, silent=[1]), Equivocation, "two different outcomes")


@either_trust
def test_the_same_uploads_with_another_root_are_another_outcome(trust: Trust) -> None:
    drill, header = uploaded(trust)
    drill.tell(0, drill.certificate(header, ALL))
    recover = drill.recover(header, drill.certificate(header, ALL, root=b"r" * 32), silent=[1])
    drill.refused(0, recover, Equivocation, "two different outcomes")


def test_other_signatures_for_the_same_outcome_are_the_same_certificate() -> None:
    drill, header = uploaded()
    drill.tell(0, drill.recover(header, drill.certificate(header, [0, 1, 2], by=[0, 1, 2]), silent=[1]))
    assert isinstance(drill.told(0, drill.certificate(header, [0, 1, 2], by=[1, 2, 3])), Opening)


# --- hidden certificates ---


@either_trust
def test_a_certificate_that_was_opened_cannot_be_hidden_from_the_chain(trust: Trust) -> None:
    """The next header must name it: calling the round void, after it was opened, would allow a second opening of the same sum."""
    drill, first = uploaded(trust)
    drill.tell(0, drill.certificate(first, ALL))
    void = drill.certificate(first, [])
    told = {"previous": (void.quoted(),), "previous_outcome": int(Outcome.NOT_OPENED)}
    drill.refused(0, drill.header(2, **told), Equivocation, "two different outcomes of round 1")
    expected = (PeerFault, "without the certificate") if trust is Trust.MALICIOUS_SERVER else (Equivocation, "outcomes")
    drill.refused(0, drill.header(2, previous=(), previous_outcome=int(Outcome.NOT_OPENED)), *expected)
    drill.upload(0, drill.header(2))


@either_trust
def test_a_hidden_certificate_cannot_be_swapped_in_the_next_header(trust: Trust) -> None:
    drill, header = uploaded(trust)
    drill.tell(0, drill.certificate(header, ALL))
    other = drill.certificate(header, [0, 1, 2])
    drill.refused(0, drill.header(2, previous=(other.quoted(),)), Equivocation, "two different outcomes")


def test_a_hidden_certificate_and_then_void_is_refused_by_whoever_endorsed_it() -> None:
    """Nobody was shown the certificate, the server says that the round failed: its witnesses know better."""
    drill, header = uploaded()
    drill.certify(header, ALL)
    for i in ALL:
        drill.refused(i, drill.proposal(header, []), Equivocation, "two different outcomes of round 1")
    void = drill.certificate(header, [])
    told = {"previous": (void.quoted(),), "previous_outcome": int(Outcome.NOT_OPENED)}
    for i in ALL:
        drill.refused(i, drill.header(2, **told), Equivocation, "two different outcomes of round 1")


def test_a_round_that_was_closed_as_void_is_never_opened() -> None:
    drill, header = uploaded()
    void = drill.certify(header, [])
    late = drill.certificate(header, ALL)
    for i in ALL:
        drill.refused(i, late, Equivocation, "two different outcomes of round 1")
        drill.refused(i, drill.recover(header, late, silent=[3]), Equivocation, "two different outcomes")
        drill.refused(i, drill.proposal(header, ALL), Equivocation, "two different outcomes")
    assert drill.header(2).content.previous == (void.quoted(),)
    drill.upload(0, drill.header(2))


def test_a_void_certificate_opens_nothing() -> None:
    drill, header = uploaded()
    drill.refused(0, drill.certificate(header, []), PeerFault, "sum of 0 tenants")
    drill.refused(0, drill.recover(header, drill.certificate(header, []), dropped=ALL), PeerFault, "sum of 0 tenants")


def test_a_void_round_cannot_be_called_opened() -> None:
    """Every tenant would take its term in the running total for gone, and send a whole vector next."""
    drill, header = uploaded()
    void = drill.certify(header, [])
    told = {"previous": (void.quoted(),), "previous_outcome": int(Outcome.OPENED)}
    drill.refused(0, drill.header(2, **told), MalformedMessage, "round 1, which is void, was opened")


def test_a_hidden_certificate_is_of_no_use_after_the_next_header() -> None:
    drill, header = uploaded()
    hidden = drill.certificate(header, ALL)
    drill.certified.clear()
    drill.certificate(header, [])
    drill.upload(0, drill.header(2))
    drill.refused(0, hidden, OutOfTurn, "certificate for another round than 2")
    drill.refused(0, drill.recover(header, hidden, silent=[1]), OutOfTurn, "round 1 again")
    drill.refused(0, drill.proposal(header, ALL), OutOfTurn, "round 1, which this tenant has passed")


# --- certificates that are none ---


def fewer(drill: Drill, header: Sealed[Header]) -> Sealed[Certificate]:
    return drill.certificate(header, [0, 1, 2], by=range(drill.fixed.quorum - 1))


def one_false_signature(drill: Drill, header: Sealed[Header]) -> Sealed[Certificate]:
    good = drill.certificate(header, [0, 1, 2]).content.signatures
    return drill.certificate(header, [0, 1, 2], signatures=(*good[:-1], bytes(64)))


def signatures_in_another_order(drill: Drill, header: Sealed[Header]) -> Sealed[Certificate]:
    good = drill.certificate(header, [0, 1, 2]).content.signatures
    return drill.certificate(header, [0, 1, 2], signatures=(good[1], good[0], *good[2:]))


def one_witness_twice(drill: Drill, header: Sealed[Header]) -> Sealed[Certificate]:
    good = drill.certificate(header, [0, 1, 2], by=[0, 1]).content.signatures
    return drill.certificate(header, [0, 1, 2], by=[0, 1], signatures=(*good, good[0]))


def signatures_on_other_survivors(drill: Drill, header: Sealed[Header]) -> Sealed[Certificate]:
    others = drill.certificate(header, ALL).content.signatures
    return drill.certificate(header, [0, 1, 2], signatures=others)


def signatures_of_the_round_before(drill: Drill, header: Sealed[Header]) -> Sealed[Certificate]:
    others = drill.certificate(header, [0, 1, 2], round=header.content.round - 1).content.signatures
    return drill.certificate(header, [0, 1, 2], signatures=others)


def signatures_under_another_header(drill: Drill, header: Sealed[Header]) -> Sealed[Certificate]:
    others = drill.certificate(drill.header(1, theta=b"others"), [0, 1, 2]).content.signatures
    return drill.certificate(header, [0, 1, 2], signatures=others)


def of_long_term_keys(drill: Drill, header: Sealed[Header]) -> Sealed[Certificate]:
    statement = drill.statement(header, [0, 1, 2], drill.fixed)
    signatures = tuple(seal(statement, identity_of(f"t{i}")).signature for i in ALL)
    return drill.certificate(header, [0, 1, 2], signatures=signatures)


def none_at_all(drill: Drill, header: Sealed[Header]) -> Sealed[Certificate]:
    return drill.certificate(header, [0, 1, 2], by=[])


def of_another_window(drill: Drill, header: Sealed[Header]) -> Sealed[Certificate]:
    return drill.certificate(header, [0, 1, 2], setup=bytes(32))


def of_a_stranger(drill: Drill, header: Sealed[Header]) -> Sealed[Certificate]:
    return drill.certificate(header, [0, 1, 2], endorsers=b"\x1f")


NO_CERTIFICATES: list[tuple[Callable[[Drill, Sealed[Header]], Sealed[Certificate]], type[FedEmError], str]] = [
    (fewer, PeerFault, "2 endorsements of round 1, a certificate needs 3"),
    (none_at_all, PeerFault, "0 endorsements of round 1, a certificate needs 3"),
    (one_false_signature, BadSignature, "endorsement of 't3' that does not verify"),
    (signatures_in_another_order, BadSignature, "endorsement of 't0' that does not verify"),
    (one_witness_twice, MalformedMessage, "signatures are not those of its witnesses"),
    (signatures_on_other_survivors, BadSignature, "endorsement of 't0' that does not verify"),
    (signatures_of_the_round_before, BadSignature, "endorsement of 't0' that does not verify"),
    (signatures_under_another_header, BadSignature, "endorsement of 't0' that does not verify"),
    (of_long_term_keys, BadSignature, "endorsement of 't0' that does not verify"),
    (of_another_window, OutOfTurn, "does not belong to round 1"),
    (of_a_stranger, MalformedMessage, "names tenant 4"),
]


@pytest.mark.parametrize(("forge", "error", "text"), NO_CERTIFICATES, ids=lambda value: getattr(value, "__name__", ""))
def test_what_is_no_certificate_releases_nothing(
    forge: Callable[[Drill, Sealed[Header]], Sealed[Certificate]], error: type[FedEmError], text: str
) -> None:
    drill, header = uploaded()
    false = forge(drill, header)
    drill.refused(0, false, error, text)
    drill.refused(0, drill.recover(header, false, silent=[1], dropped=[3]), error, text)
    drill.refused(0, drill.header(2, previous=(false.quoted(),)), PeerFault, "server: ")
    # A quorum is enough, and exactly that.
    drill.told(0, drill.certificate(header, [0, 1, 2], by=range(drill.fixed.quorum)))


def test_certificates_belong_to_header_and_keys() -> None:
    """Whatever their signatures say."""
    drill, header = uploaded()
    first, good = drill.fixed, drill.certificate(header, ALL)
    require_certified(good, header, first, drill.roster)
    other = drill.certificate(header, ALL, context=bytes(32))
    drill.set_up(ALL, number=2, first_round=2)
    for certificate, keys in ((other, first), (good, drill.fixed)):
        with pytest.raises(OutOfTurn, match="does not belong to round 1"):
            require_certified(certificate, header, keys, drill.roster)


def test_a_header_whose_round_before_has_no_certificate_is_refused() -> None:
    drill, _ = uploaded()
    for outcome in Outcome:
        bare = drill.header(2, previous=(), previous_outcome=int(outcome))
        drill.refused(0, bare, PeerFault, "without the certificate of round 1")


@pytest.mark.parametrize("changes", [{"round": 2}, {"session": b"x" * 16}])
def test_a_header_with_the_certificate_of_another_round_is_refused(changes: dict[str, Any]) -> None:
    drill, header = uploaded()
    other = drill.certificate(header, ALL, **changes)
    drill.refused(0, drill.header(2, previous=(other.quoted(),)), MalformedMessage, "certificate of another round")


def test_a_header_with_the_certificate_of_another_header_is_refused() -> None:
    drill, header = uploaded()
    other = drill.certificate(header, ALL, context=bytes(32))
    drill.refused(0, drill.header(2, previous=(other.quoted(),)), MalformedMessage, "does not know")


def test_a_header_whose_certificate_the_server_did_not_sign_is_refused() -> None:
    drill, header = uploaded()
    forged = seal(drill.certificate(header, ALL).content, identity_of("t1"))
    drill.refused(0, drill.header(2, previous=(forged.quoted(),)), BadSignature, "does not verify")


def test_endorsements_of_tenants_outside_the_window_do_not_count() -> None:
    """t3 has a key of window 2 and none of window 1, whose round this is."""
    drill = Drill(window=False)
    drill.set_up([0, 1, 2])
    header = drill.header(1)
    for i in range(3):
        drill.upload(i, header)
    statement = drill.statement(header, range(3), drill.fixed)
    own = seal(statement, identity_of("t3")).signature
    good = drill.certificate(header, range(3), by=[0, 1]).content.signatures
    false = drill.certificate(header, range(3), by=[0, 1], endorsers=b"\x0b", signatures=(*good, own))
    drill.refused(0, false, MalformedMessage, "signatures are not those of its witnesses")


# --- which survivors ---


@either_trust
@pytest.mark.parametrize(
    ("participants", "survivors", "error", "text"),
    [
        ([0, 1, 2], [0, 1, 3], PeerFault, "names survivors that cannot be any"),
        ([0, 1, 2, 3], [0, 1], PeerFault, "sum of 2 tenants, the terms say 3"),
        ([0, 1, 2, 3], [], PeerFault, "sum of 0 tenants"),
        ([0, 1, 2, 3], [0], PeerFault, "sum of 1 tenants"),
        ([0, 1, 2, 3], [1, 2, 3], OutOfTurn, "does not hold its upload"),
    ],
)
def test_a_certificate_of_unfit_survivors_is_refused(
    trust: Trust, participants: list[int], survivors: list[int], error: type[FedEmError], text: str
) -> None:
    drill = Drill(trust=int(trust))
    header = drill.header(1, participants)
    drill.upload(0, header)
    certificate = drill.certificate(header, survivors)
    drill.refused(0, certificate, error, text)
    if error is PeerFault:
        drill.refused(0, drill.recover(header, certificate, silent=survivors), error, text)
    if error is PeerFault and survivors and trust is Trust.MALICIOUS_SERVER:
        drill.refused(0, drill.proposal(header, survivors), error, text)


@either_trust
def test_the_own_minimum_of_the_terms_is_enforced_on_participants_and_survivors(trust: Trust) -> None:
    drill = Drill(minimum_survivors=4, trust=int(trust))
    drill.refused(0, drill.header(1, [0, 1, 2]), PeerFault, "sum of 3 tenants, the terms say 4")
    header = drill.header(1)
    drill.upload(0, header)
    drill.refused(0, drill.certificate(header, [0, 1, 2]), PeerFault, "sum of 3 tenants, the terms say 4")
    drill.refused(
        0, drill.recover(header, drill.certificate(header, [0, 1, 2]), dropped=[3]), PeerFault, "the terms say 4"
    )


def in_blocks(trust: Trust = Trust.MALICIOUS_SERVER) -> tuple[Drill, Sealed[Header]]:
    """Nine tenants in three blocks of three: {0, 3, 6}, {1, 4, 7}, {2, 5, 8}."""
    return uploaded(trust, n=9, blocks=3, colluders=1)


@either_trust
@pytest.mark.parametrize("lost", [[8], [1, 2], [0, 3], [1, 4, 8]])
def test_survivors_that_split_a_block_are_refused(trust: Trust, lost: list[int]) -> None:
    drill, header = in_blocks(trust)
    survivors = set(range(9)) - set(lost)
    index = min(survivors)
    split = "asks to open a sum that splits the block of"
    certificate = drill.certificate(header, survivors)
    drill.refused(index, certificate, PeerFault, split)
    drill.refused(index, drill.recover(header, certificate, silent=[5], dropped=lost), PeerFault, split)
    if trust is Trust.MALICIOUS_SERVER:
        drill.refused(index, drill.proposal(header, survivors), PeerFault, split)


@either_trust
def test_whole_blocks_are_opened(trust: Trust) -> None:
    drill, header = in_blocks(trust)
    certificate = drill.certify(header, [0, 1, 3, 4, 6, 7])
    assert not drill.opened_sum(header, drill.openings(certificate)).any()


@cache
def on_a_sparse_graph() -> tuple[Drill, Sealed[Header]]:
    drill = Drill(66, **SPARSE)
    return drill, drill.header(1)


def weakly_tied(drill: Drill) -> tuple[list[int], int]:
    """Survivors of whom one, who is no witness, has one neighbour left after it on the ring; and that one."""
    graph = drill.fixed.graph
    assert graph is not None
    tied = next(i for i in graph.ring if i >= 6 and min(graph.sides(i)[1]) >= 6)
    return sorted(set(graph.ring) - set(graph.sides(tied)[1][:2])), tied


def test_survivors_that_leave_a_tenant_with_too_few_neighbours_on_a_side_are_refused() -> None:
    drill, header = on_a_sparse_graph()
    survivors, tied = weakly_tied(drill)
    thin = "fewer than 2 neighbours on a side"
    states = list(drill.states)
    drill.refused(0, drill.proposal(header, survivors), PeerFault, thin)
    drill.upload(tied, header)
    certificate = drill.certificate(header, survivors)
    drill.refused(tied, certificate, PeerFault, thin)
    drill.refused(tied, drill.recover(header, certificate, silent=survivors[:1]), PeerFault, thin)
    drill.states = states


def test_who_is_no_witness_of_a_sparse_graph_endorses_nothing_and_its_word_counts_for_nothing() -> None:
    drill, header = on_a_sparse_graph()
    states = list(drill.states)
    drill.refused(6, drill.proposal(header, range(66)), OutOfTurn, "no witness of the round")
    drill.upload(7, header)
    with_a_stranger = drill.certificate(header, range(66), by=[0, 1, 2, 3, 6])
    drill.refused(7, with_a_stranger, MalformedMessage, "signatures are not those of its witnesses")
    drill.refused(7, drill.certificate(header, range(66), by=range(4)), PeerFault, "a certificate needs 5")
    drill.told(7, drill.certificate(header, range(66), by=range(1, 6)))
    drill.states = states
