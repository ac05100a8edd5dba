"""What is forgotten, and what is never shown: erasure in the object graph, and no secret in anything that can be printed."""

from __future__ import annotations

import gc
import types
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pytest

from fed_em.errors import FedEmError
from fed_em_protocols.coordinator_state import CoordinatorStep
from fed_em_protocols.envelope import unseal
from fed_em_protocols.keys import derive
from fed_em_protocols.messages import Certificate, Close, Header
from fed_em_protocols.round_keys import KeyChain, self_mask_key
from fed_em_protocols.tenant import TenantState, TenantStep, tenant_receive
from fed_em_server.federated_sum import FederatedSum
from fed_em_simulations.memory_hub import Direction, Fate, Passing
from tests.protocols.drill import Drill
from tests.protocols.federation import TestFederation, identity_of, kind_of
from tests.protocols.liars import flipped

ALL = range(4)


def reachable(root: object) -> Iterator[object]:
    """Every object that can be reached from `root`, code apart."""
    seen: set[int] = set()
    queue = [root]
    while queue:
        found = queue.pop()
        if id(found) in seen or isinstance(
            found, (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType)
        ):
            continue
        seen.add(id(found))
        yield found
        queue += gc.get_referents(found)


def holds(root: object, secret: bytes) -> bool:
    """Whether any bytes reachable from `root` contain the secret."""
    for found in reachable(root):
        if isinstance(found, (bytes, bytearray, memoryview)) and secret in bytes(found):
            return True
        if isinstance(found, np.ndarray) and secret in found.tobytes():
            return True
        if isinstance(found, int) and found == int.from_bytes(secret, "little"):
            return True
    return False


def round_secrets(drill: Drill, chain: KeyChain, number: int) -> dict[str, bytes]:
    secrets = chain.advanced(number).current()
    return {"a_t": secrets.agreement, "b_t": secrets.self_seed}


def shares_of(state: TenantState, number: int) -> dict[str, bytes]:
    assert state.window is not None
    return {
        f"share of {which} of {dealer}": shares.shares[number][place]
        for dealer, shares in state.window.held.items()
        for place, which in enumerate(("a_t", "b_t"))
    }


def drill_with_chain() -> tuple[Drill, KeyChain]:
    """A drill whose tenant 0's chain, as it was when the window opened, is known."""
    drill = Drill(window=False)
    drill.advertise(ALL)
    window = drill.states[0].window
    assert window is not None
    chain = window.secrets.chain
    drill.deposit()
    for i in ALL:
        drill.tell(i, drill.boxes_message(i))
    return drill, chain


def test_after_the_next_header_nothing_of_the_last_round_is_left() -> None:
    drill, chain = drill_with_chain()
    shares = shares_of(drill.states[0], 1)
    assert len(shares) == 6
    header = drill.header(1)
    drill.upload(0, header)
    certificate = drill.certificate(header, [0, 1, 2])
    drill.tell(0, certificate)
    drill.tell(0, drill.recover(header, certificate, silent=[1], dropped=[3]))
    own = round_secrets(drill, chain, 1)
    for name, secret in {**own, **shares}.items():
        assert holds(drill.states[0], secret), f"{name} is needed until the next header"
    drill.tell(0, drill.header(2))
    everything = {**own, **shares, "ck": chain.key, "self key": self_mask_key(own["b_t"], header.digest)}
    for name, secret in everything.items():
        assert not holds(drill.states[0], secret), f"{name} of round 1 is still there in round 2"
    for name, secret in {**round_secrets(drill, chain, 2), **shares_of(drill.states[0], 2)}.items():
        assert holds(drill.states[0], secret), f"{name} of round 2"


def test_a_header_forgets_the_rounds_that_it_skips() -> None:
    drill, chain = drill_with_chain()
    shares = {number: shares_of(drill.states[0], number) for number in (1, 2)}
    drill.upload(0, drill.header(3))
    for number in (1, 2):
        for name, secret in {**round_secrets(drill, chain, number), **shares[number]}.items():
            assert not holds(drill.states[0], secret), f"{name} of round {number}"


