"""One cloud with real guests for all conversations of this directory, and its compute traffic."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import namespace, running
from tests.support.namespace import environment
from tests.support.running import Running

RECORDER_PORT = 21050


@pytest.fixture(scope="session")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A started cloud as root, with real networks."""
    why = namespace.possible() or running.why_not()
    if why is not None:
        pytest.skip(why)
    with running.running(tmp_path_factory.mktemp("cloud") / "state") as made:
        made.up()
        yield made


@pytest.fixture(scope="session")
def traffic(cloud: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The file the compute traffic of ``recorded`` clients is written to."""
    file = tmp_path_factory.mktemp("traffic") / "traffic.jsonl"
    script = Path(running.ROOT) / "tests/support/recorder.py"
    words = [sys.executable, str(script), str(RECORDER_PORT), cloud.url("compute"), str(file)]
    process = subprocess.Popen(
        cloud.space.inside(words), stdout=subprocess.PIPE, env=environment(), cwd="/"
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    yield file
    process.terminate()
    process.wait(10)
    process.stdout.close()


@pytest.fixture(scope="session")
def recorded(cloud: Running, traffic: Path) -> Path:
    """A clouds.yaml whose clients speak to compute through the recorder."""
    change = {"compute_endpoint_override": f"http://127.0.0.1:{RECORDER_PORT}/v2.1"}
    return cloud.spoiled(
        {"kilonova": change, "kilonova-admin": change}, traffic.with_name("clouds.yaml")
    )
