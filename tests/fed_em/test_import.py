"""`import fed_em` is light."""

from __future__ import annotations

import subprocess
import sys

import pytest

import fed_em


def test_importing_the_package_loads_nothing_until_a_name_is_used() -> None:
    code = (
        "import sys, fed_em; print([name for name in sys.modules if name.startswith(('fed_em.', 'numpy'))]);"
        "fed_em.Coordinates; print('sklearn' in sys.modules);"
        "fed_em.GaussianMixture; print('sklearn' in sys.modules); print('Layout' in dir(fed_em))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=fed_em.__path__[0] + "/.."
    )
    assert done.stdout.split() == ["[]", "False", "True", "True"]


@pytest.mark.parametrize("name", [name for name in fed_em.__all__ if name != "__version__"])
def test_every_public_name_is_there_and_documented(name: str) -> None:
    assert getattr(fed_em, name).__doc__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="GausianMixture"):
        fed_em.GausianMixture  # noqa: B018
