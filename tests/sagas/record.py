"""Write the golden journals of this release: ``python -m tests.sagas.record RELEASE``."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import msgspec

from kilonova.workflows.harness import SCENARIOS, record
from tests.sagas import examples

WHERE = Path(__file__).parent / "golden"


async def main(release: str) -> None:
    """One file per scenario; files of former releases stay as they are."""
    WHERE.mkdir(exist_ok=True)
    for name, what in SCENARIOS.items():
        golden = await record(what)
        words = name.replace(",", "").replace(" ", "-")
        lines = b",\n".join(msgspec.json.encode(moment) for moment in golden.moments)
        head = msgspec.json.encode(msgspec.structs.replace(golden, moments=[]))
        text = head.removesuffix(b"]}") + b"\n" + lines + b"\n]}\n"
        (WHERE / f"{words}-{release}.json").write_bytes(text)


if __name__ == "__main__":
    assert examples.META
    asyncio.run(main(sys.argv[1]))
