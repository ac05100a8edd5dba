"""A pick as the record of a session keeps it, and in words."""

from __future__ import annotations

from fed_em.criteria import CRITERIA, HELD_OUT
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.mixed_mixture import MixedMixtureModel
from fed_em.model import ComponentModel, Model
from fed_em.selection import Picked
from fed_em_server.model_words import model_in_words
from fed_em_server.record import CandidateRecord, SelectionRecord
from fed_em_server.report_words import decimal

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
    if isinstance(model, MixedMixtureModel) and model.gaussian is None:
        return None
    return model.covariance if isinstance(model, GaussianMixtureModel | MixedMixtureModel) else None


def reason_in_words(selection: SelectionRecord) -> str:
    """`BIC 1234.5, 10.2 below the next: 3 components, diag covariances`, and so on for the other criteria."""
    name, picked = selection.criterion, selection.candidates[selection.picked]
    value, digits = picked.criteria[name], 4 if name == HELD_OUT else 1
    others = [(one.criteria[name], one) for one in selection.candidates if one is not picked and name in one.criteria]
    said = f"{IN_WORDS[name]} {decimal(value, digits)}"
    if not others:
        return f"{said}; every other model collapsed"
    best, following = (max if name == HELD_OUT else min)(others, key=lambda other: other[0])
    gap = abs(value - best)
    if not float(f"{gap:.{digits}f}"):
        return f"{said}, a tie with {following.model}, which has {_more_parameters(picked, following)}"
    return f"{said}, {decimal(gap, digits)} {'above' if name == HELD_OUT else 'below'} the next, {following.model}"


def _more_parameters(picked: CandidateRecord, other: CandidateRecord) -> str:
    more = other.parameters - picked.parameters
    return f"{more} parameters more" if more > 0 else "as many parameters" if not more else f"{-more} parameters fewer"


def doubts_in_words(selection: SelectionRecord) -> tuple[str, ...]:
    """What a reader must know before trusting a pick, a sentence each."""
    collapsed = [one.model for one in selection.candidates if not one.criteria]
    running = [one.model for one in selection.candidates if one.criteria and not one.converged]
    said = []
    if collapsed:
        said.append(f"Collapsed, and out of the running: {'; '.join(collapsed)}.")
    if running:
        said.append(f"Not converged when it was picked, so better than shown: {'; '.join(running)}.")
    edge = _edge(selection)
    if edge:
        said.append(edge)
    if not selection.complete:
        said.append(
            "Some tenants did not answer the last of these rounds: their terms in the criteria are of an earlier one."
        )
    return tuple(said)


def _edge(selection: SelectionRecord) -> str:
    """Whether the picked number of components is the largest or least that was tried: the best may lie beyond."""
    numbers = sorted({one.components for one in selection.candidates})
    picked = selection.candidates[selection.picked].components
    if len(numbers) < 2 or picked != numbers[-1]:
        return ""
    return f"{picked} components are the most that were tried: more might be better still."
