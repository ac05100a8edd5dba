"""The mass gate: the rule by brute force over integers, and the bitmap in which its outcome travels."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fed_em.component_counts import component_counts, counts_layout
from fed_em.errors import CallerError
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.parameters import Parameters
from fed_em.statistics import Statistics
from fed_em_protocols.description import SessionDescription, require_gateable
from fed_em_protocols.encoding import Encoding
from fed_em_protocols.mass_gate import held_components, held_from_bitmap, held_to_bitmap, least_supporters, shortage


def counts_of(mass: list[float], supporting: list[float]) -> Statistics:
    layout = counts_layout(GaussianMixtureModel(len(mass), 1))
    parts = {"count": 1000.0, "mass": mass, "supporting": supporting}
    return Statistics.of(layout, {name: np.array(part) for name, part in parts.items()})


component = st.tuples(st.floats(0, 100), st.integers(0, 8))
some_components = st.lists(component, min_size=1, max_size=9)
floors = st.integers(1, 50_000)

# For each component pairs of mass and supporting tenants: of its records first, then of the observed cells of each column.
Counted = list[list[tuple[float, int]]]


@st.composite
def of_observed_cells(draw: st.DrawFn) -> Counted:
    k, columns = draw(st.integers(1, 6)), draw(st.integers(1, 3))
    return draw(st.lists(st.lists(component, min_size=1 + columns, max_size=1 + columns), min_size=k, max_size=k))


def unzipped(components: list[tuple[float, int]]) -> Statistics:
    mass, supporting = (list(column) for column in zip(*components, strict=True))
    return counts_of(mass, [float(s) for s in supporting])


def with_columns(parts: Counted) -> Statistics:
    """Counts of a model whose columns may miss cells, from mass and supporters of each component: of records, then of each column."""
    mass, supporting = (np.array([[pair[side] for pair in one] for one in parts], dtype=float) for side in (0, 1))
    layout = counts_layout(GaussianMixtureModel(len(parts), mass.shape[1] - 1, missing=True))
    named = {"count": 1000.0, "mass": mass[:, 0], "supporting": supporting[:, 0]}
    named |= {"observed_mass": mass[:, 1:], "observed_supporting": supporting[:, 1:]}
    return Statistics.of(layout, named)


def is_small(mass: Fraction, supporting: Fraction, floor: int, least: int) -> bool:
    return 1000 * mass < floor or supporting < least


def expected_of_columns(parts: list[list[tuple[Fraction, Fraction]]], floor: int, least: int) -> tuple[int, ...]:
    """The rule as it is stated, of records and of the observed cells of each column."""

    def small(some: set[int]) -> bool:
        return any(
            is_small(sum((parts[k][c][0] for k in some), Fraction(0)), max(parts[k][c][1] for k in some), floor, least)
            for c in range(len(parts[0]))
        )

    held = {k for k in range(len(parts)) if small({k})}
    others = set(range(len(parts))) - held
    if held and others and small(held):
        held.add(min(others, key=lambda k: (parts[k][0][0], k)))
    return tuple(sorted(held))


def exactly(parts: Counted) -> list[list[tuple[Fraction, Fraction]]]:
    return [[(Fraction(mass), Fraction(supporting)) for mass, supporting in one] for one in parts]


@given(of_observed_cells(), floors, st.integers(1, 6))
def test_the_rule_over_columns_by_brute_force(parts: Counted, floor: int, least: int) -> None:
    held = held_components(with_columns(parts), floor, least)
    assert held == expected_of_columns(exactly(parts), floor, least)
    if held and len(held) < len(parts):
        # What is held passes as one component, in each column.
        for c in range(len(parts[0])):
            mass = sum((Fraction(parts[k][c][0]) for k in held), Fraction(0))
            assert not is_small(mass, Fraction(max(parts[k][c][1] for k in held)), floor, least)


@given(some_components, floors, st.integers(1, 6), st.integers(1, 3))
def test_without_a_missing_cell_columns_change_nothing(
    components: list[tuple[float, int]], floor: int, least: int, columns: int
) -> None:
    everywhere = [[one] * (1 + columns) for one in components]
    plain = held_components(unzipped(components), floor, least)
    assert held_components(with_columns(everywhere), floor, least) == plain


@given(of_observed_cells(), floors, st.integers(1, 6))
def test_a_shortage_is_told_where_one_component_is_held(parts: Counted, floor: int, least: int) -> None:
    one, names = parts[:1], [f"c{d}" for d in range(len(parts[0]) - 1)]
    told = shortage(with_columns(one), names, floor, least)
    short = [is_small(mass, supporting, floor, least) for mass, supporting in exactly(one)[0]]
    of_columns = tuple(
        f"observed cells of column '{name}'" for name, lacks in zip(names, short[1:], strict=True) if lacks
    )
    assert told == (("records",) if short[0] else of_columns)
    assert bool(told) == (held_components(with_columns(one), floor, least) == (0,))


def expected_of(components: list[tuple[Fraction, Fraction]], floor: int, least: int) -> tuple[int, ...]:
    """The rule as it is stated."""
    held = {k for k, (mass, supporting) in enumerate(components) if is_small(mass, supporting, floor, least)}
    others = set(range(len(components))) - held
    if held and others:
        together = sum((components[k][0] for k in held), Fraction(0)), max(components[k][1] for k in held)
        if is_small(*together, floor, least):
            held.add(min(others, key=lambda k: (components[k][0], k)))
    return tuple(sorted(held))


@given(some_components, floors, st.integers(1, 6))
def test_the_rule_by_brute_force(components: list[tuple[float, int]], floor: int, least: int) -> None:
    exact = [(Fraction(mass), Fraction(supporting)) for mass, supporting in components]
    assert held_components(unzipped(components), floor, least) == expected_of(exact, floor, least)


@given(st.data())
@settings(max_examples=60)
def test_the_decision_is_that_of_the_ring_integers(data: st.DataObject) -> None:
    """Tenants encode, the ring adds, both sides decode: held is what whole-number arithmetic on the sum says."""
    k = data.draw(st.integers(1, 5))
    row_caps = data.draw(st.lists(st.integers(5, 40), min_size=3, max_size=6))
    floor, least = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 5))
    layout = counts_layout(GaussianMixtureModel(k, 1))
    encoding = Encoding.proved(layout, row_caps)
    total = np.zeros(encoding.length, dtype=np.uint64)
    for tenant, cap in enumerate(row_caps):
        # Quarters of a record hit the floor often; a third never does.
        unit = data.draw(st.sampled_from([0.25, 1 / 3]))
        mass = unit * np.array(data.draw(st.lists(st.integers(0, cap), min_size=k, max_size=k)), dtype=np.float64)
        supporting = np.array(data.draw(st.lists(st.sampled_from([0.0, 1.0]), min_size=k, max_size=k)))
        parts = {"count": float(cap), "mass": mass, "supporting": supporting}
        total = total + encoding.encode(Statistics.of(layout, parts), tenant)
    words = [int(word) for word in total.view(np.int64)]
    assert max(words) < 2**63 and min(words) >= 0
    exact = [Fraction(float(word)) / 2 ** encoding.bits[1] for word in words]
    expected = expected_of(list(zip(exact[1 : 1 + k], exact[1 + k : 1 + 2 * k], strict=True)), 1000 * floor, least)
    server, tenant = (held_components(encoding.decode(total.copy()), 1000 * floor, least) for _ in range(2))
    assert server == tenant == expected


@given(st.data())
@settings(max_examples=40)
def test_over_columns_both_sides_decide_from_the_ring_integers(data: st.DataObject) -> None:
    """Small ring or large: rows are counted, encoded, added and decoded; server and tenant hold what the exact sum says."""
    row_caps = data.draw(st.sampled_from([[40] * 4, [10_000_000] * 4]))
    floor, least = data.draw(st.integers(1, 30_000)), data.draw(st.integers(1, 5))
    model = GaussianMixtureModel(2, 2, missing=True)
    at = Parameters({"weights": [0.5, 0.5], "means": [[-9.0, -9.0], [9.0, 9.0]], "covariances": [np.eye(2)] * 2})
    encoding = Encoding.of_counts(counts_layout(model), row_caps)
    total = encoding.ring.zeros(encoding.length)
    for tenant in range(4):
        cells = st.sampled_from([(-9.0, -9.0), (-9.0, np.nan), (9.0, 9.0), (np.nan, 9.0), (np.nan, np.nan)])
        rows = np.array(data.draw(st.lists(cells, max_size=20))).reshape(-1, 2)
        total = total + encoding.encode(component_counts(model, at, rows, encoding.layout), tenant)
    words = [Fraction(float(word)) for word in total.view(encoding.ring.signed)[: encoding.layout.size].tolist()]
    scale = np.repeat(encoding.bits, [block.size for block in encoding.layout]).tolist()
    exact = [word / 2**f for word, f in zip(words, scale, strict=True)]
    mass, supporting, observed, observers = exact[1:3], exact[3:5], exact[5:9], exact[9:13]
    parts = [
        [(mass[k], supporting[k]), *zip(observed[2 * k : 2 * k + 2], observers[2 * k : 2 * k + 2], strict=True)]
        for k in range(2)
    ]
    server, tenant_s = (held_components(encoding.decode(total.copy()), floor, least) for _ in range(2))
    assert server == tenant_s == expected_of_columns(parts, floor, least)


@pytest.mark.parametrize(
    ("mass", "supporting", "held"),
    [
        (10.0, 3, False),
        (math.nextafter(10.0, 0), 3, True),
        (10.0, 2, True),
        (1e9, 2, True),
        (0.0, 0, True),
        (0.0, 9, True),
        (-(2.0**-40), 3, True),
    ],
)
def test_edges(mass: float, supporting: float, held: bool) -> None:
    """One component: at the floor it is open, one unit in the last place below it is held."""
    assert held_components(counts_of([mass], [supporting]), 10_000, 3) == ((0,) if held else ())


def test_a_floor_of_thousandths_is_exact() -> None:
    """The float64 next to a tenth is above it, and the one before that is below."""
    assert held_components(counts_of([0.1], [3.0]), 100, 3) == ()
    assert held_components(counts_of([math.nextafter(0.1, 0)], [3.0]), 100, 3) == (0,)


def test_none_and_all() -> None:
    counts = counts_of([50.0, 60.0, 70.0], [5.0, 4.0, 4.0])
    assert held_components(counts, 10_000, 3) == ()
    assert held_components(counts, 80_000, 3) == (0, 1, 2)
    assert held_components(counts, 10_000, 6) == (0, 1, 2)


class TestOfRows:
    """Components of far-apart groups, so that responsibilities are 0 or 1 and counts are numbers of rows."""

    model = GaussianMixtureModel(4, 1)
    centres = (-50.0, 0.0, 50.0, 100.0)
    at = Parameters(
        {"weights": [0.25] * 4, "means": [[c] for c in centres], "covariances": [[[1.0]]] * 4},
    )

    def counts(self, *tenants: tuple[int, int, int, int]) -> Statistics:
        """The sum over tenants with so many rows in each component."""
        total = Statistics.zero(counts_layout(self.model))
        for rows_of_each in tenants:
            rows = np.repeat(self.centres, rows_of_each)[:, np.newaxis]
            total = total + component_counts(self.model, self.at, rows)
        return total

    def test_a_component_of_one_record_is_held_with_the_smallest_other(self) -> None:
        counts = self.counts((30, 25, 20, 1), (30, 25, 20, 0), (30, 25, 20, 0))
        assert held_components(counts, 10_000, 3) == (2, 3)

    def test_a_component_that_is_all_of_one_tenant_is_held(self) -> None:
        assert held_components(self.counts((20, 21, 22, 900), (20, 21, 22, 0), (20, 21, 22, 0)), 10_000, 3) == (0, 3)
        assert held_components(self.counts((20, 21, 22, 900), (20, 21, 22, 4), (20, 21, 22, 4)), 10_000, 3) == (0, 3)
        assert held_components(self.counts((20, 21, 22, 900), (20, 21, 22, 5), (20, 21, 22, 5)), 10_000, 3) == ()

    def test_small_ones_of_different_tenants_are_no_support_for_each_other(self) -> None:
        counts = self.counts((20, 21, 8, 0), (20, 21, 0, 8), (20, 21, 0, 0))
        assert held_components(counts, 10_000, 3) == (0, 2, 3)

    def test_rows_of_small_responsibility_count_by_their_weight(self) -> None:
        """Two equal components at one place: every row has ½ in each, and nobody is alone in either."""
        model = GaussianMixtureModel(2, 1)
        at = Parameters({"weights": [0.5, 0.5], "means": [[0.0], [0.0]], "covariances": [[[1.0]], [[1.0]]]})
        counts = Statistics.zero(counts_layout(model))
        for _ in range(3):
            counts = counts + component_counts(model, at, np.linspace(-1, 1, 11)[:, np.newaxis])
        assert held_components(counts, 10_000, 3) == ()


class TestOfObservedCells:
    """Three tenants with 100 rows each in two far-apart groups; of the second column few cells are seen."""

    model = GaussianMixtureModel(3, 2, missing=True)
    centres = np.array([[-50.0, 0.0], [0.0, 0.0], [50.0, 0.0]])
    at = Parameters({"weights": [1 / 3] * 3, "means": centres, "covariances": [np.eye(2)] * 3})

    def counts(self, *seen: tuple[int, int, int]) -> Statistics:
        """The sum over tenants with 40 rows in each component that show so many cells of the second column."""
        total = Statistics.zero(counts_layout(self.model))
        for of_each in seen:
            rows = np.repeat(self.centres, 40, axis=0)
            for k, shown in enumerate(of_each):
                rows[40 * k + shown : 40 * (k + 1), 1] = np.nan
            total = total + component_counts(self.model, self.at, rows)
        return total

    def test_one_cell_holds_a_component_of_a_hundred_rows_and_the_smallest_other_with_it(self) -> None:
        assert held_components(self.counts((40, 40, 1), (40, 40, 0), (40, 40, 0)), 10_000, 3) == (0, 2)

    def test_cells_of_one_tenant_alone_hold_it_too(self) -> None:
        assert held_components(self.counts((40, 40, 40), (40, 40, 4), (40, 40, 4)), 10_000, 3) == (0, 2)

    def test_enough_cells_open_it(self) -> None:
        assert held_components(self.counts((40, 40, 5), (40, 40, 5), (40, 40, 5)), 10_000, 3) == ()

    def test_held_ones_that_hide_each_others_cells_need_no_third(self) -> None:
        assert held_components(self.counts((4, 40, 5), (4, 40, 5), (4, 40, 2)), 12_500, 2) == (0, 2)

    def test_what_the_gate_of_records_alone_opened(self) -> None:
        """The first moment of the column: ninety-nine expected cells that are 0, and the one that is shown."""
        rows = np.repeat(self.centres[2:], 100, axis=0)
        rows[1:, 1] = np.nan
        rows[0, 1] = 0.375
        assert self.model.e_step(self.at, rows)["first"][2, 1] == pytest.approx(0.375, rel=1e-9)


class TestComplement:
    def test_one_small_component_takes_the_smallest_open_one_with_it(self) -> None:
        assert held_components(counts_of([40.0, 1.0, 30.0, 90.0], [5.0, 1.0, 5.0, 5.0]), 10_000, 3) == (1, 2)

    def test_of_equal_ones_the_first(self) -> None:
        assert held_components(counts_of([40.0, 30.0, 1.0, 30.0], [5.0, 5.0, 1.0, 5.0]), 10_000, 3) == (1, 2)

    def test_held_components_that_hide_each_other_need_none(self) -> None:
        assert held_components(counts_of([40.0, 6.0, 6.0, 90.0], [5.0, 3.0, 0.0, 5.0]), 10_000, 3) == (1, 2)
        assert held_components(counts_of([40.0, 500.0, 6.0, 90.0], [5.0, 2.0, 3.0, 5.0]), 10_000, 3) == (1, 2)

    def test_many_records_of_too_few_tenants_need_one(self) -> None:
        assert held_components(counts_of([40.0, 500.0, 90.0], [5.0, 1.0, 5.0]), 10_000, 3) == (0, 1)

    def test_two_components_are_both_held_or_none(self) -> None:
        assert held_components(counts_of([400.0, 1.0], [5.0, 0.0]), 10_000, 3) == (0, 1)
        assert held_components(counts_of([400.0, 10.0], [5.0, 3.0]), 10_000, 3) == ()
        assert held_components(counts_of([9.0, 1.0], [5.0, 0.0]), 10_000, 3) == (0, 1)

    @given(some_components, floors, st.integers(1, 6))
    def test_what_is_held_passes_as_one_component_or_nothing_is_opened(
        self, components: list[tuple[float, int]], floor: int, least: int
    ) -> None:
        held = held_components(unzipped(components), floor, least)
        if held and len(held) < len(components):
            # The worst that is possible: no other tenant supports them together.
            mass = sum((Fraction(components[k][0]) for k in held), Fraction(0))
            assert not is_small(mass, Fraction(max(components[k][1] for k in held)), floor, least)

    def test_the_subtraction_that_it_stops(self) -> None:
        """Moments of all rows − moments of the open components: the record of the held one, to the last digits."""
        rows = np.concatenate((np.random.default_rng(0).normal(size=(60, 1)), [[37.125]]))
        model = GaussianMixtureModel(2, 1)
        at = Parameters({"weights": [0.9, 0.1], "means": [[0.0], [37.0]], "covariances": [[[1.0]], [[1.0]]]})
        statistics = model.e_step(at, rows)
        np.testing.assert_allclose(rows.sum() - statistics["first"][0], 37.125, rtol=1e-12)


def test_weights_and_a_mass_floor_do_not_go_together() -> None:
    columns = ({"name": "a", "low": 0, "high": 1},)
    plain = {"title": "t", "columns": columns, "model": {"family": "gaussian-mixture", "n_components": 2}}
    weighted = SessionDescription.model_validate({**plain, "weights": {"column": "hiv", "upper": 1}})
    require_gateable(weighted, 0)
    require_gateable(SessionDescription.model_validate(plain), 1)
    with pytest.raises(CallerError, match=r"weights \(column 'hiv'\) and a mass floor"):
        require_gateable(weighted, 1)


class TestRule:
    counts = counts_of([50.0], [5.0])

    @pytest.mark.parametrize("floor", [0, -1])
    def test_a_floor_is_positive(self, floor: int) -> None:
        with pytest.raises(CallerError, match="mass floor"):
            held_components(self.counts, floor, 3)

    def test_no_fewer_than_nobody_supports_a_component(self) -> None:
        with pytest.raises(CallerError, match="at least -1 tenants"):
            held_components(self.counts, 1000, -1)

    def test_where_supporters_are_not_counted_mass_alone_decides(self) -> None:
        uncounted = counts_of([400.0, 60.0, 1.0], [0.0, 0.0, 0.0])
        assert held_components(uncounted, 10_000, 3) == (0, 1, 2)
        assert held_components(uncounted, 10_000, least_supporters(3, True)) == (1, 2)
        assert least_supporters(3, False) == 5

    def test_other_statistics_are_refused(self) -> None:
        with pytest.raises(CallerError, match="'mass'"):
            held_components(Statistics.zero(GaussianMixtureModel(2, 1).layout()), 1000, 3)


class TestBitmap:
    @given(st.data())
    def test_round_trip(self, data: st.DataObject) -> None:
        k = data.draw(st.integers(1, 70))
        held = tuple(sorted(data.draw(st.frozensets(st.integers(0, k - 1)))))
        bitmap = held_to_bitmap(held, k)
        assert len(bitmap) == -(-k // 8)
        assert held_from_bitmap(bitmap, k) == held

    def test_the_least_significant_bit_comes_first(self) -> None:
        assert held_to_bitmap((0, 9), 10) == b"\x01\x02"

    @pytest.mark.parametrize("bitmap", [b"", b"\x01\x00", b"\x08"])
    def test_what_is_not_canonical_is_refused(self, bitmap: bytes) -> None:
        with pytest.raises(ValueError, match="3 components"):
            held_from_bitmap(bitmap, 3)

    @pytest.mark.parametrize("component", [-1, 3])
    def test_strangers_are_refused(self, component: int) -> None:
        with pytest.raises(ValueError, match="one of 3"):
            held_to_bitmap((component,), 3)