def test_the_chain_key_that_is_kept_yields_later_rounds_only() -> None:
    drill, chain = drill_with_chain()
    drill.upload(0, drill.header(1))
    window = drill.states[0].window
    assert window is not None
    kept = window.secrets.chain
    assert kept == chain.advanced(2)
    assert not holds(drill.states[0], chain.key)
    assert derive("next", chain.key, 32) == kept.key  # one way


def test_helping_to_recover_forgets_as_well() -> None:
    drill, chain = drill_with_chain()
    shares = shares_of(drill.states[0], 1)
    drill.upload(0, drill.header(1))
    header = drill.header(2, [1, 2, 3])
    drill.tell(0, drill.recover(header, drill.certificate(header, [1, 2, 3]), silent=[1]))
    for name, secret in {**round_secrets(drill, chain, 1), **shares}.items():
        assert not holds(drill.states[0], secret), name


def test_the_channel_secret_goes_with_the_boxes_and_all_of_a_window_with_the_next() -> None:
    drill = Drill(window=False)
    drill.advertise(ALL)
    window = drill.states[0].window
    assert window is not None and window.secrets.channel_secret is not None
    secrets = window.secrets
    assert holds(drill.states[0], secrets.channel_secret)
    drill.deposit()
    drill.tell(0, drill.boxes_message(0))
    assert not holds(drill.states[0], secrets.channel_secret)
    shares = shares_of(drill.states[0], 4)
    assert holds(drill.states[0], secrets.signing_key.seed)
    drill.advertise(ALL, number=2, first_round=1)
    for secret in (secrets.signing_key.seed, secrets.chain.key, *shares.values()):
        assert not holds(drill.states[0], secret)


def test_the_end_of_a_session_forgets_everything() -> None:
    drill, chain = drill_with_chain()
    drill.upload(0, drill.header(1))
    shares = shares_of(drill.states[0], 1)
    drill.tell(0, drill.sealed(Close(drill.session, 1, 1)))
    for name, secret in {**round_secrets(drill, chain, 1), **round_secrets(drill, chain, 2), **shares}.items():
        assert not holds(drill.states[0], secret), name


# --- what can be printed ---


