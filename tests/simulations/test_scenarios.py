"""Scenarios: read strictly, swept fully, run once, told in full."""

from __future__ import annotations

import math
import re
import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from matplotlib.axes import Axes
from typer.testing import CliRunner

from fed_em.columns import CategoricalColumn
from fed_em.errors import CallerError, CollapsedComponent, EnvironmentFault
from fed_em_simulations import Scenario, read_scenario, simulate
from fed_em_simulations.command_line import app
from fed_em_simulations.experiment import Chart
from fed_em_simulations.methods import Fitted, run_method
from fed_em_simulations.methods_experiment import MethodsExperiment
from fed_em_simulations.results import Results, Row, Summary, text_of
from fed_em_simulations.shipped import scenario_path, shipped_scenarios
from fed_em_simulations.simulation_charts import Arrangement, results_chart
from fed_em_simulations.simulation_report import simulation_page, write_simulation_report

TINY = """\
title = "Tiny"
question = "Does <it> matter?"
replicates = 2
[experiment]
experiment = "methods"
rounds = 3
starts = 1
methods = ["pooled", "increments"]
[experiment.data]
tenants = 3
rows = 60
held_out = 5
truth = { components = 2, columns = 2 }
[experiment.model]
components = 2
prior = true
[sweep]
"data.heterogeneity.mixing.concentration" = [10, 1]
"""
SWEPT = "data.heterogeneity.mixing.concentration"


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(TINY, encoding="utf-8")
    return path


