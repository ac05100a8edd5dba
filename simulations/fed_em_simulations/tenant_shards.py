"""Tenants in worker processes: each worker has every so-manieth of them, and plays them by the same code as one process would.

Workers are forks of this process, so they find the tenants as they were made here. They are told by frames:

    greet, deliver, end    of a tenant; a message that a worker was sent for another tenant just before is not sent again
    stop                   ends the worker

and answer each greeting and message by a frame, as soon as it is done: while this process takes in what was answered first, they work on
what they were told last.
"""

from __future__ import annotations

import json
import multiprocessing
import socket
import struct
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from typing import Any

from fed_em.blas import single_threaded_blas
from fed_em.errors import CallerError, EnvironmentFault, FedEmError
from fed_em.row_blocks import use_threads
from fed_em_client.tenant_session import TenantSession
from fed_em_protocols.errors import PeerFault
from fed_em_simulations.few_collections import few_collections
from fed_em_simulations.framed_link import FramedLink
from fed_em_simulations.shared_reading import shared_reading
from fed_em_simulations.tenant_host import Answer, LocalTenants
from fed_em_simulations.work import Work, counted_work

_GREET, _GREET_ANEW, _DELIVER, _AGAIN, _END, _STOP = range(6)
_TOLD = struct.Struct("<BI")
# Tenant, whether its session is over, the length of an error, how many messages.
_ANSWERED = struct.Struct("<I?II")
_LENGTH = struct.Struct("<Q")
_WORK = struct.Struct(f"<{len(vars(Work()))}Q")


class TenantShards:
    """Tenants in worker processes. Implements `fed_em_simulations.tenant_host.TenantHost`.

    Args:
        starts: Makes a tenant's session anew each time its process starts; called in the workers.
        workers: How many, at least 1.

    Raises:
        CallerError: this system has no forks.
    """

    def __init__(self, starts: Sequence[Callable[[], TenantSession]], workers: int) -> None:
        if "fork" not in multiprocessing.get_all_start_methods():
            raise CallerError("worker processes of a simulation need a system with forks", remedy="use workers = 1")
        self._workers = [_Worker(starts) for _ in range(min(workers, len(starts)))]
        self._asked: deque[int] = deque()

    def _of(self, tenant: int) -> _Worker:
        return self._workers[tenant % len(self._workers)]

    def greet(self, tenant: int, anew: bool) -> None:
        """See `TenantHost`."""
        self._asked.append(tenant)
        self._of(tenant).tell(_GREET_ANEW if anew else _GREET, tenant)

    def deliver(self, tenant: int, data: bytes) -> None:
        """See `TenantHost`."""
        self._asked.append(tenant)
        self._of(tenant).deliver(tenant, data)

    def end(self, tenant: int) -> None:
        """See `TenantHost`."""
        self._of(tenant).tell(_END, tenant)

    def answer(self) -> Answer:
        """See `TenantHost`. Raises `EnvironmentFault` if a worker is lost."""
        return self._of(self._asked.popleft()).answer()

    def close(self) -> None:
        """End all workers."""
        for worker in self._workers:
            worker.close()


class _Worker:
    """This side of one worker."""

    def __init__(self, starts: Sequence[Callable[[], TenantSession]]) -> None:
        context = multiprocessing.get_context("fork")
        mine, other = socket.socketpair()
        self.process = context.Process(target=_work, args=(other, mine, starts), daemon=True)
        self.process.start()
        other.close()
        self._link = FramedLink(mine)
        self._last: bytes | None = None

    def tell(self, what: int, tenant: int, data: bytes = b"") -> None:
        """Send a frame. Raises `EnvironmentFault` if the worker is lost."""
        try:
            self._link.send(_TOLD.pack(what, tenant) + data)
        except OSError:
            raise self._lost() from None

    def deliver(self, tenant: int, data: bytes) -> None:
        """Hand over a message; the last one is known by its bytes."""
        if data == self._last:
            self.tell(_AGAIN, tenant)
        else:
            self._last = data
            self.tell(_DELIVER, tenant, data)

    def answer(self) -> Answer:
        """The next answer."""
        try:
            return _read_answer(self._link.receive())
        except OSError:
            raise self._lost() from None

    def close(self) -> None:
        """End the process, if it has not ended."""
        with suppress(EnvironmentFault):
            self.tell(_STOP, 0)
        self._link.close()
        self.process.join(5.0)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()

    def _lost(self) -> EnvironmentFault:
        return EnvironmentFault(
            "a worker process of the simulation was lost", remedy="see whether the machine runs out of memory"
        )


def _work(mine: socket.socket, other: socket.socket, starts: Sequence[Callable[[], TenantSession]]) -> None:
    """A worker's life: until it is told to stop, or the other side is gone."""
    other.close()
    link, tenants, last = FramedLink(mine), LocalTenants(starts), b""
    with ExitStack() as stack:
        stack.enter_context(use_threads(1))
        stack.enter_context(single_threaded_blas())
        stack.enter_context(few_collections())
        stack.enter_context(shared_reading())
        stack.enter_context(counted_work())
        with suppress(ConnectionError):  # the other side is gone
            while True:
                frame = link.receive()
                what, tenant = _TOLD.unpack_from(frame)
                if what == _STOP:
                    return
                if what == _DELIVER:
                    last = frame[_TOLD.size :]
                _obey(tenants, what, tenant, last)
                if what != _END:
                    link.send(_answer_frame(tenants.answer()))


def _obey(tenants: LocalTenants, what: int, tenant: int, last: bytes) -> None:
    if what in (_DELIVER, _AGAIN):
        tenants.deliver(tenant, last)
    elif what == _END:
        tenants.end(tenant)
    else:
        tenants.greet(tenant, what == _GREET_ANEW)


def _answer_frame(answer: Answer) -> bytes:
    error = b"" if answer.error is None else json.dumps(_told(answer.error)).encode()
    parts = [_ANSWERED.pack(answer.tenant, answer.over, len(error), len(answer.messages))]
    parts += [_WORK.pack(*vars(answer.work).values()), error]
    for message in answer.messages:
        parts += [_LENGTH.pack(len(message)), message]
    return b"".join(parts)


def _read_answer(frame: bytes) -> Answer:
    tenant, over, error_length, count = _ANSWERED.unpack_from(frame)
    place = _ANSWERED.size
    work = Work(*_WORK.unpack_from(frame, place))
    place += _WORK.size
    error = _heard(json.loads(frame[place : place + error_length])) if error_length else None
    place += error_length
    messages: deque[bytes] = deque()
    for _ in range(count):
        (length,) = _LENGTH.unpack_from(frame, place)
        place += _LENGTH.size
        messages.append(frame[place : place + length])
        place += length
    return Answer(tenant, tuple(messages), work, error, over)


def _told(error: FedEmError) -> dict[str, str]:
    if isinstance(error, PeerFault):
        return {"peer": error.peer, "fault": error.fault, "proves": error.proves}
    return {"message": error.message, "remedy": error.remedy}


def _heard(told: dict[str, Any]) -> FedEmError:
    if "peer" in told:
        return PeerFault(told["peer"], told["fault"], proves=told["proves"])
    return FedEmError(told["message"], remedy=told["remedy"])
