"""Who sees and may change which image; the table of rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kilonova.embedded.image.records import Image
from kilonova.web.call import Caller

Rule = Callable[[Caller, Mapping[str, Any]], bool]


def is_admin(caller: Caller) -> bool:
    """Administrators see and may change everything."""
    return "admin" in caller.roles


def owns(caller: Caller, image: Image) -> bool:
    """Whether the image belongs to the caller's project."""
    return caller.project_id is not None and caller.project_id == image.owner


def sees(caller: Caller, image: Image, *, member: bool) -> bool:
    """Whether the image is there for the caller; ``member``: it is shared with their project."""
    return (
        is_admin(caller)
        or owns(caller, image)
        or image.visibility in ("public", "community")
        or (image.visibility == "shared" and member)
    )


def _admin(caller: Caller, _target: Mapping[str, Any]) -> bool:
    return is_admin(caller)


def _writer(caller: Caller, target: Mapping[str, Any]) -> bool:
    own = caller.project_id is not None and target.get("project_id") == caller.project_id
    return is_admin(caller) or (own and "member" in caller.roles)


def _reader(caller: Caller, _target: Mapping[str, Any]) -> bool:
    return is_admin(caller) or caller.project_id is not None


def _lender(caller: Caller, target: Mapping[str, Any]) -> bool:
    """A member answers for its own project what it says to an offer."""
    own = caller.project_id is not None and target.get("member_id") == caller.project_id
    return is_admin(caller) or (own and "member" in caller.roles)


RULES: dict[str, Rule] = {
    "get_images": _reader,
    "get_image": _reader,
    "download_image": _reader,
    "add_image": _writer,
    "modify_image": _writer,
    "delete_image": _writer,
    "upload_image": _writer,
    "publicize_image": _admin,
    "communitize_image": _writer,
    "set_owner": _admin,
    "deactivate": _writer,
    "reactivate": _writer,
    "get_members": _reader,
    "add_member": _writer,
    "delete_member": _writer,
    "modify_member": _lender,
    "get_tasks": _admin,
    "stores_info_detail": _admin,
}


class Policy:
    """The table as an `Enforcer`."""

    def allows(self, rule: str, caller: Caller, target: Mapping[str, Any]) -> bool:
        """Whether ``rule`` lets ``caller`` act on ``target``."""
        check = RULES.get(rule)
        return check is not None and check(caller, target)
