"""A block storage service in process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.volume import Place, start


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    """An empty block storage service."""
    made = await start(tmp_path)
    yield made
    await made.volumes.close()
