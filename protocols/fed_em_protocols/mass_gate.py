"""The mass gate: which components' moments a round may open, from sums of counts that were opened before.

The moments of a component that holds one record are that record. So a gated round is two sums: first the counts of
`fed_em.component_counts`, over all tenants; then the moments, without those of the components that this rule holds. With
the summed counts N_k (mass) and S_k (supporting tenants), component k is too small to be opened unless

    N_k ≥ floor   and   S_k ≥ least_tenants,   which is f + 2 for f colluding tenants.

The too small ones are held. So is the smallest of the others, if all that is held together would still be too small:
whoever knows the moments of all rows, which the moments that standardise the columns tell, gets those of the held
components together, by subtraction. This is complementary suppression, as of the cells of published tables (Hundepool et
al. 2012, "Statistical Disclosure Control", chapter 4). With two components both are held or none.

What it protects:

* One record that dominates. No responsibility exceeds 1, so no record is more than 1 / floor of an opened moment's
  weight, nor of the weight of what is held. Records with weights count as shares of the largest one declared. A bound on the
  effective number of records would add nothing: that is never below the mass.
* One tenant that is the whole component. Others hold at least `LEAST_ROWS` records each; after the f that collude
  subtract theirs, two are left.

What it does not protect:

* One block's share of an open component. The counts are over all that are in the sum; two sums over different tenants
  differ by a block's moments, and a block may hold one record of a component that has many. Nor are two sums at nearly
  the same parameters with other components held: differences of moments are differences of records. Only differential
  privacy bounds that.
* One tenant that dominates a component without being all of it: f + 2 tenants support it, with unequal weight.
* One cell of a column that few records show: mass counts records and not their observed cells, and what is summed of a
  discrete column is of observed cells only.
* The first sum and the log-likelihood, which are of all records and never gated. With weights they are of the records of
  positive weight, which can be one: a tenant that does not pin the description lets the server choose the column.
* Against counts that are not true: a tenant sees the sum of the others' counts and cannot check it.

Server and tenants decide from the same ring integers and must agree in every case. Decoding is one conversion of each
integer to float64, rounded as IEEE 754 says, and an exact division by a power of two; all after it is done here in
fractions, exactly. No order of summation, no fused operation and no library's square enters the decision.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from fractions import Fraction

from fed_em.component_counts import MASS, SUPPORTING
from fed_em.errors import CallerError
from fed_em.statistics import Statistics
from fed_em_protocols.members import from_bitmap, to_bitmap


def held_components(counts: Statistics, floor_thousandths: int, least_tenants: int) -> tuple[int, ...]:
    """The components whose moments may not be opened, ascending.

    Args:
        counts: The decoded sum over all tenants of the round, finite, in the layout of `counts_layout`.
        floor_thousandths: The least mass of an opened component, in thousandths of a record (`SessionTerms.mass_floor`);
            at least 1.
        least_tenants: The least number of tenants that support an opened component; at least 1.

    Raises:
        CallerError: the floor or the number of tenants is out of its range, or the statistics are not counts.
    """
    if floor_thousandths < 1:
        raise CallerError(f"the mass floor must be at least a thousandth of a record, not {floor_thousandths}")
    if least_tenants < 1:
        raise CallerError(f"a component must be supported by at least 1 tenant, not {least_tenants}")
    floor = Fraction(floor_thousandths, 1000)
    mass, supporting = _exact(counts, MASS), _exact(counts, SUPPORTING)
    held = {k for k in range(len(mass)) if mass[k] < floor or supporting[k] < least_tenants}
    others = [k for k in range(len(mass)) if k not in held]
    if held and others and _too_small_together(held, mass, supporting, floor, least_tenants):
        held.add(min(others, key=lambda k: (mass[k], k)))
    return tuple(sorted(held))


def _too_small_together(
    held: Collection[int], mass: list[Fraction], supporting: list[Fraction], floor: Fraction, least_tenants: int
) -> bool:
    """Whether held components, seen as one, would be too small. Whoever supports one of them supports that one."""
    return sum(mass[k] for k in held) < floor or max(supporting[k] for k in held) < least_tenants


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


def _exact(counts: Statistics, name: str) -> list[Fraction]:
    return [Fraction(value) for value in counts[name].tolist()]
