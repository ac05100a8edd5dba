"""The protocol that remembers does what the protocol does."""

from __future__ import annotations

from fed_em_protocols import hkdf, keys, round_keys
from tests.protocols.remembering import remembered_protocol


def test_it_is_forgotten_in_the_end() -> None:
    before = round_keys.derive, keys.derive
    with remembered_protocol():
        assert round_keys.derive is keys.derive is not before[0]
        assert keys.derive("label", b"secret", 16) == keys.derive_from(hkdf.extract(b"secret"), "label", 16)
    assert (round_keys.derive, keys.derive) == before
