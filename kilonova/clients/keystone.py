"""Our own token and the catalog, from any Keystone v3."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
from collections.abc import Mapping
from typing import Any, Protocol

import msgspec

from kilonova.base.aio import Joined
from kilonova.base.clock import Clock
from kilonova.base.errors import Fault, Unauthorized, Unavailable
from kilonova.web.client import Answer, HttpClient

log = logging.getLogger(__name__)

EARLY = dt.timedelta(seconds=120)


class Login(msgspec.Struct, frozen=True):
    """Who we are at the identity service. ``auth_url`` ends in ``/v3`` or at the root."""

    auth_url: str
    username: str
    password: str
    project_name: str
    user_domain_name: str = "Default"
    project_domain_name: str = "Default"
    auth_type: str = "password"
    options: dict[str, str] = {}


class TokenSource(Protocol):
    """What has a token that is valid now, and knows the catalog."""

    async def token(self) -> str:
        """A valid token of ours; Unavailable when none can be had."""

    async def endpoint(self, service_type: str, *, interface: str, region: str | None) -> str:
        """The URL of a service in the catalog, without a slash at its end; Unavailable."""

    def forget(self) -> None:
        """The token was refused: get another one next time."""


class PasswordSource:
    """Logs in with user and password when the token nears its end."""

    def __init__(self, http: HttpClient, login: Login, clock: Clock) -> None:
        self._http = http
        self._login = login
        self._clock = clock
        self._token = ""
        self._until = dt.datetime.min.replace(tzinfo=dt.UTC)
        self._catalog: list[dict[str, Any]] = []
        self._asking: Joined[str, None] = Joined()

    async def token(self) -> str:
        if self._clock.now() + EARLY >= self._until:
            await self._asking.run("token", self._ask)
        return self._token

    async def endpoint(self, service_type: str, *, interface: str, region: str | None) -> str:
        await self.token()
        return find_endpoint(self._catalog, service_type, interface=interface, region=region)

    def forget(self) -> None:
        self._until = dt.datetime.min.replace(tzinfo=dt.UTC)

    async def _ask(self) -> None:
        login = self._login
        user = {
            "name": login.username,
            "password": login.password,
            "domain": {"name": login.user_domain_name},
        }
        project = {"name": login.project_name, "domain": {"name": login.project_domain_name}}
        body = {
            "auth": {
                "identity": {"methods": ["password"], "password": {"user": user}},
                "scope": {"project": project},
            }
        }
        answer = await self._http.request("POST", f"{v3(login.auth_url)}/auth/tokens", json=body)
        if answer.status != 201:
            raise Unavailable(
                f"The identity service refused our user {login.username} ({answer.status})."
            )
        token = answer.json()["token"]
        self._catalog = token.get("catalog", [])
        self._until = dt.datetime.fromisoformat(token["expires_at"])
        self._token = answer.headers["x-subject-token"]


class PluginSource:
    """Any other ``auth_type``: a keystoneauth1 plug-in, run in a thread."""

    def __init__(self, login: Login) -> None:
        from keystoneauth1 import loading, session  # noqa: PLC0415

        loader = loading.get_plugin_loader(login.auth_type)
        self._plugin = loader.load_from_options(auth_url=login.auth_url, **login.options)
        self._session = session.Session(auth=self._plugin, timeout=30)

    async def token(self) -> str:
        try:
            token: str = await asyncio.to_thread(self._session.get_token)
        except Exception as error:
            raise Unavailable(f"No token from the identity service: {error}") from error
        return token

    async def endpoint(self, service_type: str, *, interface: str, region: str | None) -> str:
        url: str | None = await asyncio.to_thread(
            self._session.get_endpoint,
            service_type=service_type,
            interface=interface,
            region_name=region,
        )
        if not url:
            raise Unavailable(f"The catalog has no {service_type} service.")
        return url.rstrip("/")

    def forget(self) -> None:
        self._plugin.invalidate()


class Endpoint:
    """One service of the catalog, or a fixed URL, asked with our token or a user's."""

    def __init__(
        self,
        http: HttpClient,
        source: TokenSource,
        service_type: str,
        *,
        override: str | None = None,
        interface: str = "public",
        region: str | None = None,
    ) -> None:
        self._http = http
        self.source = source
        self._type = service_type
        self._override = override.rstrip("/") if override else None
        self._interface = interface
        self._region = region

    async def url(self) -> str:
        """Where the service is, without a slash at its end."""
        return self._override or await self.source.endpoint(
            self._type, interface=self._interface, region=self._region
        )

    async def headers(self, token: str | None) -> dict[str, str]:
        """The token header; None means our own token."""
        return {"X-Auth-Token": token or await self.source.token()}

    async def request(
        self,
        method: str,
        path: str,
        *,
        token: str | None = None,
        json: Any = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        seconds: float = 60.0,
    ) -> Answer:
        """One request; our own token is renewed once when it is refused.

        Raises Unavailable for 5xx answers; any other status is an answer.
        """
        for attempt in (1, 2):
            sent = {**(headers or {}), **(await self.headers(token))}
            answer = await self._http.request(
                method,
                await self.url() + path,
                json=json,
                params=dict(params) if params else None,
                headers=sent,
                timeout=seconds,
            )
            if answer.status != 401 or token is not None or attempt == 2:
                break
            self.source.forget()
        if answer.status >= 500:
            raise Unavailable(
                f"The {self._type} service failed with {answer.status}: {answer.text[:200]}"
            )
        return answer


def source(http: HttpClient, login: Login, clock: Clock) -> TokenSource:
    """The token source for a login's ``auth_type``."""
    if login.auth_type in ("password", "v3password"):
        return PasswordSource(http, login, clock)
    return PluginSource(login)


def v3(auth_url: str) -> str:
    """The identity URL ending in ``/v3``."""
    url = auth_url.rstrip("/")
    return url if url.endswith("/v3") else f"{url}/v3"


def find_endpoint(
    catalog: list[dict[str, Any]], service_type: str, *, interface: str, region: str | None
) -> str:
    """The URL of a service in a token's catalog; Unavailable says which one is missing."""
    for service in catalog:
        if service.get("type") != service_type:
            continue
        for endpoint in service.get("endpoints", []):
            if endpoint["interface"] == interface and region in (None, endpoint.get("region_id")):
                return str(endpoint["url"]).rstrip("/")
    raise Unavailable(f"The catalog has no {interface} endpoint of type {service_type}.")


def expect(answer: Answer, *statuses: int, what: str) -> Any:
    """The JSON of an answer with one of these statuses.

    Raises Unauthorized for 401, and for others a Fault of the answer's own status with its words.
    """
    if answer.status in statuses:
        return answer.json() if answer.body else None
    if answer.status == 401:
        raise Unauthorized(f"{what}: the token was not accepted.")
    raise of_status(answer.status)(f"{what}: {reason(answer)}")


def reason(answer: Answer) -> str:
    """The words of a neighbour's error body, whatever its shape."""
    try:
        body = answer.json()
    except Exception:
        return answer.text[:300]
    node = body
    for _ in range(3):
        if isinstance(node, dict):
            found = node.get("message") or node.get("detail")
            if isinstance(found, str):
                return found
            node = next(iter(node.values()), None)
        elif isinstance(node, list):
            node = node[0] if node else None
        else:
            break
    return str(node if isinstance(node, str) else body)[:300]


def of_status(status: int) -> type[Fault]:
    """The Fault class of an HTTP status; Unavailable when there is none."""
    for kind in Fault.__subclasses__():
        if kind.status == status:
            return kind
    return Unavailable
