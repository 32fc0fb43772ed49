"""A libvirtd of our own for a test: nothing of the machine's own libvirt is touched."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from kilonova.domain.guest import Nic
from kilonova.embedded.network.plane import netns
from kilonova.virt.vifs import LinuxBridgeVifs
from tests.support.namespace import Namespace, environment

PLACES = {
    "etc": "/etc/libvirt",
    "lib": "/var/lib/libvirt",
    "run": "/run/libvirt",
    "log": "/var/log/libvirt",
    "cache": "/var/cache/libvirt",
}
CACHE = Path(os.environ.get("KILONOVA_CACHE") or Path.home() / ".cache" / "kilonova") / "libvirt"
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

# libvirt waits for the end of a guest's process, whose parent is whoever adopts orphans; not every
# machine has somebody who does that at once. When we die, all of it ends.
ADOPT = """
import contextlib, ctypes, os, signal, subprocess, sys, threading, time
ctypes.CDLL(None).prctl(36, 1)
child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
ending = threading.Event()
def end():
    sys.stdin.read()
    ending.set()
    while True:
        with open(f"/proc/self/task/{os.getpid()}/children") as children:
            for pid in children.read().split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
        time.sleep(0.05)
threading.Thread(target=end, daemon=True).start()
with contextlib.suppress(ChildProcessError):
    while os.wait()[0] != child.pid or ending.is_set():
        pass
os._exit(0)
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

    def start(self) -> None:
        """Start it, with what it knew before; returns when it answers."""
        binds = [f'mount --bind "$1/{own}" {place}' for own, place in PLACES.items()]
        words = (
            f"mkdir -p {' '.join(PLACES.values())}",
            *binds,
            "exec libvirtd -p /run/libvirt/libvirtd.pid",
        )
        command = ["unshare", "-m", "--propagation", "private", "sh", "-ec", "\n".join(words), "sh"]
        with (self.directory / "out").open("ab") as out:
            self._process = subprocess.Popen(
                [*self._prefix, sys.executable, "-S", "-c", ADOPT, *command, str(self.directory)],
                stdin=subprocess.PIPE,
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
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int((self.directory / "run" / "libvirtd.pid").read_text()), how)
            self._process.wait(30)
            self._release()

    def domains(self) -> list[str]:
        """Names of all that is defined."""
        import libvirt

        with contextlib.closing(libvirt.open(self.uri)) as connection:
            return [domain.name() for domain in connection.listAllDomains(0)]

    def clear(self) -> None:
        """Remove every domain."""
        import libvirt

        with contextlib.closing(libvirt.open(self.uri)) as connection:
            for domain in connection.listAllDomains(0):
                if domain.isActive():
                    domain.destroy()
                domain.undefine()

    def end(self) -> None:
        """End the daemon and what is left of its guests, and remove its directories."""
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            self.stop()
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._release()
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

    def _release(self) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process = None

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


class Taps:
    """A VifPlugger for the network namespace of a daemon."""

    def __init__(self, space: Namespace) -> None:
        self._space = space

    async def plug(self, nic: Nic) -> None:
        await self._inside(lambda: asyncio.run(LinuxBridgeVifs().plug(nic)))

    async def unplug(self, nic: Nic) -> None:
        await self._inside(lambda: asyncio.run(LinuxBridgeVifs().unplug(nic)))

    async def _inside(self, work: Callable[[], None]) -> None:
        await asyncio.to_thread(netns.run_in, self._space.path, work)
