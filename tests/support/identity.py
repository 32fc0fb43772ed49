"""An identity service with content, for tests of it and of those who need tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from starlette.types import ASGIApp

from kilonova.base.clock import Clock
from kilonova.embedded.identity import service
from kilonova.embedded.identity.app import Identity
from kilonova.embedded.identity.bootstrap import bootstrap
from kilonova.embedded.identity.settings import Cost, Settings
from kilonova.web.client import Answer
from kilonova.web.testing import Client
from tests.support.truth import truthful

PASSWORD = "correct horse"
CHEAP = Cost(n=16, r=1)


class Place:
    """An open identity service and ways to talk to it."""

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self.app: ASGIApp = truthful(service.build(identity), service.API)
        self.anonymous = Client(self.app)

    async def login(self, auth: dict[str, Any], *, query: str = "") -> Answer:
        """``POST /v3/auth/tokens`` with this ``auth`` object."""
        return await self.anonymous.post(f"/v3/auth/tokens{query}", json={"auth": auth})

    async def token(self, user: str, project: str | None, password: str = PASSWORD) -> str:
        """A token for a user of the default domain in a project of it."""
        answer = await self.login(by_password(user, project, password))
        assert answer.status == 201, answer.text
        return answer.headers["X-Subject-Token"]

    async def client(self, user: str, project: str | None, password: str = PASSWORD) -> Client:
        """A client that carries such a token."""
        return self.anonymous.with_(token=await self.token(user, project, password))


def by_password(user: str, project: str | None, password: str = PASSWORD) -> dict[str, Any]:
    """The ``auth`` object of a password login, unscoped without a project."""
    domain = {"id": "default"}
    given = {"name": user, "domain": domain, "password": password}
    auth: dict[str, Any] = {"identity": {"methods": ["password"], "password": {"user": given}}}
    if project is not None:
        auth["scope"] = {"project": {"name": project, "domain": domain}}
    return auth


async def start(
    directory: Path,
    *,
    url: str | None = None,
    base: str = "http://testserver",
    clock: Clock | None = None,
    endpoints: list[tuple[str, str, str]] | None = None,
) -> Place:
    """Open and bootstrap an identity service in ``directory``; everybody has `PASSWORD`."""
    database = url or f"sqlite:///{directory}/identity.db"
    settings = Settings(database=database, key_dir=directory / "keys", cost=CHEAP)
    identity = await service.open(settings, clock=clock)
    catalog = endpoints or [
        ("identity", "keystone", f"{base}/v3"),
        ("compute", "nova", f"{base}/compute/v2.1/$(project_id)s"),
    ]
    await bootstrap(identity, PASSWORD, "RegionOne", catalog)
    return Place(identity)
