"""Operators over the real protocol: in memory, and over gRPC by the command itself."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_federation import COLUMNS, session_toml, write_small_federation
from typer.testing import CliRunner

from fed_em.errors import CallerError
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.model_file import load_model
from fed_em_client.observability.settings import told_otherwise
from fed_em_client.take_part import take_part
from fed_em_protocols.description import Column
from fed_em_protocols.roster import load_roster
from fed_em_server import serve
from fed_em_server.audit.verify import verify
from fed_em_server.grpc_hub import GrpcHub
from fed_em_server.observability import observed_session
from fed_em_server.observability.session_metrics import SessionMetrics
from fed_em_server.operate.operate import operating
from fed_em_server.operate.operate_file import read_operate_file
from fed_em_server.operate.operator import Operator
from fed_em_server.record import SessionRecord
from fed_em_server.registry import Lineage, Registry
from fed_em_server.registry.history import Moved
from fed_em_server.registry.version import MODEL_FOLDER
from fed_em_server.transcript_folder import read_transcript
from fed_em_server.watchers import Watchers
from fed_em_simulations import Federation
from fed_em_simulations.command_line import app
from fed_em_simulations.federation_folder import FederationFolder
from fed_em_simulations.operated_federation import OperatedFederation
from tests.observability.watched import scraped
from tests.operate.operated import AT_ONCE, Lines, canary, first_model, mixture_rows

DECLARED = [Column(name=name, low=-15, high=15) for name in ("x0", "x1")]


@pytest.mark.slow
def test_a_federation_in_memory_that_drifts_is_fitted_again_by_the_real_protocol(tmp_path: Path) -> None:
    time_now, drawn = [1e6], [0]

    def federation() -> Federation:
        drawn[0] += 1
        generator, shift = np.random.default_rng((3, drawn[0])), 1.5 if time_now[0] > 1e6 else 0.0
        tables = [mixture_rows(150, shift, generator) for _ in range(3)]
        return Federation(tables, seed=drawn[0], columns=DECLARED, max_iterations=8)

    registry, lines = Registry(tmp_path / "registry"), Lines()
    registry.promote(registry.add(first_model(), Lineage.of_model(first_model(), "")))
    target = GaussianMixtureModel(2, 2, "full", covariance_floor=1e-6)
    operated = OperatedFederation(federation, target)
    operator = Operator(AT_ONCE, tmp_path / "operate", registry, operated, canary(), lines, lambda: time_now[0])
    for _ in range(3):
        operator.proceed()
        time_now[0] += 3600.0
    version = registry.current()
    assert version is not None and version.number == 2 and lines.planned == [True, False]
    rows = mixture_rows(2000, 1.5, np.random.default_rng(9))
    assert registry.load(version).score_samples(rows).mean() > first_model().score_samples(rows).mean() + 0.1
    assert lines.scores[-1] < 1 < lines.scores[0]


OPERATE = """\
session = "session.toml"
registry = "../registry"
state = "../operate"
[schedule]
every_hours = 1e-6
[drift]
k = 1
m = 1
"""


def write_rows(federation: FederationFolder, shift: float, seed: int) -> None:
    generator = np.random.default_rng(seed)
    for file in federation.tenant_files.values():
        rows = np.column_stack((mixture_rows(150, shift, generator), generator.standard_normal(150)))
        table = pa.table({name: rows[:, d] for d, name in enumerate(COLUMNS)})
        pq.write_table(table, file.parent / "rows.parquet")


class Tenants:
    """Every tenant in a thread of its own, in one session after another, as under a supervisor that starts it again."""

    def __init__(self, federation: FederationFolder) -> None:
        self.sessions: list[list[threading.Thread]] = []
        self.kept: list[Path | None] = []
        self._federation = federation

    def dial(self, port: int) -> None:
        """A session begins."""
        self.join()  # a tenant never runs twice
        names = self._federation.tenant_files
        self.sessions.append([threading.Thread(target=self._part, args=(name, port), daemon=True) for name in names])
        for thread in self.sessions[-1]:
            thread.start()

    def join(self) -> None:
        """Wait until the last session is over for all of them."""
        for thread in self.sessions[-1] if self.sessions else []:
            thread.join(30)

    def _part(self, name: str, port: int) -> None:
        self.kept.append(take_part(self._federation.tenant(name), lambda _: None, 30.0, f"127.0.0.1:{port}"))


@pytest.mark.slow
def test_operate_once_over_grpc_measures_then_retrains_and_promotes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = 'family = "gaussian-mixture"\nn_components = 2\ncovariance = "full"'
    session = session_toml(model, fit="max_iterations = 8", start="") + "\n[canary]\nmin_records = 100\n"
    session += '[metrics]\nlisten = "127.0.0.1:0"\nlinger = 0\n'
    zero = {f"t{k}": np.zeros((1, 3)) for k in range(3)}
    federation = write_small_federation(tmp_path / "f", zero, session, policy="measurements = true")
    tenants = Tenants(federation)

    class KnownHub(GrpcHub):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments)  # type: ignore[arg-type]
            tenants.dial(self.port)

    planned: list[float] = []

    class KnownMetrics(SessionMetrics):
        def session_started(self, record: SessionRecord) -> None:
            super().session_started(record)
            planned.append(scraped(self.metrics)["fed_em_planned_retrain"])

    monkeypatch.setattr(observed_session, "SessionMetrics", KnownMetrics)
    monkeypatch.setattr(serve, "GrpcHub", KnownHub)
    file = federation.session_file.parent / "operate.toml"
    file.write_text(OPERATE)
    write_rows(federation, 0.0, 0)

    def fed_em(*arguments: str) -> str:
        ended = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
        assert ended.exit_code == 0, ended.output
        return ended.output

    fed_em("server", str(federation.session_file))
    registry, output = Registry(federation.folder / "registry"), federation.server.output
    roster = federation.session_file.parent / "roster.json"
    fed_em("registry", "add", str(output), "--roster", str(roster), "--registry", str(registry.folder))
    registry.promote(registry.versions()[0])
    write_rows(federation, 0.0, 1)
    assert "took the reference of version 1" in fed_em("operate", str(file), "--once")
    write_rows(federation, 0.0, 2)
    assert "no drift that matters" in fed_em("operate", str(file), "--once")
    write_rows(federation, 2.0, 3)
    said = fed_em("operate", str(file), "--once")
    tenants.join()
    assert "retrain 1 begins" in said and "is in use" in said
    version = registry.current()
    assert version is not None and version.number == 2
    assert version.parents == (registry.versions()[0].id,)  # its fit began with it
    assert version.manifest.files.keys() > {"model/reference.json", "record.json"}
    move = registry.history()[-1]
    assert isinstance(move, Moved) and move.decision is not None and move.decision.numbers["gain"] > 0.1
    assert "retrains so far: 1" in fed_em("operate", str(file), "--status")
    assert len(tenants.sessions) == 1 + 1 + 1 + 4
    assert planned == [0, 1]  # of the first fit and the retrain; who measures serves no metrics of a session
    assert tenants.kept.count(None) == 3 * 5  # of what a measurement gives them; the two fits gave them models
    model_folder = str(registry.path(version) / MODEL_FOLDER)
    shown = fed_em("measure", str(federation.session_file), "--model", model_folder, "--json")
    assert json.loads(shown[shown.index("{") :])["records"] == 450
    measurements = sorted((federation.folder / "operate").rglob("measurements/transcript*"))
    assert len(measurements) == 5
    measurements.append(output / "measurements" / "transcript")
    for folder in measurements:
        assert verify(read_transcript(folder), load_roster(roster)).passed
    assert load_model(registry.path(version) / MODEL_FOLDER).columns == COLUMNS


def test_one_operator_at_a_time_and_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    zero = {f"t{k}": np.zeros((1, 3)) for k in range(3)}
    federation = write_small_federation(tmp_path / "f", zero)
    path = federation.session_file.parent / "operate.toml"
    path.write_text(OPERATE)
    file = read_operate_file(path)
    began = time.time()
    told: list[str] = []
    listening = told_otherwise(file, "127.0.0.1:0")
    with operating(listening, told.append, Watchers([])) as operator:
        with urllib.request.urlopen(told[-1].rpartition(" ")[2], timeout=30) as answer:
            assert "fed_em_planned_retrain 0.0" in answer.read().decode()
        assert began <= operator.due_at or operator.due_at == 0.0
        with (
            pytest.raises(CallerError, match="another process operates this model"),
            operating(file, print, Watchers([])),
        ):
            pass
    session, own = federation.session_file.read_text(), '[model]\nmixing = "tenant"'
    for more, named in (("\n[privacy]\nepsilon = 1\ndelta = 1e-6\n", "privacy"), ("", "mixing weights")):
        federation.session_file.write_text(session + more if more else session.replace("[model]", own))
        with pytest.raises(CallerError, match=named), operating(file, print, Watchers([])):
            pass
    for text, named in (
        (OPERATE.replace("k = 1", "k = 3"), "at least 3"),
        (OPERATE.replace("every_hours = 1e-6", 'every_hours = 1\nat = ["03:00"]'), "one of them"),
        (OPERATE + "quiet_hour = 3\n", "quiet_hours"),
    ):
        path.write_text(text)
        with pytest.raises(CallerError) as caught:
            read_operate_file(path)
        assert named in caught.value.diagnostics()
