"""A transcript's lines held against its signed checkpoints: what was changed, dropped, swapped or added, and where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from fed_em.errors import CallerError, EnvironmentFault
from fed_em_protocols.errors import SERVER
from fed_em_protocols.merkle import leaf_hash
from fed_em_protocols.roster import Roster
from fed_em_protocols.transcript.entries import Entry, entry_from_bytes
from fed_em_protocols.transcript.faults import CHECKPOINTS, ENTRIES, Place, TranscriptFault
from fed_em_protocols.transcript.log import Checkpoint, Frontier


class KeptUploads(Protocol):
    """The masked vectors that were kept beside a transcript."""

    def upload(self, round_number: int, tenant: int) -> bytes | None:
        """One of them; None if it was not kept."""
        ...


@dataclass(frozen=True)
class TranscriptFiles:
    """A transcript as it is stored.

    Attributes:
        entries, checkpoints: The bytes of the two files: lines, each with its end.
        uploads: What was kept of uploads; None if nothing was.
    """

    entries: bytes = field(repr=False)
    checkpoints: bytes = field(repr=False)
    uploads: KeptUploads | None = None


def verified_entries(files: TranscriptFiles, roster: Roster, known: Sequence[Checkpoint] = ()) -> tuple[Entry, ...]:
    """The entries, if they are the ones that the server has signed, in their order, all of them.

    Args:
        files: What is stored.
        roster: Who the server is.
        known: Checkpoints that came from elsewhere, such as an earlier copy of the transcript.

    Raises:
        TranscriptFault: names the first line that is not as it was signed.
    """
    lines = lines_of(files.entries, ENTRIES)
    frontiers = _against_checkpoints(lines, lines_of(files.checkpoints, CHECKPOINTS), roster)
    for checkpoint in known:
        _against_known(checkpoint, lines, frontiers, roster)
    return tuple(_entry(line, number) for number, line in enumerate(lines))


def lines_of(data: bytes, file: str) -> list[bytes]:
    """The lines of a file, without their ends.

    Raises:
        TranscriptFault: there are none, or the last has no end.
    """
    *lines, rest = data.split(b"\n")
    if rest:
        raise TranscriptFault(
            "the last line has no end: it was not written to its end, or cut", Place(file, len(lines))
        )
    if not lines:
        raise TranscriptFault("there is no line", Place(file))
    return lines


def kept_entries(files: TranscriptFiles, n: int) -> tuple[list[bytes], int, int]:
    """The first entries of a transcript whose server stopped, whatever it was writing.

    Returns:
        The entries, how many of them the last checkpoint signs, and how many whole checkpoints there are.

    Raises:
        EnvironmentFault: there are fewer, or a checkpoint signs more.
    """
    lines, signed = files.entries.split(b"\n")[:-1], files.checkpoints.split(b"\n")[:-1]
    size = 0
    if signed:
        try:
            size = Checkpoint.from_bytes(signed[-1], "the last checkpoint of the transcript").size
        except CallerError as error:
            raise EnvironmentFault(f"the session cannot go on: {error.message}") from None
    if len(lines) < n:
        raise EnvironmentFault(
            f"the session cannot go on: its transcript has {len(lines)} entries, of {n} that were written",
            remedy="put its folder back as it was, or begin another session with --new",
        )
    if size > n:
        raise EnvironmentFault(
            f"the session cannot go on: its transcript has {size} signed entries, and what is kept of the session ends at {n}",
            remedy="a session never goes on from an old copy of its checkpoints, as its server would sign things twice: "
            "put the newest back, or begin another session with --new",
        )
    return lines[:n], size, len(signed)


def _entry(line: bytes, number: int) -> Entry:
    try:
        return entry_from_bytes(line, "it")
    except CallerError as error:
        raise TranscriptFault(error.message, Place(ENTRIES, number)) from None


def _against_checkpoints(lines: Sequence[bytes], signed: Sequence[bytes], roster: Roster) -> list[Frontier]:
    """Frontiers of the tree after each entry, the first of none."""
    frontiers, before = [Frontier()], 0
    for number, line in enumerate(signed):
        checkpoint = _checkpoint(line, Place(CHECKPOINTS, number), before, roster)
        leaves = [leaf_hash(entry) for entry in lines[before : checkpoint.size]]
        for leaf in leaves:
            frontiers.append(frontiers[-1].with_leaf(leaf))
        _against_checkpoint(checkpoint, number, before, leaves, frontiers[-1])
        before = checkpoint.size
    if before < len(lines):
        raise TranscriptFault("no checkpoint signs it", Place(line=before))
    return frontiers


def _against_checkpoint(
    checkpoint: Checkpoint, number: int, before: int, leaves: Sequence[bytes], frontier: Frontier
) -> None:
    """Whether the entries since the checkpoint before are those that one signs."""
    differing = next(
        (k for k, pair in enumerate(zip(leaves, checkpoint.leaves, strict=False)) if len({*pair}) > 1), None
    )
    if frontier.root == checkpoint.root and differing is not None:
        what = f"the hash beside it of entry {before + differing} is not that entry's"
        raise TranscriptFault(what, Place(CHECKPOINTS, number, "leaves"))
    if frontier.root != checkpoint.root and differing is not None:
        what = f"it is not the entry that checkpoint {number} signs: it was changed, dropped, swapped or added"
        raise TranscriptFault(what, Place(line=before + differing))
    if len(leaves) < len(checkpoint.leaves):
        what = f"it is not there, though checkpoint {number} is over {checkpoint.size} entries"
        raise TranscriptFault(what, Place(line=before + len(leaves)))
    if frontier.root != checkpoint.root:
        what = f"entries {before} to {checkpoint.size - 1}, and the hashes beside it, are not those that it signs"
        raise TranscriptFault(what, Place(CHECKPOINTS, number, "root"))


def _field(place: Place, name: str) -> Place:
    """The same place, down to a field."""
    return Place(place.file, place.line, name, place.party)


def _checkpoint(line: bytes, place: Place, before: int, roster: Roster) -> Checkpoint:
    try:
        checkpoint = Checkpoint.from_bytes(line, "it")
    except CallerError as error:
        raise TranscriptFault(error.message, place) from None
    if not checkpoint.is_signed_by(roster.server.identity_key):
        raise TranscriptFault(
            "the server of this roster did not sign it", Place(place.file, place.line, "signature", SERVER)
        )
    if checkpoint.size - before != len(checkpoint.leaves) or checkpoint.size <= before:
        raise TranscriptFault(
            f"it is over {checkpoint.size} entries, the one before over {before}, and names {len(checkpoint.leaves)} between: "
            "a checkpoint was dropped, swapped or added",
            _field(place, "size"),
        )
    return checkpoint


def _against_known(
    checkpoint: Checkpoint, lines: Sequence[bytes], frontiers: Sequence[Frontier], roster: Roster
) -> None:
    place = Place("a checkpoint from elsewhere", None, "", SERVER)
    if not checkpoint.is_signed_by(roster.server.identity_key):
        raise TranscriptFault("the server of this roster did not sign it", _field(place, "signature"))
    if checkpoint.size > len(lines):
        raise TranscriptFault(
            f"the transcript ends here, though the server has signed {checkpoint.size} entries",
            Place(line=len(lines), party=SERVER),
            proves="the server's transcript was cut short after it had signed a longer one",
        )
    if frontiers[checkpoint.size].root != checkpoint.root:
        raise TranscriptFault(
            f"the server has signed other first {checkpoint.size} entries than these",
            Place(line=checkpoint.size - 1, party=SERVER),
            proves="the server keeps two transcripts: both signatures together prove it to anybody",
        )
