"""A kind with its rules, and who may reach which of its rows."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from kilonova.base.errors import BadRequest, Forbidden, PreconditionFailed
from kilonova.db.database import Tx
from kilonova.embedded.network.app import NetworkCall, Work, is_admin
from kilonova.embedded.network.attrs import Kind
from kilonova.embedded.network.store import rows, visible
from kilonova.embedded.network.store.rows import Row

Render = Callable[[Tx, list[Row], bool], list[dict[str, Any]]]

_REVISION = re.compile(r"\s*revision_number\s*=\s*([0-9]{1,9})\s*")


class Resource(msgspec.Struct, frozen=True):
    """A kind with its rules. All functions but ``ensure`` run inside the request's transaction.

    ``create(work, values)`` inserts and returns the row; ``update(work, row, changes)``;
    ``delete(work, row)``; ``render(tx, rows, admin)`` makes the documents; ``ensure(call)`` is
    called before lists, for rows that are there as soon as anybody looks.
    """

    kind: Kind
    create: Callable[[Work, Row], Row]
    update: Callable[[Work, Row, Row], Row] | None
    delete: Callable[[Work, Row], None]
    render: Render
    ensure: Callable[[NetworkCall], Awaitable[None]] | None = None


def plain(kind: Kind) -> Render:
    """A render function without anything from other tables."""

    def render(_tx: Tx, found: list[Row], admin: bool) -> list[dict[str, Any]]:
        return [kind.view(row, admin=admin) for row in found]

    return render


def seen(tx: Tx, resource: Resource, call: NetworkCall, row_id: str, *, lock: bool = False) -> Row:
    """A row the caller may see; NotFound else."""
    row = rows.need(tx, resource.kind, row_id, lock=lock)
    project = call.caller.project_id or ""
    if is_admin(call.caller) or (project and row["project_id"] == project):
        return row
    if not visible.sees(tx, resource.kind, row_id, project):
        raise rows.missing(resource.kind, row_id)
    return row


def own(tx: Tx, resource: Resource, call: NetworkCall, row_id: str) -> Row:
    """A row the caller may change, locked; NotFound if unseen, Forbidden if only seen.

    PreconditionFailed when the request says ``If-Match: revision_number=N`` of another revision.
    """
    row = seen(tx, resource, call, row_id, lock=True)
    if not is_admin(call.caller) and row["project_id"] != call.caller.project_id:
        raise Forbidden(
            f"The {resource.kind.name} {row_id} belongs to another project.",
            code="PolicyNotAuthorized",
        )
    wanted = _revision(call)
    if wanted is not None and wanted != row["revision_number"]:
        raise PreconditionFailed(
            f"Constrained to {wanted}, but current revision is {row['revision_number']}",
            code="RevisionNumberConstraintFailed",
        )
    return row


def usable(job: Work, resource: Resource, row_id: str) -> Row:
    """A row another resource refers to and the caller may use; NotFound else."""
    row = rows.get(job.tx, resource.kind, row_id)
    if row is None:
        raise rows.missing(resource.kind, row_id)
    if job.admin or row["project_id"] == job.project_id:
        return row
    if visible.sees(job.tx, resource.kind, row_id, job.project_id):
        return row
    raise rows.missing(resource.kind, row_id)


def _revision(call: NetworkCall) -> int | None:
    text = call.request.headers.get("if-match")
    if text is None:
        return None
    match = _REVISION.fullmatch(text)
    if match is None:
        raise BadRequest(
            f"Invalid input for If-Match. Reason: '{text[:64]}' is not of the form "
            "revision_number=N.",
            code="HTTPBadRequest",
        )
    return int(match[1])
