"""A tenant's upload against k + 1 bare keystreams of a cipher that counts, on one thread as the tenant has one.

The upload is the real one: `tenant_upload` on the state of a tenant that has read a header, in a window with k neighbours.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from fed_em.layout import Block, Layout
from fed_em.statistics import Statistics
from fed_em_protocols import envelope, tenant_round
from fed_em_protocols.coordinator_state import SumNotOpened
from fed_em_protocols.encoding import Encoding
from fed_em_protocols.masks import MASK_KEY_BYTES, RingVector
from fed_em_protocols.ring import RING_64
from fed_em_protocols.tenant_state import Evaluate, TenantState
from fed_em_protocols.terms import default_colluders
from fed_em_simulations.volatile_marks import VolatileMarks
from tests.bench.cheap_tenants import cheap_tenants
from tests.bench.drive import ROUND_CAP, Drive
from tests.bench.figures import ClientFigures
from tests.bench.fixed_work import FixedWork, vector_at
from tests.protocols.federation import roster_of, terms_of

_WARM_UP_LENGTH = 8
_ROW_CAP = 1000
# The floor is that of whichever way of calling the cipher is faster.
_PIECE = 128 * 1024
# `update_into` asks for room for a last partial block.
_SPARE = 15


def measure_client(neighbours: int, lengths: Sequence[int], times: int) -> Iterator[ClientFigures]:
    """One tenant with so many neighbours, on the complete graph; the least of `times` measurements of each part.

    Shorter vectors are measured oftener, ten times at most, for about as long: what disturbs a machine lasts as long for them.
    """
    n = neighbours + 1
    roster, me = roster_of(n, row_cap=_ROW_CAP), n // 2
    terms = terms_of(roster, window_rounds=len(lengths) + 2, round_cap=ROUND_CAP, colluders=default_colluders(n))
    drive = Drive(roster, terms, watched=(me,))
    with cheap_tenants(drive, fake_deals=True):
        drive.sum(_WARM_UP_LENGTH)
        for length in lengths:
            oftener = min(10, max(lengths) // length)
            yield _measure(_answering(drive, me, length), neighbours, length, me, times * oftener)


def _answering(drive: Drive, me: int, length: int) -> TenantState:
    """The state of a tenant that has read a header and owes an upload. Nobody else hears of the round, which fails."""
    found: list[TenantState] = []

    def evaluate(self: FixedWork, asked: Evaluate) -> RingVector:
        found.append(drive.sessions[me].state)
        return vector_at(me, asked.length, asked.parameters)

    drive.silent = frozenset(range(drive.roster.n)) - {me}
    with patch.object(FixedWork, "evaluate", evaluate):
        assert isinstance(drive.try_sum(length, whole=True), SumNotOpened)
    drive.recall()
    return found[0]


def _measure(state: TenantState, neighbours: int, length: int, me: int, times: int) -> ClientFigures:
    ring = vector_at(me, length, b"")
    encode = _encoder(length, me)
    parts: list[dict[str, float]] = []
    for _ in range(times):
        spent: dict[str, float] = {}
        with _timed(spent):
            began = time.process_time()
            tenant_round.tenant_upload(state, ring, VolatileMarks())
            spent["upload"] = time.process_time() - began
        spent["floor"] = min(
            _keystreams(neighbours + 1, length, 8 * length), _keystreams(neighbours + 1, length, _PIECE)
        )
        began = time.process_time()
        encode()
        spent["encoding"] = time.process_time() - began
        spent["copying"] = spent["upload"] - spent["agreement"] - spent["masking"] - spent["signing"]
        parts.append(spent)
    least = {name: min(each[name] for each in parts) for name in parts[0]}
    # Whether pages are new shows in the one or in the other: they are those of one upload.
    best = min(parts, key=lambda each: each["masking"] + each["copying"])
    least |= {name: best[name] for name in ("masking", "copying")}
    return ClientFigures(neighbours=neighbours, length=length, **least)


def _encoder(length: int, me: int) -> Callable[[], object]:
    """Encodes statistics of this length: the work just before an upload."""
    layout = Layout((Block("statistics", (length - RING_64.tail_words,), bound=1.0),))
    encoding = Encoding.proved(layout, [_ROW_CAP] * (me + 1))
    statistics = Statistics(layout, np.random.default_rng(0).uniform(-1.0, 1.0, length - RING_64.tail_words))
    return lambda: encoding.encode(statistics, me)


@contextmanager
def _timed(spent: dict[str, float]) -> Iterator[None]:
    """Note what parts of an upload cost."""

    def timed(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any, **options: Any) -> Any:
            began = time.process_time()
            try:
                return function(*arguments, **options)
            finally:
                spent[part] = spent.get(part, 0.0) + time.process_time() - began

        return called

    with ExitStack() as stack:
        for part, module, name in (
            ("agreement", tenant_round, "pair_keys"),
            ("masking", tenant_round, "add_masks"),
            ("signing", envelope, "_signed"),
        ):
            stack.enter_context(patch.object(module, name, timed(part, getattr(module, name))))
        yield


def _keystreams(streams: int, length: int, piece: int) -> float:
    """Seconds that so many keystreams of 8 · `length` bytes take, `piece` bytes a call, into a buffer that is there before."""
    size = 8 * length
    keys, zeros = [secrets.token_bytes(MASK_KEY_BYTES) for _ in range(streams)], memoryview(bytes(min(piece, size)))
    room = memoryview(bytearray(len(zeros) + _SPARE))
    room[:] = bytes(len(room))
    began = time.process_time()
    for key in keys:
        encryptor = Cipher(AES(key), CTR(bytes(16))).encryptor()
        for start in range(0, size, len(zeros)):
            encryptor.update_into(zeros[: size - start], room)
    return time.process_time() - began
