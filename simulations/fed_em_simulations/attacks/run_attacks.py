"""Run a scenario's sessions by the real protocol in virtual time, and then every attack on what they released."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fed_em.em import Stopping
from fed_em.errors import CallerError
from fed_em.estimators import GaussianMixture
from fed_em_server.configuration import PrivacyTable
from fed_em_simulations.attacks.attack_report import AttackReport
from fed_em_simulations.attacks.canary_audit import axis_canaries, canary_audit, canary_scores
from fed_em_simulations.attacks.differencing import differencing
from fed_em_simulations.attacks.ear import Ear
from fed_em_simulations.attacks.equivocation import HeaderSeen, equivocations
from fed_em_simulations.attacks.finding import Finding, counted
from fed_em_simulations.attacks.headers_seen import HeaderLogs
from fed_em_simulations.attacks.membership import membership, strong_scores, weak_scores
from fed_em_simulations.attacks.model_inversion import model_inversion, rows_to_compare
from fed_em_simulations.attacks.noise import noise_of_sessions, rounding
from fed_em_simulations.attacks.overheard import Overheard
from fed_em_simulations.attacks.reconstruction import reconstruction
from fed_em_simulations.attacks.scenario import AttackScenario
from fed_em_simulations.attacks.single_records import single_records
from fed_em_simulations.attendance import WAITING
from fed_em_simulations.federation import Federation
from fed_em_simulations.known_mixture import KnownMixture, Truth
from fed_em_simulations.random_streams import stream

Vector = NDArray[np.float64]

# How many rows of the population the weak adversary has for each that was summed, and at most.
_SAMPLE, _MOST_SAMPLED = 10, 50_000

# Of more rows that were trained on so many are drawn for model inversion, which compares each with hundreds of others.
_MOST_TRAINED = 1000

# How far beyond the ball canaries of private sessions are put, in its radii.
_BEYOND = 4.0


@dataclass(frozen=True, eq=False)
class Ground:
    """What is true, which an adversary does not know.

    Attributes:
        truth: What rows are drawn from.
        tables: Every tenant's rows, without canaries, in original units.
        canaries: `(m, D)`, those that may be in.
        owners: Whose each would be.
        coins: Which are in.
    """

    truth: Truth
    tables: Mapping[str, Vector] = field(repr=False)
    canaries: Vector = field(repr=False)
    owners: tuple[str, ...]
    coins: NDArray[np.bool_] = field(repr=False)

    @property
    def held(self) -> dict[str, Vector]:
        """Every tenant's rows with the canaries that are in."""
        names = np.array(self.owners, dtype=object)
        return {
            name: np.concatenate([rows, self.canaries[self.coins & (names == name)]])
            for name, rows in self.tables.items()
        }


def run_attacks(scenario: AttackScenario, progress: Callable[[str], None] = lambda _: None) -> AttackReport:
    """Run the sessions and all attacks.

    Args:
        scenario: What to attack.
        progress: Told what is being done.

    Raises:
        CallerError: the fields suit no federation.
    """
    ground = _ground(scenario)
    ear, logs, failures = Ear(), HeaderLogs(), []
    for number in range(scenario.sessions):
        progress(f"session {number + 1} of {scenario.sessions}")
        failure = _session(scenario, ground, number, ear, logs)
        failures += [f"session {number + 1} ended without a model: {failure}"] if failure else []
    progress("attacks")
    heard = ear.overheard
    if not heard.moments:
        raise CallerError(
            "no session opened a sum: " + "; ".join(failures), remedy="give more tenants, or less dropout"
        )
    findings: list[Finding] = [differencing(heard), single_records(heard), *_on_records(scenario, ground, heard)]
    not_run = {} if scenario.canaries else {"canaries": "the scenario has no canaries"}
    colluding = {name: ground.held[name] for name in tuple(ground.held)[: scenario.colluding]}
    findings.append(reconstruction(heard, colluding, noise_of_sessions(heard), scenario.seed))
    findings += [_inversion(scenario, ground, heard), equivocations(_lines(logs))]
    return AttackReport(
        scenario.title, scenario.expectation, (*_protection(scenario, heard), *failures), tuple(findings), not_run
    )


def _lines(logs: HeaderLogs) -> Sequence[HeaderSeen]:
    return logs.lines


