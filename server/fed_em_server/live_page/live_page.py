"""The page as a watcher of a session, and where its address is told."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console

from fed_em.errors import EnvironmentFault, FedEmError
from fed_em_server.live_page.page_server import PageServer
from fed_em_server.live_picture import PictureKeeper
from fed_em_server.record import SessionRecord
from fed_em_server.report_words import decimal, ending_in_words

ADDRESS_FILE = "live-page.url"


class LivePage(PictureKeeper):
    """A `fed_em_server.session.Watcher` that is looked at in a browser. Use it as a context manager.

    Whoever has the page open when the block ends is sent the last picture first, which stays in the browser.

    Args:
        address: "host:port" on this machine; port 0 for any that is free.
        clock: Seconds on a clock that never goes back.

    Raises:
        CallerError: the address is not this machine's alone.
        EnvironmentFault: the port is in use.
    """

    def __init__(self, address: str, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(clock)
        self._server = PageServer(address, self)
        self._address_file: Path | None = None

    @property
    def url(self) -> str:
        """Where to look. It holds the token: for the operator's eyes, and for no log."""
        return self._server.url

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            # Errors that were raised on purpose hold no secret; of others nobody knows.
            why = (error.message, error.remedy) if isinstance(error, FedEmError) else ("the server was stopped",)
            self.over(("The session ended without a model.", *map(_sentence, filter(None, why))), failed=True)
        self._server.close()
        if self._address_file is not None:
            self._address_file.unlink(missing_ok=True)

    def tell_address(self, console: Console, folder: Path) -> None:
        """Print the address on a terminal. Anywhere else, where a log may keep what is printed, write it to a file of its owner's.

        Raises:
            EnvironmentFault: as `keep_address`.
        """
        if console.is_terminal:
            console.print(f"live page: {self.url}", highlight=False, soft_wrap=True, markup=False)
            return
        kept = self.keep_address(folder)
        console.print(f"the address of the live page is in {kept}", highlight=False, soft_wrap=True)

    def keep_address(self, folder: Path) -> Path:
        """Write the address to a file of its owner's, which is gone when the block ends.

        Raises:
            EnvironmentFault: the file cannot be written.
        """
        self._address_file = folder / ADDRESS_FILE
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._address_file.unlink(missing_ok=True)
            descriptor = os.open(self._address_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(f"{self.url}\n")
        except OSError as error:
            raise EnvironmentFault(f"cannot write {self._address_file}: {error.strerror}") from None
        return self._address_file

    def ended(self, record: SessionRecord, folder: Path, files: Sequence[str]) -> None:
        """Show how the session ended, and where its files lie."""
        last = next((r.log_likelihood for r in reversed(record.rounds) if r.log_likelihood is not None), None)
        at = "" if last is None else f" at {decimal(last)} nats a row"
        self.over((_sentence(f"{ending_in_words(record)}{at}"), f"In {folder}: {', '.join(files)}."))


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].removesuffix('.')}."
