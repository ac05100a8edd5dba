"""Numbers and happenings in words, the same in the live view, the log and the report."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fed_em.em import Step
from fed_em.tracks import agreeing
from fed_em_protocols.coordinator_state import Notice, NoticeKind
from fed_em_server.record import Happening, RoundRecord, SessionRecord

MINUS = "\N{MINUS SIGN}"

# What a round was for the optimiser; an EM step needs no words.
STEPS = {
    Step.LEAP: ", accelerated",
    Step.REFUSED: ", refused: back to the best before",
    Step.PAUSED: ", an EM step: the optimiser is off while not everybody is fresh in the sum",
    Step.ABANDONED: ", abandoned: the optimiser is off while not everybody is fresh in the sum",
}

_PREFIXES = ("", "k", "M", "G", "T")

# What is kept and told of a session besides its rounds; the other notices are about the ordinary course of a round.
HAPPENINGS = frozenset(
    {NoticeKind.LEFT, NoticeKind.JOINED, NoticeKind.REFUSED, NoticeKind.WINDOW_OPENED, NoticeKind.WINDOW_ABANDONED,
     NoticeKind.LATE, NoticeKind.RECOVERING, NoticeKind.PAUSED, NoticeKind.ROUND_FAILED, NoticeKind.FAULT,
     NoticeKind.NOT_COMPUTED, NoticeKind.RESTARTED}
)  # fmt: skip

# Ends of fewer starts say nothing on whether they agree.
_STARTS_THAT_TELL = 2

# Names in one sentence before the rest is counted.
_NAMES_AT_MOST = 4

# Happenings that come in swarms are told in one sentence.
_MERGED = frozenset({NoticeKind.JOINED.value, NoticeKind.LEFT.value})


def bytes_in_words(count: int) -> str:
    """`12 B`, `35.4 kB`, `360 kB`, `1.2 MB`: powers of 1000."""
    size, power = float(count), 0
    while size >= 999.5 and power < len(_PREFIXES) - 1:
        size, power = size / 1000, power + 1
    digits = f"{size:.0f}" if size >= 99.95 or power == 0 else f"{size:.1f}".removesuffix(".0")
    return f"{digits} {_PREFIXES[power]}B"


def seconds_in_words(seconds: float) -> str:
    """`4 ms`, `0.42 s`, `12.3 s`, `3 min 20 s`, `2 h 05 min`."""
    if seconds < 0.1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 60:
        return f"{seconds:.{2 if seconds < 10 else 1}f}".rstrip("0").removesuffix(".") + " s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def decimal(value: float, digits: int = 4, *, signed: bool = False) -> str:
    """A number with a true minus sign; `signed` puts a plus before the others, and none before a zero."""
    text = f"{abs(value):.{digits}f}"
    if not float(text):
        return text
    return f"{MINUS if value < 0 else '+' if signed else ''}{text}"


def names_in_words(names: Sequence[str], at_most: int = _NAMES_AT_MOST) -> str:
    """`ash`, `ash and elm`, `ash, elm, fir and 3 more`."""
    shown = list(names) if len(names) <= at_most else [*names[: at_most - 1], f"{len(names) - at_most + 1} more"]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}" if shown else "nobody"


def banner_in_words(record: SessionRecord) -> str:
    """A record's banner without the name of the trust, which stands before it in a badge."""
    return record.banner.removeprefix(f"Trust: {record.trust}. ")


def privacy_in_words(record: SessionRecord) -> str:
    """What noise promises, and what it did to the sums; empty without it."""
    if record.privacy is None:
        return ""
    moved = [opened for opened in record.rounds if opened.projected]
    said = f"{record.privacy.in_words}."
    if not record.rounds:
        return said
    if not moved:
        return f"{said} No sum became inadmissible by it."
    components = sum(opened.projected for opened in moved)
    what = "1 component" if components == 1 else f"{components} components"
    return f"{said} In {len(moved)} of {len(record.rounds)} sums it made {what} inadmissible: moved to the nearest that records can have."


