"""What a tenant gives for standard errors, and what it refuses to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fed_em.broadcast import Broadcast
from fed_em.coordinates import Coordinates
from fed_em.errors import CallerError
from fed_em.imputed_reach import records_beyond_reach
from fed_em.initialisation import moments_model, standard_gaussian
from fed_em.missing_gaussian import reach_of
from fed_em.model import Rows
from fed_em.parameters import Parameters
from fed_em.records import Records
from fed_em.statistic_products import StatisticProducts
from fed_em_client.rows_work import RowsWork
from fed_em_protocols.description import SessionDescription, encoding_of
from fed_em_protocols.messages import Mode
from tests.parties.forest import Parties
from tests.parties.test_rows_work import BEECH, Bench


def with_errors(description: SessionDescription) -> SessionDescription:
    return SessionDescription.model_validate({**description.model_dump(exclude_none=True), "standard_errors": True})


class ProductsBench(Bench):
    """A tenant's work in a session with standard errors."""

    def products(self, seed: int = 0) -> Broadcast:
        """A request's parameters of the session's products."""
        products = self.description.products_of(self.description.fitted_model)
        assert products is not None
        return Broadcast(products, self.coordinates, self.start(seed))


@pytest.fixture
def bench(parties: Parties, description: SessionDescription, rows: Rows, tmp_path: Path) -> ProductsBench:
    return ProductsBench(parties, with_errors(description), rows, tmp_path / "rows.npy")


def test_the_products_of_its_rows_are_given_at_one_point_however_often(bench: ProductsBench) -> None:
    work, asked = bench.prepared(), bench.products()
    work.evaluate(bench.request(bench.broadcast()))
    given = work.evaluate(bench.request(asked, 2))
    encoding = encoding_of(bench.description, asked, bench.parties.roster.row_caps)
    z = bench.coordinates.apply(bench.rows)
    expected = asked.model.e_step(asked.parameters, z, encoding.layout)
    assert np.array_equal(given, encoding.encode(expected, BEECH))
    assert np.array_equal(given, work.evaluate(bench.request(asked, 3)))
    with pytest.raises(CallerError, match="a second point"):
        work.evaluate(bench.request(bench.products(seed=1), 4))
    # Nor after the model again.
    work.evaluate(bench.request(bench.broadcast(seed=1), 5))
    with pytest.raises(CallerError, match="a second point"):
        work.evaluate(bench.request(bench.products(seed=1), 6))


def test_no_increments_and_no_other_coordinates(bench: ProductsBench) -> None:
    work, asked = bench.prepared(), bench.products()
    work.evaluate(bench.request(bench.broadcast()))
    with pytest.raises(CallerError, match="an increment of what standard errors"):
        work.evaluate(replace(bench.request(asked, 2), mode=Mode.INCREMENT))
    moved = replace(asked, coordinates=Coordinates(bench.coordinates.location + 1, bench.coordinates.scale))
    with pytest.raises(CallerError, match="changed the coordinates"):
        work.evaluate(bench.request(moved, 3))


def test_nothing_of_the_kind_in_a_session_that_does_not_say_so(
    bench: ProductsBench, description: SessionDescription
) -> None:
    asked = bench.products()
    bench.description = description
    with pytest.raises(CallerError, match="is not about"):
        bench.prepared().evaluate(bench.request(asked))


def test_nor_of_another_model(bench: ProductsBench) -> None:
    other = Broadcast(StatisticProducts(moments_model(2)), bench.coordinates, standard_gaussian(2))
    with pytest.raises(CallerError, match="is not about"):
        bench.prepared().evaluate(bench.request(other))


def test_a_session_without_them_is_described_as_before(description: SessionDescription) -> None:
    assert b"standard_errors" not in description.to_json()
    described = with_errors(description)
    assert SessionDescription.from_json(described.to_json()) == described
    assert b'"standard_errors":true' in described.to_json()


def test_a_tenant_stays_out_of_a_session_with_errors_and_a_gate(bench: ProductsBench) -> None:
    work = RowsWork(bench.data, {}, bench.parties.roster, BEECH)
    with pytest.raises(CallerError, match="standard errors and a mass floor"):
        work.prepare(bench.description.to_json(), 5000)


def test_missing_cells_are_within_reach_whatever_a_record_weighs(incomplete: SessionDescription) -> None:
    """A product of a light record is beyond its bound where the record's moments, which its weight scales, are not."""
    description = with_errors(incomplete)
    products = description.products_of(description.fitted_model)
    assert products is not None
    reach, light = reach_of(1.0), 1e-3
    parameters = Parameters(
        {
            "weights": np.full(2, 0.5),
            "means": np.array([[0.0, 2.0 * reach], [0.0, 2.0 * reach]]),
            "covariances": np.tile(np.eye(2), (2, 1, 1)),
        }
    )
    records, bounds = Records(np.array([[0.0, np.nan]]), np.array([light])), np.ones(2)
    of_mixture = products.model.layout(bounds)
    assert not records_beyond_reach(products.model, parameters, records, bounds, of_mixture).any()
    assert records_beyond_reach(products, parameters, records, bounds, products.layout(bounds)).tolist() == [0, 1]
    # And it is: a product of r x̂² with itself, r = 1/2 and x̂ = 2R, weighs more than w_max R⁴ as soon as w > 1/4.
    heavy = replace(records, weights=np.array([0.5]))
    assert not records_beyond_reach(
        products.model, parameters, replace(heavy, weights=np.array([0.4])), bounds, of_mixture
    ).any()
    statistics = products.e_step(parameters, heavy, products.layout(bounds))
    beyond = [block.name for block in statistics.layout if (np.abs(statistics[block.name]) > block.bound).any()]
    assert "products.4.0.0" in beyond
