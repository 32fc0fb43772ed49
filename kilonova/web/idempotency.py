"""``Idempotency-Key``: the same POST twice has its effect once and the same answer twice."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import msgspec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from starlette.responses import Response

from kilonova.base.aio import backoff
from kilonova.base.clock import Clock
from kilonova.base.errors import BadRequest, Conflict, Fault
from kilonova.base.ids import SeededIds
from kilonova.domain.claims import Begun, Fresh, InProgress, Mismatch, Stored
from kilonova.web.call import Call, Caller
from kilonova.web.render import Rendered

_KEY = re.compile(r"[\x21-\x7e]{1,255}")
LEASE = 15.0
_WAIT = 20.0
_POLL = 0.05
_LONGEST_POLL = 0.5

Scope = tuple[str, str, str, str]


class IdempotencyStore(Protocol):
    """What remembers keys and answers.

    Keys are opaque words of at most 64 characters; answers are opaque bytes, sealed so that only
    who knows the caller's ``Idempotency-Key`` can read them (they may hold passwords).
    """

    lease: float
    """Seconds a claim holds that is not renewed: then its process is taken for dead."""

    async def begin(self, key: str, fingerprint: str) -> Begun:
        """Claim ``key`` for the request with that fingerprint, or say what became of it."""

    async def renew(self, key: str) -> None:
        """The work on the claimed key goes on: hold it for another lease."""

    async def finish(self, key: str, reply: bytes) -> None:
        """Remember the answer of the claimed key."""

    async def release(self, key: str) -> None:
        """Give the claim back: the request failed and may be tried again."""


class _Row(msgspec.Struct):
    fingerprint: str
    until: float
    seed: str = ""
    reply: bytes | None = None


class MemoryIdempotencyStore:
    """Keys of one process; answers are kept ``keep`` seconds, claims ``lease`` unless renewed."""

    def __init__(
        self, clock: Clock, *, keep: float = 86400.0, lease: float = LEASE, size: int = 10_000
    ) -> None:
        self._clock = clock
        self._keep = keep
        self.lease = lease
        self._size = size
        self._rows: dict[str, _Row] = {}

    async def begin(self, key: str, fingerprint: str) -> Begun:
        """See `IdempotencyStore.begin`."""
        now = self._clock.monotonic()
        row = self._rows.get(key)
        if row is not None and row.until > now:
            if row.fingerprint != fingerprint:
                return Mismatch()
            return InProgress() if row.reply is None else Stored(row.reply)
        seed = ""
        if row is not None:
            seed = row.seed if row.reply is None else str(now)
            del self._rows[key]
        if len(self._rows) >= self._size:
            self._prune(now)
        self._rows[key] = _Row(fingerprint, now + self.lease, seed)
        return Fresh(seed)

    async def renew(self, key: str) -> None:
        """See `IdempotencyStore.renew`."""
        row = self._rows.get(key)
        if row is not None and row.reply is None:
            row.until = self._clock.monotonic() + self.lease

    async def finish(self, key: str, reply: bytes) -> None:
        """See `IdempotencyStore.finish`."""
        row = self._rows.get(key)
        if row is not None:
            row.reply = reply
            row.until = self._clock.monotonic() + self._keep

    async def release(self, key: str) -> None:
        """See `IdempotencyStore.release`."""
        row = self._rows.get(key)
        if row is not None and row.reply is None:
            row.until = 0.0

    def _prune(self, now: float) -> None:
        self._rows = {key: row for key, row in self._rows.items() if row.until > now}
        while len(self._rows) >= self._size:
            self._rows.pop(next(iter(self._rows)))


def scope_of(service: str, caller: Caller, key: str) -> Scope:
    """The seed of one key: the service, the caller's project and user, and the key itself.

    BadRequest unless the key is 1–255 visible ASCII characters.
    """
    if not _KEY.fullmatch(key):
        raise BadRequest("The header Idempotency-Key must be 1 to 255 visible ASCII characters.")
    return (service, caller.project_id or "", caller.user_id, key)


def _digest(*parts: str | bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(b"%d:" % len(data))
        digest.update(data)
    return digest.hexdigest()


def seal(reply: Rendered, scope: Scope) -> bytes:
    """The answer as bytes that are readable only with the scope's key (AES-256-GCM)."""
    nonce = os.urandom(12)
    plain = msgspec.msgpack.encode(reply)
    return nonce + AESGCM(bytes.fromhex(_digest("seal", *scope))).encrypt(nonce, plain, None)


def unseal(sealed: bytes, scope: Scope) -> Rendered:
    """The answer `seal` was given."""
    cipher = AESGCM(bytes.fromhex(_digest("seal", *scope)))
    plain = cipher.decrypt(sealed[:12], sealed[12:], None)
    return msgspec.msgpack.decode(plain, type=Rendered)


async def once(
    store: IdempotencyStore,
    scope: Scope,
    call: Call[Any],
    clock: Clock,
    run: Callable[[], Awaitable[Rendered | Response]],
) -> Rendered | Response:
    """The answer of ``run``, or the stored one if this request was answered before.

    An equal request under way is waited for (20 s, then Conflict); one whose process died holds
    its claim for less than that. Only answers below 400 are kept: an error had no effect and may
    be tried again under the same key. ``call.ids`` become seeded, so that a repetition after a
    crash draws the ids of the first try.
    """
    key = _digest("row", *scope)
    path = call.request.scope["path"]
    version = str(call.version)
    fingerprint = _digest(call.request.method, path, call.query.raw, version, call.raw_body)
    state = await _claim(store, key, fingerprint, clock)
    if isinstance(state, Stored):
        reply = unseal(state.reply, scope)
        reply.headers = [*reply.headers, (b"idempotency-replayed", b"true")]
        return reply
    call.ids = SeededIds(*scope, state.seed)
    renewing = asyncio.create_task(_renew(store, key, clock))
    try:
        result = await run()
    except BaseException:
        await asyncio.shield(store.release(key))
        raise
    finally:
        renewing.cancel()
    if isinstance(result, Response) or result.status >= 400:
        await store.release(key)
        return result
    await asyncio.shield(store.finish(key, seal(result, scope)))
    return result


async def _renew(store: IdempotencyStore, key: str, clock: Clock) -> None:
    while True:
        await clock.sleep(store.lease / 3)
        # A database that is away now may be back for the next try, well before the claim ends.
        with contextlib.suppress(Fault):
            await store.renew(key)


async def _claim(
    store: IdempotencyStore, key: str, fingerprint: str, clock: Clock
) -> Fresh | Stored:
    end = clock.monotonic() + _WAIT
    pauses = backoff(_POLL, most=_LONGEST_POLL)
    while True:
        state = await store.begin(key, fingerprint)
        if isinstance(state, (Fresh, Stored)):
            return state
        if isinstance(state, Mismatch):
            raise Conflict(
                "This Idempotency-Key was used before for a different request; use a new key."
            )
        if clock.monotonic() >= end:
            raise Conflict(
                "A request with this Idempotency-Key is still being worked on; try again later.",
                headers={"Retry-After": "5"},
            )
        await clock.sleep(next(pauses))
