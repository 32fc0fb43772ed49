"""Stable error codes: told to who asks for them, and to nobody else."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

import kilonova
from kilonova.base.errors import Fault, NotFound
from kilonova.web.client import Answer
from kilonova.web.error_codes import _BY_STATUS, CODES, code_of, with_code
from kilonova.web.preferences import preferences
from tests.support.cloud import PROJECT, Cloud, body

NOWHERE = "00000000-0000-4000-8000-000000000000"
ASKING = {"Prefer": "respond-async, error-code"}


async def fault(answer: Answer) -> dict[str, Any]:
    (inner,) = answer.json().values()
    return dict(inner)


@pytest.mark.parametrize(
    ("who", "method", "path", "given", "status", "code"),
    [
        ("member", "GET", f"/v2.1/servers/{NOWHERE}", None, 404, "server.not_found"),
        ("member", "GET", "/v2.1/nothing", None, 404, "not_found"),
        ("nobody", "GET", "/v2.1/servers", None, 401, "token.invalid"),
        ("member", "GET", "/v2.1/os-services", None, 403, "policy.forbidden"),
        ("member", "POST", "/v2.1/servers", {"server": {}}, 400, "request.schema"),
        ("member", "POST", "/v2.1/servers", {"server": {"n": 1}}, 400, "request.schema"),
        ("member", "POST", "/v2.1/servers", body(flavorRef="77"), 400, "request.invalid"),
        ("member", "POST", "/v2.1/servers", body(min_count=11), 403, "quota.exceeded"),
        ("member", "GET", "/v2.1/os-cells", None, 410, "interface.removed"),
    ],
)
async def test_codes(who: str, method: str, path: str, given: Any, status: int, code: str) -> None:
    cloud = Cloud()
    client = cloud.client(who)
    plain = await client.request(method, path, json=given)
    asked = await client.request(method, path, json=given, headers=ASKING)
    cloud.close()
    assert (plain.status, asked.status) == (status, status), asked.text
    told = await fault(asked)
    assert told.pop("error_code") == code
    assert told == await fault(plain)
    assert asked.headers["Preference-Applied"] == "error-code"
    assert "Preference-Applied" not in plain.headers
    assert code in CODES


async def test_states_and_locks(cloud: Cloud) -> None:
    client = cloud.client()
    made = await client.post("/v2.1/servers", json=body())
    path = f"/v2.1/servers/{made.json()['server']['id']}/action"

    async def act(given: dict[str, Any]) -> str:
        answer = await client.post(path, json=given, headers=ASKING)
        assert answer.status == 409, answer.text
        return str((await fault(answer))["error_code"])

    cloud.run(made.json()["server"]["id"])
    assert await act({"os-start": None}) == "server.state"
    await client.post(path, json={"lock": None})
    assert await act({"os-stop": None}) == "server.locked"


async def test_versions(cloud: Cloud) -> None:
    for version, code in (("2.999", "version.unsupported"), ("x", "request.version")):
        client = cloud.client("member", version)
        told = await fault(await client.get("/v2.1/servers", headers=ASKING))
        assert told["error_code"] == code
        assert "error_code" not in await fault(await client.get("/v2.1/servers"))


async def test_good_answers_are_the_same(cloud: Cloud) -> None:
    path = f"/v2.1/os-quota-sets/{PROJECT}"
    asked = await cloud.client().get(path, headers=ASKING)
    assert asked.body == (await cloud.client().get(path)).body


async def test_paths_of_extensions_tell_it_always(cloud: Cloud) -> None:
    told = await fault(await cloud.client("member").get("/v2.1/ext/audit"))
    assert told["error_code"] == "policy.forbidden"


def test_headers() -> None:
    assert preferences(None) == frozenset()
    assert preferences(b'Error-Code; x=1, wait=10 ,,handling="lenient"') == {
        "error-code",
        "wait",
        "handling",
    }


def test_bodies_of_every_style() -> None:
    missing = NotFound("x")
    assert with_code({"a": {"b": 1}}, missing) == {"a": {"b": 1, "error_code": "not_found"}}
    flat = {"message": "x", "code": "404", "title": "y"}
    assert with_code(flat, missing) == {**flat, "error_code": "not_found"}
    assert with_code({"errors": [1]}, missing) == {"errors": [1]}
    assert with_code("text", missing) == "text"


def kinds(kind: type[Fault]) -> list[type[Fault]]:
    return [kind, *(one for below in kind.__subclasses__() for one in kinds(below))]


def test_every_status_and_every_code_in_use_has_its_meaning() -> None:
    assert set(_BY_STATUS.values()) <= set(CODES)
    for kind in kinds(Fault):
        if kind.__module__.startswith("kilonova."):
            assert kind.status in _BY_STATUS
            assert not kind.error_code or kind.error_code in CODES
    assert code_of(Fault()) == "internal"
    root = Path(kilonova.__file__).parent
    used = set()
    for part in ("api", "domain", "store", "workflows", "web", "context.py"):
        files = [root / part] if part.endswith(".py") else (root / part).rglob("*.py")
        for file in files:
            for node in ast.walk(ast.parse(file.read_text())):
                if (
                    isinstance(node, ast.keyword)
                    and node.arg == "code"
                    and isinstance(node.value, ast.Constant)
                    and isinstance(node.value.value, str)
                    and "." in node.value.value
                ):
                    used.add(node.value.value)
    assert used <= set(CODES)
