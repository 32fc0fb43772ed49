"""What a bus is: topics, methods, Structs as arguments, and errors that travel as themselves.

The bus is a nudge, not the truth: a message may be lost at any time and only latency is lost.
Arguments and results are msgspec Structs (or None); they are encoded on every bus, the in-process
one too, so that nothing works only because two parts share memory.
"""

from __future__ import annotations

import typing
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, TypeVar

import msgspec

from kilonova.base import errors

T = TypeVar("T")
Handler = Callable[[Any], Awaitable[Any]]


class Undelivered(errors.Unavailable):
    """Nobody serves the topic."""


class NoReply(errors.Timeout):
    """The topic is served, the answer did not come in time; the work may have been done."""


class RemoteError(errors.Internal):
    """The other side failed with something that is no Fault; its text is for logs."""


class Bus(Protocol):
    """A connection to the other services of one cell (or of the API level)."""

    async def call(
        self,
        topic: str,
        method: str,
        args: msgspec.Struct | None = None,
        *,
        reply: type[T],
        seconds: float = 60.0,
    ) -> T:
        """Have one server of ``topic`` run ``method``; its answer, or the Fault it raised.

        Raises Undelivered, NoReply, or RemoteError.
        """

    async def cast(self, topic: str, method: str, args: msgspec.Struct | None = None) -> None:
        """The same without an answer; never raises for an absent server."""

    async def publish(self, topic: str, payload: bytes) -> None:
        """Send a notification to whoever listens (a durable queue of that name on RabbitMQ)."""

    async def serve(self, topic: str, methods: Mapping[str, Handler]) -> Subscription:
        """Answer calls and casts to ``topic`` until the subscription is closed.

        Several servers of one topic share its messages. A handler takes one Struct (its annotation
        says which) or nothing, and returns a Struct, a builtin or None. Messages of one topic are
        handled concurrently.
        """

    async def close(self) -> None:
        """Stop serving, let handlers under way finish, and disconnect."""


class Subscription(Protocol):
    """A topic being served."""

    async def close(self) -> None:
        """Take no new message; wait for the handlers under way."""


class Envelope(msgspec.Struct, omit_defaults=True):
    """What travels: a request or a reply. ``args``/``result`` are raw msgpack."""

    method: str = ""
    args: msgspec.Raw = msgspec.Raw(b"\xc0")
    request_id: str = ""
    global_request_id: str = ""
    error: str = ""
    message: str = ""
    code: str = ""
    details: dict[str, Any] | None = None


encode = msgspec.msgpack.encode


def pack(value: Any) -> msgspec.Raw:
    """A value as raw msgpack inside an envelope."""
    return msgspec.Raw(encode(value))


def unpack(raw: msgspec.Raw, kind: type[T]) -> T:
    """The value inside an envelope, checked against its type."""
    return msgspec.msgpack.decode(raw, type=kind)


def argument_type(handler: Handler) -> Any:
    """The annotated type of a handler's only argument, or None when it takes nothing."""
    hints = typing.get_type_hints(handler)
    hints.pop("return", None)
    return next(iter(hints.values()), None)


async def answer(handler: Handler | None, method: str, kind: Any, args: msgspec.Raw) -> Envelope:
    """Run a handler and put what it gave, or the error it raised, into a reply."""
    if handler is None:
        return Envelope(error="NotSupported", message=f"This service has no method {method}.")
    try:
        value = await (handler(unpack(args, kind)) if kind is not None else handler_of(handler))
        return Envelope(args=pack(value))
    except errors.Fault as fault:
        return Envelope(
            error=type(fault).__name__,
            message=fault.message,
            code=fault.code,
            details=fault.details or None,
        )
    except Exception as error:
        return Envelope(error="RemoteError", message=f"{type(error).__name__}: {error}")


def handler_of(handler: Callable[..., Awaitable[Any]]) -> Awaitable[Any]:
    """Call a handler that takes no argument."""
    return handler()


def unwrap(reply: Envelope, kind: type[T]) -> T:
    """The result of a reply; raises the Fault it carries as its own class."""
    if reply.error:
        known = getattr(errors, reply.error, None)
        fault = known if isinstance(known, type) and issubclass(known, errors.Fault) else None
        raise (fault or RemoteError)(reply.message, code=reply.code, details=reply.details)
    return unpack(reply.args, kind)
