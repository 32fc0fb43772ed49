"""What a handler is given (`Call`) and what it may give back (`Reply`)."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Mapping
from typing import Any, Generic, Protocol, TypeVar
from urllib.parse import parse_qsl, quote

import msgspec
from starlette.requests import Request

from kilonova.base.clock import Clock
from kilonova.base.errors import BadRequest, Forbidden
from kilonova.base.ids import Ids

A = TypeVar("A")

_TRUE = frozenset({"1", "t", "true", "on", "y", "yes"})
_FALSE = frozenset({"0", "f", "false", "off", "n", "no"})
_MOST_PARAMETERS = 1000
_SAFE = ":@~!$&'()*+,;="
_PLAIN = re.compile(r"[A-Za-z0-9_.:@~!$&'()*+,;=-]+").fullmatch


class NotAllowed(Forbidden):
    """A policy rule keeps the caller from it."""

    error_code = "policy.forbidden"


class Caller(msgspec.Struct, frozen=True):
    """Who asks, as the token says."""

    user_id: str
    user_name: str = ""
    user_domain_id: str = "default"
    user_domain_name: str = "Default"
    project_id: str | None = None
    project_name: str = ""
    project_domain_id: str = "default"
    project_domain_name: str = "Default"
    domain_id: str | None = None
    system_scope: str | None = None
    roles: tuple[str, ...] = ()
    service_roles: tuple[str, ...] = ()
    token: str = ""
    expires_at: dt.datetime | None = None

    def credentials(self) -> dict[str, Any]:
        """The credentials in the form oslo.policy evaluates."""
        return {
            "user_id": self.user_id,
            "user_domain_id": self.user_domain_id,
            "project_id": self.project_id,
            "tenant_id": self.project_id,
            "project_domain_id": self.project_domain_id if self.project_id else None,
            "domain_id": self.domain_id,
            "system_scope": self.system_scope,
            "roles": list(self.roles),
            "service_roles": list(self.service_roles),
            "is_admin": "admin" in self.roles,
        }

    def __repr__(self) -> str:
        return (
            f"Caller(user_id={self.user_id!r}, project_id={self.project_id!r}, "
            f"roles={self.roles!r}, token='***')"
        )


NOBODY = Caller(user_id="")


class Enforcer(Protocol):
    """What decides whether a caller may do something."""

    def allows(self, rule: str, caller: Caller, target: Mapping[str, Any]) -> bool:
        """True if ``rule`` lets ``caller`` act on ``target``; unknown rules allow nothing."""


class Query:
    """The query string: every parameter may stand several times."""

    __slots__ = ("_pairs", "raw")

    def __init__(self, raw: bytes | str = b"") -> None:
        """Parse ``raw`` (percent-encoded). BadRequest for text that is not UTF-8 or has NULs."""
        self.raw = raw.decode("latin-1") if isinstance(raw, bytes) else raw
        self._pairs: dict[str, list[str]] = {}
        if not self.raw:
            return
        try:
            pairs = parse_qsl(
                self.raw,
                keep_blank_values=True,
                errors="strict",
                max_num_fields=_MOST_PARAMETERS,
            )
        except ValueError as error:
            raise BadRequest("The query string of the URL is malformed.") from error
        for name, value in pairs:
            if "\0" in name or "\0" in value:
                raise BadRequest("The query string of the URL must not contain NUL characters.")
            self._pairs.setdefault(name, []).append(value)

    def get(self, name: str, default: str | None = None) -> str | None:
        """The last value of ``name``."""
        values = self._pairs.get(name)
        return values[-1] if values else default

    def all(self, name: str) -> list[str]:
        """Every value of ``name``, in the order given."""
        return list(self._pairs.get(name, ()))

    def flag(self, name: str, *, default: bool = False) -> bool:
        """The value read as a boolean word; BadRequest if it is not one."""
        value = self.get(name)
        if value is None:
            return default
        word = value.strip().lower()
        if word in _TRUE:
            return True
        if word in _FALSE:
            return False
        raise BadRequest(f"The query parameter {name} must be a boolean, not {value[:64]!r}.")

    def number(self, name: str, default: int | None = None) -> int | None:
        """The value read as an integer; BadRequest if it is not one."""
        value = self.get(name)
        if value is None:
            return default
        try:
            if not value.isascii() or "_" in value:
                raise ValueError(value)
            return int(value)
        except ValueError:
            text = f"The query parameter {name} must be an integer, not {value[:64]!r}."
            raise BadRequest(text) from None

    def items(self) -> list[tuple[str, str]]:
        """All (name, value) pairs, values of one name together."""
        return [(name, value) for name, values in self._pairs.items() for value in values]

    def lists(self) -> dict[str, list[str]]:
        """Name → every value."""
        return {name: list(values) for name, values in self._pairs.items()}

    def keep(self, names: set[str]) -> Query:
        """A query with only ``names``."""
        kept = Query()
        kept.raw = self.raw
        kept._pairs = {name: values for name, values in self._pairs.items() if name in names}
        return kept

    def __contains__(self, name: object) -> bool:
        return name in self._pairs

    def __iter__(self) -> Iterator[str]:
        return iter(self._pairs)

    def __len__(self) -> int:
        return len(self._pairs)

    def __repr__(self) -> str:
        return f"Query({self._pairs!r})"


class Reply(msgspec.Struct):
    """An answer with its own status or headers; ``bytes`` bodies go out as they are."""

    body: Any = None
    status: int | None = None
    headers: dict[str, str] = {}


class Call(Generic[A]):
    """One request, handed to every handler as its first argument."""

    __slots__ = (
        "app",
        "base",
        "body",
        "caller",
        "clock",
        "ids",
        "params",
        "policy",
        "project_in_path",
        "query",
        "raw_body",
        "relaxed",
        "request",
        "request_id",
        "root",
        "version",
    )

    def __init__(
        self,
        *,
        app: A,
        request: Request,
        policy: Enforcer,
        clock: Clock,
        ids: Ids,
        request_id: str,
        caller: Caller = NOBODY,
        version: int = 0,
        body: Any = None,
        query: Query | None = None,
        params: dict[str, str] | None = None,
        base: str = "",
        root: str = "",
        project_in_path: str | None = None,
        relaxed: bool = False,
    ) -> None:
        self.app = app
        self.request = request
        self.policy = policy
        self.clock = clock
        self.ids = ids
        self.request_id = request_id
        self.caller = caller
        self.version = version
        self.body = body
        self.raw_body = b""
        self.query = query if query is not None else Query()
        self.params = params if params is not None else {}
        self.base = base
        self.root = root
        self.project_in_path = project_in_path
        self.relaxed = relaxed

    def allows(self, rule: str, target: Mapping[str, Any] | None = None) -> bool:
        """Whether the caller may do what ``rule`` guards; the default target is their own."""
        if target is None:
            target = {"project_id": self.caller.project_id, "user_id": self.caller.user_id}
        return self.policy.allows(rule, self.caller, target)

    def enforce(self, rule: str, target: Mapping[str, Any] | None = None) -> None:
        """Raise Forbidden unless ``allows``."""
        if not self.allows(rule, target):
            raise NotAllowed(f"Policy does not allow {rule} to be performed by this caller.")

    def prefers(self, name: str) -> bool:
        """Whether a ``Prefer`` header names that preference (RFC 7240)."""
        said = self.request.headers.getlist("prefer")
        tokens = (part.partition(";")[0].strip().lower() for one in said for part in one.split(","))
        return name in tokens

    def link(self, *path: str) -> str:
        """The absolute URL of ``path`` under the root the request came by."""
        return join(self.base + self.root, *path)

    def bookmark(self, *path: str) -> str:
        """The same without the version segment (project id kept if the request had it)."""
        project = (self.project_in_path,) if self.project_in_path else ()
        return join(self.base, *project, *path)


def join(base: str, *path: str) -> str:
    """``base`` and the path parts, each percent-encoded where needed, joined by single slashes."""
    parts = [part if _PLAIN(part) else quote(part, safe=_SAFE) for part in path]
    return "/".join((base.rstrip("/"), *parts))
