"""A fresh small cloud for each conversation."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.cloud import Cloud


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    """One API, cell0 and cell1."""
    made = Cloud()
    yield made
    made.close()
