"""Every limit of the protocol in one place. A message or a roster beyond them is refused before anything is computed from it."""

from __future__ import annotations

PROTOCOL_VERSION = 1

# A ring vector may hold this many 8-byte integers; the largest message is an upload of that length.
MAX_VECTOR_LENGTH = 4_000_000
MAX_MESSAGE_BYTES = 8 * MAX_VECTOR_LENGTH + 65_536

MAX_TENANTS = 64  # on the complete graph; larger rosters need the sparse one
MIN_TENANTS = 3
MAX_WINDOW_ROUNDS = 200
MAX_ROUND = 2**40
MAX_NAME_LENGTH = 64
MAX_ROW_CAP = 2**40
