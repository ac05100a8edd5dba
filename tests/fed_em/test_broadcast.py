"""What a coordinator sends: the same bits on the other side, or an error that says what is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fed_em.broadcast import Broadcast
from fed_em.coordinates import Coordinates
from fed_em.covariance import COVARIANCE_STRUCTURES, CovarianceStructure
from fed_em.errors import CallerError
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.initialisation import standard_gaussian, start_from_moments
from fed_em.priors import GaussianMixturePrior
from fed_em.tensors import encode

PRIOR = GaussianMixturePrior.weakly_informative(3, [0.1] * 4, [1.0] * 4)


def broadcast(structure: CovarianceStructure = "full", seed: int = 0) -> Broadcast:
    model = GaussianMixtureModel(3, 4, structure, prior=PRIOR)
    location, scale = np.random.default_rng(seed).uniform(0.1, 9.0, size=(2, 4))
    return Broadcast(model, Coordinates(location, scale), start_from_moments(model, standard_gaussian(4), seed))


GOOD = broadcast().to_bytes()


@pytest.mark.parametrize("structure", COVARIANCE_STRUCTURES)
def test_a_round_trip_keeps_every_bit(structure: CovarianceStructure) -> None:
    sent = broadcast(structure, seed=3)
    received = Broadcast.from_bytes(sent.to_bytes())
    assert received.model == sent.model
    assert received.coordinates == sent.coordinates
    assert set(received.parameters) == set(sent.parameters)
    for name, array in sent.parameters.items():
        assert received.parameters[name].tobytes() == array.tobytes()
        assert received.parameters[name].shape == array.shape
    assert received.to_bytes() == sent.to_bytes()


def test_equal_contents_give_equal_bytes() -> None:
    assert broadcast().to_bytes() == GOOD
    assert broadcast(seed=1).to_bytes() != GOOD


def test_the_order_of_keys_does_not_matter() -> None:
    arrays = {"x": np.zeros(1)}
    assert encode(arrays, {"a": 1, "b": {"c": 2, "d": 3}}) == encode(arrays, {"b": {"d": 3, "c": 2}, "a": 1})


def tampered(
    change: Callable[[dict[str, NDArray[Any]]], object] = lambda _: None,
    metadata: dict[str, str] | None = None,
    **document: object,
) -> bytes:
    """A broadcast with changed arrays, fields of the document, or metadata."""
    good = broadcast()
    arrays = safetensors.numpy.load(GOOD)
    change(arrays)
    fields = {"format": 1, "model": good.model.describe(), **document}
    return safetensors.numpy.save(arrays, metadata=metadata or {"fed_em": json.dumps(fields)})


def test_the_untampered_case_is_accepted() -> None:
    assert Broadcast.from_bytes(tampered()).to_bytes() == GOOD


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"", "safetensors"),
        (b"\x00" * 7, "safetensors"),
        (b"\xff" * 64, "safetensors"),
        (GOOD[:-1], "safetensors"),
        (GOOD + b"\x00", "safetensors"),
        (tampered(lambda a: a.pop("parameters.means")), "means"),
        (tampered(lambda a: a.pop("coordinates.scale")), "coordinates.scale"),
        (tampered(lambda a: a.update({"parameters.mean": np.zeros(3)})), "'mean'"),
        (tampered(lambda a: a.update({"extra": np.zeros(3)})), "extra"),
        (tampered(lambda a: a.update({"parameters.weights": np.full((1, 3), 1 / 3)})), "weights"),
        (tampered(lambda a: a.update({"parameters.weights": np.full(3, 1 / 3, np.float32)})), "F32"),
        (tampered(lambda a: a.update({"parameters.weights": np.array([1, 0, 0])})), "I64"),
        (tampered(lambda a: a.update({"parameters.weights": np.ones(3)})), "weights"),
        (tampered(lambda a: a.update({"parameters.means": np.full((3, 4), np.nan)})), "means.*not finite"),
        (tampered(lambda a: a.update({"parameters.covariances": np.zeros((3, 4, 4))})), "component 0"),
        (tampered(lambda a: a.update({"coordinates.scale": np.zeros(4)})), "scale of column 0"),
        (tampered(lambda a: a.update({"coordinates.scale": np.ones(5)})), "shapes"),
        (
            tampered(lambda a: a.update({"coordinates.scale": np.ones(5), "coordinates.location": np.ones(5)})),
            "4 columns",
        ),
        (tampered(format=2), "format 2"),
        (tampered(format=True), "format True"),
        (tampered(format="1"), "format '1'"),
        (tampered(model=None), "mapping"),
        (tampered(model={"family": "gaussian"}), "gaussian"),
        (tampered(note="x"), "note"),
        (tampered(metadata={"other": "{}"}), "metadata"),
        (tampered(metadata={"fed_em": "{}", "other": "{}"}), "metadata"),
        (tampered(metadata={"fed_em": "{}"}), "lacks 'format'"),
        (tampered(metadata={"fed_em": "[]"}), "mapping"),
        (tampered(metadata={"fed_em": "{"}), "JSON"),
        (tampered(metadata={"fed_em": '{"format":1,"format":1}'}), "JSON"),
        (tampered(metadata={"fed_em": '{"format":NaN}'}), "JSON"),
        (tampered(metadata={"fed_em": "[" * 100_000}), "JSON"),
        (tampered(metadata={"fed_em": "1" * 10_000}), "JSON"),
    ],
    # The order of metadata is another in each process, and every process must name a test alike.
    ids=lambda given: given if isinstance(given, str) else "",
)
def test_what_is_wrong_is_named(data: bytes, named: str) -> None:
    with pytest.raises(CallerError, match=named):
        Broadcast.from_bytes(data)


@given(st.binary(max_size=300))
def test_garbage_is_a_caller_error(data: bytes) -> None:
    with pytest.raises(CallerError):
        Broadcast.from_bytes(data)


@given(st.integers(0, len(GOOD) - 1))
def test_truncated_bytes_are_a_caller_error(length: int) -> None:
    with pytest.raises(CallerError):
        Broadcast.from_bytes(GOOD[:length])


@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=4))
@settings(max_examples=400)
def test_changed_bytes_give_a_valid_broadcast_or_a_caller_error(changes: list[tuple[int, int]]) -> None:
    data = bytearray(GOOD)
    for position, value in changes:
        data[position] = value
    try:
        received = Broadcast.from_bytes(bytes(data))
    except CallerError:
        return
    received.model.validate(received.parameters)
    assert np.isfinite(received.coordinates.location).all()


@given(header=st.text(max_size=60), size=st.integers(0, 2**64 - 1) | st.integers(0, 80))
def test_any_header_is_a_caller_error(header: str, size: int) -> None:
    with pytest.raises(CallerError):
        Broadcast.from_bytes(size.to_bytes(8, "little") + header.encode("utf-8"))


@pytest.mark.parametrize("shape", [[0, 2**63], [2**62, 0, 2**62], [0] + [1] * 70])
def test_a_shape_that_no_array_can_have_is_the_senders_fault(shape: list[int]) -> None:
    """An empty tensor may claim any dimensions: the bytes fit, numpy's limits do not."""
    header = {"__metadata__": {}, "parameters.means": {"dtype": "F64", "shape": shape, "data_offsets": [0, 0]}}
    text = json.dumps(header).encode()
    with pytest.raises(CallerError):
        Broadcast.from_bytes(len(text).to_bytes(8, "little") + text)
