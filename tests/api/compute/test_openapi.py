"""The Compute API describes itself, at each microversion."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from kilonova.api.service import api
from kilonova.api.versions import MICROVERSIONS
from kilonova.embedded.network.service import api as network_api
from kilonova.web.openapi import PATH, document
from kilonova.web.openapi_answers import silent
from tests.support.cloud import Cloud

NEWEST = 104


def described(version: int) -> dict[str, Any]:
    return document(api(), version, title="Compute API", server="http://localhost/v2.1")


@pytest.mark.parametrize("version", [1, NEWEST])
def test_the_document_is_valid_and_follows_the_version(version: int) -> None:
    made = described(version)
    OpenAPIV31SpecValidator(made).validate()
    assert "/servers/{server_id}" in made["paths"]
    assert ("/servers/{server_id}/tags" in made["paths"]) == (version >= 26)


def test_every_version_is_valid() -> None:
    """What a path says is valid by itself, so each thing said of it is validated once."""
    known: set[str] = set()
    for version in range(1, NEWEST + 1):
        made = described(version)
        assert made["info"]["version"] == f"2.{version}"
        identifiers = [
            operation["operationId"]
            for item in made["paths"].values()
            for operation in item.values()
        ]
        assert len(identifiers) == len(set(identifiers)), version
        fresh = {}
        for path, item in made["paths"].items():
            said = json.dumps([path, item], sort_keys=True).replace(f'compute 2.{version}"', "")
            if said not in known:
                known.add(said)
                fresh[path] = item
        if fresh:
            OpenAPIV31SpecValidator({**made, "paths": fresh}).validate()


def test_each_route_is_described_where_it_answers() -> None:
    served = api()
    for version in (1, 35, 57, 79, NEWEST):
        paths = described(version)["paths"]
        methods = {(path, method) for path, item in paths.items() for method in item}
        wanted = [r for r in served.routes if r.rooted and not r.gone and r.covers(version)]
        shapes = {(_shape(path), method) for path, method in methods}
        for route in wanted:
            assert (_shape(route.path or "/"), route.method.lower()) in shapes, route.path


def _shape(path: str) -> str:
    return "/".join("{}" if part.startswith("{") else part for part in path.split("/"))


def test_each_answer_has_its_form() -> None:
    """What a handler returns is described in its row; the document itself is what it is."""
    for served in (api(), network_api()):
        unsaid = {
            f"{r.method} {r.path} {r.action or ''}".strip()
            for r in served.routes
            if r.rooted and not r.gone and r.responses is None and not silent(r)
        }
        assert unsaid == {"GET /ext/openapi.json"}


async def test_it_is_served_at_a_stable_address(cloud: Cloud) -> None:
    assert len(MICROVERSIONS) == NEWEST
    for version in ("2.1", "2.53", f"2.{NEWEST}"):
        answer = await cloud.client("nobody", version).get(f"/v2.1{PATH}")
        assert (answer.status, answer.json()["info"]["version"]) == (200, version)
        assert answer.json()["openapi"] == "3.1.0"
