"""Passwords: memory-hard hashes, compared in constant time, remembered for a while."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import secrets
from collections import OrderedDict

from kilonova.embedded.identity.settings import Cost

LONGEST = 4096
_REMEMBERED = 4096
_AT_ONCE = 2
_HASH_BYTES = 32


def hash_password(password: str, cost: Cost) -> str:
    """``scrypt$n$r$p$salt$hash`` (salt and hash in base64)."""
    salt = secrets.token_bytes(16)
    return _written(salt, _scrypt(password, salt, cost), cost)


def check_password(password: str, stored: str) -> bool:
    """Whether ``password`` made ``stored``; takes as long for a wrong one as for a right one."""
    kind, n, r, p, salt, digest = stored.split("$")
    if kind != "scrypt":
        return False
    made = _scrypt(password, base64.b64decode(salt), Cost(int(n), int(r), int(p)))
    return hmac.compare_digest(made, base64.b64decode(digest))


class Passwords:
    """Hashes and checks in threads, a few at once so that logins cannot eat all memory.

    A password that was right is remembered under an HMAC with a key of this process, so that
    services that log in often pay for the hash once.
    """

    def __init__(self, cost: Cost) -> None:
        self._cost = cost
        self._key = secrets.token_bytes(32)
        self._right: OrderedDict[bytes, None] = OrderedDict()
        self._gate = asyncio.Semaphore(_AT_ONCE)
        # A hash of no password at all: only the time to compare with it is wanted.
        self._nobody = _written(secrets.token_bytes(16), secrets.token_bytes(_HASH_BYTES), cost)

    async def hash(self, password: str) -> str:
        """A new hash of ``password``."""
        async with self._gate:
            made = await asyncio.to_thread(hash_password, password, self._cost)
        self._remember(self._mark(password, made))
        return made

    async def check(self, password: str, stored: str | None) -> bool:
        """Whether it is right; with ``stored`` None (nobody of that name) the time is the same."""
        wanted = stored or self._nobody
        mark = self._mark(password, wanted)
        if mark in self._right:
            self._right.move_to_end(mark)
            return True
        async with self._gate:
            right = await asyncio.to_thread(check_password, password, wanted)
        if not right or stored is None:
            return False
        self._remember(mark)
        return True

    def know(self, password: str, stored: str) -> None:
        """Take ``password`` for right without a hash: somebody we trust has checked it before."""
        self._remember(self._mark(password, stored))

    def _mark(self, password: str, stored: str) -> bytes:
        return hmac.digest(self._key, f"{stored}\0{password}".encode(), "sha256")

    def _remember(self, mark: bytes) -> None:
        self._right[mark] = None
        while len(self._right) > _REMEMBERED:
            self._right.popitem(last=False)


def _scrypt(password: str, salt: bytes, cost: Cost) -> bytes:
    return hashlib.scrypt(
        password.encode(),
        salt=salt,
        n=cost.n,
        r=cost.r,
        p=cost.p,
        maxmem=132 * cost.n * cost.r + 2 * 1024 * 1024,
        dklen=_HASH_BYTES,
    )


def _written(salt: bytes, digest: bytes, cost: Cost) -> str:
    return f"scrypt${cost.n}${cost.r}${cost.p}${_text(salt)}${_text(digest)}"


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
