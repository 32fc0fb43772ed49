"""No guest of a test outlives it, nor the process that runs the tests, however either ends."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

SECONDS = 30.0

# A program of its own: what waits in the tests' process ends with that, without a word.
WATCH = """
import contextlib, os, signal, sys, time
sys.stdin.read()
prefix = os.fsencode(sys.argv[1]) + b"/"
def guests():
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            with contextlib.suppress(OSError), open(f"/proc/{entry}/cmdline", "rb") as file:
                words = file.read().split(b"\\0")
                if b"-pidfile" in words:
                    if words[words.index(b"-pidfile") + 1].startswith(prefix):
                        yield int(entry)
end = time.monotonic() + 20
while time.monotonic() < end and (found := list(guests())):
    for pid in found:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    time.sleep(0.05)
"""


@contextlib.contextmanager
def ended(directory: Path) -> Iterator[None]:
    """End, afterwards or when this process is gone, QEMUs with their pid file in ``directory``."""
    watch = subprocess.Popen(
        [sys.executable, "-S", "-c", WATCH, str(directory.resolve())],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,  # a signal for our group is not for it
    )
    assert watch.stdin is not None
    try:
        yield
    finally:
        watch.stdin.close()
        watch.wait(SECONDS)
