"""Names of the protocol and of the statistics, in words for people who know neither."""

from __future__ import annotations

import re
from collections.abc import Mapping

from fed_em.candidates import Candidates
from fed_em.centres import FAMILY as CENTRES
from fed_em.measured_models import FAMILY as MEASURED_MODELS
from fed_em.mixed_moments import FAMILY as MIXED_MOMENTS
from fed_em.model import LOG_LIKELIHOOD, ComponentModel, Model, Summand
from fed_em.observed_moments import FAMILY as OBSERVED_MOMENTS
from fed_em.statistic_products import FAMILY as STATISTIC_PRODUCTS
from fed_em_server.model_words import model_in_words

# By the name of a statistic's block, without the number of a candidate.
_STATISTICS: Mapping[str, str] = {
    "count": "how many records",
    "log_likelihood": "how well the model fits the records, one number for all of them together",
    "entropy": "how undecided the model is between components, one number for all records together",
    "missing_entropy": "how uncertain the model is of missing cells, one number for all records together",
    "responsibilities": "how many records belong to each component",
    "first": "sums of each column's values, within each component",
    "second": "sums of squares and of products of columns, within each component",
    "observed": "how many records have a value in each column",
    "records": "how many records are nearest to each cluster's centre",
    "mass": "how many records belong to each component, before its sums may be opened",
    "supporting": "how many tenants contribute to each component",
    "observed_mass": "how many records have a value in each column, by component",
    "observed_supporting": "how many tenants have values in each column, by component",
    "level_counts": "how many records show each level of each column of labels, within each component",
    "successes": "how many records say yes in each column of yes and no, within each component",
    "failures": "how many records say no in each column of yes and no, within each component",
    "events": "sums of each column of counts, within each component",
    "exposure": "how many records have a value in each column of counts, within each component",
    "log_factorials": "a constant of the columns of counts, one number for all records together",
    "mixing": "how tenants' own weights of the components fit, one number for all tenants together",
    "local_log_prior": "how likely tenants' own weights are beforehand, one number for all tenants together",
    "density": "how likely a fitted model finds the records, one number for all of them together",
    "density_squared": "how much that differs between records, one number for all of them together",
    "clipped": "how many records a fitted model finds all but impossible",
    "histogram": "how many records a fitted model finds how likely, in bins",
    "difference": "by how much one fitted model finds the records more likely than another, one number for all of them together",
    "difference_squared": "how much that differs between records, one number for all of them together",
    "column": "how many records have a value in each bin of a column",
    "missing": "how many records lack a value in each column",
    "held_out": "how many rows were held out, and how well each model fits them",
}
_PRODUCTS = "products of what single records add to the sums, for standard errors"

_SUMMANDS: Mapping[str, str] = {
    CENTRES: "cluster centres that the fit may start from",
    MEASURED_MODELS: "a measurement of fitted models: how well they fit, and histograms of every column",
    STATISTIC_PRODUCTS: "standard errors of the fitted model",
}

# By the kind of a message that a tenant sends.
_MESSAGES: Mapping[str, str] = {
    "Hello": "its name, its software's version and the hash of its policy, when it dials",
    "Join": "that it accepts the terms of the session",
    "Refusal": "that it leaves the session, with a code for why",
    "Advertise": "public keys for a stretch of rounds",
    "Reveal": "a random number that was committed to before, for drawing who shares masks with whom",
    "Deposit": "shares of its mask keys, encrypted to other tenants, so that its mask can be taken off if it falls silent",
    "Ready": "that it holds the shares of others",
    "Upload": "its statistics behind a mask: numbers that look random to anybody who does not have all keys of the mask",
    "Endorsement": "its signature on which tenants are in a sum",
    "AskBase": "a request for parameters of an earlier round",
    "Opening": "keys that take its mask off the sum, of this round only",
    "Shares": "shares that take the mask of a silent tenant off the sum",
}

ATTACKS: Mapping[str, str] = {
    "differencing": "Can sums be added to and subtracted from each other until a single tenant, or few, are left?",
    "single-records": "Does a component hold one record only, so that its sums are that record?",
    "membership": "Can somebody who knows everything but one record tell whether that record is in the data?",
    "equivocation": "Did the server show different tenants different questions in one round?",
    "model-inversion": "Does the fitted model have a record by heart?",
    "reconstruction": "Can colluding tenants subtract what is theirs and solve for the rows of a tenant that is left alone?",
}


def statistic_in_words(block: str, private: bool) -> tuple[str, str]:
    """A statistic's name, without the number of a candidate, and what it is; where sums are private, one is not asked for."""
    name = re.sub(r"^\d+\.", "", block)
    if private and name == LOG_LIKELIHOOD:
        return name, "nothing: where sums have noise, tenants send zero for it"
    if name.startswith("products."):
        return "products", _PRODUCTS
    if name.startswith("column."):
        name = "column"
    return name, _STATISTICS.get(name, "a sum over records")


def message_in_words(kind: str) -> str:
    """What a message of this kind says."""
    return _MESSAGES.get(kind, "a message of the protocol")


def summand_in_words(summand: Summand) -> str:
    """What was summed."""
    if isinstance(summand, Candidates):
        parts = {summand_in_words(model) for model in summand.models}
        each = f": each a {parts.pop()}" if len(parts) == 1 else ""
        return f"{len(summand.models)} candidates side by side{each}"
    alone = isinstance(summand, ComponentModel) and summand.n_components == 1
    if alone or summand.family in (OBSERVED_MOMENTS, MIXED_MOMENTS):
        return "all columns on their own: their means and spreads, which put them on one scale"
    if summand.family in _SUMMANDS or not isinstance(summand, Model):
        return _SUMMANDS.get(summand.family, summand.family)
    return model_in_words(summand)


def counted(number: float, one: str, several: str = "") -> str:
    """`1 sum`, `3 sums`."""
    return f"{number:,.0f} {one if number == 1 else several or one + 's'}"
