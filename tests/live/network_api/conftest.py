"""The lab of the data plane, and a network service over it.

The client libraries use modules that warn when they are imported; that is not ours to mend.
"""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.live.network.conftest import Lab, lab, plane_works
from tests.live.network_api.cloud import World, open_world

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import openstack  # noqa: F401

__all__ = ["lab", "plane_works"]


@pytest.fixture
async def world(
    request: pytest.FixtureRequest,
    lab: Lab,
    tmp_path: Path,
) -> AsyncIterator[World]:
    settings = getattr(request, "param", {})
    made = await open_world(lab, f"sqlite:///{tmp_path}/network.db", **settings)
    yield made
    await made.close()
