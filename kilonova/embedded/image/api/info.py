"""What there is to know without an image: schemas, import methods, stores, tasks."""

from __future__ import annotations

from typing import Any

from kilonova.base.errors import BadRequest, NotFound
from kilonova.embedded.image import views
from kilonova.embedded.image.app import Images, show
from kilonova.embedded.image.records import STORE
from kilonova.embedded.image.schemas import DOCUMENTS
from kilonova.embedded.image.store import tasks
from kilonova.web.call import Call
from kilonova.web.routes import Routes

routes: Routes[Images] = Routes(tag="information")

_STORE = {"id": STORE, "description": "Files in a directory of this host", "default": "true"}


@routes.get("/schemas/{name}", policy="get_image")
async def schema(call: Call[Images], name: str) -> dict[str, Any]:
    """A JSON Schema."""
    if name not in DOCUMENTS:
        raise NotFound(f"There is no schema {name}.")
    return DOCUMENTS[name]


@routes.get("/info/import", policy="get_images")
async def import_methods(call: Call[Images]) -> dict[str, Any]:
    """How data may be imported."""
    text = "How image data may be imported."
    methods = {"description": text, "type": "array", "value": ["glance-direct"]}
    return {"import-methods": methods}


@routes.get("/info/stores", policy="get_images")
async def stores(call: Call[Images]) -> dict[str, Any]:
    """Where data is kept."""
    return {"stores": [_STORE]}


@routes.get("/info/stores/detail", policy="stores_info_detail")
async def stores_detail(call: Call[Images]) -> dict[str, Any]:
    """The same with details, for administrators."""
    properties = {"data_dir": str(call.app.settings.directory)}
    return {"stores": [{**_STORE, "type": "file", "weight": 0, "properties": properties}]}


@routes.get("/info/usage", policy="get_images")
async def usage(call: Call[Images]) -> dict[str, Any]:
    """Use of quotas: there are none."""
    return {"usage": {}}


@routes.get("/tasks", policy="get_tasks")
async def task_list(call: Call[Images]) -> dict[str, Any]:
    """All tasks, newest first, without their input and result."""
    found = [views.task(one) for one in await call.app.db.read(tasks.page)]
    hidden = ("input", "result", "message", "image_id", "request_id", "user_id")
    shown = [{k: v for k, v in one.items() if k not in hidden} for one in found]
    return {"tasks": shown, "first": "/v2/tasks", "schema": "/v2/schemas/tasks"}


@routes.post("/tasks", policy="get_tasks")
async def task_create(call: Call[Images]) -> None:
    """Refused: tasks come into being by importing."""
    raise BadRequest("Tasks cannot be made by themselves: use the import of an image.")


@routes.get("/tasks/{task_id}", policy="get_tasks")
async def task_show(call: Call[Images], task_id: str) -> dict[str, Any]:
    """One task."""
    found = await call.app.db.read(tasks.find, task_id)
    if found is None:
        raise NotFound(f"Could not find task {task_id}.")
    return views.task(found)


@routes.get("/images/{image_id}/tasks", policy="get_image")
async def image_tasks(call: Call[Images], image_id: str) -> dict[str, Any]:
    """The tasks of an image."""
    await show(call, image_id)
    found = await call.app.db.read(tasks.page, image_id)
    return {"tasks": [views.task(one) for one in found]}
