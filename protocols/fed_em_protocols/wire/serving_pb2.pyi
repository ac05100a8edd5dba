from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Cell(_message.Message):
    __slots__ = ("number", "level")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    number: float
    level: str
    def __init__(self, number: _Optional[float] = ..., level: _Optional[str] = ...) -> None: ...

class Row(_message.Message):
    __slots__ = ("cells",)
    CELLS_FIELD_NUMBER: _ClassVar[int]
    cells: _containers.RepeatedCompositeFieldContainer[Cell]
    def __init__(self, cells: _Optional[_Iterable[_Union[Cell, _Mapping]]] = ...) -> None: ...

class Table(_message.Message):
    __slots__ = ("columns", "rows")
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    columns: _containers.RepeatedScalarFieldContainer[str]
    rows: _containers.RepeatedCompositeFieldContainer[Row]
    def __init__(self, columns: _Optional[_Iterable[str]] = ..., rows: _Optional[_Iterable[_Union[Row, _Mapping]]] = ...) -> None: ...

class PredictRequest(_message.Message):
    __slots__ = ("table",)
    TABLE_FIELD_NUMBER: _ClassVar[int]
    table: Table
    def __init__(self, table: _Optional[_Union[Table, _Mapping]] = ...) -> None: ...

class PredictReply(_message.Message):
    __slots__ = ("version", "predictions")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PREDICTIONS_FIELD_NUMBER: _ClassVar[int]
    version: str
    predictions: _containers.RepeatedCompositeFieldContainer[Prediction]
    def __init__(self, version: _Optional[str] = ..., predictions: _Optional[_Iterable[_Union[Prediction, _Mapping]]] = ...) -> None: ...

class Prediction(_message.Message):
    __slots__ = ("component", "probabilities")
    COMPONENT_FIELD_NUMBER: _ClassVar[int]
    PROBABILITIES_FIELD_NUMBER: _ClassVar[int]
    component: int
    probabilities: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, component: _Optional[int] = ..., probabilities: _Optional[_Iterable[float]] = ...) -> None: ...

class ScoreRequest(_message.Message):
    __slots__ = ("table",)
    TABLE_FIELD_NUMBER: _ClassVar[int]
    table: Table
    def __init__(self, table: _Optional[_Union[Table, _Mapping]] = ...) -> None: ...

class ScoreReply(_message.Message):
    __slots__ = ("version", "scores", "threshold")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    version: str
    scores: _containers.RepeatedCompositeFieldContainer[Score]
    threshold: float
    def __init__(self, version: _Optional[str] = ..., scores: _Optional[_Iterable[_Union[Score, _Mapping]]] = ..., threshold: _Optional[float] = ...) -> None: ...

class Score(_message.Message):
    __slots__ = ("log_density", "anomaly")
    LOG_DENSITY_FIELD_NUMBER: _ClassVar[int]
    ANOMALY_FIELD_NUMBER: _ClassVar[int]
    log_density: float
    anomaly: bool
    def __init__(self, log_density: _Optional[float] = ..., anomaly: _Optional[bool] = ...) -> None: ...

class ImputeRequest(_message.Message):
    __slots__ = ("table", "draws", "seed")
    TABLE_FIELD_NUMBER: _ClassVar[int]
    DRAWS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    table: Table
    draws: int
    seed: int
    def __init__(self, table: _Optional[_Union[Table, _Mapping]] = ..., draws: _Optional[int] = ..., seed: _Optional[int] = ...) -> None: ...

class ImputeReply(_message.Message):
    __slots__ = ("version", "columns", "rows")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    version: str
    columns: _containers.RepeatedScalarFieldContainer[str]
    rows: _containers.RepeatedCompositeFieldContainer[ImputedRow]
    def __init__(self, version: _Optional[str] = ..., columns: _Optional[_Iterable[str]] = ..., rows: _Optional[_Iterable[_Union[ImputedRow, _Mapping]]] = ...) -> None: ...

