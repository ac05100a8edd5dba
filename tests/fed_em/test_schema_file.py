"""Schemas as TOML."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fed_em import ColumnSchema, read_schema, schema_to_toml
from fed_em.columns import BernoulliColumn, CategoricalColumn, GaussianColumn, PoissonColumn, evidence_of
from fed_em.errors import CallerError
from fed_em.schema_file import inferred_toml

WORDS = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=8)
COLUMNS = st.one_of(
    WORDS.map(GaussianColumn),
    WORDS.map(BernoulliColumn),
    st.builds(PoissonColumn, WORDS, st.floats(0.5, 1e300) | st.integers(1, 10**6)),
    st.builds(CategoricalColumn, WORDS, st.lists(WORDS, min_size=2, max_size=4, unique=True).map(tuple)),
)


@given(columns=st.lists(COLUMNS, min_size=1, max_size=5, unique_by=lambda column: column.name))
def test_what_is_written_is_read(columns: list[GaussianColumn], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "schema.toml"
    schema = ColumnSchema(tuple(columns))
    path.write_text(schema_to_toml(schema), encoding="utf-8", newline="")
    assert read_schema(path) == schema


def test_columns_that_will_not_do_are_left_out_and_say_why(tmp_path: Path) -> None:
    table = {"age": [34, None, 51], "none": [None] * 3, "one": ["x", "x", None], "a\nb": ["p", "q", None]}
    path = tmp_path / "schema.toml"
    path.write_text(inferred_toml(evidence_of(table)), encoding="utf-8")
    assert read_schema(path).columns == (GaussianColumn("age"), CategoricalColumn("a\nb", ("p", "q")))
    text = path.read_text()
    assert "# Left out: column 'none' holds no value" in text
    assert "# Left out: column 'one' needs at least two distinct levels" in text
    assert "# 2 cells, from 34 to 51; 1 missing." in text


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("columns = ", "no valid TOML"),
        ("[[column]]\nname = 'a'\n", "did you mean 'columns'"),
        ("[[columns]]\nname = 'a'\nkind = 'gausian'\n", "schema.toml: no kind.*'gaussian'"),
        ("[[columns]]\nname = 'a'\nkind = 'categorical'\n", "lacks 'levels'"),
        ("columns = []\n", "at least one"),
    ],
)
def test_a_wrong_file_is_named(text: str, named: str, tmp_path: Path) -> None:
    path = tmp_path / "schema.toml"
    path.write_text(text)
    with pytest.raises(CallerError, match=named):
        read_schema(path)
    with pytest.raises(CallerError, match="there is no file"):
        read_schema(tmp_path / "absent.toml")
