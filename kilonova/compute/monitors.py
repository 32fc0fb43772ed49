"""What monitors measure of the host: its processors, as the kernel's counters tell them."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

CPU = "cpu.virt_driver"
KNOWN = frozenset({CPU})
PROC = Path("/proc")

log = logging.getLogger(__name__)


class Times(msgspec.Struct, frozen=True):
    """Nanoseconds all processors spent since the machine started."""

    user: int
    kernel: int
    idle: int
    iowait: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.user + self.kernel + self.idle + self.iowait


class Monitors:
    """The enabled monitors; percentages are of the time since the look before."""

    def __init__(
        self, names: Sequence[str], *, proc: Path = PROC, ticks: int | None = None
    ) -> None:
        for name in sorted(set(names) - KNOWN):
            log.warning("There is no monitor %s; [DEFAULT] compute_monitors may have %s", name, CPU)
        self._on = CPU in names
        self._proc = proc
        self._ticks = ticks or os.sysconf("SC_CLK_TCK")
        self._before: Times | None = None

    def look(self) -> dict[str, float]:
        """Metric → value: ``cpu.*.time`` (nanoseconds), ``cpu.frequency`` (MHz), ``cpu.*.percent``
        and ``cpu.percent`` (0 to 100). Empty when nothing is enabled or can be read."""
        if not self._on:
            return {}
        try:
            now = times((self._proc / "stat").read_text(), self._ticks)
            mhz = frequency((self._proc / "cpuinfo").read_text())
        except (OSError, ValueError) as error:
            log.warning("The processors cannot be measured: %s", error)
            return {}
        before, self._before = self._before, now
        return measured(now, before or Times(0, 0, 0, 0)) | {"cpu.frequency": mhz}


def times(text: str, ticks: int) -> Times:
    """``/proc/stat`` read (proc(5)); ``ticks`` in a second. ValueError for something else."""
    words = text.partition("\n")[0].split()
    if len(words) < 8 or words[0] != "cpu":
        raise ValueError("/proc/stat does not begin with the times of all processors")
    user, nice, system, idle, iowait, irq, softirq = (int(word) for word in words[1:8])
    scale = 1_000_000_000 // ticks
    return Times(
        (user + nice) * scale, (system + irq + softirq) * scale, idle * scale, iowait * scale
    )


def frequency(text: str) -> float:
    """The clock rate of the first processor in ``/proc/cpuinfo`` (MHz); 0 where it is not told."""
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "cpu MHz":
            return float(value)
    return 0.0


def measured(now: Times, before: Times) -> dict[str, float]:
    """The metrics but the clock rate. Counters that went back count as no time."""
    spent = max(now.total - before.total, 0)

    def share(of: Callable[[Times], int]) -> float:
        return round(100 * max(of(now) - of(before), 0) / spent, 2) if spent else 0.0

    return {
        "cpu.user.time": float(now.user),
        "cpu.kernel.time": float(now.kernel),
        "cpu.idle.time": float(now.idle),
        "cpu.iowait.time": float(now.iowait),
        "cpu.user.percent": share(lambda t: t.user),
        "cpu.kernel.percent": share(lambda t: t.kernel),
        "cpu.idle.percent": share(lambda t: t.idle),
        "cpu.iowait.percent": share(lambda t: t.iowait),
        "cpu.percent": share(lambda t: t.user + t.kernel),
    }
