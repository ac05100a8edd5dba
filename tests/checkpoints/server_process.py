"""`fed-em server`, which also writes the port that it listens on to the file that is named first."""

from __future__ import annotations

import sys
from pathlib import Path

from fed_em_server.grpc_hub import GrpcHub
from fed_em_server.serve import Server
from fed_em_simulations.command_line import main

if __name__ == "__main__":
    port_file = Path(sys.argv.pop(1))
    listen = Server.hub

    def listening(server: Server) -> GrpcHub:
        hub = listen(server)
        whole = port_file.with_suffix(".new")
        whole.write_text(str(hub.port))
        whole.rename(port_file)
        return hub

    Server.hub = listening  # type: ignore[method-assign]
    main()
