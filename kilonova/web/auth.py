"""From ``X-Auth-Token`` to a `Caller`: the protocol, a cache, and simple authenticators."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from typing import Protocol

import msgspec

from kilonova.base.aio import Joined
from kilonova.base.clock import Clock
from kilonova.web.call import Caller
from kilonova.web.keystone import KeystoneAuthenticator, PluginTokens, TokenSupplier

__all__ = [
    "Authenticator",
    "CachingAuthenticator",
    "KeystoneAuthenticator",
    "NoAuth2",
    "PluginTokens",
    "StaticAuthenticator",
    "TokenSupplier",
    "expired",
]

LONGEST_TOKEN = 16384


class Authenticator(Protocol):
    """What knows whom a token belongs to."""

    async def authenticate(self, token: str) -> Caller | None:
        """The caller, None for a token that is not valid. Unavailable if nobody can tell."""


class StaticAuthenticator:
    """A fixed table of tokens, for tests and closed systems."""

    def __init__(self, callers: Mapping[str, Caller]) -> None:
        self._callers = dict(callers)

    async def authenticate(self, token: str) -> Caller | None:
        """The caller of the table."""
        caller = self._callers.get(token)
        return msgspec.structs.replace(caller, token=token) if caller else None


class NoAuth2:
    """Believes every token of the form ``user:project``; the user ``admin`` has every role.

    For development only (the ``noauth2`` strategy); a token without a colon names both.
    """

    async def authenticate(self, token: str) -> Caller | None:
        """The caller the token claims to be."""
        user, _, project = token.partition(":")
        if not user:
            return None
        roles: tuple[str, ...] = ("member", "reader")
        if user == "admin":
            roles = ("admin", "manager", *roles)
        return Caller(
            user_id=user,
            user_name=user,
            project_id=project or user,
            project_name=project or user,
            roles=roles,
            token=token,
        )


class CachingAuthenticator:
    """Remembers the answers of another authenticator, also the negative ones.

    Nothing is remembered beyond ``ttl`` seconds nor beyond the token's own end; equal questions
    under way at once are asked once. Tokens are kept as SHA-256 only.
    """

    def __init__(
        self,
        inner: Authenticator,
        clock: Clock,
        ttl: float = 300.0,
        *,
        negative_ttl: float = 10.0,
        size: int = 10_000,
    ) -> None:
        self._inner = inner
        self._clock = clock
        self._ttl = ttl
        self._negative_ttl = negative_ttl
        self._size = size
        self._known: OrderedDict[bytes, tuple[float, Caller | None]] = OrderedDict()
        self._asking: Joined[bytes, Caller | None] = Joined()

    async def authenticate(self, token: str) -> Caller | None:
        """The caller, from memory if it is fresh enough."""
        key = hashlib.sha256(token.encode()).digest()
        found = self._known.get(key)
        if found is not None and found[0] > self._clock.monotonic():
            caller = found[1]
        else:
            caller = await self._asking.run(key, lambda: self._ask(key, token))
        return None if caller is None or expired(caller, self._clock) else caller

    def forget(self, token: str | None = None) -> None:
        """Drop one token (a revoked one) or everything."""
        if token is None:
            self._known.clear()
        else:
            self._known.pop(hashlib.sha256(token.encode()).digest(), None)

    async def _ask(self, key: bytes, token: str) -> Caller | None:
        caller = await self._inner.authenticate(token)
        ttl = self._negative_ttl if caller is None else self._ttl
        self._known[key] = (self._clock.monotonic() + ttl, caller)
        self._known.move_to_end(key)
        while len(self._known) > self._size:
            self._known.popitem(last=False)
        return caller


def expired(caller: Caller, clock: Clock) -> bool:
    """Whether the caller's token has ended."""
    return caller.expires_at is not None and caller.expires_at <= clock.now()
