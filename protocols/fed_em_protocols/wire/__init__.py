"""Bytes on the wire: protobuf, size-limited, versioned, and validated into frozen types at this edge."""
