"""An identity service in process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kilonova.web.testing import Client
from tests.support.identity import Place, start


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    """A bootstrapped identity service."""
    made = await start(tmp_path)
    yield made
    made.identity.close()


@pytest.fixture
async def admin(place: Place) -> Client:
    """The administrator in project admin."""
    return await place.client("admin", "admin")


@pytest.fixture
async def demo(place: Place) -> Client:
    """An ordinary member of project demo."""
    return await place.client("demo", "demo")
