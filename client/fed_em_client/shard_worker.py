"""A process that holds shards of a tenant's records and sums them when it is asked to: `python -m fed_em_client.shard_worker THREADS`.

It talks with the tenant's process by its standard input and output alone, in frames of a length and so many bytes:

    shards     safetensors: the records of each shard that it is to hold, in place of any before
    evaluate   safetensors: a model and its parameters, and a document that says which shards; answered by one frame a shard

An answer is a vector of statistics, or what went wrong. The process ends with its input: when the tenant's process does.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np

from fed_em import tensors
from fed_em.candidates import Candidates
from fed_em.errors import FedEmError
from fed_em.families import build_summand
from fed_em.model import Summand
from fed_em.parameters import Parameters
from fed_em.records import Records
from fed_em.row_blocks import use_threads
from fed_em.statistics import Statistics
from fed_em_protocols.process_memory import keep_memory_private

_LENGTH_BYTES = 8
_ROWS, _WEIGHTS, _ADMISSIBLE = "rows", "weights", "admissible"
_SHARDS, _EVALUATE, _STATISTICS, _FAULT = "shards", "evaluate", "statistics", "fault"


def send_frame(stream: BinaryIO, data: bytes) -> None:
    """Write one frame. Raises `OSError` if nobody reads it."""
    stream.write(len(data).to_bytes(_LENGTH_BYTES, "big"))
    stream.write(data)
    stream.flush()


def receive_frame(stream: BinaryIO) -> bytes:
    """Read one frame. Raises `EOFError` if the other side has ended, be it in the middle of one."""
    return _read(stream, int.from_bytes(_read(stream, _LENGTH_BYTES), "big"))


def _read(stream: BinaryIO, n: int) -> bytes:
    data = stream.read(n)
    if len(data) < n:
        raise EOFError
    return data


def shards_frame(shards: Mapping[int, Records]) -> bytes:
    """The frame that has a worker hold these shards."""
    arrays = {f"{number}.{name}": array for number, shard in shards.items() for name, array in _arrays(shard).items()}
    bounds = {str(number): shard.weight_bound for number, shard in shards.items()}
    return tensors.encode(arrays, {"kind": _SHARDS, "weight_bounds": bounds})


def _arrays(records: Records) -> dict[str, Any]:
    arrays = {_ROWS: records.rows, _WEIGHTS: records.weights, _ADMISSIBLE: records.admissible}
    return {name: array for name, array in arrays.items() if array is not None}


def _shards_of(arrays: Mapping[str, Any], bounds: Mapping[str, float]) -> dict[int, Records]:
    shards = {}
    for number, bound in bounds.items():
        admissible = arrays.get(f"{number}.{_ADMISSIBLE}")
        labels = None if admissible is None else admissible.astype(np.bool_)
        rows, weights = arrays[f"{number}.{_ROWS}"], arrays.get(f"{number}.{_WEIGHTS}")
        shards[int(number)] = Records(rows, weights, labels, bound)
    return shards


def evaluate_frame(model: Summand, parameters: Parameters, shards: Sequence[int]) -> bytes:
    """The frame that asks a worker for the statistics of some of its shards."""
    return tensors.encode(parameters, {"kind": _EVALUATE, "model": model.describe(), "shards": list(shards)})


def read_answer(frame: bytes) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The vector of statistics of one shard. Raises `FedEmError` where they could not be computed."""
    arrays, document = tensors.decode(frame, "a worker's answer")
    if document["kind"] == _FAULT:
        raise FedEmError(document["message"], remedy=document["remedy"])
    return arrays[_STATISTICS]


def sum_shard(model: Summand, parameters: Parameters, shard: Records, number: int) -> Statistics:
    """The statistics of one shard, by its number: the same bits in whatever process."""
    bare = shard.weights is None and shard.admissible is None
    model = model.of_part(number) if isinstance(model, Candidates) else model
    return model.e_step(parameters, shard.rows if bare else shard)


@dataclass
class _Worker:
    """What this process holds."""

    shards: dict[int, Records] = field(default_factory=dict)

    def take(self, frame: bytes, answers: BinaryIO) -> None:
        arrays, document = tensors.decode(frame, "the tenant's frame")
        if document["kind"] == _SHARDS:
            self.shards = _shards_of(arrays, document["weight_bounds"])
            return
        model, parameters = build_summand(document["model"]), Parameters(arrays)
        for number in document["shards"]:
            send_frame(answers, answer_of(model, parameters, self.shards[number], number))


def answer_of(model: Summand, parameters: Parameters, shard: Records, number: int) -> bytes:
    """The frame that answers for one shard."""
    try:
        vector = sum_shard(model, parameters, shard, number).vector
    except FedEmError as error:
        return tensors.encode({}, {"kind": _FAULT, "message": error.message, "remedy": error.remedy})
    return tensors.encode({_STATISTICS: vector}, {"kind": _STATISTICS})


def main() -> None:
    """Serve until the input ends."""
    keep_memory_private()  # the tenant's process is as private, and a new program begins without that
    # Whatever prints must not get into the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    worker = _Worker()
    with use_threads(int(sys.argv[1])), contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            worker.take(receive_frame(sys.stdin.buffer), answers)


if __name__ == "__main__":
    main()
