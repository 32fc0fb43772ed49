"""The connection to libvirtd: calls in threads with time limits, and coming back when it ended."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import libvirt

from kilonova.base import aio
from kilonova.base.clock import Clock
from kilonova.base.errors import Conflict, Fault, NotFound, Unavailable
from kilonova.virt.libvirt import events

CALL_SECONDS = 60.0
THREADS = 16
WORK, QUESTIONS = 3, 1
"""Calls at a time, together fewer than the five libvirtd takes of a client: with five under way it
hears no signs of life either. Questions never wait for work, which may take long."""
KEEPALIVE = (5, 6)
"""Seconds between signs of life, and how many may be missed until the connection is given up."""
MINIMUM = 8_000_000
MINIMUM_QEMU = 6_002_000

T = TypeVar("T")

log = logging.getLogger(__name__)


class Link:
    """A connection that is made anew when it was lost.

    ``tell`` hears events, in the event loop; ``back`` is awaited when the connection is there
    again. ``hidden`` is a path left out of what errors say.
    """

    def __init__(
        self,
        uri: str,
        *,
        clock: Clock,
        tell: events.Tell,
        back: Callable[[], Awaitable[None]],
        hidden: str,
    ) -> None:
        self.uri = uri
        self._clock = clock
        self._tell = tell
        self._back = back
        self._hidden = hidden
        self._connection: Any = None
        self._numbers: list[int] = []
        self._lost = asyncio.Event()
        self._threads: ThreadPoolExecutor | None = None
        self._gates = {False: asyncio.Semaphore(WORK), True: asyncio.Semaphore(QUESTIONS)}
        self._keeper: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Connect; Unavailable says what is missing."""
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="libvirt")
        try:
            await self._connect()
        except BaseException:
            self._threads.shutdown(wait=False)
            raise
        self._keeper = asyncio.create_task(self._keep(), name="libvirt connection")

    async def close(self) -> None:
        """Disconnect; the guests go on."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait({self._keeper})
            self._keeper = None
        if self._threads is not None:
            await self._disconnect()
            self._threads.shutdown(wait=False)
            self._threads = None

    async def call(self, work: Callable[[Any], T], *, seconds: float = CALL_SECONDS) -> T:
        """What ``work``, run in a thread with the connection, returns.

        Raises NotFound (no such domain), Conflict (not in this state), Unavailable.
        """
        return await self._call(work, seconds, question=False)

    async def ask(self, question: Callable[[Any], T]) -> T:
        """The same for what only looks, and is answered at once."""
        return await self._call(question, CALL_SECONDS, question=True)

    async def _call(self, work: Callable[[Any], T], seconds: float, *, question: bool) -> T:
        async with self._gates[question]:
            connection = self._connection
            if connection is None:
                raise Unavailable("libvirt does not answer on this host.")
            try:
                return await self._thread(lambda: work(connection), seconds)
            except libvirt.libvirtError as error:
                raise self._fault(error) from error

    async def _thread(self, work: Callable[[], T], seconds: float) -> T:
        assert self._threads is not None
        under_way = asyncio.get_running_loop().run_in_executor(self._threads, work)
        under_way.add_done_callback(_seen)
        try:
            done, _ = await asyncio.wait({under_way}, timeout=seconds)
        except asyncio.CancelledError:
            # A call cannot be taken back: who comes next must not come before its effect.
            await asyncio.wait({under_way}, timeout=seconds)
            raise
        if not done:
            raise Unavailable(f"libvirt did not answer within {seconds:g} s on this host.")
        return under_way.result()

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()

        def tell(event: events.Event) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has been closed
                loop.call_soon_threadsafe(self._tell, event)

        def lost(_connection: Any, _reason: int, _opaque: Any) -> None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._lost.set)

        def connect() -> tuple[Any, list[int]]:
            made = libvirt.open(self.uri)
            try:
                _check(made)
                made.registerCloseCallback(lost, None)
                made.setKeepAlive(*KEEPALIVE)
                return made, events.subscribe(made, tell)
            except BaseException:
                made.close()
                raise

        events.run()
        try:
            self._connection, self._numbers = await self._thread(connect, CALL_SECONDS)
        except libvirt.libvirtError as error:
            raise Unavailable(
                f"libvirt does not answer at {self.uri} ({error.get_error_message()}): start "
                "libvirtd (package libvirt-daemon-system), or set [libvirt] connection_uri."
            ) from error

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        numbers, self._numbers = self._numbers, []
        if connection is None:
            return

        def disconnect() -> None:
            events.unsubscribe(connection, numbers)
            with contextlib.suppress(libvirt.libvirtError):
                connection.unregisterCloseCallback()
            with contextlib.suppress(libvirt.libvirtError):
                connection.close()

        with contextlib.suppress(Fault):
            await self._thread(disconnect, CALL_SECONDS)

    async def _keep(self) -> None:
        while True:
            await self._lost.wait()
            self._lost.clear()
            log.warning("The connection to libvirt at %s is lost", self.uri)
            await self._disconnect()
            for pause in aio.backoff(0.2, most=5.0):
                try:
                    await self._connect()
                    break
                except Fault:
                    await self._clock.sleep(pause)
            log.info("libvirt at %s is back", self.uri)
            try:
                await self._back()
            except Fault as fault:
                log.warning("The guests were not looked at: %s", fault.message)
            except Exception:
                log.exception("The guests were not looked at")

    def _fault(self, error: libvirt.libvirtError) -> Fault:
        code = error.get_error_code()
        text = (error.get_error_message() or "no reason given").replace(self._hidden, "")
        if code == libvirt.VIR_ERR_NO_DOMAIN:
            return NotFound(f"libvirt has no such guest: {text}")
        if code == libvirt.VIR_ERR_OPERATION_INVALID:
            return Conflict(f"libvirt refused: {text}")
        return Unavailable(f"libvirt failed: {text}")


def _seen(future: asyncio.Future[Any]) -> None:
    """Take note of a failure nobody waits for any more."""
    if not future.cancelled():
        future.exception()


def _check(connection: Any) -> None:
    """Unavailable when this is no QEMU, or too old a libvirt or QEMU."""
    kind = connection.getType()
    if kind != "QEMU":
        raise Unavailable(f"[libvirt] connection_uri leads to {kind}; this driver needs QEMU.")
    for name, found, least in (
        ("libvirt", connection.getLibVersion(), MINIMUM),
        ("QEMU", connection.getVersion(), MINIMUM_QEMU),
    ):
        if found < least:
            raise Unavailable(f"{name} {shown(found)} is too old; {shown(least)} is needed.")


def shown(number: int) -> str:
    """A version as people write it (7002022 → 7.2.22)."""
    return f"{number // 1_000_000}.{number // 1_000 % 1_000}.{number % 1_000}"
