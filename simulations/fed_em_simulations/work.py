"""How much work a step is, in units whose prices are known: what virtual time is charged by.

Work is counted where it is done, while `counted_work` lasts: every agreement, signature, mask and share that a machine asks for. So
what a party is charged follows from what its own code did, on no second account of the protocol.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any

from fed_em_protocols import hkdf, keys, masks, shamir
from fed_em_simulations.substitution import substituted


@dataclass(frozen=True)
class Work:
    """An amount of work.

    Attributes:
        agreements: X25519 operations: agreements, and key pairs made of secrets.
        signatures: Made with Ed25519.
        verifications: Of such signatures.
        derivations: Keys made by HKDF.
        masks: Keystreams added to a vector or taken off one.
        mask_bytes: Their bytes.
        shares: Shares that secrets were split into, and that secrets were rebuilt from.
        densities: Rows times components of E-steps.
        statistics: Rows times numbers of their statistics, which grow with columns as the work on a row does: with D (D + 3) / 2 + 1
            of a component with full covariances.
        remembered: Checks of public bytes that a process had made before (`fed_em_simulations.shared_reading`): their work is counted here
            as everybody's own, and was done once.
    """

    agreements: int = 0
    signatures: int = 0
    verifications: int = 0
    derivations: int = 0
    masks: int = 0
    mask_bytes: int = 0
    shares: int = 0
    densities: int = 0
    statistics: int = 0
    remembered: int = 0


NO_WORK = Work()


class Measure:
    """Work as it is done; attributes as those of `Work`."""

    def __init__(self) -> None:
        self.agreements = self.signatures = self.verifications = self.derivations = 0
        self.masks = self.mask_bytes = self.shares = self.densities = self.statistics = self.remembered = 0

    def add(self, work: Work) -> None:
        """So much more."""
        mine = vars(self)
        for name, amount in vars(work).items():
            if amount:
                mine[name] += amount

    @property
    def total(self) -> Work:
        """All of it so far."""
        amounts = vars(self)
        return Work(**amounts) if any(amounts.values()) else NO_WORK


# Work goes to the innermost measure. The outermost is that of whoever asked for none.
_MEASURES: list[Measure] = [Measure()]


def current() -> Measure:
    """Where work goes at the moment."""
    return _MEASURES[-1]


class Measured:
    """Measures the work of a block apart from that around it, into `measure`. At each message there are several: hence no generator."""

    __slots__ = ("measure",)

    def __init__(self, measure: Measure) -> None:
        self.measure = measure

    def __enter__(self) -> Measure:
        _MEASURES.append(self.measure)
        return self.measure

    def __exit__(self, *error: object) -> None:
        _MEASURES.pop()


def measured(measure: Measure | None = None) -> Measured:
    """Measure the work of the block apart from that around it; into a measure that is there already, if one is given."""
    return Measured(Measure() if measure is None else measure)


@contextmanager
def counted_work() -> Iterator[None]:
    """Count what the protocol does, wherever in this process, while the context lasts."""
    with ExitStack() as stack:
        for function, name in (
            (keys.agree, "agreements"),
            (keys.agreement_key, "agreements"),
            (keys.verifies, "verifications"),
            (hkdf.expand, "derivations"),
        ):
            stack.enter_context(substituted(function, _counting(function, name)))
        stack.enter_context(substituted(hkdf.expand_each, _counting_expanded(hkdf.expand_each)))
        stack.enter_context(substituted(keys.SigningKey.sign, _counting(keys.SigningKey.sign, "signatures")))
        stack.enter_context(substituted(masks.add_masks, _counting_masks(masks.add_masks)))
        stack.enter_context(substituted(shamir.split_many, _counting_dealt(shamir.split_many)))
        stack.enter_context(substituted(shamir.combine, _counting_combined(shamir.combine)))
        yield


def _counting(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    @wraps(function)
    def counting(*arguments: Any) -> Any:
        vars(_MEASURES[-1])[name] += 1
        return function(*arguments)

    return counting


def _counting_masks(function: Callable[..., None]) -> Callable[..., None]:
    @wraps(function)
    def counting(vector: Any, added: Any = (), subtracted: Any = (), *others: Any, **named: Any) -> None:
        added, subtracted = list(added), list(subtracted)
        streams = len(added) + len(subtracted)
        _MEASURES[-1].masks += streams
        _MEASURES[-1].mask_bytes += streams * vector.nbytes
        function(vector, added, subtracted, *others, **named)

    return counting


def _counting_expanded(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def counting(pseudorandom_keys: Any, infos: Any, length: int) -> Any:
        _MEASURES[-1].derivations += len(pseudorandom_keys)
        return function(pseudorandom_keys, infos, length)

    return counting


def _counting_dealt(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def counting(secrets: Any, threshold: int, holders: Any, randomness: Any) -> Any:
        _MEASURES[-1].shares += len(secrets) * len(holders)
        return function(secrets, threshold, holders, randomness)

    return counting


def _counting_combined(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def counting(shares: Any, threshold: int) -> Any:
        _MEASURES[-1].shares += threshold
        return function(shares, threshold)

    return counting
