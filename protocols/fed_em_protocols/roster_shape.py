"""How a roster divides its tenants: blocks of the difference guard, and the witnesses of a sparse graph."""

from __future__ import annotations

from collections.abc import Sequence

from fed_em.errors import CallerError
from fed_em_protocols.hashing import digest
from fed_em_protocols.limits import COMPLETE_GRAPH_TENANTS
from fed_em_protocols.terms import default_colluders

# With one tenant in ten missing and the default f, a quorum of so many is there for every size of roster.
_WITNESSES = 80


def default_block_size(n: int) -> int:
    """The smallest admissible block at the default f: f + 2, so that two honest tenants are left in each."""
    return default_colluders(n) + 2


def dealt_blocks(n: int, least: int) -> tuple[int, ...]:
    """A block number for each of n tenants: as many blocks as can have `least` tenants, dealt in turn; at least one block."""
    count = max(1, n // least)
    return tuple(index % count for index in range(n))


def named_blocks(names: Sequence[str], blocks: Sequence[Sequence[str]]) -> tuple[int, ...]:
    """A block number for each tenant, from the blocks' tenants by name.

    Raises:
        CallerError: a tenant is in no block or in two, or a name is unknown.
    """
    found: dict[str, int] = {}
    for number, block in enumerate(blocks):
        for name in block:
            if name not in names:
                raise CallerError(f"block {number + 1} names '{name}', and no card is that tenant's")
            if name in found:
                raise CallerError(f"'{name}' stands in blocks {found[name] + 1} and {number + 1}")
            found[name] = number
    left = [name for name in names if name not in found]
    if left:
        raise CallerError(f"'{left[0]}' is in no block", remedy="name every tenant in one block, or give --block-size")
    return tuple(found[name] for name in names)


def default_witnesses(n: int) -> int:
    """How many witnesses a roster names: everybody on the complete graph, who certify there by rule."""
    return n if n <= COMPLETE_GRAPH_TENANTS else min(_WITNESSES, 2 * n // 3)


def drawn_witnesses(federation: str, names: Sequence[str], count: int) -> frozenset[int]:
    """`count` tenants as the hash of all names orders them, which everybody can repeat: nobody picks the corrupt ones.

    Raises:
        CallerError: there are not so many tenants.
    """
    if not 1 <= count <= len(names):
        raise CallerError(f"{count} witnesses cannot be named among {len(names)} tenants")
    seed = digest("witnesses", federation, *names)
    order = sorted(range(len(names)), key=lambda index: digest("witness", seed, index))
    return frozenset(order[:count])
