"""Everything a cloud tells, judged by the payload classes of the nova package."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from kilonova.notifications.table import TABLE
from kilonova.services.all_in_one import Cloud
from kilonova.services.lifecycle import Wanted, prepare
from kilonova.services.progress import Silence
from tests.live.judges import payloads, suites
from tests.simulated.conftest import OWN, Simulated, free_ports
from tests.support import moving, notices
from tests.support.outside import Manila

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(300)]

KINDS = 130
"""Kinds that the conversation causes, at least."""


@pytest.fixture
def shares() -> Iterator[Manila]:
    with Manila() as made:
        yield made


@pytest_asyncio.fixture
async def simulated(tmp_path: Path, shares: Manila) -> AsyncIterator[Simulated]:
    if not suites.JUDGE.exists():
        pytest.skip("no judges in .venv-judge: run scripts/setup")
    wanted = Wanted(state_dir=tmp_path, port_base=free_ports(8), driver="fake", hosts=10)
    prepare(wanted)
    more = f"[manila]\nendpoint_override = {shares.url}\n"
    (wanted.state_dir / "kilonova.conf").write_text(OWN + notices.OPTIONS + more)
    async with Cloud(wanted, Silence()) as cloud:
        made = Simulated(cloud)
        await made.login()
        yield made


async def test_payloads(simulated: Simulated, shares: Manila, tmp_path: Path) -> None:
    await notices.life(simulated)
    await notices.records(simulated)
    await notices.troubles(simulated)
    await moving.remade(simulated)
    await moving.moved(simulated)
    await moving.hindered(simulated)
    await moving.sharing(simulated, shares)
    await notices.audited(simulated)
    told = await notices.told(simulated)
    kinds = {one.event for one in told}
    print(len(kinds), "kinds; not told:", sorted(set(TABLE) - kinds))
    assert len(kinds) >= KINDS
    lines = [json.dumps([o.event, o.publisher, o.priority, o.payload]) for o in told]
    (tmp_path / "told").write_text("\n".join(lines) + "\n")
    words = [str(suites.JUDGE), str(Path(payloads.__file__)), str(tmp_path / "told")]
    judged = await asyncio.to_thread(subprocess.run, words, capture_output=True, timeout=120)
    assert judged.returncode == 0, judged.stderr[-2000:]
    assert json.loads(judged.stdout) == []
