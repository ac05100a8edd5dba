"""Settings that the tests of the protocols share."""

from __future__ import annotations

from hypothesis import settings

# Time limits belong to pytest; a failing example is printed, so none needs to be kept on disk.
settings.register_profile("protocols", deadline=None, database=None, print_blob=True)
settings.load_profile("protocols")
