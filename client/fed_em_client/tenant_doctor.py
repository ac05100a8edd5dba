"""`fed-em doctor` for a tenant: everything that a session needs of it, tested apart and without a session."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from fed_em.errors import CallerError
from fed_em_client.configuration import PolicyTable, TenantConfiguration, read_tenant_configuration
from fed_em_client.data_files import DataFile, data_paths, read_data_file
from fed_em_client.link_checks import Accepted, reach, resolve, shake_hands
from fed_em_client.object_files import ObjectFile, object_files
from fed_em_client.privacy_ledger import ledger_files, read_spends
from fed_em_client.privacy_statement import statement
from fed_em_client.rows import check_row_count
from fed_em_client.trusted_entities import read_trusted_entities
from fed_em_protocols.addresses import split_address
from fed_em_protocols.checks import Finding, check, check_roster, check_versions
from fed_em_protocols.errors import SERVER
from fed_em_protocols.party import PartyKeys, load_keys, load_shard_keys
from fed_em_protocols.process_memory import check_swap
from fed_em_protocols.protection import check_protection
from fed_em_protocols.roster import Roster, load_pinned_roster
from fed_em_protocols.session_numbers import ThreatModel, default_survivors
from fed_em_protocols.terms import Trust, default_colluders


def examine_tenant(path: Path, now: datetime) -> Iterator[Finding]:
    """Check a tenant's file and all that it names, one finding after another.

    A check that needs what an earlier one did not get is left out.

    Args:
        path: The tenant's TOML file.
        now: Time of day with its zone.
    """
    read = check(
        "configuration", lambda: read_tenant_configuration(path), lambda found: f"{path}: tenant '{found.name}'"
    )
    yield read.finding
    yield check_versions()
    configuration = read.result
    if configuration is None:
        return
    yield check_swap()
    yield check("policy", lambda: _policy_for_the_pin(configuration), _say_policy).finding
    roster = check("roster", lambda: _pinned_roster(configuration), _say_roster)
    yield roster.finding
    keys = check("keys", lambda: _own_keys(configuration, roster.result), lambda found: f"in {found.folder}")
    yield keys.finding
    if roster.result is not None:
        yield from check_roster(roster.result, (configuration.name, SERVER), now)
        yield from _check_demands(configuration.policy, roster.result)
    yield from _check_link(configuration, roster.result, keys.result)
    if configuration.policy.privacy.epsilon is not None or ledger_files(configuration).ledger.exists():
        yield check("privacy ledger", lambda: _balance(configuration, now), str).finding
    if (trusted := configuration.flower.trusted_entities) is not None:
        yield check("signed bundle", lambda: read_trusted_entities(trusted), _say_trusted).finding
    if configuration.shards is None:
        yield check("data", lambda: _read_data(configuration, roster.result), _say_data).finding
    else:
        shards = configuration.shards
        yield check("shard keys", lambda: load_shard_keys(shards.keys), lambda _: f"in {shards.keys}").finding
        yield check("data", lambda: object_files(shards.data), _say_objects).finding


def _check_demands(policy: PolicyTable, roster: Roster) -> Iterator[Finding]:
    """What a session that just meets this tenant's demands withstands."""
    colluders = default_colluders(roster.n) if policy.colluders is None else policy.colluders
    trust = Trust.SEMI_HONEST if policy.allow_semi_honest else Trust.MALICIOUS_SERVER
    threats = ThreatModel(trust, colluders, policy.difference_guard == "blocks", security_bits=policy.graph_bits)
    survivors = max(policy.minimum_cohort, default_survivors(roster, colluders + 2, threats))
    yield from check_protection(roster, threats, survivors)


def _balance(configuration: TenantConfiguration, now: datetime) -> str:
    """What is left of the tenant's budget."""
    files, budget = ledger_files(configuration), configuration.policy.privacy.demands().budget
    spends = read_spends(files)
    if budget is None:
        return f"{files.ledger}: {len(spends.sessions)} sessions with privacy, and the policy has no budget"
    together = statement(spends, now, budget.period, budget.delta).together
    return f"ε = {together:.4g} of {budget.epsilon:g} (δ = {budget.delta:g}) is spent or reserved in {budget.period_days} days"


