"""What goes wrong for a person gets one clear sentence and exit code 1."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import namespace, running
from tests.support.running import Running

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Running]:
    """A cloud of simulated hosts (not started yet), on ports of its own."""
    why = namespace.possible()
    if why is not None:
        pytest.skip(why)
    with running.running(tmp_path / "state", port_base=23000) as made:
        yield made


def refused(cloud: Running, *words: str, env: dict[str, str] | None = None) -> str:
    """``up`` with those words must fail with a sentence; that sentence."""
    done = cloud.up("--no-demo", *words, check=False, env=env)
    assert done.returncode == 1, done.stdout + done.stderr
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in cloud.log()
    assert lines[0].startswith("kilonova: ")
    return lines[0]


def test_unknown_driver(cloud: Running) -> None:
    said = refused(cloud, "--driver", "vmware")
    assert "no driver 'vmware'" in said
    assert "qemu, libvirt or fake" in said


def test_busy_port(cloud: Running) -> None:
    words = "import socket,sys; s=socket.socket(); s.bind(('127.0.0.1', 23002)); s.listen(); "
    holder = subprocess.Popen(
        cloud.space.inside(["python3", "-c", words + "print('on', flush=True); sys.stdin.read()"]),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=namespace.environment(),
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"on\n"
    said = refused(cloud, "--driver", "fake")
    holder.stdin.close()
    holder.wait(10)
    holder.stdout.close()
    assert "23002" in said
    assert "--port-base" in said


def test_second_start_on_the_same_directory(cloud: Running) -> None:
    cloud.up("--driver", "fake", "--no-demo")
    said = refused(cloud, "--driver", "fake")
    assert "already runs" in said
    assert "kilonova down" in said
    assert cloud.shell("kilonova-admin").json("server", "list") == []


def test_no_room_on_the_disk(cloud: Running) -> None:
    cloud.state_dir.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", cloud.state_dir], check=True)
    try:
        said = refused(cloud)
        assert "MiB free" in said
        assert str(cloud.state_dir) in said
    finally:
        subprocess.run(["umount", "-l", cloud.state_dir], check=True)


def test_no_qemu(cloud: Running, tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for folder in ("/bin", "/usr/bin", "/sbin", "/usr/sbin"):
        for program in Path(folder).iterdir():
            link = tools / program.name
            if "qemu" not in program.name and not link.exists():
                link.symlink_to(program)
    said = refused(cloud, env={"PATH": str(tools)})
    assert "apt-get install" in said
    assert "qemu-system-x86" in said


def test_directory_that_cannot_be_written(cloud: Running) -> None:
    cloud.state_dir.write_text("a file is in the way")
    said = refused(cloud)
    assert "--state-dir" in said


def test_privileged_port_is_refused_before_anything_happens(cloud: Running) -> None:
    cloud.port_base = 80
    assert "--port-base" in refused(cloud)
    assert not cloud.state_dir.exists()
