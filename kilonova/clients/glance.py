"""Images from any Glance v2."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from kilonova.base.errors import Conflict, NotFound, Unavailable
from kilonova.clients.keystone import Endpoint, expect, of_status, reason
from kilonova.domain.imaging import NewImage
from kilonova.interfaces.image import OWN_FIELDS, Image
from kilonova.web.client import HttpClient

OCTETS = "application/octet-stream"
PATCH = "application/openstack-images-v2.1-json-patch"
UPLOAD_SECONDS = 6 * 3600.0
PAGE, MOST_PAGES = 100, 100


class Glance:
    """An image service behind its HTTP API; implements ``interfaces.image.ImageService``."""

    def __init__(self, http: HttpClient, endpoint: Endpoint) -> None:
        self._http = http
        self._endpoint = endpoint

    async def show(self, image_id: str, *, token: str | None) -> Image:
        answer = await self._endpoint.request("GET", f"/v2/images/{image_id}", token=token)
        if answer.status in (403, 404):
            raise NotFound(f"Image {image_id} could not be found.")
        return image(expect(answer, 200, what=f"Image {image_id}"))

    async def download(self, image_id: str) -> AsyncIterator[bytes]:
        url = f"{await self._endpoint.url()}/v2/images/{image_id}/file"
        headers = await self._endpoint.headers(None)
        async with self._http.stream("GET", url, headers=headers, timeout=60) as answer:
            if answer.status == 204:
                raise NotFound(f"Image {image_id} has no data.")
            if answer.status != 200:
                kind = of_status(answer.status) if answer.status < 500 else Unavailable
                raise kind(f"Image {image_id} cannot be downloaded ({answer.status}).")
            async for chunk in answer.chunks:
                yield chunk

    async def create(self, wanted: NewImage, *, token: str | None) -> Image:
        body: dict[str, Any] = {
            **wanted.properties,
            "id": wanted.id,
            "name": wanted.name,
            "visibility": wanted.visibility,
            "min_disk": wanted.min_disk,
            "min_ram": wanted.min_ram,
        }
        if wanted.owner:
            body["owner"] = wanted.owner
        answer = await self._endpoint.request("POST", "/v2/images", token=token, json=body)
        if answer.status == 409:
            return await self.show(wanted.id, token=token)
        return image(expect(answer, 201, what=f"Image {wanted.name}"))

    async def describe(
        self, image_id: str, values: dict[str, str], *, token: str | None = None
    ) -> None:
        changes = [{"op": "add", "path": f"/{k}", "value": v} for k, v in values.items()]
        answer = await self._endpoint.request(
            "PATCH",
            f"/v2/images/{image_id}",
            token=token,
            json=changes,
            headers={"Content-Type": PATCH},
        )
        if answer.status in (404, 410):
            raise NotFound(f"Image {image_id} could not be found.")
        expect(answer, 200, what=f"Image {image_id}")

    async def upload(
        self, image_id: str, data: AsyncIterator[bytes], *, token: str | None = None
    ) -> None:
        url = f"{await self._endpoint.url()}/v2/images/{image_id}/file"
        headers = {**await self._endpoint.headers(token), "Content-Type": OCTETS}
        answer = await self._http.request(
            "PUT", url, data=data, headers=headers, timeout=UPLOAD_SECONDS
        )
        if answer.status in (404, 410):
            raise NotFound(f"Image {image_id} could not be found.")
        if answer.status == 409:
            raise Conflict(f"Image {image_id} takes no data: {reason(answer)}")
        if answer.status >= 500:
            raise Unavailable(f"Image {image_id} cannot be uploaded ({answer.status}).")
        expect(answer, 200, 204, what=f"Image {image_id}")

    async def delete(self, image_id: str, *, token: str | None = None) -> None:
        answer = await self._endpoint.request("DELETE", f"/v2/images/{image_id}", token=token)
        if answer.status not in (404, 410):
            expect(answer, 204, what=f"Image {image_id}")

    async def find(self, **filters: str) -> list[Image]:
        params = {**filters, "sort": "created_at:desc,id:desc", "limit": str(PAGE)}
        found: list[Image] = []
        for _ in range(MOST_PAGES):
            answer = await self._endpoint.request("GET", "/v2/images", params=params)
            rows = expect(answer, 200, what="Listing images")["images"]
            found += [image(row) for row in rows]
            if len(rows) < PAGE:
                break
            params["marker"] = rows[-1]["id"]
        return found

    async def url_of(self, image_id: str) -> str:
        return f"{await self._endpoint.url()}/images/{image_id}"


class GlanceDocuments:
    """The same service's documents; implements ``interfaces.image.ImageDocuments``."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    async def url(self) -> str:
        return await self._endpoint.url()

    async def find(self, *, token: str, **params: Any) -> list[dict[str, Any]]:
        answer = await self._endpoint.request("GET", "/v2/images", token=token, params=params)
        rows: list[dict[str, Any]] = expect(answer, 200, what="Listing images")["images"]
        return rows

    async def get(self, image_id: str, *, token: str) -> dict[str, Any]:
        answer = await self._endpoint.request("GET", f"/v2/images/{image_id}", token=token)
        if answer.status in (400, 403, 404):
            raise NotFound(f"Image {image_id} could not be found.")
        found: dict[str, Any] = expect(answer, 200, what=f"Image {image_id}")
        return found

    async def remove(self, image_id: str, *, token: str) -> None:
        answer = await self._endpoint.request("DELETE", f"/v2/images/{image_id}", token=token)
        if answer.status == 400:
            raise NotFound(f"Image {image_id} could not be found.")
        expect(answer, 204, what=f"Image {image_id}")

    async def change(
        self, image_id: str, changes: list[dict[str, Any]], *, token: str
    ) -> dict[str, Any]:
        answer = await self._endpoint.request(
            "PATCH",
            f"/v2/images/{image_id}",
            token=token,
            json=changes,
            headers={"Content-Type": PATCH},
        )
        changed: dict[str, Any] = expect(answer, 200, what=f"Image {image_id}")
        return changed


def image(doc: dict[str, Any]) -> Image:
    """An image document as our Struct; everything that is no own field is a property."""
    return Image(
        id=doc["id"],
        name=doc.get("name") or "",
        disk_format=doc.get("disk_format") or "raw",
        container_format=doc.get("container_format") or "bare",
        size=doc.get("size") or 0,
        min_disk=doc.get("min_disk") or 0,
        min_ram=doc.get("min_ram") or 0,
        checksum=doc.get("checksum") or "",
        os_hash_algo=doc.get("os_hash_algo") or "",
        os_hash_value=doc.get("os_hash_value") or "",
        properties={k: str(v) for k, v in doc.items() if k not in OWN_FIELDS and v is not None},
        status=doc.get("status", "active"),
        owner=doc.get("owner") or "",
        visibility=doc.get("visibility", "private"),
        os_hidden=bool(doc.get("os_hidden")),
        created_at=doc.get("created_at", ""),
        updated_at=doc.get("updated_at", ""),
        tags=tuple(doc.get("tags", ())),
        virtual_size=doc.get("virtual_size"),
    )
