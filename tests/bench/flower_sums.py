"""Secure sums of Flower's own SecAgg+ in memory: its workflow and its mod, handler by handler, in this process.

Charged to tenants: `secaggplus_mod` on each of the four messages of a sum (keys, shares, masks, release of shares). To the server:
`SecAggPlusWorkflow` but for what the nodes do. Left out, in Flower's favour: the network, Flower's wire format (NumPy's bytes of the
masked vectors are in), copies of messages, the local fit, quantisation and its inverse, and the strategy's aggregation. Keys are made
anew for every sum, as Flower does.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import patch

import numpy as np
from flwr.app import ConfigRecord, Context, Error, Message, RecordDict
from flwr.common import Code, FitIns, FitRes, Parameters, Status, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.common.secure_aggregation.secaggplus_constants import RECORD_KEY_CONFIGS, Key, Stage
from flwr.compat.common.recorddict_compat import fitres_to_recorddict, parameters_to_arrayrecord
from flwr.server.compat.legacy_context import LegacyContext
from flwr.server.strategy import FedAvg
from flwr.server.workflow.constant import MAIN_CONFIGS_RECORD, MAIN_PARAMS_RECORD
from flwr.server.workflow.constant import Key as WorkflowKey
from flwr.server.workflow.secure_aggregation import SecAggPlusWorkflow
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

from fed_em_protocols.terms import Trust, share_threshold_of
from tests.bench.cpu_ledger import NOBODY, SERVER, TENANTS, CpuLedger
from tests.bench.figures import Spread, SumFigures
from tests.bench.our_sums import LOST_UPLOADS, silent_of
from tests.bench.shapes import COMPLETE

# The packages export functions of the same names as these modules.
_MOD = importlib.import_module("flwr.client.mod.secure_aggregation.secaggplus_mod")
_WORKFLOW = importlib.import_module("flwr.server.workflow.secure_aggregation.secaggplus_workflow")

SYSTEM, TRUST = "Flower SecAgg+", Trust.SEMI_HONEST.label

_WEIGHT = 1000
_LOST = 1
# Flower quantises to 2^22 steps of a range of 16.
_TOLERANCE = 16 / 2**22


class _Nodes(Grid):
    """Nodes that are handlers in this process; those in `silent` do not send their masked vectors."""

    def __init__(self, vectors: np.ndarray[Any, np.dtype[np.float64]], silent: int, ledger: CpuLedger) -> None:
        self._ledger = ledger
        self._vectors = dict(enumerate(vectors, start=1))
        self._silent = frozenset(range(1, 1 + silent))
        self._contexts = {node: Context(1, node, {}, RecordDict(), {}) for node in self._vectors}

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        """Answer each message."""
        return [self._answer(message) for message in messages]

    def _answer(self, message: Message) -> Message:
        node = message.metadata.dst_node_id
        with self._ledger.charge(NOBODY):
            # The mod changes what it is given, and the workflow sends the same record to all.
            config = ConfigRecord(dict(message.content.config_records[RECORD_KEY_CONFIGS]))
            stage = config[Key.STAGE]
            delivered = Message(RecordDict({RECORD_KEY_CONFIGS: config}), dst_node_id=node, message_type="train")
            with self._ledger.charge(TENANTS):
                reply = _MOD.secaggplus_mod(delivered, self._contexts[node], self._fit)
            if stage == Stage.COLLECT_MASKED_VECTORS and node in self._silent:
                return Message(Error(_LOST, "lost"), reply_to=message)
            return cast(Message, reply)

    def _fit(self, message: Message, context: Context) -> Message:
        with self._ledger.charge(NOBODY):
            parameters = ndarrays_to_parameters([self._vectors[context.node_id]])
            fitted = FitRes(Status(Code.OK, ""), parameters, _WEIGHT, {})
            return Message(fitres_to_recorddict(fitted, keep_input=False), reply_to=message)

    def get_node_ids(self) -> Iterable[int]:
        """All nodes."""
        return self._vectors

    def set_run(self, run: object) -> None:
        """Nothing of a run is needed."""

    @property
    def run(self) -> Any:
        """There is none."""
        raise NotImplementedError

    create_message = push_messages = pull_messages = cast(Any, run)


class _OneSum(FedAvg):
    """Samples all nodes once, and keeps the average."""

    def __init__(self, nodes: Iterable[int]) -> None:
        super().__init__()
        self._nodes = tuple(nodes)
        self.average: Parameters | None = None

    def configure_fit(self, server_round: int, parameters: Parameters, client_manager: object) -> Any:
        """Every node, nothing to fit."""
        return [(SimpleNamespace(node_id=node), FitIns(Parameters([], ""), {})) for node in self._nodes]

    def aggregate_fit(self, server_round: int, results: Any, failures: object) -> Any:
        """The workflow has put the average in every result."""
        self.average = results[0][1].parameters
        return None, {}


def graph_name(shares: int) -> str:
    """Who masks with whom, in words."""
    return f"k = {shares - 1}" if shares else COMPLETE


def measure_flower(n: int, length: int, dropout: str, shares: int, times: int) -> SumFigures:
    """Sums of SecAgg+ with `shares` shares a node (0: the complete graph, with the threshold that we use)."""
    threshold = 2 * shares // 3 if shares else share_threshold_of(n, 0, Trust.MALICIOUS_SERVER)
    silent = len(silent_of(n, 10)) if dropout == LOST_UPLOADS else 0
    costs = []
    for _ in range(times):
        workflow = SecAggPlusWorkflow(shares or 1.0, threshold, max_weight=float(_WEIGHT))
        costs.append(_sum(workflow, n, length, silent))
    return SumFigures(
        system=SYSTEM,
        trust=TRUST,
        graph=graph_name(shares),
        tenants=n,
        length=length,
        dropout=dropout,
        tenant_cpu=Spread.of([tenants / n for tenants, _ in costs]),
        server_cpu=Spread.of([server for _, server in costs]),
    )


def _sum(workflow: SecAggPlusWorkflow, n: int, length: int, silent: int) -> tuple[float, float]:
    """Processor time of all tenants together, and of the server; the average is checked."""
    vectors = np.random.default_rng(0).uniform(-8.0, 8.0, (n, length))
    ledger = CpuLedger()
    nodes, strategy = _Nodes(vectors, silent, ledger), _OneSum(range(1, n + 1))
    context = LegacyContext(Context(1, 0, {}, RecordDict(), {}), strategy=strategy)
    context.state.config_records[MAIN_CONFIGS_RECORD] = ConfigRecord({WorkflowKey.CURRENT_ROUND: 1})
    context.state.array_records[MAIN_PARAMS_RECORD] = parameters_to_arrayrecord(Parameters([], ""), keep_input=True)
    with _a_task(), _uncharged(ledger), ledger.charge(SERVER):
        workflow(nodes, context)
    assert strategy.average is not None, "the workflow has halted"
    (average,) = parameters_to_ndarrays(strategy.average)
    assert np.allclose(average, vectors[silent:].mean(axis=0), atol=_TOLERANCE)
    return ledger.take(TENANTS).cpu, ledger.take(SERVER).cpu


# Between the numbers of a fit and the integers that are masked, on either side.
_ENCODING = (
    (_MOD, "parameters_to_ndarrays"),
    (_MOD, "parameters_multiply"),
    (_MOD, "quantize"),
    (_WORKFLOW, "dequantize"),
    (_WORKFLOW, "ndarrays_to_parameters"),
)


@contextmanager
def _uncharged(ledger: CpuLedger) -> Iterator[None]:
    """Charge nobody for encoding and decoding."""

    def free(function: Callable[..., object]) -> Callable[..., object]:
        def called(*arguments: object) -> object:
            with ledger.charge(NOBODY):
                return function(*arguments)

        return called

    with ExitStack() as stack:
        for module, name in _ENCODING:
            stack.enter_context(patch.object(module, name, free(getattr(module, name))))
        yield


@contextmanager
def _a_task() -> Iterator[None]:
    """Let this process pass for one that Flower runs a task in, without its log of every stage."""
    logger = logging.getLogger("flwr")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with patch.multiple(TaskIdentity, _task_id=1, _run_id=1, _node_id=1):
            yield
    finally:
        logger.setLevel(level)
