"""Only the compute service takes volumes from servers."""

from __future__ import annotations

import uuid
from typing import Any

import msgspec
import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from kilonova.base.errors import Unavailable
from kilonova.embedded.volume.guarding import NovaServers
from kilonova.web.client import Answer, HttpClient
from tests.support.volume import Place, good

SERVER = str(uuid.uuid4())
CONNECTOR = {"host": "h1", "ip": "127.0.0.1", "mountpoint": "/dev/vdb"}


async def attached(place: Place) -> tuple[str, str]:
    """A volume of Alice's that a server has: its id, and the attachment's."""
    volume = (await place.make(place.alice))["id"]
    given = {"volume_uuid": volume, "instance_uuid": SERVER, "connector": CONNECTOR}
    answer = await place.at("nova").post("/v3/attachments", json={"attachment": given})
    attachment: str = good(answer)["attachment"]["id"]
    done = await place.at("nova").post(
        f"/v3/attachments/{attachment}/action", json={"os-complete": {}}
    )
    good(done, 204)
    return volume, attachment


@pytest.mark.parametrize("who", ["alice", "admin"])
@pytest.mark.parametrize(
    "how", ["os-detach", "os-force_detach", "os-terminate_connection", "delete", "named"]
)
async def test_users_do_not_take_them(place: Place, who: str, how: str) -> None:
    volume, attachment = await attached(place)

    async def held(server: str, _volume: str, which: str) -> bool:
        return (server, which) == (SERVER, attachment)

    async def end(who: str) -> int:
        client = place.at(who)
        if how == "delete":
            return (await client.delete(f"/v3/attachments/{attachment}")).status
        body = {"os-detach": {"attachment_id": attachment}} if how == "named" else {how: {}}
        return (await client.post(f"/v3/volumes/{volume}/action", json=body)).status

    place.volumes.held = held
    assert await end(who) == (403 if (who, how) == ("alice", "os-force_detach") else 409)
    shown = good(await place.alice.get(f"/v3/volumes/{volume}"))["volume"]
    assert shown["status"] == "in-use"
    assert await end("nova") in (200, 202)


async def test_what_no_server_has_is_theirs(place: Place) -> None:
    volume, attachment = await attached(place)
    strange = {"os-detach": {"attachment_id": str(uuid.uuid4())}}
    path = f"/v3/volumes/{volume}/action"
    assert (await place.alice.post(path, json=strange)).status == 400
    assert (await place.alice.delete(f"/v3/attachments/{attachment}")).status == 200
    shown = good(await place.alice.get(f"/v3/volumes/{volume}"))["volume"]
    assert shown["status"] == "available"


class Compute:
    """Answers each request the same way."""

    def __init__(self, status: int, document: Any) -> None:
        self._answer = Answer(
            status, CIMultiDictProxy(CIMultiDict()), msgspec.json.encode(document)
        )
        self.asked: list[str] = []

    async def request(self, method: str, url: str, **_given: Any) -> Answer:
        self.asked.append(f"{method} {url}")
        return self._answer


async def test_how_compute_is_asked() -> None:
    async def token() -> str:
        return "t"

    async def ask(compute: Compute, url: str | None = "http://compute/") -> bool:
        servers = NovaServers(http(compute), lambda: url, token)
        return await servers("s", "v", "a")

    def http(compute: Compute) -> HttpClient:
        client: Any = compute
        asked: HttpClient = client
        return asked

    mine = Compute(200, {"volumeAttachment": {"attachment_id": "a"}})
    assert await ask(mine)
    assert mine.asked == ["GET http://compute/v2.1/servers/s/os-volume_attachments/v"]
    assert not await ask(Compute(200, {"volumeAttachment": {"attachment_id": "b"}}))
    assert not await ask(Compute(404, {}))
    assert not await ask(mine, None)
    with pytest.raises(Unavailable):
        await ask(Compute(500, {}))
