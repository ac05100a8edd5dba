"""The set-up of one window: public keys for all its rounds, advertised once, and what every member derives from them.

    server:  OpenWindow        tenant:  Advertise (keys of every round of the window)
    server:  SetUp (all of it) tenant:  Deposit   (shares of every secret of the window, sealed; see `deposits`)
    server:  Boxes             tenant:  Ready

H(set-up) covers every advertisement; each later message of the window carries it. Keys of a window live in memory only: a
restarted tenant is out of it and joins the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from fed_em_protocols.envelope import Sealed, unquote
from fed_em_protocols.errors import SERVER, MalformedMessage, OutOfTurn, PeerFault
from fed_em_protocols.hashing import digest
from fed_em_protocols.keys import KEY_BYTES, SigningKey, agreement_public, is_of_small_order
from fed_em_protocols.members import from_bitmap, to_bitmap
from fed_em_protocols.messages import Advertise, OpenWindow, SetUp
from fed_em_protocols.roster import Roster
from fed_em_protocols.round_keys import KeyChain, commitment
from fed_em_protocols.terms import SessionTerms, share_threshold_of

Randomness = Callable[[int], bytes]


@dataclass(frozen=True)
class WindowSecrets:
    """What one member keeps of a window, in memory only.

    Attributes:
        opening: Digest of the signed OpenWindow.
        channel_secret: X25519 secret of the sealed boxes; dropped (None) once they are open.
        signing_key: Signs this tenant's messages within the window.
        chain: Yields a_t and b_t of the rounds still to come.
    """

    opening: bytes
    channel_secret: bytes | None
    signing_key: SigningKey
    chain: KeyChain

    def __repr__(self) -> str:
        return f"WindowSecrets({self.chain!r})"

    def without_channel(self) -> WindowSecrets:
        """The same, once no box is left to open."""
        return replace(self, channel_secret=None)


def draw_window_secrets(opening: Sealed[OpenWindow], randomness: Randomness) -> WindowSecrets:
    """Fresh secrets for a window. Must be called once a window: they must never serve two advertisements."""
    return WindowSecrets(
        opening=opening.digest,
        channel_secret=randomness(KEY_BYTES),
        signing_key=SigningKey(randomness(KEY_BYTES)),
        chain=KeyChain(randomness(KEY_BYTES), opening.content.first_round),
    )


def advertisement(secrets: WindowSecrets, terms: SessionTerms, boot: bytes) -> Advertise:
    """The public side of fresh window secrets."""
    assert secrets.channel_secret is not None
    rounds = secrets.chain.secrets(terms.window_rounds)
    return Advertise(
        session=terms.session,
        window=secrets.opening,
        boot=boot,
        channel_key=agreement_public(secrets.channel_secret),
        window_key=secrets.signing_key.public,
        round_keys=b"".join(agreement_public(each.agreement) for each in rounds),
        commitments=b"".join(commitment(each.self_seed) for each in rounds),
    )


@dataclass(frozen=True)
class WindowSetUp:
    """The public state of a window, the same at every member and at the server.

    Attributes:
        opening: Digest of the signed OpenWindow.
        first_round: Its first round number; it serves `rounds` of them.
        rounds: W.
        n: Roster size.
        advertisements: Signed advertisement of every member, by roster index. Nobody else can take part.
        colluders: f of the session.
    """

    opening: bytes
    first_round: int
    rounds: int
    n: int
    advertisements: Mapping[int, Sealed[Advertise]]
    colluders: int

    @cached_property
    def members(self) -> tuple[int, ...]:
        """Roster indices of the members, ascending."""
        return tuple(sorted(self.advertisements))

    @cached_property
    def digest(self) -> bytes:
        """H(set-up)."""
        signed = [self.advertisements[index].digest for index in self.members]
        return digest("set-up", self.opening, to_bitmap(self.members, self.n), *signed)

    @property
    def threshold(self) -> int:
        """τ: how many holders' shares rebuild a secret."""
        return share_threshold_of(len(self.members), self.colluders)

    def covers(self, round_number: int) -> bool:
        """Whether the window has keys for this round."""
        return self.first_round <= round_number < self.first_round + self.rounds

    def others(self, index: int) -> tuple[int, ...]:
        """All members but one: its neighbours on the complete graph."""
        return tuple(member for member in self.members if member != index)

    def round_key(self, index: int, round_number: int) -> bytes:
        """pk_t of a member."""
        return self._per_round(self.advertisements[index].content.round_keys, round_number)

    def commitment(self, index: int, round_number: int) -> bytes:
        """H(b_t) of a member."""
        return self._per_round(self.advertisements[index].content.commitments, round_number)

    def window_key(self, index: int) -> bytes:
        """The key that verifies a member's messages within the window."""
        return self.advertisements[index].content.window_key

    def _per_round(self, table: bytes, round_number: int) -> bytes:
        start = (round_number - self.first_round) * KEY_BYTES
        return table[start : start + KEY_BYTES]


