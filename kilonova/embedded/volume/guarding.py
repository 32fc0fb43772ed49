"""Volumes that servers have are taken from them by the compute service alone (CVE-2023-2088)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from kilonova.base.errors import Conflict, Unavailable
from kilonova.embedded.volume.app import Volumes
from kilonova.embedded.volume.records import Attachment
from kilonova.embedded.volume.store import rows
from kilonova.web.call import Call
from kilonova.web.client import HttpClient

VERSION = "2.89"
SECONDS = 20.0


class NovaServers:
    """Asks the compute service whether a server has a volume by an attachment.

    ``url`` gives the compute endpoint without version (None: there is none), ``token`` a token of
    a user who sees every project's servers.
    """

    def __init__(
        self,
        http: HttpClient,
        url: Callable[[], str | None],
        token: Callable[[], Awaitable[str]],
    ) -> None:
        self._http = http
        self._url = url
        self._token = token

    async def __call__(self, server_id: str, volume_id: str, attachment_id: str) -> bool:
        """Unavailable when nobody answers."""
        url = self._url()
        if url is None:
            return False
        answer = await self._http.request(
            "GET",
            f"{url.rstrip('/')}/v2.1/servers/{server_id}/os-volume_attachments/{volume_id}",
            headers={
                "X-Auth-Token": await self._token(),
                "OpenStack-API-Version": f"compute {VERSION}",
            },
            timeout=SECONDS,
        )
        if answer.status == 404:
            return False
        if answer.status != 200:
            raise Unavailable(f"The compute service answered {answer.status}; try again later.")
        held: bool = answer.json()["volumeAttachment"].get("attachment_id") == attachment_id
        return held


async def guard(call: Call[Volumes], volume_id: str, attachment_id: str | None = None) -> None:
    """Conflict when the caller would end an attachment (or any) by which a server has the volume.

    Services may: the compute service ends what it began.
    """
    if "service" in call.caller.roles:
        return
    for item in await call.app.db.read(rows.where, Attachment, volume_id=volume_id):
        if attachment_id not in (None, item.id) or not item.server_id:
            continue
        if await call.app.held(item.server_id, volume_id, item.id):
            raise Conflict(
                f"Detach volume {volume_id} from instance {item.server_id} using the Compute API."
            )
