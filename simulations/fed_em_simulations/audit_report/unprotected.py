"""What a session did not protect: the specification's list (protocols/SPEC.md, 8), as far as this session's settings make it matter."""

from __future__ import annotations

from collections.abc import Callable

from fed_em_protocols.terms import Trust
from fed_em_protocols.transcript.walk import WalkedSession
from fed_em_simulations.audit_report.contents import Unprotected
from fed_em_simulations.audit_report.words import counted

_NOISE = "differential privacy: `[privacy]`"


def unprotected(session: WalkedSession) -> tuple[Unprotected, ...]:
    """What applies, what weighs most first."""
    return (*(line for rule in _RULES if (line := rule(session)) is not None), *_ALWAYS)


def _sums(session: WalkedSession) -> Unprotected:
    privacy = session.description.privacy
    if privacy is None:
        return Unprotected(
            what="The sums themselves",
            sentence="They are exact. Whoever sees them may combine them with anything else that they know, such as all records but one.",
            helps=_NOISE,
        )
    shows = "They are opened with noise. What is true of very many records shows all the same, as it is what the session was for"
    if privacy.unit == "record":
        return Unprotected(
            what="The sums themselves",
            sentence=f"{shows}. So does much of what is true of a whole tenant: its records are hidden one by one, not together.",
            helps='a smaller ε; `unit = "tenant"`, where there are very many tenants',
        )
    return Unprotected(what="The sums themselves", sentence=f"{shows}.", helps="a smaller ε")


def _trust(session: WalkedSession) -> Unprotected | None:
    if session.terms.content.trust == Trust.MALICIOUS_SERVER:
        return None
    return Unprotected(
        what="A server that breaks the protocol",
        sentence=(
            "It could have two sums of one round opened, over sets of tenants that differ by one, and so learn that tenant's "
            "statistics."
        ),
        helps='`trust = "malicious-server"`',
    )


def _blocks(session: WalkedSession) -> Unprotected | None:
    if session.terms.content.blocks:
        return None
    return Unprotected(
        what="Differences between sums",
        sentence="Blocks were waived: when a tenant drops out or comes back, the sums before and after differ by that tenant alone.",
        helps='`difference_guard = "blocks"`, or ' + _NOISE,
    )


def _floor(session: WalkedSession) -> Unprotected | None:
    if session.description.privacy:
        return None
    if session.terms.content.mass_floor:
        return Unprotected(
            what="Counts",
            sentence=(
                "How many records each component holds is opened before the floor can be applied to it, and a tenant that counts "
                "falsely can open a "
                "component that is too small."
            ),
            helps=_NOISE,
        )
    return Unprotected(
        what="Rare records",
        sentence=(
            "No component had to hold a least number of records. A record far from all others may get a component to itself, whose "
            "sums are that record."
        ),
        helps="a mass floor: `mass_floor` in `[trust]`, or " + _NOISE,
    )


def _crafted(session: WalkedSession) -> Unprotected | None:
    if session.description.privacy:
        return None
    return Unprotected(
        what="Questions made up to single somebody out",
        sentence=(
            "The server chooses the parameters of each round. Crafted ones turn a sum into a count of records near a point; the "
            "replay shows afterwards that "
            "those of this session followed from its sums, and that no tenant was asked otherwise only where that tenant's log agrees."
        ),
        helps=_NOISE + "; tenants' own logs, held against the transcript",
    )


def _likelihood(session: WalkedSession) -> Unprotected | None:
    if session.description.privacy:
        return None
    return Unprotected(
        what="The likelihood and the entropies",
        sentence="They are of all records, whatever components are held back, and are opened in every sum.",
        helps=_NOISE,
    )


def _unnoised(session: WalkedSession) -> Unprotected | None:
    if session.description.privacy is None:
        return None
    f = session.terms.content.colluders
    return Unprotected(
        what="Tenants that leave out their noise",
        sentence=(
            f"Nobody sees another tenant's share of the noise. The promise holds though up to {counted(f, 'tenant')} "
            f"{'leaves its' if f == 1 else 'leave their'} share out or {'tells' if f == 1 else 'tell'} the server of it; with more it "
            "is weaker."
        ),
        helps="a larger f",
    )


def _rows_of_one(session: WalkedSession) -> Unprotected | None:
    if session.description.privacy is None or session.description.privacy.unit != "record":
        return None
    return Unprotected(
        what="People with several rows",
        sentence="The promise is of one row of a table. Of a person with k rows, ε is about k times as large; so it is with k sessions.",
        helps="one row for each person; a budget for the period in each tenant's policy",
    )


