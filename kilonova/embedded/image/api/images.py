"""Images: making, listing, showing, changing and removing them; their tags."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlencode

import msgspec

from kilonova.base.errors import BadRequest, Forbidden, NotFound, TooLarge
from kilonova.db.database import Tx
from kilonova.embedded.image import patch, query, views
from kilonova.embedded.image.app import Images, show, visible, writable
from kilonova.embedded.image.records import STORE, Image
from kilonova.embedded.image.schemas import NEW_IMAGE, WRITABLE
from kilonova.embedded.image.store import images, listing
from kilonova.web.call import Call, Reply
from kilonova.web.routes import Routes

routes: Routes[Images] = Routes(prefix="/images", tag="images")

IMPORT_METHODS = {
    "OpenStack-image-import-methods": "glance-direct",
    "OpenStack-image-store-ids": STORE,
}


@routes.get("", policy="get_images", also=(404,))
async def index(call: Call[Images]) -> dict[str, Any]:
    """Images the caller sees, filtered, sorted and in pages."""
    if str(call.request.scope["path"]).endswith("/"):
        raise NotFound("No image has an empty ID.")
    asked = query.wanted(call.query, call.caller, call.app.settings)
    found = await call.app.db.read(listing.page, asked)
    shown = found[: asked.limit]
    first = [(name, value) for name, value in call.query.items() if name != "marker"]
    body: dict[str, Any] = {
        "images": [views.image(image) for image in shown],
        "first": _url("/v2/images", first),
        "schema": "/v2/schemas/images",
    }
    if len(found) > len(shown) and shown:
        body["next"] = _url("/v2/images", [*first, ("marker", shown[-1].id)])
    return body


@routes.post("", status=201, body=NEW_IMAGE, policy="add_image")
async def create(call: Call[Images]) -> Reply:
    """A new image without data, in status queued."""
    image = _new(call, call.body)
    call.enforce("add_image", {"project_id": image.owner})
    if image.visibility == "public":
        call.enforce("publicize_image")
    elif image.visibility == "community":
        call.enforce("communitize_image", {"project_id": image.owner})
    await call.app.db.run(images.create, image)
    headers = {"Location": call.link("images", image.id), **IMPORT_METHODS}
    return Reply(views.image(image), status=201, headers=headers)


@routes.get("/{image_id}", policy="get_image")
async def get(call: Call[Images], image_id: str) -> dict[str, Any]:
    """One image."""
    return views.image(await show(call, image_id))


@routes.patch("/{image_id}", consumes=patch.MEDIA_TYPES, max_body=1 << 20)
async def update(call: Call[Images], image_id: str) -> dict[str, Any]:
    """Change an image by a list of operations, all or none."""
    if call.request.headers.get("content-type") is None:
        raise BadRequest(f"The content type must be {patch.MEDIA_TYPES[0]}.")
    image = await writable(call, image_id, "modify_image")
    operations = patch.parse(call.body)
    settings = call.app.settings

    def allow(rule: str) -> None:
        call.enforce(rule, {"project_id": image.owner})

    def work(tx: Tx) -> Image:
        present = visible(tx, image_id, call.caller, lock=True)
        changed = patch.apply(present, operations, allow)
        patch.check_properties(changed.properties, settings.most_properties)
        if len(changed.tags) > settings.most_tags:
            raise TooLarge(f"An image has at most {settings.most_tags} tags.")
        changed = msgspec.structs.replace(changed, updated_at=call.app.now())
        images.update(tx, changed)
        return changed

    return views.image(await call.app.db.run(work))


@routes.delete("/{image_id}", status=204)
async def delete(call: Call[Images], image_id: str) -> None:
    """Remove an image and its data, unless it is protected."""
    image = await writable(call, image_id, "delete_image")
    if image.protected:
        raise Forbidden(f"Image {image_id} is protected and cannot be deleted.")

    def work(tx: Tx) -> None:
        present = images.find(tx, image_id, lock=True)
        if present is not None and present.protected:
            raise Forbidden(f"Image {image_id} is protected and cannot be deleted.")
        if not images.delete(tx, image_id):
            raise NotFound(f"No image found with ID {image_id}")

    await call.app.db.run(work)
    await asyncio.to_thread(call.app.files.delete, image_id)


@routes.put("/{image_id}/tags/{tag}", status=204)
async def add_tag(call: Call[Images], image_id: str, tag: str) -> None:
    """Put a tag on an image."""
    if len(tag) > 255:
        raise BadRequest("A tag has at most 255 characters.")
    await writable(call, image_id, "modify_image")
    most = call.app.settings.most_tags

    def work(tx: Tx) -> None:
        image = visible(tx, image_id, call.caller, lock=True)
        tags = dict.fromkeys([*image.tags, tag])
        if len(tags) > most:
            raise TooLarge(f"An image has at most {most} tags.")
        images.set_tags(tx, image_id, tuple(tags))

    await call.app.db.run(work)


@routes.delete("/{image_id}/tags/{tag}", status=204)
async def delete_tag(call: Call[Images], image_id: str, tag: str) -> None:
    """Take a tag off an image."""
    await writable(call, image_id, "modify_image")

    def work(tx: Tx) -> None:
        image = visible(tx, image_id, call.caller, lock=True)
        if tag not in image.tags:
            raise NotFound(f"The image has no tag {tag}.")
        images.set_tags(tx, image_id, [other for other in image.tags if other != tag])

    await call.app.db.run(work)


@routes.post("/{image_id}/actions/deactivate", status=204)
async def deactivate(call: Call[Images], image_id: str) -> None:
    """Keep everybody but administrators from the data of an image."""
    await _switch(call, image_id, "deactivate", "active", "deactivated")


@routes.post("/{image_id}/actions/reactivate", status=204)
async def reactivate(call: Call[Images], image_id: str) -> None:
    """Undo `deactivate`."""
    await _switch(call, image_id, "reactivate", "deactivated", "active")


async def _switch(call: Call[Images], image_id: str, rule: str, before: str, after: str) -> None:
    image = await writable(call, image_id, rule)
    if image.status == after:
        return
    if not await call.app.db.run(images.move, image_id, [before], after, call.app.now()):
        raise Forbidden(f"An image in status {image.status} cannot become {after}.")


def _url(path: str, rows: list[tuple[str, str]]) -> str:
    return f"{path}?{urlencode(rows)}" if rows else path


def _new(call: Call[Images], body: dict[str, Any]) -> Image:
    given = {name: value for name, value in body.items() if name in WRITABLE}
    properties = {name: value for name, value in body.items() if name not in WRITABLE}
    settings = call.app.settings
    patch.check_properties(properties, settings.most_properties)
    tags = tuple(dict.fromkeys(given.get("tags", ())))
    if len(tags) > settings.most_tags:
        raise TooLarge(f"An image has at most {settings.most_tags} tags.")
    owner = given.get("owner") or call.caller.project_id
    if owner != call.caller.project_id:
        call.enforce("set_owner")
    now = call.app.now()
    return Image(
        id=(given.get("id") or call.ids.uuid()).lower(),
        name=given.get("name"),
        status="queued",
        owner=owner,
        visibility=given.get("visibility", "shared"),
        disk_format=given.get("disk_format"),
        container_format=given.get("container_format"),
        size=None,
        virtual_size=None,
        min_disk=given.get("min_disk", 0),
        min_ram=given.get("min_ram", 0),
        protected=given.get("protected", False),
        os_hidden=given.get("os_hidden", False),
        checksum=None,
        os_hash_algo=None,
        os_hash_value=None,
        created_at=now,
        updated_at=now,
        properties=properties,
        tags=tags,
    )
