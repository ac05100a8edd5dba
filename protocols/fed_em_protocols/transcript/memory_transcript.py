"""A transcript in memory: for simulations and tests, which read it as it would be read from a disk."""

from __future__ import annotations

from collections.abc import Sequence

from fed_em_protocols.transcript.reading import TranscriptFiles, kept_entries


class MemoryTranscript:
    """Implements `TranscriptStore` and `KeptUploads`.

    Args:
        keeps_uploads: Whether masked vectors are kept.
    """

    def __init__(self, keeps_uploads: bool = False) -> None:
        self.keeps_uploads = keeps_uploads
        self._entries: list[bytes] = []
        self._checkpoints: list[bytes] = []
        self._uploads: dict[tuple[int, int], bytes] = {}

    @property
    def name(self) -> str:
        """See `TranscriptStore`."""
        return "memory"

    def append(self, line: bytes) -> None:
        """See `TranscriptStore`."""
        self._entries.append(line + b"\n")

    def checkpoint(self, line: bytes) -> None:
        """See `TranscriptStore`."""
        self._checkpoints.append(line + b"\n")

    def keep_upload(self, round_number: int, tenant: int, vector: bytes) -> None:
        """See `TranscriptStore`."""
        self._uploads[round_number, tenant] = vector

    def sync(self) -> None:
        """See `TranscriptStore`."""

    def cut(self, entries: int) -> tuple[Sequence[bytes], int]:
        """See `TranscriptStore`."""
        lines, signed, _ = kept_entries(self.files, entries)
        self._entries = [line + b"\n" for line in lines]
        return lines, signed

    def upload(self, round_number: int, tenant: int) -> bytes | None:
        """See `KeptUploads`."""
        return self._uploads.get((round_number, tenant))

    @property
    def files(self) -> TranscriptFiles:
        """As it would be on a disk."""
        return TranscriptFiles(b"".join(self._entries), b"".join(self._checkpoints), self)
