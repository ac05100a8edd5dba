"""A pick as the record of a session keeps it, and in words."""

from __future__ import annotations

from collections.abc import Sequence

from fed_em.criteria import CRITERIA, HELD_OUT
from fed_em.divergence import Mixture
from fed_em.model import ComponentModel, Model
from fed_em.selection import Picked
from fed_em_server.model_words import model_in_words
from fed_em_server.record import CandidateRecord, SelectionRecord
from fed_em_server.report_words import decimal

# Models in one sentence; of more than that only the number is told.
_NAMED_AT_MOST = 3

IN_WORDS = {"bic": "BIC", "aic": "AIC", "icl": "ICL", HELD_OUT: "held-out log-likelihood a row"}


def selection_record(picked: Picked) -> SelectionRecord:
    """What a record keeps of a pick."""
    choice, known = picked.choice, picked.evidence[picked.number]
    assert known is not None
    return SelectionRecord(
        criterion=choice.criterion,
        held_out=None if choice.held_out is None else choice.held_out.share,
        rows=known.records,
        candidates=tuple(_candidate(picked, number) for number in range(len(choice.models))),
        picked=picked.number,
        complete=picked.complete,
    )


def _candidate(picked: Picked, number: int) -> CandidateRecord:
    model, evidence = picked.choice.models[number], picked.evidence[number]
    assert isinstance(model, ComponentModel)
    values = {} if evidence is None else {name: evidence.value(name) for name in CRITERIA}
    return CandidateRecord(
        model=model_in_words(model),
        components=model.n_components,
        covariance=_covariance(model),
        parameters=model.n_free_parameters,
        converged=picked.converged[number],
        criteria={name: value for name, value in values.items() if value is not None},
    )


def _covariance(model: Model) -> str | None:
    gaussian = model.gaussian if isinstance(model, Mixture) else None
    return None if gaussian is None else gaussian.covariance


def reason_in_words(selection: SelectionRecord) -> str:
    """`BIC 3690.4, 27.9 below the next, 4 components with diag covariances`, and so on for the other criteria."""
    name, picked = selection.criterion, selection.candidates[selection.picked]
    value, digits = picked.criteria[name], 4 if name == HELD_OUT else 1
    others = [one for one in selection.candidates if one is not picked and name in one.criteria]
    said = f"{IN_WORDS[name]} {decimal(value, digits)}"
    if not others:
        return f"{said}; every other model collapsed"
    following = (max if name == HELD_OUT else min)(others, key=lambda other: other.criteria[name])
    gap = abs(value - following.criteria[name])
    if not float(f"{gap:.{digits}f}"):
        return f"{said}, as good as the next, {_briefly(following)}, {_parameters_more(picked, following)}"
    way = "above" if name == HELD_OUT else "below"
    return f"{said}, {decimal(gap, digits)} {way} the next, {_briefly(following)}"


def _briefly(one: CandidateRecord) -> str:
    components = "1 component" if one.components == 1 else f"{one.components} components"
    return components if one.covariance is None else f"{components} with {one.covariance} covariances"


def _parameters_more(picked: CandidateRecord, other: CandidateRecord) -> str:
    more = other.parameters - picked.parameters
    return (
        f"which has {abs(more)} parameters {'more' if more > 0 else 'fewer'}"
        if more
        else "which has as many parameters"
    )


def doubts_in_words(selection: SelectionRecord) -> tuple[str, ...]:
    """What a reader must know before trusting a pick, a sentence each."""
    collapsed = [one for one in selection.candidates if not one.criteria]
    running = [one for one in selection.candidates if one.criteria and not one.converged]
    most = max(one.components for one in selection.candidates)
    at_the_edge = selection.candidates[selection.picked].components == most and len(_numbers(selection)) > 1
    doubts = (
        (collapsed, f"{_some(selection, collapsed)} collapsed and could not be picked"),
        (running, f"{_some(selection, running)} had not converged, and could do better than is shown"),
        (at_the_edge, f"{most} components are the most that were tried, and more might be better still"),
        (
            not selection.complete,
            "Not every tenant answered at last: some terms in the criteria are of an earlier round",
        ),
    )
    return tuple(f"{said}." for applies, said in doubts if applies)


def _numbers(selection: SelectionRecord) -> set[int]:
    return {one.components for one in selection.candidates}


def _some(selection: SelectionRecord, those: Sequence[CandidateRecord]) -> str:
    """`2 of 8 models (1 component with full covariances, 2 components with diag covariances)`."""
    named = f" ({', '.join(map(_briefly, those))})" if len(those) <= _NAMED_AT_MOST else ""
    return f"{len(those)} of {len(selection.candidates)} models{named}"