class TestReading:
    def test_cells_are_every_combination_and_replicate(self, tiny: Path) -> None:
        scenario = read_scenario(tiny)
        cells = scenario.cells()
        assert [(cell.swept[SWEPT], cell.replicate, cell.seed) for cell in cells] == [
            (10, 0, 0), (10, 1, 1), (1, 0, 0), (1, 1, 1),
        ]  # fmt: skip
        assert len({cell.key for cell in cells}) == 4
        assert isinstance(cells[2].experiment, MethodsExperiment)
        assert cells[2].experiment.model_dump()["data"]["heterogeneity"]["mixing"]["concentration"] == 1
        assert scenario.keys == (SWEPT, "method")

    def test_a_key_is_of_all_settings_and_of_nothing_else(self, tiny: Path) -> None:
        keys = [cell.key for cell in read_scenario(tiny).cells()]
        assert keys[:2] == [cell.key for cell in read_scenario(tiny, {SWEPT: [10], "title": "Other"}).cells()]
        assert not set(keys) & {cell.key for cell in read_scenario(tiny, {"experiment.rounds": 4}).cells()}
        assert keys[1] == read_scenario(tiny, {"seed": 1}).cells()[0].key

    def test_changes_set_fields_and_swept_values(self, tiny: Path) -> None:
        changed = read_scenario(tiny, {SWEPT: 5, "replicates": 1, "data.tenants": 4})
        assert changed.sweep == {SWEPT: (5,)} and len(changed.cells()) == 1
        assert changed.experiment.model_dump()["data"]["tenants"] == 4

    @pytest.mark.parametrize(
        ("before", "after", "complaint"),
        [
            ("rounds = 3", "round = 3", r"tiny\.toml: unknown key 'experiment\.methods\.round'"),
            ("rounds = 3", "rounds = 0", r"experiment\.methods\.rounds: Input should be greater than or equal to 1"),
            ('experiment = "methods"', 'experiment = "magic"', r"experiment: Input tag 'magic'"),
            ('concentration" = [10, 1]', 'concentration" = [10, -1]', r"concentration = -1: .*greater than 0"),
            ('mixing.concentration"', 'mixing.alpha"', r"with .*alpha = 10"),
            ('data.heterogeneity.mixing.concentration"', 'rounds.x"', r"'rounds\.x' names no field"),
            ("replicates = 2", "replicates = 1000", "ok"),
            ("rows = 60", "rows = 2", "too few for 3 tenants"),
            ('title = "Tiny"', "", "title: Field required"),
            ("title", "title", "ok"),
        ],
    )
    def test_what_is_wrong_is_named(self, tiny: Path, before: str, after: str, complaint: str) -> None:
        assert before in TINY
        tiny.write_text(TINY.replace(before, after), encoding="utf-8")
        if complaint == "ok":
            read_scenario(tiny)
            return
        with pytest.raises(CallerError, match=complaint) as raised:
            read_scenario(tiny)
        assert str(tiny) in str(raised.value) or "names no field" in complaint

    def test_lists_and_tables_are_swept_by_their_text(self, tiny: Path) -> None:
        tables = [{"mixing": {"concentration": 2}}, {"sizes": {"exponent": 1.0}}]
        sweep = {"data.heterogeneity": tables, "methods": [["pooled"], ["pooled", "alone"]], "data.rows": [60, 70]}
        scenario = read_scenario(tiny, {"sweep": sweep})
        cells = scenario.cells()
        assert len(cells) == 16 and cells[-1].experiment.model_dump()["methods"] == ("pooled", "alone")
        assert scenario.labels(cells[0].swept) == {
            "data.heterogeneity": "{mixing = {concentration = 2}}", "methods": "[pooled]", "data.rows": 60,
        }  # fmt: skip
        with pytest.raises(CallerError, match=r"with methods = \['polled'\]"):
            read_scenario(tiny, {"sweep": {"methods": [["polled"]]}})

    def test_numbers_in_names_count_in_lists(self, tiny: Path) -> None:
        session = {"experiment": "session", "data": {"tenants": 6}}
        trouble = [{"kind": "bursts", "leave": 0.1, "come_back": 0.5}]
        told = {
            "experiment": {**session, "session": {"trouble": trouble}},
            "sweep": {"session.trouble.0.leave": [0.2, 0.3]},
        }
        cells = read_scenario(tiny, {**told, "replicates": 1}).cells()
        assert [cell.experiment.model_dump()["session"]["trouble"][0]["leave"] for cell in cells] == [0.2, 0.3]
        with pytest.raises(CallerError, match="'1' is not in a table or list"):
            read_scenario(tiny, {**told, "sweep": {"session.trouble.1.leave": [0.2]}})

    def test_more_tenants_than_real_federations_have_are_those_of_a_costed_session(self, tiny: Path) -> None:
        many = {"tenants": 20_000, "rows": 100_000, "held_out": 1}
        scenario = read_scenario(tiny, {"experiment": {"experiment": "session", "data": many}, "sweep": {}})
        assert scenario.cells()[0].experiment.model_dump()["session"]["costed_from"] == 10_001
        with pytest.raises(CallerError, match="at most 10000 tenants"):
            read_scenario(tiny, {"data": many, "starts": 0, "methods": ["protocol"]})

    def test_too_many_runs_are_refused(self, tiny: Path) -> None:
        with pytest.raises(CallerError, match="more than 10000 runs"):
            read_scenario(tiny, {SWEPT: list(range(1, 5003))})

    def test_tables_lie_beside_their_scenario(self, tiny: Path) -> None:
        rows = "\n".join(f"{k % 7},{(k * 5) % 11},{'ab'[k % 2]},{k % 3}" for k in range(90))
        (tiny.parent / "rows.csv").write_text(f"x,y,kind,home\n{rows}\n")
        data = '[experiment.data]\ntable = "rows.csv"\ncolumns = ["x", "y"]\nlabel = "kind"\nby = "home"\n[experiment.model]'
        text = re.sub(r"\[experiment\.data\].*\[experiment\.model\]", data, TINY, flags=re.DOTALL)
        tiny.write_text(text[: text.index("[sweep]")], encoding="utf-8")
        results = simulate(read_scenario(tiny, {"replicates": 1}))
        assert results.values("method") == ("pooled", "increments")
        assert -1 <= results.mean("ari", method="pooled") <= 1
        tiny.write_text(text[: text.index("[sweep]")].replace('"home"', '"house"'), encoding="utf-8")
        with pytest.raises(CallerError, match="no column 'house'"):
            simulate(read_scenario(tiny))

    def test_tables_may_have_labels_and_holes(self, tiny: Path) -> None:
        cells = [f"{k % 7},{'' if k % 10 == 9 else 'uvw'[k * 5 % 3]},{k % 3}" for k in range(120)]
        (tiny.parent / "rows.csv").write_text("\n".join(["x,answer,home", *cells]) + "\n")
        data = (
            '[experiment.data]\ntable = "rows.csv"\ncolumns = ["x", "answer"]\ncategorical = ["answer"]\nby = "home"\n'
        )
        text = re.sub(
            r"\[experiment\.data\].*\[experiment\.model\]", data + "[experiment.model]", TINY, flags=re.DOTALL
        )
        tiny.write_text(text[: text.index("[sweep]")], encoding="utf-8")
        scenario = read_scenario(tiny, {"replicates": 1})
        tenants = scenario.experiment.data.draw(0)
        assert tenants.schema is not None and tenants.schema.columns[1] == CategoricalColumn("answer", ("u", "v", "w"))
        assert np.isnan(tenants.pooled.rows[:, 1]).any() and not np.isnan(tenants.pooled.rows[:, 0]).any()
        assert abs(simulate(scenario).mean("loss", method="increments")) < 0.1
        tiny.write_text(text[: text.index("[sweep]")].replace('["answer"]', '["reply"]'), encoding="utf-8")
        with pytest.raises(CallerError, match="'reply' is not among the columns"):
            read_scenario(tiny)


