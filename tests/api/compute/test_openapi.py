"""The Compute API describes itself, at every microversion, without a token."""

from __future__ import annotations

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from kilonova.web.testing import Client
from tests.support.cloud import Cloud

PATH = "/v2.1/ext/openapi.json"


@pytest.mark.parametrize("version", [1, 26, 53, 94, 104])
async def test_the_document_is_valid(cloud: Cloud, version: int) -> None:
    answer = await Client(cloud.app).get(PATH, version=f"2.{version}")
    assert answer.status == 200
    document = answer.json()
    OpenAPIV31SpecValidator(document).validate()
    assert document["info"]["version"] == f"2.{version}"
    assert document["servers"] == [{"url": "http://testserver/v2.1"}]


async def test_the_document_follows_the_microversion(cloud: Cloud) -> None:
    nobody = Client(cloud.app)
    old = (await nobody.get(PATH)).json()["paths"]
    new = (await nobody.get(PATH, version="2.104")).json()["paths"]
    assert "/servers/{server_id}/tags" not in old
    assert "/servers/{server_id}/tags" in new
    assert new["/servers"]["post"]["x-openstack"]["policy"] == "os_compute_api:servers:create"
    actions = new["/servers/{server_id}/action"]["post"]["x-openstack"]["actions"]
    assert {"os-start", "os-stop", "reboot"} <= set(actions)
