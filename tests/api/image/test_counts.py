"""Every list of the image service asks its database as often for many things as for few."""

from __future__ import annotations

from pathlib import Path

from kilonova.embedded.image.service import API
from tests.support.counting import costs, same, unlisted
from tests.support.image import start

FEW, MANY = 2, 25
LISTS = ("/images", "/images/{image_id}/members")
MORE = ("/images?tag=t1", "/images?sort=name:asc&p1=x", "/images/{image_id}")
# One thing each, or what this service has none of.
SINGLE = {
    "/images/{image_id}/file",
    "/info/import",
    "/info/stores",
    "/info/stores/detail",
    "/info/usage",
    "/tasks",
    "/images/{image_id}/tasks",
    "/ext/openapi.json",
}


def test_no_list_is_forgotten() -> None:
    assert unlisted(API, LISTS, SINGLE) == set()


async def test_many_cost_what_few_cost(tmp_path: Path) -> None:
    found = []
    for count in (FEW, MANY):
        (tmp_path / str(count)).mkdir()
        place = await start(tmp_path / str(count))
        names: dict[str, str] = {}
        for number in range(count):
            body = {
                "name": f"i{number}", "disk_format": "raw", "container_format": "bare",
                "visibility": "shared", "tags": [f"t{n}" for n in range(count)],
                **{f"p{n}": "x" for n in range(count)},
            }  # fmt: skip
            made = await place.admin.post("/v2/images", json=body)
            assert made.status == 201, made.text
            names.setdefault("image_id", made.json()["id"])
            members = f"/v2/images/{names['image_id']}/members"
            assert (await place.admin.post(members, json={"member": f"p{number}"})).status == 200
        paths = [f"/v2{path}" for path in (*LISTS, *MORE)]
        found.append(await costs(place.admin, paths, names))
        place.images.close()
    (few, _), (many, lengths) = found
    assert same(few, many) == {}
    assert {path for path in many if lengths[path] < MANY} == set()
