"""`fed-em doctor` for a server: everything that a session needs of it, tested apart and without a session."""

from __future__ import annotations

import errno
import hashlib
import socket
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path

from fed_em.errors import EnvironmentFault
from fed_em_client.link_checks import confirm_server, resolve
from fed_em_protocols.addresses import split_address
from fed_em_protocols.checks import Finding, check, check_roster, check_versions
from fed_em_protocols.description import encoding_of
from fed_em_protocols.encoding import Encoding
from fed_em_protocols.errors import SERVER
from fed_em_protocols.party import PartyKeys, load_keys
from fed_em_protocols.process_memory import check_swap
from fed_em_protocols.protection import check_protection
from fed_em_protocols.roster import Roster, load_roster
from fed_em_protocols.terms import SessionTerms, Trust, validate_terms
from fed_em_server.checkpoints.store import CheckpointStore, StoreInUse
from fed_em_server.configuration import ServerConfiguration, read_server_configuration
from fed_em_server.serve import checkpoints_of
from fed_em_server.session import plan_session
from fed_em_server.session_terms import privacy_plan, survivors_of, threats_of


def examine_server(path: Path, now: datetime) -> Iterator[Finding]:
    """Check a session's file and all that it names, one finding after another.

    A check that needs what an earlier one did not get is left out.

    Args:
        path: The server's TOML file.
        now: Time of day with its zone.
    """
    read = check(
        "configuration", lambda: read_server_configuration(path), lambda found: f"{path}: session '{found.title}'"
    )
    yield read.finding
    yield check_versions()
    if read.result is not None:
        yield check_swap()
        yield from _examine_session(read.result, now)


def _examine_session(configuration: ServerConfiguration, now: datetime) -> Iterator[Finding]:
    read = check("roster", lambda: load_roster(configuration.roster), _say_roster)
    yield read.finding
    roster = read.result
    keys = check("keys", lambda: _own_keys(configuration, roster), lambda found: f"in {found.folder}")
    yield keys.finding
    yield from _check_listening(configuration, roster)
    if roster is None:
        return
    yield check("checkpoints", lambda: _checkpoints(configuration, roster), str).finding
    yield check("encoding", lambda: _first_encoding(configuration, roster), _say_encoding).finding
    own = keys.result
    if own is not None:
        yield check("terms", lambda: _terms(configuration, roster, own), _say_terms).finding
    digest = hashlib.sha256(configuration.description.to_json()).hexdigest()
    yield Finding("description", f'tenants may pin it in [policy]: schema_hash = "{digest}"')
    promised = check("privacy", lambda: _privacy(configuration, roster), lambda said: said[0])
    yield promised.finding
    for more in (promised.result or ())[1:]:
        yield Finding("privacy", more)
    parties = (SERVER, *(tenant.name for tenant in roster.tenants))
    yield from check_roster(roster, parties, now)
    trust = configuration.trust
    yield from check_protection(roster, threats_of(trust, roster), survivors_of(trust, roster))


def _privacy(configuration: ServerConfiguration, roster: Roster) -> tuple[str, ...]:
    plan = privacy_plan(configuration.trust, roster, configuration.description)
    if plan is None:
        return ("none: sums are opened as they are",)
    return (plan.privacy.in_words, *(words for _, words in plan.lines()))


def _own_keys(configuration: ServerConfiguration, roster: Roster | None) -> PartyKeys:
    keys = load_keys(configuration.keys)
    if roster is not None:
        keys.check_against(roster, SERVER)
    return keys


def _checkpoints(configuration: ServerConfiguration, roster: Roster) -> str:
    url, place = checkpoints_of(configuration, roster)
    shown = url.render_as_string(hide_password=True)
    if url.drivername == "sqlite" and not Path(str(url.database)).exists():
        return f"none yet; they will be in {shown}"
    try:
        with CheckpointStore(url, place) as store:
            row = store.unfinished()
    except StoreInUse:
        return f"in {shown}, which a running server uses"
    return f"in {shown}; " + ("no session waits to go on" if row is None else f"session {row.session} waits to go on")


def _say_roster(roster: Roster) -> str:
    return f"'{roster.federation}', version {roster.version}, {roster.n} tenants; hash {roster.digest.hex()}"


def _check_listening(configuration: ServerConfiguration, roster: Roster | None) -> Iterator[Finding]:
    host, port = split_address(configuration.listen)
    addresses = check("name", lambda: resolve(host), lambda found: f"{host} is {', '.join(found)}")
    yield addresses.finding
    if addresses.result is not None:
        yield check("port", lambda: _port_state(host, port, roster), lambda state: f"{port} {state}").finding


def _port_state(host: str, port: int, roster: Roster | None) -> str:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with closing(socket.socket(family, socket.SOCK_STREAM)) as listener:
        # A port that was closed a moment ago is free for a server.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE or roster is None:
                raise EnvironmentFault(
                    f"cannot listen on {host} port {port}: {error.strerror}",
                    remedy="change `listen`, or stop the process that uses the port",
                ) from None
            confirm_server(host, port, roster)
            return "is in use, by this roster's server"
    return "is free"


def _first_encoding(configuration: ServerConfiguration, roster: Roster) -> Encoding:
    """That of the first sum, the columns' moments, whose bounds the declared ranges give."""
    description = configuration.description
    return encoding_of(description, description.first_round, roster.row_caps)


def _say_encoding(encoding: Encoding) -> str:
    rows = sum(encoding.row_caps)
    return f"the moments of at most {rows} rows are exact to {min(encoding.bits)} fraction bits or more"


def _terms(configuration: ServerConfiguration, roster: Roster, keys: PartyKeys) -> SessionTerms:
    terms = plan_session(configuration, roster, keys.identity, "grpc").terms
    validate_terms(terms, roster)
    return terms


def _say_terms(terms: SessionTerms) -> str:
    return (
        f"{Trust(terms.trust).label}; sums of {terms.minimum_survivors} tenants or more are opened; "
        f"at most {terms.round_cap} rounds, {terms.window_rounds} a window; "
        + (
            f"no moments of a component below {terms.mass_floor / 1000:g} records"
            if terms.mass_floor
            else "no mass gate"
        )
    )
