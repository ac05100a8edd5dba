"""Answers of simulated tenants are heard one by one, in the order in which they were asked for, no further than what comes next needs."""

from __future__ import annotations

import math
import socket
import threading
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fed_em_server.hub import Arrived
from fed_em_simulations.framed_link import FramedLink
from fed_em_simulations.memory_hub import Fate, MemoryHub, Passing
from fed_em_simulations.owed_answers import Asked, OwedAnswers
from fed_em_simulations.tenant_host import Answer


@given(st.lists(st.integers(0, 9) | st.none(), max_size=40))
def test_the_least_of_a_queue_is_that_of_all_in_it(steps: list[int | None]) -> None:
    owed, plain = OwedAnswers(), deque[Asked]()
    for number, soonest in enumerate(steps):
        if soonest is not None:
            asked = Asked(number, 0.0, number, float(soonest))
            owed.add(asked)
            plain.append(asked)
        elif plain:
            assert owed.take() is plain.popleft()
        assert bool(owed) == bool(plain)
        assert owed.soonest == min((each.soonest for each in plain), default=math.inf)
        assert [owed.owes(tenant) for tenant in range(len(steps))] == [
            any(each.tenant == tenant for each in plain) for tenant in range(len(steps))
        ]


class Echoes:
    """Tenants that send back what they are sent, once they are heard. Implements `TenantHost`, and writes down what it is asked."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self._owed: deque[Answer] = deque()

    def greet(self, tenant: int, anew: bool) -> None:
        """See `TenantHost`."""
        self.deliver(tenant, b"hello")

    def deliver(self, tenant: int, data: bytes) -> None:
        """See `TenantHost`."""
        self.done.append(f"{data.decode()} to {tenant}")
        self._owed.append(Answer(tenant, (data,)))

    def end(self, tenant: int) -> None:
        """See `TenantHost`."""
        self.done.append(f"end {tenant}")

    def answer(self) -> Answer:
        """See `TenantHost`."""
        answer = self._owed.popleft()
        self.done.append(f"heard {answer.tenant}")
        return answer

    def close(self) -> None:
        """See `TenantHost`."""


def test_tenants_are_told_more_before_they_are_heard() -> None:
    host = Echoes()
    # Tenant 1 is twice as far away as the others.
    hub = MemoryHub((host, 3), [1 / 64, 2 / 64, 1 / 64])
    arrived = [hub.receive(None) for _ in range(3)]
    assert arrived == [Arrived(0, b"hello"), Arrived(2, b"hello"), Arrived(1, b"hello")]
    host.done.clear()
    for tenant in (1, 0, 2):
        hub.send(tenant, b"one")
    hub.send(0, b"two")
    assert hub.receive(3.9 / 64) is None
    # At 3/64 those near by have theirs; the first of tenant 0 is heard before its second, as that may depend on it.
    assert host.done == ["one to 0", "one to 2", "heard 0", "two to 0"]
    assert [hub.receive(None) for _ in range(3)] == [Arrived(0, b"one"), Arrived(2, b"one"), Arrived(0, b"two")]
    assert hub.now() == 4 / 64
    assert hub.receive(None) == Arrived(1, b"one")


@pytest.mark.parametrize("fate", [Fate.KILL, Fate.HOLD])
def test_what_comes_of_an_answer_is_before_the_next_message(fate: Fate) -> None:
    def interfere(passing: Passing) -> Fate:
        return fate if passing.data == b"one" and passing.direction.value == "to-server" else Fate.DELIVER

    host = Echoes()
    hub = MemoryHub((host, 1), 1.0, interfere)
    hub.receive(None)
    hub.send(0, b"one")
    hub.send(0, b"two")
    hub.receive(10.0)
    hub.receive(10.0)
    assert "one to 0" in host.done and "two to 0" not in host.done


def test_two_ends_that_both_have_much_to_say_do_not_wait_for_each_other() -> None:
    one, other = map(FramedLink, socket.socketpair())
    frames = [bytes([k % 251]) * (k * 1777 % 400_000) for k in range(120)]
    heard: list[bytes] = []

    def talk() -> None:
        for frame in frames:
            other.send(frame)
        heard.extend(other.receive() for _ in [*frames, b"bye"])
        other.send(b"done")
        with pytest.raises(ConnectionError):  # what was sent leaves while its end waits
            other.receive()

    thread = threading.Thread(target=talk, daemon=True)
    thread.start()
    for frame in frames:
        one.send(frame)
    assert [one.receive() for _ in frames] == frames
    one.send(b"bye")
    assert one.receive() == b"done"
    one.close()
    thread.join(60)
    assert heard == [*frames, b"bye"]


def test_a_link_whose_other_end_is_gone_says_so() -> None:
    one, other = map(FramedLink, socket.socketpair())
    other.send(b"last")
    other.close()
    assert one.receive() == b"last"
    with pytest.raises(ConnectionError):
        one.receive()
