"""Parcels: what is in them comes back, and no more is in one than it may hold."""

from __future__ import annotations

import pytest

from fed_em_protocols.errors import MalformedMessage
from fed_em_protocols.grid_payloads import Parcel
from fed_em_protocols.limits import MAX_PARCEL_MESSAGES
from fed_em_protocols.wire import entries
from fed_em_protocols.wire.entries import varint

SESSION = bytes(range(16))


def test_a_parcel_comes_back() -> None:
    full = Parcel(SESSION, (b"", b"message") * (MAX_PARCEL_MESSAGES // 2))
    assert Parcel.from_bytes(full.to_bytes(), "sender") == full
    with pytest.raises(MalformedMessage, match="'messages' is beyond its limit of 1024"):
        Parcel.from_bytes(Parcel(SESSION, (b"",) * (MAX_PARCEL_MESSAGES + 1)).to_bytes(), "sender")


def test_messages_without_end_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    monkeypatch.setattr(entries, "varint", lambda data, place: read.append(place) or varint(data, place))
    for many in (b"\x12\x00", b"\x0a\x00", b"\x1a\x00"):
        with pytest.raises(MalformedMessage):
            Parcel.from_bytes(many * 1_000_000, "sender")
    assert len(read) <= 2 * (MAX_PARCEL_MESSAGES + 1) + 4 + 2