def _levels(session: WalkedSession) -> Unprotected | None:
    kinds = {column.kind for column in session.description.columns} - {"gaussian"}
    if not kinds or session.description.privacy:
        return None
    return Unprotected(
        what="Rare levels",
        sentence="How many records show each label, each yes and each count is opened and not held to any least number; it may be one.",
        helps="merge rare levels before the session, or " + _NOISE,
    )


def _missing(session: WalkedSession) -> Unprotected | None:
    if not any(column.missing for column in session.description.columns):
        return None
    return Unprotected(
        what="Patterns of missing cells",
        sentence="A record that lacks cells as no other does can be told apart by many sums at different parameters.",
        helps="leave out columns that few records have" + ("" if session.description.privacy else ", or " + _NOISE),
    )


def _errors(session: WalkedSession) -> Unprotected | None:
    if not session.description.standard_errors:
        return None
    return Unprotected(
        what="The sum for standard errors",
        sentence="It has products of what single records add. If one record alone lies between two components, it can be read from them.",
        helps="do without `standard_errors`, or take a `bootstrap`",
    )


def _measured(session: WalkedSession) -> Unprotected | None:
    if session.description.measured is None:
        return None
    return Unprotected(
        what="Bins of a measurement",
        sentence="How many records are in each bin of each column is opened and not held to any least number; it may be one. Whoever runs "
        "the server has chosen where bins begin and end.",
        helps="look at the bins in the session's description before you allow `measurements`, or leave these out of your policy",
    )


def _parts(session: WalkedSession) -> Unprotected | None:
    described = session.description
    if described.stream is None and (described.selection is None or described.selection.share is None):
        return None
    return Unprotected(
        what="Parts of a tenant's rows",
        sentence="Some sums are over a part of each tenant's rows only, and hide these among fewer.",
        helps="sums over all rows: no `[stream]`, no held-out share in `[selection]`",
    )


def _many_points(session: WalkedSession) -> Unprotected | None:
    described = session.description
    if described.privacy or not (described.starts or described.selection or described.tracks or described.bootstrap):
        return None
    return Unprotected(
        what="Several questions at once",
        sentence="Starts, models to pick from and replicates are summed side by side: one round answers for many parameters, not for one.",
        helps="tenants can bound rounds by `round_cap` in their policy",
    )


def _converging(session: WalkedSession) -> Unprotected | None:
    if session.description.privacy:
        return None
    return Unprotected(
        what="What changed between two rounds",
        sentence="When the fit hardly moves any more, two sums differ by what little moved, which may be the weight of one record.",
        helps=_NOISE,
    )


def _colluders(session: WalkedSession) -> Unprotected:
    f = session.terms.content.colluders
    return Unprotected(
        what=f"More than {counted(f, 'colluder')}",
        sentence=(
            f"If more than {f} of the {session.roster.n} tenants conspire, or if the roster has tenants that do not exist, masks and "
            "sums hide nobody. No protocol can tell ten tenants from one with ten keys."
        ),
        helps="know who is in the roster; a larger f",
    )


def _versions(session: WalkedSession) -> Unprotected | None:
    if session.roster.version == 1 and session.roster.parent is None:
        return None
    return Unprotected(
        what="Differences between versions of the roster",
        sentence="A sum before a tenant joined or left, and one after, differ by that tenant.",
        helps="`fed-em roster diff` names who alone makes a difference; " + _NOISE,
    )


_RULES: tuple[Callable[[WalkedSession], Unprotected | None], ...] = (
    _sums, _trust, _blocks, _floor, _unnoised, _rows_of_one, _crafted, _likelihood, _levels, _missing, _errors, _measured, _parts,
    _many_points, _converging, _versions, _colluders,
)  # fmt: skip

# Of every session.
_ALWAYS = (
    Unprotected(
        what="False statistics of a tenant",
        sentence="A tenant can send made-up statistics and spoil the model. Nobody can see it, as they are masked; nor can this report.",
        helps="",
    ),
    Unprotected(
        what="Who takes part",
        sentence="Names, hours, how many rows at most, and that some tenant of a sum could not compute its statistics are seen by all.",
        helps="",
    ),
    Unprotected(
        what="The machines themselves",
        sentence=(
            "Who can read a tenant's disk or memory has its rows and keys. How long a computation or a message takes, and how large it "
            "is, can be seen on the network. A copy of a running machine holds the masks of the rounds to come."
        ),
        helps="care for the tenant's own machine",
    ),
    Unprotected(
        what="That a tenant's software does what it signs",
        sentence="Signatures commit a tenant to its policy; that its program follows it cannot be seen from outside.",
        helps="",
    ),
    Unprotected(
        what="That a session comes to its end",
        sentence="Server and tenants can each stop it, by not answering. That gives nothing away.",
        helps="",
    ),
)
