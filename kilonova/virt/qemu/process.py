"""QEMU processes: started so that they outlive us, found again, watched, and ended safely."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import signal
from collections.abc import Sequence
from pathlib import Path

from kilonova.base import programs
from kilonova.base.errors import Unavailable

PROC = Path("/proc")


class Process:
    """A living process held by a pidfd, so that its number cannot come to mean another one."""

    def __init__(self, pid: int, fd: int) -> None:
        self.pid = pid
        self._fd = fd
        self.exited: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().add_reader(fd, self._on_exit)

    @classmethod
    def hold(cls, pid: int, server_id: str) -> Process | None:
        """Take hold of a process; None when it is gone or is not this server's guest."""
        try:
            fd = os.pidfd_open(pid)
        except OSError:
            return None
        if server_id not in arguments(pid):
            os.close(fd)
            return None
        return cls(pid, fd)

    @property
    def alive(self) -> bool:
        """Whether it has not exited yet."""
        return not self.exited.done()

    def send(self, number: signal.Signals) -> None:
        """Send a signal to exactly this process."""
        if self._fd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._fd, number)

    async def wait(self, seconds: float) -> bool:
        """True when it exited within that time."""
        done, _ = await asyncio.wait({self.exited}, timeout=seconds)
        return bool(done)

    async def end(self, *, seconds: float) -> None:
        """SIGTERM (0 seconds: not even that), then SIGKILL; returns when it is gone."""
        if seconds > 0:
            self.send(signal.SIGTERM)
            if await self.wait(seconds):
                return
        self.send(signal.SIGKILL)
        if not await self.wait(30):
            raise Unavailable(f"The process {self.pid} of the guest cannot be killed.")

    def release(self) -> None:
        """Stop watching; the process lives on."""
        if self._fd >= 0:
            with contextlib.suppress(RuntimeError):
                asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _on_exit(self) -> None:
        self.release()
        if not self.exited.done():
            self.exited.set_result(_reap(self.pid))


def _reap(pid: int) -> str:
    """How a child ended; '' when it is not our child (we were restarted since)."""
    try:
        gone, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return ""
    if gone == 0:
        return ""
    code = os.waitstatus_to_exitcode(status)
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def spawn(command: Sequence[str], *, log: Path, fds: Sequence[int], user: str | None = None) -> int:
    """Start a program in a session of its own; its process id.

    Standard output and error go to ``log``. It gets our descriptors ``fds`` under their numbers.
    """
    program = programs.find(command[0])
    if program is None:
        raise Unavailable(f"The program {command[0]} is missing on this host; install it.")
    argv = [program, *command[1:]]
    if user is not None:
        argv = [*_as_user(user), *argv]
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = [
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, out, 1),
            (os.POSIX_SPAWN_DUP2, out, 2),
            *((os.POSIX_SPAWN_DUP2, fd, fd) for fd in fds),
        ]
        environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "HOME": "/"}
        return os.posix_spawn(
            argv[0],
            argv,
            environment,
            file_actions=actions,
            setsid=True,
            setsigmask=[],
            setsigdef=[signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE],
        )
    finally:
        os.close(out)


def _as_user(user: str) -> list[str]:
    setpriv = programs.find("setpriv")
    if setpriv is None:
        raise Unavailable("[qemu] user needs the program setpriv (package util-linux).")
    who = pwd.getpwnam(user)
    return [
        setpriv,
        f"--reuid={who.pw_uid}",
        f"--regid={who.pw_gid}",
        "--clear-groups",
        "--no-new-privs",
        "--",
    ]


def arguments(pid: int) -> list[str]:
    """The command line of a process; empty when it is gone or a zombie."""
    try:
        return (PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def find(directory: Path) -> dict[str, int]:
    """Server id → process id of every guest whose process keeps its things in ``directory``."""
    found: dict[str, int] = {}
    prefix = f"{directory.resolve()}/"
    for entry in PROC.iterdir():
        if not entry.name.isdecimal():
            continue
        words = arguments(int(entry.name))
        if "-pidfile" not in words or "-uuid" not in words:
            continue
        pidfile = words[words.index("-pidfile") + 1]
        if pidfile.startswith(prefix):
            found[words[words.index("-uuid") + 1]] = int(entry.name)
    return found
