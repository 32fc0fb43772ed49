"""List, create, show, update and delete of any resource; bulk create, pages, chosen fields."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from kilonova.db.database import Tx
from kilonova.embedded.network.api.resource import Resource, own, seen
from kilonova.embedded.network.api.values import (
    chosen,
    columns,
    defaults,
    normal,
    refuse_admin_only,
)
from kilonova.embedded.network.app import NetworkApp, NetworkCall, Work, is_admin
from kilonova.embedded.network.attrs import Kind
from kilonova.embedded.network.store import lists, quotas
from kilonova.web.routes import Routes
from kilonova.web.schema import Schema


def _made(kind: Kind) -> Schema:
    return Schema({"anyOf": [kind.answer(), kind.answer(several=True)]})


def routes(resource: Resource) -> Routes[NetworkApp]:
    """The routes of a resource."""
    kind = resource.kind
    made: Routes[NetworkApp] = Routes(prefix="/v2.0", tag=kind.url)

    @made.get(f"/{kind.url}", policy=f"get_{kind.name}", responses=kind.answer(several=True))
    async def index(call: NetworkCall) -> dict[str, Any]:
        return await list_all(call, resource)

    @made.post(
        f"/{kind.url}",
        policy=f"create_{kind.name}",
        body=kind.body("post"),
        status=201,
        responses=_made(kind),
    )
    async def create(call: NetworkCall) -> dict[str, Any]:
        return await create_all(call, resource)

    @made.get(f"/{kind.url}/{{row_id}}", policy=f"get_{kind.name}", responses=kind.answer())
    async def show(call: NetworkCall, row_id: str) -> dict[str, Any]:
        def read(tx: Tx) -> dict[str, Any]:
            row = seen(tx, resource, call, row_id)
            return resource.render(tx, [row], is_admin(call.caller))[0]

        return {kind.name: chosen(call, await call.app.db.read(read))}

    @made.delete(f"/{kind.url}/{{row_id}}", policy=f"delete_{kind.name}", status=204, also=(412,))
    async def delete(call: NetworkCall, row_id: str) -> None:
        def work(job: Work) -> None:
            resource.delete(job, own(job.tx, resource, call, row_id))

        await call.app.write(call.caller, work, ids=call.ids)

    if resource.update is not None:
        change = resource.update

        @made.put(
            f"/{kind.url}/{{row_id}}",
            policy=f"update_{kind.name}",
            body=kind.body("put"),
            also=(412,),
            responses=kind.answer(),
        )
        async def update(call: NetworkCall, row_id: str) -> dict[str, Any]:
            given = normal(kind, call.body[kind.name])
            refuse_admin_only(call, kind, given, verb="update")

            def work(job: Work) -> dict[str, Any]:
                row = own(job.tx, resource, call, row_id)
                changed = change(job, row, columns(kind, given))
                return resource.render(job.tx, [changed], job.admin)[0]

            return {kind.name: await call.app.write(call.caller, work, ids=call.ids)}

    return made


async def list_all(call: NetworkCall, resource: Resource) -> dict[str, Any]:
    """A list with filters, order and links to its neighbours."""
    kind = resource.kind
    if resource.ensure is not None:
        await resource.ensure(call)
    wanted = lists.listing(kind, call.query.lists())
    admin = is_admin(call.caller)
    project = None if admin else call.caller.project_id or ""

    def read(tx: Tx) -> tuple[list[dict[str, Any]], bool]:
        found, more = lists.find(tx, kind, wanted, project=project)
        return resource.render(tx, found, admin), more

    documents, more = await call.app.db.read(read)
    body: dict[str, Any] = {kind.plural: [chosen(call, d) for d in documents]}
    if wanted.limit and documents:
        came = wanted.marker is not None
        onward, back = (came, more) if wanted.reverse else (more, came)
        links = []
        if onward:
            links.append(_link(call, "next", documents[-1]["id"]))
        if back:
            links.append(_link(call, "previous", documents[0]["id"]))
        if links:
            body[f"{kind.plural}_links"] = links
    return body


async def create_all(call: NetworkCall, resource: Resource) -> dict[str, Any]:
    """Create one, or several in one transaction."""
    kind = resource.kind
    bulk = kind.plural in call.body
    asked = call.body[kind.plural] if bulk else [call.body[kind.name]]
    wanted = []
    for item in asked:
        given = normal(kind, item)
        refuse_admin_only(call, kind, given, verb="create")
        wanted.append(defaults(call, kind, given))

    def work(job: Work) -> list[dict[str, Any]]:
        made = []
        for values in wanted:
            quotas.check(job.tx, values["project_id"], kind, 1, job.app.settings.quotas)
            made.append(resource.create(job, dict(values)))
        return resource.render(job.tx, made, job.admin)

    documents = await call.app.write(call.caller, work, ids=call.ids)
    return {kind.plural: documents} if bulk else {kind.name: documents[0]}


def _link(call: NetworkCall, rel: str, marker: str) -> dict[str, str]:
    kept = [(k, v) for k, v in call.query.items() if k not in ("marker", "page_reverse")]
    kept.append(("marker", marker))
    if rel == "previous":
        kept.append(("page_reverse", "True"))
    path = call.base + call.request.scope["path"]
    return {"rel": rel, "href": f"{path}?{urlencode(kept)}"}
