"""A transcript's entries read in order: every signature, every link of the chain of rounds, every opening, every running total.

What the fit makes of the sums is replayed elsewhere (`fed_em_server.audit`); this says that they are the sums.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar, cast

import numpy as np

from fed_em.broadcast import Broadcast
from fed_em.errors import FedEmError
from fed_em_protocols.certification import (
    outcome_digest,
    require_admissible,
    require_certified,
    require_uploads,
    statement_of,
    survivors_root,
)
from fed_em_protocols.coordinator_state import NO_DIGEST, RESTARTED, SumNotOpened, SumOpened
from fed_em_protocols.description import SessionDescription, counts_encoding_of, encoding_of, require_gateable
from fed_em_protocols.encoding import Encoding
from fed_em_protocols.envelope import Sealed, unquote
from fed_em_protocols.errors import SERVER, PeerFault
from fed_em_protocols.hashing import digest
from fed_em_protocols.masks import MASK_KEY_BYTES, RingVector
from fed_em_protocols.members import from_bitmap
from fed_em_protocols.messages import (
    Advertise,
    Certificate,
    Close,
    CloseReason,
    Header,
    Join,
    Mode,
    Opening,
    OpenWindow,
    Outcome,
    Payload,
    Refusal,
)
from fed_em_protocols.ring import RINGS, Ring, ring_of
from fed_em_protocols.roster import Roster
from fed_em_protocols.round_keys import commitment
from fed_em_protocols.round_sum import unmasked
from fed_em_protocols.running_total import RunningTotal, restarted_total
from fed_em_protocols.terms import SessionTerms, Trust, guarded_units, validate_terms
from fed_em_protocols.transcript.entries import (
    Closed,
    Entry,
    ErrorsDone,
    FitEntry,
    FittedTogether,
    IterationDone,
    Joined,
    ModelPicked,
    Opened,
    Refused,
    RoundCertified,
    RoundStarted,
    RoundSummed,
    RoundUploads,
    ServerRestarted,
    Signed,
    StartDone,
    SumFailed,
    SurvivorOpened,
    WindowOpened,
)
from fed_em_protocols.transcript.faults import ENTRIES, UPLOADS, Place, TranscriptFault
from fed_em_protocols.transcript.reading import KeptUploads
from fed_em_protocols.window import WindowSetUp, check_advertisement, draw_graph, setup_of, table_at_hand

P = TypeVar("P", bound=Payload)


@dataclass(frozen=True)
class Attempt:
    """One attempt at a sum.

    Attributes:
        entry: The entry that it began with.
        header: Its header with the parameters; None if no round began.
        outcome: As the server had it.
        bases: Of an opened sum, by roster index: the round that the tenant's term in it was computed in; 0: none.
    """

    entry: int
    header: Sealed[Header] | None
    outcome: SumOpened | SumNotOpened
    bases: tuple[int, ...] = ()

    @cached_property
    def broadcast(self) -> Broadcast:
        """What the round asked for."""
        assert self.header is not None
        return Broadcast.from_bytes(self.header.attachment, f"the broadcast of round {self.header.content.round}")


@dataclass(frozen=True)
class FitStep:
    """What the fit noted.

    Attributes:
        entry: Which entry it is.
        attempts: How many attempts at sums came before.
        done: The entry.
    """

    entry: int
    attempts: int
    done: FitEntry


@dataclass(frozen=True)
class Tally:
    """How much was verified.

    Attributes:
        signatures: Of parties, each over a message that stands in the transcript.
        rounds, opened: Rounds begun, and sums opened.
        unmasked: Sums that were unmasked again from uploads that were kept.
        false_keys: Tenants that signed pair keys which shares disproved, by round.
        restarts: How often the server went on in another process.
    """

    signatures: int = 0
    rounds: int = 0
    opened: int = 0
    unmasked: int = 0
    false_keys: tuple[tuple[int, str], ...] = ()
    restarts: int = 0


@dataclass(frozen=True)
class WalkedSession:
    """A session, of which everything that is signed was verified.

    Attributes:
        roster: Whose.
        opened: The first entry.
        terms: The signed terms.
        description: What it is about.
        attempts: At sums, in order.
        fit: What the fit noted, in order.
        headers, certificates, uploads, openings: By round; uploads and openings then by roster index. An opening of a tenant that
            fell silent is None.
        refusals: Who left, and with what code.
        policies: By roster index: the commitments to policies that a tenant's joins and window keys were signed with.
        closed: The last message, with the final parameters; None if the transcript ends before.
        entry_of: Where entries of these kinds stand: "uploads", "certificate" and "sum" by round, "closed" by 0.
        tally: How much was verified.
    """

    roster: Roster
    opened: Opened
    terms: Sealed[SessionTerms]
    description: SessionDescription
    attempts: tuple[Attempt, ...]
    fit: tuple[FitStep, ...]
    headers: Mapping[int, Sealed[Header]] = field(repr=False)
    certificates: Mapping[int, Sealed[Certificate]] = field(repr=False)
    uploads: Mapping[int, Mapping[int, bytes]] = field(repr=False)
    openings: Mapping[int, Mapping[int, Sealed[Opening] | None]] = field(repr=False)
    refusals: tuple[tuple[str, int], ...]
    policies: Mapping[int, frozenset[bytes]] = field(repr=False)
    closed: Sealed[Close] | None
    entry_of: Mapping[tuple[str, int], int] = field(repr=False)
    tally: Tally

    @property
    def closed_entry(self) -> int:
        """Which entry the close is."""
        return self.entry_of["closed", 0]


def encoding_asked(description: SessionDescription, mode: Mode, broadcast: Broadcast, roster: Roster) -> Encoding:
    """The encoding of a round, by rule."""
    if mode is Mode.COUNTS:
        return counts_encoding_of(broadcast.model, roster.row_caps, description.privacy)
    return encoding_of(description, broadcast, roster.row_caps)


def walked(entries: Sequence[Entry], roster: Roster, uploads: KeptUploads | None = None) -> WalkedSession:
    """Verify everything in a transcript but what the fit made of its sums.

    Args:
        entries: All of them.
        roster: As it was pinned.
        uploads: Those that were kept: with them sums are unmasked again.

    Raises:
        TranscriptFault: names the entry, the field and the party.
    """
    if not isinstance(entries[0], Opened):
        raise TranscriptFault("a transcript begins with the terms", Place(line=0, field="kind"))
    walk = _Walk(entries[0], roster, uploads)
    for number, entry in enumerate(entries):
        walk.take(number, entry)
    return walk.session()


class _Walk:
    """Where a reader stands."""

    def __init__(self, opened: Opened, roster: Roster, kept: KeptUploads | None) -> None:
        self._opened, self._roster, self._kept = opened, roster, kept
        self._number = 0
        self._tally = Tally()
        self._setups: dict[bytes, WindowSetUp] = {}
        self._header: Sealed[Header] | None = None  # of the round in progress
        self._begun = 0
        self._survivors: frozenset[int] | None = None
        self._total: RunningTotal | None = None
        self._sum, self._outcome = NO_DIGEST, Outcome.NONE
        self._attempts: list[Attempt] = []
        self._fit: list[FitStep] = []
        self._headers: dict[int, Sealed[Header]] = {}
        self._certificates: dict[int, Sealed[Certificate]] = {}
        self._uploads: dict[int, dict[int, bytes]] = {}
        self._openings: dict[int, dict[int, Sealed[Opening] | None]] = {}
        self._joins: set[Joined] = set()
        self._refusals: list[tuple[str, int]] = []
        self._policies: dict[int, set[bytes]] = {}
        self._closed: Sealed[Close] | None = None
        self._entry_of: dict[tuple[str, int], int] = {}
        self._start_entry = 0
        self._terms: Sealed[SessionTerms]
        self._description: SessionDescription

    def session(self) -> WalkedSession:
        """All of it."""
        return WalkedSession(
            self._roster, self._opened, self._terms, self._description, tuple(self._attempts), tuple(self._fit),
            self._headers, self._certificates, self._uploads, self._openings, tuple(self._refusals),
            {index: frozenset(found) for index, found in self._policies.items()}, self._closed, self._entry_of, self._tally,
        )  # fmt: skip

    def take(self, number: int, entry: Entry) -> None:
        """The next entry."""
        self._number = number
        if self._closed is not None:
            raise self._wrong("it stands behind the close", "kind")
        handler = cast(Callable[[_Walk, Entry], None], _HANDLERS[type(entry)])
        try:
            handler(self, entry)
        except TranscriptFault:
            raise
        except PeerFault as fault:
            raise TranscriptFault(fault.fault, Place(ENTRIES, number, "", fault.peer), fault.proves) from None
        except (FedEmError, ValueError, KeyError) as error:
            raise self._wrong(f"it does not fit: {error}") from None

    def _wrong(self, what: str, name: str = "", party: str = SERVER, proves: str = "") -> TranscriptFault:
        return TranscriptFault(what, Place(ENTRIES, self._number, name, party), proves)

    def _require(self, holds: bool, what: str, name: str, party: str = SERVER) -> None:
        if not holds:
            raise self._wrong(what, name, party)

    def _signed(
        self, signed: Signed, kind: type[P], key: bytes, party: str, name: str, attached: bytes | None = None
    ) -> Sealed[P]:
        """A message, verified."""
        if attached is not None:
            same = hashlib.sha256(attached).digest() == signed.attachment
            self._require(same, "what was attached is not what was signed", name, party)
        try:
            sealed = unquote(signed.quoted, kind, party)
            sealed.require_signature(key, party)
        except PeerFault as fault:
            raise self._wrong(fault.fault, name, party) from None
        session = getattr(sealed.content, "session", None)
        if kind is not SessionTerms:
            self._require(session == self._terms.content.session, "it is of another session", name, party)
        self._tally = replace(self._tally, signatures=self._tally.signatures + 1)
        return sealed if attached is None else replace(sealed, attached=attached)

    def _by_server(self, signed: Signed, kind: type[P], name: str, attached: bytes | None = None) -> Sealed[P]:
        return self._signed(signed, kind, self._roster.server.identity_key, SERVER, name, attached)

    def _tenant(self, index: int) -> str:
        self._require(index < self._roster.n, f"the roster has no tenant {index}", "tenant")
        return self._roster.tenants[index].name

    def _members(self, bitmap: bytes) -> frozenset[int]:
        return from_bitmap(bitmap, self._roster.n)

    def on_opened(self, entry: Opened) -> None:
        self._require(self._number == 0, "a session begins once", "kind")
        self._require(entry.roster == self._roster.digest, "it is of another roster than the pinned one", "roster")
        self._terms = self._by_server(entry.terms, SessionTerms, "terms", entry.description)
        terms = self._terms.content
        self._require(terms.roster == self._roster.digest, "the terms are of another roster", "terms")
        same = terms.schema == hashlib.sha256(entry.description).digest()
        self._require(same, "the terms name another description", "description")
        validate_terms(terms, self._roster)
        self._description = SessionDescription.from_json(entry.description)
        require_gateable(self._description, terms.mass_floor / 1000)

    def on_joined(self, entry: Joined) -> None:
        name = self._tenant(entry.tenant)
        self._require(entry not in self._joins, "it stands there already", "message", name)
        self._joins.add(entry)
        joined = self._signed(entry.message, Join, self._roster.tenants[entry.tenant].identity_key, name, "message")
        self._require(joined.content.terms == self._terms.digest, "it accepted other terms", "message", name)
        self._policies.setdefault(entry.tenant, set()).add(joined.content.policy)

    def on_refused(self, entry: Refused) -> None:
        name = self._tenant(entry.tenant)
        left = self._signed(entry.message, Refusal, self._roster.tenants[entry.tenant].identity_key, name, "message")
        self._refusals.append((name, left.content.code))

    def on_window(self, entry: WindowOpened) -> None:
        opening, terms = self._by_server(entry.opening, OpenWindow, "opening"), self._terms.content
        self._require(opening.content.terms == self._terms.digest, "the window is of other terms", "opening")
        for shown in opening.content.last_certified[:1]:
            header = unquote(shown, Header, SERVER)
            known = self._headers.get(header.content.round)
            same = known is not None and known.quoted() == shown
            self._require(same, "it shows members another header than the transcript has", "opening")
        places = [each.tenant for each in entry.advertisements]
        self._require(places == sorted(set(places)), "members are not in roster order", "advertisements")
        found: dict[int, Sealed[Advertise]] = {}
        for each in entry.advertisements:
            name = self._tenant(each.tenant)
            key = self._roster.tenants[each.tenant].identity_key
            sealed = self._signed(each.message, Advertise, key, name, "advertisements", each.table)
            check_advertisement(sealed, opening, terms, self._roster, each.tenant)
            self._policies.setdefault(each.tenant, set()).add(sealed.content.policy)
            found[each.tenant] = table_at_hand(sealed, each.table, terms, name)
        keys = {sealed.content.window_key for sealed in found.values()}
        self._require(len(keys) == len(found), "two members have one window key", "advertisements")
        setup = setup_of(opening, terms, self._roster, found)
        self._require(setup.digest not in self._setups, "the window stands there already", "opening")
        self._setups[setup.digest] = replace(setup, graph=draw_graph(setup, entry.nonces))

    def on_round(self, entry: RoundStarted) -> None:
        self._require(self._header is None, "the round before has no end", "kind")
        header = self._by_server(entry.header, Header, "header", entry.parameters)
        content = header.content
        self._require(content.terms == self._terms.digest, "the header is of other terms", "header")
        self._require(content.round == self._begun + 1, f"round {self._begun + 1} is due", "header")
        self._require(content.round <= self._terms.content.round_cap, "the terms allow fewer rounds", "header")
        setup = self._setups.get(content.setup)
        self._require(setup is not None, "its window is not in the transcript", "header")
        assert setup is not None
        same = content.parameters == hashlib.sha256(entry.parameters).digest()
        self._require(same, "the header names other parameters", "parameters")
        self._require(setup.covers(content.round), "its window has no keys for it", "header")
        witnesses = self._members(content.witnesses)
        self._require(witnesses == frozenset(setup.witnesses), "its witnesses are not the window's", "header")
        participants = self._members(content.participants)
        enough = len(participants) >= self._terms.content.minimum_survivors
        self._require(enough and participants <= frozenset(setup.members), "its participants cannot be any", "header")
        self._continues_the_chain(header)
        self._asks_rightly(header)
        self._header, self._begun, self._survivors = header, content.round, None
        self._headers[content.round] = header
        self._start_entry = self._number
        self._tally = replace(self._tally, rounds=self._tally.rounds + 1)

    def _continues_the_chain(self, header: Sealed[Header]) -> None:
        """The header tells how the round before ended, with its certificate."""
        content, before = header.content, self._headers.get(self._begun)
        self._require(content.previous_round == self._begun, "it follows another round", "header")
        self._require(content.previous_outcome == self._outcome, "it tells another end of the round before", "header")
        self._require(content.previous_sum == self._sum, "it tells another sum of the round before", "header")
        if before is None:
            self._require(not content.previous, "it shows a certificate of no round", "header")
            return
        if not content.previous:
            certified = self._terms.content.trust == Trust.MALICIOUS_SERVER
            needless = not certified and self._begun not in self._certificates
            self._require(needless, "it shows no certificate of the round before", "header")
            return
        shown = unquote(content.previous[0], Certificate, SERVER)
        shown.require_signature(self._roster.server.identity_key, SERVER)
        require_certified(shown, before, self._setups[shown.content.setup], self._roster)
        known = self._certificates.get(self._begun)
        if known is not None:
            same = outcome_digest(statement_of(shown.content)) == outcome_digest(statement_of(known.content))
            if not same:
                raise self._wrong("two certificates of one round", "header", proves="a quorum signed two outcomes")

    def _asks_rightly(self, header: Sealed[Header]) -> None:
        """The encoding follows by rule, and an increment starts from the running total."""
        content = header.content
        self._require(content.mode in set(Mode) and content.ring in RINGS, "its mode or ring is unknown", "header")
        broadcast = Broadcast.from_bytes(header.attachment, "its broadcast")
        encoding = encoding_asked(self._description, Mode(content.mode), broadcast, self._roster)
        named = (content.encoding, content.length, content.ring)
        self._require(
            named == (encoding.digest, encoding.length, encoding.ring.bits), "its encoding is another", "header"
        )
        if content.mode != Mode.INCREMENT:
            self._require(not content.base_rounds and not content.base_contexts, "it names bases", "header")
            return
        total = self._total
        self._require(total is not None, "there is no running total to add to", "header")
        assert total is not None
        bases = (content.base_rounds, content.base_contexts, content.encoding)
        self._require(bases == (total.bases, total.contexts, total.encoding), "its bases are not the total's", "header")

    def _in_round(self, number: int) -> Sealed[Header]:
        header = self._header
        if header is None or header.content.round != number:
            raise self._wrong(f"round {number} is not in progress", "round")
        return header

    def _setup(self, header: Sealed[Header]) -> WindowSetUp:
        return self._setups[header.content.setup]

    def on_uploads(self, entry: RoundUploads) -> None:
        header = self._in_round(entry.round)
        places = [each.tenant for each in entry.uploads]
        self._require(entry.round not in self._uploads, "the uploads of a round are listed once", "kind")
        self._require(places == sorted(set(places)), "uploads are not in roster order", "uploads")
        same = entry.spends == self._description.noise_multiplier
        self._require(same, "the session's description promises other noise", "spends")
        for each in entry.uploads:
            name = self._tenant(each.tenant)
            asked = each.tenant in self._members(header.content.participants)
            self._require(asked, "it uploaded without being asked", "uploads", name)
            try:
                require_uploads(header, (each.tenant,), each.digest + each.signature, self._setup(header), self._roster)
            except PeerFault:
                raise self._wrong("its signature on its upload does not verify", "uploads", name) from None
        self._entry_of["uploads", entry.round] = self._number
        self._uploads[entry.round] = {each.tenant: each.digest + each.signature for each in entry.uploads}
        self._tally = replace(self._tally, signatures=self._tally.signatures + len(entry.uploads))

    def on_certificate(self, entry: RoundCertified) -> None:
        certificate = self._by_server(entry.certificate, Certificate, "certificate")
        content = certificate.content
        header = self._in_round(content.round)
        self._require(self._survivors is None, "a round has one certificate", "kind")
        setup, uploads = self._setup(header), self._uploads.get(content.round, {})
        require_certified(certificate, header, setup, self._roster)
        survivors = self._members(content.survivors)
        self._require(survivors <= frozenset(uploads), "it names survivors without uploads", "certificate")
        require_admissible(survivors, header.content, self._members(header.content.participants), setup, self._roster)
        evidence = b"".join(uploads[index] for index in sorted(survivors))
        self._require(content.root == survivors_root(survivors, evidence), "it is over other uploads", "certificate")
        self._survivors = survivors
        self._certificates[content.round] = certificate
        self._entry_of["certificate", content.round] = self._number
        self._tally = replace(self._tally, signatures=self._tally.signatures + len(content.signatures))

    def on_sum(self, entry: RoundSummed) -> None:
        header = self._in_round(entry.round)
        content, survivors = header.content, self._survivors
        ring = ring_of(content.ring, content.mode == Mode.COUNTS)
        if survivors is None:
            raise self._wrong("it was opened without a certificate", "kind")
        places = [each.tenant for each in entry.openings]
        self._require(places == sorted(survivors), "openings are not those of the survivors", "openings")
        openings = {each.tenant: self._opening(header, each, survivors) for each in entry.openings}
        self._openings[content.round] = openings
        self._entry_of["sum", content.round] = self._number
        fits = len(entry.vector) == ring.word_bytes * content.length
        self._require(fits, f"the sum has not {content.length} words", "vector")
        vector = ring.read(entry.vector)
        self._require(ring.is_sum(vector), "its check words are not zero: it was not unmasked rightly", "vector")
        self._unmask_again(header, entry, survivors, ring, vector)
        self._after_sum(header, survivors, vector)
        self._tally = replace(self._tally, opened=self._tally.opened + 1)

    def _opening(
        self, header: Sealed[Header], each: SurvivorOpened, survivors: frozenset[int]
    ) -> Sealed[Opening] | None:
        setup, number, name = self._setup(header), header.content.round, self._tenant(each.tenant)
        committed = commitment(each.self_seed) == setup.commitment(each.tenant, number)
        self._require(committed, "its self seed is not the one it committed to", "openings.self_seed", name)
        dropped = self._dropped(header, each.tenant, survivors)
        fits = len(each.pair_keys) == MASK_KEY_BYTES * len(dropped)
        self._require(fits, "its pair keys do not fit its dropped neighbours", "openings.pair_keys", name)
        if each.message is None:
            return None
        key = setup.window_key(each.tenant)
        sealed = self._signed(each.message, Opening, key, name, "openings.message")
        content = sealed.content
        of_round = (content.round, content.context, content.self_seed) == (number, header.digest, each.self_seed)
        self._require(of_round, "what it signed is another opening", "openings.message", name)
        if content.pair_keys != each.pair_keys:
            # The server has rebuilt the true ones from shares; only unmasking the uploads again can say so here.
            self._tally = replace(self._tally, false_keys=(*self._tally.false_keys, (number, name)))
        return sealed

    def _dropped(self, header: Sealed[Header], survivor: int, survivors: frozenset[int]) -> list[int]:
        dropped = self._members(header.content.participants) - survivors
        return [neighbour for neighbour in self._setup(header).neighbours(survivor) if neighbour in dropped]

    def _unmask_again(
        self, header: Sealed[Header], entry: RoundSummed, survivors: frozenset[int], ring: Ring, vector: RingVector
    ) -> None:
        """Where all uploads were kept: add them up, take the masks off, and compare."""
        if self._kept is None:
            return
        number = header.content.round
        kept = {index: self._kept.upload(number, index) for index in sorted(survivors)}
        summed = ring.zeros(header.content.length)
        for index, data in kept.items():
            if data is None:
                continue
            if hashlib.sha256(data).digest() != self._uploads[number][index][:32]:
                place = Place(UPLOADS, None, f"{number}-{index}", self._tenant(index))
                raise TranscriptFault("the vector that was kept is not the one that was uploaded", place)
            summed = summed + ring.read(data)
        if None in kept.values():
            return
        keys: dict[tuple[int, int], bytes] = {}
        for each in entry.openings:
            for k, dropped in enumerate(self._dropped(header, each.tenant, survivors)):
                keys[each.tenant, dropped] = each.pair_keys[k * MASK_KEY_BYTES : (k + 1) * MASK_KEY_BYTES]
        again = unmasked(summed, [each.self_seed for each in entry.openings], keys, header.digest)
        self._require(bool(np.array_equal(again, vector)), "the uploads that were kept give another sum", "vector")
        self._tally = replace(self._tally, unmasked=self._tally.unmasked + 1)

    def _after_sum(self, header: Sealed[Header], survivors: frozenset[int], vector: RingVector) -> None:
        content, n = header.content, self._roster.n
        units = guarded_units(self._roster, self._terms.content)
        if content.mode == Mode.COUNTS:
            absent = tuple(index for index in range(n) if index not in survivors)
            opened = SumOpened(content.round, vector, tuple(sorted(survivors)), (), absent)
            bases = tuple(content.round if index in survivors else 0 for index in range(n))
            after = digest("sum", vector.tobytes())
        else:
            if content.mode == Mode.WHOLE:
                total = restarted_total(header, units, survivors, vector)
            else:
                total = cast(RunningTotal, self._total).with_increment(header, units, survivors, vector)
            present = total.members(units)
            opened = SumOpened(
                content.round,
                total.vector,
                tuple(sorted(survivors)),
                tuple(sorted(present - survivors)),
                tuple(index for index in range(n) if index not in present),
            )
            of_unit = {index: base for unit, base in zip(units, total.bases, strict=True) for index in unit}
            bases = tuple(of_unit[index] for index in range(n))
            self._total, after = total, total.digest
        self._sum, self._outcome, self._header = after, Outcome.OPENED, None
        self._attempts.append(Attempt(self._start_entry, header, opened, bases))

    def on_failed(self, entry: SumFailed) -> None:
        self._require(entry.round == self._begun, f"the last round is {self._begun}", "round")
        outcome = SumNotOpened(entry.round, entry.reason, entry.final)
        begun = self._number if self._header is None else self._start_entry
        self._attempts.append(Attempt(begun, self._header, outcome))
        if self._header is not None:
            self._outcome, self._header = Outcome.NOT_OPENED, None

    def on_restarted(self, entry: ServerRestarted) -> None:
        self._require(self._opened.format > 1, "transcripts of format 1 know no restart", "kind")
        self._require(entry.round == self._begun, f"the last round is {self._begun}", "round")
        begun = self._number if self._header is None else self._start_entry
        nothing = SumNotOpened(entry.round, RESTARTED, interrupted=True)
        self._attempts.append(Attempt(begun, self._header, nothing))
        self._tally = replace(self._tally, restarts=self._tally.restarts + 1)
        if self._header is not None:
            self._outcome, self._header = Outcome.NOT_OPENED, None

    def on_fit(self, entry: FitEntry) -> None:
        self._require(self._header is None, "the fit notes nothing while a round is in progress", "kind")
        self._fit.append(FitStep(self._number, len(self._attempts), entry))

    def on_closed(self, entry: Closed) -> None:
        closed = self._by_server(entry.message, Close, "message", entry.parameters)
        self._require(closed.content.reason in set(CloseReason), "its reason is unknown", "message")
        self._require(closed.content.rounds == self._begun, "it counts other rounds", "message")
        whole = self._header is None or closed.content.reason == CloseReason.FAILED
        self._require(whole, "a round is in progress", "kind")
        self._closed = closed
        self._entry_of["closed", 0] = self._number


_HANDLERS: Mapping[type, Callable[[_Walk, Any], None]] = {
    Opened: _Walk.on_opened,
    Joined: _Walk.on_joined,
    Refused: _Walk.on_refused,
    WindowOpened: _Walk.on_window,
    RoundStarted: _Walk.on_round,
    RoundUploads: _Walk.on_uploads,
    RoundCertified: _Walk.on_certificate,
    RoundSummed: _Walk.on_sum,
    SumFailed: _Walk.on_failed,
    ServerRestarted: _Walk.on_restarted,
    StartDone: _Walk.on_fit,
    IterationDone: _Walk.on_fit,
    FittedTogether: _Walk.on_fit,
    ModelPicked: _Walk.on_fit,
    ErrorsDone: _Walk.on_fit,
    Closed: _Walk.on_closed,
}
