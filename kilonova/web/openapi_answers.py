"""What a route may answer, for its OpenAPI document: good answers, and the pipeline's errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kilonova.base.errors import Fault
from kilonova.web.faults import title as phrase
from kilonova.web.routes import PARAMETER, Api, Route

_WRITING = ("POST", "PUT", "PATCH", "DELETE")
_NAMES = {
    400: "badRequest",
    401: "unauthorized",
    403: "forbidden",
    404: "notFound",
    405: "methodNotAllowed",
    406: "notAcceptable",
    409: "conflict",
    410: "gone",
    412: "preconditionFailed",
    413: "tooLarge",
    415: "unsupportedMediaType",
    416: "rangeNotSatisfiable",
    429: "tooManyRequests",
    500: "internal",
    501: "notSupported",
    502: "badGateway",
    503: "unavailable",
    504: "timeout",
}
SOMETIMES = "x-openstack-sometimes"
"""The form of a body that only some answers of an operation have; ``{}``: of any form."""
_WORD = "req-00000000-0000-0000-0000-000000000000"


def reads(route: Route) -> bool:
    """Whether the pipeline reads a body for the route."""
    return route.method in ("POST", "PUT", "PATCH") or route.body is not None


def statuses(api: Api[Any], rows: list[Route], version: int) -> list[int]:
    """The errors an operation may answer: those of the pipeline, and what its rows say."""
    first = rows[0]
    found = {400, 503}
    # Bodies, too, name things that may not be there.
    if PARAMETER.search(first.path) or first.method in _WRITING:
        found.add(404)
    if not first.public:
        found |= {401, 403}
    if api.versions is not None and first.versioned:
        found.add(406)
    if any(reads(row) for row in rows):
        found |= {413, 415}
    if first.method in _WRITING:
        found.add(409)
    if first.action is not None and any(_gone_beside(row, first) for row in api.routes):
        found.add(410)
    found |= {row.status for row in rows if row.status >= 400}
    found |= {status for row in rows for status in row.also_at(version) if status >= 400}
    return sorted(found)


def _gone_beside(row: Route, first: Route) -> bool:
    return row.gone and (row.method, row.path) == (first.method, first.path)


def responses(api: Api[Any], rows: list[Route], version: int) -> dict[str, Any]:
    """The ``responses`` of an operation: status → answer, errors by reference."""
    forms: dict[int, list[Any]] = {}
    for row in rows:
        tree = _unsaid(row) if row.responses is None else row.responses.tree_at(version)
        for status in (row.status, *(status for status in row.also_at(version) if status < 400)):
            forms.setdefault(status, []).append(tree)
    answers: dict[str, Any] = {}
    for status, trees in forms.items():
        answer: dict[str, Any] = {"description": phrase(status)}
        said = [tree for number, tree in enumerate(trees) if tree not in trees[:number]]
        bodies = [tree for tree in said if tree is not None]
        if bodies and status not in (204, 304):
            schema = bodies[0] if len(bodies) == 1 else {"anyOf": bodies}
            if {} in bodies or len(bodies) < len(said):
                # A content would say that there is always one.
                answer[SOMETIMES] = {} if {} in bodies else schema
            else:
                answer["content"] = {"application/json": {"schema": schema}}
        answers[str(status)] = answer
    for status in statuses(api, rows, version):
        answers[str(status)] = {"$ref": f"#/components/responses/{_NAMES[status]}"}
    return answers


def silent(route: Route) -> bool:
    """Whether the route answers no JSON: nothing at all, or a stream of its own."""
    return route.handler.__annotations__.get("return") in (None, "None", "Response")


def _unsaid(route: Route) -> dict[str, Any] | None:
    """The form of a body nobody described: anything."""
    return None if silent(route) else {}


def components(api: Api[Any], paths: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The error answers that operations of ``paths`` refer to."""
    used = {
        int(status)
        for item in paths.values()
        for operation in item.values()
        for status, answer in operation["responses"].items()
        if "$ref" in answer
    }
    return {_NAMES[status]: _error(api, status) for status in sorted(used)}


def _error(api: Api[Any], status: int) -> dict[str, Any]:
    example = api.faults(Fault(phrase(status)), status, _WORD)
    return {
        "description": f"{phrase(status)}. With `Prefer: error-code` in the request there is an "
        "`error_code` beside the text.",
        "content": {"application/json": {"schema": _shape(example), "example": example}},
    }


def _shape(example: Any) -> dict[str, Any]:
    """A schema of everything formed like ``example``."""
    if isinstance(example, Mapping):
        return {
            "type": "object",
            "properties": {name: _shape(value) for name, value in example.items()},
            "required": list(example),
        }
    if isinstance(example, list):
        return {"type": "array", "items": _shape(example[0]) if example else {}}
    kinds = {bool: "boolean", int: "integer", str: "string"}
    return {"type": kinds[type(example)]} if type(example) in kinds else {}
