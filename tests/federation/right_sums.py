"""What any session must have come to, by its transcript and the tenants' rows: right sums, and the model that follows from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fed_em.statistics import Statistics
from fed_em_client.rows_work import RowsWork, _Batch
from fed_em_client.take_part import Tenant
from fed_em_client.tenant_log_file import LOG_FILE
from fed_em_protocols.coordinator_state import SumOpened
from fed_em_protocols.encoding import Encoding
from fed_em_protocols.masks import RingVector
from fed_em_protocols.party import load_keys
from fed_em_protocols.privacy.noise import without_silent
from fed_em_protocols.tenant_state import Evaluate
from fed_em_protocols.transcript.tenant_log import read_tenant_log
from fed_em_protocols.transcript.walk import WalkedSession
from fed_em_server.audit.verify import Verdict, verify
from fed_em_server.transcript_folder import read_transcript
from fed_em_simulations.federation_folder import FederationFolder


def assert_it_verifies(federation: FederationFolder) -> None:
    """The transcript replays, and holds against the log of every tenant that keeps one."""
    states = {name: federation.tenant(name).state / LOG_FILE for name in federation.tenant_files}
    logs = {name: path.read_bytes() for name, path in states.items() if path.exists()}
    found = verify(read_transcript(federation.server.output), federation.roster, logs)
    assert found.passed, [check for check in found.checks if check.verdict is Verdict.FAILED]


def assert_sums_are_right(
    federation: FederationFolder, session: WalkedSession, noised: Mapping[tuple[str, int], bytes] | None = None
) -> None:
    """Each sum is, bit for bit, what those who are in it have at the parameters of their rounds: computed from the rows here.

    The model is then the right one, since the transcript's replay comes to it from these sums. In a private session it is what they said
    that they gave to be masked (`noised`, by tenant and round); less what is computed here, that is noise, and no two rounds have the same.
    """
    works = [_work_without_noise(federation, name, session) for name in federation.tenant_files]
    names, private = tuple(federation.tenant_files), session.description.privacy is not None
    taken = {} if session.description.stream is None else _minibatches(federation, session)
    terms: list[RingVector | None] = [None] * len(works)
    noises: dict[bytes, tuple[str, int]] = {}
    checked = 0
    for attempt in session.attempts:
        if not isinstance(attempt.outcome, SumOpened) or attempt.header is None:
            continue
        opened, header, said = attempt.outcome, attempt.header.content, session.terms.content
        asked = Evaluate(
            header.round, header.mode, attempt.header.attachment, header.encoding, header.length, header.held,
            said.mass_floor, said.colluders, header.ring, minimum_survivors=said.minimum_survivors,
        )  # fmt: skip
        assert {*opened.survivors, *opened.stale, *opened.missing} == set(range(len(works)))
        for tenant in opened.survivors:
            if (batch := taken.get(names[tenant], {}).get(header.round)) is not None:
                works[tenant]._batch = _Batch(batch, asked.parameters)
            exact = terms[tenant] = works[tenant].evaluate(asked)
            if private:
                assert noised is not None
                given = np.frombuffer(noised[names[tenant], header.round], exact.dtype)
                noise = (given - exact).tobytes()
                assert np.count_nonzero(given - exact) >= 6
                assert noise not in noises, f"{names[tenant]} in round {header.round} has the noise of {noises[noise]}"
                noises[noise] = names[tenant], header.round
                terms[tenant] = given
        for tenant in opened.missing:
            terms[tenant] = None
        expected = sum(term for term in terms if term is not None)
        np.testing.assert_array_equal(opened.vector, expected, f"round {header.round}")
        checked += 1
    assert checked > 1


def _work_without_noise(federation: FederationFolder, name: str, session: WalkedSession) -> RowsWork:
    configuration = federation.tenant(name)
    work = Tenant(configuration, federation.roster, load_keys(configuration.keys)).work()
    index = federation.roster.index(name)
    work.prepare(session.terms.attachment, session.terms.content.mass_floor)
    work.changed(session.terms.content.session)

    def exact(_: Evaluate, encoding: Encoding, statistics: Statistics) -> RingVector:
        return encoding.encode(without_silent(statistics), index)

    work._noised = exact  # type: ignore[method-assign]
    return work


def _minibatches(federation: FederationFolder, session: WalkedSession) -> dict[str, dict[int, int]]:
    opened = [attempt.outcome.round for attempt in session.attempts if isinstance(attempt.outcome, SumOpened)]
    return {name: batches_taken(federation, name, opened[0], opened[1:]) for name in federation.tenant_files}


def batches_taken(federation: FederationFolder, name: str, moments: int, opened: Sequence[int]) -> dict[int, int]:
    """The minibatch that a tenant took in each round of a stream's model, by its own log of what it sent.

    One after the other, from 0 in its first process and from the number of the first round in a later one; rounds that failed were at the
    parameters of the next that was opened, and over the same.

    Args:
        federation: Its.
        name: The tenant's.
        moments: The number of the round of the moments.
        opened: Those of the rounds of the model that were opened.
    """
    log = read_tenant_log((federation.tenant(name).state / LOG_FILE).read_bytes(), name, federation.roster)
    taken: dict[int, int] = {}
    processes, batch, point = 0, 0, None
    for line in log:
        if line.way == "sent" and line.kind == "Hello":
            processes, point = processes + 1, None
        elif line.way == "sent" and line.kind == "Upload" and line.round > moments:
            at = next((each for each in opened if each >= line.round), None)
            if at != point:
                first = 0 if processes == 1 else line.round
                batch, point = (first if point is None else batch + 1), at
            taken[line.round] = batch
    return taken
