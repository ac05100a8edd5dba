"""Dashboards as Grafana reads them: panels on a grid of 24 columns, and the JSON of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

_COLUMNS = 24
_SCHEMA = 39
_SOURCE = {"type": "prometheus", "uid": "${source}"}

GREEN, ORANGE, RED = "green", "orange", "red"


@dataclass(frozen=True)
class Query:
    """PromQL, and what its series are called; `{{label}}` is filled in."""

    expression: str
    legend: str = ""


@dataclass(frozen=True)
class Panel:
    """One panel.

    Attributes:
        title: A few words.
        says: What it shows and what to make of it, in a sentence or two.
        queries: What it shows.
        unit: Grafana's name of it: "s", "bytes", "percentunit", "short", …
        kind: "timeseries", "stat", "bargauge", "table" or "state-timeline".
        width, height: On the grid.
        steps: Colours from thresholds on, ascending; the first has no lower end.
        stacked: Whether series add up.
        decimals: How many are shown; None: as Grafana likes.
    """

    title: str
    says: str
    queries: tuple[Query, ...]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    height: int = 7
    steps: tuple[tuple[float | None, str], ...] = ((None, GREEN),)
    stacked: bool = False
    decimals: int | None = None


@dataclass(frozen=True)
class Row:
    """Panels under one heading."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Dashboard:
    """One dashboard: `name` is that of its file and in its address."""

    name: str
    title: str
    says: str
    rows: tuple[Row, ...]
    span: str = "now-6h"

    @property
    def queries(self) -> Iterator[Query]:
        """All of its panels' queries."""
        return (query for row in self.rows for panel in row.panels for query in panel.queries)


def dashboard_json(dashboard: Dashboard) -> dict[str, Any]:
    """What Grafana imports, or is provisioned with."""
    return {
        "uid": f"fed-em-{dashboard.name}",
        "title": dashboard.title,
        "description": dashboard.says,
        "tags": ["fed-em"],
        "schemaVersion": _SCHEMA,
        "version": 1,
        "editable": True,
        "refresh": "30s",
        "time": {"from": dashboard.span, "to": "now"},
        "templating": {"list": [_source(), _variable("session", "label_values(fed_em_session_info, session)")]},
        "links": [
            {
                "title": "fed-em",
                "type": "dashboards",
                "tags": ["fed-em"],
                "asDropdown": False,
                "keepTime": True,
                "includeVars": True,
            }
        ],
        "panels": _laid_out(dashboard.rows),
    }


def _source() -> dict[str, Any]:
    return {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus", "refresh": 1}


def _variable(name: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "label": name,
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": query, "refId": name},
        "definition": query,
        # Whenever the span of time changes: sessions come and go.
        "refresh": 2,
        "sort": 2,
        "includeAll": True,
        "allValue": ".*",
        "multi": False,
        "current": {"text": "All", "value": "$__all"},
    }


def _laid_out(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Panels from left to right, in lines as high as their highest, under their rows' headings."""
    found: list[dict[str, Any]] = []
    y = 0
    for row in rows:
        found.append(
            {
                "type": "row",
                "id": len(found) + 1,
                "title": row.title,
                "gridPos": _place(0, y, _COLUMNS, 1),
                "panels": [],
            }
        )
        y += 1
        x = line = 0
        for panel in row.panels:
            if x + panel.width > _COLUMNS:
                x, y, line = 0, y + line, 0
            found.append(_panel(panel, len(found) + 1, _place(x, y, panel.width, panel.height)))
            x, line = x + panel.width, max(line, panel.height)
        y += line
    return found


def _place(x: int, y: int, width: int, height: int) -> dict[str, int]:
    return {"x": x, "y": y, "w": width, "h": height}


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    defaults: dict[str, Any] = {
        "unit": panel.unit,
        "thresholds": {"mode": "absolute", "steps": [{"value": value, "color": color} for value, color in panel.steps]},
        "color": {"mode": "palette-classic" if panel.kind == "timeseries" else "thresholds"},
        "custom": _custom(panel),
    }
    if panel.decimals is not None:
        defaults["decimals"] = panel.decimals
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.says,
        "datasource": _SOURCE,
        "gridPos": place,
        "targets": [_target(query, k, panel.kind) for k, query in enumerate(panel.queries)],
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": _options(panel.kind),
    }


def _target(query: Query, number: int, kind: str) -> dict[str, Any]:
    at_once = kind in {"stat", "bargauge", "table"}
    return {
        "refId": chr(ord("A") + number),
        "datasource": _SOURCE,
        "expr": query.expression,
        "legendFormat": query.legend or "__auto",
        "instant": at_once,
        "range": not at_once,
        "format": "table" if kind == "table" else "time_series",
    }


def _custom(panel: Panel) -> dict[str, Any]:
    if panel.kind != "timeseries":
        return {}
    drawn = "area" if len(panel.steps) > 1 else "off"
    return {
        "lineWidth": 2,
        "fillOpacity": 30 if panel.stacked else 0,
        "showPoints": "auto",
        "stacking": {"mode": "normal" if panel.stacked else "none"},
        "thresholdsStyle": {"mode": "dashed" if drawn == "area" else "off"},
    }


def _options(kind: str) -> dict[str, Any]:
    if kind == "timeseries":
        return {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}}
    if kind in {"stat", "bargauge"}:
        last = {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}}
        return {
            **last,
            "orientation": "auto",
            **({"colorMode": "value"} if kind == "stat" else {"displayMode": "basic"}),
        }
    return {}
