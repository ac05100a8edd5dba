"""Cryptography that remembers: within one session many parties verify the same signatures and agree on the same keys.

Each is a function of its inputs, so a session computes it once; nothing is left out, and nothing is replaced by a stand-in.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache, partialmethod

import pytest

from fed_em_protocols import boxes, certification, coordinator_round, envelope, keys, round_keys, window

_ENTRIES = 1 << 14


@contextmanager
def remembered_cryptography() -> Iterator[None]:
    """Patch the modules that verify, sign and agree, for as long as the context lasts."""
    remember = lru_cache(_ENTRIES)
    verifies, agree, agreement_public = remember(keys.verifies), remember(keys.agree), remember(keys.agreement_public)
    sign = remember(keys.SigningKey.sign)
    with pytest.MonkeyPatch.context() as patch:
        for module in (envelope, certification):
            patch.setattr(module, "verifies", verifies)
        patch.setattr(keys.SigningKey, "sign", partialmethod(sign))
        patch.setattr(boxes, "agree", agree)
        for module in (window, coordinator_round):
            patch.setattr(module, "agreement_public", agreement_public)
        key = round_keys.AgreementKey
        patch.setattr(key, "_shared", lambda self, public, peer: agree(self.secret, public, peer))
        patch.setattr(key, "public", property(lambda self: agreement_public(self.secret)))
        yield
