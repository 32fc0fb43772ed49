"""What all resources share: routes, defaults, who may see and give what, bulk create, paging."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa

from kilonova.base.errors import BadRequest, Forbidden, NotFound
from kilonova.db.database import Tx
from kilonova.embedded.network.app import NetworkApp, NetworkCall, Work, is_admin
from kilonova.embedded.network.attrs import ADMIN, COMPUTED, FLAG, REQUIRED, Kind, flag
from kilonova.embedded.network.store import quotas, rows
from kilonova.embedded.network.store.rows import Row
from kilonova.web.call import Reply
from kilonova.web.pages import next_href
from kilonova.web.routes import Routes

T = TypeVar("T")

Visible = Callable[[str], sa.ColumnElement[bool] | None]


class Resource(msgspec.Struct, frozen=True):
    """A kind with its rules. All functions run inside the request's transaction.

    ``create(work, values)`` inserts and returns the row; ``update(work, row, changes)``;
    ``delete(work, row)``; ``render(tx, rows, admin)`` makes the documents; ``visible(project)``
    says what others than the administrator see beside their own.
    """

    kind: Kind
    create: Callable[[Work, Row], Row]
    update: Callable[[Work, Row, Row], Row] | None
    delete: Callable[[Work, Row], None]
    render: Callable[[Tx, list[Row], bool], list[dict[str, Any]]]
    visible: Visible


def routes(resource: Resource) -> Routes[NetworkApp]:
    """List, create, show, update, delete of a resource."""
    kind = resource.kind
    made: Routes[NetworkApp] = Routes(prefix="/v2.0", tag=kind.url)

    @made.get(f"/{kind.url}", policy=f"get_{kind.name}")
    async def index(call: NetworkCall) -> Reply:
        return await list_all(call, resource)

    @made.post(f"/{kind.url}", policy=f"create_{kind.name}", body=kind.body("post"), status=201)
    async def create(call: NetworkCall) -> dict[str, Any]:
        return await create_all(call, resource)

    @made.get(f"/{kind.url}/{{row_id}}", policy=f"get_{kind.name}")
    async def show(call: NetworkCall, row_id: str) -> dict[str, Any]:
        def read(tx: Tx) -> dict[str, Any]:
            row = seen(tx, resource, call, row_id)
            return resource.render(tx, [row], is_admin(call.caller))[0]

        return {kind.name: chosen(call, await call.app.db.read(read))}

    @made.delete(f"/{kind.url}/{{row_id}}", policy=f"delete_{kind.name}", status=204)
    async def delete(call: NetworkCall, row_id: str) -> None:
        def work(job: Work) -> None:
            row = own(job.tx, resource, call, row_id)
            resource.delete(job, row)

        await write(call, work)

    if resource.update is not None:
        change = resource.update

        @made.put(f"/{kind.url}/{{row_id}}", policy=f"update_{kind.name}", body=kind.body("put"))
        async def update(call: NetworkCall, row_id: str) -> dict[str, Any]:
            given = normal(kind, call.body[kind.name])
            refuse_admin_only(call, kind, given, verb="update")

            def work(job: Work) -> dict[str, Any]:
                row = own(job.tx, resource, call, row_id)
                changed = change(job, row, columns(kind, given))
                return resource.render(job.tx, [changed], job.admin)[0]

            return {kind.name: await write(call, work)}

    return made


async def write(call: NetworkCall, work: Callable[[Work], T]) -> T:
    """Run ``work`` in a transaction, wake the data plane, tell the compute service."""
    app = call.app
    told: list[dict[str, Any]] = []

    def run(tx: Tx) -> T:
        job = Work(tx, app, call.caller, call.ids)
        result = work(job)
        told[:] = job.events
        return result

    result = await app.db.run(run)
    app.touch()
    if told and app.notify is not None:
        await app.notify(told)
    return result


async def list_all(call: NetworkCall, resource: Resource) -> Reply:
    """A list with filters, order and links to its neighbours."""
    kind = resource.kind
    wanted = rows.listing(kind, call.query.lists())
    admin = is_admin(call.caller)

    def read(tx: Tx) -> tuple[list[dict[str, Any]], bool]:
        visible = None if admin else _visible(resource, call.caller.project_id or "")
        found = rows.find(tx, kind, wanted, visible=visible)
        more = bool(wanted.limit) and len(found) > (wanted.limit or 0)
        found = found[: wanted.limit] if wanted.limit else found
        if wanted.reverse:
            found.reverse()
        return resource.render(tx, found, admin), more

    documents, more = await call.app.db.read(read)
    documents = [d for d in documents if matches(d, wanted)]
    body: dict[str, Any] = {kind.plural: [chosen(call, d) for d in documents]}
    if more and documents:
        body[f"{kind.plural}_links"] = [
            {"rel": "next", "href": next_href(call, documents[-1]["id"])}
        ]
    return Reply(body)


def matches(document: dict[str, Any], wanted: rows.Listing) -> bool:
    """Whether a document passes the filters no column stands for (addresses of ports)."""
    for key, values in wanted.filters:
        if key == "fixed_ips":
            for value in values:
                field, _, text = value.partition("=")
                if not any(ip.get(field) == text for ip in document["fixed_ips"]):
                    return False
        elif key == "security_groups" and not set(values) & set(document.get(key, ())):
            return False
    return True


async def create_all(call: NetworkCall, resource: Resource) -> dict[str, Any]:
    """Create one, or several in one transaction."""
    kind = resource.kind
    bulk = kind.plural in call.body
    asked = call.body[kind.plural] if bulk else [call.body[kind.name]]
    wanted = []
    for item in asked:
        given = normal(kind, item)
        refuse_admin_only(call, kind, given, verb="create")
        wanted.append(_defaults(call, kind, given))

    def work(job: Work) -> list[dict[str, Any]]:
        made = []
        for values in wanted:
            quotas.check(job.tx, values["project_id"], kind, 1, job.app.settings.quotas)
            made.append(resource.create(job, dict(values)))
        return resource.render(job.tx, made, job.admin)

    documents = await write(call, work)
    return {kind.plural: documents} if bulk else {kind.name: documents[0]}


def seen(tx: Tx, resource: Resource, call: NetworkCall, row_id: str) -> Row:
    """A row the caller may see; NotFound else."""
    kind = resource.kind
    row = rows.need(tx, kind, row_id)
    if is_admin(call.caller) or row["project_id"] == call.caller.project_id:
        return row
    visible = _visible(resource, call.caller.project_id or "")
    statement = sa.select(kind.table.c.id).where(sa.and_(kind.table.c.id == row_id, visible))
    if tx.execute(statement).first() is None:
        raise rows.missing(kind, row_id)
    return row


def own(tx: Tx, resource: Resource, call: NetworkCall, row_id: str) -> Row:
    """A row the caller may change; NotFound if unseen, Forbidden if only seen."""
    row = seen(tx, resource, call, row_id)
    if not is_admin(call.caller) and row["project_id"] != call.caller.project_id:
        raise Forbidden(
            f"The {resource.kind.name} {row_id} belongs to another project.",
            code="PolicyNotAuthorized",
        )
    return rows.need(tx, resource.kind, row_id, lock=True)


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
        elif value is None and (attr.default in ("", ()) or "array" in _types(attr.schema)):
            result[attr.name] = "" if attr.default == "" else None
            if attr.default == ():
                result[attr.name] = []
        elif isinstance(value, str) and _types(attr.schema) == ["integer"]:
            result[attr.name] = int(value)
    return result


def _types(schema: dict[str, Any]) -> list[str]:
    kinds = schema.get("type", [])
    if "anyOf" in schema:
        first = schema["anyOf"][0]
        return ["integer"] if first.get("type") == "integer" or "anyOf" in first else []
    return [kinds] if isinstance(kinds, str) else list(kinds)


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


def columns(kind: Kind, given: dict[str, Any]) -> Row:
    """Attributes by their column's name."""
    names = {a.name: a.column or a.name for a in kind.attrs}
    return {names[key]: value for key, value in given.items()}


