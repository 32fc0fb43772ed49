"""Tokens: a Keystone played by a small application, caches, service tokens."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from starlette.responses import JSONResponse

from kilonova.base.clock import VirtualClock
from kilonova.base.errors import Unavailable
from kilonova.base.ids import RandomIds
from kilonova.web.app import build
from kilonova.web.auth import (
    CachingAuthenticator,
    KeystoneAuthenticator,
    NoAuth2,
    PluginTokens,
    StaticAuthenticator,
)
from kilonova.web.call import Call, Caller
from kilonova.web.client import HttpClient
from kilonova.web.faults import keystone_faults
from kilonova.web.routes import Api, Routes
from kilonova.web.testing import AllowAll, Client

TOKEN: dict[str, Any] = {
    "token": {
        "methods": ["password"],
        "user": {"id": "u1", "name": "ann", "domain": {"id": "default", "name": "Default"}},
        "project": {"id": "p1", "name": "demo", "domain": {"id": "d2", "name": "Two"}},
        "roles": [{"id": "r", "name": "member"}, {"id": "s", "name": "reader"}],
        "expires_at": "2026-01-01T01:00:00.000000Z",
        "catalog": [],
    }
}


class Keystone:
    """Validates ``good`` for whoever shows ``svc``; ``status`` overrides the answer."""

    def __init__(self) -> None:
        self.asked = 0
        self.status = 0
        self.own = "svc"

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked += 1
        headers = dict(scope["headers"])
        await asyncio.sleep(0)
        assert scope["path"] == "/v3/auth/tokens"
        if self.status:
            answer = JSONResponse({}, self.status)
        elif headers[b"x-auth-token"] != self.own.encode():
            answer = JSONResponse({}, 401)
        elif headers[b"x-subject-token"] == b"good":
            answer = JSONResponse(TOKEN)
        elif headers[b"x-subject-token"] == b"odd":
            answer = JSONResponse({"token": []})
        else:
            answer = JSONResponse({}, 404)
        await answer(scope, receive, send)


class Tokens:
    def __init__(self, *values: str) -> None:
        self.values = list(values)

    async def __call__(self, *, fresh: bool = False) -> str:
        if fresh and len(self.values) > 1:
            self.values.pop(0)
        return self.values[0]


def asking(keystone: Keystone, *tokens: str) -> KeystoneAuthenticator:
    client = HttpClient(loopback={"http://id": keystone})
    return KeystoneAuthenticator(client, "http://id", tokens=Tokens(*tokens))


async def test_keystone() -> None:
    keystone = Keystone()
    auth = asking(keystone, "svc")
    caller = await auth.authenticate("good")
    assert caller is not None
    assert (caller.user_id, caller.project_id, caller.project_domain_id) == ("u1", "p1", "d2")
    assert caller.roles == ("member", "reader")
    assert "good" not in repr(caller)
    assert await auth.authenticate("bad") is None
    with pytest.raises(Unavailable):
        await auth.authenticate("odd")
    keystone.status = 500
    with pytest.raises(Unavailable):
        await auth.authenticate("good")


async def test_an_old_service_token_is_renewed_once() -> None:
    keystone = Keystone()
    assert await asking(keystone, "old", "svc").authenticate("good") is not None
    with pytest.raises(Unavailable, match="credentials"):
        await asking(keystone, "old", "older").authenticate("good")


async def test_a_token_may_validate_itself() -> None:
    keystone = Keystone()
    keystone.own = "good"
    client = HttpClient(loopback={"http://id": keystone})
    auth = KeystoneAuthenticator(client, "http://id/v3/")
    assert await auth.authenticate("good") is not None
    assert await auth.authenticate("bad") is None


async def test_cache() -> None:
    clock, keystone = VirtualClock(), Keystone()
    auth = CachingAuthenticator(asking(keystone, "svc"), clock, 100, negative_ttl=5)
    await asyncio.gather(*(auth.authenticate("good") for _ in range(5)))
    await auth.authenticate("good")
    assert keystone.asked == 1
    await clock.advance(101)
    await auth.authenticate("good")
    assert keystone.asked == 2
    for _ in range(3):
        assert await auth.authenticate("bad") is None
    assert keystone.asked == 3
    await clock.advance(6)
    await auth.authenticate("bad")
    assert keystone.asked == 4
    auth.forget("good")
    await auth.authenticate("good")
    assert keystone.asked == 5
    await clock.advance(3600)
    assert await auth.authenticate("good") is None


async def test_noauth() -> None:
    auth = NoAuth2()
    admin = await auth.authenticate("admin:p")
    user = await auth.authenticate("joe")
    assert admin is not None and "admin" in admin.roles and admin.project_id == "p"
    assert user is not None and "admin" not in user.roles and user.project_id == "joe"
    assert await auth.authenticate(":p") is None


routes: Routes[None] = Routes()


@routes.get("/me")
async def me(call: Call[None]) -> dict[str, Any]:
    return {"user": call.caller.user_id, "service": call.caller.service_roles}


async def test_service_tokens_and_outages() -> None:
    people = {
        "u": Caller(user_id="u", roles=("member",)),
        "s": Caller(user_id="s", roles=("service",)),
        "old": Caller(user_id="o", expires_at=VirtualClock().now()),
    }
    api: Api[None] = Api("identity", [routes], faults=keystone_faults)
    parts: dict[str, Any] = {"policy": AllowAll(), "clock": VirtualClock(), "ids": RandomIds()}
    client = Client(build(api, None, auth=StaticAuthenticator(people), **parts), token="u")
    answer = await client.get("/me", headers={"X-Service-Token": "s"})
    assert msgspec.json.decode(answer.body) == {"user": "u", "service": ["service"]}
    assert (await client.get("/me", headers={"X-Service-Token": "none"})).status == 401
    assert (await client.get("/me", token="old")).status == 401
    assert (await client.get("/me", token="")).status == 401
    assert (await client.get("/me", token="x" * 20_000)).status == 401
    keystone = Keystone()
    keystone.status = 502
    down = Client(build(api, None, auth=asking(keystone, "svc"), **parts), token="u")
    assert (await down.get("/me")).status == 503


# The library's optional profiler, where it is installed, imports a module on its way out.
@pytest.mark.filterwarnings("ignore:'cgi' is deprecated:DeprecationWarning")
async def test_tokens_of_a_keystoneauth_plugin() -> None:
    from keystoneauth1.identity.v3 import Password
    from keystoneauth1.token_endpoint import Token

    tokens = PluginTokens(Token("http://endpoint", "t"))
    assert await tokens() == "t"
    assert await tokens(fresh=True) == "t"
    with pytest.raises(Unavailable, match="credentials"):
        await PluginTokens(
            Password("http://127.0.0.1:1/v3", username="u", password="p"), timeout=1
        )()
