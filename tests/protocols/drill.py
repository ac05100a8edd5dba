"""A server of the test's own making: it signs whatever it likes and shows it to real tenants, one call at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest

from fed_em.errors import FedEmError
from fed_em_protocols.deposits import split_boxes
from fed_em_protocols.envelope import Sealed, seal, unseal
from fed_em_protocols.masks import RingVector
from fed_em_protocols.members import to_bitmap
from fed_em_protocols.messages import (
    Advertise,
    Boxes,
    Certificate,
    Deposit,
    Header,
    Mode,
    OpenWindow,
    Payload,
    Recover,
    SetUp,
)
from fed_em_protocols.policy import TermsPolicy
from fed_em_protocols.tenant import (
    TenantSelf,
    TenantState,
    TenantStep,
    tenant_join,
    tenant_receive,
    tenant_start,
    tenant_upload,
)
from fed_em_protocols.window import WindowSetUp, read_setup
from tests.protocols.federation import DESCRIPTION, MemoryMarks, identity_of, roster_of, seeded_randomness, terms_of

NOTHING = bytes(32)


class Drill:
    """n tenants and the server's key.

    Args:
        n: Tenants; they have joined when this returns.
        window: Set a window up with all of them at once.
        terms: Changes to the admissible terms.
    """

    def __init__(self, n: int = 4, window: bool = True, length: int = 4, seed: int = 0, **terms: int | bytes) -> None:
        self.roster = roster_of(n)
        self.key = identity_of("server")
        self.length = length
        self.terms = seal(terms_of(self.roster, **terms), self.key, DESCRIPTION)
        self.session = self.terms.content.session
        self.randomness = [seeded_randomness(100 * seed + i) for i in range(n)]
        self.marks = [MemoryMarks() for _ in range(n)]
        self.states = [self.newborn(i) for i in range(n)]
        self.setup: WindowSetUp | None = None
        # Digest of the first certificate of each round, as the next header tells it.
        self.certified: dict[int, bytes] = {}
        self.opening: Sealed[OpenWindow] | None = None
        self.advertisements: dict[int, Sealed[Advertise]] = {}
        self.deposits: dict[int, Sealed[Deposit]] = {}
        for i in range(n):
            self.join(i)
        if window:
            self.set_up(range(n))

    def newborn(self, index: int) -> TenantState:
        """A tenant whose process has just started."""
        policy = TermsPolicy(allow_semi_honest=True, colluders=0)
        me = TenantSelf(self.roster, index, identity_of(f"t{index}"), policy, "drill")
        return tenant_start(me, self.randomness[index])

    def join(self, index: int) -> None:
        """Offer the terms; the tenant accepts."""
        self.deliver(index, self.terms.to_bytes())
        self.states[index] = tenant_join(self.states[index]).state

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

    def answer_in(self, step: TenantStep) -> Sealed[Any] | None:
        """The one message that a step sends, if any."""
        assert len(step.sends) <= 1
        return unseal(step.sends[0], "tenant") if step.sends else None

    def refused(self, index: int, message: Sealed[Any], error: type[FedEmError], text: str) -> FedEmError:
        """The tenant must refuse, naming a reason, and be left as it was."""
        before = self.states[index]
        with pytest.raises(error, match=text) as caught:
            self.deliver(index, message.to_bytes())
        assert self.states[index] is before
        return caught.value

    # --- the set-up of a window ---

    def open_window(self, number: int = 1, first_round: int = 1) -> Sealed[OpenWindow]:
        """A signed OpenWindow."""
        return self.sealed(OpenWindow(self.session, self.terms.digest, number, first_round))

    def advertise(self, members: Iterable[int], number: int = 1, first_round: int = 1) -> None:
        """Open a window and collect the advertisements."""
        self.opening = self.open_window(number, first_round)
        answers = {i: self.tell(i, self.opening) for i in members}
        self.advertisements = cast("dict[int, Sealed[Advertise]]", answers)

    def setup_message(self) -> Sealed[SetUp]:
        """The SetUp of the advertisements collected."""
        assert self.opening is not None
        quoted = tuple(self.advertisements[i].quoted() for i in sorted(self.advertisements))
        bitmap = to_bitmap(self.advertisements, self.roster.n)
        return self.sealed(SetUp(self.session, self.opening.digest, bitmap, quoted))

    def deposit(self) -> None:
        """Show the set-up to its members and collect their deposits."""
        message = self.setup_message()
        assert self.opening is not None
        self.setup = read_setup(message, self.opening, self.terms.content, self.roster)
        self.deposits = cast("dict[int, Sealed[Deposit]]", {i: self.tell(i, message) for i in self.setup.members})

    def boxes_message(self, holder: int) -> Sealed[Boxes]:
        """Everybody's shares for one holder."""
        assert self.setup is not None
        dealers = [i for i in self.setup.members if i != holder]
        boxes = [split_boxes(self.deposits[i], self.setup, i, "dealer")[holder] for i in dealers]
        bitmap = to_bitmap(dealers, self.roster.n)
        content = Boxes(self.session, self.setup.digest, bitmap, tuple(self.deposits[i].quoted() for i in dealers))
        return self.sealed(content, b"".join(boxes))

    def set_up(self, members: Iterable[int], number: int = 1, first_round: int = 1) -> None:
        """A whole window, from opening to ready."""
        self.advertise(members, number, first_round)
        self.deposit()
        assert self.setup is not None
        for i in self.setup.members:
            self.tell(i, self.boxes_message(i))

    # --- a round ---

    def header(
        self, number: int, among: Sequence[int] | None = None, theta: bytes = b"theta", **changes: Any
    ) -> Sealed[Header]:
        """A signed header of a round `among` these participants (default: all members)."""
        assert self.setup is not None
        members = self.setup.members if among is None else among
        content = Header(
            session=self.session, terms=self.terms.digest, setup=self.setup.digest, round=number, mode=int(Mode.WHOLE),
            parameters=hashlib.sha256(theta).digest(), encoding=NOTHING, length=self.length,
            participants=to_bitmap(members, self.roster.n), previous_round=number - 1, previous_outcome=0,
            previous_certificate=self.certified.get(number - 1, NOTHING), previous_sum=NOTHING, base_rounds=(),
        )  # fmt: skip
        return self.sealed(replace(content, **changes), theta)

    def certificate(self, header: Sealed[Header], survivors: Iterable[int], **changes: Any) -> Sealed[Certificate]:
        """The server's word that these are the survivors."""
        bitmap = to_bitmap(survivors, self.roster.n)
        content = Certificate(self.session, header.content.round, header.digest, bitmap, b"", ())
        sealed = self.sealed(replace(content, **changes))
        self.certified.setdefault(header.content.round, sealed.digest)
        return sealed

    def recover(
        self,
        header: Sealed[Header],
        certificate: Sealed[Certificate],
        silent: Iterable[int] = (),
        dropped: Iterable[int] = (),
    ) -> Sealed[Recover]:
        """A request for shares."""
        n = self.roster.n
        content = Recover(
            self.session, header.quoted(), certificate.quoted(), to_bitmap(silent, n), to_bitmap(dropped, n)
        )
        return self.sealed(content)

    def upload(self, index: int, header: Sealed[Header], ring: RingVector | None = None) -> RingVector:
        """Show a header to a tenant and let it answer with `ring` (default: zeros); gives the masked vector."""
        self.tell(index, header)
        return self.compute(index, ring)

    def compute(self, index: int, ring: RingVector | None = None) -> RingVector:
        """Let a tenant that has read a header upload."""
        vector = np.zeros(self.length, dtype=np.uint64) if ring is None else ring
        step = tenant_upload(self.states[index], vector, self.marks[index])
        self.states[index] = step.state
        answer = self.answer_in(step)
        assert answer is not None
        return np.frombuffer(answer.attachment, dtype="<u8")
