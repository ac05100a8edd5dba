"""The set-up of one window: public keys for all its rounds, advertised once, and what every member derives from them.

    server:  OpenWindow           tenant:  Advertise  (keys of every round of the window)
    server:  SetUp                witness: Reveal     (its nonce; sparse graph under malicious-server trust only)
    server:  Neighbours           tenant:  Deposit    (shares of every secret of the window, sealed; see `deposits`)
    server:  Boxes                tenant:  Ready

H(set-up) covers every advertisement, and with them the nonces' commitments; each later message of the window carries it. On the
complete graph SetUp and Neighbours travel together and nobody reveals anything. On a sparse graph the seed is the hash of the
nonces of all witnesses, shown after H(set-up) is fixed, so neither the server nor a tenant chooses its neighbours.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from fed_em_protocols.boxes import Channel
from fed_em_protocols.envelope import Sealed, unquote
from fed_em_protocols.errors import SERVER, MalformedMessage, OutOfTurn, PeerFault
from fed_em_protocols.graph import NeighbourGraph, graph_seed
from fed_em_protocols.hashing import DIGEST_BYTES, digest
from fed_em_protocols.keys import KEY_BYTES, SigningKey, agreement_public, is_of_small_order
from fed_em_protocols.members import from_bitmap, to_bitmap
from fed_em_protocols.messages import Advertise, Neighbours, OpenWindow, Quoted, SetUp
from fed_em_protocols.records import replace
from fed_em_protocols.roster import Roster
from fed_em_protocols.round_keys import KeyChain, commitment
from fed_em_protocols.terms import SessionTerms, Trust, certificate_quorum_of, share_threshold_of

Randomness = Callable[[int], bytes]

NO_NONCE = bytes(DIGEST_BYTES)


@dataclass(frozen=True)
class WindowSecrets:
    """What one member keeps of a window, in memory only.

    Attributes:
        opening: Digest of the signed OpenWindow.
        channel_secret: X25519 secret of the sealed boxes; dropped (None) once they are open.
        signing_key: Signs this tenant's messages within the window.
        chain: Yields a_t and b_t of the rounds still to come.
        nonce: This tenant's part in the graph's seed, if it has one; dropped with the channel secret.
    """

    opening: bytes
    channel_secret: bytes | None
    signing_key: SigningKey
    chain: KeyChain
    nonce: bytes | None = None

    def __repr__(self) -> str:
        return f"WindowSecrets({self.chain!r})"

    @cached_property
    def channel(self) -> Channel:
        """The end of the sealed boxes, made once for all of them."""
        assert self.channel_secret is not None
        return Channel(self.channel_secret)

    def without_channel(self) -> WindowSecrets:
        """The same, once no box is left to open."""
        return replace(self, channel_secret=None, nonce=None)


def draw_window_secrets(opening: Sealed[OpenWindow], gives_nonce: bool, randomness: Randomness) -> WindowSecrets:
    """Fresh secrets for a window. Must be called once a window: they must never serve two advertisements."""
    return WindowSecrets(
        opening=opening.digest,
        channel_secret=randomness(KEY_BYTES),
        signing_key=SigningKey(randomness(KEY_BYTES)),
        chain=KeyChain(randomness(KEY_BYTES), opening.content.first_round),
        nonce=randomness(KEY_BYTES) if gives_nonce else None,
    )


def nonce_commitment(nonce: bytes) -> bytes:
    """What a witness advertises of its nonce."""
    return digest("nonce", nonce)


def advertisement(secrets: WindowSecrets, terms: SessionTerms, boot: bytes, policy: bytes) -> tuple[Advertise, bytes]:
    """The public side of fresh window secrets: the message, and the table of its round keys to attach."""
    rounds = secrets.chain.secrets(terms.window_rounds)
    content = Advertise(
        session=terms.session,
        window=secrets.opening,
        boot=boot,
        channel_key=secrets.channel.public,
        window_key=secrets.signing_key.public,
        nonce_commitment=nonce_commitment(secrets.nonce) if secrets.nonce else NO_NONCE,
        policy=policy,
    )
    keys = [agreement_public(each.agreement) for each in rounds]
    return content, b"".join([*keys, *(commitment(each.self_seed) for each in rounds)])


@dataclass(frozen=True)
class WindowSetUp:
    """The public state of a window. The same at every member and at the server, but for whose advertisements are at hand.

    Attributes:
        opening: The signed OpenWindow.
        terms: The session's terms.
        n: Roster size.
        members: Roster indices of the members, ascending.
        witnesses: Those among them who certify rounds; none under semi-honest trust.
        digests: Digests of the members' advertisements, in order.
        advertisements: Advertisements at hand, by roster index: at the server all with their tables of round keys; at a tenant
            the witnesses' and, with tables, its neighbours'.
        graph: Who shares masks with whom; None on the complete graph, and before the draw.
    """

    opening: Sealed[OpenWindow]
    terms: SessionTerms
    n: int
    members: tuple[int, ...]
    witnesses: tuple[int, ...]
    digests: tuple[bytes, ...]
    advertisements: Mapping[int, Sealed[Advertise]]
    graph: NeighbourGraph | None = None

    @cached_property
    def digest(self) -> bytes:
        """H(set-up)."""
        return digest("set-up", self.opening.digest, to_bitmap(self.members, self.n), *self.digests)

    @property
    def first_round(self) -> int:
        """Its first round number; it serves `rounds` of them."""
        return self.opening.content.first_round

    @property
    def rounds(self) -> int:
        """W."""
        return self.terms.window_rounds

    @property
    def certified(self) -> bool:
        """Whether rounds need a quorum's certificate."""
        return self.terms.trust == Trust.MALICIOUS_SERVER

    @cached_property
    def sparse(self) -> bool:
        """Whether the graph is sparse."""
        return self.terms.neighbours > 0

    def policy_of(self, index: int) -> bytes:
        """A member's commitment to its policy: H(set-up) binds it, and with it all that the window's keys sign."""
        return self.advertisements[index].content.policy

    @property
    def draws_graph(self) -> bool:
        """Whether witnesses must reveal nonces before the graph is known."""
        return self.sparse and self.certified

    @property
    def threshold(self) -> int:
        """τ: how many holders' shares rebuild a secret."""
        if self.sparse:
            return self.terms.share_threshold
        return share_threshold_of(len(self.members), self.terms.colluders, Trust(self.terms.trust))

    @property
    def quorum(self) -> int:
        """q: how many witnesses certify a round; 0 under semi-honest trust."""
        return quorum_of(self.terms, len(self.witnesses))

    def covers(self, round_number: int) -> bool:
        """Whether the window has keys for this round."""
        return self.first_round <= round_number < self.first_round + self.rounds

    @cached_property
    def _neighbours(self) -> dict[int, tuple[int, ...]]:
        """Of those that were asked for."""
        return {}

    def neighbours(self, index: int) -> tuple[int, ...]:
        """Whom a member shares masks with and deals shares to, ascending."""
        found = self._neighbours.get(index)
        if found is None:
            found = self.graph.neighbours(index) if self.graph else tuple(m for m in self.members if m != index)
            self._neighbours[index] = found
        return found

    def has(self, index: int) -> bool:
        """Whether a tenant is a member."""
        place = bisect_left(self.members, index)
        return place < len(self.members) and self.members[place] == index

    def digest_of(self, index: int) -> bytes:
        """The digest of a member's advertisement."""
        return self.digests[bisect_left(self.members, index)]

    def told(self, advertisements: Mapping[int, Sealed[Advertise]], graph: NeighbourGraph | None) -> WindowSetUp:
        """The same set-up with other advertisements at hand, or its graph. H(set-up), of all members' digests, stays as it is."""
        other = replace(self, advertisements=advertisements, graph=graph)
        other.__dict__["digest"] = self.digest
        return other

    def round_key(self, index: int, round_number: int) -> bytes:
        """pk_t of a member whose table is at hand."""
        return self._entry(index, round_number - self.first_round)

    def commitment(self, index: int, round_number: int) -> bytes:
        """H(b_t) of a member whose table is at hand."""
        return self._entry(index, self.rounds + round_number - self.first_round)

    def window_key(self, index: int) -> bytes:
        """The key that verifies a member's messages within the window."""
        return self.advertisements[index].content.window_key

    def _entry(self, index: int, place: int) -> bytes:
        return self.advertisements[index].attachment[place * KEY_BYTES : (place + 1) * KEY_BYTES]


