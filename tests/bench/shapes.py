"""Federations of tests with the terms that measurements compare."""

from __future__ import annotations

from dataclasses import dataclass

from fed_em_protocols.graph_parameters import GraphParameters, malicious_server_parameters
from fed_em_protocols.roster import Roster
from fed_em_protocols.terms import SessionTerms, Trust, certificate_quorum_of
from tests.bench.drive import ROUND_CAP
from tests.protocols.federation import roster_of, terms_of

COMPLETE = "complete"


@dataclass(frozen=True)
class Shape:
    """Who masks with whom, and against whom.

    Attributes:
        tenants: n.
        trust: Against whom.
        neighbours: k; 0: the complete graph.
        sparse: The numbers of a graph that protects with 40 bits; None: as many neighbours as asked for, whatever they give.
        blocks: How many blocks are whole in a sum or absent; tenants of one block stand as far apart as they can. 0: none.
    """

    tenants: int
    trust: Trust = Trust.MALICIOUS_SERVER
    neighbours: int = 0
    sparse: GraphParameters | None = None
    blocks: int = 0

    @property
    def graph(self) -> str:
        """In words."""
        graph = f"k = {self.neighbours}" if self.neighbours else COMPLETE
        if self.sparse and not self.sound:
            graph += " (nobody missing in the set-up)"
        return f"{graph}, {self.blocks} blocks" if self.blocks else graph

    @property
    def sound(self) -> bool:
        """Whether its graph is a match for f colluders in the smallest window that its terms admit."""
        chosen = self.sparse
        return chosen.n == self.tenants - chosen.dropouts if chosen else not self.neighbours

    @property
    def colluders(self) -> int:
        """f: a third, but on a sparse graph what it was made for (nobody, if for nothing), and no more than blocks bear."""
        if self.neighbours and not self.sparse:
            return 0
        third = self.sparse.corrupt if self.sparse else (self.tenants - 1) // 3
        return min(third, self.tenants // self.blocks - 2) if self.blocks else third

    def roster(self) -> Roster:
        """Its parties; on a proper sparse graph some are named as witnesses."""
        witnesses = self.sparse.witnesses if self.sparse else None
        return roster_of(self.tenants, blocks=self.blocks or 1, witnesses=witnesses)

    def terms(self, window_rounds: int, mass_floor: int = 0) -> SessionTerms:
        """Terms for its roster."""
        changes = {
            "trust": int(self.trust),
            "colluders": self.colluders,
            "mass_floor": mass_floor,
            "blocks": self.blocks,
        }
        changes |= self._graph()
        return terms_of(self.roster(), window_rounds=window_rounds, round_cap=ROUND_CAP, **changes)

    def _graph(self) -> dict[str, int]:
        n, k, chosen = self.tenants, self.neighbours, self.sparse
        if chosen is not None:
            return {
                "neighbours": k, "share_threshold": chosen.share_threshold, "side_honest": chosen.side_honest,
                "witnesses": chosen.witnesses, "certificate_quorum": chosen.certificate_quorum,
                "minimum_survivors": n - chosen.dropouts,
            }  # fmt: skip
        if not k:
            return {}
        certified = self.trust is Trust.MALICIOUS_SERVER
        return {
            "neighbours": k,
            "share_threshold": 2 * (k + 1) // 3,
            "side_honest": int(certified),
            "witnesses": n if certified else 0,
            "certificate_quorum": certificate_quorum_of(n, self.colluders) if certified else 0,
            "minimum_survivors": n - max(1, n // 10),
        }


def sparse_shape(n: int, witnesses: int, corrupt: int, dropouts: int, window: int | None = None) -> Shape:
    """The smallest graph against any server that withstands so many corrupt tenants and dropouts.

    In windows of `window` tenants: if nobody says otherwise, of the smallest that tenants who demand as much are content with.
    """
    chosen = malicious_server_parameters(window or n - dropouts, witnesses, corrupt, dropouts)
    return Shape(n, neighbours=chosen.neighbours, sparse=chosen)
