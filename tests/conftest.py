"""What tests of every folder share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

REPOSITORY = Path(__file__).resolve().parent.parent

# One thread of BLAS and of OpenMP a process, and in the processes that tests start. More of them wait for each other at small
# matrices by spinning: up to four fifths of the CPU time of a file of fits. Both are read when numpy is first imported, after this.
for _threads in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(_threads, "1")


# Time limits belong to pytest: a busy machine takes long over any example, and over making it up. Every run tries the same examples,
# so that a test fails always or never; FED_EM_NEW_EXAMPLES=1 has it look for others. A failing one is printed, none is kept on disk.
settings.register_profile(
    "tests",
    deadline=None,
    database=None,
    print_blob=True,
    derandomize=os.environ.get("FED_EM_NEW_EXAMPLES") != "1",
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("tests")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """`--dist loadgroup` gives a worker whole files, so that what their tests share is made once and not once a worker."""
    from tests.whole_files import WholeFiles

    return WholeFiles(config, log) if config.getvalue("dist") == "loadgroup" else None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of several workers each takes the next part: named groups, which are the longest, come first, so that none is left for the end."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: item.get_closest_marker("xdist_group") is None)


@pytest.fixture(scope="session", autouse=True)
def _readable_memory() -> Iterator[None]:
    """Commands that run within the process of tests leave it as it is: it measures processes that it forks, and may have to be debugged."""
    from fed_em_protocols import process_memory

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(process_memory, "keep_memory_private", lambda: None)
        yield


@pytest.fixture(scope="module")
def remembered_keys() -> Iterator[None]:
    """For many federations in one process, whose parties sign, verify and agree on the same things: each is computed once."""
    from tests.protocols.remembering import remembered_protocol

    with remembered_protocol():
        yield


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """Gives the path of a published data set by its file name.

    The files are looked for in the folder that `FED_EM_SHARED_DATA` names, or else in `../shared/data` beside
    the repository. Where a file is absent the test is skipped, unless `FED_EM_REQUIRE_DATA=1`, which makes it
    fail.
    """
    folder = Path(os.environ.get("FED_EM_SHARED_DATA") or REPOSITORY.parent / "shared" / "data")

    def path_of(name: str) -> Path:
        path = folder / name
        if path.is_file():
            return path
        reason = f"no data file '{path}'; set FED_EM_SHARED_DATA to the folder that holds it"
        if os.environ.get("FED_EM_REQUIRE_DATA") == "1":
            pytest.fail(reason)
        pytest.skip(reason)

    return path_of


@pytest.fixture(scope="session")
def program() -> Callable[[str], Path]:
    """Gives the path of a program that is no Python package: chromium, openssl, prometheus, promtool, ssh-keygen, or one of PostgreSQL's.

    Where it is absent the test is skipped, unless `FED_EM_REQUIRE_PROGRAMS=1`, which makes it fail.
    """

    def path_of(name: str) -> Path:
        # Debian keeps PostgreSQL's servers, by version, off the path.
        servers = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
        for folders in (None, *map(str, servers)):
            if found := shutil.which(name, path=folders):
                return Path(found)
        packages = "chromium, openssh-client, openssl, prometheus and postgresql"
        reason = f"no program '{name}'; Debian's packages {packages} have all that tests use"
        if os.environ.get("FED_EM_REQUIRE_PROGRAMS") == "1":
            pytest.fail(reason)
        pytest.skip(reason)

    return path_of
