"""What a client gives: normal forms, defaults, and who may give what."""

from __future__ import annotations

from typing import Any

from kilonova.base.errors import BadRequest, Forbidden
from kilonova.embedded.network.app import NetworkCall, is_admin
from kilonova.embedded.network.attrs import ADMIN, COMPUTED, FLAG, REQUIRED, Kind, flag
from kilonova.embedded.network.store.rows import Row


def normal(kind: Kind, given: dict[str, Any]) -> dict[str, Any]:
    """Booleans as booleans, numbers as numbers, one spelling of the project, no None texts."""
    result = dict(given)
    tenant = result.pop("tenant_id", None)
    if tenant and "project_id" not in result:
        result["project_id"] = tenant
    for attr in kind.attrs:
        if attr.name not in result:
            continue
        value = result[attr.name]
        if attr.schema is FLAG:
            result[attr.name] = flag(value)
        elif value is None and attr.default == "":
            result[attr.name] = ""
        elif value is None and attr.default == ():
            result[attr.name] = []
        elif isinstance(value, str) and _is_number(attr.schema):
            result[attr.name] = int(value)
    return result


def defaults(call: NetworkCall, kind: Kind, given: dict[str, Any]) -> Row:
    """The columns of a new row: an id, what was given, and defaults for the rest."""
    values: dict[str, Any] = {"id": call.ids.uuid()}
    for attr in kind.attrs:
        if attr.name in given:
            values[attr.name] = given[attr.name]
        elif attr.default is REQUIRED:
            raise BadRequest(
                f"Failed to parse request. Required attribute '{attr.name}' not specified",
                code="HTTPBadRequest",
            )
        elif attr.default is not COMPUTED:
            values[attr.name] = [] if attr.default == () else attr.default
    values.setdefault("project_id", call.caller.project_id or "")
    return columns(kind, values)


def columns(kind: Kind, given: dict[str, Any]) -> Row:
    """Attributes by their column's name."""
    names = {a.name: a.column or a.name for a in kind.attrs}
    return {names[key]: value for key, value in given.items()}


def refuse_admin_only(call: NetworkCall, kind: Kind, given: dict[str, Any], *, verb: str) -> None:
    """Forbidden when somebody else than an administrator gives what only they may."""
    if is_admin(call.caller):
        return
    for attr in kind.attrs:
        who = attr.post if verb == "create" else attr.put
        if who is ADMIN and attr.name in given and given[attr.name] != attr.default:
            raise Forbidden(
                f"rule:{verb}_{kind.name}:{attr.name} is disallowed by policy",
                code="PolicyNotAuthorized",
            )
    project = given.get("project_id")
    if project is not None and project != call.caller.project_id:
        raise Forbidden(
            f"rule:{verb}_{kind.name} is disallowed by policy", code="PolicyNotAuthorized"
        )


def chosen(call: NetworkCall, document: dict[str, Any]) -> dict[str, Any]:
    """Only the ``fields`` asked for."""
    fields = call.query.all("fields")
    return {k: v for k, v in document.items() if k in fields} if fields else document


def _is_number(schema: dict[str, Any]) -> bool:
    """Whether an attribute is a whole number, also when it may be spelled as a string or null."""
    if any(form.get("type") == "integer" for form in schema.get("anyOf", ())):
        return True
    if any("anyOf" in form for form in schema.get("anyOf", ())):
        return any(_is_number(form) for form in schema["anyOf"])
    return set(schema.get("enum", ())) == {4, 6, "4", "6"}
