"""Sends back whatever comes over TCP, in a process of its own: what any answer on this machine takes at least. Prints its port."""

from __future__ import annotations

import socket
import threading


def main() -> None:
    """Serve until killed."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        print(f"echo on port {listening.getsockname()[1]}", flush=True)
        while True:
            line, _ = listening.accept()
            threading.Thread(target=_echo, args=(line,), daemon=True).start()


def _echo(line: socket.socket) -> None:
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while data := line.recv(65536):
        line.sendall(data)


if __name__ == "__main__":
    main()
