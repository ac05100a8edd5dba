"""How many neighbours the sparse graph needs, and every other number that goes with it, from the sizes of a session.

All probabilities are over the random order of the ring (`fed_em_protocols.graph`), which is drawn after the corrupt tenants are
fixed, and over nothing else. They are hypergeometric tails, computed in integers: no rounding, no table. Below, n tenants of whom
c are corrupt; d drop out of a round; k neighbours each; H(N, M, s) is the number of marked members in a sample of s out of N,
of which M are marked; σ = `security_bits`, η = `correctness_bits`.

**Semi-honest server** (Bell et al., "Secure single-server aggregation with (poly)logarithmic overhead", 2020, section 3): the
smallest even k, and the smallest τ ≥ 2, with

    connected      n(n−k−1)/2 · P[k given tenants are all corrupt or dropped out]   ≤ 2^−(σ+1)
    secret         n · P[H(n−1, c, k) ≥ τ]                                          ≤ 2^−(σ+1)
    recoverable    n · P[H(n−1, d, k) > k−τ]                                        ≤ 2^−η
    independent    P[H(n−1, c+d, k) > k−τ]                                          ≤ 2^−η

*Connected*: honest survivors fall apart only if two runs of k/2 neighbouring places, with somebody between them on both sides,
hold none of them; there are n(n−k−1)/2 such pairs. *Secret*: no tenant's corrupt neighbours reach its threshold. *Recoverable*:
every tenant keeps τ neighbours to replace it. *Independent*: so does any given tenant if, besides, the corrupt ones refuse to
answer. With `corrupt_answer` that last one is not asked for; what remains is, but for samples out of n−1 instead of n, the rule
of the published implementation of the same protocol (google-parfait/federated-compute, `secagg/server/graph_parameter_finder`).

**Malicious server**: it picks who is in the sum, so chance says nothing about U. Instead a sum is opened only if every member of
U has h neighbours in U on each side of the ring. If no k/2 places in a row hold h corrupt tenants, every honest member of U then
has an honest neighbour in U on either side, so the honest part of U is connected whatever U is. The smallest even k, with the
smallest h ≥ 1 and then the smallest τ ≥ 2 that give

    side           n · P[H(n, c, k/2) ≥ h]                                          ≤ 2^−σ
    secret         side + n · P[H(n−1, c, k) ≥ τ]                                   ≤ 2^−σ
    tied           2n · P[H(n−1, d, k/2) > k/2−h]                                   ≤ 2^−η
    recoverable    tied + n · P[H(n−1, d, k) > k−τ]                                 ≤ 2^−η
    independent    P[H(n−1, c+d, k) > k−τ]                                          ≤ 2^−η

*Tied*: everybody who stays keeps h neighbours on each side; one who does not costs the round (`graph.without_weakly_tied`). σ is
met by each draw of the graph. A corrupt witness can have the graph drawn again, at most `MAX_RESTARTS` times, so the last word
on a window is 2^−(σ−3); who wants σ for the window asks for σ + 3. Of w witnesses, f_w, the quorum q and the losses follow:

    f_w            smallest with P[H(n, c, w) > f_w] ≤ 2^−σ, so never above c
    q              ⌊(w+f_w)/2⌋ + 1, so that any two quorums share an honest witness
    answering      P[H(n, d, w) > w−q]                                              ≤ 2^−η
    seed           w − f_w > MAX_RESTARTS

*Seed*: a server may claim at each restart that an honest witness did not reveal its nonce; one must be left in the last draw.

A tenant that leaves a round because somebody of its *block* dropped out is out of U like the others: d counts it. One tenant in ten
that drops out makes d = 27 % of n in blocks of three, more than a graph for 10 % can bear.

n counts the members of one window. If some tenants of the roster stay away, c of those who come may still be corrupt, a larger part
of fewer: numbers for the whole roster need not hold then. So a tenant that is told k, τ, h and q checks `side_is_safe` and
`threshold_is_safe` (or `connection_is_safe`) for the smallest window that the session's terms admit, and for the largest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import count, takewhile

from fed_em.errors import CallerError
from fed_em_protocols.limits import MIN_TENANTS

SECURITY_BITS = 40
CORRECTNESS_BITS = 20

# How often the graph of one window is drawn again, each time without a witness that kept its nonce to itself. Whatever was drawn
# since the graph of the last window in use counts: `tenant_window` says what shows that a window is.
MAX_RESTARTS = 7

# A secret of threshold one would be known to every holder.
_LEAST_THRESHOLD = 2


@dataclass(frozen=True)
class GraphParameters:
    """The numbers of one sparse graph. The letters are those of the protocol's specification.

    Attributes:
        n: Tenants.
        corrupt: c, how many of them may be corrupt.
        dropouts: d, how many may be out of a round's sum, blocks included.
        security_bits: σ.
        correctness_bits: η.
        neighbours: k, even.
        share_threshold: τ.
        side_honest: h; 0 where the server is trusted to follow the protocol.
        witnesses: w; 0 without certificates.
        witness_corrupt: f_w; 0 without certificates.
        certificate_quorum: q; 0 without certificates.
    """

    n: int
    corrupt: int
    dropouts: int
    security_bits: int
    correctness_bits: int
    neighbours: int
    share_threshold: int
    side_honest: int
    witnesses: int
    witness_corrupt: int
    certificate_quorum: int


@dataclass(frozen=True)
class Sample:
    """`drawn` members, taken at random and without replacement out of `population`, of which `marked` are marked."""

    population: int
    marked: int
    drawn: int

    def probability_at_least(self, least: int) -> Fraction:
        """P[at least `least` of the drawn members are marked], exactly."""
        if least <= self._fewest:
            return Fraction(1)
        ways = sum(found for _, found in takewhile(lambda way: way[0] >= least, self._ways()))
        return Fraction(ways, math.comb(self.population, self.drawn))

    def rare_count(self, bound: Fraction) -> int:
        """The smallest count that at least so many marked members reach with a probability of at most `bound` < 1."""
        budget = bound.numerator * math.comb(self.population, self.drawn) // bound.denominator
        ways = 0
        for marked, found in self._ways():
            ways += found
            if ways > budget:
                return marked + 1
        return self._fewest

    @property
    def _fewest(self) -> int:
        return max(0, self.drawn - (self.population - self.marked))

    def _ways(self) -> Iterator[tuple[int, int]]:
        """Every possible number of marked members, the largest first, and in how many samples it occurs."""
        rest = self.population - self.marked
        most = min(self.marked, self.drawn)
        ways = math.comb(self.marked, most) * math.comb(rest, self.drawn - most)
        for marked in range(most, self._fewest - 1, -1):
            yield marked, ways
            # C(M, i) · C(R, s−i) becomes C(M, i−1) · C(R, s−i+1); the division leaves no remainder.
            ways = (
                ways * marked * (rest - self.drawn + marked) // ((self.marked - marked + 1) * (self.drawn - marked + 1))
            )


@dataclass(frozen=True)
class _Odds:
    """The probabilities at the head of this module, and the bounds on them, for given numbers of tenants."""

    n: int
    corrupt: int
    dropouts: int

    def cut(self, k: int) -> Fraction:
        """Some two runs of k/2 places, with somebody between them on both sides, hold nobody honest who is left."""
        pairs = Fraction(self.n * max(self.n - k - 1, 0), 2)
        return pairs * Sample(self.n, self.corrupt + self.dropouts, k).probability_at_least(k)

    def side_corrupt(self, k: int, side_honest: int) -> Fraction:
        """Some k/2 places in a row hold `side_honest` corrupt tenants."""
        return self.n * Sample(self.n, self.corrupt, k // 2).probability_at_least(side_honest)

    def exposed(self, k: int, threshold: int) -> Fraction:
        """Some tenant has `threshold` corrupt neighbours."""
        return self.n * Sample(self.n - 1, self.corrupt, k).probability_at_least(threshold)

    def untied(self, k: int, side_honest: int) -> Fraction:
        """Some tenant keeps fewer than `side_honest` neighbours on a side."""
        half = k // 2
        return 2 * self.n * Sample(self.n - 1, self.dropouts, half).probability_at_least(half - side_honest + 1)

    def unrecoverable(self, k: int, threshold: int) -> Fraction:
        """Some tenant keeps fewer than `threshold` neighbours."""
        return self.n * Sample(self.n - 1, self.dropouts, k).probability_at_least(k - threshold + 1)

    def dependent(self, k: int, threshold: int) -> Fraction:
        """A given tenant keeps fewer than `threshold` neighbours when the corrupt ones refuse to answer."""
        return Sample(self.n - 1, self.corrupt + self.dropouts, k).probability_at_least(k - threshold + 1)

    def smallest_threshold(self, k: int, bound: Fraction) -> int:
        """The smallest τ with `exposed` at most `bound`."""
        return max(_LEAST_THRESHOLD, Sample(self.n - 1, self.corrupt, k).rare_count(bound / self.n))

    def too_many_corrupt(self, witnesses: int, witness_corrupt: int) -> Fraction:
        """More than `witness_corrupt` witnesses are corrupt."""
        return Sample(self.n, self.corrupt, witnesses).probability_at_least(witness_corrupt + 1)

    def quorum_missed(self, witnesses: int, quorum: int) -> Fraction:
        """Fewer than `quorum` witnesses are left."""
        return Sample(self.n, self.dropouts, witnesses).probability_at_least(witnesses - quorum + 1)


@lru_cache(maxsize=256)
def semi_honest_parameters(
    n: int,
    corrupt: int,
    dropouts: int,
    security_bits: int = SECURITY_BITS,
    correctness_bits: int = CORRECTNESS_BITS,
    *,
    corrupt_answer: bool = False,
) -> GraphParameters:
    """The smallest graph for a server that follows the protocol; the conditions are at the head of this module.

    Args:
        n: Tenants, at least 3.
        corrupt: How many of them may collude.
        dropouts: How many may be missing from a round, blocks included.
        security_bits: σ; the graph and the dropouts of a round are unsafe with probability at most 2^−σ.
        correctness_bits: η; a round in which no more than `dropouts` are missing fails with probability at most 2^−η.
        corrupt_answer: Count on corrupt neighbours when somebody who fell silent must be replaced.

    Raises:
        CallerError: no graph will do; names the condition that fails and what to change.
    """
    _check_sizes(n, corrupt, dropouts, security_bits, correctness_bits)
    odds, each = _Odds(n, corrupt, dropouts), Fraction(1, 2 ** (security_bits + 1))

    def attempt(k: int) -> GraphParameters | _Unmet:
        if odds.cut(k) > each:
            return _Unmet(
                "the honest tenants that are left may fall apart into groups with a probability above "
                f"2^-{security_bits + 1}"
            )
        threshold = odds.smallest_threshold(k, each)
        unmet = _unmet_recovery(odds, k, threshold, correctness_bits, corrupt_answer=corrupt_answer)
        return unmet or GraphParameters(n, corrupt, dropouts, security_bits, correctness_bits, k, threshold, 0, 0, 0, 0)

    return _smallest_graph(n, attempt)


@lru_cache(maxsize=256)
def malicious_server_parameters(
    n: int,
    witnesses: int,
    corrupt: int,
    dropouts: int,
    security_bits: int = SECURITY_BITS,
    correctness_bits: int = CORRECTNESS_BITS,
) -> GraphParameters:
    """The smallest graph, and the quorum of certificates, for any server; the conditions are at the head of this module.

    Args:
        n: Tenants, at least 3.
        witnesses: w, how many tenants the roster names to draw the graph and to sign certificates. Its author must not have
            picked them by who is corrupt.
        corrupt: How many tenants may collude with each other and with the server.
        dropouts: How many may be missing from a round, blocks included.
        security_bits: σ; one draw of the graph is unsafe with probability at most 2^−σ, and so are the witnesses.
        correctness_bits: η; a round in which no more than `dropouts` are missing fails for want of neighbours with probability
            at most 2^−η, and for want of witnesses with probability at most 2^−η.

    Raises:
        CallerError: no graph will do, or the witnesses will not; names the condition that fails and what to change.
    """
    _check_sizes(n, corrupt, dropouts, security_bits, correctness_bits)
    odds = _Odds(n, corrupt, dropouts)
    secure, correct = Fraction(1, 2**security_bits), Fraction(1, 2**correctness_bits)
    witness_corrupt = most_corrupt_witnesses(n, corrupt, witnesses, security_bits)
    quorum = (witnesses + witness_corrupt) // 2 + 1
    _check_witnesses(odds, witnesses, witness_corrupt, quorum, correctness_bits)

    def attempt(k: int) -> GraphParameters | _Unmet:
        unmet = _unmet_recovery(odds, k, odds.smallest_threshold(k, secure), correctness_bits)
        if unmet:
            return unmet
        half = k // 2
        # A larger h leaves more of σ to τ, so the smallest one is not always the last word.
        for side_honest in count(max(1, Sample(n, corrupt, half).rare_count(secure / n))):
            untied = odds.untied(k, side_honest)
            if untied > correct:
                break
            threshold = odds.smallest_threshold(k, secure - odds.side_corrupt(k, side_honest))
            unmet = _unmet_recovery(odds, k, threshold, correctness_bits, untied=untied)
            if not unmet:
                return GraphParameters(
                    n,
                    corrupt,
                    dropouts,
                    security_bits,
                    correctness_bits,
                    k,
                    threshold,
                    side_honest,
                    witnesses,
                    witness_corrupt,
                    quorum,
                )
        return unmet or _Unmet(
            f"h = {side_honest} of {half} neighbours on a side, as {corrupt} corrupt tenants make necessary, are missed "
            f"by some tenant with a probability above 2^-{correctness_bits}"
        )

    return _smallest_graph(n, attempt)


def side_is_safe(n: int, corrupt: int, neighbours: int, side_honest: int, bits: int) -> bool:
    """Whether, but for a probability of 2^−`bits`, no k/2 places of the ring in a row hold `side_honest` corrupt tenants.

    Then every tenant that has `side_honest` neighbours on each side in a sum has an honest one among them. For a tenant that is
    told k and h and sees a window of n members; numbers that make no graph are not safe.
    """
    return _makes_a_graph(n, corrupt, neighbours) and _Odds(n, corrupt, 0).side_corrupt(
        neighbours, side_honest
    ) <= Fraction(1, 2**bits)


def threshold_is_safe(n: int, corrupt: int, neighbours: int, share_threshold: int, bits: int) -> bool:
    """Whether, but for a probability of 2^−`bits`, nobody has `share_threshold` corrupt neighbours, as `side_is_safe`."""
    return (
        _makes_a_graph(n, corrupt, neighbours)
        and _LEAST_THRESHOLD <= share_threshold <= neighbours
        and _Odds(n, corrupt, 0).exposed(neighbours, share_threshold) <= Fraction(1, 2**bits)
    )


def connection_is_safe(n: int, corrupt: int, missing: int, neighbours: int, bits: int) -> bool:
    """Whether, but for a probability of 2^−`bits`, the honest tenants that are not `missing` hang together.

    For a session that trusts its server to follow the protocol, where chance alone says who is missing; as `side_is_safe`.
    """
    return (
        _makes_a_graph(n, corrupt, neighbours)
        and 0 <= missing < n - corrupt
        and _Odds(n, corrupt, missing).cut(neighbours) <= Fraction(1, 2**bits)
    )


def _makes_a_graph(n: int, corrupt: int, neighbours: int) -> bool:
    return neighbours % 2 == 0 and 2 <= neighbours < n and 0 <= corrupt < n


def most_corrupt_witnesses(n: int, corrupt: int, witnesses: int, bits: int) -> int:
    """f_w: but for a probability of 2^−`bits`, no more of the witnesses are corrupt, if they were named regardless of that.

    Raises:
        CallerError: the witnesses are none, or more than the tenants.
    """
    if not 1 <= witnesses <= n:
        raise CallerError(
            f"{witnesses} witnesses cannot be named among {n} tenants", remedy=f"name 1 to {n} tenants as witnesses"
        )
    return Sample(n, corrupt, witnesses).rare_count(Fraction(1, 2**bits)) - 1


def quorum_intersects(w: int, q: int, f_w: int) -> bool:
    """Whether any two sets of `q` out of `w` witnesses share more than `f_w`, so that an honest one would have to sign twice."""
    return f_w >= 0 and 1 <= q <= w and 2 * q - w > f_w


def what_it_survives(parameters: GraphParameters) -> tuple[str, ...]:
    """The choice and what it withstands, a sentence each; probabilities are rounded up."""
    p, odds = parameters, _Odds(parameters.n, parameters.corrupt, parameters.dropouts)
    k, threshold = p.neighbours, p.share_threshold
    return (
        f"n = {p.n}: every tenant has k = {k} neighbours, {k // 2} on either side of a ring in random order; "
        f"a secret needs τ = {threshold} of its {k} shares; chosen for {p.security_bits} bits of security and "
        f"{p.correctness_bits} of correctness",
        *(_say_malicious(p, odds) if p.side_honest else _say_semi_honest(p, odds)),
        f"a tenant that falls silent after its upload is replaced as long as {threshold} neighbours answer: "
        f"{k - threshold} of its {k} may be lost",
        f"corrupt tenants that refuse to answer count as missing; if all {p.corrupt} do, besides {p.dropouts} dropouts, "
        f"a given tenant cannot be replaced with probability {_say(odds.dependent(k, threshold))}",
    )


def _say_semi_honest(p: GraphParameters, odds: _Odds) -> tuple[str, ...]:
    unsafe = odds.cut(p.neighbours) + odds.exposed(p.neighbours, p.share_threshold)
    fails = odds.unrecoverable(p.neighbours, p.share_threshold)
    return (
        f"{p.corrupt} colluding tenants and a server that follows the protocol learn nothing but the sum, except with "
        f"probability {_say(unsafe)} a round over the order of the ring; a server that does not follow it is not withstood",
        f"with {p.dropouts} tenants missing, a round fails with probability {_say(fails)}",
    )


def _say_malicious(p: GraphParameters, odds: _Odds) -> tuple[str, ...]:
    k, half, spare = p.neighbours, p.neighbours // 2, p.witnesses - p.certificate_quorum
    unsafe = odds.side_corrupt(k, p.side_honest) + odds.exposed(k, p.share_threshold)
    fails = odds.untied(k, p.side_honest) + odds.unrecoverable(k, p.share_threshold)
    return (
        f"{p.corrupt} corrupt tenants and any server learn nothing but the sum, except with probability {_say(unsafe)} "
        f"over the order of the ring, or {_say((MAX_RESTARTS + 1) * unsafe)} if they have it drawn again "
        f"{MAX_RESTARTS} times",
        f"with {p.dropouts} tenants missing, their blocks included, a round fails for want of neighbours with probability "
        f"{_say(fails)}",
        f"a sum is opened only if everybody in it has h = {p.side_honest} neighbours in it on each side: "
        f"{half - p.side_honest} of {half} may be missing on a side",
        f"of {p.witnesses} witnesses {p.witness_corrupt} may be corrupt; more are with probability "
        f"{_say(odds.too_many_corrupt(p.witnesses, p.witness_corrupt))}, if they were named regardless of who is corrupt",
        f"q = {p.certificate_quorum} witnesses sign a certificate, so {spare} may be lost; with {p.dropouts} tenants "
        f"missing, more are with probability {_say(odds.quorum_missed(p.witnesses, p.certificate_quorum))} a round",
    )


def _say(probability: Fraction) -> str:
    if probability == 0:
        return "0"
    if probability >= 1:
        return "at most 1"
    bits = math.log2(probability.denominator) - math.log2(probability.numerator)
    # Rounded towards 1, by far more than the error of the logarithms.
    return f"at most 2^-{math.floor(10 * bits - 1e-6) / 10}"


def _check_sizes(n: int, corrupt: int, dropouts: int, security_bits: int, correctness_bits: int) -> None:
    if n < MIN_TENANTS:
        raise CallerError(f"a secure sum needs at least {MIN_TENANTS} tenants, not {n}", remedy="add tenants")
    if min(corrupt, dropouts) < 0 or corrupt + dropouts >= n:
        raise CallerError(
            f"{corrupt} corrupt tenants and {dropouts} dropouts are not two parts of {n} tenants with somebody left",
            remedy="plan for fewer corrupt tenants or fewer dropouts",
        )
    if min(security_bits, correctness_bits) < 1:
        raise CallerError(
            f"{security_bits} bits of security and {correctness_bits} of correctness promise nothing",
            remedy=f"the defaults are {SECURITY_BITS} and {CORRECTNESS_BITS}",
        )


def _check_witnesses(odds: _Odds, w: int, f_w: int, q: int, correctness_bits: int) -> None:
    if w - f_w <= MAX_RESTARTS:
        raise CallerError(
            f"{f_w} of the {w} witnesses may be corrupt, and a server could pass over the {w - f_w} others "
            f"in {MAX_RESTARTS} restarts until the corrupt ones draw the graph alone",
            remedy="name more witnesses, or plan for fewer corrupt tenants",
        )
    if odds.quorum_missed(w, q) > Fraction(1, 2**correctness_bits):
        raise CallerError(
            f"with {odds.dropouts} dropouts among {odds.n} tenants, more than {w - q} of {w} witnesses are lost with a "
            f"probability above 2^-{correctness_bits}, and the quorum of {q} is missed",
            remedy="name more witnesses, or plan for fewer corrupt tenants or fewer dropouts",
        )


@dataclass(frozen=True)
class _Unmet:
    """A condition that some number of neighbours does not meet."""

    complaint: str


def _unmet_recovery(
    odds: _Odds,
    k: int,
    threshold: int,
    correctness_bits: int,
    *,
    untied: Fraction = Fraction(0),
    corrupt_answer: bool = False,
) -> _Unmet | None:
    """Which of "recoverable" and "independent" fails, if any."""
    correct = Fraction(1, 2**correctness_bits)
    needed = f"τ = {threshold} of {k} shares, as {odds.corrupt} corrupt tenants make necessary, cannot be had for"
    if untied + odds.unrecoverable(k, threshold) > correct:
        return _Unmet(f"{needed} some tenant with a probability above 2^-{correctness_bits}")
    if not corrupt_answer and odds.dependent(k, threshold) > correct:
        return _Unmet(
            f"{needed} a given tenant with a probability above 2^-{correctness_bits} if the corrupt ones refuse theirs"
        )
    return None


def _smallest_graph(n: int, attempt: Callable[[int], GraphParameters | _Unmet]) -> GraphParameters:
    """What `attempt` gives for the smallest even k that it accepts.

    The more neighbours, the closer their shares of corrupt and missing tenants come to those of all tenants. So the largest
    graphs tell at once whether there is any; several, as whole numbers make the conditions a little uneven.
    """
    largest = n - 1 - (n - 1) % 2
    outcomes = [attempt(k) for k in range(largest, max(largest - 16, 0), -2)]
    unmet = [outcome for outcome in outcomes if isinstance(outcome, _Unmet)]
    if len(unmet) == len(outcomes):
        raise CallerError(
            f"no sparse graph of {n} tenants will do: even with k = {largest} neighbours, {unmet[0].complaint}",
            remedy="plan for fewer corrupt tenants or fewer dropouts, or form the complete graph",
        )
    tried = (attempt(k) for k in range(2, largest + 1, 2))
    return next(found for found in tried if isinstance(found, GraphParameters))
