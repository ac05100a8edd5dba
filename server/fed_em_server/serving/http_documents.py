"""What stands in the bodies of HTTP requests and replies: JSON, and the schema of it that `/schema` shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fed_em.description import read_mapping
from fed_em.errors import CallerError
from fed_em.strict_json import parse_json
from fed_em_server.serving.desk import Desk, Imputed, NamedRows, Predicted, Sampled, Scored

Document = Mapping[str, Any]

_LARGEST_SEED = 2**63 - 1


def answer(desk: Desk, method: str, body: bytes, seconds: float | None) -> Document:
    """The reply to a request.

    Args:
        desk: Answers.
        method: "predict", "score", "impute" or "sample".
        body: Of the request.
        seconds: How long it may take; None for the server's own limit.

    Raises:
        FedEmError: there is no answer.
    """

    def asked() -> object:
        return parse_json(body, "the request's body")

    match method:
        case "predict":
            return _predicted(desk.predict(lambda: _rows(asked()), seconds))
        case "score":
            return _scored(desk.score(lambda: _rows(asked()), seconds))
        case "impute":
            return _imputed(desk.impute(lambda: _to_impute(asked()), seconds))
        case _:
            return _sampled(desk.sample(lambda: _to_sample(asked()), seconds))


def _to_impute(asked: object) -> tuple[NamedRows, int, int | None]:
    rows = _rows(asked, ("draws", "seed"))
    assert isinstance(asked, dict)
    return rows, _whole(asked, "draws") or 0, _whole(asked, "seed")


def _to_sample(asked: object) -> tuple[int, int | None]:
    fields = read_mapping("the request", asked, ("n",), ("seed",))
    return _whole(fields, "n") or 0, _whole(fields, "seed")


def described(desk: Desk) -> Document:
    """Which model answers. Raises `NoModel` if there is none yet."""
    model = desk.live.require()
    inner = model.fitted.model.describe()
    return {
        "version": model.version,
        "family": inner["family"],
        "components": int(model.fitted.parameters["weights"].size),
        "covariance": inner["covariance"],
        "columns": model.columns.schema.describe(),
        "threshold": model.threshold,
        "refused": _refused(desk),
    }


def health(desk: Desk) -> Document:
    """Whether there is a model, and whether a newer one could not be served."""
    model = desk.live.served
    return {
        "status": "waiting" if model is None else "serving",
        "version": None if model is None else model.version,
        "refused": _refused(desk),
    }


def _refused(desk: Desk) -> Document | None:
    refused = desk.live.refused
    return None if refused is None else {"version": refused.version, "reason": refused.reason}


def _rows(asked: object, optional: tuple[str, ...] = ()) -> NamedRows:
    rows = read_mapping("the request", asked, ("rows",), optional)["rows"]
    if not isinstance(rows, list):
        raise CallerError("'rows' must be a list", remedy="give one mapping of columns to cells for each row")
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise CallerError(f"row {number} is no mapping", remedy="give cells by the names of their columns")
    return rows


def _whole(fields: Mapping[str, Any], name: str) -> int | None:
    value = fields.get(name)
    if value is not None and (type(value) is not int or not 0 <= value <= _LARGEST_SEED):
        raise CallerError(f"'{name}' must be a whole number of at least 0", remedy="correct it, or leave it out")
    return value


def _predicted(found: Predicted) -> Document:
    predictions = [
        {"component": int(shares.argmax()), "probabilities": shares.tolist()} for shares in found.probabilities
    ]
    return {"version": found.model.version, "predictions": predictions}


def _scored(found: Scored) -> Document:
    each = zip(found.log_densities.tolist(), found.anomalies, strict=True)
    scores = [{"log_density": density, "anomaly": anomaly} for density, anomaly in each]
    return {"version": found.model.version, "scores": scores, "threshold": found.model.threshold}


def _imputed(found: Imputed) -> Document:
    write, done = found.model.columns.cells, found.imputation
    rows = [
        {
            "cells": write(done.rows[i]),
            "filled": {name: _sureness(*sure) for name, *sure in found.filled(i)},
            "probabilities": found.probabilities[i].tolist(),
            **({"draws": [write(drawn[i]) for drawn in done.draws]} if len(done.draws) else {}),
        }
        for i in range(len(found.rows))
    ]
    return {"version": found.model.version, "rows": rows}


def _sampled(found: Sampled) -> Document:
    rows = [found.model.columns.cells(row) for row in found.rows]
    return {"version": found.model.version, "rows": rows, "components": found.components.tolist()}


def _sureness(deviation: float | None, probability: float | None) -> Document:
    return {"probability": probability} if deviation is None else {"standard_deviation": deviation}


_NUMBER, _TEXT, _WHOLE = {"type": "number"}, {"type": "string"}, {"type": "integer", "minimum": 0}
_CELLS = {"type": "object", "additionalProperties": {"type": ["number", "string", "boolean", "null"]}}
_SHARES = {"type": "array", "items": {"type": "number", "minimum": 0, "maximum": 1}}


def _object(required: Mapping[str, Any], optional: Mapping[str, Any] = {}) -> Document:
    return {
        "type": "object",
        "properties": {**required, **optional},
        "required": list(required),
        "additionalProperties": False,
    }


def _list(items: Document) -> Document:
    return {"type": "array", "items": items}


_ROWS = {"rows": _list(_CELLS)}

SCHEMA: Document = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "$defs": {
        "predict_request": _object(_ROWS),
        "score_request": _object(_ROWS),
        "impute_request": _object(_ROWS, {"draws": _WHOLE, "seed": _WHOLE}),
        "sample_request": _object({"n": _WHOLE}, {"seed": _WHOLE}),
        "predict_reply": _object(
            {"version": _TEXT, "predictions": _list(_object({"component": _WHOLE, "probabilities": _SHARES}))}
        ),
        "score_reply": _object(
            {
                "version": _TEXT,
                "scores": _list(_object({"log_density": _NUMBER, "anomaly": {"type": ["boolean", "null"]}})),
                "threshold": {"type": ["number", "null"]},
            }
        ),
        "impute_reply": _object(
            {
                "version": _TEXT,
                "rows": _list(
                    _object(
                        {
                            "cells": _CELLS,
                            "filled": {
                                "type": "object",
                                "additionalProperties": _object(
                                    {}, {"standard_deviation": _NUMBER, "probability": _NUMBER}
                                ),
                            },
                            "probabilities": _SHARES,
                        },
                        {"draws": _list(_CELLS)},
                    )
                ),
            }
        ),
        "sample_reply": _object({"version": _TEXT, **_ROWS, "components": _list(_WHOLE)}),
        "error": _object(
            {
                "error": _object(
                    {"code": _TEXT, "message": _TEXT},
                    {"remedy": _TEXT, "row": _WHOLE, "column": _TEXT, "retry_after": _WHOLE},
                )
            }
        ),
    },
}