def _ground(scenario: AttackScenario) -> Ground:
    mixture = KnownMixture(components=scenario.components, columns=scenario.columns, overlap=scenario.overlap)
    truth = mixture.truth(scenario.seed)
    tables = {}
    for k in range(scenario.tenants):
        last = k == scenario.tenants - 1
        n = scenario.small if last and scenario.small is not None else scenario.rows
        tables[f"t{k}"] = truth.model.sample(truth.parameters, n, stream(scenario.seed, "rows", k))[0]
    for k in range(scenario.outliers):
        # Each on its own ray, so far out that no component of others reaches it.
        direction = stream(scenario.seed, "outlier", k).standard_normal(scenario.columns)
        away = truth.mean + 12 * truth.deviation * direction / np.linalg.norm(direction)
        tables[f"t{k}"] = np.concatenate([tables[f"t{k}"], away[np.newaxis]])
    ends = axis_canaries(scenario.columns, _radius(scenario))
    places = np.arange(scenario.canaries)
    # Canaries on the same axis stand apart by their length, the first ones farthest out.
    shrunk = ends[places % len(ends)] * 0.97 ** (places // len(ends))[:, np.newaxis]
    owners = tuple(f"t{k}" for k in (places % scenario.tenants).tolist())
    coins = stream(scenario.seed, "coins").random(scenario.canaries) < 0.5
    # Private sessions scale them back into the ball, whatever their noised coordinates are.
    reach = 1.0 if scenario.epsilon is None else _BEYOND
    return Ground(truth, tables, truth.mean + reach * truth.deviation * shrunk, owners, coins)


def _radius(scenario: AttackScenario) -> float:
    return math.sqrt(scenario.columns) + 1 if scenario.radius is None else scenario.radius


def _session(scenario: AttackScenario, ground: Ground, number: int, ear: Ear, logs: HeaderLogs) -> str:
    """Run one; why it failed, if it did."""
    epsilon = scenario.epsilon
    federation = Federation(
        ground.held,
        dropout=scenario.dropout,
        seed=scenario.seed + number,
        colluders=scenario.colluders,
        difference_guard="blocks" if scenario.blocks else "off",
        block_size=scenario.block_size,
        minimum_survivors=scenario.minimum_survivors,
        mass_floor=scenario.mass_floor,
        deadlines=WAITING,
        trouble=(logs,),
        optimiser="em",
        starts=scenario.starts,
        stopping=Stopping(0.0, scenario.sums - 1),
        privacy=None
        if epsilon is None
        else PrivacyTable(epsilon=epsilon, delta=scenario.delta, radius=_radius(scenario)),
        listener=ear,
    )
    return federation.fit(GaussianMixture(scenario.components + scenario.extra_components, reg_covar=1e-4)).failure


def _on_records(scenario: AttackScenario, ground: Ground, heard: Overheard) -> list[Finding]:
    """Membership by two adversaries, and the canaries, where there are any."""
    noise = noise_of_sessions(heard) or rounding
    held = ground.held
    owners = np.repeat(list(held), [len(rows) for rows in held.values()])
    rows = np.concatenate(list(held.values()))
    draws = stream(scenario.seed, "candidates")
    chosen = draws.permutation(len(rows))[: scenario.candidates]
    others = _population(scenario, ground, scenario.candidates, "others")
    strangers = draws.choice(list(held), size=len(others)).tolist()
    sample = _population(scenario, ground, min(_SAMPLE * len(rows), _MOST_SAMPLED), "sample")
    weak = membership("weak", *(weak_scores(heard, sample, each, noise) for each in (rows[chosen], others)))
    strong = membership(
        "strong",
        strong_scores(heard, held, owners[chosen].tolist(), rows[chosen], True, noise),
        strong_scores(heard, held, strangers, others, False, noise),
    )
    if not scenario.canaries:
        return [weak, strong]
    scores = canary_scores(heard, ground.tables, ground.owners, ground.canaries, noise)
    epsilon = math.inf if scenario.epsilon is None else scenario.epsilon * scenario.sessions
    delta = 0.0 if scenario.epsilon is None else scenario.delta * scenario.sessions
    return [weak, strong, canary_audit(ground.coins, scores, delta, epsilon)]


def _inversion(scenario: AttackScenario, ground: Ground, heard: Overheard) -> Finding:
    trained = np.concatenate(list(ground.held.values()))
    if len(trained) > _MOST_TRAINED:
        trained = stream(scenario.seed, "trained").permutation(trained)[:_MOST_TRAINED]
    needed = rows_to_compare(scenario.components + scenario.extra_components, len(trained))
    return model_inversion(heard, trained, _population(scenario, ground, needed, "population"))


def _population(scenario: AttackScenario, ground: Ground, n: int, what: str) -> Vector:
    return ground.truth.model.sample(ground.truth.parameters, n, stream(scenario.seed, what))[0]


def _protection(scenario: AttackScenario, heard: Overheard) -> tuple[str, ...]:
    sizes = f"{counted(scenario.tenants, 'tenant')} of {scenario.rows} rows"
    if scenario.small is not None:
        sizes += f", the last of {scenario.small}"
    blocks = "whole blocks" if scenario.blocks else "blocks waived"
    floor = f"mass floor {scenario.mass_floor:g}" if scenario.mass_floor else "no mass floor"
    private = (
        f"ε = {scenario.epsilon:g} a session, δ = {scenario.delta:g}" if scenario.epsilon is not None else "no noise"
    )
    return (
        f"{sizes}; {counted(len(heard.sums), 'sum')} of {counted(scenario.sessions, 'session')}, dropout {scenario.dropout:g}",
        f"{blocks}; f = {max(known.colluders for known in heard.facts.values())}; {floor}; {private}; "
        f"{counted(scenario.colluding, 'tenant')} with the adversary",
    )
