"""Settings and fixtures that the tests of the protocols share."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, partialmethod

import pytest
from hypothesis import settings

from fed_em_protocols import boxes, certification, coordinator_round, envelope, keys, round_keys, window

# Time limits belong to pytest; a failing example is printed, so none needs to be kept on disk.
settings.register_profile("protocols", deadline=None, database=None, print_blob=True)
settings.load_profile("protocols")


@pytest.fixture(scope="module")
def remembered_keys() -> Iterator[None]:
    """Signatures and agreements are functions of their inputs: thousands of seeded federations compute each of them once."""
    verifies, agree, agreement_public = cache(keys.verifies), cache(keys.agree), cache(keys.agreement_public)
    sign = cache(keys.SigningKey.sign)
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