def traces(secret: bytes) -> Iterable[str]:
    """What a secret would leave in a text: parts of it in hexadecimal, as Python bytes, or as a number."""
    for start in (0, len(secret) // 2):
        part = secret[start : start + 8]
        yield part.hex()
        yield part.hex().upper()
        yield repr(part)[2:-1]
        yield ", ".join(map(str, part))
    yield str(int.from_bytes(secret, "little"))
    yield str(int.from_bytes(secret, "big"))


class Confidant:
    """Collects every text that a run could show, and every secret that it had."""

    def __init__(self) -> None:
        self.texts: set[str] = set()
        self.secrets: set[bytes] = set()

    def show(self, *things: object) -> None:
        self.texts |= {text for thing in things for text in (repr(thing), str(thing))}

    def show_error(self, error: FedEmError) -> None:
        self.show(error, error.args, error.diagnostics(), vars(error))

    def keep(self, *secrets: bytes) -> None:
        self.secrets |= {secret for secret in secrets if secret}

    def assert_nothing_is_shown(self) -> None:
        everything = "\n".join(self.texts)
        leaks = [secret.hex() for secret in self.secrets for trace in traces(secret) if trace in everything]
        assert self.secrets and leaks == []


def confide(confidant: Confidant, state: TenantState) -> None:
    """All secrets that a tenant's state holds now."""
    if state.window is not None:
        secrets = state.window.secrets
        confidant.keep(secrets.channel_secret or b"", secrets.signing_key.seed, secrets.chain.key)
        for held in state.window.held.values():
            confidant.keep(held.salt_seed, *(share for pair in held.shares.values() for share in pair))
    if state.round is not None and state.round.secrets is not None:
        confidant.keep(state.round.secrets.agreement, state.round.secrets.self_seed)


class ConfidingDrill(Drill):
    """Shows everything that a tenant sees, becomes and sends."""

    confidant = Confidant()

    def deliver(self, index: int, data: bytes) -> TenantStep:
        step = super().deliver(index, data)
        sent = [unseal(message, "tenant") for message in step.sends]
        self.confidant.show(unseal(data, "server"), step, step.state, *sent, *(message.quoted() for message in sent))
        self.confidant.show(*(getattr(step.state, name) for name in ("window", "round", "me")))
        confide(self.confidant, step.state)
        return step


def test_no_state_message_or_error_of_a_tenant_shows_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    confidant = Confidant()
    monkeypatch.setattr(ConfidingDrill, "confidant", confidant)
    drill = ConfidingDrill()
    confidant.keep(*(identity_of(f"t{i}").seed for i in ALL), drill.key.seed)
    header = drill.header(1)
    for i in ALL:
        drill.upload(i, header)
    certificate = drill.certificate(header, [0, 1, 2])
    for i in (0, 1, 2):
        opening = drill.tell(i, certificate)
        assert opening is not None
        pair_keys = opening.content.pair_keys
        confidant.keep(opening.content.self_seed, self_mask_key(opening.content.self_seed, header.digest), pair_keys)
        drill.tell(i, drill.recover(header, certificate, silent={0, 1} - {i}, dropped=[3]))
    # Every message once more, spoilt in its middle: errors of every handler.
    for message in (header, certificate, drill.recover(header, certificate, silent=[1]), drill.header(1, theta=b"x")):
        for data in (flipped(message.to_bytes()), message.to_bytes()):
            try:
                tenant_receive(drill.states[0], data, drill.randomness[0], drill.marks[0])
            except FedEmError as error:
                confidant.show_error(error)
    assert len(confidant.secrets) > 100 and len(confidant.texts) > 100
    confidant.assert_nothing_is_shown()


def test_no_state_or_notice_of_the_server_shows_a_secret() -> None:
    """Not even those that it is told: seeds, keys and shares that tenants open, with recovery and with lies."""
    confidant = Confidant()

    class Shown(FederatedSum):
        def _take(self, step: CoordinatorStep) -> Any:
            confidant.show(step, step.state, step.state.round, step.state.window, step.notices, step.result)
            if step.state.round is not None:
                confidant.show(step.state.round.sum, step.state.round.shares and "")
                confidant.keep(*step.state.round.sum.pair_keys.values())
                confidant.keep(*(s for shares in step.state.round.shares.values() for s in shares.values()))
            return super()._take(step)

    def interfere(passing: Passing) -> Fate:
        session = federation.hub.session_of(passing.tenant)
        if session is not None:
            confide(confidant, session.state)
        dying = {(3, Certificate), (4, Header)}
        dies = passing.direction is Direction.TO_TENANT and (passing.tenant, kind_of(passing.data)) in dying
        return Fate.KILL if dies else Fate.DELIVER

    federation = TestFederation(6, interfere=interfere, window_rounds=1)
    federation.server.__class__ = Shown
    opened = federation.sum()
    federation.assert_exact(opened)
    assert opened.survivors == (0, 1, 2, 3, 5)
    confidant.show(*federation.notices, opened)
    confidant.keep(identity_of("server").seed)
    confidant.assert_nothing_is_shown()


def test_the_search_for_secrets_finds_them() -> None:
    confidant = Confidant()
    confidant.keep(bytes(range(100, 132)))
    confidant.show({"seed": bytes(range(100, 132))})
    with pytest.raises(AssertionError):
        confidant.assert_nothing_is_shown()
