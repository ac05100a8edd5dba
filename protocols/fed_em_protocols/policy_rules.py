"""The rules by which a tenant refuses a session: for its own metrics and logs. The server is told a `RefusalCode` and no more."""

from __future__ import annotations

from enum import StrEnum


class PolicyRule(StrEnum):
    """Which demand was not met; most are named as the key of [policy] that makes it."""

    ROSTER = "roster"
    """The session runs on another roster than the pinned one."""
    ROSTERS = "rosters"
    SUITE = "suite"
    ALLOW_SEMI_HONEST = "allow_semi_honest"
    DIFFERENCE_GUARD = "difference_guard"
    MASS_FLOOR = "mass_floor"
    SCHEMA_HASH = "schema_hash"
    MINIMUM_COHORT = "minimum_cohort"
    COLLUDERS = "colluders"
    ROUND_CAP = "round_cap"
    GRAPH_BITS = "graph_bits"
    TERMS = "terms"
    """The session's terms break the protocol's own rules, whatever the policy says."""
    MODELS = "models"
    COMPONENTS = "components"
    COLUMNS = "columns"
    HOURS = "hours"
    MEASUREMENTS = "measurements"
    MEASURING = "measuring"
    """More measurements, or of more models or edges, than [policy.measuring] admits in a period."""
    CHANGED = "changed"
    """The policy is not the one that the process started with, or cannot be read."""
    PRIVACY = "privacy"
    """[policy.privacy], or the privacy that a session's own description promises."""
    ROWS = "rows"
    """The tenant's rows do not fit the session."""
