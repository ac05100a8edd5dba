"""Whole sessions, recorded and replayed."""

from __future__ import annotations

import numpy as np

from fed_em import GaussianMixture
from fed_em_protocols.transcript.memory_transcript import MemoryTranscript
from fed_em_protocols.transcript.reading import verified_entries
from fed_em_protocols.transcript.released import released_sums
from fed_em_protocols.transcript.walk import walked
from fed_em_server.audit.replay import replayed
from fed_em_simulations.federation import Federation


def test_x():
    g = np.random.default_rng(0)
    X = [g.standard_normal((40, 2)) + 3 * (k % 2) for k in range(5)]
    store = MemoryTranscript(keeps_uploads=True)
    out = Federation(X, seed=0, dropout=0.1, starts=0, transcript=store, optimiser="em", max_iterations=10).fit(
        GaussianMixture(2)
    )
    print(out.failure, out.record.rounds[-1])
    import time

    t = time.time()
    files = store.files
    print(len(files.entries), files.entries.count(b"\n"), files.checkpoints.count(b"\n"))
    e = verified_entries(files, out.roster)
    print("verified", time.time() - t)
    t = time.time()
    w = walked(e, out.roster, store)
    print("walked", time.time() - t, w.tally)
    t = time.time()
    r = replayed(w)
    print("replayed", time.time() - t, r)
    print(released_sums(w)[-1])
