"""What a window costs, and how many bytes a round has: gated (counts, then moments) and not.

Counts are as long, and in the ring, as a session of a Gaussian mixture has them over a roster with the row caps that are stated.
"""

from __future__ import annotations

from collections.abc import Mapping

from fed_em.component_counts import counts_layout
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em_protocols.encoding import Encoding
from tests.bench.cheap_tenants import cheap_tenants
from tests.bench.drive import Costs, Drive, Traffic
from tests.bench.figures import ExchangeFigures, GatedFigures, TrafficFigures
from tests.bench.shapes import Shape
from tests.bench.sizes import GatedRounds, MeasuredTraffic

WINDOW_ROUNDS = 64
_WARM_UP_LENGTH = 8
_SET_UP_KINDS = frozenset({"OpenWindow", "Advertise", "SetUp", "Reveal", "Neighbours", "Deposit", "Boxes", "Ready"})
_SERVED = frozenset({"Advertise", "Reveal", "Deposit", "Ready"})


def measure_window(shape: Shape, window_rounds: int = WINDOW_ROUNDS) -> ExchangeFigures:
    """The set-up of one window."""
    drive = _drive(shape, window_rounds)
    with cheap_tenants(drive, fake_deals=True):
        return _open_window(drive)


def measure_traffic(
    traffic: MeasuredTraffic, length: int, columns: int, components: int, window_rounds: int = WINDOW_ROUNDS
) -> TrafficFigures:
    """A window, a round in it, and gated ones; as many bytes of parameters as of statistics."""
    shape, held = traffic.shape, bytes((components + 7) // 8)
    drive = _drive(shape, window_rounds, mass_floor=1000, held=held)
    with cheap_tenants(drive, fake_deals=True):
        window = _open_window(drive)
        # The first sum of a length is a base round: the one that follows has increments, as most have.
        drive.sum(length)
        drive.take_costs(), drive.take_traffic()
        drive.sum(length)
        plain = _figures(drive.take_costs(), drive.take_traffic(), drive)
        gated = []
        for rounds in traffic.gated:
            counts = counts_encoding(rounds, shape.tenants, columns, components)
            drive.gated_sum(length, counts, held)
            spent = _figures(drive.take_costs(), drive.take_traffic(), drive)
            gated.append(GatedFigures(rounds.row_cap, rounds.missing, counts.length, counts.ring.bits, spent))
    return TrafficFigures(shape.tenants, shape.graph, length, window_rounds, window, plain, tuple(gated))


def counts_encoding(rounds: GatedRounds, tenants: int, columns: int, components: int) -> Encoding:
    """How a session of a Gaussian mixture encodes its counts."""
    model = GaussianMixtureModel(components, columns, missing=rounds.missing)
    return Encoding.of_counts(counts_layout(model), (rounds.row_cap,) * tenants)


def _drive(shape: Shape, window_rounds: int, mass_floor: int = 0, held: bytes = b"\0") -> Drive:
    n = shape.tenants
    # A witness of a sparse graph and another tenant: the last is none there.
    return Drive(shape.roster(), shape.terms(window_rounds, mass_floor), (1, n - 1), held, demanding=shape.sound)


def _open_window(drive: Drive) -> ExchangeFigures:
    """Open the window for a short sum, and take that off: what a round of it costs is measured again."""
    drive.take_costs(), drive.take_traffic()
    drive.sum(_WARM_UP_LENGTH, whole=True)
    both, carried = drive.take_costs(), drive.take_traffic()
    drive.sum(_WARM_UP_LENGTH, whole=True)
    short = drive.take_costs()
    drive.take_traffic()
    tenants = {
        index: spent._replace(cpu=max(0.0, spent.cpu - short.tenants[index].cpu))
        for index, spent in both.tenants.items()
    }
    served = {kind: spent for kind, spent in both.parts.items() if kind in _SERVED}
    messages = {key: each for key, each in carried.items() if key[1] in _SET_UP_KINDS}
    return _figures(Costs(tenants, served), messages, drive)


def _figures(costs: Costs, messages: Mapping[tuple[str, str], Traffic], drive: Drive) -> ExchangeFigures:
    n = drive.roster.n
    first, last = (costs.tenants[index].cpu for index in sorted(drive.watched))
    up, down = (sum(each.size for key, each in messages.items() if key[0] == way) / n for way in ("up", "down"))
    return ExchangeFigures(
        tenant_cpu=last, witness_cpu=first, server_cpu=costs.server.cpu, bytes_up=up, bytes_down=down
    )
