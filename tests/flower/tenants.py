"""Tenants of a small federation that serve at their doors, in threads of this process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from fed_em_client.flower_tenant import FlowerTenant, serve_flower
from fed_em_client.take_part import open_tenant
from fed_em_protocols.wire.grid_messages import Action, AnswerCode
from fed_em_simulations.federation_folder import FederationFolder
from fed_em_simulations.volatile_marks import VolatileMarks


@contextmanager
def tenants_at(federation: FederationFolder, doors: Path, late: float = 0.0) -> Iterator[dict[str, Future[Path]]]:
    """Every tenant of a federation at the socket `doors/NAME`; what each serves is in its future. The last may come late."""
    names = list(federation.tenant_files)

    def serve(name: str) -> Path:
        time.sleep(late if name == names[-1] else 0.0)
        return serve_flower(federation.tenant(name), doors / name, _silent)

    with ThreadPoolExecutor(len(names)) as pool:
        futures = {name: pool.submit(serve, name) for name in names}
        while not late and not all((doors / name).exists() for name in names):
            time.sleep(0.01)
        yield futures


class Restarting:
    """A tenant without a door, whose process is replaced by a new one right after it has answered for the n-th time."""

    def __init__(self, federation: FederationFolder, name: str, after: int = 0) -> None:
        self._tenant = open_tenant(federation.tenant(name))
        self._marks = VolatileMarks()
        self._answers_left = after
        self._start()

    def answer(self, action: Action, data: bytes) -> tuple[AnswerCode, bytes]:
        answered = self._process.answer(action, data)
        self._answers_left -= 1
        if self._answers_left == 0:
            self._start()
        return answered

    def _start(self) -> None:
        self._process = FlowerTenant(self._tenant, self._marks, _silent)


def _silent(text: str) -> None:
    """Nobody is told."""
