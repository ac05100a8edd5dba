"""A tenant's own work in a session: its rows, and the encoded statistics of them that a round asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fed_em.broadcast import Broadcast
from fed_em.coordinates import Coordinates
from fed_em.errors import CallerError, EnvironmentFault, FedEmError
from fed_em.model import Model, Rows
from fed_em_client.rows import read_rows
from fed_em_protocols.description import SessionDescription, encoding_of
from fed_em_protocols.encoding import Encoding
from fed_em_protocols.errors import IllegalStep
from fed_em_protocols.masks import RingVector
from fed_em_protocols.roster import Roster
from fed_em_protocols.tenant import Evaluate


@dataclass(frozen=True)
class _Session:
    """A session that this tenant's rows fit."""

    offered: bytes
    description: SessionDescription
    rows: Rows = field(repr=False)


@dataclass(frozen=True)
class _Setting:
    """What stays the same from round to round: all but the parameters.

    Attributes:
        model: The model.
        coordinates: The coordinates of its E-step.
        encoding: The encoding of its statistics.
        rows: The rows in those coordinates, `(n, D)`.
    """

    model: Model
    coordinates: Coordinates
    encoding: Encoding
    rows: Rows = field(repr=False)

    def serves(self, broadcast: Broadcast) -> bool:
        """Whether a broadcast differs in its parameters only."""
        return broadcast.coordinates == self.coordinates and broadcast.model.describe() == self.model.describe()


class RowsWork:
    """The work behind a tenant's session. Implements `fed_em_client.tenant_session.TenantWork`.

    Args:
        data: File with the rows; read once a session, before joining it.
        columns: Session column to data column, where the names differ.
        roster: The pinned roster.
        index: This tenant's place in it.
    """

    def __init__(self, data: Path, columns: Mapping[str, str], roster: Roster, index: int) -> None:
        self._data = data
        self._columns = dict(columns)
        self._roster = roster
        self._index = index
        self._session: _Session | None = None
        self._setting: _Setting | None = None
        self._coordinates: Coordinates | None = None

    def prepare(self, description: bytes) -> None:
        """Read the rows and check them against a session's description (JSON). The same offer again costs nothing.

        Raises:
            CallerError: the description is not valid, or the rows do not fit it.
            EnvironmentFault: the data file cannot be read.
        """
        if self._session is not None and self._session.offered == description:
            return
        parsed = SessionDescription.from_json(description)
        rows = read_rows(self._data, parsed, self._columns, self._roster.row_caps[self._index])
        self._session, self._setting, self._coordinates = _Session(description, parsed, rows), None, None

    @property
    def description(self) -> SessionDescription:
        """The session that was prepared for. Raises `IllegalStep` before the first."""
        return self._prepared().description

    def evaluate(self, asked: Evaluate) -> RingVector:
        """The encoded statistics of the rows at the parameters that the server asks for.

        Raises:
            CallerError: the session does not admit the request, both sides derive different encodings, or the
                statistics cannot be computed or are beyond their bounds.
        """
        broadcast = Broadcast.from_bytes(asked.parameters, f"the server's request of round {asked.round}")
        setting = self._setting_of(broadcast)
        _check_same_encoding(setting.encoding, asked)
        try:
            statistics = setting.model.e_step(broadcast.parameters, setting.rows, setting.encoding.layout)
        except (CallerError, EnvironmentFault):
            raise
        except FedEmError as error:
            raise CallerError(f"round {asked.round}: {error.message}", remedy=error.remedy) from error
        return setting.encoding.encode(statistics, self._index)

    def _prepared(self) -> _Session:
        if self._session is None:
            raise IllegalStep("no session was prepared")
        return self._session

    def _setting_of(self, broadcast: Broadcast) -> _Setting:
        session = self._prepared()
        if self._setting is None or not self._setting.serves(broadcast):
            self._require_admissible(session.description, broadcast)
            encoding = encoding_of(session.description, broadcast, self._roster.row_caps)
            rows = broadcast.coordinates.apply(session.rows)
            self._setting = _Setting(broadcast.model, broadcast.coordinates, encoding, rows)
        return self._setting

    def _require_admissible(self, description: SessionDescription, broadcast: Broadcast) -> None:
        """Moments first, then the session's model in one system of coordinates: nothing else is ever answered."""
        if description.asks_for_moments(broadcast) and self._coordinates is None:
            return
        if not description.asks_for_the_model(broadcast):
            raise CallerError(
                f"the server asks for a model that session '{description.title}' is not about, or for its moments again",
                remedy="ask the server's operator; this tenant answers for the agreed model only",
            )
        if self._coordinates is not None and self._coordinates != broadcast.coordinates:
            raise CallerError(
                f"the server changed the coordinates in the middle of session '{description.title}'",
                remedy="ask the server's operator; coordinates are fixed by the session's first round",
            )
        self._coordinates = broadcast.coordinates


def _check_same_encoding(encoding: Encoding, asked: Evaluate) -> None:
    if encoding.digest != asked.encoding or encoding.length != asked.length:
        raise CallerError(
            f"round {asked.round}: the server and this tenant derive different encodings of the same statistics "
            f"(the server's has {asked.length} integers, this tenant's {encoding.length})",
            remedy="run the same version of fed-em on both sides; `fed-em doctor` shows it",
        )
