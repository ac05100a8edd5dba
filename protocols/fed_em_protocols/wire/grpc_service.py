"""The gRPC service by name, and the channel options that both ends must agree on.

Messages pass through gRPC as the bytes of an Envelope: they are parsed in one place, `fed_em_protocols.envelope`, whatever carried
them, so no generated service code is used.
"""

from __future__ import annotations

from fed_em_protocols.limits import MAX_MESSAGE_BYTES

SERVICE = "fedem.v3.Coordinator"
METHOD = "Session"
PATH = f"/{SERVICE}/{METHOD}"

ChannelOptions = list[tuple[str, int | str]]


def channel_options() -> ChannelOptions:
    """Size limits, and pings that find a half-open connection within 30 seconds."""
    return [
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES + 4096),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES + 4096),
        ("grpc.keepalive_time_ms", 20_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.http2.ping_timeout_ms", 10_000),  # a minute otherwise, and it is the one that counts
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ]
