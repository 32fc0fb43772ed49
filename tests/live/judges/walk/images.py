"""Images made of servers, and servers made anew of images."""

from __future__ import annotations

from typing import Any

from tests.live.judges.walk.ground import Ground

REBUILD = (1, 9, 19, 26, 47, 54, 57, 63, 71, 73, 75, 90, 94, 96, 98, 100)
LAST = {"/servers": 104, "/os-volumes_boot": 102}
"""Where servers are, and up to which version."""


def make(ground: Ground) -> None:
    """Images and backups of a server, under both of its addresses."""
    server = ground.server("imaged")
    backup = {"name": "walk-backup", "backup_type": "daily", "rotation": 1}
    for root, last in LAST.items():
        for at in (1, 44, 45, last):
            words = {"name": f"walk-{at}", "metadata": {"walked": str(at)}}
            _image(ground, f"{root}/{server}/action", {"createImage": words}, at)
    for at in (1, 45, 104):
        _image(ground, f"/servers/{server}/action", {"createBackup": backup}, at)
    path = f"/servers/{server}/action"
    ground.talk.ask("POST", path, {"createImage": {"name": ""}}, at=104, want=400)
    odd = {"createBackup": {**backup, "rotation": -1}}
    ground.talk.ask("POST", path, odd, at=104, want=400)
    ground.drop(server)


def _image(ground: Ground, path: str, body: dict[str, Any], at: int) -> None:
    talk = ground.talk
    answer = talk.ask("POST", path, body, at=at, want=202)
    image = answer["image_id"] if at >= 45 else talk.headers["location"].rpartition("/")[2]
    ground.image_rests(image)
    talk.until(path.split("/")[2], "ACTIVE")
    talk.quietly("image", "DELETE", f"/v2/images/{image}")


def rebuild(ground: Ground) -> None:
    """The same server with a fresh disk, at each version that takes or gives other words."""
    talk = ground.talk
    server = ground.server("rebuilt")
    for root, last in LAST.items():
        for at in (*REBUILD, last):
            body = {"rebuild": _words(ground, at)}
            talk.ask("POST", f"{root}/{server}/action", body, at=at, want=202)
            talk.until(server, "ACTIVE")
    body = {"rebuild": {"imageRef": ground.network}}
    talk.ask("POST", f"/servers/{server}/action", body, at=104, want=400)
    ground.drop(server)


def _words(ground: Ground, at: int) -> dict[str, Any]:
    words: dict[str, Any] = {
        "imageRef": ground.image,
        "name": f"rebuilt-{at}",
        "metadata": {"walked": str(at)},
        "OS-DCF:diskConfig": "AUTO",
    }
    if at < 57:
        words["personality"] = [{"path": "/etc/motd", "contents": "d2Fsaw=="}]
    if at >= 19:
        words["description"] = "walked over"
    if at >= 54:
        words["key_name"] = None
    if at >= 57:
        words["user_data"] = "d2Fsaw=="
    if at >= 63:
        words["trusted_image_certificates"] = None
    if at >= 90:
        words["hostname"] = f"rebuilt-{at}"
    return words
