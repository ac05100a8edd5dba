"""The way to a coordinator, step by step: name, connection, TLS with pinned certificates."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

from cryptography.hazmat.primitives.serialization import Encoding

from fed_em.errors import EnvironmentFault
from fed_em_protocols.party import SERVER_HOST, TLS_CERTIFICATE, TLS_KEY, PartyKeys
from fed_em_protocols.roster import Roster

_TIMEOUT = 5.0

# A gRPC server speaks first: its HTTP/2 settings come as soon as it has accepted the client's certificate.
_SETTINGS_TIMEOUT = 3.0


@dataclass(frozen=True)
class Accepted:
    """A finished handshake.

    Attributes:
        protocol: Such as "TLSv1.3".
        greeted: Whether the server then spoke, so that it has certainly accepted this side's certificate.
    """

    protocol: str
    greeted: bool


def resolve(host: str) -> tuple[str, ...]:
    """The addresses of a host name. Raises `EnvironmentFault` if it has none."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise EnvironmentFault(
            f"the name '{host}' has no address here: {_reason(error)}",
            remedy="check `server` in the tenant's file, and this machine's DNS",
        ) from None
    return tuple(dict.fromkeys(str(address[0]) for *_, address in found))


def connect(host: str, port: int) -> socket.socket:
    """A TCP connection. Raises `EnvironmentFault` if nobody answers."""
    try:
        return socket.create_connection((host, port), timeout=_TIMEOUT)
    except OSError as error:
        raise EnvironmentFault(
            f"no connection to {host} port {port}: {_reason(error)}",
            remedy="the server must be running, and firewalls must let this machine dial it",
        ) from None


def reach(host: str, port: int) -> str:
    """Connect and hang up; the address and port that answered. Raises `EnvironmentFault` if nobody does."""
    with closing(connect(host, port)) as link:
        address = link.getpeername()
        return f"{address[0]} port {address[1]}"


def shake_hands(host: str, port: int, roster: Roster, keys: PartyKeys) -> Accepted:
    """TLS as the rounds use it: this side shows its certificate, the other must show the one that the roster lists.

    Raises:
        EnvironmentFault: nobody answers, the link breaks, whoever answers does not show the server's certificate, or it
            does not accept this side's.
    """
    context = _trusting(roster)
    context.load_cert_chain(keys.folder / TLS_CERTIFICATE, keys.folder / TLS_KEY)
    with _pinned_link(host, port, roster, context) as link:
        return Accepted(str(link.version()), _is_greeted(link))


def confirm_server(host: str, port: int, roster: Roster) -> None:
    """Raise `EnvironmentFault` unless whoever listens there shows the certificate of the roster's server."""
    with _pinned_link(host, port, roster, _trusting(roster)):
        pass


def _trusting(roster: Roster) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=roster.server.certificate)
    context.set_alpn_protocols(["h2"])
    return context


@contextmanager
def _pinned_link(host: str, port: int, roster: Roster, context: ssl.SSLContext) -> Iterator[ssl.SSLSocket]:
    with closing(connect(host, port)) as plain:
        try:
            with context.wrap_socket(plain, server_hostname=SERVER_HOST) as link:
                _require_pinned(link.getpeercert(binary_form=True), roster)
                yield link
        except ssl.SSLCertVerificationError as error:
            raise _foreign(f"at {host} port {port}: {error.verify_message}") from None
        except OSError as error:
            raise EnvironmentFault(
                f"no TLS with {host} port {port}: {_reason(error)}",
                remedy="another program may listen on that port, or something between breaks TLS open",
            ) from None


def _require_pinned(shown: bytes | None, roster: Roster) -> None:
    if shown != roster.server.parsed_certificate.public_bytes(Encoding.DER):
        raise _foreign("another certificate")


def _foreign(what: str) -> EnvironmentFault:
    return EnvironmentFault(
        f"the certificate shown is not the one of the roster's server, {what}",
        remedy="another program answers there, or the server runs on other keys or another roster: ask its operator",
    )


def _is_greeted(link: ssl.SSLSocket) -> bool:
    """Whether the server accepts this side's certificate: with TLS 1.3 it says so only after the handshake."""
    link.settimeout(_SETTINGS_TIMEOUT)
    try:
        if link.recv(1):
            return True
    except TimeoutError:
        return False
    except (ssl.SSLError, ConnectionError):
        pass
    raise EnvironmentFault(
        "the server does not accept this party's certificate",
        remedy="the server runs on another roster, or finds the certificate expired: compare rosters and clocks",
    )


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer in {_TIMEOUT:.0f} seconds"
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
