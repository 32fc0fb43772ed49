"""Write the golden journals of this release: ``python -m tests.sagas.record RELEASE``."""

from __future__ import annotations

import asyncio
import gzip
import sys
from pathlib import Path

import msgspec

from kilonova.workflows.harness import SCENARIOS, record
from tests.sagas import examples, scenarios

WHERE = Path(__file__).parent / "golden"


SERVERS = ("server build", "server build, first host broken", "server delete", "server stop")


async def main(release: str) -> None:
    """One file per scenario; files of former releases stay as they are.

    Those of server sagas hold compute's rows as well and are packed with gzip.
    """
    WHERE.mkdir(exist_ok=True)
    (WHERE / "servers").mkdir(exist_ok=True)
    for name in SERVERS:
        golden = await record(SCENARIOS.get(name))
        words = name.removeprefix("server ").replace(",", "").replace(" ", "-")
        packed = gzip.compress(msgspec.json.encode(golden), mtime=0)
        (WHERE / "servers" / f"{words}-{release}.json.gz").write_bytes(packed)
    for name, what in SCENARIOS.items():
        if name.startswith("server "):
            continue
        golden = await record(what)
        words = name.replace(",", "").replace(" ", "-")
        lines = b",\n".join(msgspec.json.encode(moment) for moment in golden.moments)
        head = msgspec.json.encode(msgspec.structs.replace(golden, moments=[]))
        text = head.removesuffix(b"]}") + b"\n" + lines + b"\n]}\n"
        (WHERE / f"{words}-{release}.json").write_bytes(text)


if __name__ == "__main__":
    assert examples.META and scenarios.Build
    asyncio.run(main(sys.argv[1]))
