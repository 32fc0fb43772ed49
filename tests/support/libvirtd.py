"""A libvirtd of our own for a test: nothing of the machine's own libvirt is touched."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.support.namespace import environment

PLACES = {
    "etc": "/etc/libvirt",
    "lib": "/var/lib/libvirt",
    "run": "/run/libvirt",
    "log": "/var/log/libvirt",
    "cache": "/var/cache/libvirt",
}
CACHE = Path.home() / ".cache" / "kilonova" / "libvirt"
SECONDS = 90.0
TOOLS = ("libvirtd", "qemu-system-x86_64", "unshare", "nsenter")
QEMU_CONF = """
stdio_handler = "file"
security_driver = "none"
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
namespaces = []
cgroup_controllers = []
"""
LIBVIRTD_CONF = """
auth_unix_rw = "none"
log_outputs = "3:file:/var/log/libvirt/libvirtd.log"
"""


def why_not() -> str | None:
    """Why no libvirtd can be run here; None if one can."""
    if os.geteuid() != 0:
        return "a libvirtd of our own needs root"
    for tool in TOOLS:
        if shutil.which(tool, path=environment()["PATH"]) is None:
            return f"{tool} is not installed"
    if importlib.util.find_spec("libvirt") is None:
        return "libvirt-python is not installed"
    return None


class Libvirtd:
    """A daemon whose directories are its own, in a mount namespace.

    ``prefix`` stands before its command (to run it in a network namespace).
    """

    def __init__(self, prefix: Sequence[str] = ()) -> None:
        self._prefix = list(prefix)
        # Short, because addresses of Unix sockets are.
        self.directory = Path(tempfile.mkdtemp(prefix="kilonova-lv-"))
        self._socket = self.directory / "run" / "libvirt-sock"
        self.uri = f"qemu+unix:///system?socket={self._socket}"
        self._process: subprocess.Popen[bytes] | None = None
        CACHE.mkdir(parents=True, exist_ok=True)
        # What QEMU can do takes seconds to find out, and is the same for all.
        (self.directory / "cache").symlink_to(CACHE)
        for own in PLACES:
            (self.directory / own).mkdir(exist_ok=True)
        (self.directory / "etc" / "qemu.conf").write_text(QEMU_CONF)
        (self.directory / "etc" / "libvirtd.conf").write_text(LIBVIRTD_CONF)

    @property
    def pid(self) -> int:
        """Of the daemon."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, with what it knew before; returns when it answers."""
        binds = [f'mount --bind "$1/{own}" {place}' for own, place in PLACES.items()]
        words = (f"mkdir -p {' '.join(PLACES.values())}", *binds, "exec libvirtd")
        command = ["unshare", "-m", "--propagation", "private", "sh", "-ec", "\n".join(words), "sh"]
        with (self.directory / "out").open("ab") as out:
            self._process = subprocess.Popen(
                [*self._prefix, *command, str(self.directory)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=environment(),
                cwd="/",
            )
        end = time.monotonic() + SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > end:
                raise AssertionError(f"libvirtd does not answer: {self.said()}")
            time.sleep(0.05)

    def said(self) -> str:
        """What it wrote last."""
        files = [self.directory / "out", self.directory / "log" / "libvirtd.log"]
        return "\n".join(file.read_text()[-2000:] for file in files if file.exists())

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End the daemon; its guests live on."""
        if self._process is None:
            return
        self._process.send_signal(how)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(20)
        self._process = None

    def end(self) -> None:
        """End the daemon and what is left of its guests, and remove its directories."""
        self.stop()
        for pid in self.guests():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.directory, ignore_errors=True)

    def guests(self) -> dict[int, str]:
        """Process id → command line of every QEMU of this daemon.

        They live in its mount namespace, where /run/libvirt is our directory.
        """
        mark = f"{self.directory.name}/run /run/libvirt "
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    if "qemu-system" in line and mark in (entry / "mountinfo").read_text():
                        found[int(entry.name)] = line
        return found

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(self._socket))
            except OSError:
                return False
            return True


@contextlib.contextmanager
def libvirtd(prefix: Sequence[str] = ()) -> Iterator[Libvirtd]:
    """A daemon for the time of a test."""
    made = Libvirtd(prefix)
    try:
        made.start()
        yield made
    finally:
        made.end()
