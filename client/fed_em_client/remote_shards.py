"""A tenant's records where other processes of the same tenant read them: shards that dial in, and what they sum.

Shards are cut as those of local workers are (`fed_em_client.sharded_sums`), and their vectors are added in the same order, so a sum has the
same bits as if all records were here. A shard that is lost is waited for; one that comes in its place reads the same rows again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from fed_em.coordinates import Coordinates
from fed_em.errors import CallerError, EnvironmentFault
from fed_em.layout import Layout
from fed_em.model import Summand
from fed_em.parameters import Parameters
from fed_em.statistics import Statistics
from fed_em.tenant_mixing import has_own_weights
from fed_em_client import sharded_sums
from fed_em_client.configuration import ShardsTable
from fed_em_client.shard_frames import (
    BEYOND,
    END,
    HELD,
    HELLO,
    REFUSE,
    Held,
    Place,
    Reading,
    reach_frame,
    read_frame,
    word,
)
from fed_em_client.shard_links import ShardLink, ShardListener
from fed_em_client.shard_worker import evaluate_frame, read_answer
from fed_em_protocols.description import SessionDescription
from fed_em_protocols.hashing import digest

Vector = NDArray[np.float64]
_T = TypeVar("_T")


@dataclass(eq=False)
class _Told:
    """A link, and what was said on it.

    Attributes:
        place: The last place told.
        held: What the shard answered to the reading.
        reading: Which reading that was.
    """

    link: ShardLink
    reading: Reading | None = None
    held: Held | None = None
    place: Place | None = None


class RemoteShards:
    """The shards of one tenant that dial in. A context: at its end, they are told that the session is over.

    Args:
        settings: `[shards]` of the tenant's file.
        report: Told, in a sentence, of shards that come and go.

    Raises:
        FedEmError: as `ShardListener`.
    """

    def __init__(self, settings: ShardsTable, report: Callable[[str], None] = lambda _: None) -> None:
        self.settings = settings
        self._report = report
        self._links: dict[int, _Told] = {}
        self._changed = threading.Condition()
        self._threads = ThreadPoolExecutor(settings.count, "shard")
        self._listener = ShardListener(settings.listen, settings.keys, self._welcome, settings.silence)

    @property
    def address(self) -> str:
        """Where they dial."""
        return self._listener.address

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()
        with self._changed:
            links = list(self._links.values())
        for told in links:
            try:
                # Whoever is not told dials again, until the next process of this tenant takes it.
                if kind is None:
                    told.link.send(word(END))
            except OSError:
                pass
            told.link.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def read(self, description: SessionDescription, columns: dict[str, str], row_cap: int) -> RemoteRecords:
        """Have all shards read their parts of a session's rows.

        Raises:
            CallerError: what a shard says of its rows, or they do not read the same files.
            EnvironmentFault: a shard does not come, or its store does not answer.
        """
        count = self.settings.count
        readings = [
            Reading(
                description.to_json().decode(),
                self.settings.data,
                columns,
                row_cap,
                index,
                count,
                sharded_sums.SHARD_RECORDS,
            )
            for index in range(count)
        ]
        held = self._at_all(lambda index: self._of(index, lambda told: self._held(told, readings[index])))
        if len({each.n_rows for each in held}) > 1 or [n for each in held for n in each.shards] != list(
            range(sum(len(each.shards) for each in held))
        ):
            raise CallerError(
                "the shards do not see the same files",
                remedy="let no file come or go under `data` while a session runs",
            )
        return RemoteRecords(self, tuple(readings), tuple(held))

    def ask(self, records: RemoteRecords, question: bytes, take: Callable[[ShardLink, Held], _T]) -> list[_T]:
        """Ask all shards, and take what each answers; in their order."""

        def one(index: int, told: _Told) -> _T:
            held = self._held(told, records.readings[index])
            if held != records.held[index]:
                raise CallerError(
                    f"shard {index} reads other rows than before", remedy="change no file while a session runs"
                )
            if records.place is not None and told.place is not records.place:
                told.link.send(records.place.to_frame())
                told.place = records.place
            told.link.send(question)
            return take(told.link, held)

        return self._at_all(lambda index: self._of(index, lambda told: one(index, told)))

    def _held(self, told: _Told, reading: Reading) -> Held:
        if told.held is None or told.reading != reading:
            told.link.send(reading.to_frame())
            _, document = read_frame(told.link.receive(), (HELD,), f"shard {reading.index}")
            told.held = Held(document["n_rows"], tuple(document["shards"]), document["fingerprint"])
            told.reading, told.place = reading, None
        return told.held

    def _at_all(self, of_one: Callable[[int], _T]) -> list[_T]:
        futures = [self._threads.submit(of_one, index) for index in range(self.settings.count)]
        faults = [error for error in (future.exception() for future in futures) if error is not None]
        if faults:
            raise faults[0]
        return [future.result() for future in futures]

    def _of(self, index: int, exchange: Callable[[_Told], _T]) -> _T:
        """One exchange with a shard: on its link, or on that of the next process with its number."""
        while True:
            told = self._wait_for(index)
            try:
                return exchange(told)
            except (OSError, EOFError):
                self._lose(index, told)

    def _wait_for(self, index: int) -> _Told:
        with self._changed:
            if not self._changed.wait_for(lambda: index in self._links, self.settings.patience):
                raise EnvironmentFault(
                    f"shard {index} of {self.settings.count} has not come within {self.settings.patience:g} seconds",
                    remedy=f"see whether it runs, dials {self.address} and holds the same shard keys",
                )
            return self._links[index]

    def _lose(self, index: int, told: _Told) -> None:
        told.link.close()
        with self._changed:
            if self._links.get(index) is told:
                del self._links[index]
                self._report(f"shard {index} is lost; whoever comes in its place goes on")

    def _welcome(self, link: ShardLink) -> None:
        _, document = read_frame(link.receive(), (HELLO,), "a shard")
        index, its = document["index"], document["version"]
        own = version("fed-em")
        if its != own or not 0 <= index < self.settings.count:
            what = (
                f"this tenant runs fed-em {own}"
                if its != own
                else f"there are shards 0 to {self.settings.count - 1} only"
            )
            link.send(word(REFUSE, message=f"shard {index} is not taken: {what}", remedy="mend the shards' deployment"))
            link.close()
            return
        with self._changed:
            before = self._links.get(index)
            self._links[index] = _Told(link)
            self._changed.notify_all()
        if before is not None:
            before.link.close()
        self._report(f"shard {index} is here")


@dataclass(frozen=True, eq=False)
class RemoteRecords:
    """Records that shards hold, in place of `fed_em.records.Records`.

    Attributes:
        shards: Who holds them.
        readings, held: What each was told to read, and says that it has.
        place: Where they are evaluated; None for nowhere yet.
    """

    shards: RemoteShards = field(repr=False)
    readings: tuple[Reading, ...] = field(repr=False)
    held: tuple[Held, ...] = field(repr=False)
    place: Place | None = None

    def __len__(self) -> int:
        return self.held[0].n_rows

    @property
    def fingerprint(self) -> bytes:
        """As that of `fed_em_client.fingerprint`, but of the shards' own."""
        return digest("work of shards", len(self.held), *(each.fingerprint for each in self.held))

    def at(self, coordinates: Coordinates, labels: bool, radius: float | None) -> RemoteRecords:
        """The same records in other coordinates, without their labels, in a ball."""
        return replace(self, place=Place(coordinates, labels, radius))

    def e_step(self, model: Summand, parameters: Parameters, layout: Layout) -> Statistics:
        """As `ShardedSums.e_step`, bit for bit. Raises as it, and as `RemoteShards.read`."""

        def vectors(link: ShardLink, held: Held) -> list[Vector]:
            return [read_answer(answer) for answer in [link.receive() for _ in held.shards]]

        # Each shard is asked for all that it holds.
        question = evaluate_frame(model, parameters, ())
        total = np.zeros(layout.size)
        for of_shard in self.shards.ask(self, question, vectors):
            for vector in of_shard:
                total += vector
        return Statistics(layout, total)

    def beyond_reach(self, model: Summand, parameters: Parameters, bounds: Vector, layout: Layout) -> NDArray[np.int64]:
        """As `fed_em.imputed_reach.records_beyond_reach`; of several candidates at least the most at any."""

        def counts(link: ShardLink, _: Held) -> Vector:
            return read_frame(link.receive(), (BEYOND,), "a shard")[0][BEYOND]

        found = self.shards.ask(self, reach_frame(model, parameters, bounds, layout), counts)
        return np.asarray(np.sum(found, axis=0), dtype=np.int64)


def require_for_shards(description: SessionDescription, mass_floor: int) -> None:
    """Raise `CallerError` where a session asks for more of the records than sums over shards."""
    refusals: Sequence[tuple[Any, str]] = (
        (description.stream is not None, "takes minibatches of the rows"),
        (has_own_weights(description.fitted_model), "finds mixing weights of each tenant's own"),
        (mass_floor > 0, "counts records behind a mass floor"),
    )
    for refused, what in refusals:
        if refused:
            raise CallerError(
                f"session '{description.title}' {what}, which shards in other places do not",
                remedy="join it with `data` in place of [shards], or stay out",
            )