def check_advertisement(
    sealed: Sealed[Advertise], opening: Sealed[OpenWindow], terms: SessionTerms, roster: Roster, index: int
) -> None:
    """Check one member's advertisement: its long-term signature, its window, the size of its tables, and its keys.

    The server and every member run the same check: what one lets pass can stop none of the others.

    Raises:
        PeerFault: names the tenant.
    """
    tenant = roster.tenants[index]
    sealed.require_signature(tenant.identity_key, tenant.name)
    content = sealed.content
    if content.session != terms.session or content.window != opening.digest:
        raise OutOfTurn(tenant.name, "advertised keys for another window")
    table = terms.window_rounds * KEY_BYTES
    if len(content.round_keys) != table or len(content.commitments) != table:
        raise MalformedMessage(tenant.name, f"advertised tables that do not hold {terms.window_rounds} rounds")
    tables = content.channel_key + content.round_keys
    if any(is_of_small_order(tables[k : k + KEY_BYTES]) for k in range(0, len(tables), KEY_BYTES)):
        raise PeerFault(
            tenant.name,
            "advertised a key of small order",
            proves="its key generation is broken or it wants its masks known",
        )


def read_setup(message: Sealed[SetUp], opening: Sealed[OpenWindow], terms: SessionTerms, roster: Roster) -> WindowSetUp:
    """Check a whole set-up as a member does: every advertisement against the roster, and that there are enough.

    Raises:
        PeerFault: names the server, or the tenant whose advertisement is wrong.
    """
    content = message.content
    try:
        members = sorted(from_bitmap(content.members, roster.n))
    except ValueError as error:
        raise MalformedMessage(SERVER, str(error)) from None
    if content.window != opening.digest:
        raise OutOfTurn(SERVER, "sent the set-up of another window")
    if len(members) != len(content.advertisements):
        raise MalformedMessage(SERVER, f"sent {len(content.advertisements)} advertisements for {len(members)} members")
    if len(members) < terms.minimum_survivors:
        raise PeerFault(
            SERVER,
            f"opens a window of {len(members)} tenants, the terms say {terms.minimum_survivors} or more",
        )
    advertisements: dict[int, Sealed[Advertise]] = {}
    for index, quoted in zip(members, content.advertisements, strict=True):
        sealed = unquote(quoted, Advertise, SERVER)
        check_advertisement(sealed, opening, terms, roster, index)
        advertisements[index] = sealed
    setup = setup_of(opening, terms, roster, advertisements)
    keys = [sealed.content.window_key for sealed in advertisements.values()]
    if len(set(keys)) != len(keys):
        raise PeerFault(SERVER, "sent a set-up in which two tenants have the same window key")
    return setup


def setup_of(
    opening: Sealed[OpenWindow],
    terms: SessionTerms,
    roster: Roster,
    advertisements: Mapping[int, Sealed[Advertise]],
) -> WindowSetUp:
    """The window of advertisements that were checked."""
    return WindowSetUp(
        opening=opening.digest,
        first_round=opening.content.first_round,
        rounds=terms.window_rounds,
        n=roster.n,
        advertisements=dict(advertisements),
        colluders=terms.colluders,
    )
