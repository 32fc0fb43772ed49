"""Asking a compute agent something at once (consoles); long work is done by sagas."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from kilonova.base.errors import Conflict, Fault, NotFound, NotSupported, Unavailable
from kilonova.context import Context
from kilonova.db.cells import Cell
from kilonova.domain.agent import topic
from kilonova.domain.operations import Operation, OperationId, OperationReply, request_of

A = TypeVar("A", bound=msgspec.Struct)
R = TypeVar("R", bound=msgspec.Struct)

_KNOWN: dict[str, type[Fault]] = {
    kind.__name__: kind for kind in (Conflict, NotFound, NotSupported, Unavailable)
}


async def ask(
    call: Context,
    cell: Cell,
    host: str,
    operation: Operation[A, R],
    server_id: str,
    args: A,
) -> R:
    """Run an operation on a host now and wait for its result.

    Raises the Fault the agent names, Unavailable when it does not answer.
    """
    identity = OperationId(call.request_id, operation.name, 0)
    request = request_of(operation, identity, server_id, args)
    reply = await call.app.bus_of(cell.id).call(
        topic(host), "operate", request, reply=OperationReply, seconds=operation.seconds
    )
    if reply.state == "done":
        return msgspec.msgpack.decode(reply.result, type=operation.result)
    if reply.state == "failed":
        raise _KNOWN.get(reply.error, Conflict)(reply.message)
    raise Unavailable(f"The host of instance {server_id} is busy; try again later.")
