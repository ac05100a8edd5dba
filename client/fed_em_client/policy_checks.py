"""What a tenant's policy demands beyond a session's terms: of its description, of the hour, and that the policy itself stands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from fed_em.errors import FedEmError
from fed_em_client.configuration import PolicyTable, TenantConfiguration
from fed_em_client.hours import Span, within, zone_of
from fed_em_protocols.description import SessionDescription
from fed_em_protocols.errors import TermsRefused
from fed_em_protocols.policy_rules import PolicyRule

_REMEDY = "agree on the session with its operator, or change this tenant's policy"


def check_description(policy: PolicyTable, description: SessionDescription) -> None:
    """Accept what a session is about in silence, or refuse: before any row is read, so that a refusal says nothing on rows.

    Raises:
        TermsRefused: names the model or the column that the policy does not admit.
    """
    if description.measured is not None and not policy.measurements:
        raise TermsRefused(
            "the session measures fitted models over this tenant's rows, this tenant's policy says measurements = false",
            remedy=_REMEDY,
            rule=PolicyRule.MEASUREMENTS,
        )
    family = description.fitted_model.family
    if policy.models and family not in policy.models:
        raise TermsRefused(
            f"the session fits a {family}, this tenant's policy says models = {list(policy.models)}",
            remedy=_REMEDY,
            rule=PolicyRule.MODELS,
        )
    most = description.most_components
    if policy.components is not None and most > policy.components:
        raise TermsRefused(
            f"the session fits {most} components{_of_finer_starts(description)}, "
            f"this tenant's policy says components = {policy.components}",
            remedy=_REMEDY,
            rule=PolicyRule.COMPONENTS,
        )
    for name, kind in _columns_of(description):
        admitted = policy.columns.get(name) if policy.columns else "any"
        if admitted is None:
            complaint = f"this tenant's policy does not admit the column '{name}' (columns)"
            raise TermsRefused(complaint, remedy=_REMEDY, rule=PolicyRule.COLUMNS)
        if admitted not in ("any", kind):
            raise TermsRefused(
                f"the session takes the column '{name}' as {kind}, this tenant's policy admits it as {admitted}",
                remedy=_REMEDY,
                rule=PolicyRule.COLUMNS,
            )


def _of_finer_starts(description: SessionDescription) -> str:
    finer = description.starts is not None and description.starts.finer
    return ", its finer starts having more than its model" if finer else ""


def _columns_of(description: SessionDescription) -> Iterator[tuple[str, str]]:
    """Every column that is read, with what it is taken as."""
    yield from ((column.name, column.kind) for column in description.columns)
    if description.labels is not None:
        yield description.labels.column, "labels"
    if description.weights is not None:
        yield description.weights.column, "weights"


def check_hours(policy: PolicyTable, now: datetime) -> None:
    """Raise `TermsRefused` outside of the policy's hours; `now` is a time of day with its zone."""
    spans = [Span.parse(text) for text in policy.hours]
    if spans and not within(spans, zone_of(policy.time_zone), now):
        raise TermsRefused(
            f"this tenant's policy says hours = {list(policy.hours)} ({policy.time_zone}), and it is outside of them",
            remedy="start the tenant again within its hours: it joins the session anew",
            rule=PolicyRule.HOURS,
        )


@dataclass(frozen=True)
class Permit:
    """What must hold when a session is joined, and before each upload: the hour, and the policy that every message is signed under.

    Attributes:
        configuration: Of this process, as it was read when it started.
        clock: Time of day with its zone.
    """

    configuration: TenantConfiguration
    clock: Callable[[], datetime]

    def __call__(self) -> None:
        """Raise `TermsRefused` unless both hold."""
        self._require_the_same_policy()
        check_hours(self.configuration.policy, self.clock())

    def _require_the_same_policy(self) -> None:
        try:
            changed = self.configuration.policy_now() != self.configuration.policy
        except FedEmError as error:
            complaint = f"this tenant's policy cannot be read any more: {error.message}"
            raise TermsRefused(complaint, rule=PolicyRule.CHANGED) from None
        if changed:
            raise TermsRefused(
                "this tenant's policy has changed since its process started, which signs under the old one",
                remedy="start the tenant again: it joins the session anew under the new policy, or refuses it",
                rule=PolicyRule.CHANGED,
            )
