"""A Flower fleet on this machine: a SuperLink with TLS, and one authenticated SuperNode a tenant.

For the demonstration and for tests. Everything is started as its own process, keeps its state in one folder, stays on loopback, and
is stopped at the end of the block, whatever happened in it.

    with FlowerFleet(folder, sockets) as fleet:
        fleet.run(session_file, link="stream")
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from fed_em.errors import EnvironmentFault
from fed_em_protocols.certificates import self_signed
from fed_em_server.bundle import write_bundle

_HOST = "localhost"
_CONNECTION = "fleet"
_STARTING_SECONDS = 180.0
_STOPPING_SECONDS = 5.0
# Each registration is a process that loads all of Flower.
_REGISTER_AT_ONCE = 3

# Of the log of a run that failed.
_LINES_SHOWN = 30

# Ray gives its own programs fixed times to come up, which a busy machine or a slow disk overruns.
_RAY_DID_NOT_START = ("timed out during startup", "Failed to connect to GCS")
_ATTEMPTS_TO_START_RAY = 3

_HOME_VARIABLE = "FLWR_HOME"
_ENVIRONMENT = {
    # Flower tells its makers what it does, looks for updates and installs dependencies over the network, unless it is told not to.
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    # How often a node looks for a message that it has received; 1 second by default.
    "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.1",
    # One thread of linear algebra a process: they share this machine.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


class FlowerRunFailed(EnvironmentFault):
    """A run that Flower took and did not complete. Shows the last lines of its log, whose folder may not last.

    Args:
        status: Flower's word for how it ended.
        log: What the run printed.
    """

    def __init__(self, status: str, log: Path) -> None:
        printed = log.read_text(encoding="utf-8", errors="replace")
        last = "\n".join(printed.splitlines()[-_LINES_SHOWN:])
        super().__init__(f"the Flower run ended as {status}; its last words:\n{last}", remedy=f"see {log}")
        self.ray_did_not_start = any(sign in printed for sign in _RAY_DID_NOT_START)


@dataclass(frozen=True)
class _Running:
    """A process, the leader of a group of its own, and its log."""

    process: subprocess.Popen[bytes]
    log: Path

    def stop(self) -> None:
        """End the whole group: first by asking, then by force."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(_STOPPING_SECONDS)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class _Flower(AbstractContextManager["_Flower"]):
    """Flower's commands with a home folder of their own, and the processes that were started."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._home = self._folder / "home"
        self._home.mkdir(exist_ok=True)
        self._running: list[_Running] = []
        self._commands = itertools.count(1)
        self._run_options: list[str] = []
        self._attempts = 1

    def __enter__(self) -> Self:
        try:
            self._start_all()
        except BaseException:
            self._stop_all()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop_all()

    def run(
        self,
        session_file: Path,
        link: str = "stream",
        address: str = "",
        federation: Path | None = None,
        events: Path | None = None,
        seconds: float = 3600.0,
    ) -> None:
        """Submit a run and wait until it has ended; one whose Ray did not come up in Ray's own time is submitted again.

        Args:
            session_file: The server's configuration.
            link: "stream" or "relay".
            address: "host:port" for the tickets; by default what the session listens on.
            federation: Folder of the tenants' configurations, in the simulation runtime.
            events: Where the session's events are written as JSON lines.
            seconds: How long to wait.

        Raises:
            EnvironmentFault: Flower does not take the run, or it fails; the message names the log.
        """
        config = {"session": str(session_file.resolve()), "link": link, "address": address}
        config["federation"] = str(federation.resolve()) if federation else ""
        config["events"] = str(events.resolve()) if events else ""
        options = ["--stream", "--run-config", _key_values(config), *self._run_options]
        for attempt in range(1, self._attempts + 1):
            try:
                return self._submit(options, seconds)
            except FlowerRunFailed as failure:
                if not failure.ray_did_not_start or attempt == self._attempts:
                    raise
        return None

    def _submit(self, options: Sequence[str], seconds: float) -> None:
        log = self._flwr("run", str(write_bundle(self._folder)), _CONNECTION, *options, seconds=seconds)
        newest = json.loads(self._flwr("list", _CONNECTION, "--format", "json").read_text(encoding="utf-8"))["runs"][0]
        if newest["status"] != "finished:completed":
            raise FlowerRunFailed(newest["status"], log)

    def _start_all(self) -> None:
        raise NotImplementedError

    def _stop_all(self) -> None:
        # SuperNodes first: they complain about a SuperLink that goes away.
        with ThreadPoolExecutor() as pool:
            list(pool.map(_Running.stop, self._running[1:]))
        for running in self._running[:1]:
            running.stop()
        self._running.clear()
        kill_detached(self._home)

    def _connect(self, port: int, security: str) -> None:
        """Write down where `flwr` finds the SuperLink, and wait until it answers."""
        text = f'[superlink.{_CONNECTION}]\naddress = "{_HOST}:{port}"\n{security}\n'
        (self._home / "config.toml").write_text(text, encoding="utf-8")
        superlink = self._running[0]
        deadline = time.monotonic() + _STARTING_SECONDS
        while time.monotonic() < deadline and superlink.process.poll() is None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
                return
            time.sleep(0.1)
        raise EnvironmentFault("the SuperLink does not come up", remedy=f"see {superlink.log}")

    def _start_superlink(self, port: int, *flags: str, **options: object) -> None:
        everywhere = _options(host=_HOST, port=port, database=self._folder / "state.db", **options)
        flags = (*flags, "--disable-runtime-dependency-installation")
        self._start("superlink", ["flower-superlink", *flags, *everywhere])

    def _start(self, name: str, command: Sequence[str]) -> None:
        self._running.append(self._launched(command, self._folder / f"{name}.log"))

    def _flwr(self, *arguments: str, seconds: float = 120.0) -> Path:
        """Run a `flwr` command to its end; where its output lies."""
        log = self._folder / f"flwr-{arguments[0]}-{next(self._commands)}.log"
        running = self._launched(["flwr", *arguments], log)
        try:
            status = running.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise EnvironmentFault(
                f"`flwr {arguments[0]}` takes more than {seconds:.0f} s", remedy=f"see {log}"
            ) from None
        finally:
            running.stop()
        if status != 0:
            raise EnvironmentFault(f"`flwr {arguments[0]}` failed", remedy=f"see {log}")
        return log

    def _launched(self, command: Sequence[str], log: Path) -> _Running:
        """Start one of the programs of the environment that this Python runs in."""
        with log.open("wb") as file:
            process = subprocess.Popen(
                [str(Path(sys.executable).parent / command[0]), *command[1:]],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=self._environment,
                cwd=self._folder,
                start_new_session=True,
            )
        return _Running(process, log)

    @property
    def _environment(self) -> dict[str, str]:
        # Flower's programs start each other by name.
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        return {**os.environ, **_ENVIRONMENT, "PATH": path, _HOME_VARIABLE: str(self._home)}


class FlowerFleet(_Flower):
    """Flower's deployment engine with one SuperNode a tenant.

    Args:
        folder: For its state, keys and logs.
        sockets: The tenants' doors by tenant name.
    """

    def __init__(self, folder: Path, sockets: Mapping[str, Path]) -> None:
        super().__init__(folder)
        self._sockets = dict(sockets)

    def _start_all(self) -> None:
        port, *node_ports = _free_ports(1 + len(self._sockets))
        certificate, key = self._write_certificate()
        self._start_superlink(
            port, "--enable-supernode-auth", ssl_ca_certfile=certificate, ssl_certfile=certificate, ssl_keyfile=key
        )
        self._connect(port, f'root-certificates = "{certificate}"')
        keys = {name: self._write_node_key(name) for name in self._sockets}
        with ThreadPoolExecutor(_REGISTER_AT_ONCE) as pool:
            list(pool.map(lambda key: self._flwr("supernode", "register", f"{key}.pub", _CONNECTION), keys.values()))
        for (name, path), node_port in zip(self._sockets.items(), node_ports, strict=True):
            options = _options(
                superlink=f"{_HOST}:{port}",
                root_certificates=certificate,
                auth_supernode_private_key=keys[name],
                host="127.0.0.1",
                port=node_port,
                node_config=_key_values({"socket": str(path)}),
            )
            self._start(f"supernode-{name}", ["flower-supernode", *options])

    def _write_certificate(self) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate, private = self._folder / "superlink.crt", self._folder / "superlink.key"
        certificate.write_bytes(self_signed(key, "superlink", _HOST, datetime.now(UTC)))
        _write_private(private, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return certificate, private

    def _write_node_key(self, name: str) -> Path:
        key, path = ec.generate_private_key(ec.SECP384R1()), self._folder / f"supernode-{name}"
        _write_private(path, key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
        public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        path.with_name(f"{path.name}.pub").write_bytes(public + b"\n")
        return path


class FlowerSimulation(_Flower):
    """Flower's simulation runtime: tenants inside the ClientApps, all of them at once.

    Args:
        folder: For its state and logs.
        tenants: How many.
    """

    def __init__(self, folder: Path, tenants: int) -> None:
        super().__init__(folder)
        # Each tenant's session lasts as long as the run, so Ray must not make one wait for another, whatever cores there are.
        size = {"num_supernodes": tenants, "init_args_num_cpus": tenants, "client_resources_num_cpus": 1}
        self._run_options = ["--federation-config", _key_values(size)]
        self._attempts = _ATTEMPTS_TO_START_RAY

    def _start_all(self) -> None:
        (port,) = _free_ports(1)
        self._start_superlink(port, "--insecure", "--simulation")
        self._connect(port, "insecure = true")


def kill_detached(home: Path) -> None:
    """Kill what a SuperLink that was stopped in the middle of a run leaves behind in groups of its own.

    Such processes still carry the fleet's home in their environment, which Linux tells. Elsewhere they end by themselves, seconds
    after the SuperLink.
    """
    mark = f"{_HOME_VARIABLE}={home}".encode()
    deadline = time.monotonic() + _STOPPING_SECONDS
    # A killed process takes a moment to end, and may have started another before.
    while _kill_marked(mark) and time.monotonic() < deadline:
        time.sleep(0.05)


def _kill_marked(mark: bytes) -> int:
    """How many processes with a mark in their environment are still there; each is killed."""
    found = 0
    for entry in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if mark in entry.read_bytes().split(b"\0"):
                os.kill(int(entry.parent.name), signal.SIGKILL)
                found += 1
    return found


def _options(**values: object) -> list[str]:
    """Options of a command line."""
    return [part for name, value in values.items() for part in (f"--{name.replace('_', '-')}", str(value))]


def _key_values(values: Mapping[str, str | int]) -> str:
    """Pairs as Flower's commands take them: TOML values, separated by blanks."""
    return " ".join(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in values.items())


def _write_private(path: Path, data: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)


def _free_ports(count: int) -> tuple[int, ...]:
    """Ports of the loopback interface that nobody listens on at the moment."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = tuple(opened.getsockname()[1] for opened in sockets)
    for opened in sockets:
        opened.close()
    return ports
