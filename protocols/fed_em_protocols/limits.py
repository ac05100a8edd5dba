"""Every limit of the protocol in one place. A message or a roster beyond them is refused before anything is computed from it."""

from __future__ import annotations

PROTOCOL_VERSION = 3

# A ring vector may hold this many 8-byte integers; the largest message is an upload of that length.
MAX_VECTOR_LENGTH = 4_000_000
MAX_MESSAGE_BYTES = 8 * MAX_VECTOR_LENGTH + 65_536

# Messages that Flower carries together; what waits beyond them goes with the next parcel.
MAX_PARCEL_MESSAGES = 1024

# What is signed beside the bulk bytes: a certificate with a signature of each of the most witnesses is the longest.
MAX_PAYLOAD_BYTES = 1_000_000

MAX_TENANTS = 10_000
COMPLETE_GRAPH_TENANTS = (
    64  # every two tenants of a roster up to this size share masks; larger ones have a sparse graph
)
MOST_COMPLETE = 128  # the largest roster that may have the complete graph all the same
MAX_NEIGHBOURS = 512
MAX_GRAPH_BITS = 128  # of security, and of correctness, that a sparse graph may be asked for
MAX_COMPONENTS = 65_536  # of a model, for the mass gate
MIN_TENANTS = 3
MAX_WINDOW_ROUNDS = 200
MAX_ROUND = 2**40
MAX_NAME_LENGTH = 64
MAX_ROW_CAP = 2**40
