"""Sessions in memory whose output is on disk, as a server leaves it."""

from __future__ import annotations

from pathlib import Path

from small_federation import Recorder, clustered_rows, memory_hub, session_toml, write_small_federation

from fed_em_server.serve import keep_outcome, open_server
from fed_em_server.session import run_session
from fed_em_simulations.federation_folder import FederationFolder

SIZES = (30, 25, 20)


def federation_in(folder: Path, seed: int = 0) -> FederationFolder:
    return write_small_federation(folder, clustered_rows(SIZES, seed), session_toml(fit="max_iterations = 4"))


def run(federation: FederationFolder, output: Path, start: Path | None = None) -> Path:
    """Run a session, from a model or a draw, and keep all of its output."""
    configuration = federation.server.model_copy(update={"output": output})
    if start is not None:
        fit = configuration.fit.model_copy(update={"start": str(start), "starts": None})
        configuration = configuration.model_copy(update={"fit": fit})
    server = open_server(configuration)
    with server.transcript() as store:
        outcome = run_session(server.plan("memory"), memory_hub(federation), Recorder(), store=store)
    keep_outcome(output, outcome)
    return output
