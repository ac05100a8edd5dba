"""Ways round a count of records: weights that the server chooses, and columns of which few records show a cell."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mixed_federation import mixed_session, mixed_tables, write_mixed_federation
from small_federation import COLUMNS, Recorder, clustered_rows, memory_hub, session_toml, write_small_federation
from test_gated_session import FLOOR, is_small
from test_missing_columns import IN_B_ALONE

from fed_em.component_counts import MASS
from fed_em.em import Summed
from fed_em.errors import CallerError, FedEmError
from fed_em.gaussian_mixture import GaussianMixtureModel
from fed_em.parameters import Parameters
from fed_em.statistics import Statistics
from fed_em_protocols.configuration import read_configuration
from fed_em_protocols.coordinator_state import SumOpened, SumRequest
from fed_em_protocols.encoding import Encoding
from fed_em_protocols.errors import SumFailed
from fed_em_protocols.masks import RingVector
from fed_em_server.configuration import ServerConfiguration
from fed_em_server.federated_total import FederatedTotal
from fed_em_server.serve import open_server
from fed_em_server.session import SessionOutcome, run_session
from fed_em_simulations.federation_folder import FederationFolder, Matrix

pytestmark = pytest.mark.usefixtures("remembered_keys")

SIZES = (60, 50, 40, 30, 45, 35)
GATE = f"mass_floor = {FLOOR}"
FIT = "tolerance = 1e-7\nmax_iterations = 12"
WEIGHTS = '\n[weights]\ncolumn = "hiv"\nupper = 1\n'
MODEL = 'family = "gaussian-mixture"\nn_components = 3\ncovariance = "{}"\ncovariance_floor = 1e-2'


def run(federation: FederationFolder) -> SessionOutcome:
    return run_session(open_server(federation.server).plan("memory"), memory_hub(federation), Recorder())


@pytest.fixture
def moments(monkeypatch: pytest.MonkeyPatch) -> list[Statistics]:
    """All sums of moments that a server decodes."""
    seen: list[Statistics] = []
    decode = Encoding.decode

    def watched(self: Encoding, vector: RingVector) -> Statistics:
        decoded = decode(self, vector)
        if MASS not in self.layout.offsets:
            seen.append(decoded)
        return decoded

    monkeypatch.setattr(Encoding, "decode", watched)
    return seen


class TestWeights:
    """A column that every tenant holds, and that is positive for one record of all: its weighted sums are that record's row."""

    def write(self, folder: Path, trust: str) -> FederationFolder:
        rows = clustered_rows(SIZES)
        federation = write_small_federation(
            folder, rows, session_toml(MODEL.format("full") + WEIGHTS, FIT, trust=trust)
        )
        for name, own in rows.items():
            hiv = np.zeros(len(own))
            hiv[7] = name == "t2"
            table = dict(zip(COLUMNS, own.T, strict=True)) | {"hiv": hiv}
            pq.write_table(pa.table(table), federation.tenant(name).data)
        return federation

    def test_a_server_does_not_offer_them_behind_a_gate(self, tmp_path: Path) -> None:
        file = tmp_path / "session.toml"
        file.write_text(session_toml(MODEL.format("full") + WEIGHTS, FIT, trust=GATE))
        with pytest.raises(FedEmError, match=r"has weights \(column 'hiv'\) and a mass floor") as refusal:
            read_configuration(file, ServerConfiguration)
        assert "leave out [weights]" in str(refusal.value)

    def test_tenants_do_not_join_a_server_that_does(self, tmp_path: Path, moments: list[Statistics]) -> None:
        """It opened the row of one record with the first sum, before any component was counted."""
        federation = self.write(tmp_path / "f", "")
        plan = open_server(federation.server).plan("memory")
        hub = memory_hub(federation)
        with pytest.raises(SumFailed):
            run_session(replace(plan, terms=replace(plan.terms, mass_floor=1000 * FLOOR)), hub, Recorder())
        assert moments == []
        for index in range(len(SIZES)):
            error = hub.error_of(index)
            assert error is not None and "has weights (column 'hiv') and a mass floor" in error.message


