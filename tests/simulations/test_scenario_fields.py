"""The page of a scenario's fields has them all, and says of each what it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from fed_em_simulations.scenario import Scenario
from tests.conftest import REPOSITORY
from tests.scenario_fields import PAGE, scenario_fields_page, tables

ROW = re.compile(r"^\| `(\w+)` \| (\S.*?) \| (.*?) \| (.*?) \|$", re.MULTILINE)


def fields_of_the_schema() -> list[str]:
    """Names of the fields of all tables, as pydantic's own JSON schema has them."""
    schema: Mapping[str, Any] = Scenario.model_json_schema()
    documents = [schema, *schema["$defs"].values()]
    return [name for each in documents for name in each.get("properties", {})]


def test_no_field_is_missing_and_each_says_what_it_is() -> None:
    page = scenario_fields_page()
    rows = [(found[1], found[4].strip()) for found in ROW.finditer(page)]
    assert sorted(name for name, _ in rows) == sorted(fields_of_the_schema()) and len(rows) > 120
    assert [name for name, said in rows if not said] == []


def test_the_page_is_what_the_settings_give() -> None:
    assert (REPOSITORY / PAGE).read_text(encoding="utf-8") == scenario_fields_page(), "run `make wire`"


def test_tables_are_named_by_where_they_stand() -> None:
    places = {kind.__name__: names for kind, names in tables().items()}
    assert places["DirichletMixing"] == ["experiment.data.mixing", "experiment.data.heterogeneity.mixing"]
    assert places["ServerCrashSettings"] == ["experiment.session.trouble"]
    page = scenario_fields_page()
    assert '## `experiment.session.trouble`, `kind = "server-crash"`' in page
    assert "| `seconds` | number | `5.0` | For how long it is away. |" in page
    assert "| `share` | number > 0 ≤ 1 | `1.0` | Of the tenants in each round. |" in page
