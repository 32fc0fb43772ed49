"""Events of ports for the compute service's ``os-server-external-events``."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from kilonova.base.errors import Unavailable
from kilonova.web.client import HttpClient

log = logging.getLogger(__name__)


class NovaNotifier:
    """Posts events to ``{url}/v2.1/os-server-external-events``; to be handed on as ``notify``.

    The service keeps the events and calls again, with growing pauses, until this returns; no API
    call waits for it. ``url`` gives the compute endpoint without version (None: there is none
    yet), ``token`` a token of a user with the role admin or service, ``version`` the microversion
    that knows the events.
    """

    def __init__(
        self,
        http: HttpClient,
        url: Callable[[], str | None],
        token: Callable[[], Awaitable[str]],
        *,
        timeout: float = 20.0,
        version: str = "2.1",
    ) -> None:
        self._http = http
        self._url = url
        self._token = token
        self._timeout = timeout
        self._version = version

    async def __call__(self, events: list[dict[str, Any]]) -> None:
        """Deliver; Unavailable (or another error) when it has to be tried again."""
        url = self._url()
        if url is None:
            raise Unavailable("The compute service has no endpoint yet.")
        answer = await self._http.request(
            "POST",
            f"{url.rstrip('/')}/v2.1/os-server-external-events",
            json={"events": events},
            headers={
                "X-Auth-Token": await self._token(),
                "OpenStack-API-Version": f"compute {self._version}",
            },
            timeout=self._timeout,
        )
        # 404 and 207: some servers are not there (any more), which repetition does not mend.
        if answer.status in (200, 207, 404):
            return
        if answer.status in (400, 422):
            log.error("the compute service refused events: %s", answer.text[:300])
            return
        raise Unavailable(f"The compute service answered {answer.status}: {answer.text[:200]}")
