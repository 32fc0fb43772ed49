"""How sagas fail: what a saga may catch, what ends its run, and errors as data in the journal."""

from __future__ import annotations

import msgspec

from kilonova.base import errors
from kilonova.base.errors import Conflict, Fault, Internal


class ErrorInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """An error as the journal keeps it. ``step`` is where it happened."""

    type: str
    message: str
    code: str = ""
    step: str = ""
    expected: bool = True


class StepFailed(Internal):
    """A step failed with something that is no Fault; ``kind`` is the class name of that."""

    def __init__(self, message: str, *, kind: str) -> None:
        super().__init__(message, code="saga.step_failed")
        self.kind = kind


class Cancelled(Fault):
    """Somebody asked the saga to stop; raised at the next step, wait or operation."""

    status = 409


class Busy(Conflict):
    """Another saga holds the server: the 409 of the API. Says which one and in which state."""

    def __init__(self, saga_id: str, name: str, state: str) -> None:
        super().__init__(
            f"The server is busy with {name} ({state}).", code="server.busy", details={"saga": name}
        )
        self.saga_id = saga_id
        self.name = name
        self.state = state


class Abandon(BaseException):
    """Ends this run of a saga, not the saga. A BaseException, so that no saga catches it."""


class Fenced(Abandon):
    """Another runner took the saga over, or its direction changed: this run may do nothing more."""


class Parked(Abandon):
    """The saga waits for its next try, or is stuck; all is written down already."""


class DatabaseDown(Abandon):
    """A database of the saga is away: the same run is taken up again when it is back."""


class NotDeterministic(Abandon):
    """The saga's code does not fit its journal; the message says where."""


def describe(error: Exception, step: str = "") -> ErrorInfo:
    """An exception as data. Text of unexpected ones is kept for operators, not for users.

    An error that was restored keeps the step at which it first happened.
    """
    step = error.__dict__.get("saga_step") or step
    if isinstance(error, StepFailed):
        return ErrorInfo(error.kind, error.message, error.code, step, expected=False)
    if isinstance(error, Fault):
        return ErrorInfo(type(error).__name__, error.message, error.code, step)
    return ErrorInfo(type(error).__name__, str(error), "saga.step_failed", step, expected=False)


def restore(info: ErrorInfo) -> Fault:
    """The exception again: the same Fault class, StepFailed for what was none."""
    made: Fault = StepFailed(info.message, kind=info.type)
    for kind in _faults(Fault) if info.expected else ():
        if kind.__name__ == info.type and kind.__init__ is Fault.__init__:
            made = kind(info.message, code=info.code)
            break
    made.__dict__["saga_step"] = info.step
    return made


def _faults(kind: type[Fault]) -> list[type[Fault]]:
    found = [kind]
    for below in kind.__subclasses__():
        found += _faults(below)
    return found


def fault_named(name: str, message: str) -> Fault:
    """The Fault class of that name with this message (an agent's failed operation)."""
    kind = getattr(errors, name, None)
    if isinstance(kind, type) and issubclass(kind, Fault):
        return kind(message)
    return StepFailed(message, kind=name or "OperationFailed")
