"""An image service in process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.image import Place, start


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    """An empty image service."""
    made = await start(tmp_path)
    yield made
    made.images.close()
