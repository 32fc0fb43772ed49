"""Metadata below volumes and below snapshots: the same six routes."""

from __future__ import annotations

from typing import Any

from kilonova.base.errors import BadRequest, NotFound
from kilonova.db.database import Tx
from kilonova.embedded.volume.app import R, Volumes, show, visible
from kilonova.embedded.volume.schemas import SET_META, SET_METADATA
from kilonova.embedded.volume.store import rows
from kilonova.web.call import Call
from kilonova.web.routes import Routes


def texts(given: dict[str, Any] | None) -> dict[str, str]:
    """Values as texts."""
    return {name: str(value) for name, value in (given or {}).items()}


def add(routes: Routes[Volumes], kind: type[R], rule: str) -> None:
    """Hang ``/{item_id}/metadata`` below ``routes``; ``rule`` is the policy of changing it."""

    async def change(call: Call[Volumes], item_id: str, *, replace: bool) -> dict[str, Any]:
        await show(call, kind, item_id, rule)
        given = texts(call.body.get("metadata", call.body.get("meta")))

        def work(tx: Tx) -> dict[str, str]:
            item = visible(tx, kind, item_id, call.caller, lock=True)
            after = given if replace else {**item.metadata, **given}
            rows.change(tx, kind, item_id, metadata=after)
            return after

        return {"metadata": await call.app.db.run(work)}

    @routes.get("/{item_id}/metadata")
    async def metadata(call: Call[Volumes], item_id: str) -> dict[str, Any]:
        """All metadata."""
        return {"metadata": (await show(call, kind, item_id)).metadata}

    @routes.post("/{item_id}/metadata", body=SET_METADATA)
    async def add_metadata(call: Call[Volumes], item_id: str) -> dict[str, Any]:
        """Add metadata."""
        return await change(call, item_id, replace=False)

    @routes.put("/{item_id}/metadata", body=SET_METADATA)
    async def replace_metadata(call: Call[Volumes], item_id: str) -> dict[str, Any]:
        """Replace all metadata."""
        return await change(call, item_id, replace=True)

    @routes.get("/{item_id}/metadata/{key}")
    async def meta(call: Call[Volumes], item_id: str, key: str) -> dict[str, Any]:
        """One item."""
        item = await show(call, kind, item_id)
        if key not in item.metadata:
            raise NotFound(f"Metadata item was not found: {key}")
        return {"meta": {key: item.metadata[key]}}

    @routes.put("/{item_id}/metadata/{key}", body=SET_META)
    async def set_meta(call: Call[Volumes], item_id: str, key: str) -> dict[str, Any]:
        """Set one item."""
        given = texts(call.body["meta"])
        if set(given) != {key}:
            raise BadRequest("Request body and URI mismatch")
        await change(call, item_id, replace=False)
        return {"meta": given}

    @routes.delete("/{item_id}/metadata/{key}")
    async def delete_meta(call: Call[Volumes], item_id: str, key: str) -> None:
        """Remove one item."""
        await show(call, kind, item_id, rule)

        def work(tx: Tx) -> None:
            item = visible(tx, kind, item_id, call.caller, lock=True)
            if key not in item.metadata:
                raise NotFound(f"Metadata item was not found: {key}")
            left = {name: value for name, value in item.metadata.items() if name != key}
            rows.change(tx, kind, item_id, metadata=left)

        await call.app.db.run(work)