def quorum_of(terms: SessionTerms, witnesses: int) -> int:
    """q for a window with so many witnesses; 0 under semi-honest trust."""
    if terms.trust != Trust.MALICIOUS_SERVER:
        return 0
    return terms.certificate_quorum or certificate_quorum_of(witnesses, terms.colluders)


def witnesses_of(terms: SessionTerms, roster: Roster, members: Sequence[int], excused: bytes) -> tuple[int, ...]:
    """Who certifies in a window: everybody on the complete graph, else those whom the roster names and nobody excused."""
    if terms.trust != Trust.MALICIOUS_SERVER:
        return ()
    if not terms.neighbours:
        return tuple(sorted(members))
    present = frozenset(members) - from_bitmap(excused, roster.n)
    return tuple(index for index in roster.witnesses if index in present)


def gives_nonce(opening: OpenWindow, terms: SessionTerms, roster: Roster, index: int) -> bool:
    """Whether a tenant has a part in the seed of this window's graph."""
    return terms.neighbours > 0 and index in witnesses_of(terms, roster, (index,), opening.excused)


def check_advertisement(
    sealed: Sealed[Advertise], opening: Sealed[OpenWindow], terms: SessionTerms, roster: Roster, index: int
) -> None:
    """Check one member's advertisement: its long-term signature and its window.

    Raises:
        PeerFault: names the tenant.
    """
    tenant = roster.tenants[index]
    sealed.require_signature(tenant.identity_key, tenant.name)
    content = sealed.content
    if content.session != terms.session or content.window != opening.digest:
        raise OutOfTurn(tenant.name, "advertised keys for another window")
    if gives_nonce(opening.content, terms, roster, index) == (content.nonce_commitment == NO_NONCE):
        raise MalformedMessage(tenant.name, "advertised a nonce where none is due, or none where one is")


