"""Sharing images with projects."""

from __future__ import annotations

from typing import Any

from kilonova.base.errors import Conflict, Forbidden, NotFound, TooLarge
from kilonova.db.database import Tx
from kilonova.embedded.image import views
from kilonova.embedded.image.app import Images, show, writable
from kilonova.embedded.image.records import Image, Member
from kilonova.embedded.image.rules import is_admin, owns
from kilonova.embedded.image.schemas import MEMBER_STATUS, NEW_MEMBER
from kilonova.embedded.image.store import members
from kilonova.web.call import Call
from kilonova.web.routes import Routes

routes: Routes[Images] = Routes(prefix="/images/{image_id}/members", tag="members")


@routes.get("", policy="get_members")
async def index(call: Call[Images], image_id: str) -> dict[str, Any]:
    """The members of an image: all for its owner, a member sees itself."""
    image = await show(call, image_id)
    found = await call.app.db.read(members.of_image, image_id)
    shown = [views.member(one) for one in found if _sees(call, image, one.member_id)]
    return {"members": shown, "schema": "/v2/schemas/members"}


@routes.post("", body=NEW_MEMBER)
async def create(call: Call[Images], image_id: str) -> dict[str, Any]:
    """Offer an image to a project."""
    image = await writable(call, image_id, "add_member")
    _check_shared(image)
    now = call.app.now()
    member = Member(image_id, call.body["member"], "pending", now, now)
    most = call.app.settings.most_members

    def work(tx: Tx) -> None:
        present = members.of_image(tx, image_id)
        if any(one.member_id == member.member_id for one in present):
            raise Conflict(f"Project {member.member_id} is a member of image {image_id} already.")
        if len(present) >= most:
            raise TooLarge(f"An image has at most {most} members.")
        members.create(tx, member)

    await call.app.db.run(work)
    return views.member(member)


@routes.get("/{member_id}", policy="get_members")
async def get(call: Call[Images], image_id: str, member_id: str) -> dict[str, Any]:
    """One member."""
    image = await show(call, image_id)
    return views.member(await _find(call, image, member_id))


@routes.put("/{member_id}", body=MEMBER_STATUS)
async def update(call: Call[Images], image_id: str, member_id: str) -> dict[str, Any]:
    """Accept, reject or put off an offer; for the member itself."""
    image = await show(call, image_id)
    call.enforce("modify_member", {"member_id": member_id})
    _check_shared(image)
    member = await _find(call, image, member_id)
    now = call.app.now()
    await call.app.db.run(members.set_status, member, call.body["status"], now)
    changed = Member(image_id, member_id, call.body["status"], member.created_at, now)
    return views.member(changed)


@routes.delete("/{member_id}", status=204)
async def delete(call: Call[Images], image_id: str, member_id: str) -> None:
    """Stop sharing an image with a project."""
    image = await writable(call, image_id, "delete_member")
    _check_shared(image)
    if not await call.app.db.run(members.delete, image_id, member_id):
        raise NotFound(f"Project {member_id} is no member of image {image_id}.")


async def _find(call: Call[Images], image: Image, member_id: str) -> Member:
    found = await call.app.db.read(members.find, image.id, member_id)
    if found is None or not _sees(call, image, member_id):
        raise NotFound(f"Project {member_id} is no member of image {image.id}.")
    return found


def _sees(call: Call[Images], image: Image, member_id: str) -> bool:
    caller = call.caller
    return is_admin(caller) or owns(caller, image) or caller.project_id == member_id


def _check_shared(image: Image) -> None:
    if image.visibility != "shared":
        raise Forbidden("Only images of visibility shared have members.")