class TestRunning:
    def test_what_is_finished_is_not_run_again(self, tiny: Path, tmp_path: Path, monkeypatch: Any) -> None:
        ran: list[int] = []
        run = MethodsExperiment.run

        def counting(self: MethodsExperiment, seed: int) -> list[Row]:
            ran.append(seed)
            if len(ran) == 3:
                raise EnvironmentFault("a power cut")
            return run(self, seed)

        monkeypatch.setattr(MethodsExperiment, "run", counting)
        scenario, output = read_scenario(tiny), tmp_path / "out"
        with pytest.raises(EnvironmentFault, match="power cut"):
            simulate(scenario, output)
        told: list[tuple[int, int]] = []
        results = simulate(scenario, output, finished=lambda done, total: told.append((done, total)))
        assert len(ran) == 5 and told == [(2, 4), (3, 4), (4, 4)]
        again = simulate(scenario, output)
        assert len(ran) == 5 and str(again) == str(results)
        assert pq.read_table(output / "results.parquet").num_rows == len(results.rows) == 8
        assert pq.read_table(output / "results.parquet").column_names == list(results.columns)
        assert str(simulate(scenario)) == str(results)

    def test_a_damaged_cell_is_run_again(self, tiny: Path, tmp_path: Path) -> None:
        scenario = read_scenario(tiny, {SWEPT: [1], "replicates": 1})
        first = simulate(scenario, tmp_path)
        (kept,) = (tmp_path / "cells").glob("*.json")
        kept.write_text(kept.read_text()[:50])
        assert str(simulate(scenario, tmp_path)) == str(first)

    def test_a_run_that_fails_is_a_row_and_is_not_tried_again(
        self, tiny: Path, tmp_path: Path, monkeypatch: Any
    ) -> None:
        ran: list[int] = []
        run = MethodsExperiment.run

        def failing(self: MethodsExperiment, seed: int) -> list[Row]:
            ran.append(seed)
            if seed == 1:
                raise CollapsedComponent("component 2 collapsed")
            return run(self, seed)

        monkeypatch.setattr(MethodsExperiment, "run", failing)
        scenario = read_scenario(tiny)
        results = simulate(scenario, tmp_path)
        failed = [row for row in results.rows if row["failure"]]
        assert len(failed) == 2 and len(results.rows) == 6
        assert all(row["method"] is None and math.isnan(float(row["loss"] or 0)) for row in failed)
        assert results.failures == "2 of 6 rows tell of a failure, most often: component 2 collapsed"
        assert str(simulate(scenario, tmp_path)) == str(results) and len(ran) == 4
        simulate(scenario, tmp_path, fresh=True)
        assert len(ran) == 8
        page = simulation_page(scenario, results)
        assert results.failures in page and "increments" in page and ">None<" not in page
        monkeypatch.setattr(MethodsExperiment, "run", _collapsing)
        with pytest.raises(CallerError, match="every run failed: component 1"):
            simulate(scenario)

    def test_a_method_that_fails_leaves_the_others(self, tiny: Path, monkeypatch: Any) -> None:
        def collapsing(name: str, ground: object) -> Fitted:
            if name == "increments":
                raise CollapsedComponent("component 0 collapsed")
            return run_method(name, ground)  # type: ignore[arg-type]

        monkeypatch.setattr("fed_em_simulations.methods_experiment.run_method", collapsing)
        pooled, increments = simulate(read_scenario(tiny, {SWEPT: [1], "replicates": 1})).rows
        assert pooled["failure"] == "" and pooled["loss"] == 0
        assert increments["failure"] == "component 0 collapsed" and math.isnan(float(increments["rounds"] or 0))

    def test_a_table_that_was_edited_is_read_again(self, tiny: Path, tmp_path: Path) -> None:
        rows = [f"{k % 7},{(k * 5) % 11},{k % 3}" for k in range(90)]
        table = tiny.parent / "rows.csv"
        table.write_text("\n".join(["x,y,home", *rows]) + "\n")
        data = {"table": "rows.csv", "columns": ["x", "y"], "by": "home"}
        scenario = read_scenario(tiny, {"data": data, "sweep": {}, "replicates": 1})
        (before,) = scenario.cells()
        first, key = simulate(scenario, tmp_path), before.key
        table.write_text("\n".join(["x,y,home", *rows[:-1], "99,99,0"]) + "\n")
        assert before.key != key
        second = simulate(scenario, tmp_path)
        assert second.mean("held_out", method="pooled") != first.mean("held_out", method="pooled")
        table.write_text("\n".join(["x,y,home", *rows]) + "\n")
        assert before.key == key and str(simulate(scenario, tmp_path)) == str(first)

    @pytest.mark.slow
    def test_processes_give_the_same(self, tiny: Path) -> None:
        assert str(simulate(read_scenario(tiny), jobs=2)) == str(simulate(read_scenario(tiny)))

    def test_a_folder_that_cannot_be_written_is_named(self, tiny: Path, tmp_path: Path) -> None:
        (tmp_path / "cells").write_text("a file")
        with pytest.raises(EnvironmentFault, match="cells"):
            simulate(read_scenario(tiny, {SWEPT: [1], "replicates": 1}), tmp_path)


