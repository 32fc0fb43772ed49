"""Single daemons as processes: what they say when they cannot work, and what they do not load."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.daemons import ENV, Process, run
from tests.support.servers import free_port

pytestmark = pytest.mark.live

LOGIN = (
    "[keystone_authtoken]\nauth_url = http://127.0.0.1:1/v3\nusername = nova\n"
    "password = secret\nproject_name = service\n"
)
BLOCKED = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("sqlalchemy", "alembic"):
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Blocked())
from kilonova.cmd.nova_compute import main
sys.exit(main(sys.argv[1:]))
"""


def placement_file(where: Path, extra: str = "") -> Path:
    file = where / "placement.conf"
    file.write_text(
        "[api]\nauth_strategy = noauth2\n"
        f"[placement_database]\nconnection = sqlite:///{where}/placement.db\n{extra}"
    )
    return file


@pytest.mark.parametrize(
    ("daemon", "text", "said"),
    [
        ("nova-api", "[DEFAULT]\nosapi_compute_listen_port = x\n", "osapi_compute_listen_port"),
        ("nova-api", "", "[api_database] connection is not set"),
        ("nova-api", "[DEFAULT]\nenabled_apis = ec2\n", "enabled_apis names ec2"),
        (
            "nova-conductor",
            "[api_database]\nconnection = postgresql://u:secret@127.0.0.1:1/nova\n",
            "[api_database] connection (postgresql://u:***@127.0.0.1:1/nova) cannot be",
        ),
        (
            "nova-scheduler",
            "[api_database]\nconnection = mysql+pymysql://u:secret@127.0.0.1:1/nova\n",
            "(mysql+pymysql://u:***@127.0.0.1:1/nova) cannot be used",
        ),
        ("nova-api-metadata", "[api_database]\nconnection = what\n", "is no database URL"),
        (
            "nova-api-metadata",
            "[api_database]\nconnection = sqlite:///{where}/empty.db\n",
            "run nova-manage api_db sync",
        ),
        ("nova-compute", "", "[keystone_authtoken] auth_url is not set"),
        ("nova-compute", LOGIN, "[DEFAULT] transport_url is not set"),
        (
            "nova-compute",
            "[DEFAULT]\ntransport_url = rabbit://me:secret@127.0.0.1:1/\n"
            f"[kilonova]\nbroker_seconds = 1\n{LOGIN}",
            "No message broker answers at rabbit://me:***@127.0.0.1:1/",
        ),
        (
            "nova-compute",
            f"[DEFAULT]\ntransport_url = kafka://h/\n{LOGIN}",
            "speaks of 'kafka'",
        ),
        (
            "nova-compute",
            f"[DEFAULT]\ntransport_url = fake://\n{LOGIN}",
            "Set [DEFAULT] compute_driver",
        ),
        (
            "nova-compute",
            f"[DEFAULT]\ntransport_url = fake://\ncompute_driver = xenapi.XenAPIDriver\n{LOGIN}",
            "XenAPI",
        ),
        ("placement-api", "", "[placement_database] connection is not set"),
        (
            "placement-api",
            "[placement_database]\nconnection = sqlite:///{where}/p.db\n",
            "[keystone_authtoken] auth_url is not set",
        ),
        (
            "placement-api",
            "[placement_database]\nconnection = sqlite:////nonexistent/place/p.db\n",
            "unable to open database file",
        ),
    ],
)
def test_one_sentence_and_exit_code_1(tmp_path: Path, daemon: str, text: str, said: str) -> None:
    file = tmp_path / "nova.conf"
    log = tmp_path / "daemon.log"
    state = f"[DEFAULT]\nstate_path = {tmp_path}\n" if "[DEFAULT]" not in text else ""
    text = text.replace("[DEFAULT]\n", f"[DEFAULT]\nstate_path = {tmp_path}\n", 1)
    file.write_text(state + text.replace("{where}", str(tmp_path)))
    done = run(daemon, "--config-file", str(file), "--log-file", str(log), seconds=40)
    assert done.returncode == 1, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{daemon}: ") and said in line
    assert "secret" not in line and (not log.exists() or "secret" not in log.read_text())


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    done = run("nova-api", "--config-file", str(tmp_path / "nothing.conf"))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and "nothing.conf" in done.stderr


def test_a_busy_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = str(busy.getsockname()[1])
        file = placement_file(tmp_path)
        log = str(tmp_path / "log")
        argv = ("--config-file", str(file), "--host", "127.0.0.1", "--port", port)
        done = run("placement-api", *argv, "--log-file", log)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert f"Port {port} on 127.0.0.1 (placement) is already in use" in line


def test_placement_alone(tmp_path: Path) -> None:
    file = placement_file(tmp_path, "[DEFAULT]\nuse_json = true\n")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    argv = ["--config-file", str(file), "--port", str(port)]
    process = Process("placement-api", argv, tmp_path / "log", url)
    try:
        process.wait_healthy()
        file.write_text(file.read_text() + "debug = true\n[placement]\ntimeout = 5\n")
        process.popen.send_signal(signal.SIGHUP)
        end = time.monotonic() + 20
        while "read again" not in process.log and time.monotonic() < end:
            time.sleep(0.1)
        assert "changed options: [placement] timeout" in process.log
        assert process.stop() < 5
        rows = [json.loads(line) for line in process.log.splitlines()]
        assert rows[-1]["message"] == "placement-api has ended"
    finally:
        process.kill()


def test_compute_loads_nothing_of_a_database(tmp_path: Path) -> None:
    health = free_port()
    file = tmp_path / "nova.conf"
    file.write_text(
        f"[DEFAULT]\ntransport_url = fake://\ncompute_driver = fake.FakeDriver\n"
        f"state_path = {tmp_path}\n[kilonova]\nhealth_port = {health}\n{LOGIN}"
    )
    (tmp_path / "start.py").write_text(BLOCKED)
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.bind(str(tmp_path / "notify"))
    notify.settimeout(40)
    started = subprocess.Popen(
        [sys.executable, str(tmp_path / "start.py"), "--config-file", str(file)],
        env={**ENV, "NOTIFY_SOCKET": str(tmp_path / "notify")},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert notify.recv(100) == b"READY=1"
        with socket.create_connection(("127.0.0.1", health), 5) as asking:
            asking.sendall(b"GET /healthcheck HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert b" 200 OK" in asking.recv(100)
        os.kill(started.pid, signal.SIGTERM)
        assert notify.recv(100) == b"STOPPING=1"
        _, err = started.communicate(timeout=10)
        assert started.returncode == 0, err
        assert (tmp_path / "compute_id").exists()
    finally:
        started.kill()
        started.wait()
        notify.close()
