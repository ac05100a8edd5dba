"""The mass gate: which components' moments a round may open, from sums of counts that were opened before.

The moments of a component that holds one record are that record. So in a gated session every sum is two: first the counts
of `fed_em.component_counts`, over all tenants; then the moments, without those of the components that this rule holds. With
the summed counts N_k (mass) and S_k (supporting tenants), component k is too small to be opened unless

    N_k ≥ floor   and   S_k ≥ least_tenants,   which is f + 2 for f colluding tenants.

Where cells may be missing, the same is asked of the observed cells of every column c: N_kc ≥ floor and S_kc ≥ least_tenants.

The too small ones are held. So is the smallest of the others, if all that is held together would still be too small, in
its records or in the observed cells of a column: whoever knows the moments of all rows, which the moments that standardise
the columns tell, gets those of the held components together, by subtraction. This is complementary suppression, as of the
cells of published tables (Hundepool et al. 2012, "Statistical Disclosure Control", chapter 4). With two components both are
held or none.

The first sum, of the moments that standardise the columns, stands behind the same rule, as the one component that it is of.
If that is held the session is over: `shortage` says what there is too little of.

What it protects:

* One record that dominates. No responsibility exceeds 1, so no record is more than 1 / floor of an opened moment's
  weight, nor of the weight of what is held. A gated session has no weights: a column of them would let whoever chooses it
  single records out. A bound on the effective number of records would add nothing: that is never below the mass.
* One cell of a column that few records show: no observed cell is more than 1 / floor of the weight of the observed cells
  of its column, in an opened component, in what is held, and in the first sum.
* One tenant that is the whole component, or all of a column in it. Others hold at least `LEAST_ROWS` records, and observed
  cells of each column, each; after the f that collude subtract theirs, two are left.

What it does not protect:

* One block's share of an open component. The counts are over all that are in the sum; two sums over different tenants
  differ by a block's moments, and a block may hold one record of a component that has many. Nor are two sums at nearly
  the same parameters with other components held: differences of moments are differences of records. Only differential
  privacy bounds that.
* One record whose cells are missing in a pattern of its own. Moments of missing cells are expected ones, which move with the
  parameters, and differently for each pattern: many sums at different parameters can be solved for the records behind one.
* One level that few records show: the counts of levels, of yes and of events that are opened with a component, and in the
  first sum, may be 1. A bound on each would hold nearly every component, as a level that is rare in it is what sets it apart.
* One tenant that dominates a component without being all of it: f + 2 tenants support it, with unequal weight.
* The log-likelihood, entropies and counts, which are of all records and never gated. At parameters that a server crafts, counts
  tell how many records are near a point and which cells they show, and differences of log-likelihoods are moments: of a
  held component too.
* Against counts that are not true: a tenant sees the sum of the others' counts and cannot check it.

Server and tenants decide from the same ring integers and must agree in every case. Decoding is one conversion of each
integer to float64, rounded as IEEE 754 says, and an exact division by a power of two; all after it is done here in
fractions, exactly. No order of summation, no fused operation and no library's square enters the decision.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from fed_em.component_counts import MASS, OBSERVED_MASS, OBSERVED_SUPPORTING, SUPPORTING
from fed_em.errors import CallerError
from fed_em.statistics import Statistics
from fed_em_protocols.members import from_bitmap, to_bitmap


def least_supporters(colluders: int, private: bool) -> int:
    """How many tenants must support an opened component: two more than may collude.

    In a private session none are counted: noise that hides a record drowns a number of tenants, and hides what single tenants add.
    """
    return 0 if private else colluders + 2


@dataclass(frozen=True)
class _Presence:
    """How much of something the components hold: of records, or of the observed cells of one column.

    Attributes:
        mass, supporting: Of each component.
    """

    mass: tuple[Fraction, ...]
    supporting: tuple[Fraction, ...]

    def is_small(self, components: Collection[int], floor: Fraction, least_tenants: int) -> bool:
        """Whether components, at least one, seen as one, are too small. Whoever supports one of them supports that one."""
        mass = sum((self.mass[k] for k in components), Fraction(0))
        return mass < floor or max(self.supporting[k] for k in components) < least_tenants


def held_components(counts: Statistics, floor_thousandths: int, least_tenants: int) -> tuple[int, ...]:
    """The components whose moments may not be opened, ascending.

    Args:
        counts: The decoded sum over all tenants of the round, finite, in the layout of `counts_layout`.
        floor_thousandths: The least mass of an opened component, in thousandths of a record (`SessionTerms.mass_floor`);
            at least 1.
        least_tenants: The least number of tenants that support an opened component; 0 where they are not counted.

    Raises:
        CallerError: the floor or the number of tenants is out of its range, or the statistics are not counts.
    """
    floor = _checked_floor(floor_thousandths, least_tenants)
    records, columns = _presences(counts)

    def is_small(components: Collection[int]) -> bool:
        return any(part.is_small(components, floor, least_tenants) for part in (records, *columns))

    held = {k for k in range(len(records.mass)) if is_small((k,))}
    others = [k for k in range(len(records.mass)) if k not in held]
    if held and others and is_small(held):
        held.add(min(others, key=lambda k: (records.mass[k], k)))
    return tuple(sorted(held))


def shortage(counts: Statistics, names: Sequence[str], floor_thousandths: int, least_tenants: int) -> tuple[str, ...]:
    """What there is too little of in all components together, in words: records, or observed cells of columns.

    Args:
        counts: As `held_components`, which also says what is raised.
        names: Of the columns.
        floor_thousandths, least_tenants: As there.
    """
    floor = _checked_floor(floor_thousandths, least_tenants)
    records, columns = _presences(counts)
    everybody = range(len(records.mass))
    if records.is_small(everybody, floor, least_tenants):
        return ("records",)
    return tuple(
        f"observed cells of column '{name}'"
        for name, column in zip(names, columns, strict=bool(columns))
        if column.is_small(everybody, floor, least_tenants)
    )


def _checked_floor(floor_thousandths: int, least_tenants: int) -> Fraction:
    """The floor in records."""
    if floor_thousandths < 1:
        raise CallerError(f"the mass floor must be at least a thousandth of a record, not {floor_thousandths}")
    if least_tenants < 0:
        raise CallerError(f"a component cannot be supported by at least {least_tenants} tenants")
    return Fraction(floor_thousandths, 1000)


def _presences(counts: Statistics) -> tuple[_Presence, list[_Presence]]:
    """Of records, and of the observed cells of each column that may miss some."""
    records = _Presence(_exact(counts[MASS].tolist()), _exact(counts[SUPPORTING].tolist()))
    if OBSERVED_MASS not in counts.layout.offsets:
        return records, []
    of_columns = zip(counts[OBSERVED_MASS].T.tolist(), counts[OBSERVED_SUPPORTING].T.tolist(), strict=True)
    return records, [_Presence(_exact(mass), _exact(supporting)) for mass, supporting in of_columns]


def _exact(values: Iterable[float]) -> tuple[Fraction, ...]:
    return tuple(map(Fraction, values))


def held_to_bitmap(held: Iterable[int], n_components: int) -> bytes:
    """Bit k of byte k // 8 (least significant first) is set if component k is held; ⌈K/8⌉ bytes.

    Raises:
        ValueError: a component is not in `[0, n_components)`.
    """
    try:
        return to_bitmap(held, n_components)
    except ValueError:
        raise ValueError(f"a component that is held is not one of {n_components}") from None


def held_from_bitmap(bitmap: bytes, n_components: int) -> tuple[int, ...]:
    """The inverse of `held_to_bitmap`, ascending.

    Raises:
        ValueError: the bitmap is not ⌈K/8⌉ bytes long or sets a bit beyond K (it would not be canonical).
    """
    try:
        return tuple(sorted(from_bitmap(bitmap, n_components)))
    except ValueError:
        raise ValueError(
            f"a bitmap of {len(bitmap)} bytes does not say which of {n_components} components are held"
        ) from None