def _collapsing(_self: MethodsExperiment, seed: int) -> list[Row]:
    raise CollapsedComponent(f"component {seed + 1} collapsed")


class TestResults:
    RESULTS = Results(
        tuple({"a.b": a, "replicate": r, "m": f"m{a}", "x": a + r / 10, "y": math.nan} for a in (1, 2) for r in (0, 1)),
        ("a.b", "m"),
    )

    def test_groups_are_over_replicates(self) -> None:
        found = {values: group.summary("x") for values, group in self.RESULTS.groups()}
        assert {values: (each.mean, each.low, each.high) for values, each in found.items()} == {
            (1, "m1"): (1.05, 1.0, 1.1),
            (2, "m2"): (2.05, 2.0, 2.1),
        }
        # Of two values the standard error of their mean is half of their distance.
        assert [each.error for each in found.values()] == pytest.approx([0.05, 0.05])
        assert str(Summary.of([0.5, 0.5])) == "0.5" and math.isnan(Summary.of([1.0]).error)
        assert self.RESULTS.mean("x", m="m2") == 2.05 and self.RESULTS.replicates == 2
        with pytest.raises(CallerError, match="no column 'z'"):
            self.RESULTS.summary("z")

    def test_it_prints_itself_without_what_is_empty(self) -> None:
        assert str(self.RESULTS) == (
            "means over 2 replicates ± standard errors\n"
            "a.b  m             x\n1    m1  1.05 ± 0.05\n2    m2  2.05 ± 0.05"
        )

    def test_rows_without_columns_are_filled_and_written(self, tmp_path: Path) -> None:
        whole: Row = {"a": 1, "replicate": 0, "failure": "", "ok": True, "who": "t1", "y": 0.5, "m": "x"}
        found = Results.of([{"a": 2, "replicate": 0, "failure": "no"}, whole], ("a", "m"))
        assert {name: found.rows[0][name] for name in ("ok", "who", "m")} == {"ok": None, "who": "", "m": None}
        assert math.isnan(float(found.rows[0]["y"] or 0)) and found.told.rows == (whole,) == found.rows[1:]
        found.write_parquet(tmp_path / "r.parquet")
        assert Results.of([{"y": 1.0}, {"failure": "no"}], ()).rows[0] == {"y": 1.0, "failure": ""}
        assert pq.read_table(tmp_path / "r.parquet").num_rows == 2

    def test_numbers_in_tables(self) -> None:
        shown = [text_of(value) for value in (1.0, 3, 0.3, -5.65112, 1.23456e-7, math.nan, None, True, "x")]
        assert shown == ["1", "3", "0.3", "-5.6511", "1.2e-07", "", "", "yes", "x"]


