"""A request from its rows to its answer, whatever carried it: limits, the gate, the model of the moment, and who is told."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fed_em.errors import FedEmError
from fed_em.imputation import Imputation
from fed_em_server.serving.gate import Gate
from fed_em_server.serving.limits import ServingLimits
from fed_em_server.serving.live_model import LiveModel
from fed_em_server.serving.refusals import Refusal, TooLarge
from fed_em_server.serving.served_model import ServedModel
from fed_em_server.serving.watcher import ServingWatcher

Vector = NDArray[np.float64]
T = TypeVar("T")

# Cells by column's name; what is absent is missing.
NamedRows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, eq=False)
class Predicted:
    """Attributes: the model; `(n, K)`, the probability of each component for each row."""

    model: ServedModel
    probabilities: Vector


@dataclass(frozen=True, eq=False)
class Scored:
    """Attributes: the model; `(n,)`, in nats; whether each row is an anomaly, None where that is not known."""

    model: ServedModel
    log_densities: Vector
    anomalies: list[bool | None]


@dataclass(frozen=True, eq=False)
class Imputed:
    """Attributes: the model; `(n, D)`, as they were asked; what was filled in; `(n, K)`, the probability of each component."""

    model: ServedModel
    rows: Vector
    imputation: Imputation
    probabilities: Vector

    def filled(self, i: int) -> list[tuple[str, float | None, float | None]]:
        """The cells that row i lacked: column, standard deviation or None, probability or None; one of them is there."""
        deviations, certain = self.imputation.deviations[i], self.imputation.probabilities[i]
        names = self.model.columns.schema.names
        return [
            (names[d], float(deviations[d]), None) if np.isnan(certain[d]) else (names[d], None, float(certain[d]))
            for d in np.flatnonzero(np.isnan(self.rows[i]))
        ]


@dataclass(frozen=True, eq=False)
class Sampled:
    """Attributes: the model; `(n, D)`; `(n,)`, the component of each."""

    model: ServedModel
    rows: Vector
    components: NDArray[np.int64]


class Desk:
    """Answers requests, from any thread.

    Args:
        live: Gives the model.
        limits: What is taken in.
        watcher: Told of every request.
    """

    def __init__(self, live: LiveModel, limits: ServingLimits, watcher: ServingWatcher) -> None:
        self.live, self.limits, self.watcher = live, limits, watcher
        self.gate = Gate(limits)

    def predict(self, read: Callable[[], NamedRows], seconds: float | None = None) -> Predicted:
        """The components of rows.

        Args:
            read: Takes the request apart and gives the rows, once it is let in: requests that wait are bytes, and no more than these.
            seconds: How long it may take; None for the server's own limit.

        Raises:
            FedEmError: there is no answer; see `Refusal`.
        """
        with self._answering("predict", seconds, read, len) as (model, named):
            return Predicted(model, model.probabilities(self._rows(model, named)))

    def score(self, read: Callable[[], NamedRows], seconds: float | None = None) -> Scored:
        """The log-densities of rows. As `predict`."""
        with self._answering("score", seconds, read, len) as (model, named):
            rows = self._rows(model, named)
            log_densities = model.log_densities(rows)
            return Scored(model, log_densities, model.anomalies(rows, log_densities))

    def impute(self, read: Callable[[], tuple[NamedRows, int, int | None]], seconds: float | None = None) -> Imputed:
        """Rows filled. As `predict`, but that `read` gives besides how often missing cells are drawn, and a seed, or None for one of the
        system's.
        """
        with self._answering("impute", seconds, read, lambda asked: len(asked[0])) as (model, (named, n_draws, seed)):
            self._check_drawn(max(len(named), 1) * n_draws)  # a draw of no rows is work too
            rows = self._rows(model, named)
            return Imputed(model, rows, *model.impute(rows, n_draws, seed))

    def sample(self, read: Callable[[], tuple[int, int | None]], seconds: float | None = None) -> Sampled:
        """Rows drawn from the model, as many as `read` gives, by its seed. As `impute`."""
        with self._answering("sample", seconds, read, lambda asked: asked[0]) as (model, (n, seed)):
            self._check_drawn(n)
            chosen = int(np.random.SeedSequence().generate_state(1)[0]) if seed is None else seed
            return Sampled(model, *model.fitted.sample(n, chosen))

    @contextmanager
    def _answering(
        self, method: str, seconds: float | None, read: Callable[[], T], rows_of: Callable[[T], int]
    ) -> Iterator[tuple[ServedModel, T]]:
        began, outcome, n_rows = time.monotonic(), "ok", 0
        most = self.limits.seconds if seconds is None else min(seconds, self.limits.seconds)
        try:
            with self.gate.admitted(began + most):
                model, asked = self.live.require(), read()
                n_rows = rows_of(asked)
                yield model, asked
        except Exception as error:
            outcome = Refusal.of(error).outcome
            if not isinstance(error, FedEmError):
                self.watcher.broke(method, type(error).__name__)
            raise
        finally:
            self.watcher.answered(method, outcome, time.monotonic() - began, n_rows if outcome == "ok" else 0)

    def _rows(self, model: ServedModel, named: NamedRows) -> Vector:
        self.check_asked(len(named))
        if not named:
            return np.empty((0, len(model.columns.schema.columns)))
        return np.stack([model.columns.row(cells, number) for number, cells in enumerate(named)])

    def check_asked(self, n: int) -> None:
        """Raise `TooLarge` if `n` rows are too many: before they are taken apart, where a carrier can count them."""
        if n > self.limits.rows:
            raise TooLarge(
                f"{n} rows are more than the {self.limits.rows} of a request", remedy="ask in several requests"
            )

    def _check_drawn(self, n: int) -> None:
        if n > self.limits.drawn:
            raise TooLarge(f"{n} drawn rows are more than the {self.limits.drawn} of a request", remedy="ask for fewer")
