"""Volumes from a Cinder v3."""

from __future__ import annotations

from typing import Any

import msgspec

from kilonova.base.errors import BadRequest, NotFound
from kilonova.clients.keystone import Endpoint, expect
from kilonova.interfaces.volume import NewVolume, Volume, VolumeAttachment, VolumeSnapshot
from kilonova.web.client import Answer

VERSION = "3.44"
REIMAGES = "3.68"
MOST_PAGES = 1000


class Cinder:
    """A block storage service behind its HTTP API; implements ``interfaces.volume``.

    New volumes get their id and project from us, which the embedded service lets administrators
    say.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    async def show(self, volume_id: str, *, token: str | None = None) -> Volume:
        answer = await self._ask("GET", f"/volumes/{volume_id}", token=token)
        if answer.status in (400, 403, 404):
            raise NotFound(f"Volume {volume_id} could not be found.")
        return volume(expect(answer, 200, what=f"Volume {volume_id}")["volume"])

    async def snapshot(self, snapshot_id: str, *, token: str | None = None) -> VolumeSnapshot:
        answer = await self._ask("GET", f"/snapshots/{snapshot_id}", token=token)
        if answer.status in (400, 403, 404):
            raise NotFound(f"Snapshot {snapshot_id} could not be found.")
        return snapshot(expect(answer, 200, what=f"Snapshot {snapshot_id}")["snapshot"])

    async def make_snapshot(
        self, volume_id: str, *, name: str, description: str, token: str
    ) -> VolumeSnapshot:
        wanted = {"volume_id": volume_id, "name": name, "description": description, "force": True}
        answer = await self._ask("POST", "/snapshots", token=token, json={"snapshot": wanted})
        return snapshot(expect(answer, 202, what=f"Volume {volume_id}")["snapshot"])

    async def delete_snapshot(self, snapshot_id: str, *, token: str) -> None:
        answer = await self._ask("DELETE", f"/snapshots/{snapshot_id}", token=token)
        if answer.status != 404:
            expect(answer, 202, 204, what=f"Snapshot {snapshot_id}")

    async def types(self, *, token: str) -> set[str]:
        found = expect(await self._ask("GET", "/types", token=token), 200, what="Volume types")
        return {word for kind in found["volume_types"] for word in (kind["name"], kind["id"])}

    async def create(self, wanted: NewVolume) -> Volume:
        body: dict[str, Any] = {
            "id": wanted.id,
            "project_id": wanted.project_id,
            "user_id": wanted.user_id,
            "name": "",
            "description": "",
            "size": wanted.size,
            "volume_type": wanted.volume_type,
            "availability_zone": wanted.zone,
        }
        names = {"image": "imageRef", "snapshot": "snapshot_id", "volume": "source_volid"}
        if wanted.source in names:
            body[names[wanted.source]] = wanted.source_id
        answer = await self._ask("POST", "/volumes", json={"volume": body})
        made = volume(expect(answer, 202, what="A volume")["volume"])
        # What is told of a new volume leaves its project out.
        return msgspec.structs.replace(made, project_id=wanted.project_id)

    async def delete(self, volume_id: str) -> None:
        answer = await self._ask("DELETE", f"/volumes/{volume_id}")
        if answer.status != 404:
            expect(answer, 202, 204, what=f"Volume {volume_id}")

    async def attachments(self, server_id: str) -> list[VolumeAttachment]:
        return await self._attachments({"instance_id": server_id})

    async def all_attachments(self) -> list[VolumeAttachment]:
        return await self._attachments({})

    async def _attachments(self, filters: dict[str, str]) -> list[VolumeAttachment]:
        found: list[VolumeAttachment] = []
        query = {"all_tenants": "1", "limit": "1000", **filters}
        for _ in range(MOST_PAGES):
            answer = await self._ask("GET", "/attachments", params=query)
            rows = expect(answer, 200, what="Attachments")["attachments"]
            found += [
                VolumeAttachment(
                    row["id"], row["volume_id"], row.get("instance") or "", row.get("status") or ""
                )
                for row in rows
            ]
            if len(rows) < 1000:
                break
            query["marker"] = rows[-1]["id"]
        return found

    async def reserve(self, volume_id: str, server_id: str, *, another: bool = False) -> str:
        if not another:
            for present in await self.attachments(server_id):
                if present.volume_id == volume_id:
                    return present.id
        body = {"attachment": {"volume_uuid": volume_id, "instance_uuid": server_id}}
        answer = await self._ask("POST", "/attachments", json=body)
        made: str = expect(answer, 200, 202, what=f"Volume {volume_id}")["attachment"]["id"]
        return made

    async def connect(self, attachment_id: str, connector: dict[str, Any]) -> dict[str, Any]:
        body = {"attachment": {"connector": connector}}
        answer = await self._ask("PUT", f"/attachments/{attachment_id}", json=body, seconds=300)
        found = expect(answer, 200, 202, what=f"Attachment {attachment_id}")["attachment"]
        data: dict[str, Any] = dict(found["connection_info"])
        data.pop("connector", None)
        return {"driver_volume_type": data.pop("driver_volume_type", None), "data": data}

    async def complete(self, attachment_id: str) -> None:
        path = f"/attachments/{attachment_id}/action"
        answer = await self._ask("POST", path, json={"os-complete": {}})
        expect(answer, 200, 204, what=f"Attachment {attachment_id}")

    async def release(self, attachment_id: str) -> None:
        answer = await self._ask("DELETE", f"/attachments/{attachment_id}", seconds=300)
        if answer.status != 404:
            expect(answer, 200, 204, what=f"Attachment {attachment_id}")

    async def begin_detaching(self, volume_id: str) -> None:
        answer = await self._act(volume_id, "os-begin_detaching")
        expect(answer, 200, 202, what=f"Volume {volume_id}")

    async def roll_detaching(self, volume_id: str) -> None:
        answer = await self._act(volume_id, "os-roll_detaching")
        if answer.status not in (400, 404):
            expect(answer, 200, 202, what=f"Volume {volume_id}")

    async def reimage(self, volume_id: str, image_id: str) -> None:
        wanted = {"os-reimage": {"image_id": image_id, "reimage_reserved": True}}
        answer = await self._ask(
            "POST", f"/volumes/{volume_id}/action", json=wanted, version=REIMAGES
        )
        expect(answer, 202, what=f"Volume {volume_id}")

    async def tell_snapshot(self, snapshot_id: str, status: str) -> None:
        # 90 % is the word for "the part of compute is done".
        words = {"status": status, "progress": "90%"}
        path = f"/snapshots/{snapshot_id}/action"
        answer = await self._ask("POST", path, json={"os-update_snapshot_status": words})
        if answer.status not in (400, 404):
            expect(answer, 200, 202, what=f"Snapshot {snapshot_id}")

    async def proxy(
        self, method: str, path: str, *, token: str, body: Any = None, query: str = ""
    ) -> Any:
        where = f"{path}?{query}" if query else path
        answer = await self._ask(method, where, token=token, json=body)
        if answer.status == 404:
            raise NotFound(_words(answer))
        if answer.status == 400:
            raise BadRequest(_words(answer))
        return expect(answer, 200, 201, 202, 204, what="The volume service")

    async def _act(self, volume_id: str, action: str) -> Answer:
        return await self._ask("POST", f"/volumes/{volume_id}/action", json={action: {}})

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        token: str | None = None,
        json: Any = None,
        params: dict[str, str] | None = None,
        seconds: float = 60,
        version: str = VERSION,
    ) -> Answer:
        return await self._endpoint.request(
            method,
            path,
            token=token,
            json=json,
            params=params,
            headers={"OpenStack-API-Version": f"volume {version}"},
            seconds=seconds,
        )


def _words(answer: Answer) -> str:
    doc = answer.json() if answer.body else {}
    for inner in doc.values() if isinstance(doc, dict) else ():
        if isinstance(inner, dict) and isinstance(inner.get("message"), str):
            return str(inner["message"])
    return answer.text[:300]


def volume(doc: dict[str, Any]) -> Volume:
    """A volume document as our Struct."""
    attachments = doc.get("attachments") or ()
    return Volume(
        id=doc["id"],
        size=doc["size"],
        status=doc["status"],
        project_id=doc.get("os-vol-tenant-attr:tenant_id") or "",
        name=doc.get("name") or "",
        description=doc.get("description"),
        bootable=str(doc.get("bootable")).lower() == "true",
        multiattach=bool(doc.get("multiattach")),
        encrypted=bool(doc.get("encrypted")),
        zone=doc.get("availability_zone") or "",
        volume_type=doc.get("volume_type"),
        snapshot_id=doc.get("snapshot_id"),
        created_at=doc.get("created_at") or "",
        metadata=doc.get("metadata") or {},
        image_metadata=doc.get("volume_image_metadata") or {},
        attachments={a["server_id"]: a["attachment_id"] for a in attachments if a["server_id"]},
        devices={a["server_id"]: a.get("device") or "" for a in attachments if a["server_id"]},
    )


def snapshot(doc: dict[str, Any]) -> VolumeSnapshot:
    """A snapshot document as our Struct."""
    return VolumeSnapshot(
        doc["id"],
        doc["volume_id"],
        doc["size"],
        doc["status"],
        name=doc.get("name") or "",
        description=doc.get("description"),
        created_at=doc.get("created_at") or "",
    )
