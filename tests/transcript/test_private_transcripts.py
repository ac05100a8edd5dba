"""A private session is verified from its transcript: the fit over noised sums, the promise, and how much of it was spent."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

import fed_em_server.audit.verify
from fed_em import GaussianMixture
from fed_em.em import Stopping
from fed_em_protocols.roster import Roster
from fed_em_protocols.transcript.faults import TranscriptFault
from fed_em_protocols.transcript.memory_transcript import MemoryTranscript
from fed_em_protocols.transcript.walk import WalkedSession
from fed_em_server.audit.verify import PRIVACY, Verdict, Verification, verify
from fed_em_server.configuration import PrivacyTable
from fed_em_simulations import Federation


@cache
def recorded_privately() -> tuple[MemoryTranscript, Roster]:
    """A session with starts by centres and two rounds of the fit, whose uploads are kept."""
    rows = np.random.default_rng(0).normal(size=(5, 200, 2)) + np.arange(5)[:, np.newaxis, np.newaxis] % 2 * 5
    store = MemoryTranscript(keeps_uploads=True)
    federation = Federation(
        list(rows),
        privacy=PrivacyTable(epsilon=4.0, delta=1e-5),
        stopping=Stopping(0.0, 2),
        colluders=1,
        seed=3,
        transcript=store,
    )
    return store, federation.fit(GaussianMixture(2)).roster


@cache
def verified() -> Verification:
    store, roster = recorded_privately()
    return verify(store.files, roster)


def test_it_is_replayed_and_says_what_was_spent() -> None:
    found = verified()
    assert found.passed, found.checks
    said = next(check.said for check in found.checks if check.name == PRIVACY)
    assert "(ε = 4, δ = 1e-05)" in said
    assert "at most 9 were answered" in said
    spent = re.search(r"spends ε = ([\d.]+\d)", said)
    assert spent is not None and 3.0 < float(spent[1]) < 4.0


def promising(**changes: float) -> WalkedSession:
    """The session, if its description had promised something else."""
    session = verified().session
    assert session is not None and session.description.privacy is not None
    promise = session.description.privacy.model_copy(update=changes)
    return replace(session, description=session.description.model_copy(update={"privacy": promise}))


def test_more_answers_than_were_promised_are_found() -> None:
    with pytest.raises(TranscriptFault, match="9 sums were answered, and the promise is of 8"):
        fed_em_server.audit.verify._of_privacy(promising(sums=8))


@pytest.mark.slow
def test_a_promise_that_noise_does_not_keep_is_found() -> None:
    with pytest.raises(TranscriptFault, match="promises ε = 1"):
        fed_em_server.audit.verify._of_privacy(promising(epsilon=1.0))


def test_without_privacy_that_is_said() -> None:
    session = verified().session
    assert session is not None
    plain = replace(session, description=session.description.model_copy(update={"privacy": None}))
    assert fed_em_server.audit.verify._of_privacy(plain).verdict is Verdict.NOTED


def test_each_sum_is_listed_with_what_it_costs() -> None:
    session = verified().session
    assert session is not None and session.description.privacy is not None
    store = recorded_privately()[0]
    lines = store.files.entries.splitlines()
    listed = [json.loads(line) for line in lines if b'"kind":"uploads"' in line]
    assert len(listed) == 9
    assert {float.fromhex(each["spends"]) for each in listed} == {session.description.privacy.noise_multiplier}
