"""A tenant's own log against the transcript: what it never sent, what the server told others, and what is missing."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded import TIME, Lines, Recorded, recorded

from fed_em.errors import EnvironmentFault
from fed_em_client.tenant_log_file import LOG_FILE, TenantLogFile
from fed_em_protocols.envelope import Sealed, seal, unquote
from fed_em_protocols.errors import SERVER
from fed_em_protocols.keys import SigningKey
from fed_em_protocols.messages import Certificate, Close, Header, Hello
from fed_em_protocols.roster import Roster
from fed_em_protocols.transcript.entries import RoundCertified, RoundStarted
from fed_em_protocols.transcript.faults import Place, TranscriptFault
from fed_em_protocols.transcript.tenant_log import LogLine, TenantLog, read_line, read_tenant_log
from fed_em_server.audit.verify import Check, Verdict, verify

NAME = f"t3/{LOG_FILE}"


def of_log(whole: Recorded, data: bytes) -> list[Check]:
    """What a verification says of one log."""
    return [check for check in verify(whole.files, whole.roster, {NAME: data}).checks if check.name == f"log {NAME}"]


def failure(whole: Recorded, data: bytes) -> Check:
    found = of_log(whole, data)[0]
    assert found.verdict is Verdict.FAILED and found.place is not None
    return found


def written(lines: list[LogLine]) -> bytes:
    """The lines as a log that was written so from the beginning."""
    store, before = Lines(), bytes(32)
    for number, line in enumerate(lines):
        placed = line.model_copy(update={"number": number, "before": before})
        hashed = placed.model_copy(update={"hash": placed.true_hash})
        before = hashed.hash
        store.append([json_line(hashed)])
    return store.data


def json_line(line: LogLine) -> bytes:
    return json.dumps(line.model_dump(mode="json"), sort_keys=True, separators=(",", ":")).encode()


def without(whole: Recorded, kind: str, round_number: int) -> bytes:
    log = read_tenant_log(whole.logs[NAME], NAME, whole.roster)
    kept = [line for line in log if (line.kind, line.round, line.way) != (kind, round_number, "sent")]
    assert len(kept) < len(log)
    return written(kept)


def with_seen(whole: Recorded, message: Sealed[Header] | Sealed[Certificate] | Sealed[Close]) -> bytes:
    """The log of a tenant to whom the server sent one message more."""
    store = Lines()
    store.data = whole.logs[NAME]
    log = TenantLog(store, "t3", whole.roster, lambda: TIME, whole.logs[NAME].splitlines()[-1])
    log.seen(message.to_bytes())
    assert store.data != whole.logs[NAME]
    return store.data


def header_of(whole: Recorded, number: int) -> Sealed[Header]:
    headers = (unquote(e.header.quoted, Header, SERVER) for e in whole.entries if isinstance(e, RoundStarted))
    return next(header for header in headers if header.content.round == number)


def test_every_log_agrees_and_knows_its_uploads() -> None:
    whole = recorded()
    found = verify(whole.files, whole.roster, whole.logs)
    assert found.passed
    said = [check.said for check in found.checks if check.name.startswith("log t")]
    assert len(said) == 6
    assert "its 4 uploads are its own; 1 more were in no sum" in said[3], "of the round that failed"


@pytest.mark.parametrize(
    ("kind", "number", "field"),
    [("Upload", 3, "uploads"), ("Opening", 2, "openings.message"), ("Endorsement", 5, "certificate")],
)
def test_what_the_tenant_never_sent_is_found_where_the_transcript_has_it(kind: str, number: int, field: str) -> None:
    whole = recorded()
    place = failure(whole, without(whole, kind, number)).place
    assert place is not None and place.line is not None
    assert (place.file, place.field, place.party) == ("entries", field, "t3")
    entry = json.loads(whole.lines[place.line])
    assert entry["kind"] == {"Upload": "uploads", "Opening": "sum", "Endorsement": "certificate"}[kind]


def test_two_headers_of_one_round_prove_it_against_the_server() -> None:
    whole = recorded()
    header = header_of(whole, 2)
    other = seal(replace(header.content, previous_sum=bytes(32)), whole.server, b"")
    found = failure(whole, with_seen(whole, other))
    assert "another header of round 2" in found.said and "both signatures" in found.proves
    assert found.place is not None and found.place.party == SERVER


def test_a_round_that_the_server_left_out_is_found_by_whoever_saw_its_header() -> None:
    whole = recorded()
    header = seal(replace(header_of(whole, 5).content, round=6), whole.server, b"")
    assert "round 6, which is not in the transcript" in failure(whole, with_seen(whole, header)).said


def test_two_sets_of_survivors_prove_it_against_the_server() -> None:
    whole = recorded()
    signed = next(entry.certificate for entry in whole.entries if isinstance(entry, RoundCertified))
    certificate = unquote(signed.quoted, Certificate, SERVER)
    other = seal(replace(certificate.content, survivors=b"\x07"), whole.server)
    found = failure(whole, with_seen(whole, other))
    assert "other survivors of round 1" in found.said and "both signatures" in found.proves


def test_a_close_that_others_were_not_told_of_is_found() -> None:
    whole = recorded()
    close = seal(Close(whole.checkpoints[0].session, 2, 5), whole.server)
    assert "closed the session for this tenant in another way" in failure(whole, with_seen(whole, close)).said


def test_a_transcript_that_ends_early_is_found_by_a_tenant_that_saw_more() -> None:
    whole = recorded()
    size = whole.checkpoints[2].size
    cut = Recorded(whole.signed_anew(whole.lines[:size]), whole.roster, whole.logs, whole.server)
    said = [check.said for check in of_log(cut, whole.logs[NAME])]
    assert any("round 4, which is not in the transcript" in each for each in said)
    assert any("the transcript ends before" in each for each in said)


@settings(deadline=None)
@given(st.data())
def test_any_bit_of_a_log_that_is_flipped_is_found_in_its_line(data: st.DataObject) -> None:
    whole = recorded()
    log = bytearray(whole.logs[NAME])
    bit = data.draw(st.integers(0, 8 * len(log) - 1))
    line = bytes(log[: bit // 8]).count(b"\n")
    log[bit // 8] ^= 1 << bit % 8
    with pytest.raises(TranscriptFault) as found:
        read_tenant_log(bytes(log), NAME, whole.roster)
    assert (found.value.place.file, found.value.place.line) == (NAME, line)


@pytest.mark.parametrize(
    "change", [lambda lines: lines[1:], lambda lines: [lines[1], lines[0], *lines[2:]], lambda lines: lines[:1] + lines]
)
def test_lines_of_a_log_that_are_not_in_order_are_found(change: Callable[[list[bytes]], list[bytes]]) -> None:
    whole = recorded()
    data = b"\n".join(change(whole.logs[NAME].split(b"\n")))
    with pytest.raises(TranscriptFault, match="dropped, swapped or added"):
        read_tenant_log(data, NAME, whole.roster)


def test_what_the_server_did_not_sign_is_not_kept(tmp_path: Path) -> None:
    whole, store = recorded(), Lines()
    log = TenantLog(store, "t3", whole.roster, lambda: TIME)
    content = header_of(whole, 2).content
    log.seen(seal(content, SigningKey(bytes(32)), b"").to_bytes())
    log.seen(b"no message")
    log.seen(seal(Hello("t3", bytes(32), bytes(16), "x", bytes(32)), whole.server).to_bytes())
    assert not store.data


def test_a_log_that_says_other_than_what_the_server_signed_is_no_evidence() -> None:
    whole = recorded()
    log = list(read_tenant_log(whole.logs[NAME], NAME, whole.roster))
    place = next(k for k, line in enumerate(log) if line.kind == "Header")
    log[place] = log[place].model_copy(update={"round": 9})
    found = failure(whole, written(log))
    assert found.place == Place(NAME, place, "digest")


def roster() -> Roster:
    return recorded().roster


def test_a_log_on_disk_goes_on_behind_a_line_that_was_not_finished(tmp_path: Path) -> None:
    key = SigningKey(bytes(32))
    messages = [seal(Hello("t3", bytes(32), bytes([k]) * 16, "x", bytes(32)), key).to_bytes() for k in range(3)]
    with TenantLogFile(tmp_path) as file:
        TenantLog(file, "t3", roster(), lambda: TIME, file.last).sent(messages[:2])
    path = tmp_path / LOG_FILE
    path.write_bytes(path.read_bytes() + b'{"half')
    with TenantLogFile(tmp_path) as file:
        TenantLog(file, "t3", roster(), lambda: TIME, file.last).sent(messages[2:])
    lines = read_tenant_log(path.read_bytes(), LOG_FILE, roster())
    assert [line.number for line in lines] == [0, 1, 2]
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_line(path.read_bytes().splitlines()[2], Place(LOG_FILE, 2)) == lines[2]


def test_nothing_leaves_if_the_disk_does_not_take_its_line(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="state folder"):
        TenantLogFile(tmp_path / "nowhere")
