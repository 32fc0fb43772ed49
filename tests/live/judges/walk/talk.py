"""One user's talk with the services of a cloud; what is said to compute is written down."""

from __future__ import annotations

import http.client
import json
import time
import urllib.parse
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

LATEST = 104
ALL = range(1, LATEST + 1)
WAIT = 60.0
"""Seconds a server or volume may take to come into a state."""


class Answer:
    """Status, headers (lower case) and document of an answer."""

    def __init__(self, status: int, headers: dict[str, str], body: Any) -> None:
        self.status = status
        self.headers = headers
        self.body = body


class Talk:
    """A session with the catalog of a cloud of clouds.yaml."""

    def __init__(self, cloud: str, file: Path) -> None:
        warnings.simplefilter("ignore")
        import openstack.config

        session = openstack.config.OpenStackConfig().get_one(cloud).get_session()
        self.project: str = session.get_project_id()
        self._token = session.get_token()
        self._urls = {
            kind: urllib.parse.urlsplit(session.get_endpoint(service_type=kind))
            for kind in ("compute", "network", "image", "block-storage")
        }
        self._open: dict[str, http.client.HTTPConnection] = {}
        self._out = file.open("a", encoding="utf-8")
        self._surprises: dict[tuple[str, ...], list[int]] = {}

    def surprises(self) -> list[str]:
        """What was not answered as wanted, one line for each kind."""
        return [
            f"{' '.join(kind)} at {', '.join(f'2.{at}' for at in ats)}"
            for kind, ats in self._surprises.items()
        ]

    def surprised(self, at: int, *words: str) -> None:
        """Remember a surprise."""
        self._surprises.setdefault(words, []).append(at)

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        at: int = 1,
        want: int | Iterable[int] | None = (200, 201, 202, 204),
    ) -> Any:
        """Ask compute at microversion 2.``at``; the answer's document. ``want`` None: anything."""
        headers = {"OpenStack-API-Version": f"compute 2.{at}"}
        got = self._exchange("compute", method, path, body, headers)
        url, _, query = path.partition("?")
        line = {
            "method": method,
            "path": self._urls["compute"].path + url,
            "query": query,
            "request_headers": {"openstack-api-version": f"compute 2.{at}"},
            "request_body": body,
            "status": got.status,
            "response_headers": got.headers,
            "body": got.body,
        }
        self._out.write(json.dumps(line) + "\n")
        wanted = {want} if isinstance(want, int) else set(want or ())
        if wanted and got.status not in wanted:
            said = json.dumps(got.body)[:300]
            self.surprised(at, method, path, json.dumps(body)[:200], str(got.status), said)
        return got.body

    def act(self, server: str, name: str, value: Any = None, **how: Any) -> Any:
        """An action of a server."""
        return self.ask("POST", f"/servers/{server}/action", {name: value}, **how)

    def read(self, *paths: str, want: Iterable[int] = (200, 204, 404)) -> None:
        """GET at every microversion; where there is nothing the judge expects 404."""
        for path in paths:
            for at in ALL:
                self.ask("GET", path, at=at, want=want)

    def quietly(self, service: str, method: str, path: str, body: Any = None) -> Any:
        """Ask a service without writing it down; the document, or an error for 400 and above."""
        got = self._exchange(service, method, path, body, {})
        if got.status >= 400:
            raise AssertionError(f"{method} {path} of {service}: {got.status} {got.body}")
        return got.body

    def until(self, server: str, *states: str) -> dict[str, Any]:
        """Wait until a server is in one of the states and rests."""

        def look() -> dict[str, Any] | None:
            row: dict[str, Any] = self.quietly("compute", "GET", f"/servers/{server}")["server"]
            rests = row["OS-EXT-STS:task_state"] is None
            return row if rests and row["status"] in states else None

        found: dict[str, Any] = waited(look, f"server {server} to be {' or '.join(states)}")
        return found

    def gone(self, service: str, path: str) -> None:
        """Wait until something answers 404."""
        waited(
            lambda: self._exchange(service, "GET", path, None, {}).status == 404, f"{path} to go"
        )

    def end(self) -> None:
        """Close file and connections."""
        self._out.close()
        for connection in self._open.values():
            connection.close()

    def _exchange(
        self, service: str, method: str, path: str, body: Any, headers: dict[str, str]
    ) -> Answer:
        url = self._urls[service]
        sent = {"X-Auth-Token": self._token, "Accept": "application/json", **headers}
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            sent["Content-Type"] = "application/json"
        if service not in self._open:
            host, port = str(url.hostname), url.port
            self._open[service] = http.client.HTTPConnection(host, port, timeout=WAIT)
        connection = self._open[service]
        try:
            connection.request(method, url.path + path, body=data, headers=sent)
            reply = connection.getresponse()
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            # An idle connection was closed by the other side.
            connection.close()
            connection.request(method, url.path + path, body=data, headers=sent)
            reply = connection.getresponse()
        raw = reply.read()
        found: dict[str, str] = {}
        for name, value in reply.getheaders():
            key = name.lower()
            found[key] = f"{found[key]}, {value}" if key in found else value
        return Answer(reply.status, found, _document(raw))


def waited(look: Callable[[], Any], what: str) -> Any:
    """The first true answer of ``look``; an error when it takes too long."""
    end = time.monotonic() + WAIT
    while not (seen := look()):
        if time.monotonic() > end:
            raise AssertionError(f"waited in vain for {what}")
        time.sleep(0.1)
    return seen


def _document(raw: bytes) -> Any:
    if not raw:
        return None
    try:
        return json.loads(raw)
    except ValueError:
        return {"__raw__": raw[:2000].decode(errors="replace")}
