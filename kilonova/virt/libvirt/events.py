"""What libvirt tells of its domains by itself, brought from its thread into the event loop."""

from __future__ import annotations

import contextlib
import enum
import threading
from collections.abc import Callable
from typing import Any

import libvirt
import msgspec

_lock = threading.Lock()
_thread: threading.Thread | None = None


class Kind(enum.Enum):
    """What happened to a domain."""

    STATE = "it started, stopped, was paused or goes on"
    RESET = "it restarted itself"
    UNPLUGGED = "a device has gone"
    STAYED = "a device did not go"


class Event(msgspec.Struct, frozen=True):
    """``server_id``: the domain's UUID. ``detail``: the alias of a device."""

    server_id: str
    kind: Kind
    detail: str = ""


Tell = Callable[[Event], None]


def run() -> None:
    """Begin, once in a process, the thread that libvirt's events come through.

    It is none of asyncio's: libvirt has one loop for the life of a process, which may see many.
    """
    global _thread  # noqa: PLW0603
    with _lock:
        if _thread is None:
            libvirt.virEventRegisterDefaultImpl()
            # Whatever goes wrong is raised, too; here it would be written to stderr.
            libvirt.registerErrorHandler(lambda _context, _error: None, None)
            _thread = threading.Thread(target=_turn, name="libvirt events", daemon=True)
            _thread.start()


def _turn() -> None:
    while True:
        libvirt.virEventRunDefaultImpl()


def subscribe(connection: Any, tell: Tell) -> list[int]:
    """Have ``tell`` called (in libvirt's thread) for every event; the numbers to end it with."""

    def state(_connection: Any, domain: Any, _event: int, _detail: int, _opaque: Any) -> None:
        tell(Event(domain.UUIDString(), Kind.STATE))

    def reset(_connection: Any, domain: Any, _opaque: Any) -> None:
        tell(Event(domain.UUIDString(), Kind.RESET))

    def unplugged(_connection: Any, domain: Any, alias: str, _opaque: Any) -> None:
        tell(Event(domain.UUIDString(), Kind.UNPLUGGED, alias))

    def stayed(_connection: Any, domain: Any, alias: str, _opaque: Any) -> None:
        tell(Event(domain.UUIDString(), Kind.STAYED, alias))

    wanted = {
        libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE: state,
        libvirt.VIR_DOMAIN_EVENT_ID_REBOOT: reset,
        libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED: unplugged,
        libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED: stayed,
    }
    return [
        connection.domainEventRegisterAny(None, number, heard, None)
        for number, heard in wanted.items()
    ]


def unsubscribe(connection: Any, numbers: list[int]) -> None:
    """Hear no more."""
    for number in numbers:
        with contextlib.suppress(libvirt.libvirtError):
            connection.domainEventDeregisterAny(number)