def chosen(call: NetworkCall, document: dict[str, Any]) -> dict[str, Any]:
    """Only the ``fields`` asked for."""
    fields = call.query.all("fields")
    return {k: v for k, v in document.items() if k in fields} if fields else document


def plain(kind: Kind) -> Callable[[Tx, list[Row], bool], list[dict[str, Any]]]:
    """A render function without anything from other tables."""

    def render(_tx: Tx, found: list[Row], admin: bool) -> list[dict[str, Any]]:
        return [kind.view(row, admin=admin) for row in found]

    return render


def nothing_else(_project: str) -> sa.ColumnElement[bool] | None:
    """For resources nobody but the owner sees."""
    return None


def one_of(tx: Tx, resource: Resource, job: Work, row_id: str) -> Row:
    """A row another resource refers to and the caller may use; NotFound else."""
    row = rows.get(tx, resource.kind, row_id)
    if row is None:
        raise rows.missing(resource.kind, row_id)
    if job.admin or row["project_id"] == job.project_id:
        return row
    visible = _visible(resource, job.project_id)
    table = resource.kind.table
    if tx.execute(sa.select(table.c.id).where(sa.and_(table.c.id == row_id, visible))).first():
        return row
    raise rows.missing(resource.kind, row_id)


def _visible(resource: Resource, project_id: str) -> sa.ColumnElement[bool]:
    own_rows = resource.kind.table.c.project_id == project_id
    more = resource.visible(project_id)
    return own_rows if more is None else sa.or_(own_rows, more)


def _defaults(call: NetworkCall, kind: Kind, given: dict[str, Any]) -> Row:
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
            values[attr.name] = list(attr.default) if attr.default == () else attr.default
    values.setdefault("project_id", call.caller.project_id or "")
    return columns(kind, values)


def by_ids(found: Sequence[Row], key: str = "id") -> dict[str, Row]:
    """Rows by one of their columns."""
    return {row[key]: row for row in found}


def not_found(what: str) -> NotFound:
    """A NotFound without a resource."""
    return NotFound(what, code="HTTPNotFound")
