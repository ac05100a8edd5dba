"""Network addresses as people write them: "host:port", an IPv6 host in brackets."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

from fed_em.errors import CallerError

_LARGEST_PORT = 65535


def split_address(address: str) -> tuple[str, int]:
    """Host (an IPv6 one without its brackets) and port. Raises `CallerError` if `address` is not "host:port"."""
    host, colon, port = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    well_formed = colon and host and port.isascii() and port.isdecimal() and (bracketed or ":" not in host)
    if not well_formed or int(port) > _LARGEST_PORT:
        raise CallerError(f"'{address}' is no host:port", remedy="write it as example.org:8443 or [2001:db8::1]:8443")
    return (host[1:-1] if bracketed else host), int(port)


def _checked(address: str) -> str:
    split_address(address)
    return address


Address = Annotated[str, AfterValidator(_checked)]
"""A "host:port" in a configuration file."""
