"""One user's talk with the services of a cloud; what is said to compute is written down."""

from __future__ import annotations

import http.client
import json
import re
import time
import urllib.parse
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tests.live.judges.walk.backstage import WAIT, Backstage

LATEST = 104
ALL = range(1, LATEST + 1)
IDLE = 20.0
"""Seconds after its work in which a server still may come into a state."""
_SERVER = re.compile(r"/(?:servers|os-volumes_boot)/([0-9a-f-]{36})")


Step = tuple[int, str, Any, int, str]
"""Version, action, what it is given, status of the answer, the server's status then."""


class Answer:
    """Status, headers (lower case) and document of an answer."""

    def __init__(self, status: int, headers: dict[str, str], body: Any) -> None:
        self.status = status
        self.headers = headers
        self.body = body


class Talk:
    """The administrator's session; knows from behind the stage when a server rests."""

    def __init__(self, backstage: Backstage, file: Path) -> None:
        self.backstage = backstage
        self.project, self._token, urls = backstage.login()
        self._urls = {kind: urllib.parse.urlsplit(url) for kind, url in urls.items()}
        self._open: dict[str, http.client.HTTPConnection] = {}
        self._out = file.open("a", encoding="utf-8")
        self._surprises: dict[tuple[str, ...], list[int]] = {}
        self.status = 0
        self.headers: dict[str, str] = {}

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
        during: bool = False,
    ) -> Any:
        """Ask compute at microversion 2.``at``; the answer's document. ``want`` None: anything.

        What changes a server is asked when nothing works on it, unless ``during`` that work.
        """
        if method != "GET" and not during:
            for server in _servers(path, body):
                self.settled(server)
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
        self.status, self.headers = got.status, got.headers
        wanted = {want} if isinstance(want, int) else set(want or ())
        if wanted and got.status not in wanted:
            said = json.dumps(got.body)[:300]
            self.surprised(at, method, path, json.dumps(body)[:200], str(got.status), said)
        return got.body

    def act(self, server: str, name: str, value: Any = None, **how: Any) -> Any:
        """An action of a server."""
        return self.ask("POST", f"/servers/{server}/action", {name: value}, **how)

    def chain(self, server: str, *steps: Step, root: str = "/servers") -> None:
        """Actions one after the other, each to its state."""
        for at, name, value, want, state in steps:
            self.ask("POST", f"{root}/{server}/action", {name: value}, at=at, want=want)
            self.until(server, state)

    def settled(self, server: str) -> None:
        """Wait until nothing works on a server."""
        waited(
            lambda: not self.backstage.busy(server),
            f"server {server} to rest",
            why=lambda: self.backstage.busy(server),
        )

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

        idle = time.monotonic()

        def look() -> dict[str, Any] | None:
            nonlocal idle
            if self.backstage.busy(server):
                idle = time.monotonic()
            row: dict[str, Any] = self.quietly("compute", "GET", f"/servers/{server}")["server"]
            rests = row["OS-EXT-STS:task_state"] is None
            if rests and row["status"] in states:
                return row
            if time.monotonic() > idle + IDLE:
                raise AssertionError(f"server {server} stays {why()}, not {states}")
            return None

        def why() -> Any:
            row = self.quietly("compute", "GET", f"/servers/{server}")["server"]
            words = ("status", "OS-EXT-STS:task_state", "OS-EXT-SRV-ATTR:host", "fault")
            wrong = self.backstage.went_wrong(server)
            return {**{word: row.get(word) for word in words}, "wrong": wrong}

        what = f"server {server} to be {' or '.join(states)}"
        found: dict[str, Any] = waited(look, what, why=why)
        self.settled(server)
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


def waited(look: Callable[[], Any], what: str, *, why: Callable[[], Any] = str) -> Any:
    """The first true answer of ``look``; an error, with what ``why`` says, when it takes long."""
    end = time.monotonic() + WAIT
    while not (seen := look()):
        if time.monotonic() > end:
            raise AssertionError(f"waited in vain for {what}: {why()}")
        time.sleep(0.1)
    return seen


def _servers(path: str, body: Any) -> list[str]:
    """The servers that a request speaks of."""
    events = body.get("events", ()) if isinstance(body, dict) else ()
    return _SERVER.findall(path) + [event["server_uuid"] for event in events]


def _document(raw: bytes) -> Any:
    if not raw:
        return None
    try:
        return json.loads(raw)
    except ValueError:
        return {"__raw__": raw[:2000].decode(errors="replace")}
