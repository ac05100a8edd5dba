"""The model that answers now, and how another takes over.

A new version is loaded, proved whole and warmed up beside the one that answers, and then takes its place by one assignment: requests in
flight hold the model that they began with to their end. One that cannot be served leaves the old one where it is, is told about
once, and is tried again at every look. A source that has no model any more leaves it there too: a model that was good a minute
ago is better than none.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from fed_em.errors import FedEmError
from fed_em_server.serving.model_source import ModelSource
from fed_em_server.serving.refusals import NoModel
from fed_em_server.serving.served_model import ServedModel
from fed_em_server.serving.watcher import ServingWatcher


@dataclass(frozen=True)
class RefusedVersion:
    """A version that could not be served.

    Attributes:
        version: Its id; "" if it could not be told.
        reason: Why.
    """

    version: str
    reason: str


class LiveModel:
    """The model that answers.

    Args:
        source: Where it comes from.
        watcher: Told of every change.
        threshold: Of anomalies, for every version; None for each version's own.
        every: Seconds between two looks at the source.
    """

    def __init__(
        self, source: ModelSource, watcher: ServingWatcher, threshold: float | None = None, every: float = 1.0
    ) -> None:
        self._source, self._watcher, self._threshold, self._every = source, watcher, threshold, every
        self._served: ServedModel | None = None
        self.refused: RefusedVersion | None = None
        self.changed: Callable[[], None] = lambda: None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="model-source", daemon=True)

    @property
    def served(self) -> ServedModel | None:
        """The model that answers; None if there was none yet."""
        return self._served

    def require(self) -> ServedModel:
        """The model that answers. Raises `NoModel` if there was none yet."""
        served = self._served
        if served is None:
            raise NoModel(
                "there is no model to serve yet", remedy="promote a version, or write a model into the folder"
            )
        return served

    def look(self) -> None:
        """Look at the source, and let what is new there take over."""
        version = ""
        try:
            found = self._source.version()
            if found is None or (self._served is not None and found == self._served.version):
                self.refused = None
                return
            version = found
            loaded = self._source.current()
            if loaded is None:
                return
            version, fitted = loaded
            served = ServedModel.of(version, fitted, self._threshold)
            served.warm_up()
        except FedEmError as error:
            self._refuse(version, str(error))
            return
        except Exception as error:  # a model that breaks in a new way must not stop the looking
            self._refuse(version, f"{type(error).__name__} while it was loaded")
            return
        self._served, self.refused = served, None
        self._watcher.took_over(served)
        self.changed()

    def _refuse(self, version: str, reason: str) -> None:
        refused = RefusedVersion(version, reason)
        if refused != self.refused:
            self.refused = refused
            self._watcher.kept_the_old(version, reason)

    def start(self) -> None:
        """Look now, and go on looking on a thread."""
        self.look()
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def _watch(self) -> None:
        while not self._stopped.wait(self._every):
            self.look()
