"""Ways to fit one model to the rows of several tenants, of whom some answer in each round: ours, and those it is measured against.

All begin at the same start in the same coordinates, and those that have rounds are given the same pattern of who answers
(`fed_em_simulations.common_ground`). Where a method is EM, it is the loop of `fed_em.em` around another `total`.

    pooled               all rows in one place, to the optimum: no federation
    increments           ours: of those who do not answer the last terms stand (Neal and Hinton 1998)
    own-weights          the same, with mixing weights of each tenant's own (`fed_em.tenant_mixing`)
    whoever-came         the sum over those who answer, and nothing of the others
    stepwise             the same, averaged into running statistics with decaying steps (Cappé and Moulines 2009)
    averaging            each tenant takes EM steps of its own, the server averages parameters (McMahan et al. 2017)
    one-shot-moments     each fits alone; the union of their mixtures is reduced by merging
    one-shot-samples     each fits alone; the model is fitted to rows drawn from the union
    alone                each fits alone, and keeps its own

    protocol             `increments` by a session of the real protocol in virtual time (`fed_em_simulations.session_settings`)

The sum that a secure session opens is the plain sum of encoded statistics, so totals in memory stand for it where only the model
matters; that the protocol ends at the same parameters is tested. It needs common starts to be those of a session (`starts = 0`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from fed_em.divergence import Mixture
from fed_em.em import Stopping, Total, fit
from fed_em.parameters import Parameters
from fed_em.step_size import DecayingStep
from fed_em.stepwise import StepwiseTotal
from fed_em.tenant_mixing import TenantMixing, at_home
from fed_em.totals import IncrementalTotal
from fed_em_protocols.limits import MIN_TENANTS
from fed_em_simulations.attendance import Attended, answering
from fed_em_simulations.common_ground import CommonGround
from fed_em_simulations.one_shot import fit_alone, reduced_by_moments, refitted_to_samples
from fed_em_simulations.parameter_averaging import average_parameters
from fed_em_simulations.plain_exchanges import Exchange, Spent, e_steps, spent_on
from fed_em_simulations.random_streams import stream
from fed_em_simulations.session_settings import SessionSettings, in_other_coordinates
from fed_em_simulations.whoever_came import WhoeverCame

MethodName = Literal[
    "pooled",
    "increments",
    "own-weights",
    "whoever-came",
    "stepwise",
    "averaging",
    "one-shot-moments",
    "one-shot-samples",
    "alone",
    "protocol",
]

# The real protocol: slow, and its start is its own.
PROTOCOL: MethodName = "protocol"

METHODS: tuple[MethodName, ...] = tuple(name for name in get_args(MethodName) if name != PROTOCOL)

# A tenant alone, and a fit to samples: until little changes.
_ALONE = Stopping(1e-6, 500)

# EM steps of a tenant in a round of parameter averaging.
_LOCAL_STEPS = 5


@dataclass(frozen=True, eq=False)
class Fitted:
    """What a method ended with.

    Attributes:
        parameters: In the coordinates of the common ground; None if there are none for all.
        of_tenants: Of tenants that have their own, by name.
        spent: What it took; in memory as numbers are, in a session with masks, signatures and keys.
    """

    parameters: Parameters | None
    of_tenants: Mapping[str, Parameters] = field(default_factory=dict)
    spent: Spent = field(default_factory=Spent)

    def of(self, tenant: str) -> Parameters | None:
        """What a tenant uses on its rows; None if it has nothing."""
        return self.of_tenants.get(tenant, self.parameters)


def run_method(name: MethodName, ground: CommonGround) -> Fitted:
    """The fit of a method.

    Raises:
        FedEmError: the fit fails, as where a component collapses.
    """
    return _METHODS[name](ground)


def _pooled(ground: CommonGround) -> Fitted:
    rows, rounds = sum(map(len, ground.parts.values())), ground.optimum_rounds
    return Fitted(ground.optimum, spent=Spent(rounds, seconds=_at_the_server(ground, rows, rounds)))


def _at_the_server(ground: CommonGround, rows: float, passes: int) -> float:
    """Seconds that E-steps over rows in one place take."""
    prices = ground.costs.of_federation(len(ground.parts), ground.seed)
    return prices.of_server(e_steps(ground, rows, passes))


def _by_rounds(ground: CommonGround, total: Total, model: Mixture) -> Parameters:
    """As many rounds as there are: no tolerance, so that all have the same chances."""
    return fit(model, total, ground.start, Stopping(0.0, len(ground.pattern))).parameters


def _in_rounds(ground: CommonGround, parameters: Parameters, up: int, passes: int = 1) -> Fitted:
    """Parameters to everybody who answers, in every round, and a vector of `up` numbers back."""
    of_each = dict.fromkeys(ground.parts, passes)
    exchanges = [Exchange(names, _numbers_of(parameters), up, of_each) for names in ground.pattern]
    return Fitted(parameters, spent=spent_on(ground, exchanges))


def _increments(ground: CommonGround) -> Fitted:
    total = IncrementalTotal(ground.model, ground.parts, answering(ground.pattern))
    return _in_rounds(ground, _by_rounds(ground, total, ground.model), ground.model.layout().size)


def _own_weights(ground: CommonGround) -> Fitted:
    model = replace(ground.model, mixing=TenantMixing())
    total = IncrementalTotal(model, ground.parts, answering(ground.pattern))
    shared = _by_rounds(ground, total, model)
    at_homes = {name: at_home(model, shared, records) for name, records in ground.parts.items()}
    return replace(_in_rounds(ground, shared, model.layout().size), of_tenants=at_homes)


def _whoever_came(ground: CommonGround) -> Fitted:
    total = WhoeverCame(ground.model, ground.parts, answering(ground.pattern))
    return _in_rounds(ground, _by_rounds(ground, total, ground.model), ground.model.layout().size)


def _stepwise(ground: CommonGround) -> Fitted:
    total = StepwiseTotal(WhoeverCame(ground.model, ground.parts, answering(ground.pattern)), DecayingStep())
    return _in_rounds(ground, _by_rounds(ground, total, ground.model), ground.model.layout().size)


def _averaging(ground: CommonGround) -> Fitted:
    averaged = average_parameters(ground.model, ground.parts, ground.pattern, ground.start, _LOCAL_STEPS)
    return _in_rounds(ground, averaged, _numbers_of(averaged), _LOCAL_STEPS)


def _fitted_alone(ground: CommonGround) -> tuple[dict[str, Parameters], dict[str, int]]:
    """Each tenant's own parameters, and how many E-steps they took it."""
    fits = fit_alone(ground.model, ground.parts, ground.start, _ALONE)
    return (
        {name: one.parameters for name, one in fits.items()},
        {name: len(one.iterations) for name, one in fits.items()},
    )


