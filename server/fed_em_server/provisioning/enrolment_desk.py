"""The coordinator's desk: requests that came in, checked and kept, and the roster that answers them all."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from fed_em.errors import CallerError, EnvironmentFault
from fed_em_protocols.certificates import check_validity
from fed_em_protocols.enrolment import (
    EnrolmentRequest,
    check_distinct,
    check_request,
    fingerprint,
    invited,
    load_request,
)
from fed_em_protocols.errors import SERVER
from fed_em_protocols.party import founded
from fed_em_protocols.roster import Roster, load_roster, replace_file
from fed_em_server.provisioning.federation_plan import PLAN, PlannedFederation, read_plan
from fed_em_server.provisioning.party_folders import ROSTER, folder_of

REQUESTS = "requests"


@dataclass(frozen=True)
class EnrolmentDesk:
    """A provisioned federation as it lies at the coordinator."""

    root: Path
    federation: PlannedFederation

    @classmethod
    def at(cls, root: Path) -> EnrolmentDesk:
        """The desk of a folder that `fed-em provision new` made. Raises `CallerError` if it is none."""
        return cls(root, read_plan(root / PLAN).parsed)

    def kept(self) -> Mapping[str, EnrolmentRequest]:
        """Requests that were collected, by name in the order of the plan, each checked again: files can be changed.

        Raises:
            CallerError, BadSignature: as `check_request`, or a file is no request.
        """
        invitations = self.federation.invitations()
        found = {}
        for name, invitation in invitations.items():
            if self._file_of(name).exists():
                request = load_request(self._file_of(name))
                check_request(invitation, request)
                found[name] = request
        check_distinct(found.values())
        return found

    def collect(
        self, requests: Sequence[EnrolmentRequest], now: datetime, replaced: Collection[str] = ()
    ) -> Mapping[str, EnrolmentRequest]:
        """Check requests and keep them. All are kept, or none.

        Args:
            requests: What parties sent.
            now: Time of day with its zone.
            replaced: Names of parties whose earlier request gives way to a new one.

        Returns:
            All that are there now.

        Raises:
            CallerError: a request is of nobody who was invited or breaks a rule, another of its party is there, or the roster is published.
            BadSignature: as `check_request`.
            EnvironmentFault: they cannot be written.
        """
        invitations, there = self.federation.invitations(), dict(self.kept())
        for request in requests:
            name = request.card.name
            check_request(invited(invitations, request), request)
            check_validity(request.card.parsed_certificate, name, now)
            before = there.get(name)
            if before is not None and before.card != request.card:
                self._require_replaceable(before, request, replaced)
            there[name] = request
        check_distinct(there.values())
        for request in requests:
            self._keep(request)
        return {name: there[name] for name in invitations if name in there}

    def missing(self, there: Collection[str]) -> tuple[str, ...]:
        """Who has not sent a request."""
        return tuple(name for name in self.federation.invitations() if name not in there)

    def publish(self, now: datetime) -> Roster:
        """Write the roster that answers all requests, into every folder; the same one again if it is there.

        Raises:
            CallerError: requests are missing, a certificate has expired, or another roster is there.
            BadSignature: as `kept`.
            EnvironmentFault: it cannot be written.
        """
        there = self.kept()
        missing = self.missing(there)
        if missing:
            raise CallerError(
                f"there is no request yet of {', '.join(missing)}",
                remedy="`fed-em provision collect` takes what they send",
            )
        for name, request in there.items():
            check_validity(request.card.parsed_certificate, name, now)
        tenants = [there[tenant.name].card for tenant in self.federation.tenants]
        made = founded(self.federation.federation, there[SERVER].card, tenants, block_size=self.federation.block_size)
        file = self.root / ROSTER
        if file.exists() and load_roster(file).digest != made.digest:
            raise CallerError(
                f"{file} is another roster, and tenants may have pinned it",
                remedy="what changes after that is a new version: `fed-em roster add`, `rotate`, `propose`",
            )
        for path in (file, *(folder_of(self.root, name) / ROSTER for name in there)):
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, made.to_json())
        return made

    def _require_replaceable(
        self, before: EnrolmentRequest, request: EnrolmentRequest, replaced: Collection[str]
    ) -> None:
        name = request.card.name
        if (self.root / ROSTER).exists():
            raise CallerError(
                f"the roster is published with other keys of '{name}'",
                remedy=f"'{name}' runs `fed-em provision renew`, and the next version takes it by `fed-em roster rotate`",
            )
        if name not in replaced:
            raise CallerError(
                f"'{name}' has sent a request with other keys: {fingerprint(before.card)}, and now {fingerprint(request.card)}",
                remedy=f"ask '{name}' on the telephone; if it made its keys anew, give --replace {name}",
            )

    def _keep(self, request: EnrolmentRequest) -> None:
        file = self._file_of(request.card.name)
        try:
            file.parent.mkdir(exist_ok=True)
        except OSError as error:
            raise EnvironmentFault(f"cannot write {file}: {error.strerror}") from None
        replace_file(file, request.to_json())

    def _file_of(self, name: str) -> Path:
        return self.root / REQUESTS / f"{name}.json"
