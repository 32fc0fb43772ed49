"""Have an agent do something and stay with it until it is done, failed, or past its deadline."""

from __future__ import annotations

from typing import Any

import msgspec

from kilonova.base.aio import backoff
from kilonova.base.errors import Timeout, Unavailable
from kilonova.domain.agent import topic
from kilonova.domain.operations import (
    Operation,
    OperationId,
    OperationReply,
    OperationRequest,
)
from kilonova.messaging.bus import NoReply, RemoteError, Undelivered
from kilonova.workflows.engine.errors import Fenced, fault_named
from kilonova.workflows.engine.kit import Kit

STALE = "Stale"
"""The error with which an agent refuses an epoch older than one it has heard."""


DOWN = "host.down"


def host_is_down(error: Exception) -> bool:
    """Whether an operation failed because the host's agent is dead."""
    return isinstance(error, Unavailable) and error.code == DOWN


async def operate(
    kit: Kit,
    host: str,
    operation: Operation[Any, Any],
    args: msgspec.Struct,
    identity: OperationId,
    server_id: str,
    started_at: float,
) -> Any:
    """The result of an operation on a host, from its first request or by joining it again.

    A request that was lost, or an agent that restarts, is asked again with the same id. Raises the
    Fault the agent reported, Unavailable when the agent is dead, Timeout when ``operation.seconds``
    since ``started_at`` have passed, Fenced when the agent heard a higher epoch.
    """
    if kit.bus is None:
        raise RuntimeError("operations on hosts need a bus")
    pauses = backoff(0.05, most=2.0)
    packed = msgspec.msgpack.encode(args)
    asked = False
    while True:
        left = started_at + operation.seconds - kit.now()
        if left <= 0:
            if asked:
                raise Timeout(
                    f"{operation.name} on {host} did not end within {operation.seconds:g} s."
                )
            # A conductor that was down all the time asks once: the work may be done.
            left = 1.0
        asked = True
        request = OperationRequest(identity, operation.name, server_id, packed, left)
        try:
            reply = await kit.bus.call(
                topic(host),
                "operate",
                request,
                reply=OperationReply,
                seconds=min(left, kit.limits.call),
            )
        except RemoteError:
            raise
        except (Undelivered, NoReply, Unavailable):
            if not await kit.alive(host):
                raise Unavailable(f"The agent on {host} does not answer.", code=DOWN) from None
            await kit.clock.sleep(min(next(pauses), max(left, 0.05)))
            continue
        if reply.state == "done":
            return msgspec.msgpack.decode(reply.result, type=operation.result)
        if reply.state == "failed" and reply.error == STALE:
            raise Fenced(f"{host} heard a higher epoch of saga {identity.saga}")
        if reply.state == "failed":
            raise fault_named(reply.error, reply.message)
        await kit.clock.sleep(0.01)
