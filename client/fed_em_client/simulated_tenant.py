"""A whole tenant inside a ClientApp of Flower's simulation runtime. For simulation only: there, code of the server's choice runs
beside the tenant's keys and rows.
"""

from __future__ import annotations

from pathlib import Path

from fed_em.errors import CallerError
from fed_em_client.configuration import read_tenant_configuration
from fed_em_client.take_part import open_tenant, take_part
from fed_em_protocols.grid_payloads import read_ticket
from fed_em_protocols.wire.grid_messages import AnswerCode

# Seconds to keep dialling a server that does not answer.
_PATIENCE = 60.0


def play_tenant(federation: Path, partition: int, ticket: bytes) -> tuple[AnswerCode, bytes]:
    """Take part in the session that a ticket leads to, from its start to its end.

    Args:
        federation: Folder with one configuration a tenant, `tenants/NAME/tenant.toml`.
        partition: Which of them, in the order of their names.
        ticket: From the coordinator.
    """
    files = sorted(federation.glob("tenants/*/tenant.toml"))
    if partition >= len(files):
        raise CallerError(f"{federation} holds {len(files)} tenants, and this node is number {partition + 1}")
    configuration = read_tenant_configuration(files[partition])
    address = read_ticket(ticket, open_tenant(configuration).roster)
    take_part(configuration, print, _PATIENCE, address)
    return AnswerCode.DONE, configuration.name.encode()
