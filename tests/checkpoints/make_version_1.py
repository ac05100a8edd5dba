"""Writes `version-1/`: the store of a session whose server died, and what is in it. Run once; the files stay as they are."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path
from tempfile import TemporaryDirectory

from processes import Crashed, Death
from test_resuming import PLAIN, world_of

FOLDER = Path(__file__).parent / "version-1"

if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        world = world_of(Path(folder), PLAIN)
        try:
            # In the fourth round, with its outcome put to the witnesses.
            world.process(Death("after commit", 15))
        except Crashed:
            FOLDER.mkdir()
        database = world.federation.server.output / "checkpoints.sqlite"
        shutil.copy(database, FOLDER)
        world.federation.roster.write_new(FOLDER / "roster.json")
    with sqlite3.connect(FOLDER / "checkpoints.sqlite") as connection:
        vectors = connection.execute("SELECT vector FROM fed_em_attempts ORDER BY number").fetchall()
        session, state = connection.execute("SELECT session, state FROM fed_em_sessions").fetchone()
    kept = {
        "session": session,
        "last_round": json.loads(state)["last_round"],
        "vectors": [vector.hex() for (vector,) in vectors],
    }
    (FOLDER / "kept.json").write_text(json.dumps(kept, indent=1) + "\n")
