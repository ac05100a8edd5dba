"""Flower's ClientApp: an untrusted pipe between the Grid and a tenant's own process.

The code that a SuperNode runs comes from the other side, so nothing is entrusted to it: it passes bytes to the Unix socket that
the SuperNode's own configuration names (`--node-config 'socket="…"'`) and bytes back. Data, keys, policy and round marks belong
to the process behind the socket, `fed-em tenant CONFIG --flower-socket PATH`, which runs as a user of its own or in a container.

In Flower's simulation runtime there are no such processes: a node without a socket that is a partition of a simulated federation
plays the whole tenant, keys and rows included, inside the ClientApp. That is for simulation, never for real data.

An exception that leaves a ClientApp travels to the server with its text, which could quote a row. None leaves this one.
"""

from __future__ import annotations

from pathlib import Path

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from fed_em_client.door_frames import ask
from fed_em_protocols.wire.grid_messages import CODE, DATA, RECORD, Action, AnswerCode

app = ClientApp()


@app.query(Action.JOIN.handler)
def join(message: Message, context: Context) -> Message:
    """Give the tenant a ticket to the coordinator's own stream."""
    return _reply(Action.JOIN, message, context)


@app.query(Action.RELAY.handler)
def relay(message: Message, context: Context) -> Message:
    """Give the tenant messages of its session, and bring its answers back."""
    return _reply(Action.RELAY, message, context)


def _reply(action: Action, message: Message, context: Context) -> Message:
    try:
        code, data = _pass_on(action, message, context)
    except Exception:
        code, data = AnswerCode.FAILED, b""
    return Message(RecordDict({RECORD: ConfigRecord({CODE: int(code), DATA: data})}), reply_to=message)


def _pass_on(action: Action, message: Message, context: Context) -> tuple[AnswerCode, bytes]:
    data = message.content.config_records[RECORD][DATA]
    if not isinstance(data, bytes):
        return AnswerCode.REFUSED, b""
    path = context.node_config.get("socket")
    if path is not None:
        return ask(Path(str(path)), action, data, float(message.metadata.ttl))
    federation = context.run_config.get("federation")
    if federation and "partition-id" in context.node_config and action is Action.JOIN:
        # Only here are the tenant's own modules loaded, which take longer than all the rest.
        from fed_em_client.simulated_tenant import play_tenant  # noqa: PLC0415

        return play_tenant(Path(str(federation)), int(context.node_config["partition-id"]), data)
    return AnswerCode.NO_TENANT, b""
