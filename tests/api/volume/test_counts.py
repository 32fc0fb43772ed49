"""Every list of the block storage service asks its database as often for many as for few."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from kilonova.embedded.volume.service import API
from tests.support.counting import costs, same, unlisted
from tests.support.volume import good, start

FEW, MANY = 2, 15
LISTS = (
    "/volumes",
    "/volumes/detail",
    "/volumes/{item_id}/metadata",
    "/snapshots",
    "/snapshots/detail",
    "/snapshots/{item_id}/metadata",
    "/attachments",
    "/attachments/detail",
    "/types",
    "/types/{type_id}/extra_specs",
    "/os-volume-transfer",
    "/os-volume-transfer/detail",
    "/volume-transfers",
    "/volume-transfers/detail",
)
MORE = ("/volumes/{volume_id}", "/volumes/summary", "/limits", "/types/{type_id}")
# One thing each, or what this service has one of.
SINGLE = {
    "/volumes/summary",
    "/types/{type_id}/os-volume-type-access",
    "/os-quota-sets/{project_id}/defaults",
    "/limits",
    "/os-availability-zone",
    "/os-services",
    "/scheduler-stats/get_pools",
    "/extensions",
    "/backups",
    "/backups/detail",
    "/ext/openapi.json",
}


def test_no_list_is_forgotten() -> None:
    assert unlisted(API, LISTS, SINGLE) == set()


@pytest.mark.timeout(300)
async def test_many_cost_what_few_cost(tmp_path: Path) -> None:
    found = []
    for count in (FEW, MANY):
        (tmp_path / str(count)).mkdir()
        place = await start(tmp_path / str(count))
        admin = place.admin
        table = {f"k{number}": "v" for number in range(count)}
        unlimited = {"volumes": -1, "gigabytes": -1, "snapshots": -1}
        path = "/v3/os-quota-sets/p-admin"
        good(await admin.put(path, json={"quota_set": unlimited}))
        names: dict[str, str] = {}
        for number in range(count):
            volume = (await place.make(admin, name=f"v{number}", metadata=table))["id"]
            names.setdefault("volume_id", volume)
            offered = (await place.make(admin, name=f"o{number}"))["id"]
            offer = {"transfer": {"volume_id": offered, "name": "x"}}
            good(await admin.post("/v3/volume-transfers", json=offer), 202)
            shot = {"snapshot": {"volume_id": volume, "name": "s", "metadata": table}}
            made = good(await admin.post("/v3/snapshots", json=shot), 202)
            names.setdefault("snapshot_id", made["snapshot"]["id"])
            await place.done()
            use = {"volume_uuid": volume, "instance_uuid": str(uuid.uuid4())}
            good(await admin.post("/v3/attachments", json={"attachment": use}))
            kind = {"name": f"t{number}", "extra_specs": table}
            made = good(await admin.post("/v3/types", json={"volume_type": kind}))
            names.setdefault("type_id", made["volume_type"]["id"])
        paths = [f"/v3{path}" for path in (*LISTS, *MORE)]
        # Volumes and snapshots share the name of the parameter.
        names["item_id"] = names["volume_id"]
        mine = [path for path in paths if "/snapshots/{item_id}" not in path]
        told = await costs(admin, mine, names)
        names["item_id"] = names["snapshot_id"]
        rest = await costs(admin, [path for path in paths if path not in mine], names)
        found.append(({**told[0], **rest[0]}, {**told[1], **rest[1]}))
        await place.volumes.close()
    (few, _), (many, lengths) = found
    assert same(few, many) == {}
    assert {path for path in many if lengths[path] < MANY and path[3:] in LISTS} == set()
