"""A reverse proxy that writes each exchange as a line of JSON, for judges to read.

``python recorder.py PORT UPSTREAM FILE``: listens on 127.0.0.1:PORT until it is ended. Tokens are
not written; the client's Host header is passed on, so that links in bodies lead back here.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

HOP_BY_HOP = {
    "connection",
    "content-length",
    "content-encoding",
    "keep-alive",
    "proxy-authorization",
    "te",
    "transfer-encoding",
    "upgrade",
}
KEPT = {"content-type", "accept", "openstack-api-version", "x-openstack-nova-api-version"}


class Recorder:
    """One upstream, one file."""

    def __init__(self, upstream: str, file: Path) -> None:
        self._upstream = upstream.rstrip("/")
        self._out = file.open("a", encoding="utf-8")
        self._session: aiohttp.ClientSession | None = None

    async def relay(self, request: web.Request) -> web.Response:
        """Pass one request on and write down what was said."""
        if self._session is None:
            self._session = aiohttp.ClientSession(auto_decompress=False)
        sent = {k: v for k, v in request.headers.items() if k.lower() not in HOP_BY_HOP}
        sent["Accept-Encoding"] = "identity"
        body = await request.read()
        began = time.time()
        async with self._session.request(
            request.method,
            self._upstream + request.raw_path,
            data=body or None,
            headers=sent,
            allow_redirects=False,
        ) as answer:
            content = await answer.read()
            heads = [(k, v) for k, v in answer.headers.items() if k.lower() not in HOP_BY_HOP]
            status = answer.status
        self._write(
            {
                "ts": round(began, 3),
                "method": request.method,
                "path": request.path,
                "query": request.query_string,
                "request_headers": {
                    k.lower(): v for k, v in request.headers.items() if k.lower() in KEPT
                },
                "request_body": _document(body),
                "status": status,
                "response_headers": _joined(heads),
                "body": _document(content),
            }
        )
        reply = web.Response(status=status, body=content)
        for name, value in heads:
            if name.lower() not in ("date", "server"):
                reply.headers[name] = value
        return reply

    def _write(self, line: dict[str, Any]) -> None:
        self._out.write(json.dumps(line) + "\n")
        self._out.flush()


def _joined(heads: list[tuple[str, str]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in heads:
        key = name.lower()
        found[key] = f"{found[key]}, {value}" if key in found else value
    return found


def _document(raw: bytes) -> Any:
    if not raw:
        return None
    try:
        return json.loads(raw)
    except ValueError:
        return {"__raw__": raw[:2000].decode(errors="replace")}


async def serve(port: int, upstream: str, file: Path) -> None:
    """Listen until cancelled."""
    app = web.Application(client_max_size=1 << 26)
    app.router.add_route("*", "/{path:.*}", Recorder(upstream, file).relay)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])))