def blocks_in_words(record: SessionRecord) -> str:
    """`3 blocks of 3`, `2 blocks of 4 to 5`, `one block of 5`, `no blocks`."""
    if not record.blocks:
        return "no blocks"
    sizes = sorted(len(block) for block in record.block_members())
    between = f"{sizes[0]}" if sizes[0] == sizes[-1] else f"{sizes[0]} to {sizes[-1]}"
    return f"{len(sizes)} blocks of {between}" if len(sizes) > 1 else f"one block of {between}"


def ending_in_words(record: SessionRecord) -> str:
    """`converged`, `converged around 3 stale terms`, `stopped before convergence`; of streams and with noise, `…, to its last round`."""
    if record.stream:
        return "a stream, to its last round"
    stale = record.rounds[-1].stale if record.rounds else 0
    if not record.converged:
        return "with noise, to its last round" if record.privacy else "stopped before convergence"
    return f"converged around {stale} stale {'term' if stale == 1 else 'terms'}" if stale else "converged"


def lacking_in_words(opened: RoundRecord) -> str:
    """`3 of 9 terms are of earlier rounds, 1 tenant has none, 2 components are held`; empty if nothing is lacking."""
    n = len(opened.participation)
    said = []
    if opened.stale:
        said.append(f"{opened.stale} of {n} terms {'is' if opened.stale == 1 else 'are'} of earlier rounds")
    if opened.missing:
        said.append(f"{'1 tenant has' if opened.missing == 1 else f'{opened.missing} tenants have'} none")
    if opened.held:
        said.append(f"{'1 component is' if len(opened.held) == 1 else f'{len(opened.held)} components are'} held")
    return ", ".join(said)


def together_in_words(opened: RoundRecord) -> str:
    """Of a round of models to pick from: `8 models, 5 of them still fitted, the best at −3.3802 nats a row`, or which was picked."""
    seen = [value for value in opened.fitted_together if value is not None]
    if opened.picked:
        return f"picked a {opened.picked}"
    n = len(opened.fitted_together)
    if not seen:
        return f"{n} models, all fitted: waiting for every tenant's terms"
    return f"{n} models, {len(seen)} of them still fitted, the best of these at {decimal(max(seen))} nats a row"


def start_in_words(opened: RoundRecord) -> str:
    """`start 3`, `start 12, best of 21 candidates at −1.2345`: a round of the start."""
    best = opened.best_candidate
    told = "" if best is None else f", best of {len(opened.candidates) - opened.left_out} candidates at {decimal(best)}"
    return f"start {opened.start}{told}{_left_out(opened)}"


def _left_out(opened: RoundRecord) -> str:
    return f", {opened.left_out} left out" if opened.left_out else ""


def starts_in_words(record: SessionRecord) -> str:
    """`best of 21 in 18 sums, at −1.2345 nats a row`, `2 sums`; of centres what they explain; empty if EM started without a sum."""
    rounds = record.start_rounds
    if not rounds:
        return ""
    last = rounds[-1]
    best, sums = last.best_candidate, f"{len(rounds)} sums{_left_out(last)}"
    if best is None:
        return sums
    of = f"best of {len(last.candidates) - last.left_out} in {sums}"
    return (
        f"{of}, explaining squares of {decimal(best)} a row"
        if record.centres
        else f"{of}, at {decimal(best)} nats a row"
    )


def ends_in_words(ends: Sequence[float]) -> str:
    """`3 of 5 starts that went on ended at this likelihood`; empty if one start did.

    Args:
        ends: The objective that each led to.
    """
    if len(ends) < _STARTS_THAT_TELL:
        return ""
    return f"{agreeing(ends)} of {len(ends)} starts that went on ended at this likelihood"


def doubt_of_ends(ends: Sequence[float]) -> str:
    """What to do where one start alone found the best optimum; empty where several did, or one start went on."""
    if len(ends) < _STARTS_THAT_TELL or agreeing(ends) > 1:
        return ""
    lower = max(ends) - sorted(ends)[-2]
    return (
        f"Of {len(ends)} starts that went on, one alone found this optimum, and the next best is {lower:.4f} nats a row below it: "
        "more starts may find a better one (`starts = 60` and `generations = 4` in [fit])."
    )


def happening_of(notice: Notice, second: float) -> Happening:
    """A notice as a record keeps it."""
    return Happening(
        second=second, round=notice.round, kind=notice.kind.value, tenants=notice.tenants, text=notice.text
    )