class TestFirstSum:
    """Of column b one record of 260 shows its cell."""

    CELL = 13.25

    def rows(self) -> dict[str, Matrix]:
        tenants = clustered_rows(SIZES)
        for rows in tenants.values():
            rows[:, 1] = np.nan
        tenants["t2"][7, 1] = self.CELL
        return tenants

    def write(self, folder: Path) -> FederationFolder:
        session = session_toml(MODEL.format("full"), FIT, columns=IN_B_ALONE, trust=GATE)
        return write_small_federation(folder, self.rows(), session)

    def test_it_is_not_opened(self, tmp_path: Path, moments: list[Statistics]) -> None:
        with pytest.raises(CallerError, match="too few observed cells of column 'b'") as ended:
            run(self.write(tmp_path / "f"))
        assert ended.value.remedy is not None and "leave such columns out" in ended.value.remedy
        assert moments == []

    def test_tenants_do_not_open_it_for_a_server_that_asks_all_the_same(
        self, tmp_path: Path, moments: list[Statistics], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Behind the very gate that the counts give, which holds the one component that there is."""
        federation = self.write(tmp_path / "f")
        hub = memory_hub(federation)
        behind_gate = FederatedTotal._behind_gate

        def cheat(self: FederatedTotal, request: SumRequest, as_one: bool) -> tuple[SumOpened, tuple[int, ...]]:
            return behind_gate(self, request, as_one=False)

        monkeypatch.setattr(FederatedTotal, "_behind_gate", cheat)
        with pytest.raises(SumFailed, match="6 of 6 tenants could not compute"):
            run_session(open_server(federation.server).plan("memory"), hub, Recorder())
        for index in range(len(SIZES)):
            session = hub.session_of(index)
            assert session is not None and session.fault is not None
            assert "the moments of the columns behind counts of too few" in session.fault.message
        assert moments == []


def test_of_mixed_columns_a_count_that_one_record_shows_is_not_opened(
    tmp_path: Path, moments: list[Statistics]
) -> None:
    """And a column of which two tenants alone show cells, however many, is named with it."""
    tables = {name: dict(table) for name, table in mixed_tables(SIZES, 0.0).items()}
    for name, table in tables.items():
        n = len(table["visits"])
        table["visits"] = [31 if (name, row) == ("t2", 7) else None for row in range(n)]
        if name not in ("t0", "t1"):
            table["smoker"] = [None] * n
    federation = write_mixed_federation(tmp_path / "f", tables, mixed_session("diag", trust=GATE))
    told = "too few observed cells of column 'visits' and observed cells of column 'smoker'"
    with pytest.raises(CallerError, match=told):
        run(federation)
    assert moments == []


class TestComponents:
    """Two groups of records show their cells of b; of a third, as large, one record does."""

    CENTRES = np.array([[-9.0, -3.0, 0.0], [0.0, 3.0, 0.0], [9.0, 0.0, 0.0]])

    def rows(self) -> dict[str, Matrix]:
        generator, tenants = np.random.default_rng(4), {}
        for k, size in enumerate(SIZES):
            group = np.arange(size) % 3
            rows = self.CENTRES[group] + generator.standard_normal((size, 3))
            rows[group == 2, 1] = np.nan
            tenants[f"t{k}"] = rows
        tenants["t2"][2, 1] = 13.25
        return tenants

    @pytest.mark.parametrize("covariance", [pytest.param("full", marks=pytest.mark.slow), "diag"])
    def test_no_component_opens_without_enough_observed_cells_of_each_column(
        self, tmp_path: Path, covariance: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        decoded: list[tuple[Parameters, Summed]] = []
        call = FederatedTotal.__call__

        def watched(self: FederatedTotal, parameters: Parameters) -> Summed:
            summed = call(self, parameters)
            if "responsibilities" in summed.statistics.layout.offsets:
                decoded.append((parameters, summed))
            return summed

        monkeypatch.setattr(FederatedTotal, "__call__", watched)
        session = session_toml(MODEL.format(covariance), FIT + "\nseed = 11", columns=IN_B_ALONE, trust=GATE)
        outcome = run(write_small_federation(tmp_path / "f", self.rows(), session))
        model = cast(GaussianMixtureModel, outcome.fitted.model)
        tenants = [outcome.result.coordinates.apply(rows) for rows in self.rows().values()]
        by_cells = 0
        for at, summed in decoded:
            shares = [model.responsibilities(at, rows) for rows in tenants]
            records = np.stack([share.sum(axis=0) for share in shares])
            cells = np.stack([share[~np.isnan(x[:, 1])].sum(axis=0) for share, x in zip(shares, tenants, strict=True)])
            small = [k for k in range(3) if is_small(cells[:, k])]
            assert set(small) <= set(summed.held)
            by_cells += any(not is_small(records[:, k]) for k in small)
            for k in summed.held:
                assert not summed.statistics["first"][k].any() and not summed.statistics["second"][k].any()
            if 0 < len(summed.held) < 3:
                assert not is_small(cells[:, list(summed.held)].sum(axis=1))
        assert by_cells > 3
