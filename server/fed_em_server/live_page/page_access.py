"""Who may see the page: a browser on this machine that was once given the token.

The order of the checks is that of what they need to know: the `Host` header (a page of the web whose name was made to point here
names itself there), the method, the token. Nothing of a request is ever logged, as an address may hold the token.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from fed_em.errors import CallerError
from fed_em_protocols.addresses import split_address

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

TOKEN_BYTES = 32

_MOST_FIELDS = 8


def page_token() -> str:
    """A fresh token of 256 random bits."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def loopback(address: str) -> tuple[str, int]:
    """Host and port of an address that only this machine can reach.

    Raises:
        CallerError: it is no "host:port", or others could reach it: the page comes without TLS, and so does its token.
    """
    host, port = split_address(address)
    if host not in LOOPBACK:
        raise CallerError(
            f"the live page is for this machine alone, and '{host}' is not of it",
            remedy=f"listen on 127.0.0.1:{port}, and from elsewhere use `ssh -L {port}:127.0.0.1:{port}`",
        )
    return host, port


def names_this_machine(host: str | None) -> bool:
    """Whether a `Host` header names this machine; whatever the port, which is another at the far end of a tunnel."""
    try:
        name = split_address(host or "")[0]
    except CallerError:
        name = (host or "").removeprefix("[").removesuffix("]")
    return name.lower() in LOOPBACK


@dataclass(frozen=True)
class Access:
    """A token, and the cookie that holds it: cookies are shared by all ports of a host, so its name has the port."""

    token: str = field(repr=False)
    port: int

    @property
    def cookie(self) -> str:
        """The name of the cookie."""
        return f"fed-em-page-{self.port}"

    @property
    def cookie_to_set(self) -> str:
        """Out of reach of scripts, sent by no other site, gone with the browser."""
        return f"{self.cookie}={self.token}; HttpOnly; SameSite=Strict; Path=/"

    def in_query(self, query: str) -> bool:
        """Whether an address has the token."""
        try:
            given = parse_qs(query, max_num_fields=_MOST_FIELDS).get("token", ())
        except ValueError:  # more fields than that
            return False
        return any(self._is(token) for token in given)

    def in_cookies(self, header: str | None) -> bool:
        """Whether a browser has the cookie."""
        try:
            found = SimpleCookie(header or "").get(self.cookie)
        except CookieError:
            return False
        return found is not None and self._is(found.value)

    def _is(self, given: str) -> bool:
        return secrets.compare_digest(given.encode(), self.token.encode())
