"""A tenant in one session: the state machine, and the tenant's own work behind it. Knows no transport.

    session.greet()           messages to send on a new link
    session.handle(data)      messages to send in answer

Whatever carries the messages (a gRPC stream, a Unix socket behind Flower, a queue in memory) needs nothing else.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Protocol

import numpy as np

from fed_em.errors import CallerError
from fed_em_client.tenant_watcher import UNWATCHED, TenantWatcher
from fed_em_protocols.envelope import Sealed
from fed_em_protocols.errors import MOST_NOT_COMPUTED, TermsRefused
from fed_em_protocols.masks import RingVector
from fed_em_protocols.messages import Close, CloseReason, Mode, RefusalCode
from fed_em_protocols.policy_rules import PolicyRule
from fed_em_protocols.ring import ring_of
from fed_em_protocols.tenant import (
    tenant_consider,
    tenant_greet,
    tenant_join,
    tenant_receive,
    tenant_refuse,
    tenant_start,
)
from fed_em_protocols.tenant_outcome import tenant_gate
from fed_em_protocols.tenant_round import tenant_recall, tenant_upload
from fed_em_protocols.tenant_state import Evaluate, RoundMarks, TenantSelf, TenantState, TenantStep
from fed_em_protocols.transcript.tenant_log import TenantLog
from fed_em_protocols.transitions import TenantPhase
from fed_em_protocols.window import Randomness


class TenantWork(Protocol):
    """What a tenant does with its own rows."""

    def prepare(self, description: bytes, mass_floor: int) -> None:
        """Check a session's description (JSON) and its mass floor, in thousandths of a record, against the rows and the policy.

        Raises:
            CallerError: the rows do not fit the session's schema, or the policy does not admit the session.
        """
        ...

    def changed(self, session: bytes) -> bool:
        """Whether the rows prepared, or the code, are not those of an earlier process of this tenant in the same session."""
        ...

    def evaluate(self, asked: Evaluate) -> RingVector:
        """The encoded statistics that the server asks for.

        Raises:
            CallerError: they cannot be computed, or are beyond the declared bounds.
        """
        ...

    def held(self, counts: RingVector) -> bytes:
        """The bitmap of components that stay shut by the mass gate's rule, from the opened sum of the counts last asked for."""
        ...


class SessionLeft(CallerError):
    """This tenant left the session for a reason of its own; `messages` tell the server so (with a code, not the reason)."""

    def __init__(self, cause: CallerError, messages: tuple[bytes, ...]) -> None:
        super().__init__(cause.message, remedy=cause.remedy)
        self.messages = messages