def check_round_keys(sealed: Sealed[Advertise], terms: SessionTerms, name: str) -> None:
    """Check the table of round keys attached to an advertisement, and its channel key.

    The server and every neighbour run the same check: what one lets pass can stop none of the others.

    Raises:
        PeerFault: names the tenant.
    """
    size = terms.window_rounds * KEY_BYTES
    if len(sealed.attachment) != 2 * size:
        raise MalformedMessage(name, f"advertised tables that do not hold {terms.window_rounds} rounds")
    keys = sealed.content.channel_key + sealed.attachment[:size]
    if any(is_of_small_order(keys[k : k + KEY_BYTES]) for k in range(0, len(keys), KEY_BYTES)):
        raise PeerFault(
            name,
            "advertised a key of small order",
            proves="its key generation is broken or it wants its masks known",
        )


def read_setup(message: Sealed[SetUp], opening: Sealed[OpenWindow], terms: SessionTerms, roster: Roster) -> WindowSetUp:
    """Check a set-up as a member does: that there are enough members, and the witnesses' advertisements against the roster.

    Raises:
        PeerFault: names the server, or the tenant whose advertisement is wrong.
    """
    content = message.content
    members = _read_members(content.members, roster)
    if content.window != opening.digest:
        raise OutOfTurn(SERVER, "sent the set-up of another window")
    if len(message.attachment) != DIGEST_BYTES * len(members):
        raise MalformedMessage(SERVER, f"sent a set-up whose digests do not belong to {len(members)} members")
    if len(members) < terms.minimum_survivors:
        raise PeerFault(
            SERVER,
            f"opens a window of {len(members)} tenants, the terms say {terms.minimum_survivors} or more",
        )
    table = message.attachment
    witnesses = witnesses_of(terms, roster, members, opening.content.excused)
    digests = tuple(table[k : k + DIGEST_BYTES] for k in range(0, len(table), DIGEST_BYTES))
    setup = WindowSetUp(opening, terms, roster.n, members, witnesses, digests, {})
    if terms.trust == Trust.MALICIOUS_SERVER and setup.quorum > len(witnesses):
        raise PeerFault(SERVER, f"opens a window of {len(witnesses)} witnesses, a quorum has {setup.quorum}")
    return _with_advertisements(setup, witnesses, content.advertisements, roster)


def _read_members(bitmap: bytes, roster: Roster) -> tuple[int, ...]:
    try:
        return tuple(sorted(from_bitmap(bitmap, roster.n)))
    except ValueError as error:
        raise MalformedMessage(SERVER, str(error)) from None


