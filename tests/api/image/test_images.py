"""Making, listing, changing and removing images."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from kilonova.web.testing import Client
from tests.support.image import Place, change, make, put


async def names(client: Client, query: str = "") -> list[str]:
    """The names in a list, sorted."""
    answer = await client.get(f"/v2/images{query}")
    assert answer.status == 200, answer.text
    return sorted(image["name"] for image in answer.json()["images"])


async def test_versions(place: Place) -> None:
    answer = await place.anonymous.get("/")
    assert answer.status == 300
    versions = answer.json()["versions"]
    assert versions[0]["status"] == "CURRENT"
    assert versions[-1]["id"] == "v2.0"
    assert versions[0]["links"][0]["href"] == "http://testserver/v2/"
    assert (await place.anonymous.get("/versions")).json()["versions"] == versions


async def test_new_image(place: Place) -> None:
    chosen = str(uuid.uuid4())
    answer = await place.alice.post(
        "/v2/images",
        json={"id": chosen, "name": "x", "hw_disk_bus": "scsi", "tags": ["b", "a", "b"]},
    )
    assert answer.status == 201
    assert answer.headers["Location"] == f"http://testserver/v2/images/{chosen}"
    assert answer.headers["OpenStack-image-import-methods"] == "glance-direct"
    image = answer.json()
    assert image["status"] == "queued"
    assert image["visibility"] == "shared"
    assert image["owner"] == "p-alice"
    assert image["hw_disk_bus"] == "scsi"
    assert sorted(image["tags"]) == ["a", "b"]
    assert (image["size"], image["checksum"], image["os_hash_value"]) == (None, None, None)
    assert image["self"] == f"/v2/images/{chosen}"
    assert (await place.alice.get(f"/v2/images/{chosen}")).json()["created_at"][-1] == "Z"
    assert (await place.alice.post("/v2/images", json={"id": chosen})).status == 409


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"id": "no-uuid"}, 400),
        ({"name": 5}, 400),
        ({"disk_format": "floppy"}, 400),
        ({"container_format": "box"}, 400),
        ({"min_disk": -1}, 400),
        ({"min_ram": "1"}, 400),
        ({"visibility": "secret"}, 400),
        ({"some": 5}, 400),
        ({"tags": "a"}, 400),
        ({"status": "active"}, 403),
        ({"checksum": "x"}, 403),
        ({"location": "file:///etc/passwd"}, 403),
        ({"os_glance_x": "y"}, 403),
        ({"visibility": "public"}, 403),
        ({"owner": "p-bob"}, 403),
        ({f"p{n}": "v" for n in range(129)}, 400),
    ],
)
async def test_refused_images(place: Place, body: dict[str, Any], status: int) -> None:
    answer = await place.alice.post("/v2/images", json=body)
    assert answer.status == status, answer.text
    assert answer.json()["code"].startswith(str(status))


async def test_who_sees_what(place: Place) -> None:
    for visibility in ("private", "shared", "community"):
        await make(place.alice, name=visibility, visibility=visibility)
    await make(place.admin, name="public", visibility="public")
    await make(place.alice, name="hidden", os_hidden=True)
    mine = ["community", "private", "public", "shared"]
    assert await names(place.alice) == mine
    assert await names(place.alice, "?os_hidden=true") == ["hidden"]
    assert await names(place.bob) == ["public"]
    assert await names(place.bob, "?visibility=community") == ["community"]
    assert await names(place.bob, "?visibility=all") == ["community", "public"]
    assert await names(place.bob, "?visibility=private") == []
    assert await names(place.alice, "?visibility=private") == ["private"]
    assert await names(place.admin) == ["private", "public", "shared"]
    listed = (await place.alice.get("/v2/images?name=private")).json()["images"]
    path = f"/v2/images/{listed[0]['id']}"
    assert (await place.bob.get(path)).status == 404
    assert (await place.bob.delete(path)).status == 404
    assert (await place.admin.get(path)).status == 200
    assert (await place.alice.get("/v2/images?visibility=odd")).status == 400


async def test_sharing(place: Place) -> None:
    image = await make(place.alice, name="shared")
    base = f"/v2/images/{image['id']}/members"
    assert (await place.bob.get(base)).status == 404
    answer = await place.alice.post(base, json={"member": "p-bob"})
    assert answer.status == 200
    assert answer.json()["status"] == "pending"
    assert answer.json()["schema"] == "/v2/schemas/member"
    assert (await place.alice.post(base, json={"member": "p-bob"})).status == 409
    await place.alice.post(base, json={"member": "p-carol"})
    assert (await place.bob.get(f"/v2/images/{image['id']}")).status == 200
    assert await names(place.bob) == []
    assert await names(place.bob, "?member_status=pending") == ["shared"]
    assert await names(place.bob, "?member_status=all&visibility=shared") == ["shared"]
    accept = {"status": "accepted"}
    assert (await place.alice.put(f"{base}/p-bob", json=accept)).status == 403
    assert (await place.bob.put(f"{base}/p-bob", json={"status": "maybe"})).status == 400
    assert (await place.bob.put(f"{base}/p-bob", json=accept)).json()["status"] == "accepted"
    assert await names(place.bob) == ["shared"]
    assert len((await place.alice.get(base)).json()["members"]) == 2
    assert [m["member_id"] for m in (await place.bob.get(base)).json()["members"]] == ["p-bob"]
    assert (await place.bob.get(f"{base}/p-carol")).status == 404
    assert (await place.bob.delete(f"{base}/p-bob")).status == 403
    assert (
        await change(place.bob, image["id"], {"op": "add", "path": "/x", "value": "y"})
    ).status == 403
    assert (await place.alice.delete(f"{base}/p-bob")).status == 204
    assert (await place.bob.get(f"/v2/images/{image['id']}")).status == 404
    private = await make(place.alice, visibility="private")
    offered = {"member": "p-bob"}
    refused = await place.alice.post(f"/v2/images/{private['id']}/members", json=offered)
    assert refused.status == 403


async def test_filters(place: Place) -> None:
    await make(place.alice, name="a,b", disk_format="qcow2", os_distro="debian", tags=["x", "y"])
    await make(place.alice, name="c", min_ram=512, protected=True, tags=["x"])
    for query, wanted in (
        ("?name=c", ["c"]),
        ('?name=in:"a,b",c', ["a,b", "c"]),
        ("?disk_format=in:qcow2,vmdk", ["a,b"]),
        ("?os_distro=debian", ["a,b"]),
        ("?os_distro=fedora", []),
        ("?tag=x&tag=y", ["a,b"]),
        ("?protected=true", ["c"]),
        ("?min_ram=512", ["c"]),
        ("?status=queued", ["a,b", "c"]),
        ("?status=in:active,saving", []),
        ("?owner=p-bob", []),
        ("?size_min=1", []),
        ("?created_at=gt:2020-01-01T00:00:00Z", ["a,b", "c"]),
        ("?updated_at=lte:2020-01-01T00:00:00", []),
    ):
        assert await names(place.alice, query) == wanted, query
    for query in (
        "?status=odd", "?created_at=gt:yesterday", "?min_ram=x", "?limit=-1", "?sort_key=odd",
        "?sort_dir=up", "?marker=none", '?name=in:"a', "?size_min=-1",
    ):  # fmt: skip
        assert (await place.alice.get(f"/v2/images{query}")).status == 400, query


@pytest.mark.parametrize(
    "sort", ["sort=name:asc", "sort=size:desc,name:asc", "sort_key=created_at"]
)
async def test_pages(place: Place, sort: str) -> None:
    made = [(await make(place.alice, name=f"i{n}"))["name"] for n in range(5)]
    body = (await place.alice.get(f"/v2/images?limit=2&{sort}&name=in:{','.join(made)}")).json()
    assert body["first"].startswith("/v2/images?limit=2")
    seen = [image["name"] for image in body["images"]]
    while "next" in body:
        body = (await place.alice.get(body["next"])).json()
        seen += [image["name"] for image in body["images"]]
    assert sorted(seen) == made
    assert seen == (made if "name" in sort else made[::-1])


async def test_patch(place: Place) -> None:
    image = await make(place.alice, old="1")
    image_id = image["id"]
    answer = await change(
        place.alice,
        image_id,
        {"op": "replace", "path": "/name", "value": "new"},
        {"op": "add", "path": "/prop~1x", "value": "y"},
        {"op": "remove", "path": "/old"},
        {"op": "replace", "path": "/tags", "value": ["t"]},
        {"op": "replace", "path": "/disk_format", "value": "qcow2"},
    )
    assert answer.status == 200, answer.text
    shown = answer.json()
    assert (shown["name"], shown["prop/x"], shown["tags"]) == ("new", "y", ["t"])
    assert "old" not in shown
    for operation, status in (
        ({"op": "replace", "path": "/status", "value": "active"}, 403),
        ({"op": "remove", "path": "/name"}, 403),
        ({"op": "replace", "path": "/checksum", "value": "x"}, 403),
        ({"op": "replace", "path": "/id", "value": "x"}, 403),
        ({"op": "add", "path": "/location", "value": "x"}, 403),
        ({"op": "replace", "path": "/visibility", "value": "public"}, 403),
        ({"op": "replace", "path": "/owner", "value": "p-bob"}, 403),
        ({"op": "remove", "path": "/none"}, 409),
        ({"op": "replace", "path": "/none", "value": "x"}, 409),
        ({"op": "add", "path": "/p", "value": 5}, 400),
        ({"op": "add", "path": "/p"}, 400),
        ({"op": "move", "path": "/p", "value": "x"}, 400),
        ({"op": "add", "path": "p", "value": "x"}, 400),
        ({"op": "add", "path": "/a/b", "value": "x"}, 400),
        ({"op": "replace", "path": "/min_disk", "value": "many"}, 400),
    ):
        answer = await change(place.alice, image_id, operation)
        assert answer.status == status, (operation, answer.text)
    old_form = {"replace": "/name", "value": "older"}
    assert (await change(place.alice, image_id, old_form)).json()["name"] == "older"
    assert (await change(place.bob, image_id, old_form)).status == 404
    assert (await change(place.reader, image_id, old_form)).status == 403
    plain = await place.alice.patch(f"/v2/images/{image_id}", json=[])
    assert plain.status == 415
    assert (await put(place.alice, image_id, b"QFI\xfb")).status == 415


async def test_formats_are_fixed_once_there_is_data(place: Place) -> None:
    image = await make(place.alice)
    assert (await put(place.alice, image["id"], b"data")).status == 204
    operation = {"op": "replace", "path": "/disk_format", "value": "qcow2"}
    assert (await change(place.alice, image["id"], operation)).status == 403


async def test_delete_and_protection(place: Place) -> None:
    image = await make(place.alice, protected=True)
    path = f"/v2/images/{image['id']}"
    assert (await put(place.alice, image["id"], b"data")).status == 204
    assert (await place.alice.delete(path)).status == 403
    operation = {"op": "replace", "path": "/protected", "value": False}
    assert (await change(place.alice, image["id"], operation)).status == 200
    assert (await place.reader.delete(path)).status == 403
    assert (await place.alice.delete(path)).status == 204
    assert (await place.alice.get(path)).status == 404
    assert list(place.images.settings.directory.iterdir()) == []


async def test_tags(place: Place) -> None:
    image = await make(place.alice)
    path = f"/v2/images/{image['id']}"
    assert (await place.alice.put(f"{path}/tags/blue")).status == 204
    assert (await place.alice.put(f"{path}/tags/blue")).status == 204
    assert (await place.alice.get(path)).json()["tags"] == ["blue"]
    assert (await place.alice.delete(f"{path}/tags/blue")).status == 204
    assert (await place.alice.delete(f"{path}/tags/blue")).status == 404


async def test_information(place: Place) -> None:
    for name in ("image", "images", "member", "members", "task", "tasks"):
        assert (await place.alice.get(f"/v2/schemas/{name}")).json()["name"] == name
    assert (await place.alice.get("/v2/schemas/odd")).status == 404
    methods = (await place.alice.get("/v2/info/import")).json()["import-methods"]["value"]
    assert methods == ["glance-direct"]
    assert (await place.alice.get("/v2/info/stores")).json()["stores"][0]["id"] == "files"
    assert (await place.admin.get("/v2/tasks")).json()["tasks"] == []
    assert (await place.admin.get("/v2/tasks/none")).status == 404
    assert (await place.admin.post("/v2/tasks", json={"type": "import"})).status == 400
    assert (await place.alice.get("/v2/images/")).status == 404
