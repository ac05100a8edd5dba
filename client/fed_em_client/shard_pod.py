"""A process that reads a part of a tenant's rows in the tenant's own house, and sums it when the tenant's process asks: `fed-em shard`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fed_em import tensors
from fed_em.ball import into_ball
from fed_em.coordinates import Coordinates
from fed_em.errors import CallerError, EnvironmentFault, FedEmError
from fed_em.families import build_summand
from fed_em.imputed_reach import records_beyond_reach
from fed_em.parameters import Parameters
from fed_em.records import Records
from fed_em_client.fingerprint import fingerprint_of
from fed_em_client.object_files import object_files, part_of
from fed_em_client.rows import check_row_count, read_parts
from fed_em_client.shard_frames import (
    BEYOND,
    END,
    EVALUATE,
    HELLO,
    PLACE,
    REACH,
    READ,
    REFUSE,
    Held,
    Reading,
    fault_frame,
    read_frame,
    read_reach,
    word,
)
from fed_em_client.shard_links import ShardLink, dial
from fed_em_client.shard_worker import answer_of
from fed_em_protocols.description import SessionDescription
from fed_em_protocols.hashing import digest

_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0


@dataclass
class ShardPod:
    """What such a process holds, and what it answers.

    Attributes:
        shards: Records by the number of their sum, in original units.
        there: The same where they are evaluated.
        description: The session's.
    """

    shards: dict[int, Records] = field(default_factory=dict, repr=False)
    there: dict[int, Records] = field(default_factory=dict, repr=False)
    description: SessionDescription | None = None

    def answers(self, frame: bytes) -> Iterator[bytes]:
        """The answers to a frame of the tenant's, none for a place. Raises `CallerError` for a frame of no known kind."""
        arrays, document = read_frame(frame, (READ, PLACE, EVALUATE, REACH), "the tenant's process")
        if document["kind"] == EVALUATE:
            model, parameters = build_summand(document["model"]), Parameters(arrays)
            for number, shard in self.there.items():
                yield answer_of(model, parameters, shard, number)
            return
        try:
            yield from self._others()[document["kind"]](arrays, document)
        except FedEmError as error:
            yield fault_frame(error)

    def _others(self) -> Mapping[str, Callable[[Mapping[str, Any], Mapping[str, Any]], Iterator[bytes]]]:
        return {READ: self._read, PLACE: self._place, REACH: self._reach}

    def _read(self, _: Mapping[str, Any], document: Mapping[str, Any]) -> Iterator[bytes]:
        told = Reading.of(document)
        self.description = description = SessionDescription.from_json(told.description.encode())
        files = object_files(told.data)
        n = sum(file.n_rows for file in files)
        check_row_count("the data", n, told.row_cap)
        numbers, parts = part_of(files, told.index, told.count, told.shard_records)
        self.shards, self.there, own = {}, {}, digest("no rows")
        if parts:
            records = read_parts(parts, description, told.columns, told.row_cap)
            # Of a private session some rows may count for nothing; sums that are left without any are sums all the same.
            self.shards = {
                number: records[place * told.shard_records : (place + 1) * told.shard_records]
                for place, number in enumerate(numbers)
            }
            own = fingerprint_of(records, description.file_columns)
        yield Held(n, tuple(self.shards), own.hex()).to_frame()

    def _place(self, arrays: Mapping[str, Any], document: Mapping[str, Any]) -> Iterator[bytes]:
        coordinates, radius = Coordinates(arrays["location"], arrays["scale"]), document["radius"]
        assert self.description is not None
        schema = self.description.schema_of_columns

        def moved(shard: Records) -> Records:
            rows = coordinates.apply(shard.rows)
            rows = rows if radius is None else into_ball(rows, radius, schema)
            return replace(shard, rows=rows, admissible=shard.admissible if document["labels"] else None)

        self.there = {number: moved(shard) for number, shard in self.shards.items()}
        yield from ()

    def _reach(self, arrays: Mapping[str, NDArray[np.float64]], document: Mapping[str, Any]) -> Iterator[bytes]:
        model, (parameters, bounds, layout) = build_summand(document["model"]), read_reach(arrays, document)
        beyond = np.zeros(model.n_columns, dtype=np.int64)
        for shard in self.there.values():
            beyond += records_beyond_reach(model, parameters, shard, bounds, layout)
        yield tensors.encode({BEYOND: beyond.astype(np.float64)}, {"kind": BEYOND})


def serve_shard(address: str, keys: Path, index: int, patience: float, report: Callable[[str], None]) -> None:
    """Serve the tenant's process until it says that the session is over, dialling again whenever the link breaks.

    Args:
        address: "host:port" where the tenant's process listens for shards.
        keys: The folder that `fed-em shard-keys` made.
        index: Which shard this is, from 0.
        patience: Seconds to keep dialling without success.
        report: Told in sentences what goes on.

    Raises:
        CallerError: the tenant's process does not take this shard.
        EnvironmentFault: no link came about for `patience` seconds.
    """
    pod, heard, pause = ShardPod(), time.monotonic(), _FIRST_PAUSE
    while True:
        try:
            link = dial(address, keys)
            try:
                report(f"shard {index}: at {address}")
                link.send(word(HELLO, index=index, version=version("fed-em")))
                if _serve(pod, link):
                    return
            finally:
                link.close()
            heard, pause = time.monotonic(), _FIRST_PAUSE
        except (OSError, EOFError) as error:
            if time.monotonic() - heard > patience:
                raise EnvironmentFault(
                    f"shard {index}: no link to {address} for {patience:g} seconds ({type(error).__name__})",
                    remedy="see whether the tenant's process runs, listens there under [shards], and holds the same shard keys",
                ) from None
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


def _serve(pod: ShardPod, link: ShardLink) -> bool:
    """Answer until the tenant's process ends the session, or the link breaks: whether it was the former."""
    while True:
        try:
            frame = link.receive()
        except (OSError, EOFError):
            return False
        _, document = tensors.decode(frame, "what the tenant's process sends")
        if document["kind"] == END:
            return True
        if document["kind"] == REFUSE:
            raise CallerError(document["message"], remedy=document["remedy"])
        try:
            for answer in pod.answers(frame):
                link.send(answer)
        except OSError:
            return False
