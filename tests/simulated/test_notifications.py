"""Everything that happens in a cloud is told, in order, in both forms; what was told is kept."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import pytest

from kilonova.notifications.table import TABLE
from tests.simulated.conftest import OWN, Simulated
from tests.support import notices

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

KINDS = Path(__file__).parent / "notifications.txt"


@pytest.fixture(scope="module")
def own() -> dict[str, str]:
    return {"kilonova.conf": OWN + notices.OPTIONS}


async def test_the_life_of_a_server(simulated: Simulated) -> None:
    server_id = await notices.life(simulated)
    events = [
        one.event.removeprefix("instance.") for one in await notices.of_server(simulated, server_id)
    ]
    assert events == [
        "create.start",
        "create.end",
        "lock",
        "unlock",
        "reboot.start",
        "reboot.end",
        "pause.start",
        "pause.end",
        "unpause.start",
        "unpause.end",
        "trigger_crash_dump.start",
        "trigger_crash_dump.end",
        "power_off.start",
        "power_off.end",
        "power_on.start",
        "power_on.end",
        "interface_attach.start",
        "interface_attach.end",
        "interface_detach.start",
        "interface_detach.end",
        "volume_attach.start",
        "volume_attach.end",
        "volume_swap.start",
        "volume_swap.end",
        "volume_detach.start",
        "volume_detach.end",
        "delete.start",
        "shutdown.start",
        "shutdown.end",
        "delete.end",
    ]


async def test_records(simulated: Simulated) -> None:
    await notices.records(simulated)


async def test_troubles(simulated: Simulated) -> None:
    lost, stuck = await notices.troubles(simulated)
    all_told = await notices.told(simulated)
    print(Counter(one.event for one in all_told))


async def test_kinds(simulated: Simulated) -> None:
    seen = {one.event for one in await notices.told(simulated)}
    out = os.environ.get("KILONOVA_NOTICES")
    if out:
        with Path(out).open("w") as file:
            for one in await notices.told(simulated):
                file.write(json.dumps([one.event, one.publisher, one.priority, one.payload]) + "\n")
    print(sorted(seen), len(seen))
    print(sorted(set(TABLE) - seen))
