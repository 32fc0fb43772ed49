"""Credentials of users, EC2 keys, unified limits."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from kilonova.web.testing import Client
from tests.support.identity import Place, start


async def test_credentials_are_sealed_and_private(
    place: Place, admin: Client, demo: Client
) -> None:
    me = (await admin.get("/v3/users?name=demo")).json()["users"][0]["id"]
    nova = (await admin.get("/v3/users?name=nova")).json()["users"][0]["id"]
    body = {"credential": {"type": "totp", "blob": "SEED", "user_id": me}}
    made = await demo.post("/v3/credentials", json=body)
    assert made.status == 201, made.text
    path = f"/v3/credentials/{made.json()['credential']['id']}"
    assert (await demo.get(path)).json()["credential"]["blob"] == "SEED"
    body["credential"]["user_id"] = nova
    assert (await demo.post("/v3/credentials", json=body)).status == 403
    assert (await admin.post("/v3/credentials", json=body)).status == 201
    assert len((await admin.get("/v3/credentials")).json()["credentials"]) == 2
    assert len((await demo.get("/v3/credentials")).json()["credentials"]) == 1
    change = {"credential": {"blob": "NEW"}}
    assert (await demo.patch(path, json=change)).json()["credential"]["blob"] == "NEW"
    move = {"credential": {"user_id": nova}}
    assert (await demo.patch(path, json=move)).status == 400
    found = (await place.identity.db.run(lambda tx: tx.exec_driver_sql(
        "SELECT blob FROM identity_credential").all()))  # fmt: skip
    assert "NEW" not in str(found)
    assert (await demo.delete(path)).status == 204
    assert (await demo.get(path)).status == 403
    assert (await admin.get(path)).status == 404


async def test_ec2_keys(admin: Client, demo: Client) -> None:
    me = (await admin.get("/v3/users?name=demo")).json()["users"][0]["id"]
    project = (await demo.get("/v3/auth/projects")).json()["projects"][0]["id"]
    base = f"/v3/users/{me}/credentials/OS-EC2"
    made = await demo.post(base, json={"tenant_id": project})
    assert made.status == 201, made.text
    keys = made.json()["credential"]
    assert keys["tenant_id"] == project
    assert (await demo.get(base)).json()["credentials"] == [keys]
    assert (await demo.get(f"{base}/{keys['access']}")).json()["credential"] == keys
    whole = hashlib.sha256(keys["access"].encode()).hexdigest()
    shown = (await demo.get(f"/v3/credentials/{whole}")).json()["credential"]
    assert json.loads(shown["blob"])["secret"] == keys["secret"]
    assert (await demo.delete(f"{base}/{keys['access']}")).status == 204
    assert (await demo.get(f"{base}/{keys['access']}")).status == 404
    assert (await demo.post(base, json={"tenant_id": "nowhere"})).status == 404


async def test_limits(admin: Client, demo: Client) -> None:
    service = (await admin.get("/v3/services?type=compute")).json()["services"][0]["id"]
    project = (await demo.get("/v3/auth/projects")).json()["projects"][0]["id"]
    assert (await demo.get("/v3/limits/model")).json()["model"]["name"] == "flat"
    resource = {"service_id": service, "region_id": "RegionOne", "resource_name": "servers"}
    own = {"limits": [{**resource, "project_id": project, "resource_limit": 3}]}
    assert (await admin.post("/v3/limits", json=own)).status == 403
    body = {"registered_limits": [{**resource, "default_limit": 10}]}
    answer = await admin.post("/v3/registered_limits", json=body)
    assert answer.status == 201, answer.text
    registered = answer.json()["registered_limits"][0]["id"]
    assert (await admin.post("/v3/registered_limits", json=body)).status == 409
    answer = await admin.post("/v3/limits", json=own)
    assert answer.status == 201, answer.text
    limit = answer.json()["limits"][0]["id"]
    assert (await admin.post("/v3/limits", json=own)).status == 409
    query = f"/v3/limits?service_id={service}&region_id=RegionOne&resource_name=servers"
    found = (await demo.get(query)).json()["limits"]
    assert [(one["project_id"], one["resource_limit"]) for one in found] == [(project, 3)]
    assert (await demo.get(f"/v3/limits/{limit}")).status == 200
    change = {"limit": {"resource_limit": 5, "description": "more"}}
    assert (await admin.patch(f"/v3/limits/{limit}", json=change)).json()["limit"][
        "resource_limit"
    ] == 5
    path = f"/v3/registered_limits/{registered}"
    raised = {"registered_limit": {"default_limit": 20}}
    assert (await admin.patch(path, json=raised)).json()["registered_limit"]["default_limit"] == 20
    assert len((await demo.get("/v3/registered_limits")).json()["registered_limits"]) == 1
    assert (await admin.delete(path)).status == 403
    assert (await admin.delete(f"/v3/limits/{limit}")).status == 204
    assert (await admin.delete(path)).status == 204
    wrong = {"registered_limits": [{**resource, "service_id": "none", "default_limit": 1}]}
    assert (await admin.post("/v3/registered_limits", json=wrong)).status == 400


async def test_bootstrap_again_changes_nothing(place: Place, admin: Client, tmp_path: Path) -> None:
    token = await place.token("demo", "demo")
    before = (await admin.get("/v3/endpoints")).json()["endpoints"]
    place.identity.close()
    again = await start(tmp_path)
    client = again.anonymous.with_(token=token)
    assert (await client.get("/v3/auth/projects")).status == 200
    assert (await (await again.client("admin", "admin")).get("/v3/endpoints")).json()[
        "endpoints"
    ] == before
    again.identity.close()
