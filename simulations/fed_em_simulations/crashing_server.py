"""A session whose server crashes: process after process goes on from the checkpoints, as in production (`docs/adr/0038`).

Each process has what real ones have, the store and the transcript, and goes on by the same code: the fit runs once more over the sums that
were kept, and the next is asked of the tenants. The store is a SQLite file in a temporary folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from fed_em.errors import CallerError
from fed_em_protocols.transcript.recorder import TranscriptStore
from fed_em_server.checkpoints.store import CheckpointStore, checkpoint_url
from fed_em_server.checkpoints.taking_up import take_up
from fed_em_server.serve import CHECKPOINTS_FILE
from fed_em_server.session import SessionOutcome, SessionPlan, Watcher, run_session
from fed_em_simulations.memory_hub import MemoryHub, ServerCrashed
from fed_em_simulations.scene import Trouble
from fed_em_simulations.trouble import ServerCrash


def crashes(trouble: Sequence[Trouble]) -> bool:
    """Whether a server comes to its end in some trouble."""
    return any(isinstance(each, ServerCrash) for each in trouble)


def require_no_crash(trouble: Sequence[Trouble], what: str) -> None:
    """Raise `CallerError` if a server crashes where nothing is kept for the next."""
    if crashes(trouble):
        raise CallerError(f"{what} does not outlive a server that crashes", remedy="leave ServerCrash out")


def run_with_crashes(
    plan: SessionPlan, hub: MemoryHub, watcher: Watcher, transcript: TranscriptStore | None
) -> SessionOutcome:
    """As many processes of the server as it takes.

    Args:
        plan: What fixes the session.
        hub: The links, which raise `ServerCrashed` where the process ends.
        watcher: Who looks on, at all of them.
        transcript: Where the transcript goes; None for none.

    Raises:
        SessionPaused: tenants are missing for too long: a server would be started again when they are back.
        FedEmError: as `run_session`.
    """
    with (
        TemporaryDirectory(prefix="fed-em-") as folder,
        CheckpointStore(checkpoint_url(f"sqlite:///{Path(folder) / CHECKPOINTS_FILE}"), "simulation") as store,
    ):
        while True:
            same, checkpoint = take_up(store, plan)
            try:
                return run_session(same, hub, watcher, store=transcript, checkpoint=checkpoint)
            except ServerCrashed:
                continue
