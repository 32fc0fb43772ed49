"""Placement's own gabbi files against placement-api, one start of it for each policy."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kilonova.placement import policies
from tests.live.judges import suites
from tests.support.daemons import ENV, module
from tests.support.namespace import environment
from tests.support.servers import free_port

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(300)]

POLICY = {
    "default": "",
    "secure": "[oslo_policy]\nenforce_new_defaults = true\n",
    "legacy": "[oslo_policy]\nenforce_new_defaults = false\n",
    "open": "[oslo_policy]\npolicy_file = {where}/open.yaml\n",
    "cors": (
        "[cors]\nallowed_origin = http://valid.example.com\nallow_headers = openstack-api-version\n"
    ),
}
COUNTS = {"default": 856, "secure": 268, "legacy": 146, "open": 41, "cors": 4}
REFUSED_BY_HTTP = {"gabbits.basic-http_bad_content_length_not_int.test_request"}


@contextmanager
def _placement(where: Path, more: str) -> Iterator[str]:
    """``placement-api`` on a new SQLite file; its URL."""
    port = free_port()
    config = where / "placement.conf"
    config.write_text(
        f"[api]\nauth_strategy = noauth2\n[placement_database]\n"
        f"connection = sqlite:///{where}/placement.db\n{more.format(where=where)}"
    )
    tool = [*module("placement-manage"), "--config-file", str(config), "db", "sync"]
    subprocess.run(tool, env=ENV, check=True, capture_output=True, timeout=60)
    words = [*module("placement-api"), "--config-file", str(config), "--port", str(port)]
    with (where / "log").open("w") as log:
        process = subprocess.Popen(words, env=ENV, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        _await(url, process)
        yield url
    finally:
        process.terminate()
        process.wait(15)


def _await(url: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 30
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except urllib.error.URLError:
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.1)
        else:
            return


@pytest.mark.parametrize("mode", POLICY)
def test_gabbi_files(mode: str, tmp_path: Path) -> None:
    if not suites.JUDGE.exists():
        pytest.skip("no judges in .venv-judge: run scripts/setup")
    everything = "".join(f'"{rule.name}": "@"\n' for rule in policies.rules())
    (tmp_path / "open.yaml").write_text(everything)
    with _placement(tmp_path, POLICY[mode]) as url:
        words: list[str | Path] = [suites.JUDGE, suites.HERE / "gabbits.py", mode, url]
        done = subprocess.run(
            words, capture_output=True, text=True, check=False, timeout=280, env=environment()
        )
    assert done.returncode == 0, done.stderr[-2000:]
    verdict = json.loads(done.stdout.splitlines()[-1])
    assert {
        name: why for name, why in verdict["failed"].items() if name not in REFUSED_BY_HTTP
    } == {}
    assert len(verdict["passed"]) >= COUNTS[mode]
