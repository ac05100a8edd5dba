"""Nothing in a transcript can be changed without being found where it is: by whoever holds the files, or by the server itself."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded import Recorded, lines_to_bytes, recorded
from tampering import Path, at, changed, places

from fed_em_protocols.merkle import leaf_hash
from fed_em_protocols.transcript.canonical_json import canonical_json
from fed_em_protocols.transcript.faults import CHECKPOINTS, ENTRIES, UPLOADS, Place
from fed_em_protocols.transcript.log import Frontier, signed_checkpoint
from fed_em_protocols.transcript.reading import TranscriptFiles
from fed_em_server.audit.verify import Check, Verdict, verify

# What a server may say as it likes, as nothing follows from it: times, words, what it computes on, and a tolerance that leads to
# the very same steps.
FREE = {("opened", "time"), ("opened", "computed_on"), ("opened", "fit", "tolerance"), ("failed", "reason")}

# What stands in one entry and is found in a later one, which it does not fit: a sum that another plan would not have asked for, a window or
# an upload that is missing.
FOUND_LATER = {("opened", "fit"), ("window", "advertisements"), ("uploads", "uploads"), ("failed", "final")}


def first_failure(files: TranscriptFiles, whole: Recorded | None = None) -> Check:
    found = verify(files, (whole or recorded()).roster)
    assert not found.passed
    return next(check for check in found.checks if check.verdict is Verdict.FAILED)


def place_of_failure(files: TranscriptFiles, whole: Recorded | None = None) -> Place:
    place = first_failure(files, whole).place
    assert place is not None
    return place


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def bits_of_files() -> st.SearchStrategy[tuple[str, int]]:
    files = recorded().files
    sizes = {ENTRIES: 8 * len(files.entries), CHECKPOINTS: 8 * len(files.checkpoints)}
    return st.sampled_from(sorted(sizes)).flatmap(
        lambda file: st.tuples(st.just(file), st.integers(0, sizes[file] - 1))
    )


def assert_found(file: str, bit: int) -> None:
    files = recorded().files
    data = files.entries if file == ENTRIES else files.checkpoints
    found = place_of_failure(replace(files, **{file: flipped(data, bit)}))
    line = data[: bit // 8].count(b"\n")
    assert (found.file, found.line) == (file, line)


@settings(deadline=None)
@given(st.data())
def test_any_bit_of_the_files_that_is_flipped_is_found_in_its_line(data: st.DataObject) -> None:
    assert_found(*data.draw(bits_of_files()))


@pytest.mark.slow
def test_so_is_a_bit_of_every_eighth_byte() -> None:
    files = recorded().files
    for file, size in ((ENTRIES, len(files.entries)), (CHECKPOINTS, len(files.checkpoints))):
        for byte in range(0, size, 8):
            assert_found(file, 8 * byte + byte // 8 % 8)


class _OneFlipped:
    """Kept uploads, one of which has another bit."""

    def __init__(self, files: TranscriptFiles, which: tuple[int, int], bit: int) -> None:
        self._files, self._which, self._bit = files, which, bit

    def upload(self, round_number: int, tenant: int) -> bytes | None:
        assert self._files.uploads is not None
        data = self._files.uploads.upload(round_number, tenant)
        if data is None or (round_number, tenant) != self._which:
            return data
        return flipped(data, self._bit % (8 * len(data)))


@pytest.mark.parametrize(("which", "bit"), [((1, 0), 0), ((3, 4), 12345), ((5, 2), 777)])
def test_a_bit_of_an_upload_that_was_kept_is_found_with_its_tenant(which: tuple[int, int], bit: int) -> None:
    files = recorded().files
    found = place_of_failure(replace(files, uploads=_OneFlipped(files, which, bit)))
    assert (found.file, found.party) == (UPLOADS, f"t{which[1]}")
    assert found.field == f"{which[0]}-{which[1]}"


def rearranged() -> Iterator[tuple[str, int, list[bytes]]]:
    """Lines dropped, swapped and doubled, and the first place that is not as it was."""
    for file in (ENTRIES, CHECKPOINTS):
        data = recorded().files.entries if file == ENTRIES else recorded().files.checkpoints
        lines = data.split(b"\n")[:-1]
        for k in range(len(lines)):
            yield file, k, lines[:k] + lines[k + 1 :]
            yield file, k + 1, [*lines[: k + 1], *lines[k:]]
            if k + 1 < len(lines) and lines[k] != lines[k + 1]:
                yield file, k, [*lines[:k], lines[k + 1], lines[k], *lines[k + 2 :]]


def test_lines_that_were_dropped_swapped_or_doubled_are_found() -> None:
    files = recorded().files
    for file, first, lines in rearranged():
        found = place_of_failure(replace(files, **{file: lines_to_bytes(lines)}))
        # Without its last checkpoint, the entries that it signs are those that nobody has signed.
        last = file == CHECKPOINTS and first >= len(lines)
        assert (found.file, found.line) == ((ENTRIES, recorded().checkpoints[-2].size) if last else (file, first))


def test_a_copy_that_was_cut_is_found_by_a_checkpoint_from_elsewhere() -> None:
    whole = recorded()
    for keep in range(1, len(whole.checkpoints)):
        size = whole.checkpoints[keep - 1].size
        cut = replace(
            whole.files,
            entries=lines_to_bytes(whole.lines[:size]),
            checkpoints=lines_to_bytes([each.to_bytes() for each in whole.checkpoints[:keep]]),
        )
        assert verify(cut, whole.roster).checks[0].verdict is Verdict.PASSED, "it is signed as far as it goes"
        later = verify(cut, whole.roster, known=whole.checkpoints[keep:]).checks[0]
        assert later.verdict is Verdict.FAILED and later.place is not None and later.place.line == size
        assert "cut short" in later.proves
        assert verify(whole.files, whole.roster, known=whole.checkpoints[:keep]).passed


def test_two_transcripts_of_one_session_prove_it_against_the_server() -> None:
    whole = recorded()
    frontier = Frontier()
    for line in [*whole.lines[:4], b"another"]:
        frontier = frontier.with_leaf(leaf_hash(line))
    other = signed_checkpoint(whole.checkpoints[0].session, frontier, [], "", whole.server)
    found = verify(whole.files, whole.roster, known=[other]).checks[0]
    assert found.verdict is Verdict.FAILED and "two transcripts" in found.proves


def fields_of(whole: Recorded) -> dict[tuple[str, ...], tuple[int, Path]]:
    """One place of each kind of field, list entries counting as one."""
    found: dict[tuple[str, ...], tuple[int, Path]] = {}
    for number, line in enumerate(whole.lines):
        document = json.loads(line)
        for path in places(document):
            name = (document["kind"], *(step for step in path if isinstance(step, str)))
            deeper = (*name, "…") if isinstance(at(document, path), list) else name
            found.setdefault(deeper, (number, path))
    return found


def test_a_server_that_changes_any_field_and_signs_all_anew_is_found() -> None:
    assert_no_field_can_be_changed(recorded())


def assert_no_field_can_be_changed(whole: Recorded) -> None:
    """Whatever the server changes in one entry, its own signatures over all do not hide it."""
    for name, (number, path) in fields_of(whole).items():
        lines = [*whole.lines]
        lines[number] = changed(lines[number], path)
        assert lines[number] != whole.lines[number]
        files = whole.signed_anew(lines)
        plain = tuple(part for part in name if part != "…")
        if any(plain[: len(free)] == free for free in FREE):
            assert verify(files, whole.roster).passed, name
            continue
        found = place_of_failure(files, whole)
        assert found.file == ENTRIES and found.line is not None, name
        later = any(plain[: len(each)] == each for each in FOUND_LATER) and found.line > number
        assert found.line == number or later, (name, found)


@pytest.mark.parametrize("kind", ["window", "round", "certificate", "sum", "iteration", "failed"])
def test_a_server_that_leaves_an_entry_out_and_signs_all_anew_is_found(kind: str) -> None:
    whole = recorded()
    for number, line in enumerate(whole.lines):
        if json.loads(line)["kind"] == kind:
            lines = whole.lines[:number] + whole.lines[number + 1 :]
            found = place_of_failure(whole.signed_anew(lines))
            assert found.line is not None and found.line >= number


def test_another_sum_with_the_same_check_words_is_no_sum_of_the_uploads() -> None:
    whole = recorded()
    number = max(k for k, line in enumerate(whole.lines) if json.loads(line)["kind"] == "sum")
    document = json.loads(whole.lines[number])
    vector = bytearray(b64decode(document["vector"]))
    vector[8 * 10 + 6] ^= 1  # not a low bit, which is beyond what a float64 holds
    document["vector"] = b64encode(vector).decode()
    lines = [*whole.lines]
    lines[number] = canonical_json(document)
    assert first_failure(whole.signed_anew(lines)).said == "the uploads that were kept give another sum"
    without = replace(whole.signed_anew(lines), uploads=None)
    # The fit from there leads elsewhere.
    assert place_of_failure(without).line == number + 1
