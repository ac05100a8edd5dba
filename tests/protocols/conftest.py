"""Settings that the tests of the protocols share."""

from __future__ import annotations

from hypothesis import settings

settings.load_profile("tests")  # and not what another folder has made of it
