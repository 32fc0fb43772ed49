"""Tokens: sealed claims that need no row, checked against what is true now.

A token says who, how and for what scope; roles, names and the catalog are looked up whenever it
is used. It ends with its time, with its user's or project's ``valid_from`` (password change,
disabling), with the last role in its scope, or by revocation of its audit id.
"""

from __future__ import annotations

import base64
import datetime as dt
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import msgspec

from kilonova.base.clock import Clock
from kilonova.base.ids import Ids
from kilonova.db.database import Database
from kilonova.embedded.identity import views
from kilonova.embedded.identity.keys import KeyRing
from kilonova.embedded.identity.records import EVERYWHERE
from kilonova.embedded.identity.store import rows, standing
from kilonova.embedded.identity.store.standing import Claims, Standing
from kilonova.web.call import Caller

_REMEMBERED = 5_000
_METHODS = ("password", "token", "application_credential")


class _Packed(msgspec.Struct, array_like=True):
    """Claims in their smallest form; ids of 32 hexadecimal digits as 16 bytes."""

    user_id: Any
    methods: int
    scope: Any
    kind: int
    issued_at: int
    expires_at: int
    audit_ids: list[bytes]
    application_credential_id: Any = None


class Known(msgspec.Struct):
    """A token that was looked at: its standing and the answers about it, ready to send."""

    revision: int
    standing: Standing
    caller: Caller
    body: bytes
    bare_body: bytes


class Tokens:
    """Issues tokens and says what they are worth.

    Answers are remembered together with the revision of the database they were made at; one
    small read tells whether they still hold, whichever process changed something.
    """

    def __init__(self, db: Database, keys: KeyRing, clock: Clock, ids: Ids, *, window: int) -> None:
        """``window``: seconds an expired token may still be looked at with ``allow_expired``."""
        self._db = db
        self._keys = keys
        self._clock = clock
        self._ids = ids
        self._window = window * 1_000_000
        self._known: OrderedDict[str, Known] = OrderedDict()

    def new_audit_id(self) -> str:
        """22 characters that name one token in audits and revocations."""
        return self._ids.token(16)

    async def issue(self, claims: Claims) -> tuple[str, Known] | None:
        """A token for ``claims``; None when they give nothing (no role in the scope)."""
        raw = self._keys.seal(pack(claims))
        known = await self._look(raw, claims)
        return None if known is None else (raw, known)

    async def inspect(
        self, raw: str, *, beside: str | None = None, allow_expired: bool = False
    ) -> Known | None:
        """What a token is worth now; None when it is not valid.

        ``beside``: another token this request was already asked about: what is remembered for the
        same revision needs no further read.
        """
        known = self._known.get(raw)
        claims = known.standing.claims if known is not None else self._open(raw)
        if claims is None:
            return None
        ends = claims.expires_at + (self._window if allow_expired else 0)
        if ends <= micros(self._clock.now()):
            return None
        if known is not None:
            other = None if beside is None else self._known.get(beside)
            if other is not None and other.revision == known.revision:
                return known
            if known.revision == await self._db.read(rows.revision):
                return known
        return await self._look(raw, claims)

    async def authenticate(self, token: str) -> Caller | None:
        """The caller of a token, for this service's own requests."""
        known = await self.inspect(token)
        return None if known is None else known.caller

    async def _look(self, raw: str, claims: Claims) -> Known | None:
        number, found = await self._db.read(standing.find, claims)
        if found is None:
            self._known.pop(raw, None)
            return None
        known = Known(
            number,
            found,
            _caller(raw, found),
            views.encode(views.token(found)),
            views.encode(views.token(found, catalog=False)),
        )
        self._known[raw] = known
        self._known.move_to_end(raw)
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return known

    def _open(self, raw: str) -> Claims | None:
        payload = self._keys.open(raw)
        return None if payload is None else unpack(payload)


def micros(when: dt.datetime) -> int:
    """Whole microseconds since 1970."""
    return (when - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1)


def moment(number: int) -> dt.datetime:
    """The time of `micros`."""
    return dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=number)


def pack(claims: Claims) -> bytes:
    """Claims as bytes."""
    kinds: Sequence[str | None] = (
        None,
        claims.project_id,
        claims.domain_id,
        EVERYWHERE if claims.system else None,
    )
    kind = next((index for index, value in enumerate(kinds) if value is not None), 0)
    packed = _Packed(
        _short(claims.user_id),
        sum(1 << _METHODS.index(method) for method in claims.methods),
        None if kind in (0, 3) else _short(kinds[kind] or ""),
        kind,
        claims.issued_at,
        claims.expires_at,
        [base64.urlsafe_b64decode(audit_id + "==") for audit_id in claims.audit_ids],
        None
        if claims.application_credential_id is None
        else _short(claims.application_credential_id),
    )
    return msgspec.msgpack.encode(packed)


def unpack(payload: bytes) -> Claims | None:
    """The claims in `pack`; None for bytes of another form."""
    try:
        packed = msgspec.msgpack.decode(payload, type=_Packed)
    except (msgspec.MsgspecError, ValueError):
        return None
    scope = None if packed.scope is None else _long(packed.scope)
    credential = packed.application_credential_id
    return Claims(
        user_id=_long(packed.user_id),
        methods=tuple(m for i, m in enumerate(_METHODS) if packed.methods >> i & 1),
        audit_ids=tuple(
            base64.urlsafe_b64encode(raw).rstrip(b"=").decode() for raw in packed.audit_ids
        ),
        issued_at=packed.issued_at,
        expires_at=packed.expires_at,
        project_id=scope if packed.kind == 1 else None,
        domain_id=scope if packed.kind == 2 else None,
        system=packed.kind == 3,
        application_credential_id=None if credential is None else _long(credential),
    )


def _short(text: str) -> bytes | str:
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        return text
    return raw if len(raw) == 16 and raw.hex() == text else text


def _long(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def _caller(raw: str, found: Standing) -> Caller:
    project, claims = found.project, found.claims
    return Caller(
        user_id=found.user.id,
        user_name=found.user.name,
        user_domain_id=found.user_domain.id,
        user_domain_name=found.user_domain.name,
        project_id=None if project is None else project.id,
        project_name="" if project is None else project.name,
        project_domain_id="" if found.project_domain is None else found.project_domain.id,
        project_domain_name="" if found.project_domain is None else found.project_domain.name,
        domain_id=claims.domain_id,
        system_scope=EVERYWHERE if claims.system else None,
        roles=tuple(role.name for role in found.roles),
        token=raw,
        expires_at=moment(claims.expires_at),
    )
