"""What `fed-em doctor` finds out, one check at a time, and the checks that are the same for every party."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import PackageNotFoundError, version
from typing import Generic, TypeVar

from fed_em.errors import EnvironmentFault, FedEmError
from fed_em_protocols.limits import PROTOCOL_VERSION
from fed_em_protocols.party import check_certificate, party_of
from fed_em_protocols.roster import Roster
from fed_em_protocols.terms import SUITE

T = TypeVar("T")

_PACKAGES = ("fed-em", "flwr", "grpcio", "numpy", "cryptography")


@dataclass(frozen=True)
class Finding:
    """The outcome of one check.

    Attributes:
        what: What was checked, in a word or two.
        detail: What was found, or what is wrong.
        failed: Whether something must be done.
        remedy: What, where that is known.
    """

    what: str
    detail: str
    failed: bool = False
    remedy: str = ""


@dataclass(frozen=True)
class Checked(Generic[T]):
    """A finding, and what later checks need of it; None if the check failed."""

    finding: Finding
    result: T | None


def check(what: str, test: Callable[[], T], says: Callable[[T], str]) -> Checked[T]:
    """Run one check.

    Args:
        what: Its name.
        test: Gives the result; a `FedEmError` that it raises becomes the finding.
        says: What to tell of the result.
    """
    try:
        result = test()
    except FedEmError as error:
        return Checked(Finding(what, error.message, failed=True, remedy=error.remedy), None)
    return Checked(Finding(what, says(result)), result)


def check_roster(roster: Roster, parties: Iterable[str], now: datetime) -> Iterator[Finding]:
    """What follows from a roster alone.

    Args:
        roster: The roster.
        parties: Whose certificates matter here: tenants by name, or `SERVER`.
        now: Time of day with its zone.
    """
    for name in parties:
        yield _check_certificate(roster, name, now)
    yield check(
        "clock", lambda: _check_clock(roster, now), lambda _: f"{now.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    ).finding


def check_versions() -> Finding:
    """Versions of everything that both sides must agree on, or that a fault report must name."""
    return check("versions", _versions, lambda found: f"protocol {PROTOCOL_VERSION}, suite {SUITE}, {found}").finding


def _check_certificate(roster: Roster, name: str, now: datetime) -> Finding:
    end = party_of(roster, name).parsed_certificate.not_valid_after_utc
    says = f"'{name}': valid until {end:%Y-%m-%d}, {(end - now) // timedelta(days=1)} more days"
    return check("certificate", lambda: check_certificate(roster, name, now), lambda _: says).finding


def _check_clock(roster: Roster, now: datetime) -> None:
    """No party can have made its keys in the future, and hardly have the certificates of all expired."""
    certificates = [party.parsed_certificate for party in (roster.server, *roster.tenants)]
    newest = max(certificate.not_valid_before_utc for certificate in certificates)
    here = f"this machine's clock shows {now.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    if now < newest:
        raise EnvironmentFault(f"{here}, and a party of this roster made its keys later", remedy="set the clock")
    if now > max(certificate.not_valid_after_utc for certificate in certificates):
        raise EnvironmentFault(
            f"{here}, and every certificate has expired", remedy="set the clock; if it is right, all make new keys"
        )


def _versions() -> str:
    try:
        return ", ".join(f"{package} {version(package)}" for package in _PACKAGES)
    except PackageNotFoundError as error:
        raise EnvironmentFault(
            f"package '{error.name}' is not installed", remedy="install fed-em with its dependencies"
        ) from None
