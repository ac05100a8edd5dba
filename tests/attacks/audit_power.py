"""How large a bound of ε audits by canaries prove, if there is too little noise: `python -m tests.attacks.audit_power`.

Scores are ideal ones: of canaries that use nine tenths of the squared sensitivity, and do not get into each other's way.
"""

from __future__ import annotations

import numpy as np

from fed_em_simulations.attacks.canary_audit import canary_audit
from tests.attacks.gaussian_mechanism import separation_of

CLAIMED, DELTA, AUDITS = 1.0, 1e-5, 20


def main() -> None:
    """Print the mean bound of some audits."""
    generator = np.random.default_rng(0)
    separation = separation_of(CLAIMED, DELTA) * np.sqrt(0.9)
    print(f"claimed ε = {CLAIMED:g} at δ = {DELTA:g}; means of {AUDITS} audits")
    for quieter in (1, 2, 4, 20):
        for canaries in (64, 2_000, 5_000, 20_000):
            bounds = []
            for _ in range(AUDITS):
                coins = generator.random(canaries) < 0.5
                signal = quieter * separation
                scores = signal * (coins - 0.5) + generator.standard_normal(canaries)
                bounds.append(canary_audit(coins, scores, DELTA, CLAIMED).bound)
            print(f"noise divided by {quieter:>2}, {canaries:>6} canaries: ε ≥ {np.mean(bounds):.2f}")


if __name__ == "__main__":
    main()
