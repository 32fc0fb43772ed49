"""A data plane agent as a program: told by JSON where its service and its host are."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from kilonova.embedded.network.agent import PlaneAgent
from kilonova.embedded.network.plane import PlaneEnv
from kilonova.embedded.network.plane.metadata_proxy import ProxySettings
from kilonova.web.client import HttpClient


async def main(config: dict[str, str]) -> None:
    async def token() -> str:
        return "admin"

    async with HttpClient() as http:
        agent = PlaneAgent(
            "h1",
            url=config["origin"],
            http=http,
            token=token,
            env=PlaneEnv(config["mark"], Path(config["dir"]) / "run", netns=config["host"]),
            proxy=ProxySettings("http://127.0.0.1:9", "secret"),
        )
        await agent.start()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
