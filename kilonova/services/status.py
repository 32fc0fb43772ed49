"""What runs of an all-in-one cloud, and how it is; quick, for it is asked again and again.

Only the standard library speaks to the cloud here: the libraries it runs on take longer to import
than it takes to answer.
"""

from __future__ import annotations

import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from kilonova.services import guests
from kilonova.services import layout as layouts
from kilonova.services.guests import Forwarded

SECONDS = 6.0
_SAMPLE = re.compile(r'^kilonova_(\w+?)(?:\{\w+="([^"]*)"\})? (\S+)$', re.MULTILINE)


class Service(msgspec.Struct, frozen=True):
    """One endpoint. ``state`` is OK or what is wrong; ``uptime`` is in seconds."""

    name: str
    address: str
    state: str
    pid: int | None = None
    version: str = ""
    uptime: float | None = None


class Status(msgspec.Struct, frozen=True):
    """A cloud that runs. ``servers`` by vm_state, ``guests`` by power state, ``sagas`` by state,
    ``agents`` up and down; ``oldest_saga`` is in seconds."""

    state_dir: str
    driver: str
    version: str
    uptime: float | None
    services: tuple[Service, ...]
    servers: dict[str, int] = {}
    guests: dict[str, int] = {}
    sagas: dict[str, int] = {}
    agents: dict[str, int] = {}
    oldest_saga: float = 0.0
    stuck_sagas: int = 0
    ssh: tuple[Forwarded, ...] = ()

    @property
    def well(self) -> bool:
        """Whether every endpoint is."""
        return all(service.state == "OK" for service in self.services)


class _Look(msgspec.Struct, frozen=True):
    """What one endpoint said: its health, and its figures by name and label."""

    state: str
    figures: dict[str, dict[str, float]] = {}


def look(state_dir: Path) -> Status | None:
    """The cloud on ``state_dir``; None when none runs there."""
    layout = layouts.read_layout(state_dir)
    if layout is None or not layouts.is_held(state_dir):
        return None
    run = layouts.read_run(state_dir)
    pid = next(iter(layouts.process_ids(state_dir).values()), None)
    with ThreadPoolExecutor(len(layout.ports)) as pool:
        looks = list(pool.map(lambda port: _look(layout.address, port), layout.ports.values()))
    seen = dict(zip(layout.ports, looks, strict=True))
    figures = seen["compute"].figures
    sagas = _counts(figures.get("sagas", {}))
    started = run.get("started")
    return Status(
        state_dir=str(state_dir),
        driver=str(run.get("driver", "")),
        version=str(run.get("version", "")),
        uptime=time.time() - started if isinstance(started, float) else None,
        services=tuple(
            _service(name, f"{layout.address}:{port}", seen[name], pid)
            for name, port in layout.ports.items()
        ),
        servers=_counts(figures.get("servers", {})),
        guests=_counts(figures.get("guests", {})),
        sagas=sagas,
        agents=_counts(figures.get("agents", {})),
        oldest_saga=max(figures.get("saga_oldest_seconds", {}).values(), default=0.0),
        stuck_sagas=sagas.get("stuck", 0),
        ssh=tuple(guests.forwarded(state_dir)),
    )


def _service(name: str, address: str, seen: _Look, pid: int | None) -> Service:
    started = seen.figures.get("start_time_seconds", {}).get("")
    return Service(
        name,
        address,
        seen.state,
        pid=pid,
        version=next(iter(seen.figures.get("info", {})), ""),
        uptime=time.time() - started if started else None,
    )


def _look(address: str, port: int) -> _Look:
    try:
        status, health = _get(address, port, "/healthcheck")
        _, figures = _get(address, port, "/metrics")
    except (OSError, ValueError) as error:
        return _Look(f"no answer: {error}")
    return _Look(health.strip() or str(status), parse(figures))


def _get(address: str, port: int, path: str) -> tuple[int, str]:
    """Status and text of a page, in HTTP/1.0, whose answers end with the connection."""
    with socket.create_connection((address, port), timeout=SECONDS) as line:
        line.sendall(f"GET {path} HTTP/1.0\r\nHost: {address}:{port}\r\n\r\n".encode())
        answer = b"".join(iter(lambda: line.recv(1 << 16), b""))
    head, found, text = answer.partition(b"\r\n\r\n")
    words = head.split(None, 2)
    if not found or len(words) < 2:
        raise ValueError("what answers does not speak HTTP")
    return int(words[1]), text.decode("utf-8", "replace")


def parse(text: str) -> dict[str, dict[str, float]]:
    """Our figures that have at most one label: name → its value → figure."""
    found: dict[str, dict[str, float]] = {}
    for name, label, value in _SAMPLE.findall(text):
        found.setdefault(name, {})[label] = float(value)
    return found


def _counts(figures: dict[str, float]) -> dict[str, int]:
    return {name: int(value) for name, value in figures.items()}


def ago(seconds: float | None) -> str:
    """A time in its two greatest units: 3d 4h."""
    if seconds is None:
        return ""
    left = int(seconds)
    parts: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count or (unit == "s" and not parts):
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2])
