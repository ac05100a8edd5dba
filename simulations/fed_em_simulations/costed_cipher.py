"""A cipher suite that is a price list: parties are charged what the real one costs, and nothing is hidden from anybody.

For federations of more tenants than a machine can do the cryptography of. The machines are the real ones, every message has its real
length and is sent, parsed and answered; what stands in for the suite's operations gives results that fit each other and take next to
no time:

    X25519            a public key is a hash of the secret; keys of pairs are zeros
    AES-CTR           masks are zeros
    Ed25519           a signature is a hash of key and message, which anybody could make
    Shamir, boxes     a box holds the dealer's chain key in the clear; a share is the secret itself

Its number is one that tenants with data refuse (`fed_em_simulations.simulated_suites`). `counted_work` counts what it stands for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from fed_em_protocols import deposits, envelope, keys, masks, round_keys, shamir
from fed_em_protocols.deposits import HeldShares, box_bytes, share_is_dealt
from fed_em_protocols.hashing import DIGEST_BYTES
from fed_em_protocols.keys import KEY_BYTES, SIGNATURE_BYTES
from fed_em_protocols.limits import MAX_TENANTS
from fed_em_protocols.messages import SALT_BYTES, ReleasedShare, SharedSecret
from fed_em_protocols.round_keys import KeyChain
from fed_em_protocols.shamir import SHARE_BYTES
from fed_em_protocols.window import WindowSecrets, WindowSetUp
from fed_em_simulations.substitution import substituted
from fed_em_simulations.work import current

MOST_TENANTS = 16 * MAX_TENANTS

WARNING = (
    "Costed cipher: this is a simulation in which every cryptographic operation was replaced by its cost. Nothing was hidden from "
    "anybody; times and bytes are those of the real suite."
)


@contextmanager
def costed_cipher() -> Iterator[None]:
    """Put the stand-ins in the place of the suite's operations in this process, and lift the limit on tenants, while the context lasts."""
    stand_ins: tuple[tuple[Callable[..., Any], Callable[..., Any]], ...] = (
        (keys.agreement_public, _public),
        (keys.SigningKey.sign, _sign),
        (keys.verifies, _verifies),
        (masks.add_masks, _add_masks),
        (round_keys.pair_mask_keys, _pair_mask_keys),
        (round_keys.AgreementKey.pair_mask_key, _pair_mask_key),
        (shamir.combine, _combine),
        (deposits.deal, _deal),
        (deposits.open_box, _open_box),
        (share_is_dealt, _share_is_dealt),
        (envelope._complaint, _complaint_lifted(envelope._complaint)),
    )
    with ExitStack() as stack:
        for function, by in stand_ins:
            stack.enter_context(substituted(function, by))
        yield


def _public(secret: bytes) -> bytes:
    current().agreements += 1
    return hashlib.sha256(b"public" + secret).digest()


def _signature(public: bytes, message: bytes) -> bytes:
    return hashlib.sha512(public + message).digest()[:SIGNATURE_BYTES]


def _sign(self: keys.SigningKey, message: bytes) -> bytes:
    return _signature(self.public, message)


def _verifies(public: bytes, signature: bytes, message: bytes) -> bool:
    return _signature(public, message) == signature


def _add_masks(vector: Any, added: Any = (), subtracted: Any = (), threads: int = 1, out: Any = None) -> None:  # noqa: ARG001
    if out is not None:
        out[...] = vector


def _charge_pairs(count: int) -> None:
    """An agreement and a derivation each, and the own key that all of them need."""
    current().agreements += count + 1 if count else 0
    current().derivations += count


_NO_KEY = bytes(masks.MASK_KEY_BYTES)


def _pair_mask_keys(own: Any, peers: Mapping[int, Any], context: bytes) -> dict[int, bytes]:  # noqa: ARG001
    _charge_pairs(len(peers))
    return dict.fromkeys(sorted(peers), _NO_KEY)


def _pair_mask_key(self: Any, peer: int, peer_public: bytes, context: bytes, peer_name: str) -> bytes:  # noqa: ARG001
    _charge_pairs(1)
    return _NO_KEY


def _combine(shares: Mapping[int, bytes], threshold: int) -> bytes | None:  # noqa: ARG001
    return next(iter(shares.values()))[:KEY_BYTES]


# The key of a box, and that of the salts of its leaves.
_KEYS_OF_A_BOX = 2


def _deal(setup: WindowSetUp, index: int, secrets: WindowSecrets, names: Any, randomness: Any) -> tuple[bytes, bytes]:  # noqa: ARG001
    holders = len(setup.neighbours(index))
    current().agreements += holders
    current().derivations += _KEYS_OF_A_BOX * holders
    current().shares += 2 * setup.rounds * holders
    current().derivations += 2 * setup.rounds
    return bytes(DIGEST_BYTES * holders), secrets.chain.key.ljust(box_bytes(setup), b"\0") * holders


def _open_box(
    setup: WindowSetUp, deposit: Any, dealer: int, holder: int, secrets: Any, box: bytes, name: str  # noqa: ARG001
) -> HeldShares:  # fmt: skip
    # The agreement was made for the box that went the other way.
    current().derivations += _KEYS_OF_A_BOX
    return _Opened(dealer, holder, setup.first_round, KeyChain(box[:KEY_BYTES], setup.first_round))  # type: ignore[return-value]


@dataclass(frozen=True)
class _Opened:
    """Stands where a holder keeps a dealer's shares: it can make any of the dealer's secrets, and releases those that it is asked for."""

    dealer: int
    holder: int
    first_round: int
    chain: KeyChain

    def from_round(self, round_number: int) -> _Opened:  # noqa: ARG002  as of real shares
        """The same: there is nothing to forget."""
        return self

    def release(self, setup: WindowSetUp, round_number: int, secret: SharedSecret) -> ReleasedShare:
        """The secret itself, as long as a share, with a proof as long as a true one."""
        found = self.chain.advanced(round_number).current()
        whole = found.agreement if secret is SharedSecret.AGREEMENT else found.self_seed
        path = bytes(DIGEST_BYTES * (2 * setup.rounds - 1).bit_length())
        return ReleasedShare(self.dealer, int(secret), whole.ljust(SHARE_BYTES, b"\0"), bytes(SALT_BYTES), path)


def _share_is_dealt(*arguments: Any) -> bool:  # noqa: ARG001
    return True


def _complaint_lifted(real: Callable[[object, Any], str]) -> Callable[[object, Any], str]:
    """Limits that follow from the most tenants of a real federation are those of a simulated one."""

    def complaint(value: object, rules: Any) -> str:
        if "most" in rules:
            rules = {**rules, "most": rules["most"] * (MOST_TENANTS // MAX_TENANTS)}
        return real(value, rules)

    return complaint