class TestReport:
    def test_it_says_what_the_results_say_and_needs_nothing_else(self, tiny: Path, tmp_path: Path) -> None:
        scenario = read_scenario(tiny)
        results = simulate(scenario)
        page = write_simulation_report(tmp_path / "out", scenario, results).read_text(encoding="utf-8")
        assert page == simulation_page(scenario, results)
        assert "Does &lt;it&gt; matter?" in page and "Does <it>" not in page
        for _, lines in [results.table()]:
            for line in lines:
                assert all(f">{cell}</td>" in page for cell in line if cell)
        assert page.count("<svg") == len(scenario.experiment.charts) == 4
        assert not re.search(r"(src|href)=\"?(https?:)?//|<script|@import", page)

    def test_without_the_extra_the_error_names_it(self, tiny: Path, tmp_path: Path, monkeypatch: Any) -> None:
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        for name in [name for name in sys.modules if name.endswith("simulation_charts")]:
            monkeypatch.delitem(sys.modules, name)
        for name in [name for name in sys.modules if name.startswith("matplotlib.")]:
            monkeypatch.delitem(sys.modules, name)
        scenario = read_scenario(tiny)
        with pytest.raises(CallerError, match=r"fed-em\[plots\]"):
            write_simulation_report(tmp_path, scenario, Results((), ()))


