"""What a session with differential privacy costs its fit: how much noise stands in its sums, why, and what would make it less."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fed_em_protocols.description import SessionDescription
from fed_em_protocols.privacy.noise import noise_of, private_encoding
from fed_em_protocols.privacy.promise import Privacy

# Noise of a count beyond this share of all records that tenants may hold leaves little of a fit.
_TOO_NOISY = 0.1

# Noise beyond this multiple of what all tenants together would need is worth a word.
_WASTEFUL = 1.2

RESPONSIBILITIES = "responsibilities"
# Statistics in words; those of a component, but for the entropy.
_NAMES = {
    RESPONSIBILITIES: "records",
    "first": "sums of standardised values",
    "second": "sums of their products",
    "level_counts": "records of a level",
    "successes": "records that say yes",
    "failures": "records that say no",
    "events": "sums of counts",
    "exposure": "records with a count",
}


@dataclass(frozen=True)
class PrivacyPlan:
    """The noise of a session's fit, before any sum of it.

    Attributes:
        description: Of the session, with a promise.
        row_caps: Of the roster's tenants.
        survivors: u_min, the fewest tenants of an opened sum.
        colluders: f, how many of them may know and remove each other's noise.
    """

    description: SessionDescription
    row_caps: Sequence[int]
    survivors: int
    colluders: int

    @property
    def privacy(self) -> Privacy:
        """The promise."""
        assert self.description.privacy is not None
        return self.description.privacy

    @property
    def tenants(self) -> int:
        """n."""
        return len(self.row_caps)

    @property
    def shares(self) -> int:
        """m, how many tenants' noise has to suffice."""
        return self.survivors - self.colluders

    @property
    def excess(self) -> float:
        """√(n/m): how much more noise a sum of all tenants has than if all of it counted."""
        return math.sqrt(self.tenants / self.shares)

    def noise(self) -> dict[str, float]:
        """Standard deviation of the noise of an entry of a sum of the fit over all tenants, by statistic; of those that are sent.

        Declared ranges that are narrower than the ball make it less.

        Raises:
            CallerError: no noise is left when those that collude remove theirs, or sums and noise could leave the ring.
        """
        privacy, model = self.privacy, self.description.fitted_model
        layout = model.layout(radius=privacy.radius).of_weights_up_to(self.description.weight_bound)
        noise = noise_of(private_encoding(layout, tuple(self.row_caps), privacy), privacy, self.shares)
        return {name: sigma for name, sigma in noise.of_statistics(self.tenants).items() if sigma}

    @property
    def warnings(self) -> tuple[str, ...]:
        """Why the noise may leave little of the fit, a sentence each. Raises as `noise`."""
        of_count, held = self.noise()[RESPONSIBILITIES], sum(self.row_caps)
        if not of_count > _TOO_NOISY * held:
            return ()
        why = (
            f": it hides {max(self.row_caps)} records, all that a tenant may hold, and takes many more tenants than {self.tenants}, "
            'or the unit "record"'
            if self.privacy.unit == "tenant"
            else ": it takes more records, or a larger ε"
        )
        return (
            f"Noise leaves little: the number of records of each component is known to ± {_in_words(of_count)} only, of at most {held} "
            f"records of all {self.tenants} tenants{why}.",
        )

    @property
    def hints(self) -> Iterator[str]:
        """What would make the noise less, and what it would cost."""
        if self.excess <= _WASTEFUL:
            return
        now = f"instead of {self.excess:.3g}"
        if self.survivors < self.tenants:
            then = math.sqrt(self.tenants / (self.tenants - self.colluders))
            yield (
                f"with minimum_survivors = {self.tenants} the noise would be {then:.3g} times as much as all together need, {now}; "
                "but each tenant that drops out would stop the session until it is back"
            )
        if self.colluders:
            then = math.sqrt(self.tenants / self.survivors)
            yield f"with colluders = 0 it would be {then:.3g} times as much, {now}; but no tenant could have been in league with the server"

    def lines(self) -> Iterator[tuple[str, str]]:
        """The plan in words, by heading. Raises as `noise`."""
        noise = self.noise()
        yield (
            "tenants",
            f"of {self.tenants}, sums of {self.survivors} or more are opened, and {self.colluders} may collude: the noise of {self.shares} "
            f"has to do, and all together add √({self.tenants}/{self.shares}) = {self.excess:.3g} times what would do",
        )
        of_each = (f"{words} ± {_in_words(noise[name])}" for name, words in _NAMES.items() if name in noise)
        yield "noise", f"of each component, in a sum of all tenants: {', '.join(of_each)}"
        for hint in self.hints:
            yield "hint", hint
        for warning in self.warnings:
            yield "warning", warning


def _in_words(noise: float) -> str:
    """Three digits, without powers of ten."""
    return f"{noise:.0f}" if noise >= 100 else f"{noise:.3g}"
