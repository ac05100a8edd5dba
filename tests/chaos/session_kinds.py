"""The kinds of sessions that come to harm."""

from __future__ import annotations

from oracle import BRISK, TRUST
from small_federation import MODEL, session_toml

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

# As sessions are by default: of several starts, on two tracks of L-BFGS. And all that may be asked of one besides.
SELECTION = 'family = "gaussian-mixture"\n[selection]\ncomponents = [2, 3]\nmax_iterations = 3'
DEFAULT = (
    PLAIN.replace("max_iterations = 11", "max_iterations = 4\nstandard_errors = true")
    .replace(MODEL, SELECTION)
    .replace('optimiser = "em"\nstarts = 0', "starts = 2")
)
# What is a tenant's own is computed anew by its next process.
OWN_WEIGHTS = PLAIN.replace(MODEL, f'{MODEL}\nmixing = "tenant"')

FILED = {
    "plain": PLAIN,
    "private": PRIVATE,
    "gated": GATED,
    "semi-honest": SEMI_HONEST,
    "default": DEFAULT,
    "own weights": OWN_WEIGHTS,
}


def in_database(url: str, session: str = PLAIN) -> str:
    """With checkpoints in PostgreSQL."""
    return f'{session}\n[checkpoints]\nurl = "{url}"\n'
