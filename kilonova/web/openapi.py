"""OpenAPI 3.1 documents, one for each microversion, out of the same routes, schemas and views."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from kilonova.web.call import Call, Reply
from kilonova.web.openapi_answers import components, responses
from kilonova.web.routes import PARAMETER, Api, Route, Routes

PATH = "/ext/openapi.json"


def document(
    api: Api[Any], version: int = 0, *, title: str | None = None, server: str | None = None
) -> dict[str, Any]:
    """The OpenAPI 3.1 document of ``api`` at minor ``version``.

    Paths stand as under a root; ``server`` is the URL of that root (the first one by default).
    Actions of one path are one operation whose body is one of their schemas. Policy rules and
    version windows are in ``x-openstack``.
    """
    text = str(version)
    if api.versions is not None:
        text = f"{api.versions.major}.{version}"
    paths: dict[str, dict[str, Any]] = {}
    shapes: dict[str, str] = {}
    for (path, method), rows in _operations(api, version).items():
        template = shapes.setdefault(PARAMETER.sub("{}", path), PARAMETER.sub(r"{\1}", path))
        item = paths.setdefault(template, {})
        item[method.lower()] = _operation(api, template, method, rows, version=version)
    return {
        "openapi": "3.1.0",
        "info": {"title": title or f"{api.name} API", "version": text},
        "servers": [{"url": server or _plain_root(api)}],
        "security": [{"token": []}],
        "paths": {path: paths[path] for path in sorted(paths)},
        "components": {
            "securitySchemes": {
                "token": {"type": "apiKey", "in": "header", "name": "X-Auth-Token"},
            },
            "responses": components(api, paths),
        },
    }


def openapi_routes(api: Callable[[], Api[Any]], *, title: str | None = None) -> Routes[Any]:
    """Routes that serve the document under ``/ext/openapi.json`` of every root, without a token.

    ``api`` gives the Api the routes are part of; the microversion headers choose the version.
    """
    routes: Routes[Any] = Routes(tag="openapi")
    made: dict[tuple[int, str], bytes] = {}

    @routes.get(PATH, public=True, summary="This API as an OpenAPI 3.1 document")
    async def openapi(call: Call[Any]) -> Reply:
        key = (call.version, call.base + call.root)
        if key not in made:
            if len(made) >= 64:
                made.clear()
            spec = document(api(), call.version, title=title, server=key[1] or "/")
            made[key] = msgspec.json.encode(spec)
        return Reply(made[key], headers={"Content-Type": "application/json"})

    return routes


def _plain_root(api: Api[Any]) -> str:
    return next((root.prefix for root in api.roots if "{" not in root.prefix), "") or "/"


def _operations(api: Api[Any], version: int) -> dict[tuple[str, str], list[Route]]:
    found: dict[tuple[str, str], list[Route]] = {}
    shapes: dict[tuple[str, str], tuple[str, str]] = {}
    for route in api.routes:
        if not route.rooted or route.gone or not route.covers(version):
            continue
        path = route.path or "/"
        shape = (PARAMETER.sub("{}", path), route.method)
        found.setdefault(shapes.setdefault(shape, (path, route.method)), []).append(route)
    return found


def _operation(
    api: Api[Any], path: str, method: str, rows: list[Route], *, version: int
) -> dict[str, Any]:
    first = rows[0]
    operation: dict[str, Any] = {
        "operationId": _identifier(method, path),
        "summary": _summary(first) if len(rows) == 1 else _many(rows),
        "parameters": [*_path_parameters(path), *_query_parameters(first, version)],
        "responses": responses(api, rows, version),
    }
    tags = sorted({tag for row in rows for tag in row.tags})
    if tags:
        operation["tags"] = tags
    if first.public:
        operation["security"] = []
    if api.versions is not None and first.versioned:
        # A document holds for one version: without the header the smallest one answers.
        asked = f"{api.versions.service} {api.versions.major}.{version}"
        operation["parameters"].append(
            {
                "name": "OpenStack-API-Version",
                "in": "header",
                "required": version > api.versions.minimum,
                "schema": {"type": "string", "enum": [asked]},
            }
        )
    if method == "POST" and not first.public:
        operation["parameters"].append(
            {"name": "Idempotency-Key", "in": "header", "schema": {"type": "string"}}
        )
    body = _body(rows, version)
    if body is not None:
        operation["requestBody"] = body
    operation["x-openstack"] = _facts(rows)
    return operation


def _facts(rows: list[Route]) -> dict[str, Any]:
    policies = {row.action or "": row.policy for row in rows if row.policy}
    facts: dict[str, Any] = {"since": min(row.since for row in rows)}
    if all(row.until is not None for row in rows):
        facts["until"] = max(row.until or 0 for row in rows)
    actions = [row.action for row in rows if row.action]
    if actions:
        facts["actions"] = actions
    if policies:
        facts["policy"] = policies if actions else next(iter(policies.values()))
    return facts


def _summary(route: Route) -> str:
    text = route.summary or inspect.getdoc(route.handler) or route.handler.__name__
    return text.strip().split("\n", 1)[0]


def _many(rows: list[Route]) -> str:
    return "One of the actions " + ", ".join(row.action or "" for row in rows)


def _identifier(method: str, path: str) -> str:
    words = re.sub(r"[^A-Za-z0-9]+", "_", path).strip("_")
    return f"{method.lower()}_{words or 'root'}"


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name, _ in PARAMETER.findall(path)
    ]


def _query_parameters(route: Route, version: int) -> list[dict[str, Any]]:
    tree = route.query.tree_at(version) if route.query is not None else None
    if not isinstance(tree, Mapping):
        return []
    required = tree.get("required", ())
    return [
        {"name": name, "in": "query", "required": name in required, "schema": schema}
        for name, schema in tree.get("properties", {}).items()
    ]


def _body(rows: list[Route], version: int) -> dict[str, Any] | None:
    if rows[0].stream and rows[0].checked and rows[0].method in ("POST", "PUT", "PATCH"):
        content: dict[str, Any] = {kind: {} for kind in rows[0].consumes}
        return {"content": content or {"application/octet-stream": {}}}
    schemas = []
    for row in rows:
        tree = row.body.tree_at(version) if row.body is not None else None
        if tree is None and row.action is not None:
            tree = {"type": "object", "required": [row.action]}
        if tree is not None:
            schemas.append({"title": row.action, **tree} if row.action else tree)
    if not schemas:
        return None
    schema = schemas[0] if len(schemas) == 1 else {"oneOf": schemas}
    return {"required": True, "content": {kind: {"schema": schema} for kind in rows[0].consumes}}