def with_happening(happenings: tuple[Happening, ...], new: Happening) -> tuple[Happening, ...]:
    """One more happening; tenants that join or leave one after the other share one."""
    last = happenings[-1] if happenings else None
    if last is None or new.kind not in _MERGED or (last.kind, last.round) != (new.kind, new.round):
        return (*happenings, new)
    together = (*last.tenants, *(name for name in new.tenants if name not in last.tenants))
    return (*happenings[:-1], last.model_copy(update={"tenants": together}))


def told(happening: Happening) -> str:
    """What happened, as a sentence without its round and its full stop."""
    return _SENTENCES[NoticeKind(happening.kind)](happening)


def told_with_round(happening: Happening) -> str:
    """The sentence, after the round that it belongs to, if there was one yet."""
    return f"round {happening.round}: {told(happening)}" if happening.round else told(happening)


def _linked(happening: Happening) -> str:
    again = " again" if happening.text == "again" else ""
    return f"{names_in_words(happening.tenants)} linked{again}"


def _left(happening: Happening) -> str:
    return f"{names_in_words(happening.tenants)} went away: the link is down"


def _joined(happening: Happening) -> str:
    names = names_in_words(happening.tenants)
    return f"{names} came in, for the next window of keys" if happening.round else f"{names} joined the session"


def _refused(happening: Happening) -> str:
    return f"{names_in_words(happening.tenants)} refused the session ({happening.text or 'no reason given'})"


def _window_opened(happening: Happening) -> str:
    return f"{len(happening.tenants)} tenants set up masks for {happening.text}"


def _window_abandoned(happening: Happening) -> str:
    return happening.text


def _late(happening: Happening) -> str:
    names = names_in_words(happening.tenants)
    if happening.text:
        return f"an upload of {names} came after the cut-off; it stays masked for ever"
    return f"{names} missed the cut-off; the sum goes on without {'it' if len(happening.tenants) == 1 else 'them'}"


def _certified(happening: Happening) -> str:
    return f"a quorum certified that the sum is over {len(happening.tenants)} tenants"


def _paused(happening: Happening) -> str:
    return f"paused until {names_in_words(happening.tenants)} {'is' if len(happening.tenants) == 1 else 'are'} back" + (
        f": {happening.text}" if happening.text else ""
    )


def _recovering(happening: Happening) -> str:
    if not happening.tenants:
        return "masks of tenants that dropped out are rebuilt from shares"
    one = len(happening.tenants) == 1
    whose = "its mask" if one else "their masks"
    return f"{names_in_words(happening.tenants)} fell silent after upload; {whose} came off with shares"


def _round_failed(happening: Happening) -> str:
    return f"no sum was opened: {happening.text.removeprefix(f'round {happening.round}: ')}"


def _not_computed(happening: Happening) -> str:
    return f"no statistics: {happening.text}"


def _fault(happening: Happening) -> str:
    return f"fault of {names_in_words(happening.tenants)}: {happening.text}"


def _restarted(_: Happening) -> str:
    return "the server was started again, and the session goes on"


def _plainly(happening: Happening) -> str:
    about = f" ({names_in_words(happening.tenants)})" if happening.tenants else ""
    return f"{happening.kind.replace('-', ' ')}{about}"


_SENTENCES: dict[NoticeKind, Callable[[Happening], str]] = {
    **dict.fromkeys(NoticeKind, _plainly),
    NoticeKind.LINKED: _linked,
    NoticeKind.LEFT: _left,
    NoticeKind.JOINED: _joined,
    NoticeKind.REFUSED: _refused,
    NoticeKind.WINDOW_OPENED: _window_opened,
    NoticeKind.WINDOW_ABANDONED: _window_abandoned,
    NoticeKind.LATE: _late,
    NoticeKind.CERTIFIED: _certified,
    NoticeKind.PAUSED: _paused,
    NoticeKind.RECOVERING: _recovering,
    NoticeKind.ROUND_FAILED: _round_failed,
    NoticeKind.NOT_COMPUTED: _not_computed,
    NoticeKind.FAULT: _fault,
    NoticeKind.RESTARTED: _restarted,
}