class TenantSession:
    """One tenant process in one session.

    Args:
        me: Its identity, roster and policy.
        work: Its rows.
        marks: Its durable round marks.
        randomness: Secret uniform bytes.
        complain: Called at once with each reason why statistics cannot be computed: for this tenant's own operator.
        permit: Called when a session is joined, and before each upload; raises `TermsRefused` where the tenant's policy does not
            admit that now. The tenant then leaves the session.
        log: The tenant's own log of what leaves its house; None for none.
        watcher: Who looks on.
        clock: Seconds on a clock that never goes back, for the watcher.

    Attributes:
        watcher: The same.
        closed: How the session ended, once it has.
        fault: Why the statistics that were asked for last could not be computed, if so: a fit may do without them, and go on elsewhere,
            or end with a model all the same, though not more than `MOST_NOT_COMPUTED` times.
            The server is not told: whether a row is out of bounds at parameters that the server chose would say something on it. The sum
            tells everybody that some tenant is at fault.
    """

    def __init__(
        self,
        me: TenantSelf,
        work: TenantWork,
        marks: RoundMarks,
        randomness: Randomness = secrets.token_bytes,
        complain: Callable[[CallerError], None] = lambda _: None,
        permit: Callable[[], None] = lambda: None,
        log: TenantLog | None = None,
        watcher: TenantWatcher = UNWATCHED,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.watcher = watcher
        self._clock = clock
        self._permit = permit
        self._work = work
        self._marks = marks
        self._randomness = randomness
        self._complain = complain
        self._log = log
        self.state: TenantState = tenant_start(me, randomness)
        self.closed: Sealed[Close] | None = None
        self.fault: CallerError | None = None
        self._lacks_base = False
        self._faults = 0

    @property
    def over(self) -> bool:
        """Whether the session has ended for this tenant."""
        return self.state.phase is TenantPhase.CLOSED

    @property
    def joined(self) -> bool:
        """Whether this tenant accepted the session's terms, and the session is not over."""
        return self.state.phase is TenantPhase.JOINED

    def greet(self) -> tuple[bytes, ...]:
        """The first messages on a new link, the first time and every time after."""
        return self._logged(self._take(tenant_greet(self.state)))

    def handle(self, data: bytes) -> tuple[bytes, ...]:
        """Answer one message from the server.

        Raises:
            PeerFault: the server, or a tenant it quotes, broke the protocol. Nothing was released.
            SessionLeft: the session does not suit this tenant; send its `messages`, then go.
        """
        if self._log is not None:
            self._log.seen(data)
        self.watcher.carried(0, len(data))
        return self._logged(self._take(tenant_receive(self.state, data, self._randomness, self._marks)))

    def _logged(self, sends: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """Nothing leaves before it is in the log."""
        if self._log is not None:
            self._log.sent(sends)
        self.watcher.carried(sum(map(len, sends)), 0)
        return sends

    def _take(self, step: TenantStep) -> tuple[bytes, ...]:
        self.state = step.state
        sends = step.sends
        if step.offer is not None:
            sends += self._take(self._accept(step.offer))
        if step.evaluate is not None:
            sends += self._take(self._evaluated(step.evaluate))
        if step.counts is not None:
            sends += self._take(tenant_gate(self.state, self._work.held(step.counts)))
        if step.closed is not None:
            self.closed = step.closed
            # A number that is no reason is none to have finished.
            finished = step.closed.content.reason == CloseReason.FINISHED
            if finished and step.closed.attachment:
                self._forgive()
            self.watcher.closed(step.closed.content.session, CloseReason.FINISHED if finished else CloseReason.FAILED)
        return sends

    def _require_permit(self) -> None:
        try:
            self._permit()
        except TermsRefused as refusal:
            raise self._leave(refusal, RefusalCode.POLICY, refusal.rule) from refusal

    def _evaluated(self, asked: Evaluate) -> TenantStep:
        self._require_permit()
        began = self._clock()
        try:
            ring = self._work.evaluate(asked)
        except CallerError as error:
            self.fault = error
            self._faults += 1
            self._lacks_base = asked.recall
            self._complain(error)
            kind = ring_of(asked.ring, asked.mode == Mode.COUNTS)
            fault = kind.fault_vector(self._randomness(kind.word_bytes * (asked.length - kind.tail_words)))
            # A base is taken off: minus one there is one more in the sum, whether this round can be computed or not.
            ring = np.negative(fault) if asked.recall else fault
        else:
            # What could not be computed in an earlier round is no matter any more; a base of this round is.
            if not (asked.recall or self._lacks_base):
                self._forgive()
            self._lacks_base = False
        self.watcher.evaluated(asked.round, self._clock() - began)
        self._require_permit()  # an E-step may take hours
        if asked.recall:
            return tenant_recall(self.state, ring)
        began = self._clock()
        step = tenant_upload(self.state, ring, self._marks)
        self.watcher.uploaded(asked.round, self._clock() - began)
        return step

    def _forgive(self) -> None:
        """What could not be computed could be done without; too many of them are told of in the end."""
        if self._faults <= MOST_NOT_COMPUTED:
            self.fault = None

    def _accept(self, description: bytes) -> TenantStep:
        try:
            tenant_consider(self.state)
            self._permit()
            terms = self.state.accepted_terms
            self._work.prepare(description, terms.mass_floor)
            changed = self._work.changed(terms.session)
        except TermsRefused as refusal:
            raise self._leave(refusal, RefusalCode.POLICY, refusal.rule) from refusal
        except CallerError as error:
            raise self._leave(error, RefusalCode.SCHEMA, PolicyRule.ROWS) from error
        self.watcher.joined(terms.session)
        return tenant_join(self.state, changed)

    def _leave(self, cause: CallerError, code: RefusalCode, rule: PolicyRule) -> SessionLeft:
        self.watcher.refused(rule)
        step = tenant_refuse(self.state, code)
        self.state = step.state
        return SessionLeft(cause, self._logged(step.sends))