def _policy_for_the_pin(configuration: TenantConfiguration) -> PolicyTable:
    policy, pin = configuration.policy, configuration.roster_hash
    if policy.rosters and pin not in policy.rosters:
        raise CallerError(
            f"the pinned roster, whose hash begins with {pin[:16]}, is none of those that the policy admits",
            remedy=f'add "{pin}" to `rosters` in the policy, if that is meant',
        )
    return policy


def _say_policy(policy: PolicyTable) -> str:
    """Which policy this is, and which of its lists leave the choice to a session's description."""
    open_ended = [name for name in ("models", "columns") if not getattr(policy, name)]
    more = f"; any {' and any '.join(open_ended)}, as a session's description says" if open_ended else ""
    when = f"{', '.join(policy.hours)} ({policy.time_zone})" if policy.hours else "at any hour"
    return f"digest {policy.digest.hex()[:16]}…; {when}{more}{_beside_the_budget(policy)}"


def _beside_the_budget(policy: PolicyTable) -> str:
    """What the demands for privacy do not bound: sessions that have none."""
    said, privacy = "", policy.privacy
    if privacy.epsilon is not None and not privacy.required:
        said += "; without required = true, sessions without noise are joined too, and the budget does not bound them"
    return said


def _pinned_roster(configuration: TenantConfiguration) -> Roster:
    roster = load_pinned_roster(configuration.roster, configuration.roster_hash)
    roster.index(configuration.name)
    return roster


def _say_roster(roster: Roster) -> str:
    return f"'{roster.federation}', version {roster.version}, {roster.n} tenants; its hash is the pinned one"


def _say_trusted(names: tuple[str, ...]) -> str:
    return f"Flower's bundles must be signed by {' or '.join(names)}"


def _own_keys(configuration: TenantConfiguration, roster: Roster | None) -> PartyKeys:
    keys = load_keys(configuration.keys)
    if roster is not None:
        keys.check_against(roster, configuration.name)
    return keys


def _check_link(configuration: TenantConfiguration, roster: Roster | None, keys: PartyKeys | None) -> Iterator[Finding]:
    host, port = split_address(configuration.server)
    addresses = check("name", lambda: resolve(host), lambda found: f"{host} is {', '.join(found)}")
    yield addresses.finding
    if addresses.result is None:
        return
    peer = check("connection", lambda: reach(host, port), lambda found: f"{found} answers")
    yield peer.finding
    if peer.result is not None and roster is not None and keys is not None:
        yield check("TLS", lambda: shake_hands(host, port, roster, keys), _say_handshake).finding


def _say_handshake(accepted: Accepted) -> str:
    own = "accepts this tenant's" if accepted.greeted else "has not refused this tenant's so far"
    return f"{accepted.protocol}; the server shows the roster's certificate, and {own}"


def _read_data(configuration: TenantConfiguration, roster: Roster | None) -> list[DataFile]:
    files = [_read_file(path, configuration) for path in data_paths(configuration.data)]
    if roster is not None:
        n, cap = sum(file.n_rows for file in files), roster.row_caps[roster.index(configuration.name)]
        check_row_count(files[0].path if len(files) == 1 else "the data", n, cap)
    return files


def _read_file(path: Path, configuration: TenantConfiguration) -> DataFile:
    file = read_data_file(path, lambda names: names)
    missing = [source for source in configuration.columns.values() if file.named and source not in file.columns]
    if missing:
        raise CallerError(f"{path} has no column '{missing[0]}', which [columns] names", remedy="mend [columns]")
    if file.n_rows == 0:
        raise CallerError(f"{path} has no rows", remedy="a tenant without rows stays out of the session")
    return file


def _say_objects(files: Sequence[ObjectFile]) -> str:
    listed = ", ".join(file.label for file in files[:3]) + (", …" if len(files) > 3 else "")
    return f"{sum(file.n_rows for file in files)} rows in {listed}, as this machine sees them; shards read them"


def _say_data(files: list[DataFile]) -> str:
    return "; ".join(map(_say_file, files))


def _say_file(file: DataFile) -> str:
    """For the tenant's own eyes: nobody else is told how many cells are missing."""
    numeric = sum(column.values is not None for column in file.columns.values())
    holes = [f"{column.n_missing} in '{name}'" for name, column in file.columns.items() if column.n_missing]
    said = f"{file.path}: {file.n_rows} rows, {len(file.columns)} columns, {numeric} of them numeric"
    return f"{said}; missing cells: {', '.join(holes)}" if holes else said
