"""A retrain whose process died goes on in its folder, unless what it was to fit has changed."""

from __future__ import annotations

from pathlib import Path

import pytest
from processes import Crashed
from small_federation import clustered_rows, memory_hub, write_small_federation
from test_resuming import PLAIN, POLICY, SIZES

from fed_em_server.checkpoints.taking_up import take_up
from fed_em_server.configuration import ServerConfiguration
from fed_em_server.operate import operations
from fed_em_server.operate.operations import SessionOperations
from fed_em_server.serve import open_server
from fed_em_server.session import run_session
from fed_em_server.watchers import Watchers


class Served(Exception):
    """A session would run in this folder."""


def folder_of_the_next(configuration: ServerConfiguration, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    def serve(session: ServerConfiguration, *_: object, **__: object) -> None:
        raise Served(session.output.name)

    monkeypatch.setattr(operations, "serve", serve)
    with pytest.raises(Served) as served:
        SessionOperations(configuration, folder, Watchers(), warm=False).retrain(folder, folder)
    return str(served.value)


def test_it_goes_on_where_it_was_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    federation = write_small_federation(tmp_path / "f", clustered_rows(SIZES), PLAIN, policy=POLICY)
    folder, configuration = tmp_path / "retrain", federation.server
    assert folder_of_the_next(configuration, folder, monkeypatch) == "attempt-1"

    hub, heard = memory_hub(federation), 0
    listen = hub.receive

    def dying(until: float | None) -> object:
        nonlocal heard
        heard += 1
        if heard > 60:
            raise Crashed
        return listen(until)

    monkeypatch.setattr(hub, "receive", dying)
    server = open_server(configuration.model_copy(update={"output": folder / "attempt-1"}))
    (folder / "attempt-1").mkdir(parents=True)
    (folder / "attempt-1.bak").mkdir()
    with server.checkpoints() as store, server.transcript() as transcript:
        plan, checkpoint = take_up(store, server.plan("grpc"))
        with pytest.raises(Crashed):
            run_session(plan, hub, Watchers(), store=transcript, checkpoint=checkpoint)
    assert folder_of_the_next(configuration, folder, monkeypatch) == "attempt-1"

    other = configuration.fit.model_copy(update={"max_iterations": 4})
    changed = configuration.model_copy(update={"fit": other})
    assert folder_of_the_next(changed, folder, monkeypatch) == "attempt-2"
