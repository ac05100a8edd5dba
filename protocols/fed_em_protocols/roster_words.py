"""A roster in words: what commands print of it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from cryptography.x509 import Certificate

from fed_em_protocols.roster import Roster
from fed_em_protocols.terms import default_colluders, is_sparse

# A new version takes every tenant's approval, so nobody should wait until a certificate has expired.
_SOON = timedelta(days=30)


def lines_of(made: Roster, now: datetime) -> Iterator[str]:
    """A roster for people: its parties, what follows from its shape, its revocations, and the hash to pin."""
    yield f"federation '{made.federation}', version {made.version}, {made.n} tenants"
    for each in made.tenants:
        yield f"  {each.name:<24} at most {each.row_cap} rows, certificate {validity(each.parsed_certificate, now)}"
    yield f"  {'(the server)':<24} certificate {validity(made.server.parsed_certificate, now)}"
    yield from shape_of(made)
    for gone in made.revoked:
        yield f"revoked on {gone.date}: '{gone.name}' (key {gone.identity[:16]}…): {gone.reason}"
    if made.parent is not None:
        yield f"follows the version whose hash begins with {made.parent[:16]}"
    yield "every tenant compares this with what it knows of the others, then pins it in its file:"
    yield f'roster_hash = "{made.digest.hex()}"'


def shape_of(made: Roster) -> Iterator[str]:
    """Blocks and witnesses, and what follows from them."""
    smallest = min(len(block) for block in made.blocks)
    usual = default_colluders(made.n)
    if len(made.blocks) == 1:
        yield "one block: every sum needs all tenants, and whoever drops out pauses the session until it is back"
        if made.n // 3 > 1:
            yield f"  --block-size 3 makes {made.n // 3} blocks, of which the others go on, for f = 1 colluding tenant"
    else:
        yield f"{len(made.blocks)} blocks, each of which is in a sum whole or not at all:"
        for block in made.blocks:
            yield f"  {', '.join(made.names(block))}"
    if smallest - 2 < usual:
        yield f"sessions must say colluders = {max(smallest - 2, 0)} or less, and tenants' policies too: a block has f + 2 tenants"
    if is_sparse(made):
        yield (
            f"{len(made.witnesses)} witnesses certify rounds, as the hash of all names draws them: "
            f"{', '.join(made.names(made.witnesses))}"
        )


def validity(certificate: Certificate, now: datetime) -> str:
    """How long a certificate is valid."""
    end = certificate.not_valid_after_utc
    if now > end:
        return f"EXPIRED on {end:%Y-%m-%d}: its party rotates its keys"
    soon = ", its party should rotate its keys" if end - now < _SOON else ""
    return f"valid until {end:%Y-%m-%d}{soon}"
