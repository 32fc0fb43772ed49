"""A network namespace of its own for a test: what runs in it, and its end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

TOOLS = ("/usr/local/sbin", "/usr/sbin", "/sbin")
SECONDS = 60.0


class Failed(AssertionError):
    """A command ended badly; what it said."""


class Namespace:
    """Held by a process that ends with this one, so that a crash leaves no namespace behind."""

    def __init__(self) -> None:
        self._holder = subprocess.Popen(
            ["unshare", "-n", "sh", "-c", "ip link set lo up && echo ready && exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(),
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != b"ready\n":
            self._holder.wait(5)
            raise Failed("no network namespace can be made here")
        self.path = f"/proc/{self._holder.pid}/ns/net"

    def inside(self, words: Sequence[str | Path]) -> list[str]:
        """The command that runs ``words`` in the namespace."""
        return ["nsenter", f"--net={self.path}", "--", *(str(word) for word in words)]

    def run(
        self,
        *words: str | Path,
        env: Mapping[str, str] | None = None,
        seconds: float = SECONDS,
        check: bool = True,
        text: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; Failed with its words unless it may end badly."""
        done = subprocess.run(
            self.inside(words),
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
            input=text if text is not None else "",
            env={**environment(), **(env or {})},
            cwd="/",
        )
        if check and done.returncode != 0:
            shown = " ".join(str(word) for word in words)[:300]
            raise Failed(f"{shown} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done

    def processes(self) -> dict[int, str]:
        """Process id → command line of all that lives in the namespace but its holder."""
        own = Path(self.path).stat().st_ino
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != self._holder.pid:
                with contextlib.suppress(OSError):
                    if (entry / "ns/net").stat().st_ino == own:
                        line = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
                        found[int(entry.name)] = line.decode(errors="replace").strip()
        return found

    def end(self) -> None:
        """Kill what is left in the namespace, each by its id, and let it go."""
        deadline = time.monotonic() + 10
        while (left := self.processes()) and time.monotonic() < deadline:
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
        assert self._holder.stdin is not None
        assert self._holder.stdout is not None
        self._holder.stdin.close()
        self._holder.wait(10)
        self._holder.stdout.close()


def environment() -> dict[str, str]:
    """Ours without what would lead a client to another cloud or through a proxy."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("OS_") and "proxy" not in name.lower()
    }
    path = [*kept.get("PATH", "/usr/bin:/bin").split(":"), *TOOLS]
    return {**kept, "PATH": ":".join(dict.fromkeys(path)), "NO_PROXY": "*", "COLUMNS": "200"}


@contextlib.contextmanager
def namespace() -> Iterator[Namespace]:
    """A namespace for the time of a test."""
    made = Namespace()
    try:
        yield made
    finally:
        made.end()


def possible() -> str | None:
    """Why no namespace can be made here; None if it can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    done = subprocess.run(
        ["unshare", "-n", "true"], capture_output=True, text=True, check=False, timeout=20
    )
    return None if done.returncode == 0 else f"network namespaces: {done.stderr.strip()}"
