"""A server that dies, and whose next process has nothing but the store and the transcript; tenants in virtual time live on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from once import signed_once
from small_federation import Recorder, memory_hub
from sqlalchemy.engine import URL

from fed_em_protocols.roster import load_roster
from fed_em_server.audit.verify import Verification, verify
from fed_em_server.checkpoints.store import Changes, CheckpointStore, checkpoint_url
from fed_em_server.checkpoints.taking_up import take_up
from fed_em_server.hub import HubEvent
from fed_em_server.serve import CHECKPOINTS_FILE, open_server
from fed_em_server.session import SessionOutcome, run_session
from fed_em_server.transcript_folder import read_transcript
from fed_em_simulations.federation_folder import FederationFolder
from fed_em_simulations.memory_hub import Interference, MemoryHub


class Crashed(BaseException):
    """The server's process is gone."""


@dataclass
class Death:
    """When a process dies: instead of its n-th commit, right behind it, or when it listens for the n-th time (from 1; 0: never)."""

    at: Literal["before commit", "after commit", "listening"] = "listening"
    number: int = 0
    counted: int = field(default=0, init=False)
    dead: bool = field(default=False, init=False)

    def comes(self, at: str) -> None:
        if at == self.at:
            self.counted += 1
            if self.counted == self.number:
                self.dead = True
                raise Crashed


class DyingStore(CheckpointStore):
    """A store under a process that dies."""

    def __init__(self, url: URL, place: str, death: Death) -> None:
        super().__init__(url, place)
        self.death = death

    def commit(self, session: str, life: int, changes: Changes) -> None:
        self.death.comes("before commit")
        super().commit(session, life, changes)
        self.death.comes("after commit")


@dataclass
class World:
    """Tenants, and all that any process of the server has signed for them."""

    federation: FederationFolder
    hub: MemoryHub
    signed: dict[str, str] = field(default_factory=dict)
    processes: int = 0
    watcher: Recorder = field(default_factory=Recorder)
    url: str = ""
    place: str = "here"

    @classmethod
    def of(cls, federation: FederationFolder, interfere: Interference | None = None) -> World:
        return cls(federation, memory_hub(federation, interfere=interfere))

    def process(self, death: Death | None = None, new: bool = False) -> SessionOutcome:
        """One process of the server, from its files to its end."""
        self.processes += 1
        death, self.watcher = death or Death(), Recorder()
        server = open_server(self.federation.server)
        url = self.url or f"sqlite:///{server.configuration.output / CHECKPOINTS_FILE}"
        with DyingStore(checkpoint_url(url), self.place, death) as store:
            plan, checkpoint = take_up(store, server.plan("memory"), new)
            with server.transcript(checkpoint.transcript or None) as transcript:
                hub = _ProcessHub(self, death)
                outcome = run_session(plan, hub, self.watcher, store=transcript, checkpoint=checkpoint)
            try:
                checkpoint.done()
            except Crashed:
                if death.at == "before commit":
                    raise
        return outcome

    def until_it_ends(self, deaths: Callable[[int], Death]) -> SessionOutcome:
        """As many processes as it takes; each is told by its number, from 0, when it dies."""
        while True:
            try:
                return self.process(deaths(self.processes))
            except Crashed:
                self.links_break()

    def links_break(self) -> None:
        """As they do when a process ends."""
        for tenant in range(self.federation.roster.n):
            self.hub.cut(tenant)

    def verified(self) -> Verification:
        """The transcript in the output folder."""
        configuration = self.federation.server
        return verify(read_transcript(configuration.output), load_roster(configuration.roster))

    def note(self, data: bytes) -> None:
        """Of what may be signed once only there is one, whichever process signs it."""
        if (known := signed_once(data)) is not None:
            what, said = known
            assert self.signed.setdefault(what, said) == said, f"the server signed two of {what}"


class _ProcessHub:
    """The links of one process."""

    def __init__(self, world: World, death: Death) -> None:
        self._world, self._death = world, death

    def now(self) -> float:
        return self._world.hub.now()

    def traffic(self) -> tuple[int, int]:
        return self._world.hub.traffic()

    def receive(self, until: float | None) -> HubEvent | None:
        self._death.comes("listening")
        return self._world.hub.receive(until)

    def send(self, tenant: int, data: bytes) -> None:
        self._world.note(data)
        self._world.hub.send(tenant, data)

    def cut(self, tenant: int) -> None:
        self._world.hub.cut(tenant)

    def close(self) -> None:
        if self._death.dead:
            return
        self._world.links_break() if not self._world.signed.get("Close") else self._world.hub.close()
