"""A server of the test's own making, up to its windows: it signs whatever it likes and shows it to real tenants."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, cast

import pytest

from fed_em.errors import FedEmError
from fed_em_protocols.deposits import split_boxes
from fed_em_protocols.envelope import Sealed, seal, unseal
from fed_em_protocols.keys import SigningKey
from fed_em_protocols.members import to_bitmap
from fed_em_protocols.messages import Advertise, Boxes, Deposit, Neighbours, OpenWindow, Payload, Quoted, SetUp
from fed_em_protocols.policy import TermsPolicy
from fed_em_protocols.tenant import tenant_join, tenant_receive, tenant_start
from fed_em_protocols.tenant_state import TenantSelf, TenantState, TenantStep
from fed_em_protocols.window import WindowSecrets, WindowSetUp, draw_graph, setup_of
from fed_em_simulations.simulated_parties import seeded_randomness
from tests.protocols.federation import DESCRIPTION, MemoryMarks, identity_of, roster_of, terms_of

# Takes whatever is on offer: what a policy demands is tested by itself.
POLICY = TermsPolicy(allow_semi_honest=True, colluders=0, difference_guard=False, graph_bits=0)

# Terms of a small sparse graph for more than 64 tenants: six neighbours each, two of them on each side in every sum; six witnesses,
# of whom five certify. It protects against nobody.
SPARSE: dict[str, Any] = {
    "named_witnesses": 6, "colluders": 1, "minimum_survivors": 7, "neighbours": 6, "share_threshold": 3, "side_honest": 2,
    "witnesses": 6, "certificate_quorum": 5, "window_rounds": 1,
}  # fmt: skip


class WindowDrill:
    """n tenants that have joined, and the server's key.

    Args:
        n: Tenants; tenant i is in block i mod `blocks` if the terms say `blocks`.
        named_witnesses: How many the roster names; a sparse graph (n > 64) needs some.
        terms: Changes to the admissible terms, which are those of malicious-server trust on the complete graph without blocks.

    Attributes:
        setup: The set-up that messages are made for: that of the last window, or what a test puts here.
        secrets: What tenants drew for each window, by its number: the test knows everybody's keys.
    """

    def __init__(self, n: int, seed: int = 0, named_witnesses: int | None = None, **terms: int | bytes) -> None:
        self.roster = roster_of(n, blocks=int(terms.get("blocks", 0)) or 1, witnesses=named_witnesses)
        self.key = identity_of("server")
        self.terms = seal(terms_of(self.roster, **terms), self.key, DESCRIPTION)
        self.session = self.terms.content.session
        self.randomness = [seeded_randomness(100 * seed + i) for i in range(n)]
        self.marks = [MemoryMarks() for _ in range(n)]
        self.states = [self.newborn(i) for i in range(n)]
        self.setup: WindowSetUp | None = None
        self.opening: Sealed[OpenWindow] | None = None
        self.secrets: dict[int, dict[int, WindowSecrets]] = {}
        self.advertisements: dict[int, Sealed[Advertise]] = {}
        self.nonces: dict[int, bytes] = {}
        self.deposits: dict[int, Sealed[Deposit]] = {}
        self._signing: dict[bytes, dict[int, SigningKey]] = {}
        for i in range(n):
            self.join(i)

    def newborn(self, index: int) -> TenantState:
        """A tenant whose process has just started."""
        me = TenantSelf(self.roster, index, identity_of(f"t{index}"), POLICY, "drill")
        return tenant_start(me, self.randomness[index])

    def join(self, index: int) -> None:
        """Offer the terms; the tenant accepts."""
        self.deliver(index, self.terms.to_bytes())
        self.states[index] = tenant_join(self.states[index]).state

    def restart(self, index: int) -> None:
        """A new process of this tenant, on the same disk, joins."""
        self.states[index] = self.newborn(index)
        self.join(index)

    @property
    def fixed(self) -> WindowSetUp:
        """The set-up in use."""
        assert self.setup is not None
        return self.setup

    def bitmap(self, members: Iterable[int]) -> bytes:
        """A set of tenants as it travels."""
        return to_bitmap(members, self.roster.n)

    def signing_key(self, index: int, setup: bytes) -> SigningKey:
        """A tenant's key of a window, by the digest of its set-up."""
        return self._signing[setup][index]

    # --- messages ---

    def sealed(self, content: Payload, attachment: bytes = b"") -> Sealed[Any]:
        """Sign as the server."""
        return seal(content, self.key, attachment)

    def deliver(self, index: int, data: bytes) -> TenantStep:
        """Give a tenant a message, and keep its new state."""
        step = tenant_receive(self.states[index], data, self.randomness[index], self.marks[index])
        self.states[index] = step.state
        return step

    def tell(self, index: int, message: Sealed[Any]) -> Sealed[Any] | None:
        """The same; gives the tenant's answer, parsed."""
        return self.answer_in(self.deliver(index, message.to_bytes()))

    def told(self, index: int, message: Sealed[Any]) -> Any:
        """The same; gives what the tenant's answer says: there must be one."""
        answer = self.tell(index, message)
        assert answer is not None
        return answer.content

    def answer_in(self, step: TenantStep) -> Sealed[Any] | None:
        """The one message that a step sends, if any."""
        assert len(step.sends) <= 1
        return unseal(step.sends[0], "tenant") if step.sends else None

    def refused(self, index: int, message: Sealed[Any], error: type[FedEmError], text: str) -> FedEmError:
        """The tenant must refuse, naming a reason, and be left as it was, on its disk too."""
        before, disk = self.states[index], self._on_disk(index)
        with pytest.raises(error, match=text) as caught:
            self.deliver(index, message.to_bytes())
        assert self.states[index] is before
        assert self._on_disk(index) == disk
        return caught.value

    def _on_disk(self, index: int) -> tuple[int, tuple[int, bytes]]:
        marks = self.marks[index]
        return marks.highest(self.session), marks.endorsed(self.session)

    # --- the set-up of a window ---

    def open_window(self, number: int = 1, first_round: int = 1, excused: Iterable[int] = ()) -> Sealed[OpenWindow]:
        """A signed OpenWindow."""
        content = OpenWindow(
            self.session, self.terms.digest, number, first_round, self.bitmap(excused), self.last_certified()
        )
        return self.sealed(content)

    def last_certified(self) -> tuple[Quoted, ...]:
        """What an opening shows of the rounds before."""
        return ()

    def advertise(
        self, members: Iterable[int], number: int = 1, first_round: int = 1, excused: Iterable[int] = ()
    ) -> None:
        """Open a window and collect the advertisements."""
        self.opening = self.open_window(number, first_round, excused)
        answers = {i: self.tell(i, self.opening) for i in members}
        self.advertisements = cast("dict[int, Sealed[Advertise]]", answers)
        self.secrets[number] = {i: self._upcoming_secrets(i) for i in answers}

    def _upcoming_secrets(self, index: int) -> WindowSecrets:
        upcoming = self.states[index].upcoming
        assert upcoming is not None
        return upcoming.secrets

    def setup_of_all(self) -> WindowSetUp:
        """The set-up of the advertisements collected, as the server knows it; its graph is not drawn."""
        assert self.opening is not None
        return setup_of(self.opening, self.terms.content, self.roster, self.advertisements)

    def setup_message(self) -> Sealed[SetUp]:
        """The SetUp of the advertisements collected."""
        setup = self.setup_of_all()
        quoted = tuple(self.advertisements[i].quoted() for i in setup.witnesses)
        content = SetUp(self.session, setup.opening.digest, self.bitmap(setup.members), quoted)
        return self.sealed(content, b"".join(setup.digests))

    def fix(self) -> None:
        """Show the set-up to its members; the witnesses of a sparse graph reveal their nonces."""
        message, self.setup = self.setup_message(), self.setup_of_all()
        assert self.opening is not None
        drawn = self.secrets[self.opening.content.number]
        self._signing[self.setup.digest] = {i: secrets.signing_key for i, secrets in drawn.items()}
        answers = {i: self.tell(i, message) for i in self.setup.members}
        self.nonces = {i: answer.content.nonce for i, answer in answers.items() if answer is not None}
        self.setup = replace(self.setup, graph=draw_graph(self.setup, tuple(self.nonces.values())))

    def neighbours_message(self, index: int) -> Sealed[Neighbours]:
        """The nonces, and whatever advertisements and round keys a member lacks."""
        setup = self.fixed
        near, known = setup.neighbours(index), frozenset(setup.witnesses)
        quoted = sorted(frozenset(setup.members if index in known else near) - known)
        content = Neighbours(
            self.session,
            setup.digest,
            tuple(self.nonces.values()),
            self.bitmap(quoted),
            tuple(self.advertisements[i].quoted() for i in quoted),
        )
        return self.sealed(content, b"".join(self.advertisements[i].attachment for i in near))

    def deposit(self) -> None:
        """Fix the set-up and collect its members' deposits."""
        self.fix()
        self.deposits = cast(
            "dict[int, Sealed[Deposit]]", {i: self.tell(i, self.neighbours_message(i)) for i in self.fixed.members}
        )

    def boxes_message(self, holder: int) -> Sealed[Boxes]:
        """Its neighbours' shares for one holder."""
        setup = self.fixed
        dealers = setup.neighbours(holder)
        boxes = [split_boxes(self.deposits[i], setup, i, "dealer")[holder] for i in dealers]
        content = Boxes(
            self.session, setup.digest, self.bitmap(dealers), tuple(self.deposits[i].quoted() for i in dealers)
        )
        return self.sealed(content, b"".join(boxes))

    def set_up(
        self, members: Iterable[int], number: int = 1, first_round: int = 1, excused: Iterable[int] = ()
    ) -> None:
        """A whole window, from opening to ready."""
        self.advertise(members, number, first_round, excused)
        self.deposit()
        for i in self.fixed.members:
            self.tell(i, self.boxes_message(i))
