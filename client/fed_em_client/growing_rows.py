"""Rows that come while a stream goes on: appended to a tenant's files, or in new files of its folder.

Files are looked at before every round of a stream's model and read again only when one of them changed. What was read is taken up if it
holds at least `LEAST_ROWS` rows more than before: the server chooses the parameters of a round, so it can ask twice at one point, and
the difference of two sums would be the statistics of the rows that came in between, of this tenant alone if no other's rows changed.
Fewer are waited for. Files that cannot be read, as
they are just being written, that hold a row which the session does not admit, or too many rows for the roster, leave the rows as they
were: whoever has joined is not at fault for what comes later.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from fed_em.component_counts import LEAST_ROWS
from fed_em.errors import CallerError, EnvironmentFault
from fed_em.records import Records
from fed_em_client.data_files import data_paths

_Stamp = tuple[tuple[Path, int, int], ...]


class GrowingRows:
    """When a tenant's files are worth reading again.

    Args:
        data: As `fed_em_client.data_files.data_paths` takes it.
        tell: Told, for the tenant's operator, what was taken up, and why something was not.
    """

    def __init__(self, data: Path | Sequence[Path], tell: Callable[[str], None]) -> None:
        self._data = data
        self._tell = tell
        self._stamp: _Stamp | None = None

    def began(self) -> None:
        """The files are about to be read for a session."""
        self._stamp = self._seen()

    def taken_up(self, records: Records, read: Callable[[], Records]) -> Records:
        """The records to go on with: `records` themselves, or what `read` gives if enough rows came.

        Args:
            records: Those of the round before.
            read: Reads all files.
        """
        now = self._seen()
        if now is None or now == self._stamp:
            return records
        self._stamp = now
        try:
            found = read()
        except (CallerError, EnvironmentFault) as error:
            self._tell(f"the data changed and is not taken up; the stream goes on over the rows before: {error}")
            return records
        if len(found) - len(records) < LEAST_ROWS:
            self._tell(f"the data changed, with fewer than {LEAST_ROWS} rows more: the stream waits for others")
            return records
        self._tell(f"the stream goes on over {len(found)} rows, {len(found) - len(records)} more than before")
        return found

    def _seen(self) -> _Stamp | None:
        """Sizes and times of all files; None if they cannot be looked at now."""
        try:
            states = [(path, path.stat()) for path in data_paths(self._data)]
        except (OSError, CallerError):
            return None
        return tuple((path, state.st_size, state.st_mtime_ns) for path, state in states)