def _alone(ground: CommonGround) -> Fitted:
    parameters, passes = _fitted_alone(ground)
    prices = ground.costs.of_federation(len(ground.parts), ground.seed)
    seconds = [
        prices.of_tenant(index, e_steps(ground, len(records), passes.get(name, 0)))
        for index, (name, records) in enumerate(ground.parts.items())
    ]
    return Fitted(None, of_tenants=parameters, spent=Spent(seconds=max(seconds)))


def _one_shot_moments(ground: CommonGround) -> Fitted:
    alone, passes = _fitted_alone(ground)
    return _sent_once(ground, reduced_by_moments(ground.model, alone, _sizes(ground)), passes)


def _one_shot_samples(ground: CommonGround) -> Fitted:
    (alone, passes), generator = _fitted_alone(ground), stream(ground.seed, "one-shot samples")
    refit = refitted_to_samples(ground.model, alone, _sizes(ground), ground.start, _ALONE, generator)
    sent = _sent_once(ground, refit.parameters, passes)
    rows = sum(_sizes(ground)[name] for name in alone)
    seconds = sent.spent.seconds + _at_the_server(ground, rows, len(refit.iterations))
    return replace(sent, spent=replace(sent.spent, seconds=seconds))


def _sent_once(ground: CommonGround, found: Parameters, passes: Mapping[str, int]) -> Fitted:
    """The start to everybody, and parameters back from whoever has any; what merging costs the server is left out."""
    numbers = _numbers_of(found)
    return Fitted(found, spent=spent_on(ground, [Exchange(passes.keys(), numbers, numbers, passes)]))


def _protocol(ground: CommonGround) -> Fitted:
    # Half of the tenants make neither whole blocks nor a quorum. What a session does about that is the matter of other experiments.
    session = SessionSettings(trust="semi-honest", colluders=0, difference_guard="off", minimum_survivors=MIN_TENANTS)
    federation = session.federation(ground, (Attended(ground.pattern),))
    outcome = replace(federation, costs=ground.costs).fit(ground.model)
    moved = in_other_coordinates(ground.model, outcome.model.parameters, outcome.model.coordinates, ground.coordinates)
    spent = Spent(
        len(outcome.rounds) - 1, outcome.total_bytes_up, outcome.total_bytes_down, outcome.seconds_to_last_sum
    )
    return Fitted(moved, spent=spent)


def _sizes(ground: CommonGround) -> dict[str, float]:
    return {name: records.total_weight for name, records in ground.parts.items()}


def _numbers_of(parameters: Parameters) -> int:
    return sum(array.size for array in parameters.values())


_METHODS: Mapping[MethodName, Callable[[CommonGround], Fitted]] = {
    "pooled": _pooled,
    "increments": _increments,
    "own-weights": _own_weights,
    "whoever-came": _whoever_came,
    "stepwise": _stepwise,
    "averaging": _averaging,
    "one-shot-moments": _one_shot_moments,
    "one-shot-samples": _one_shot_samples,
    "alone": _alone,
    "protocol": _protocol,
}