def _with_advertisements(
    setup: WindowSetUp, members: Sequence[int], quoted: Sequence[Quoted], roster: Roster
) -> WindowSetUp:
    """The set-up with more advertisements at hand, without tables; each must be the one that the set-up's digests bind."""
    if len(members) != len(quoted):
        raise MalformedMessage(SERVER, f"sent {len(quoted)} advertisements for {len(members)} members")
    found = dict(setup.advertisements)
    for index, each in zip(members, quoted, strict=True):
        sealed = unquote(each, Advertise, SERVER)
        check_advertisement(sealed, setup.opening, setup.terms, roster, index)
        if sealed.digest != setup.digest_of(index):
            raise MalformedMessage(SERVER, "sent an advertisement that its set-up does not bind")
        found[index] = sealed
    keys = [sealed.content.window_key for sealed in found.values()]
    if len(set(keys)) != len(keys):
        raise PeerFault(SERVER, "sent a set-up in which two tenants have the same window key")
    return setup.told(found, setup.graph)


def read_neighbours(message: Sealed[Neighbours], setup: WindowSetUp, own: int, roster: Roster) -> WindowSetUp:
    """Check the graph's draw and the neighbours' keys as a member does, and take them into the set-up.

    Raises:
        PeerFault: names the server, or the tenant whose advertisement or nonce is wrong.
    """
    content = message.content
    if content.setup != setup.digest:
        raise OutOfTurn(SERVER, "sent the neighbours of another set-up")
    drawn = setup.told(setup.advertisements, draw_graph(setup, content.nonces))
    quoted = _read_members(content.quoted, roster)
    known = frozenset(setup.advertisements)
    if not all(setup.has(index) and index not in known for index in quoted):
        raise MalformedMessage(SERVER, "quoted advertisements that nobody lacks")
    neighbours = drawn.neighbours(own)
    if not frozenset(neighbours) <= known | frozenset(quoted):
        raise MalformedMessage(SERVER, "did not send the advertisement of every neighbour")
    full = _with_advertisements(drawn, quoted, content.advertisements, roster)
    size = 2 * setup.rounds * KEY_BYTES
    if len(message.attachment) != size * len(neighbours):
        raise MalformedMessage(SERVER, f"sent round keys that do not belong to {len(neighbours)} neighbours")
    found = dict(full.advertisements)
    for place, index in enumerate(neighbours):
        table = message.attachment[place * size : (place + 1) * size]
        found[index] = table_at_hand(found[index], table, setup.terms, roster.tenants[index].name)
    return full.told(found, full.graph)


def table_at_hand(sealed: Sealed[Advertise], table: bytes, terms: SessionTerms, name: str) -> Sealed[Advertise]:
    """An advertisement with its table of round keys.

    Raises:
        PeerFault: the table is not the one that its tenant signed (names the server), or holds no such keys (names the tenant).
    """
    if hashlib.sha256(table).digest() != sealed.attachment_digest:
        raise MalformedMessage(SERVER, "sent round keys that their tenant did not sign")
    whole = replace(sealed, attached=table)
    check_round_keys(whole, terms, name)
    return whole


def draw_graph(setup: WindowSetUp, nonces: Sequence[bytes]) -> NeighbourGraph | None:
    """The graph of a window from the nonces of its witnesses, in roster order; None on the complete graph.

    Raises:
        PeerFault: a nonce is missing, or is not the one that its witness committed to; names the server.
    """
    expected = len(setup.witnesses) if setup.draws_graph else 0
    if len(nonces) != expected:
        raise MalformedMessage(SERVER, f"sent {len(nonces)} nonces, the window has {expected} witnesses that give one")
    for index, nonce in zip(setup.witnesses, nonces, strict=False):
        if nonce_commitment(nonce) != setup.advertisements[index].content.nonce_commitment:
            raise PeerFault(
                SERVER,
                "sent a nonce that its witness did not commit to",
                proves="the server tried to choose who shares masks with whom",
            )
    if not setup.sparse:
        return None
    # Whoever trusts the server to follow the protocol can take H(set-up), which holds fresh keys of every member, for random.
    seed = graph_seed(setup.digest, nonces or (setup.digest,))
    return NeighbourGraph.seeded(setup.members, setup.terms.neighbours, seed)


def setup_of(
    opening: Sealed[OpenWindow],
    terms: SessionTerms,
    roster: Roster,
    advertisements: Mapping[int, Sealed[Advertise]],
) -> WindowSetUp:
    """The window of all its members' advertisements, checked before; its graph is not drawn yet."""
    members = tuple(sorted(advertisements))
    return WindowSetUp(
        opening=opening,
        terms=terms,
        n=roster.n,
        members=members,
        witnesses=witnesses_of(terms, roster, members, opening.content.excused),
        digests=tuple(advertisements[index].digest for index in members),
        advertisements=dict(advertisements),
    )
