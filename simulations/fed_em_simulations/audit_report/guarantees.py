"""To whom everything of a session went, and under which guarantee."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy.stats import norm

from fed_em.errors import CallerError
from fed_em_client.privacy_statement import PrivacyStatement
from fed_em_protocols.privacy.accounting import Spend, epsilon_of
from fed_em_protocols.privacy.promise import Privacy
from fed_em_protocols.terms import SessionTerms, Trust
from fed_em_protocols.transcript.released import ReleasedSum
from fed_em_protocols.transcript.walk import WalkedSession
from fed_em_simulations.audit_report.contents import Guarantees, Ledger, Promise, Recipient, Setting
from fed_em_simulations.audit_report.words import counted


@dataclass(frozen=True)
class OwnLedger:
    """What a tenant's own ledger says at one time, and what its policy allows.

    Attributes:
        statement: Of the period.
        delta: At which its ε are.
        budget: ε that is allowed for the period; None if the policy allows any.
    """

    statement: PrivacyStatement
    delta: float
    budget: float | None


def guarantees_of(session: WalkedSession, sums: Sequence[ReleasedSum], ledgers: Mapping[str, OwnLedger]) -> Guarantees:
    """Recipients, settings and the promise of differential privacy.

    Args:
        session: Verified.
        sums: What it opened.
        ledgers: Tenants' own, by tenant.
    """
    privacy = session.description.privacy
    return Guarantees(
        recipients=_recipients(session),
        settings=_settings(session),
        privacy=None if privacy is None else _promise(session, privacy, len(sums), ledgers),
    )


def advantage_of(session: WalkedSession, sums: int) -> float | None:
    """μ of the Gaussian mechanism that so many sums of a session amount to together (Dong, Roth and Su 2022); None without noise."""
    privacy = session.description.privacy
    return None if privacy is None else math.sqrt(sums) / privacy.noise_multiplier


def _recipients(session: WalkedSession) -> tuple[Recipient, ...]:
    terms, n = session.terms.content, session.roster.n
    certified = terms.trust == Trust.MALICIOUS_SERVER
    colluding = counted(terms.colluders, "other tenant")
    against = (
        f", also one that breaks the protocol and conspires with up to {colluding}"
        if certified
        else f" that follows the protocol, though it conspires with up to {colluding}"
    )
    rows = [
        Recipient(what="Rows", who="Nobody", guarantee="They never leave the tenant's own machine."),
        Recipient(
            what="Masked vectors",
            who="The server; the transcript has only their hashes, unless its operator chose to keep them",
            guarantee=f"Without the keys of the mask they are random numbers, to any server{against}.",
        ),
        Recipient(
            what="Sums over tenants",
            who="The server, and everybody whom it gives the transcript",
            guarantee=(
                f"Each is over {terms.minimum_survivors} tenants or more, which {_fixed(certified)}. A sum itself is not secret"
                f"{', but has noise' if session.description.privacy else ''}."
            ),
        ),
        Recipient(
            what="The model after each round, and at the end",
            who=f"The server and all {n} tenants",
            guarantee="Made of the sums alone, so it tells no more than these; that it is can be replayed from the transcript.",
        ),
        Recipient(
            what="Keys, and encrypted shares of keys",
            who="Shares go to other tenants, by way of the server, which cannot read them",
            guarantee=f"It takes more than {terms.colluders} of the tenants to take a mask off. Keys are of one round and then forgotten.",
        ),
        Recipient(
            what="Who takes part, when, and how many rows at most",
            who="The server, all tenants, and every reader of the transcript",
            guarantee="None: this is not secret.",
        ),
    ]
    if terms.mass_floor:
        counts = Recipient(
            what="Masked counts, and the keys that open their sum",
            who="The server and all tenants that were asked",
            guarantee="Every tenant opens the counts itself, and gives sums only of components that are large enough.",
        )
        rows.insert(3, counts)
    return tuple(rows)


def _fixed(certified: bool) -> str:
    return "a quorum of tenants signed before it was opened" if certified else "the server alone says"


def _settings(session: WalkedSession) -> tuple[Setting, ...]:
    terms = session.terms.content
    return (
        _trust(terms),
        Setting(
            name="Colluders (f)",
            value=str(terms.colluders),
            meaning=(
                f"Everything here holds as long as at most {counted(terms.colluders, 'tenant')} of {session.roster.n} "
                f"{'conspires' if terms.colluders == 1 else 'conspire'} with the server or with each other."
            ),
        ),
        Setting(
            name="Fewest tenants in a sum",
            value=str(terms.minimum_survivors),
            meaning=(
                f"No sum over fewer is ever opened. With {terms.colluders} of them conspiring, what is left is a sum over "
                f"{terms.minimum_survivors - terms.colluders} or more."
            ),
        ),
        _blocks(session),
        _floor(terms, session.description.privacy is not None),
        Setting(
            name="Most rounds",
            value=str(terms.round_cap),
            meaning="No tenant answers more often in this session, whatever the server asks.",
        ),
    )


def _trust(terms: SessionTerms) -> Setting:
    if terms.trust == Trust.MALICIOUS_SERVER:
        meaning = (
            "No tenant has to trust the server: a quorum of tenants must sign which tenants are in a sum before any of them helps to "
            "open it, so "
            "that the server cannot have two sums of one round opened."
        )
    else:
        meaning = (
            "Tenants trust the server to follow the protocol. One that does not could have two sums of one round opened, and subtract "
            "them."
        )
    return Setting(name="Trust", value=Trust(terms.trust).label, meaning=meaning)


def _blocks(session: WalkedSession) -> Setting:
    if not session.terms.content.blocks:
        return Setting(
            name="Blocks",
            value="waived",
            meaning="Two sums may differ by a single tenant, as after a dropout; their difference is that tenant's own statistics.",
        )
    sizes = sorted(len(block) for block in session.roster.blocks)
    between = f"{sizes[0]}" if sizes[0] == sizes[-1] else f"{sizes[0]} to {sizes[-1]}"
    return Setting(
        name="Blocks",
        value=f"{len(sizes)} blocks of {between}",
        meaning=(
            "Each sum holds a whole block of tenants or nobody of it, so that no subtraction of sums leaves fewer tenants than "
            f"{sizes[0]}, a whole block."
        ),
    )


def _floor(terms: SessionTerms, private: bool) -> Setting:
    if not terms.mass_floor:
        return Setting(
            name="Mass floor",
            value="none",
            meaning=(
                "A component is opened however few records belong to it; "
                + ("noise hides each of them." if private else "one that holds a single record shows that record.")
            ),
        )
    return Setting(
        name="Mass floor",
        value=f"{terms.mass_floor / 1000:g} records",
        meaning="A component's sums are opened only if so many records, of enough tenants, belong to it.",
    )


def _promise(session: WalkedSession, privacy: Privacy, opened: int, ledgers: Mapping[str, OwnLedger]) -> Promise:
    number = session.terms.content.session
    return Promise(
        unit=privacy.unit,
        epsilon=privacy.epsilon,
        delta=privacy.delta,
        noise_multiplier=privacy.noise_multiplier,
        sums_promised=privacy.sums,
        sums_opened=opened,
        epsilon_spent=_epsilon(privacy, opened),
        best_guess=float(norm.cdf((advantage_of(session, opened) or 0.0) / 2)),
        meaning=_meaning(privacy),
        ledgers=tuple(_ledger(tenant, own, number) for tenant, own in ledgers.items()),
    )


def _epsilon(privacy: Privacy, opened: int) -> float | None:
    if not opened:
        return 0.0
    try:
        spent = epsilon_of(
            [Spend(privacy.noise_multiplier, opened, privacy.spend_of_a_sum.slack * opened)], privacy.delta
        )
    except CallerError:
        return None
    return _finite(spent)


def _meaning(privacy: Privacy) -> tuple[str, ...]:
    record = privacy.unit == "record"
    one = "any one record" if record else "any one tenant, with all its records,"
    return (
        f"Every sum has random noise, to which all tenants add their share and which nobody can take off. It hides whether {one} is in "
        "the data.",
        f"ε = {privacy.epsilon:g} says how well. Whatever all sums together show is at most {_times(privacy.epsilon)} times as "
        "probable as with "
        f"{one} left out, and the other way round; so nobody can conclude much from it. The smaller ε, the better; with 0 nothing "
        "could be told.",
        f"δ = {privacy.delta:g} is the probability that is allowed for the exception, as no curve of noise ends. It is 1 in "
        f"{1 / privacy.delta:,.0f}.",
        f"The promise holds against somebody who knows everything else, and however unusual the {'record' if record else 'tenant'} is.",
    )


def _times(epsilon: float) -> str:
    return f"{math.exp(epsilon):.3g}" if epsilon < 13 else f"10^{epsilon / math.log(10):.0f}"


def _ledger(tenant: str, own: OwnLedger, number: bytes) -> Ledger:
    line = next((each for each in own.statement.sessions if each.session == number), None)
    return Ledger(
        tenant=tenant,
        charged_sums=0 if line is None else line.charged,
        session_epsilon=0.0 if line is None else _finite(line.epsilon),
        period_epsilon=_finite(own.statement.together),
        delta=own.delta,
        budget=own.budget,
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