class TestCharts:
    def results(self, *keys: str) -> Results:
        values = {"a.share": (0.5, 1.0), "guard": ("on", "off"), "m": ("x", "y", "z")}
        rows = [
            {**dict(zip(keys, chosen, strict=True)), "replicate": r, "loss": 10.0 ** -(r + 1), "nothing": math.nan}
            for chosen in product(*(values[key] for key in keys))
            for r in (0, 1)
        ]
        return Results(tuple(rows), keys)

    @pytest.mark.parametrize(
        ("keys", "across", "lines", "panels"),
        [
            (("a.share", "guard", "m"), "a.share", "m", ("guard",)),
            (("guard", "a.share"), "a.share", "guard", ()),
            (("guard", "m"), "guard", "m", ()),
            (("m",), "m", None, ()),
        ],
    )
    @pytest.mark.parametrize("logarithmic", [False, True])
    def test_every_key_has_its_place(
        self, keys: tuple[str, ...], across: str, lines: str | None, panels: tuple[str, ...], logarithmic: bool
    ) -> None:
        results, own = self.results(*keys), tuple(key for key in keys if key == "m")
        found = Arrangement.of(results, own)
        assert (found.across, found.lines, found.panels) == (across, lines, panels)
        svg = results_chart(results, Chart("loss", "Loss", "nats", logarithmic=logarithmic), own, 0)
        shown = [str(value) for key in keys for value in results.values(key)]
        assert all(f">{value.removesuffix('.0')}<" in svg or f" {value}<" in svg for value in shown)

    def test_what_is_predicted_stands_where_it_is_of(self, monkeypatch: Any) -> None:
        """A line that has nothing in the middle: its dashes go from the first place to the third."""
        drawn: list[tuple[list[float], list[float]]] = []

        def plot(_axes: Axes, xs: list[float], ys: list[float], *_: object, **_named: object) -> None:
            drawn.append((list(xs), list(ys)))

        monkeypatch.setattr(Axes, "plot", plot)
        rows = tuple(
            {"x": x, "m": m, "replicate": 0, "y": 0.5, "expected": float(x)}
            for x in (1, 2, 3)
            for m in "ab"
            if (x, m) != (2, "b")
        )
        results_chart(Results(rows, ("x", "m")), Chart("y", "T", "u", predicted="expected"), ("m",), 0)
        assert drawn[-1] == ([1.0, 3.0], [1.0, 3.0])

    def test_dashes_are_explained_where_there_are_any(self) -> None:
        chart = Chart("y", "T", "u", "Read it.", predicted="expected", dashed="by formula")
        rows: Row = {"x": 1, "replicate": 0, "y": 0.5, "expected": 2.0}
        assert chart.note_on(Results((rows,), ("x",))) == "Read it. Dashed: by formula."
        assert chart.note_on(Results(({**rows, "expected": math.nan},), ("x",))) == "Read it."
        assert (
            chart.note_on(Results((), ()))
            == Chart("y", "T", "u", "Read it.").note_on(Results((rows,), ()))
            == "Read it."
        )

    def test_what_has_no_order_is_not_joined(self, monkeypatch: Any) -> None:
        joined: list[str] = []
        errorbar = Axes.errorbar

        def watching(axes: Axes, *arguments: Any, **named: Any) -> Any:
            joined.append(named.get("linestyle", ""))
            return errorbar(axes, *arguments, **named)

        monkeypatch.setattr(Axes, "errorbar", watching)
        for values in ([1, 2], ["[{kind = bursts, leave = 0.1}]", "[{kind = dropout}]"]):
            rows = tuple({"x": value, "replicate": 0, "y": 0.5} for value in values)
            svg = results_chart(Results(rows, ("x",)), Chart("y", "T", "u"), (), 0)
        assert joined == ["-", "none"] and ">bursts, leave = 0.1<" in svg and "[{kind" not in svg

    def test_a_column_without_a_number_is_an_empty_chart(self) -> None:
        assert "<svg" in results_chart(self.results("m"), Chart("nothing", "T", "u", logarithmic=True), ("m",), 0)


class TestCommand:
    def test_it_lists_and_runs(self, tiny: Path, tmp_path: Path) -> None:
        runner = CliRunner()
        listed = runner.invoke(app, ["simulate", "--list"])
        assert listed.exit_code == 0
        assert all(name in listed.output for name, _ in shipped_scenarios()) and "heterogeneity-part" in listed.output
        ran = runner.invoke(
            app,
            [
                "simulate",
                str(tiny),
                "--output",
                str(tmp_path / "o"),
                "--jobs",
                "1",
                "--set",
                f"{SWEPT}=2",
                "--set",
                "replicates=1",
            ],
        )
        assert ran.exit_code == 0, ran.output
        assert "increments" in ran.output and (tmp_path / "o" / "report.html").is_file()
        assert ran.stderr.splitlines() == ["0 of 1 runs are done", "1 of 1 runs are done"]

    def test_mistakes_are_told(self, tiny: Path) -> None:
        with pytest.raises(CallerError, match="did you mean 'dropout-quorum'"):
            scenario_path("dropout-quorums")
        for arguments in ([], [str(tiny), "--set", "rounds"]):
            found = CliRunner().invoke(app, ["simulate", *arguments])
            assert isinstance(found.exception, CallerError)


@pytest.mark.parametrize("name", [name for name, _ in shipped_scenarios()])
def test_shipped_scenarios_are_admissible(name: str) -> None:
    scenario = read_scenario(scenario_path(name))
    assert scenario.cells() and scenario.question


def test_a_scenario_is_made_in_python() -> None:
    scenario = Scenario.model_validate(
        {"title": "x", "experiment": {"experiment": "methods", "data": {"tenants": 3, "rows": 30}}}
    )
    assert len(scenario.cells()) == 1
