"""Stand-ins for services that only some clouds have: an Ironic and a Manila, on a real port."""

from __future__ import annotations

import abc
import http.server
import json
import re
import threading
import urllib.parse
import uuid
from types import TracebackType
from typing import Any, Self

MIB = 1 << 20


class StandIn(abc.ABC):
    """An HTTP server in a thread; subclasses answer. ``asked``: method, path and query so far."""

    root = ""

    def __init__(self, port: int = 0) -> None:
        self.asked: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.broken = False
        self._lock = threading.Lock()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer._serve(self)

            do_POST = do_PUT = do_DELETE = do_GET

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing is said."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def url(self) -> str:
        """The endpoint."""
        return f"http://127.0.0.1:{self._server.server_address[1]}{self.root}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @abc.abstractmethod
    def answer(
        self, method: str, path: str, query: dict[str, str], body: Any
    ) -> tuple[int, dict[str, Any] | None]:
        """Status and document of a request."""

    def _serve(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        size = int(handler.headers.get("Content-Length") or 0)
        raw = handler.rfile.read(min(size, MIB))
        url = urllib.parse.urlsplit(handler.path)
        with self._lock:
            self.asked.append(f"{handler.command} {handler.path}")
            self.headers.append({name.lower(): value for name, value in handler.headers.items()})
            status, doc = 503, None
            if not self.broken:
                status, doc = self.answer(
                    handler.command,
                    urllib.parse.unquote(url.path.removeprefix(self.root)),
                    dict(urllib.parse.parse_qsl(url.query)),
                    json.loads(raw) if raw else None,
                )
        sent = json.dumps(doc).encode() if doc is not None else b""
        handler.send_response(status)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(sent)))
        handler.end_headers()
        handler.wfile.write(sent)


class Ironic(StandIn):
    """Machines and their ports; pages hold ``page`` rows at most."""

    page = 2

    def __init__(self, port: int = 0) -> None:
        super().__init__(port)
        self.nodes: dict[str, dict[str, Any]] = {}
        self.ports: list[dict[str, Any]] = []

    def add(self, *addresses: str, **values: Any) -> str:
        """A machine with those network cards; its id."""
        key = str(uuid.uuid4())
        sizes = {"cpus": "2", "memory_mb": "1024", "local_gb": "10", "cpu_arch": "x86_64"}
        plain = {"uuid": key, "provision_state": "active", "instance_uuid": None}
        self.nodes[key] = {**plain, "properties": sizes, **values}
        self.ports += [
            {"uuid": str(uuid.uuid4()), "node_uuid": key, "address": address}
            for address in addresses
        ]
        return key

    def answer(
        self, method: str, path: str, query: dict[str, str], body: Any
    ) -> tuple[int, dict[str, Any] | None]:
        if method != "GET":
            return 405, {"error_message": "not here"}
        if path == "/v1/nodes/detail":
            return 200, self._part("nodes", list(self.nodes.values()), query)
        if path == "/v1/ports":
            own = [port for port in self.ports if port["node_uuid"] == query["node"]]
            return 200, self._part("ports", own, query)
        found = self.nodes.get(path.removeprefix("/v1/nodes/"))
        if found is None:
            return 404, {"error_message": json.dumps({"faultstring": "no such node"})}
        return 200, found

    def _part(self, key: str, rows: list[dict[str, Any]], query: dict[str, str]) -> dict[str, Any]:
        ids = [row["uuid"] for row in rows]
        begin = ids.index(query["marker"]) + 1 if "marker" in query else 0
        end = begin + min(self.page, int(query.get("limit", "1000")))
        more = {"next": f"{self.url}/v1/{key}?marker={ids[end - 1]}"} if end < len(rows) else {}
        return {key: rows[begin:end], **more}


class Manila(StandIn):
    """Shares with export locations and access rules.

    ``slow``: how often a new rule is looked at before it is active. ``refuses``: no rule is made.
    ``keeps``: none is taken away.
    """

    root = "/v2"

    def __init__(self, port: int = 0) -> None:
        super().__init__(port)
        self.shares: dict[str, dict[str, Any]] = {}
        self.exports: dict[str, list[dict[str, Any]]] = {}
        self.rules: dict[str, dict[str, Any]] = {}
        self.slow = 1
        self.refuses = False
        self.keeps = False

    def add(self, export: str | None = "10.0.0.50:/mnt/foo", **values: Any) -> str:
        """A share; its id."""
        key = str(uuid.uuid4())
        self.shares[key] = {"id": key, "status": "available", "share_proto": "NFS", **values}
        other = {"id": "a", "path": "10.0.0.51:/other", "preferred": False}
        own = {"id": "b", "path": export, "preferred": True}
        self.exports[key] = [] if export is None else [other, own]
        return key

    def rules_of(self, share_id: str) -> list[tuple[str, str, str]]:
        """Kind, address and level of the hosts that may use a share."""
        names = ("access_type", "access_to", "access_level")
        own = [row for row in self.rules.values() if row["share_id"] == share_id]
        return [(row[names[0]], row[names[1]], row[names[2]]) for row in own]

    def answer(
        self, method: str, path: str, query: dict[str, str], body: Any
    ) -> tuple[int, dict[str, Any] | None]:
        if path == "/share-access-rules":
            return self._rules(query["share_id"])
        found = re.fullmatch(r"/shares/([^/]+)(/\w+)?", path)
        if found is None or found[1] not in self.shares:
            return 404, _fault("itemNotFound", "no such share")
        share, below = found[1], found[2]
        if method == "POST" and below == "/action":
            return self._act(share, body)
        if below == "/export_locations":
            return 200, {"export_locations": self.exports[share]}
        return 200, {"share": self.shares[share]}

    def _rules(self, share: str) -> tuple[int, dict[str, Any]]:
        if share not in self.shares:
            return 404, _fault("itemNotFound", "no such share")
        own = [row for row in self.rules.values() if row["share_id"] == share]
        for row in own:
            row["looked"] += 1
            if row["looked"] >= self.slow:
                row["state"] = "active"
        return 200, {"access_list": own}

    def _act(self, share: str, body: dict[str, Any]) -> tuple[int, dict[str, Any] | None]:
        ((word, given),) = body.items()
        if word == "deny_access" and self.keeps:
            return 400, _fault("badRequest", "this share keeps its rules")
        if word == "deny_access":
            gone = self.rules.pop(given["access_id"], None)
            if gone is None:
                return 404, _fault("itemNotFound", "no such rule")
            if not given.get("unrestrict"):
                self.rules[given["access_id"]] = gone
                return 409, _fault("conflictingRequest", "the rule is locked")
            return 202, None
        if self.refuses:
            return 400, _fault("badRequest", "this share takes no rules")
        if any(rule[1] == given["access_to"] for rule in self.rules_of(share)):
            return 400, _fault("badRequest", "the rule is there already")
        key = str(uuid.uuid4())
        row = {"id": key, "share_id": share, "state": "queued_to_apply", "looked": 0, **given}
        self.rules[key] = row
        return 200, {"access": row}


def _fault(kind: str, message: str) -> dict[str, Any]:
    return {kind: {"message": message}}
