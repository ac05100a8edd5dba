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
from fed_em_protocols.messages import Certificate, Close, Header, SharedSecret
from fed_em_protocols.round_keys import KeyChain, self_mask_key
from fed_em_protocols.shamir import SHARE_BYTES
from fed_em_protocols.tenant import tenant_receive
from fed_em_protocols.tenant_state import TenantState, TenantStep, TenantWindow
from fed_em_server.federated_sum import FederatedSum
from fed_em_simulations.liars import flipped
from fed_em_simulations.memory_hub import Direction, Fate, Passing
from tests.protocols.drill import Drill
from tests.protocols.federation import TestFederation, identity_of, kind_of

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


def round_secrets(chain: KeyChain, number: int) -> dict[str, bytes]:
    secrets = chain.advanced(number).current()
    return {"a_t": secrets.agreement, "b_t": secrets.self_seed}


def newest_window(state: TenantState) -> TenantWindow:
    """The window that is being set up, or else the one in use."""
    window = state.upcoming or state.window
    assert window is not None
    return window


def shares_of(state: TenantState, number: int) -> dict[str, bytes]:
    return {
        f"share of {which.name} of {dealer}": held.share(number, which)
        for dealer, held in newest_window(state).held.items()
        for which in SharedSecret
    }


def drill_with_chain() -> tuple[Drill, KeyChain]:
    """A drill, and tenant 0's chain as it was when the window opened."""
    drill = Drill()
    return drill, drill.secrets[1][0].chain


def test_after_the_next_header_nothing_of_the_last_round_is_left() -> None:
    drill, chain = drill_with_chain()
    shares = shares_of(drill.states[0], 1)
    assert len(shares) == 6
    header = drill.header(1)
    drill.upload(0, header)
    certificate = drill.certificate(header, [0, 1, 2])
    drill.tell(0, drill.proposal(header, [0, 1, 2]))
    opening = drill.told(0, certificate)
    drill.tell(0, drill.recover(header, certificate, silent=[1], dropped=[3]))
    own = round_secrets(chain, 1)
    for name, secret in {**own, **shares, "pair key": opening.pair_keys}.items():
        assert holds(drill.states[0], secret), f"{name} is needed until the next header"
    drill.tell(0, drill.header(2))
    everything = {**own, **shares, "ck": chain.key, "self key": self_mask_key(own["b_t"], header.digest)}
    for name, secret in {**everything, "pair key": opening.pair_keys}.items():
        assert not holds(drill.states[0], secret), f"{name} of round 1 is still there in round 2"
    for name, secret in {**round_secrets(chain, 2), **shares_of(drill.states[0], 2)}.items():
        assert holds(drill.states[0], secret), f"{name} of round 2"


def test_a_header_forgets_the_rounds_that_it_skips() -> None:
    drill, chain = drill_with_chain()
    shares = {number: shares_of(drill.states[0], number) for number in (1, 2)}
    drill.upload(0, drill.header(3))
    for number in (1, 2):
        for name, secret in {**round_secrets(chain, number), **shares[number]}.items():
            assert not holds(drill.states[0], secret), f"{name} of round {number}"


def test_the_chain_key_that_is_kept_yields_later_rounds_only() -> None:
    drill, chain = drill_with_chain()
    drill.upload(0, drill.header(1))
    kept = newest_window(drill.states[0]).secrets.chain
    assert kept == chain.advanced(2)
    assert not holds(drill.states[0], chain.key)
    assert derive("next", chain.key, 32) == kept.key  # one way


@pytest.mark.parametrize("helps", ["recovers", "endorses"])
def test_helping_with_a_round_of_others_forgets_as_well(helps: str) -> None:
    drill, chain = drill_with_chain()
    shares = shares_of(drill.states[0], 1)
    first = drill.header(1)
    drill.upload(0, first)
    drill.certificate(first, ALL)
    header = drill.header(2, [1, 2, 3])
    if helps == "recovers":
        drill.tell(0, drill.recover(header, drill.certificate(header, [1, 2, 3]), silent=[1]))
    else:
        drill.tell(0, drill.proposal(header, [1, 2, 3]))
    for name, secret in {**round_secrets(chain, 1), **shares}.items():
        assert not holds(drill.states[0], secret), name


