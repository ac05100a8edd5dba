"""The transcript of a session: signed, append-only, Merkle-hashed; anyone with the roster can replay it."""
