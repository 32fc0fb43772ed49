"""Volumes: their proxies (to 2.35), attachments, servers that boot from them."""

from __future__ import annotations

import json
import urllib.parse
from typing import Any

from tests.live.judges.walk.ground import Ground

BOOT = (1, 19, 32, 33, 37, 42, 52, 57, 63, 67, 74, 90, 94, 102)
UPDATE = (1, 9, 19, 26, 47, 63, 71, 73, 75, 90, 96, 98, 100, 102)


def proxies(ground: Ground) -> None:
    """``/os-volumes`` and ``/os-snapshots``."""
    talk = ground.talk
    for at in (1, 35):
        words = {"size": 1, "display_name": f"walk-{at}", "metadata": {"a": "1"}}
        made = talk.ask("POST", "/os-volumes", {"volume": words}, at=at)["volume"]["id"]
        ground.rests(made)
        point = {"volume_id": made, "display_name": f"walk-{at}", "force": True}
        snapshot = talk.ask("POST", "/os-snapshots", {"snapshot": point}, at=at)["snapshot"]["id"]
        ground.rests(snapshot, kind="snapshot")
        if at == 1:
            talk.read("/os-volumes", "/os-volumes/detail", f"/os-volumes/{made}")
            talk.read("/os-snapshots", "/os-snapshots/detail", f"/os-snapshots/{snapshot}")
            talk.read(f"/os-volumes/{ground.image}", f"/os-snapshots/{ground.image}")
        talk.ask("DELETE", f"/os-snapshots/{snapshot}", at=at, want=202)
        talk.gone("block-storage", f"/snapshots/{snapshot}")
        talk.ask("DELETE", f"/os-snapshots/{snapshot}", at=at, want=404)
        talk.ask("DELETE", f"/os-volumes/{made}", at=at, want=202)
        talk.gone("block-storage", f"/volumes/{made}")
        talk.ask("DELETE", f"/os-volumes/{made}", at=at, want=404)


def attachments(ground: Ground) -> None:
    """Volumes of a server."""
    talk = ground.talk
    server = ground.server("volumes")
    volume, other = ground.volume("first"), ground.volume("second")
    path = f"/servers/{server}/os-volume_attachments"
    for at in (1, 48, 49, 69, 70, 78, 79, 85, 88, 89, 100, 101, 104):
        words: dict[str, Any] = {"volumeId": volume}
        if at >= 49:
            words["tag"] = "walked"
        if at >= 79:
            words["delete_on_termination"] = False
        want = 202 if at >= 101 else 200
        talk.ask("POST", path, {"volumeAttachment": words}, at=at, want=want)
        ground.rests(volume, "in-use")
        talk.until(server, "ACTIVE")
        talk.ask("POST", path, {"volumeAttachment": words}, at=at, want=400)
        if at == 1:
            talk.read(path, f"{path}?limit=1", f"{path}/{volume}", f"{path}/{other}")
            swap = {"volumeAttachment": {"volumeId": other}}
            talk.ask("PUT", f"{path}/{volume}", swap, at=at, want=202)
            ground.rests(other, "in-use")
            talk.until(server, "ACTIVE")
            volume, other = other, volume
        if at >= 84:
            keep = {"volumeAttachment": {"volumeId": volume, "delete_on_termination": False}}
            want = 400 if at < 85 else 202
            talk.ask("PUT", f"{path}/{volume}", keep, at=at, want=want)
        talk.ask("DELETE", f"{path}/{volume}", at=at, want=202)
        ground.rests(volume)
        talk.until(server, "ACTIVE")
        talk.ask("DELETE", f"{path}/{volume}", at=at, want=404)
    ground.drop(server)


def assisted(ground: Ground) -> None:
    """Snapshots of volumes that the hypervisor makes for the volume service."""
    talk = ground.talk
    server, volume = ground.server("assisted"), ground.volume("assisted")
    body = {"volumeAttachment": {"volumeId": volume}}
    talk.ask("POST", f"/servers/{server}/os-volume_attachments", body)
    ground.rests(volume, "in-use")
    root = "/os-assisted-volume-snapshots"
    for at in (1, 74, 75, 104):
        info = {"snapshot_id": ground.network, "type": "qcow2", "new_file": f"walk-{at}"}
        asked = {"snapshot": {"volume_id": volume, "create_info": info}}
        talk.ask("POST", root, asked, at=at, want=200)
        talk.settled(server)
        gone = {"volume_id": volume, "type": "qcow2", "file_to_merge": f"walk-{at}"}
        query = urllib.parse.urlencode(
            {"delete_info": json.dumps({**gone, "merge_target_file": None})}
        )
        talk.ask("DELETE", f"{root}/{ground.network}?{query}", at=at, want=204)
        talk.settled(server)
    talk.ask("POST", root, {"snapshot": {"volume_id": volume}}, at=104, want=400)
    ground.drop(server)


def boot(ground: Ground) -> None:
    """``/os-volumes_boot`` (to 2.102): servers under another address."""
    talk = ground.talk
    root = "/os-volumes_boot"
    last = ""
    for at in BOOT:
        disk = {
            "source_type": "image",
            "destination_type": "volume",
            "uuid": ground.image,
            "volume_size": 1,
            "boot_index": 0,
            "delete_on_termination": True,
        }
        if at in (32, 42, 67):
            disk["tag"] = "root"
        if at >= 67:
            disk["volume_type"] = "__DEFAULT__"
        words: dict[str, Any] = {
            "name": f"boot-{at}",
            "flavorRef": ground.flavor,
            "networks": [{"uuid": ground.network}],
            "block_device_mapping_v2": [disk],
        }
        if at >= 52:
            words["tags"] = ["walked"]
        answer = talk.ask("POST", root, {"server": words}, at=at, want=202)
        if last:
            talk.ask("DELETE", f"{root}/{last}", at=at, want=204)
            ground.drop(last)
        last = answer["server"]["id"]
        talk.until(last, "ACTIVE")
    path = f"{root}/{last}"
    talk.read(root, f"{root}/detail", path, f"{root}/{ground.image}")
    for at in UPDATE:
        talk.ask("PUT", path, {"server": {"name": f"named-{at}"}}, at=at)
    for at in (1, 102):
        talk.chain(
            last,
            (at, "os-stop", None, 202, "SHUTOFF"),
            (at, "os-start", None, 202, "ACTIVE"),
            (at, "reboot", {"type": "HARD"}, 202, "ACTIVE"),
            (at, "trigger_crash_dump", None, 404 if at < 17 else 202, "ACTIVE"),
            root=root,
        )
    for at in (103, 104):
        talk.ask("DELETE", path, at=at, want=404)
    talk.ask("DELETE", path, at=102, want=204)
    ground.drop(last)
