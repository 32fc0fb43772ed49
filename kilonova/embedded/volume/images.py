"""The image service as volumes need it: over its HTTP API."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol

from kilonova.base.errors import BadRequest, NotFound, Unavailable
from kilonova.web.client import HttpClient

_SECONDS = 60.0


class ImageService(Protocol):
    """``token`` is the user's; without one our own is used."""

    async def show(self, image_id: str, token: str) -> dict[str, Any]:
        """An image document; NotFound."""

    def download(self, image_id: str) -> AsyncIterator[bytes]:
        """The data."""

    async def create(self, document: dict[str, Any], token: str) -> dict[str, Any]:
        """A new image without data."""

    async def upload(self, image_id: str, data: AsyncIterator[bytes]) -> None:
        """Its data; an image that is active already is left as it is."""

    async def delete(self, image_id: str) -> None:
        """Remove an image; nothing there is success."""


class HttpImages:
    """An image service at ``url`` (None: there is none)."""

    def __init__(
        self,
        http: HttpClient,
        url: Callable[[], str | None],
        token: Callable[[], Awaitable[str]],
    ) -> None:
        self._http = http
        self._url = url
        self._token = token

    async def show(self, image_id: str, token: str) -> dict[str, Any]:
        answer = await self._ask("GET", f"/v2/images/{image_id}", token)
        if answer.status in (403, 404):
            raise NotFound(f"Image {image_id} could not be found.")
        return self._expect(answer, 200)

    async def download(self, image_id: str) -> AsyncIterator[bytes]:
        url = f"{self._base()}/v2/images/{image_id}/file"
        headers = {"X-Auth-Token": await self._token()}
        async with self._http.stream("GET", url, headers=headers, timeout=_SECONDS) as answer:
            if answer.status != 200:
                raise Unavailable(f"Image {image_id} cannot be downloaded ({answer.status}).")
            async for chunk in answer.chunks:
                yield chunk

    async def create(self, document: dict[str, Any], token: str) -> dict[str, Any]:
        answer = await self._ask("POST", "/v2/images", token, json=document)
        return self._expect(answer, 201)

    async def upload(self, image_id: str, data: AsyncIterator[bytes]) -> None:
        token = await self._token()
        if (await self.show(image_id, token)).get("status") == "active":
            return
        answer = await self._http.request(
            "PUT",
            f"{self._base()}/v2/images/{image_id}/file",
            data=data,
            headers={"X-Auth-Token": token, "Content-Type": "application/octet-stream"},
            timeout=7200,
        )
        if answer.status != 204:
            raise Unavailable(f"The image service refused the data: {answer.text[:200]}")

    async def delete(self, image_id: str) -> None:
        await self._ask("DELETE", f"/v2/images/{image_id}", await self._token())

    def _base(self) -> str:
        url = self._url()
        if url is None:
            raise Unavailable("There is no image service.")
        return url.rstrip("/")

    async def _ask(self, method: str, path: str, token: str, json: Any = None) -> Any:
        return await self._http.request(
            method,
            self._base() + path,
            json=json,
            headers={"X-Auth-Token": token},
            timeout=_SECONDS,
        )

    def _expect(self, answer: Any, status: int) -> dict[str, Any]:
        if answer.status != status:
            kind = BadRequest if 400 <= answer.status < 500 else Unavailable
            raise kind(f"The image service answered {answer.status}: {answer.text[:200]}")
        found: dict[str, Any] = answer.json()
        return found
