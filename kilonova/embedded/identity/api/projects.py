"""Projects and their tags."""

from __future__ import annotations

from typing import Any

import msgspec

from kilonova.base.errors import BadRequest, Forbidden, NotFound
from kilonova.db.database import Tx
from kilonova.embedded.identity import listing, schemas, views
from kilonova.embedded.identity.api import domains
from kilonova.embedded.identity.app import Identity
from kilonova.embedded.identity.records import DEFAULT_DOMAIN, Project
from kilonova.embedded.identity.store import projects, rows
from kilonova.embedded.identity.tables import PROJECT
from kilonova.web.call import Call, Reply
from kilonova.web.routes import Routes

routes: Routes[Identity] = Routes(prefix="/projects", tag="projects")

KNOWN = (
    "name", "description", "domain_id", "parent_id", "enabled", "is_domain", "tags", "options",
)  # fmt: skip
_FILTERS = ("name", "domain_id", "parent_id", "enabled")
_TAG_FILTERS = ("tags", "tags-any", "not-tags", "not-tags-any")
_DEEPEST = 5


@routes.get("", head=True)
async def index(call: Call[Identity]) -> dict[str, Any]:
    """Projects by ``name``, ``domain_id``, ``parent_id``, ``enabled``, ``is_domain`` and tags."""
    call.enforce("identity:list_projects", _scope_target(call))
    part = listing.part(call)
    where = listing.filters(call, PROJECT, _FILTERS)
    where.append(rows.Where("is_domain", call.query.flag("is_domain")))
    tags = {
        how: [tag for value in call.query.all(how) for tag in value.split(",") if tag]
        for how in _TAG_FILTERS
        if how in call.query
    }
    found = await call.app.db.read(projects.page, where, part, tags=tags)
    return listing.answer(call, "projects", found, views.project, part.limit)


@routes.post("", status=201, body=schemas.PROJECT, policy="identity:create_project")
async def create(call: Call[Identity]) -> dict[str, Any]:
    """A new project in a domain, or below another project."""
    given, extra = rows.pick(call.body["project"], KNOWN)
    _own_words_only(extra)
    project_id = call.ids.hex()
    fallback = call.caller.domain_id or DEFAULT_DOMAIN

    def work(tx: Tx) -> Project:
        project = _new(tx, project_id, given, extra, fallback)
        projects.create(tx, project)
        return project

    return {"project": views.project(await call.app.change(work), call.link)}


@routes.get("/{project_id}", head=True)
async def show(call: Call[Identity], project_id: str) -> dict[str, Any]:
    """One project; ``parents_as_list`` and its like add the hierarchy."""
    project = await call.app.db.read(projects.find, project_id)
    target = {"project_id": project_id, "domain_id": "" if project is None else project.domain_id}
    call.enforce("identity:get_project", target)
    if project is None:
        raise NotFound(f"Could not find project: {project_id}.")
    shown = views.project(project, call.link)
    if "parents_as_list" in call.query or "parents_as_ids" in call.query:
        above = [p for p in await call.app.db.read(projects.parents, project) if not p.is_domain]
        if "parents_as_list" in call.query:
            shown["parents"] = [{"project": views.project(p, call.link)} for p in above]
        else:
            shown["parents"] = _nested_parents([p.id for p in above])
    if "subtree_as_list" in call.query or "subtree_as_ids" in call.query:
        below = await call.app.db.read(projects.subtree, project_id)
        if "subtree_as_list" in call.query:
            shown["subtree"] = [{"project": views.project(p, call.link)} for p in below]
        else:
            shown["subtree"] = _nested_children(project_id, below)
    return {"project": shown}


@routes.patch("/{project_id}", body=schemas.PROJECT_CHANGE, policy="identity:update_project")
async def update(call: Call[Identity], project_id: str) -> dict[str, Any]:
    """Change a project; disabling it ends its tokens."""
    given, extra = rows.pick(call.body["project"], KNOWN)
    _own_words_only(extra, project_id)
    now = call.app.now()

    def work(tx: Tx) -> Project:
        project = projects.get(tx, project_id)
        shown = views.project(project, call.link)
        for name in ("domain_id", "parent_id", "is_domain"):
            if name in given and given[name] != shown[name]:
                raise BadRequest(f"The attribute {name} of a project cannot be changed.")
        ending = project.enabled and given.get("enabled") is False
        if ending and any(child.enabled for child in projects.children(tx, project_id)):
            raise Forbidden("Disable the projects below this one first.")
        if given.get("enabled") and not project.enabled:
            above = projects.parents(tx, project)[:1]
            if above and not above[0].enabled and not above[0].is_domain:
                raise Forbidden("Enable the project above this one first.")
        project = domains.changed(project, given, extra, now)
        projects.update(tx, project)
        return project

    return {"project": views.project(await call.app.change(work), call.link)}


@routes.delete("/{project_id}", status=204, policy="identity:delete_project")
async def delete(call: Call[Identity], project_id: str) -> None:
    """Remove a project that has none below it."""

    def work(tx: Tx) -> None:
        project = projects.get(tx, project_id)
        if project.is_domain:
            domains.remove(tx, project_id)
            return
        if projects.children(tx, project_id):
            raise Forbidden("Delete the projects below this one first.")
        projects.delete(tx, project_id)

    await call.app.change(work)


