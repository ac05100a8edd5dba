"""A deployment under Flower as its document tells it: the document's own commands, run in one folder a party."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from fed_em_simulations.federation_folder import FederationFolder
from fed_em_simulations.flower_fleet import kill_detached
from fed_em_simulations.supervised import Supervised
from fed_em_simulations.unused_ports import unused_ports

REPOSITORY = Path(__file__).resolve().parents[2]
DOCUMENT = REPOSITORY / "docs" / "flower-deployment.md"


@dataclass(frozen=True)
class Block:
    """A fenced block: who runs it, what it is called (or serves), and its commands."""

    words: tuple[str, ...]
    text: str


def blocks_of(document: Path) -> tuple[Block, ...]:
    """The shell blocks of a document, in order."""
    found = re.findall(r"^```sh ([^\n]+)\n(.*?)^```$", document.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return tuple(Block(tuple(words.split()), text) for words, text in found)


def block(*words: str) -> str:
    """The commands of the one block whose first line says these words."""
    (found,) = (each.text for each in blocks_of(DOCUMENT) if each.words == words)
    return found


def steps(who: str) -> list[str]:
    """What somebody does once, in order: the blocks that carry no more than that name."""
    return [each.text for each in blocks_of(DOCUMENT) if each.words == (who,)]


def toml_for_a_tenant() -> str:
    """What the document adds to a tenant's file."""
    (found,) = re.findall(r"^```toml\n(.*?)^```$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return str(found)


class Party:
    """A folder in which somebody runs commands, and what they have running.

    Args:
        folder: Theirs.
        settings: What the document's first block leaves to them; exactly its variables.
        who: As the document names them; "signer" has no settings.
    """

    def __init__(self, folder: Path, who: str, settings: Mapping[str, str]) -> None:
        folder.mkdir(parents=True)
        self.folder, self.settings = folder, settings
        self.serving: dict[str, Supervised] = {}
        self._who = who
        if settings:
            told = set(re.findall(r"(\w+)=", block(who, "settings")))
            assert told == set(settings), "the document asks for other settings"
        rooms = [REPOSITORY / room for room in (".", "protocols", "server", "client", "simulations")]
        self._environment = {
            **os.environ,
            **settings,
            # Tables that `flwr` prints are as wide.
            "COLUMNS": "200",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
            "PYTHONPATH": os.pathsep.join(map(str, rooms)),
        }

    def run(self, commands: str, seconds: float = 300.0, fails: bool = False) -> str:
        """Run commands to their end; what they print."""
        done = subprocess.run(
            self._shell(commands),
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert (done.returncode != 0) == fails, f"{commands}\n{done.stdout}"
        return done.stdout

    def serve(self, name: str, commands: str | None = None) -> None:
        """Start what the document says serves under this name, or something in its place, under a supervisor as the document has it."""
        commands = commands or block(self._who, "serves", name)

        def start() -> subprocess.Popen[bytes]:
            with self.log(name).open("ab") as log:
                return subprocess.Popen(
                    self._shell(commands),
                    cwd=self.folder,
                    env=self._environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )

        self.stop(name)
        self.serving[name] = Supervised(start)

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def says(self, name: str, words: str) -> bool:
        """Whether the log of what serves has these words."""
        return words in self.log(name).read_text(encoding="utf-8", errors="replace")

    def kill(self, *names: str, again: bool = True) -> None:
        """As after a power cut. Their supervisor starts them again, unless it was told not to."""
        for name in names:
            self.serving[name].kill(again)

    def stop(self, *names: str) -> None:
        """End what serves for good, with all that it has started."""
        for name in names:
            if name in self.serving:
                self.serving.pop(name).stop()

    def kill_started(self, word: str) -> None:
        """As after a power cut: what was started here that has a word in its command."""
        for process in self._started(word):
            os.kill(process, signal.SIGKILL)

    def has_running(self, word: str = "") -> bool:
        """Whether a process, zombies aside, that was started here has a word in its command."""
        return bool(self._started(word))

    def _started(self, word: str) -> list[int]:
        mark = f"FLWR_HOME={self.folder / 'flower-home'}".encode()
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                command = (entry / "cmdline").read_bytes()
                if mark in (entry / "environ").read_bytes().split(b"\0") and word.encode() in command:
                    found.append(int(entry.name))
        return found

    def stop_all(self) -> None:
        """End everything that was started here, and what it started."""
        self.stop(*self.serving)
        kill_detached(self.folder / "flower-home")

    def _shell(self, commands: str) -> list[str]:
        return ["bash", "-euo", "pipefail", "-c", f"{block('everybody')}\n{commands}"]


class Deployment:
    """A server, a signer and the tenants of a federation, ready to run a session.

    Args:
        folder: For all of them.
        doors: A folder with a short path, for the sockets.
        federation: Its keys, roster and configurations.
    """

    def __init__(self, folder: Path, doors: Path, federation: FederationFolder) -> None:
        port, hub, self.coordinator_port, strange_port, *node_ports = unused_ports(4 + len(federation.tenant_files))
        self.server = Party(
            folder / "server",
            "server",
            {
                "SESSION": str(federation.session_file),
                "HOST": "localhost",
                "LISTEN": "localhost",
                "PORT": str(port),
                "HUB": f"127.0.0.1:{hub}",
                "COORDINATOR": "",
            },
        )
        self.port = port
        self.signer = Party(folder / "signer", "signer", {})

        def tenant(name: str, file: Path, node_port: int) -> Party:
            link = {"SUPERLINK": f"localhost:{port}", "DOOR": str(doors / name), "NODE_PORT": str(node_port)}
            trusted = file.parent / "trusted-entities.yaml"
            return Party(folder / name, "tenant", {"TENANT_FILE": str(file), "TRUSTED": str(trusted), **link})

        files = federation.tenant_files
        self.tenants = {
            name: tenant(name, file, node_port)
            for (name, file), node_port in zip(files.items(), node_ports, strict=True)
        }
        # It has all that a tenant has, but nobody registers its node.
        self.stranger = tenant("stranger", next(iter(files.values())), strange_port)

    def prepare(self) -> None:
        """Everything of the document up to the tenants' processes, with what one hands to another."""
        certificates, secret, register = steps("server")
        self.server.run(certificates + secret)
        nodes, bundle = self.server.folder / "nodes", self.server.folder / "bundle"
        nodes.mkdir()
        for command in steps("signer"):
            self.signer.run(command)
        shutil.copytree(self.signer.folder / "bundle", bundle, ignore=shutil.ignore_patterns("*.yaml"))
        for tenant in (*self.tenants.values(), self.stranger):
            (make_key,) = steps("tenant")
            tenant.run(make_key)
            if tenant is not self.stranger:
                shutil.copy(tenant.folder / "node.pub", nodes / f"{tenant.folder.name}.pub")
            shutil.copy(self.server.folder / "ca.crt", tenant.folder)
            trusted, file = Path(tenant.settings["TRUSTED"]), Path(tenant.settings["TENANT_FILE"])
            if not trusted.exists():
                shutil.copy(self.signer.folder / "bundle" / "trusted-entities.yaml", trusted)
                file.write_text(f"{file.read_text(encoding='utf-8')}\n{toml_for_a_tenant()}", encoding="utf-8")
        for name in ("hub", "superlink", "superexec"):
            self.server.serve(name)
        self.await_superlink()
        self.server.run(register)

    def await_superlink(self) -> None:
        def answers() -> bool:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1.0):
                return True
            return False

        wait_until(answers, "the SuperLink does not come up")

    def serve_tenants(self) -> None:
        """Start tenants anew, and SuperNodes that do not run, and wait until all are in.

        Not while a run is submitted: Flower gives a ServerApp and a ClientApp 30 seconds to start, or starts another one beside it.
        """
        for tenant in self.tenants.values():
            tenant.serve("tenant")
            if "supernode" not in tenant.serving:
                tenant.serve("supernode")
        nodes = self.tenants.values()
        wait_until(lambda: all(node.says("supernode", "SuperNode ID") for node in nodes), "a SuperNode is not let in")

    @contextmanager
    def shelved(self, bundle: bytes) -> Iterator[None]:
        """A block in which the hub has other bytes under the signature of the signed bundle."""
        (path,) = (self.server.folder / "bundle").glob("*.fab")
        signed = path.read_bytes()
        path.write_bytes(bundle)
        yield
        path.write_bytes(signed)

    def tenants_served(self) -> bool:
        """Whether every tenant's process has served a session to its end. None may end otherwise, unless it is killed."""
        statuses = [tenant.serving["tenant"].statuses for tenant in self.tenants.values()]
        assert all(set(those) <= {0, -signal.SIGKILL} for those in statuses), f"a tenant's process failed: {statuses}"
        return all(0 in those for those in statuses)

    def stop_all(self) -> None:
        for party in self._parties:
            party.stop_all()

    def left_behind(self) -> bool:
        """Whether a process of anybody is still there."""
        return any(party.has_running() for party in self._parties)

    @property
    def _parties(self) -> tuple[Party, ...]:
        return (*self.tenants.values(), self.stranger, self.server)


def wait_until(true: Callable[[], bool], otherwise: str, seconds: float = 300.0) -> None:
    """Wait for something to become true."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.1)
