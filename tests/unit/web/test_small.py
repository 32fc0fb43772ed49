"""Views, queries, pages, versions, faults, bodies."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from kilonova.base.errors import (
    BadRequest,
    Conflict,
    Fault,
    NotAcceptable,
    NotFound,
    TooLarge,
    Unauthorized,
)
from kilonova.web import body, faults, pages, versions
from kilonova.web.call import Query, join
from kilonova.web.discovery import version_entry
from kilonova.web.render import find_fault, render
from kilonova.web.view import OMIT, Field, View

COMPUTE = versions.VersionRange("compute", 2, 1, 104, "X-OpenStack-Nova-API-Version")


class Server(msgspec.Struct):
    id: str
    host: str | None = None


VIEW = View(
    "server",
    [
        Field("id"),
        Field("OS-EXT-SRV-ATTR:host", "host", policy="attributes"),
        Field("flavor", lambda s: 1, until=46),
        Field("flavor", lambda s: {"vcpus": 1}, since=47),
        Field("fault", lambda s: s.host or OMIT, since=10),
    ],
)


def test_view() -> None:
    server = Server("1", "h")
    assert VIEW.render(server, 1) == {"id": "1", "flavor": 1}
    assert VIEW.render(server, 47, frozenset({"attributes", "other"})) == {
        "id": "1",
        "OS-EXT-SRV-ATTR:host": "h",
        "flavor": {"vcpus": 1},
        "fault": "h",
    }
    assert "fault" not in VIEW.render(Server("1"), 47)
    assert VIEW.granted(lambda rule: rule == "attributes") == {"attributes"}
    assert VIEW.at(47)(server) == VIEW.render_all([server], 47)[0]
    twice = View("x", [Field("id"), Field("id", since=3)])
    assert twice.render(server, 2) == {"id": "1"}
    with pytest.raises(ValueError, match="two fields 'id'"):
        twice.render(server, 3)


def test_query() -> None:
    query = Query(b"a=1&a=2&b=&c=%C3%A9&d=true&e=0&f=x+y")
    assert query.get("a") == "2" and query.all("a") == ["1", "2"] and query.get("b") == ""
    assert query.get("c") == "é" and query.get("f") == "x y" and query.get("z", "d") == "d"
    assert query.flag("d") and not query.flag("e") and query.flag("z", default=True)
    assert query.number("e") == 0 and query.number("z", 7) == 7
    assert "b" in query and "z" not in query and len(query) == 6
    for work in (lambda: query.flag("c"), lambda: query.number("c"), lambda: Query("a=%00")):
        with pytest.raises(BadRequest):
            work()
    with pytest.raises(BadRequest):
        Query("&".join(f"a{n}=1" for n in range(1001)))


def test_pages() -> None:
    assert pages.page(Query("")) == pages.Page(1000)
    assert pages.page(Query("limit=5&marker=m"), maximum=3) == pages.Page(3, "m")
    assert pages.page(Query("limit=0")).limit == 0
    for text in ("limit=-1", "limit=x", "limit=", "limit=1.0"):
        with pytest.raises(BadRequest):
            pages.page(Query(text))


def test_sorting() -> None:
    default = [(item.key, item.descending) for item in pages.sorting(Query(""))]
    assert default == [("created_at", True), ("id", True)]
    both = Query("sort_key=name&sort_dir=asc&sort_key=id&sort_dir=desc")
    assert [(s.key, s.descending) for s in pages.sorting(both)] == [
        ("name", False), ("id", True), ("created_at", False),
    ]  # fmt: skip
    short = pages.sorting(Query("sort=name:asc,size"), default=[pages.Sort("id", descending=True)])
    assert [(s.key, s.descending) for s in short] == [
        ("name", False), ("size", True), ("id", False),
    ]  # fmt: skip
    for text in ("sort_dir=up", "sort_key=secret"):
        with pytest.raises(BadRequest):
            pages.sorting(Query(text), allowed={"name"})


def ask(**headers: str) -> int:
    raw = {name.replace("_", "-").lower().encode(): v.encode() for name, v in headers.items()}
    return versions.negotiate(COMPUTE, raw)


def test_negotiation() -> None:
    assert ask() == 1
    assert ask(OpenStack_API_Version="compute 2.37") == 37
    assert ask(OpenStack_API_Version="compute latest") == 104
    assert ask(OpenStack_API_Version="volume 3.1") == 1
    assert ask(OpenStack_API_Version="volume 3.1, compute 2.5") == 5
    assert ask(X_OpenStack_Nova_API_Version="2.9") == 9
    assert ask(X_OpenStack_Nova_API_Version="2.9", OpenStack_API_Version="compute 2.10") == 10
    for text in ("2.105", "2.0", "3.1", "1.1"):
        with pytest.raises(NotAcceptable):
            ask(OpenStack_API_Version=f"compute {text}")
    for text in ("2.x", "2", "", "2.01", "a b", "2.1.1", "2.-1"):
        with pytest.raises(BadRequest):
            ask(OpenStack_API_Version=f"compute {text}")


def test_version_entry() -> None:
    entry = version_entry(
        "v2.1", "http://x/v2.1/", versions=COMPUTE, updated="2013-07-23T11:33:21Z"
    )
    assert entry["version"] == "2.104" and entry["min_version"] == "2.1"
    assert entry["links"] == [{"rel": "self", "href": "http://x/v2.1/"}]


def test_faults() -> None:
    missing = NotFound("No server.", code="placement.undefined_code")
    assert faults.nova_faults(missing, 404, "r") == {
        "itemNotFound": {"code": 404, "message": "No server."}
    }
    assert faults.nova_faults(Fault("x"), 500, "r")["computeFault"]["code"] == 500
    assert faults.nova_faults(TooLarge("x"), 413, "r")["overLimit"]["retryAfter"] == "0"
    assert faults.nova_faults(Unauthorized(), 401, "r")["error"]["title"] == "Unauthorized"
    (error,) = faults.placement_faults(missing, 404, "req-1")["errors"]
    assert error["code"] == "placement.undefined_code" and error["request_id"] == "req-1"
    assert faults.keystone_faults(missing, 404, "r")["error"]["title"] == "Not Found"
    assert faults.glance_faults(missing, 404, "r")["code"] == "404 Not Found"
    port = faults.neutron_faults(NotFound("x", code="PortNotFound"), 404, "r")
    assert port == {"NeutronError": {"type": "PortNotFound", "message": "x", "detail": ""}}
    assert faults.neutron_faults(NotFound("x"), 404, "r")["NeutronError"]["type"] == "HTTPNotFound"


def test_faults_are_found_in_groups() -> None:
    inner = Conflict("c")
    assert find_fault(ExceptionGroup("g", [ValueError(), ExceptionGroup("h", [inner])])) is inner
    assert find_fault(ExceptionGroup("g", [ValueError()])) is None


def test_render() -> None:
    empty = render(None, 202)
    assert (empty.status, empty.body) == (202, b"")
    assert render(Server("1"), 200).body == b'{"id":"1","host":null}'
    assert render(b"raw", 200).body == b"raw"


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


def test_bodies_are_bounded() -> None:
    assert body.decode(nested(64)) is not None
    wide = b"[" + b",".join([b"[1]"] * 500) + b"]"
    assert len(body.decode(wide)) == 500
    values: list[Any] = [nested(65), nested(100_000), b'{"a\\u0000":1}', b"", b"{'a':1}", b"NaN"]
    for raw in values:
        with pytest.raises(BadRequest):
            body.decode(raw)
    assert body.decode(b'"\\\\u0000"') == "\\u0000"


def test_join() -> None:
    assert join("http://a/", "b c", "d/e", "ü") == "http://a/b%20c/d%2Fe/%C3%BC"
    assert join("http://a", "7a1e6a5e-9d5a", "x:y") == "http://a/7a1e6a5e-9d5a/x:y"
