"""Writes the transcript that must stay readable for ever: `python -m tests.transcript.make_version_1`, with the tests' folders on the path.

Run once a version of the format, never again: what is in the folder is what that version wrote.
"""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

from recorded import TRUST, record
from small_federation import session_toml

from fed_em_client.tenant_log_file import LOG_FILE
from fed_em_protocols.transcript.reading import verified_entries
from fed_em_protocols.transcript.released import released_sums
from fed_em_protocols.transcript.walk import walked

FOLDER = Path(__file__).parent / "version-1"


def main() -> None:
    """Write it."""
    session = session_toml(fit="max_iterations = 2", trust=TRUST).replace("window_rounds = 16", "window_rounds = 3")
    with TemporaryDirectory() as folder:
        whole = record(Path(folder) / "f", session=session, keeps=False, sizes=(12, 11, 10))
    FOLDER.mkdir()
    (FOLDER / "entries.jsonl").write_bytes(whole.files.entries)
    (FOLDER / "checkpoints.jsonl").write_bytes(whole.files.checkpoints)
    (FOLDER / LOG_FILE).write_bytes(whole.logs[f"t1/{LOG_FILE}"])
    whole.roster.write_new(FOLDER / "roster.json")
    sums = released_sums(walked(verified_entries(whole.files, whole.roster), whole.roster))
    hexadecimal = [[float(x).hex() for x in each.statistics.vector] for each in sums]
    (FOLDER / "sums.json").write_text(json.dumps(hexadecimal) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
