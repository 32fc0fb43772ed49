"""Sagas and steps as registered functions whose arguments and results are typed data."""

from __future__ import annotations

import functools
import hashlib
import inspect
import typing
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Concatenate, Generic, Literal, ParamSpec, TypeVar

import msgspec

from kilonova.base.clock import Clock
from kilonova.base.ids import Ids
from kilonova.base.registry import Registry
from kilonova.db.database import Tx
from kilonova.domain.operations import Operation
from kilonova.messaging.bus import Bus
from kilonova.workflows.engine.errors import ErrorInfo

P = ParamSpec("P")
R = TypeVar("R")
W = TypeVar("W")

Where = Literal["own", "api", "cell"]

_encoder = msgspec.json.Encoder(order="deterministic")
_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}


class Asked(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who asked for a saga (never a token)."""

    request_id: str = ""
    global_request_id: str = ""
    user_id: str = ""
    project_id: str = ""
    roles: tuple[str, ...] = ()


class StepEnv(Generic[W]):
    """What a step may use.

    ``world`` is what the composition gave the runner (clients, stores, …). ``ids`` draws the same
    identifiers at each repetition of the step, and the step's undo draws them again. ``error`` is
    set during unwinding: why the saga (or its part) failed. ``again`` is False while it is certain
    that the step was never begun before, so that nothing can be there of an earlier run. ``args``
    are the saga's own arguments, as JSON.
    """

    __slots__ = (
        "again",
        "args",
        "asked",
        "bus",
        "cell",
        "clock",
        "epoch",
        "error",
        "ids",
        "saga_id",
        "saga_name",
        "server_id",
        "settings",
        "step",
        "world",
    )

    def __init__(
        self,
        *,
        world: W,
        settings: Any,
        clock: Clock,
        ids: Ids,
        bus: Bus | None,
        asked: Asked,
        saga_id: str,
        saga_name: str,
        step: str,
        epoch: int,
        server_id: str | None,
        cell: str | None,
        error: ErrorInfo | None = None,
        again: bool = True,
        args: str = "[]",
    ) -> None:
        self.args = args
        self.world = world
        self.settings = settings
        self.clock = clock
        self.ids = ids
        self.bus = bus
        self.asked = asked
        self.saga_id = saga_id
        self.saga_name = saga_name
        self.step = step
        self.epoch = epoch
        self.server_id = server_id
        self.cell = cell
        self.error = error
        self.again = again


class Step(Generic[R]):
    """A registered step: made by ``transaction`` or ``remote``. Calling it calls the function."""

    def __init__(
        self,
        fn: Callable[..., Any],
        *,
        name: str,
        where: Where | None,
        seconds: float,
        formerly: tuple[str, ...],
    ) -> None:
        self.fn = fn
        self.name = name
        self.where = where
        self.seconds = seconds
        self.formerly = formerly
        self._types: Types | None = None
        self.__doc__ = fn.__doc__
        for spelling in (name, *formerly):
            STEPS.add(spelling, self)

    def __repr__(self) -> str:
        return f"Step({self.name})"

    def __call__(self, *args: Any) -> Any:
        return self.fn(*args)

    @property
    def types(self) -> Types:
        """The types of its arguments and result."""
        if self._types is None:
            self._types = Types(self.fn, skip=1 if self.where is None else 2)
        return self._types


class Types:
    """Argument and result types of a function, read from its annotations."""

    def __init__(self, fn: Callable[..., Any], *, skip: int) -> None:
        hints = typing.get_type_hints(fn)
        names = list(inspect.signature(fn).parameters)[skip:]
        missing = [n for n in (*names, "return") if n not in hints]
        if missing:
            raise TypeError(f"{fn.__qualname__} lacks annotations for {', '.join(missing)}")
        self.args: tuple[Any, ...] = tuple(hints[n] for n in names)
        self.result: Any = hints["return"]

    def decode_args(self, text: str) -> tuple[Any, ...]:
        """Arguments from their journal form; fewer than declared leaves the defaults."""
        count = len(msgspec.json.decode(text, type=list[msgspec.Raw]))
        if not count:
            return ()
        kind: Any = tuple.__class_getitem__(self.args[:count])
        return typing.cast(tuple[Any, ...], decode(text, kind))


STEPS: Registry[Step[Any]] = Registry("step")


def transaction(
    *, db: Where = "own", name: str = "", formerly: tuple[str, ...] = ()
) -> Callable[[Callable[Concatenate[Tx, Any, P], R]], Step[R]]:
    """A step that is one transaction: ``def step(tx, env, *args) -> result``.

    ``db`` says where it runs: the saga's own database, the API database, or the cell the saga
    stands in (``s.cell``). Its effect and its memory are committed together: exactly once.
    """

    def wrap(fn: Callable[Concatenate[Tx, Any, P], R]) -> Step[R]:
        spelled = name or fn.__name__
        return Step(fn, name=spelled, where=db, seconds=0, formerly=formerly)

    return wrap


def remote(
    *, seconds: float = 120, name: str = "", formerly: tuple[str, ...] = ()
) -> Callable[[Callable[Concatenate[Any, P], Awaitable[R]]], Step[R]]:
    """A step that talks to somebody else: ``async def step(env, *args) -> result``.

    It may run more than once and its undo may run without it: take ids from ``env.ids`` and treat
    *is there already* and *is gone already* as success. ``seconds`` bounds one run.
    """

    def wrap(fn: Callable[Concatenate[Any, P], Awaitable[R]]) -> Step[R]:
        spelled = name or fn.__name__
        return Step(fn, name=spelled, where=None, seconds=seconds, formerly=formerly)

    return wrap


class Undo:
    """An undo with arguments of its own: ``undo=Undo(DESTROY, Destroy(guest))``.

    Without it an undo gets the arguments of the step. ``host`` is for operations outside ``on``.
    ``even_if_down`` counts an operation as done when the host's agent is dead: what is left there
    must be found by somebody else when the host returns.
    """

    def __init__(
        self,
        what: Step[Any] | Operation[Any, Any],
        *args: Any,
        host: str = "",
        even_if_down: bool = False,
    ) -> None:
        self.what = what
        self.args = args
        self.host = host
        self.even_if_down = even_if_down


Undoing = Step[Any] | Operation[Any, Any] | Undo


class SagaType(msgspec.Struct, frozen=True):
    """A registered saga. See ``saga``."""

    name: str
    fn: Callable[..., Awaitable[Any]]
    action: str
    notify: str
    forward: bool
    failed: Step[Any] | None
    formerly: tuple[str, ...]

    def types(self) -> Types:
        """The types of its arguments (after ``s``) and result."""
        return _saga_types(self.fn)


@functools.cache
def _saga_types(fn: Callable[..., Any]) -> Types:
    return Types(fn, skip=1)


SAGAS: Registry[SagaType] = Registry("saga")

F = TypeVar("F", bound=Callable[..., Awaitable[Any]])


def saga(
    name: str,
    *,
    action: str = "",
    notify: str = "",
    forward: bool = False,
    failed: Step[Any] | None = None,
    formerly: tuple[str, ...] = (),
) -> Callable[[F], F]:
    """Register ``async def fn(s, *args)`` as the saga of that name.

    ``action`` and ``notify`` name the instance action and the notification. ``forward`` is for work
    that cannot be taken back (delete): a failing step is tried again with back-off, then the saga
    is stuck; it is never unwound and takes no cancel. ``failed`` is a step run last in the
    unwinding, with the saga's arguments; ``env.error`` tells it why (type ``Cancelled`` when asked
    to stop).
    """

    def wrap(fn: F) -> F:
        made = SagaType(name, fn, action, notify, forward, failed, formerly)
        for spelling in (name, *formerly):
            SAGAS.add(spelling, made)
        return fn

    return wrap


def encode(value: Any) -> str:
    """A value as the journal keeps it: JSON text, equal values giving equal text."""
    return _encoder.encode(value).decode()


def decode(text: str | None, kind: Any) -> Any:
    """A value from its journal form; msgspec.ValidationError if it does not fit the type."""
    if text is None:
        return None
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.json.Decoder(kind)
    return decoder.decode(text)


def fingerprint(args: Sequence[Any]) -> str:
    """A short hash of arguments, to notice a replay that asks something else."""
    return hashlib.blake2b(_encoder.encode(list(args)), digest_size=12).hexdigest()
