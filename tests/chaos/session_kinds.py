"""The kinds of sessions that come to harm."""

from __future__ import annotations

from oracle import BRISK, TRUST
from small_federation import session_toml

# Windows of five rounds, so that set-ups are among all that is struck.
PLAIN = session_toml(fit="tolerance = 0\nmax_iterations = 11", times=BRISK, trust=TRUST).replace(
    "window_rounds = 16", "window_rounds = 5"
)
# Each round that a death interrupts is paid for, so there is enough to pay with.
PRIVATE = PLAIN.replace("[times]", "[privacy]\nepsilon = 30\ndelta = 1e-3\nspare_sums = 80\n[times]")
# Every sum is two: counts, and moments of what holds enough.
GATED = PLAIN.replace(TRUST, f"{TRUST}\nmass_floor = 5").replace("max_iterations = 11", "max_iterations = 6")
# No witnesses: whatever the server says is so.
SEMI_HONEST = PLAIN.replace(TRUST, f'{TRUST}\nmode = "semi-honest"')

FILED = {"plain": PLAIN, "private": PRIVATE, "gated": GATED, "semi-honest": SEMI_HONEST}


def in_database(url: str, session: str = PLAIN) -> str:
    """With checkpoints in PostgreSQL."""
    return f'{session}\n[checkpoints]\nurl = "{url}"\n'
