"""One tenant as a process of its own, for measurements.

python -m tests.bench.tenant_process sum    TENANT.toml HOST:PORT    secure sums of a fixed vector
python -m tests.bench.tenant_process echo   TENANT.toml HOST:PORT    bytes for bytes, no protocol
python -m tests.bench.tenant_process flower TENANT.toml SOCKET       whole sessions behind a SuperNode
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from fed_em_client.configuration import read_tenant_configuration
from fed_em_client.flower_tenant import serve_flower
from fed_em_client.grpc_link import GrpcLink, serve_session
from fed_em_client.round_marks import FileRoundMarks
from fed_em_client.take_part import Tenant, open_tenant
from fed_em_client.tenant_session import TenantSession
from fed_em_protocols.tenant_state import TenantSelf
from tests.bench.fixed_work import FixedWork

_PATIENCE = 60.0
FLOWER_SESSIONS = 3

# An echoed message starts with the size of its answer; a size of 0 says good-bye.
SIZE_BYTES = 4


def sum_fixed_vectors(tenant: Tenant, address: str) -> None:
    """Serve one session of secure sums, with everything that a real tenant does but its E-step."""
    configuration = tenant.configuration
    policy = configuration.policy.terms_policy()
    me = TenantSelf(tenant.roster, tenant.index, tenant.keys.identity, policy, software="bench")
    with FileRoundMarks(configuration.state) as marks:
        session = TenantSession(me, FixedWork(tenant.index), marks)
        serve_session(session, tenant.endpoint(address), _PATIENCE, print)


def echo(tenant: Tenant, address: str) -> None:
    """Answer every message with as many zeros as it asks for."""
    with GrpcLink(tenant.endpoint(address)) as link:
        link.send(bytes(1))
        for data in link:
            size = int.from_bytes(data[:SIZE_BYTES], "little")
            if size == 0:
                return
            link.send(bytes(size))


def serve_behind_flower(tenant: Tenant, socket: str) -> None:
    """Serve sessions over the tenant's rows, as `fed-em tenant --flower-socket` does."""
    serve_flower(tenant.configuration, Path(socket), print, sessions=FLOWER_SESSIONS)


MODES: dict[str, Callable[[Tenant, str], None]] = {
    "sum": sum_fixed_vectors,
    "echo": echo,
    "flower": serve_behind_flower,
}

if __name__ == "__main__":
    MODES[sys.argv[1]](open_tenant(read_tenant_configuration(Path(sys.argv[2]))), sys.argv[3])
