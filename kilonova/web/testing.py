"""A client for tests: talks to an application in process, without sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from starlette.types import ASGIApp

from kilonova.web.call import Caller
from kilonova.web.client import Answer, HttpClient, Params


class AllowAll:
    """An enforcer that allows everything."""

    def allows(self, rule: str, caller: Caller, target: Mapping[str, Any]) -> bool:
        """True."""
        return True


class AllowRules:
    """An enforcer that allows the given rules to everybody, and all to the role admin."""

    def __init__(self, *rules: str) -> None:
        self._rules = frozenset(rules)

    def allows(self, rule: str, caller: Caller, target: Mapping[str, Any]) -> bool:
        """Whether the rule is one of them."""
        return rule in self._rules or "admin" in caller.roles


class Client:
    """Requests to one application with a token and a microversion.

    ``version``: ``"2.37"`` or ``"latest"``, sent as ``OpenStack-API-Version: <service> …``.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        token: str | None = None,
        version: str | None = None,
        service: str = "compute",
        base: str = "http://testserver",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._http = HttpClient(loopback={base: app}, user_agent="kilonova-tests")
        self._app = app
        self._base = base
        self._service = service
        self._token = token
        self._version = version
        self._headers = dict(headers or {})

    def with_(
        self, *, token: str | None = None, version: str | None = None, **headers: str
    ) -> Client:
        """The same client with another token, version or further headers."""
        return Client(
            self._app,
            token=token if token is not None else self._token,
            version=version if version is not None else self._version,
            service=self._service,
            base=self._base,
            headers={**self._headers, **headers},
        )

    async def request(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        data: bytes | AsyncIterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        params: Params | None = None,
        version: str | None = None,
        token: str | None = None,
    ) -> Answer:
        """One request; ``token=""`` sends none."""
        sent = dict(self._headers)
        use_token = token if token is not None else self._token
        if use_token:
            sent["X-Auth-Token"] = use_token
        use_version = version if version is not None else self._version
        if use_version:
            sent["OpenStack-API-Version"] = f"{self._service} {use_version}"
        sent.update(headers or {})
        url = path if "://" in path else self._base + path
        return await self._http.request(
            method, url, json=json, data=data, headers=sent, params=params
        )

    async def get(self, path: str, **more: Any) -> Answer:
        """GET."""
        return await self.request("GET", path, **more)

    async def head(self, path: str, **more: Any) -> Answer:
        """HEAD."""
        return await self.request("HEAD", path, **more)

    async def post(self, path: str, **more: Any) -> Answer:
        """POST."""
        return await self.request("POST", path, **more)

    async def put(self, path: str, **more: Any) -> Answer:
        """PUT."""
        return await self.request("PUT", path, **more)

    async def patch(self, path: str, **more: Any) -> Answer:
        """PATCH."""
        return await self.request("PATCH", path, **more)

    async def delete(self, path: str, **more: Any) -> Answer:
        """DELETE."""
        return await self.request("DELETE", path, **more)