def test_the_channel_secret_goes_with_the_boxes() -> None:
    drill = Drill(window=False)
    drill.advertise(ALL)
    secrets = newest_window(drill.states[0]).secrets
    assert secrets.channel_secret is not None and holds(drill.states[0], secrets.channel_secret)
    drill.deposit()
    drill.tell(0, drill.boxes_message(0))
    assert not holds(drill.states[0], secrets.channel_secret)
    assert holds(drill.states[0], secrets.signing_key.seed)


def all_of_the_window(drill: Drill) -> list[bytes]:
    secrets = newest_window(drill.states[0]).secrets
    return [secrets.signing_key.seed, secrets.chain.key, *shares_of(drill.states[0], 4).values()]


def test_a_window_goes_with_the_first_header_of_the_next() -> None:
    drill = Drill()
    drill.run(1)
    old = all_of_the_window(drill)
    assert len(old) == 8
    drill.set_up(ALL, number=2, first_round=2)
    for secret in old:
        assert holds(drill.states[0], secret), "the old window serves while the new one is set up"
    drill.tell(0, drill.header(2))
    for secret in old:
        assert not holds(drill.states[0], secret)


def test_a_window_that_nobody_used_goes_when_another_is_opened() -> None:
    drill = Drill()
    old = all_of_the_window(drill)
    drill.advertise(ALL, number=2, first_round=1)
    for secret in old:
        assert not holds(drill.states[0], secret)


def test_the_end_of_a_session_forgets_everything() -> None:
    drill, chain = drill_with_chain()
    ring = np.arange(101, 105, dtype=np.uint64)
    drill.upload(0, drill.header(1), ring)
    shares = shares_of(drill.states[0], 1)
    assert holds(drill.states[0], ring.tobytes())
    drill.advertise(ALL, number=2, first_round=2)
    later = newest_window(drill.states[0]).secrets
    drill.tell(0, drill.sealed(Close(drill.session, 1, 1)))
    secrets = {**round_secrets(chain, 1), **round_secrets(chain, 2), **shares}
    for name, secret in {**secrets, "statistics": ring.tobytes(), "next ck": later.chain.key}.items():
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
    for window in (state.window, state.upcoming):
        if window is None:
            continue
        secrets = window.secrets
        confidant.keep(secrets.channel_secret or b"", secrets.nonce or b"", secrets.signing_key.seed, secrets.chain.key)
        for held in window.held.values():
            pieces = (held.shares[k : k + SHARE_BYTES] for k in range(0, len(held.shares), SHARE_BYTES))
            confidant.keep(held.salt_seed, *pieces)
    for known in state.vectors.values():
        confidant.keep(known.ring.tobytes() if known.ring.any() else b"")
    if state.round is not None and state.round.secrets is not None:
        confidant.keep(state.round.secrets.agreement, state.round.secrets.self_seed)


class ConfidingDrill(Drill):
    """Shows everything that a tenant sees, becomes and sends."""

    confidant = Confidant()

    def deliver(self, index: int, data: bytes) -> TenantStep:
        step = super().deliver(index, data)
        sent = [unseal(message, "tenant") for message in step.sends]
        self.confidant.show(unseal(data, "server"), step, step.state, *sent, *(message.quoted() for message in sent))
        self.confidant.show(*(getattr(step.state, name) for name in ("window", "upcoming", "round", "me")))
        confide(self.confidant, step.state)
        return step


def test_no_state_message_or_error_of_a_tenant_shows_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    confidant = Confidant()
    monkeypatch.setattr(ConfidingDrill, "confidant", confidant)
    drill = ConfidingDrill()
    confidant.keep(*(identity_of(f"t{i}").seed for i in ALL), drill.key.seed)
    header = drill.header(1)
    for i in ALL:
        drill.upload(i, header, np.arange(2**40 + i, 2**40 + i + 4, dtype=np.uint64))
    certificate = drill.certify(header, [0, 1, 2])
    for i in (0, 1, 2):
        opening = drill.told(i, certificate)
        seed = opening.self_seed
        confidant.keep(seed, self_mask_key(seed, header.digest), opening.pair_keys)
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
            state = step.state
            confidant.show(step, state, state.round, state.window, state.upcoming, step.notices, step.result)
            if step.state.round is not None:
                confidant.show(step.state.round.sum, step.state.total)
                confidant.keep(*step.state.round.pair_keys.values(), *step.state.round.self_seeds.values())
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
