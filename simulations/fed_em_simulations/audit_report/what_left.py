"""What left each tenant's house, and which sums were opened of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from fed_em_protocols.coordinator_state import SumOpened
from fed_em_protocols.keys import SIGNATURE_BYTES
from fed_em_protocols.messages import Advertise, Endorsement, Join, Mode, Opening, Refusal, Upload
from fed_em_protocols.ring import ring_of
from fed_em_protocols.transcript.entries import Entry, Joined, Refused, WindowOpened
from fed_em_protocols.transcript.released import ReleasedSum
from fed_em_protocols.transcript.tenant_log import LogLine
from fed_em_protocols.transcript.walk import WalkedSession
from fed_em_simulations.audit_report.contents import House, LoggedMessage, Message, OpenedSums, Statistic, SumPoint
from fed_em_simulations.audit_report.words import message_in_words, statistic_in_words, summand_in_words


def messages_of(session: WalkedSession, entries: Sequence[Entry]) -> tuple[Message, ...]:
    """All messages of tenants that a transcript has, by kind; bytes are those of payload, attachment and signature."""
    sizes: dict[str, list[int]] = {}
    for kind, size in _sizes(session, entries):
        sizes.setdefault(kind.__name__, []).append(size)
    return tuple(
        Message(kind=kind, meaning=message_in_words(kind), messages=len(each), content_bytes=sum(each))
        for kind, each in sizes.items()
    )


def _sizes(session: WalkedSession, entries: Sequence[Entry]) -> Iterator[tuple[type, int]]:
    for entry in entries:
        match entry:
            case Joined(message=message):
                yield Join, _size(message.payload)
            case Refused(message=message):
                yield Refusal, _size(message.payload)
            case WindowOpened(advertisements=advertisements):
                yield from ((Advertise, _size(each.message.payload) + len(each.table)) for each in advertisements)
    for number, uploads in session.uploads.items():
        yield from ((Upload, _vector_bytes(session, number) + SIGNATURE_BYTES) for _ in uploads)
    for certificate in session.certificates.values():
        yield from ((Endorsement, len(signature)) for signature in certificate.content.signatures)
    for openings in session.openings.values():
        yield from ((Opening, _size(each.payload)) for each in openings.values() if each is not None)


def _size(payload: bytes) -> int:
    return len(payload) + SIGNATURE_BYTES


def _vector_bytes(session: WalkedSession, number: int) -> int:
    """Of one masked vector of a round."""
    header = session.headers[number].content
    return header.length * ring_of(header.ring, header.mode == Mode.COUNTS).word_bytes


def houses_of(session: WalkedSession, logs: Mapping[str, Sequence[LogLine]]) -> tuple[House, ...]:
    """What left each house.

    Args:
        session: Verified.
        logs: Tenants' own logs that hold, by tenant.
    """
    opened = [attempt for attempt in session.attempts if isinstance(attempt.outcome, SumOpened)]
    found = []
    for index, tenant in enumerate(session.roster.tenants):
        rounds = [number for number, uploads in session.uploads.items() if index in uploads]
        silent = sum(openings.get(index, True) is None for openings in session.openings.values())
        found.append(
            House(
                tenant=tenant.name,
                most_rows=tenant.row_cap,
                masked_vectors=len(rounds),
                content_bytes=sum(_vector_bytes(session, number) for number in rounds),
                in_sums=sum(attempt.bases[index] > 0 for attempt in opened),
                silent=silent,
                logged=_logged(session, logs[tenant.name]) if tenant.name in logs else None,
            )
        )
    return tuple(found)


def _logged(session: WalkedSession, log: Sequence[LogLine]) -> tuple[LoggedMessage, ...]:
    number = session.terms.content.session
    kinds = Counter(line.kind for line in log if line.way == "sent" and line.session == number)
    return tuple(
        LoggedMessage(kind=kind, meaning=message_in_words(kind), messages=n) for kind, n in kinds.most_common()
    )


def opened_sums(sums: Sequence[ReleasedSum], private: bool) -> tuple[OpenedSums, ...]:
    """The sums that were opened, with noise if they are private, those of one kind together, in the order of their first."""
    groups: dict[tuple[bool, str], list[ReleasedSum]] = {}
    for released in sums:
        model = json.dumps(released.broadcast.model.describe(), sort_keys=True)
        groups.setdefault((released.kind == "counts", model), []).append(released)
    return tuple(_group(each, private) for each in groups.values())


def _group(sums: Sequence[ReleasedSum], private: bool) -> OpenedSums:
    first, tenants = sums[0], [_terms(released) for released in sums]
    numbers: dict[tuple[str, str], int] = {}
    for block in first.statistics.layout:
        said = statistic_in_words(block.name, private)
        numbers[said] = numbers.get(said, 0) + block.size
    return OpenedSums(
        of=summand_in_words(first.broadcast.model),
        counts=first.kind == "counts",
        sums=len(sums),
        fewest_tenants=min(tenants),
        most_tenants=max(tenants),
        statistics=tuple(Statistic(name=name, meaning=meaning, numbers=n) for (name, meaning), n in numbers.items()),
    )


def _terms(released: ReleasedSum) -> int:
    return sum(base > 0 for base in released.bases)


def points_of(sums: Sequence[ReleasedSum], masses: bool) -> tuple[SumPoint, ...]:
    """One point for each sum.

    Args:
        sums: All.
        masses: Whether to say what open components hold; of sums with noise it says nothing.
    """
    return tuple(
        SumPoint(
            round=released.round,
            counts=released.kind == "counts",
            tenants=_terms(released),
            masses=_open_masses(released) if masses and released.kind != "counts" else (),
        )
        for released in sums
    )


def _open_masses(released: ReleasedSum) -> tuple[float, ...]:
    """How many records each component held whose moments were opened; of mixtures of Gaussian columns."""
    names = {block.name for block in released.statistics.layout}
    if not {"responsibilities", "first"} <= names:
        return ()
    mass, first = released.statistics["responsibilities"], released.statistics["first"]
    if len(mass) < 2:
        return ()
    return tuple(float(each) for each in mass[np.abs(first).reshape(len(mass), -1).sum(axis=1) > 0])
