"""A cloud of fake hosts for the judges."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.live.judges import suites
from tests.support import namespace, running
from tests.support.running import Running


@pytest.fixture(scope="session")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Three fake hosts, two public images, a server; skips where there is no judge."""
    why = namespace.possible()
    if why is not None:
        pytest.skip(why)
    if not suites.JUDGE.exists():
        pytest.skip("no judges in .venv-judge: run scripts/setup")
    where = tmp_path_factory.mktemp("judged")
    with running.running(where / "state", port_base=21300) as made:
        made.up("--driver", "fake", "--hosts", "3")
        suites.furnish_used(made, where)
        yield made