class ImputedRow(_message.Message):
    __slots__ = ("cells", "filled", "probabilities", "draws")
    CELLS_FIELD_NUMBER: _ClassVar[int]
    FILLED_FIELD_NUMBER: _ClassVar[int]
    PROBABILITIES_FIELD_NUMBER: _ClassVar[int]
    DRAWS_FIELD_NUMBER: _ClassVar[int]
    cells: _containers.RepeatedCompositeFieldContainer[Cell]
    filled: _containers.RepeatedCompositeFieldContainer[Filled]
    probabilities: _containers.RepeatedScalarFieldContainer[float]
    draws: _containers.RepeatedCompositeFieldContainer[Row]
    def __init__(self, cells: _Optional[_Iterable[_Union[Cell, _Mapping]]] = ..., filled: _Optional[_Iterable[_Union[Filled, _Mapping]]] = ..., probabilities: _Optional[_Iterable[float]] = ..., draws: _Optional[_Iterable[_Union[Row, _Mapping]]] = ...) -> None: ...

class Filled(_message.Message):
    __slots__ = ("column", "standard_deviation", "probability")
    COLUMN_FIELD_NUMBER: _ClassVar[int]
    STANDARD_DEVIATION_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    column: str
    standard_deviation: float
    probability: float
    def __init__(self, column: _Optional[str] = ..., standard_deviation: _Optional[float] = ..., probability: _Optional[float] = ...) -> None: ...

class SampleRequest(_message.Message):
    __slots__ = ("n", "seed")
    N_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    n: int
    seed: int
    def __init__(self, n: _Optional[int] = ..., seed: _Optional[int] = ...) -> None: ...

class SampleReply(_message.Message):
    __slots__ = ("version", "columns", "rows", "components")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    COMPONENTS_FIELD_NUMBER: _ClassVar[int]
    version: str
    columns: _containers.RepeatedScalarFieldContainer[str]
    rows: _containers.RepeatedCompositeFieldContainer[Row]
    components: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, version: _Optional[str] = ..., columns: _Optional[_Iterable[str]] = ..., rows: _Optional[_Iterable[_Union[Row, _Mapping]]] = ..., components: _Optional[_Iterable[int]] = ...) -> None: ...

class DescribeRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DescribeReply(_message.Message):
    __slots__ = ("version", "family", "components", "covariance", "columns", "threshold", "refused_version", "refused_reason")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    FAMILY_FIELD_NUMBER: _ClassVar[int]
    COMPONENTS_FIELD_NUMBER: _ClassVar[int]
    COVARIANCE_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    REFUSED_VERSION_FIELD_NUMBER: _ClassVar[int]
    REFUSED_REASON_FIELD_NUMBER: _ClassVar[int]
    version: str
    family: str
    components: int
    covariance: str
    columns: _containers.RepeatedCompositeFieldContainer[Column]
    threshold: float
    refused_version: str
    refused_reason: str
    def __init__(self, version: _Optional[str] = ..., family: _Optional[str] = ..., components: _Optional[int] = ..., covariance: _Optional[str] = ..., columns: _Optional[_Iterable[_Union[Column, _Mapping]]] = ..., threshold: _Optional[float] = ..., refused_version: _Optional[str] = ..., refused_reason: _Optional[str] = ...) -> None: ...

class Column(_message.Message):
    __slots__ = ("name", "kind", "levels", "upper")
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    LEVELS_FIELD_NUMBER: _ClassVar[int]
    UPPER_FIELD_NUMBER: _ClassVar[int]
    name: str
    kind: str
    levels: _containers.RepeatedScalarFieldContainer[str]
    upper: float
    def __init__(self, name: _Optional[str] = ..., kind: _Optional[str] = ..., levels: _Optional[_Iterable[str]] = ..., upper: _Optional[float] = ...) -> None: ...