@routes.get("/{project_id}/tags", head=True)
async def list_tags(call: Call[Identity], project_id: str) -> dict[str, Any]:
    """The tags of a project."""
    call.enforce("identity:get_project", {"project_id": project_id})
    project = await call.app.db.read(projects.get, project_id)
    return {"tags": list(project.tags), "links": {"self": listing.self_link(call)}}


@routes.put("/{project_id}/tags", body=schemas.PROJECT_TAGS, policy="identity:update_project_tags")
async def replace_tags(call: Call[Identity], project_id: str) -> dict[str, Any]:
    """Replace all tags."""
    tags = await _change_tags(call, project_id, lambda _: set(call.body["tags"]))
    return {"tags": tags, "links": {"self": listing.self_link(call)}}


@routes.delete("/{project_id}/tags", status=204, policy="identity:delete_project_tags")
async def delete_tags(call: Call[Identity], project_id: str) -> None:
    """Remove all tags."""
    await _change_tags(call, project_id, lambda _: set())


@routes.get("/{project_id}/tags/{tag}", head=True, status=204)
async def check_tag(call: Call[Identity], project_id: str, tag: str) -> None:
    """204 if the project has the tag, else 404."""
    call.enforce("identity:get_project", {"project_id": project_id})
    if tag not in (await call.app.db.read(projects.get, project_id)).tags:
        raise NotFound("The project does not have this tag.")


@routes.put("/{project_id}/tags/{tag}", status=201, policy="identity:create_project_tags")
async def add_tag(call: Call[Identity], project_id: str, tag: str) -> Reply:
    """Add a tag."""
    if not 1 <= len(tag) <= 255 or set(tag) & {",", "/"}:
        raise BadRequest("A tag has 1 to 255 characters, and neither commas nor slashes.")
    tags = await _change_tags(call, project_id, lambda present: {*present, tag})
    if len(tags) > 80:
        raise BadRequest("A project has at most 80 tags.")
    return Reply(None, status=201, headers={"Location": listing.self_link(call)})


@routes.delete("/{project_id}/tags/{tag}", status=204, policy="identity:delete_project_tags")
async def delete_tag(call: Call[Identity], project_id: str, tag: str) -> None:
    """Remove a tag."""
    await check_tag(call, project_id, tag)
    await _change_tags(call, project_id, lambda present: present - {tag})


async def _change_tags(call: Call[Identity], project_id: str, change: Any) -> list[str]:
    def work(tx: Tx) -> list[str]:
        project = projects.get(tx, project_id)
        tags = change(set(project.tags))
        if len(tags) > 80:
            raise BadRequest("A project has at most 80 tags.")
        projects.update(tx, msgspec.structs.replace(project, tags=tuple(tags)))
        return sorted(tags)

    return await call.app.change(work)


def _new(
    tx: Tx, project_id: str, given: dict[str, Any], extra: dict[str, Any], fallback: str
) -> Project:
    domain_id, parent_id = given.get("domain_id"), given.get("parent_id")
    if given.get("is_domain"):
        if domain_id is not None or parent_id is not None:
            raise BadRequest("A project that is a domain has no domain and no parent.")
        return _made(project_id, given, extra, "", None)
    above = _above(tx, domain_id, parent_id, fallback)
    home = above.id if above.is_domain else above.domain_id
    if domain_id is not None and domain_id != home:
        raise BadRequest("The project's domain must be that of the project above it.")
    if not above.enabled:
        raise Forbidden("The project above is disabled.")
    if len(projects.parents(tx, above)) + 1 > _DEEPEST:
        raise Forbidden(f"Projects may be nested at most {_DEEPEST} levels deep.")
    return _made(project_id, given, extra, home, above.id)


def _made(
    project_id: str,
    given: dict[str, Any],
    extra: dict[str, Any],
    domain_id: str,
    parent_id: str | None,
) -> Project:
    return Project(
        id=project_id,
        name=given["name"].strip(),
        domain_id=domain_id,
        parent_id=parent_id,
        description=given.get("description") or "",
        enabled=given.get("enabled", True),
        is_domain=not domain_id,
        options=given.get("options", {}),
        extra=extra,
        valid_from=0,
        tags=tuple(sorted(given.get("tags", ()))),
    )


def _above(tx: Tx, domain_id: str | None, parent_id: str | None, fallback: str) -> Project:
    above = projects.find(tx, parent_id or domain_id or fallback)
    if above is None and parent_id is not None:
        raise NotFound(f"Could not find project: {parent_id}.")
    if above is None or (parent_id is None and not above.is_domain):
        raise NotFound(f"Could not find domain: {domain_id or fallback}.")
    return above


def _scope_target(call: Call[Identity]) -> dict[str, Any]:
    return {"domain_id": call.query.get("domain_id", "")}


def _own_words_only(extra: dict[str, Any], own_id: str | None = None) -> None:
    extra.pop("links", None)
    if extra.pop("id", own_id) != own_id:
        raise BadRequest("The id of a project cannot be set.")


def _nested_parents(ids: list[str]) -> dict[str, Any] | None:
    nested: dict[str, Any] | None = None
    for project_id in reversed(ids):
        nested = {project_id: nested}
    return nested


def _nested_children(project_id: str, below: list[Project]) -> dict[str, Any] | None:
    nodes: dict[str, dict[str, Any]] = {project_id: {}}
    for item in below:
        nodes[item.id] = {}
        nodes[item.parent_id or project_id][item.id] = nodes[item.id]

    def tidy(node: dict[str, Any]) -> dict[str, Any] | None:
        return {key: tidy(inner) for key, inner in node.items()} or None

    return tidy(nodes[project_id])
