"""Validating tokens against any Keystone v3."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
from typing import Any, Protocol

import msgspec

from kilonova.base.errors import BadGateway, Fault, Unavailable
from kilonova.web.call import Caller
from kilonova.web.client import Answer, HttpClient

log = logging.getLogger(__name__)


class TokenSupplier(Protocol):
    """Where the service's own token comes from."""

    async def __call__(self, *, fresh: bool = False) -> str:
        """A token of the service's user; ``fresh``: the one given before was refused."""


class PluginTokens:
    """A `TokenSupplier` on a keystoneauth1 plug-in (``auth_type = password`` and the like)."""

    def __init__(self, plugin: Any, *, verify: bool | str = True, timeout: float = 30.0) -> None:
        """``plugin``: a loaded keystoneauth1 plug-in; ``verify``: as for `HttpClient`."""
        from keystoneauth1.session import Session  # noqa: PLC0415 (requests is slow to import)

        self._plugin = plugin
        self._session = Session(auth=plugin, verify=verify, timeout=timeout)

    async def __call__(self, *, fresh: bool = False) -> str:
        """Raises Unavailable if the identity service gives no token."""
        return await asyncio.to_thread(self._get, fresh)

    def _get(self, fresh: bool) -> str:
        try:
            if fresh:
                self._plugin.invalidate()
            return str(self._session.get_token())
        except Exception as error:
            raise Unavailable(
                "The identity service gave this service no token; check the credentials in the "
                f"configuration ({type(error).__name__})."
            ) from error


class _Named(msgspec.Struct, frozen=True):
    id: str
    name: str = ""


class _Owned(msgspec.Struct, frozen=True):
    id: str
    name: str = ""
    domain: _Named = _Named("default", "Default")


class _Token(msgspec.Struct, frozen=True):
    user: _Owned
    expires_at: str | None = None
    project: _Owned | None = None
    domain: _Named | None = None
    system: dict[str, Any] | None = None
    roles: list[_Named] = []


class _Envelope(msgspec.Struct, frozen=True):
    token: _Token


class KeystoneAuthenticator:
    """Asks ``GET /v3/auth/tokens`` about every token; put a `CachingAuthenticator` around it.

    Without ``tokens`` each token is used to validate itself, which Keystone's default policy
    allows; with it the service's own token is sent.
    """

    def __init__(
        self,
        client: HttpClient,
        url: str,
        *,
        tokens: TokenSupplier | None = None,
        timeout: float = 10.0,
    ) -> None:
        """``url``: the identity endpoint, with or without ``/v3``; ``timeout`` in seconds."""
        base = url.rstrip("/")
        self._url = (base if base.endswith("/v3") else f"{base}/v3") + "/auth/tokens"
        self._client = client
        self._tokens = tokens
        self._timeout = timeout

    async def authenticate(self, token: str) -> Caller | None:
        """The caller; None for an unknown, ended or revoked token.

        Unavailable if the identity service cannot be reached, fails, or refuses our credentials.
        """
        answer = await self._ask(token, fresh=False)
        if answer.status == 401 and self._tokens is not None:
            answer = await self._ask(token, fresh=True)
            if answer.status == 401:
                raise Unavailable("The identity service refuses this service's credentials.")
        if answer.status in (401, 404) or (answer.status == 403 and self._tokens is None):
            return None
        if answer.status != 200:
            raise Unavailable(f"The identity service answered {answer.status} to a token check.")
        try:
            return parse(answer.body, token)
        except BadGateway as error:
            raise Unavailable(error.message) from error

    async def _ask(self, token: str, *, fresh: bool) -> Answer:
        own = token if self._tokens is None else await self._tokens(fresh=fresh)
        try:
            return await self._client.request(
                "GET",
                self._url,
                headers={"X-Auth-Token": own, "X-Subject-Token": token},
                timeout=self._timeout,
            )
        except Fault as error:
            log.warning("cannot validate a token: %s", error.message)
            raise Unavailable("The identity service is not reachable.") from error


def parse(body: bytes, token: str) -> Caller:
    """The caller a Keystone v3 token body describes; BadGateway if it is none."""
    try:
        found = msgspec.json.decode(body, type=_Envelope).token
        ends = _time(found.expires_at) if found.expires_at else None
    except (msgspec.MsgspecError, ValueError):
        raise BadGateway("The identity service answered with something that is no token.") from None
    caller = Caller(
        user_id=found.user.id,
        user_name=found.user.name,
        user_domain_id=found.user.domain.id,
        user_domain_name=found.user.domain.name,
        domain_id=found.domain.id if found.domain else None,
        system_scope="all" if found.system and found.system.get("all") else None,
        roles=tuple(role.name for role in found.roles),
        token=token,
        expires_at=ends,
    )
    if found.project is None:
        return caller
    return msgspec.structs.replace(
        caller,
        project_id=found.project.id,
        project_name=found.project.name,
        project_domain_id=found.project.domain.id,
        project_domain_name=found.project.domain.name,
    )


def _time(text: str) -> dt.datetime:
    when = dt.datetime.fromisoformat(text)
    return when if when.tzinfo else when.replace(tzinfo=dt.UTC)
