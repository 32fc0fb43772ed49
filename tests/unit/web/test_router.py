"""The router: what is found, what is not, and which tables are refused."""

from __future__ import annotations

from typing import Any

import pytest

from kilonova.web.call import Call
from kilonova.web.faults import nova_faults
from kilonova.web.router import Found, Router
from kilonova.web.routes import Api, Root, Routes


async def none(call: Call[None]) -> None:
    return None


async def one(call: Call[None], a: str) -> None:
    return None


async def two(call: Call[None], b: str, a: str) -> None:
    return None


def api(*rows: tuple[str, str, Any], roots: Any = ("",), **more: Any) -> Api[None]:
    routes: Routes[None] = Routes()
    for method, path, handler in rows:
        routes.add(method, path, handler)
    return Api("compute", [routes], faults=nova_faults, roots=roots, **more)


def values(found: Found | None, method: str = "GET") -> tuple[str, list[str]]:
    assert found is not None
    target = found.methods[method].plain[0]
    return target.route.path, [found.values[index] for index in target.arguments]


def test_static_wins_and_dead_ends_are_left_again() -> None:
    router = Router(
        api(
            ("GET", "/s", none),
            ("GET", "/s/detail", none),
            ("GET", "/s/{a}", one),
            ("GET", "/s/{a}/x/{b}", two),
            ("GET", "/{a}/deep/end", one),
        )
    )
    assert values(router.find("/s/detail")) == ("/s/detail", [])
    assert values(router.find("/s/other")) == ("/s/{a}", ["other"])
    assert values(router.find("/s/detail/x/2")) == ("/s/{a}/x/{b}", ["2", "detail"])
    assert values(router.find("/s/deep/end")) == ("/{a}/deep/end", ["s"])
    assert values(router.find("/s/")) == ("/s", [])
    for path in ("/", "", "/s//", "/s/a/x", "/s/a/x/b/c", "/s/a/x/"):
        assert router.find(path) is None, path


def test_roots_with_and_without_project() -> None:
    router = Router(
        api(
            ("GET", "", none),
            ("GET", "/s/{a}", one),
            ("GET", "/quota/{project_id}", none),
            roots=["/v2.1", "/v2.1/{project_id}", Root("/v2", relaxed=True)],
        )
    )
    assert values(router.find("/v2.1/s/1")) == ("/s/{a}", ["1"])
    found = router.find("/v2.1/p/s/1")
    assert values(found) == ("/s/{a}", ["1"])
    assert found is not None and found.methods["GET"].root_names == ("project_id",)
    relaxed = router.find("/v2/s/1")
    assert relaxed is not None and relaxed.methods["GET"].root.relaxed
    assert router.find("/v2/p/s/1") is None
    assert values(router.find("/v2.1/p/quota/q")) == ("/quota/{project_id}", [])


def test_a_catch_all_outside_the_roots_leaves_them_alone() -> None:
    routes: Routes[None] = Routes(rooted=False)
    routes.add("GET", "/{a:path}", one, public=True)
    inner: Routes[None] = Routes()
    inner.add("GET", "/files/{a:path}", one)
    router = Router(Api("x", [routes, inner], faults=nova_faults, roots=["/v1"]))
    assert values(router.find("/any/thing")) == ("/{a:path}", ["any/thing"])
    assert values(router.find("/v1/files/b/c")) == ("/files/{a:path}", ["b/c"])
    assert router.find("/v1/other") is None
    assert router.find("/v1") is None
    assert router.find("/v10") is not None


def test_head() -> None:
    rows = [("GET", "/a", none)]
    plain = Router(api(*rows)).find("/a")
    headed = Router(api(*rows, head=True)).find("/a")
    assert plain is not None and "HEAD" not in plain.methods
    assert headed is not None and "HEAD" in headed.methods


def test_tables_that_contradict_themselves() -> None:
    with pytest.raises(ValueError, match="twice"):
        Router(api(("GET", "/a/{a}", one), ("GET", "/a/{b}", none)))
    with pytest.raises(ValueError, match="no parameter b"):
        api(("GET", "/a/{a}", two))
    with pytest.raises(ValueError, match="whole path segment"):
        Router(api(("GET", "/a/x{a}", one)))
    with pytest.raises(ValueError, match="stands last"):
        Router(api(("GET", "/{a:path}/b", one)))
    routes: Routes[None] = Routes()
    routes.add("GET", "/a", none, until=4)
    routes.add("GET", "/a", none, since=5, public=True)
    with pytest.raises(ValueError, match="public"):
        Router(Api("x", [routes], faults=nova_faults))
    windows: Routes[None] = Routes()
    windows.add("GET", "/a", none, until=5)
    windows.add("GET", "/a", none, since=5)
    with pytest.raises(ValueError, match="twice"):
        Router(Api("x", [windows], faults=nova_faults))
