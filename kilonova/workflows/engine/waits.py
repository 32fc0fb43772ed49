"""Waiting for signals: rows anybody may write, looked at together for all sagas that wait."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec

from kilonova.base.clock import Clock
from kilonova.base.ids import Ids
from kilonova.db.database import Database, Tx
from kilonova.workflows.engine import journal
from kilonova.workflows.engine.journal import SignalRow
from kilonova.workflows.engine.steps import encode


class Wanted(msgspec.Struct, frozen=True):
    """Signals to wait for: all ``names`` of ``subject``; one of ``bad`` fails the wait at once."""

    subject: str
    names: tuple[str, ...]
    bad: tuple[str, ...] = ()

    def __str__(self) -> str:
        return ", ".join(self.names)


class Seen(msgspec.Struct, frozen=True):
    """What is there: payloads (JSON text) by name once all are, or the name of a bad one."""

    payloads: dict[str, str] | None = None
    bad: str = ""


def signal(tx: Tx, subject: str, name: str, payload: Any = None, *, ids: Ids, clock: Clock) -> None:
    """Write a signal in the caller's transaction (cast a wake-up after); payload is JSON-able."""
    row = SignalRow(subject, name, encode(payload), clock.now().timestamp())
    journal.put_signal(tx, ids.uuid(), row)


class Watch:
    """Reads the signals of all subjects waited for with one query per database and moment."""

    def __init__(self, databases: Mapping[str, Database], clock: Clock, poll: float) -> None:
        self._databases = databases
        self._clock = clock
        self._poll = poll
        self._wanted: dict[str, dict[str, float]] = {}
        self._seen: dict[str, list[SignalRow]] = {}
        self._read_at: dict[str, float] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Have every waiting saga look again now."""
        self._read_at.clear()
        woken, self._woken = self._woken, asyncio.Event()
        woken.set()

    async def pause(self, seconds: float) -> None:
        """Wait that long or until somebody wakes the watch."""
        woken = asyncio.ensure_future(self._woken.wait())
        slept = asyncio.ensure_future(self._clock.sleep(seconds))
        try:
            await asyncio.wait((woken, slept), return_when=asyncio.FIRST_COMPLETED)
        finally:
            woken.cancel()
            slept.cancel()

    async def look(self, place: str, wanted: Wanted, since: float) -> Seen:
        """What is there of the wanted signals not older than ``since``."""
        subjects = self._wanted.setdefault(place, {})
        new = subjects.get(wanted.subject, since + 1) > since
        if new:
            subjects[wanted.subject] = since
        async with self._locks.setdefault(place, asyncio.Lock()):
            fresh = self._clock.monotonic() - self._read_at.get(place, -1e9) < self._poll / 2
            if new or not fresh:
                self._read_at[place] = self._clock.monotonic()
                self._seen[place] = await self._databases[place].read(
                    journal.signals, list(subjects), min(subjects.values())
                )
        found = {
            row.name: row.payload
            for row in self._seen[place]
            if row.subject == wanted.subject and row.created_at >= since
        }
        for name in wanted.bad:
            if name in found:
                return Seen(bad=name)
        if all(name in found for name in wanted.names):
            return Seen({name: found[name] for name in wanted.names})
        return Seen()

    def forget(self, place: str, subject: str) -> None:
        """Nobody waits for that subject any more."""
        self._wanted.get(place, {}).pop(subject, None)
