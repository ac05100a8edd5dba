from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Envelope(_message.Message):
    __slots__ = ("version", "kind", "payload", "attachment", "signature")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    ATTACHMENT_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    version: int
    kind: int
    payload: bytes
    attachment: bytes
    signature: bytes
    def __init__(self, version: _Optional[int] = ..., kind: _Optional[int] = ..., payload: _Optional[bytes] = ..., attachment: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class Quoted(_message.Message):
    __slots__ = ("payload", "attachment_digest", "signature")
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    ATTACHMENT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    payload: bytes
    attachment_digest: bytes
    signature: bytes
    def __init__(self, payload: _Optional[bytes] = ..., attachment_digest: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("tenant", "roster", "boot", "software", "policy")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    ROSTER_FIELD_NUMBER: _ClassVar[int]
    BOOT_FIELD_NUMBER: _ClassVar[int]
    SOFTWARE_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    roster: bytes
    boot: bytes
    software: str
    policy: bytes
    def __init__(self, tenant: _Optional[str] = ..., roster: _Optional[bytes] = ..., boot: _Optional[bytes] = ..., software: _Optional[str] = ..., policy: _Optional[bytes] = ...) -> None: ...

class Join(_message.Message):
    __slots__ = ("session", "terms", "boot", "changed", "policy")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    TERMS_FIELD_NUMBER: _ClassVar[int]
    BOOT_FIELD_NUMBER: _ClassVar[int]
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    session: bytes
    terms: bytes
    boot: bytes
    changed: int
    policy: bytes
    def __init__(self, session: _Optional[bytes] = ..., terms: _Optional[bytes] = ..., boot: _Optional[bytes] = ..., changed: _Optional[int] = ..., policy: _Optional[bytes] = ...) -> None: ...

class Refusal(_message.Message):
    __slots__ = ("session", "code", "round", "policy")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    session: bytes
    code: int
    round: int
    policy: bytes
    def __init__(self, session: _Optional[bytes] = ..., code: _Optional[int] = ..., round: _Optional[int] = ..., policy: _Optional[bytes] = ...) -> None: ...

class Advertise(_message.Message):
    __slots__ = ("session", "window", "boot", "channel_key", "window_key", "nonce_commitment", "policy")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    BOOT_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_KEY_FIELD_NUMBER: _ClassVar[int]
    WINDOW_KEY_FIELD_NUMBER: _ClassVar[int]
    NONCE_COMMITMENT_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    session: bytes
    window: bytes
    boot: bytes
    channel_key: bytes
    window_key: bytes
    nonce_commitment: bytes
    policy: bytes
    def __init__(self, session: _Optional[bytes] = ..., window: _Optional[bytes] = ..., boot: _Optional[bytes] = ..., channel_key: _Optional[bytes] = ..., window_key: _Optional[bytes] = ..., nonce_commitment: _Optional[bytes] = ..., policy: _Optional[bytes] = ...) -> None: ...

class Reveal(_message.Message):
    __slots__ = ("session", "setup", "nonce")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    SETUP_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    session: bytes
    setup: bytes
    nonce: bytes
    def __init__(self, session: _Optional[bytes] = ..., setup: _Optional[bytes] = ..., nonce: _Optional[bytes] = ...) -> None: ...

class Deposit(_message.Message):
    __slots__ = ("session", "setup", "roots")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    SETUP_FIELD_NUMBER: _ClassVar[int]
    ROOTS_FIELD_NUMBER: _ClassVar[int]
    session: bytes
    setup: bytes
    roots: bytes
    def __init__(self, session: _Optional[bytes] = ..., setup: _Optional[bytes] = ..., roots: _Optional[bytes] = ...) -> None: ...

class Ready(_message.Message):
    __slots__ = ("session", "setup", "held")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    SETUP_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    session: bytes
    setup: bytes
    held: bytes
    def __init__(self, session: _Optional[bytes] = ..., setup: _Optional[bytes] = ..., held: _Optional[bytes] = ...) -> None: ...

class Upload(_message.Message):
    __slots__ = ("session", "round", "context")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    session: bytes
    round: int
    context: bytes
    def __init__(self, session: _Optional[bytes] = ..., round: _Optional[int] = ..., context: _Optional[bytes] = ...) -> None: ...

class Endorsement(_message.Message):
    __slots__ = ("session", "round", "context", "survivors", "root", "setup")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    SURVIVORS_FIELD_NUMBER: _ClassVar[int]
    ROOT_FIELD_NUMBER: _ClassVar[int]
    SETUP_FIELD_NUMBER: _ClassVar[int]
    session: bytes
    round: int
    context: bytes
    survivors: bytes
    root: bytes
    setup: bytes
    def __init__(self, session: _Optional[bytes] = ..., round: _Optional[int] = ..., context: _Optional[bytes] = ..., survivors: _Optional[bytes] = ..., root: _Optional[bytes] = ..., setup: _Optional[bytes] = ...) -> None: ...

class AskBase(_message.Message):
    __slots__ = ("session", "round", "base", "context")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    session: bytes
    round: int
    base: bytes
    context: bytes
    def __init__(self, session: _Optional[bytes] = ..., round: _Optional[int] = ..., base: _Optional[bytes] = ..., context: _Optional[bytes] = ...) -> None: ...

class Opening(_message.Message):
    __slots__ = ("session", "round", "context", "self_seed", "pair_keys")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    SELF_SEED_FIELD_NUMBER: _ClassVar[int]
    PAIR_KEYS_FIELD_NUMBER: _ClassVar[int]
    session: bytes
    round: int
    context: bytes
    self_seed: bytes
    pair_keys: bytes
    def __init__(self, session: _Optional[bytes] = ..., round: _Optional[int] = ..., context: _Optional[bytes] = ..., self_seed: _Optional[bytes] = ..., pair_keys: _Optional[bytes] = ...) -> None: ...

class ReleasedShare(_message.Message):
    __slots__ = ("dealer", "secret", "share", "salt", "path")
    DEALER_FIELD_NUMBER: _ClassVar[int]
    SECRET_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    SALT_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    dealer: int
    secret: int
    share: bytes
    salt: bytes
    path: bytes
    def __init__(self, dealer: _Optional[int] = ..., secret: _Optional[int] = ..., share: _Optional[bytes] = ..., salt: _Optional[bytes] = ..., path: _Optional[bytes] = ...) -> None: ...

class Shares(_message.Message):
    __slots__ = ("session", "round", "context", "released")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    RELEASED_FIELD_NUMBER: _ClassVar[int]
    session: bytes
    round: int
    context: bytes
    released: _containers.RepeatedCompositeFieldContainer[ReleasedShare]
    def __init__(self, session: _Optional[bytes] = ..., round: _Optional[int] = ..., context: _Optional[bytes] = ..., released: _Optional[_Iterable[_Union[ReleasedShare, _Mapping]]] = ...) -> None: ...

class SessionTerms(_message.Message):
    __slots__ = ("session", "roster", "schema", "suite", "trust", "minimum_cohort", "minimum_survivors", "colluders", "witnesses", "certificate_quorum", "share_threshold", "neighbours", "side_honest", "blocks", "mass_floor", "round_cap", "window_rounds")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    ROSTER_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    SUITE_FIELD_NUMBER: _ClassVar[int]
    TRUST_FIELD_NUMBER: _ClassVar[int]
    MINIMUM_COHORT_FIELD_NUMBER: _ClassVar[int]
    MINIMUM_SURVIVORS_FIELD_NUMBER: _ClassVar[int]
    COLLUDERS_FIELD_NUMBER: _ClassVar[int]
    WITNESSES_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_QUORUM_FIELD_NUMBER: _ClassVar[int]
    SHARE_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    NEIGHBOURS_FIELD_NUMBER: _ClassVar[int]
    SIDE_HONEST_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    MASS_FLOOR_FIELD_NUMBER: _ClassVar[int]
    ROUND_CAP_FIELD_NUMBER: _ClassVar[int]
    WINDOW_ROUNDS_FIELD_NUMBER: _ClassVar[int]
    session: bytes
    roster: bytes
    schema: bytes
    suite: int
    trust: int
    minimum_cohort: int
    minimum_survivors: int
    colluders: int
    witnesses: int
    certificate_quorum: int
    share_threshold: int
    neighbours: int
    side_honest: int
    blocks: int
    mass_floor: int
    round_cap: int
    window_rounds: int
    def __init__(self, session: _Optional[bytes] = ..., roster: _Optional[bytes] = ..., schema: _Optional[bytes] = ..., suite: _Optional[int] = ..., trust: _Optional[int] = ..., minimum_cohort: _Optional[int] = ..., minimum_survivors: _Optional[int] = ..., colluders: _Optional[int] = ..., witnesses: _Optional[int] = ..., certificate_quorum: _Optional[int] = ..., share_threshold: _Optional[int] = ..., neighbours: _Optional[int] = ..., side_honest: _Optional[int] = ..., blocks: _Optional[int] = ..., mass_floor: _Optional[int] = ..., round_cap: _Optional[int] = ..., window_rounds: _Optional[int] = ...) -> None: ...

class OpenWindow(_message.Message):
    __slots__ = ("session", "terms", "number", "first_round", "excused", "last_certified")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    TERMS_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    FIRST_ROUND_FIELD_NUMBER: _ClassVar[int]
    EXCUSED_FIELD_NUMBER: _ClassVar[int]
    LAST_CERTIFIED_FIELD_NUMBER: _ClassVar[int]
    session: bytes
    terms: bytes
    number: int
    first_round: int
    excused: bytes
    last_certified: _containers.RepeatedCompositeFieldContainer[Quoted]
    def __init__(self, session: _Optional[bytes] = ..., terms: _Optional[bytes] = ..., number: _Optional[int] = ..., first_round: _Optional[int] = ..., excused: _Optional[bytes] = ..., last_certified: _Optional[_Iterable[_Union[Quoted, _Mapping]]] = ...) -> None: ...

class SetUp(_message.Message):
    __slots__ = ("session", "window", "members", "advertisements")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    ADVERTISEMENTS_FIELD_NUMBER: _ClassVar[int]
    session: bytes
    window: bytes
    members: bytes
    advertisements: _containers.RepeatedCompositeFieldContainer[Quoted]
    def __init__(self, session: _Optional[bytes] = ..., window: _Optional[bytes] = ..., members: _Optional[bytes] = ..., advertisements: _Optional[_Iterable[_Union[Quoted, _Mapping]]] = ...) -> None: ...

class Neighbours(_message.Message):
    __slots__ = ("session", "setup", "nonces", "quoted", "advertisements")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    SETUP_FIELD_NUMBER: _ClassVar[int]
    NONCES_FIELD_NUMBER: _ClassVar[int]
    QUOTED_FIELD_NUMBER: _ClassVar[int]
    ADVERTISEMENTS_FIELD_NUMBER: _ClassVar[int]
    session: bytes
    setup: bytes
    nonces: _containers.RepeatedScalarFieldContainer[bytes]
    quoted: bytes
    advertisements: _containers.RepeatedCompositeFieldContainer[Quoted]
    def __init__(self, session: _Optional[bytes] = ..., setup: _Optional[bytes] = ..., nonces: _Optional[_Iterable[bytes]] = ..., quoted: _Optional[bytes] = ..., advertisements: _Optional[_Iterable[_Union[Quoted, _Mapping]]] = ...) -> None: ...

class Boxes(_message.Message):
    __slots__ = ("session", "setup", "dealers", "deposits")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    SETUP_FIELD_NUMBER: _ClassVar[int]
    DEALERS_FIELD_NUMBER: _ClassVar[int]
    DEPOSITS_FIELD_NUMBER: _ClassVar[int]
    session: bytes
    setup: bytes
    dealers: bytes
    deposits: _containers.RepeatedCompositeFieldContainer[Quoted]
    def __init__(self, session: _Optional[bytes] = ..., setup: _Optional[bytes] = ..., dealers: _Optional[bytes] = ..., deposits: _Optional[_Iterable[_Union[Quoted, _Mapping]]] = ...) -> None: ...

class Header(_message.Message):
    __slots__ = ("session", "terms", "setup", "witnesses", "round", "mode", "parameters", "encoding", "length", "held", "participants", "previous_round", "previous_outcome", "previous", "previous_sum", "base_rounds", "base_contexts", "ring")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    TERMS_FIELD_NUMBER: _ClassVar[int]
    SETUP_FIELD_NUMBER: _ClassVar[int]
    WITNESSES_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    PARTICIPANTS_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_ROUND_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_OUTCOME_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_SUM_FIELD_NUMBER: _ClassVar[int]
    BASE_ROUNDS_FIELD_NUMBER: _ClassVar[int]
    BASE_CONTEXTS_FIELD_NUMBER: _ClassVar[int]
    RING_FIELD_NUMBER: _ClassVar[int]
    session: bytes
    terms: bytes
    setup: bytes
    witnesses: bytes
    round: int
    mode: int
    parameters: bytes
    encoding: bytes
    length: int
    held: bytes
    participants: bytes
    previous_round: int
    previous_outcome: int
    previous: _containers.RepeatedCompositeFieldContainer[Quoted]
    previous_sum: bytes
    base_rounds: _containers.RepeatedScalarFieldContainer[int]
    base_contexts: bytes
    ring: int
    def __init__(self, session: _Optional[bytes] = ..., terms: _Optional[bytes] = ..., setup: _Optional[bytes] = ..., witnesses: _Optional[bytes] = ..., round: _Optional[int] = ..., mode: _Optional[int] = ..., parameters: _Optional[bytes] = ..., encoding: _Optional[bytes] = ..., length: _Optional[int] = ..., held: _Optional[bytes] = ..., participants: _Optional[bytes] = ..., previous_round: _Optional[int] = ..., previous_outcome: _Optional[int] = ..., previous: _Optional[_Iterable[_Union[Quoted, _Mapping]]] = ..., previous_sum: _Optional[bytes] = ..., base_rounds: _Optional[_Iterable[int]] = ..., base_contexts: _Optional[bytes] = ..., ring: _Optional[int] = ...) -> None: ...

class Proposal(_message.Message):
    __slots__ = ("session", "header", "survivors", "setup")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    HEADER_FIELD_NUMBER: _ClassVar[int]
    SURVIVORS_FIELD_NUMBER: _ClassVar[int]
    SETUP_FIELD_NUMBER: _ClassVar[int]
    session: bytes
    header: Quoted
    survivors: bytes
    setup: bytes
    def __init__(self, session: _Optional[bytes] = ..., header: _Optional[_Union[Quoted, _Mapping]] = ..., survivors: _Optional[bytes] = ..., setup: _Optional[bytes] = ...) -> None: ...

class Certificate(_message.Message):
    __slots__ = ("session", "round", "context", "survivors", "root", "setup", "endorsers", "signatures")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    SURVIVORS_FIELD_NUMBER: _ClassVar[int]
    ROOT_FIELD_NUMBER: _ClassVar[int]
    SETUP_FIELD_NUMBER: _ClassVar[int]
    ENDORSERS_FIELD_NUMBER: _ClassVar[int]
    SIGNATURES_FIELD_NUMBER: _ClassVar[int]
    session: bytes
    round: int
    context: bytes
    survivors: bytes
    root: bytes
    setup: bytes
    endorsers: bytes
    signatures: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, session: _Optional[bytes] = ..., round: _Optional[int] = ..., context: _Optional[bytes] = ..., survivors: _Optional[bytes] = ..., root: _Optional[bytes] = ..., setup: _Optional[bytes] = ..., endorsers: _Optional[bytes] = ..., signatures: _Optional[_Iterable[bytes]] = ...) -> None: ...

class Counted(_message.Message):
    __slots__ = ("session", "round", "certificate", "pair_keys")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    PAIR_KEYS_FIELD_NUMBER: _ClassVar[int]
    session: bytes
    round: int
    certificate: Quoted
    pair_keys: bytes
    def __init__(self, session: _Optional[bytes] = ..., round: _Optional[int] = ..., certificate: _Optional[_Union[Quoted, _Mapping]] = ..., pair_keys: _Optional[bytes] = ...) -> None: ...

class Base(_message.Message):
    __slots__ = ("session", "header")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    HEADER_FIELD_NUMBER: _ClassVar[int]
    session: bytes
    header: Quoted
    def __init__(self, session: _Optional[bytes] = ..., header: _Optional[_Union[Quoted, _Mapping]] = ...) -> None: ...

class Recover(_message.Message):
    __slots__ = ("session", "header", "certificate", "silent", "dropped")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    HEADER_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    SILENT_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    session: bytes
    header: Quoted
    certificate: Quoted
    silent: bytes
    dropped: bytes
    def __init__(self, session: _Optional[bytes] = ..., header: _Optional[_Union[Quoted, _Mapping]] = ..., certificate: _Optional[_Union[Quoted, _Mapping]] = ..., silent: _Optional[bytes] = ..., dropped: _Optional[bytes] = ...) -> None: ...

class Close(_message.Message):
    __slots__ = ("session", "reason", "rounds")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ROUNDS_FIELD_NUMBER: _ClassVar[int]
    session: bytes
    reason: int
    rounds: int
    def __init__(self, session: _Optional[bytes] = ..., reason: _Optional[int] = ..., rounds: _Optional[int] = ...) -> None: ...

class Ticket(_message.Message):
    __slots__ = ("address", "signature")
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    address: str
    signature: bytes
    def __init__(self, address: _Optional[str] = ..., signature: _Optional[bytes] = ...) -> None: ...

class Parcel(_message.Message):
    __slots__ = ("session", "messages")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    session: bytes
    messages: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, session: _Optional[bytes] = ..., messages: _Optional[_Iterable[bytes]] = ...) -> None: ...
