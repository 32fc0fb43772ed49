"""Where an all-in-one cloud keeps its things: directory, ports, passwords, process ids."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

STANDARD_PORTS = {
    "identity": 5000,
    "image": 9292,
    "network": 9696,
    "placement": 8778,
    "compute": 8774,
    "metadata": 8775,
    "volume": 8776,
}


class Secrets(msgspec.Struct, frozen=True):
    """Made at the first start, kept in ``secrets.json`` (mode 0600)."""

    admin_password: str
    demo_password: str
    service_password: str
    metadata_secret: str


class Layout(msgspec.Struct, frozen=True):
    """One cloud on this machine. ``address`` is where its endpoints listen."""

    state_dir: Path
    ports: dict[str, int]
    address: str = "127.0.0.1"

    def url(self, service: str, path: str = "") -> str:
        """The endpoint of a service."""
        return f"http://{self.address}:{self.ports[service]}{path}"

    def database(self, name: str) -> str:
        """The SQLite URL of one of the cloud's databases."""
        return f"sqlite:///{self.state_dir}/{name}.db"

    @property
    def clouds_yaml(self) -> Path:
        """The file clients are pointed at."""
        return self.state_dir / "clouds.yaml"

    @property
    def nova_conf(self) -> Path:
        """The options of the cloud's own, written at each start."""
        return self.state_dir / "nova.conf"

    @property
    def own_options(self) -> Path:
        """The person's own options, over those written at each start; it need not be there."""
        return self.state_dir / "kilonova.conf"

    @property
    def log_file(self) -> Path:
        """Where a detached cloud logs."""
        return self.state_dir / "kilonova.log"

    @property
    def pids(self) -> Path:
        """Names and process ids, one a line."""
        return self.state_dir / "pids"


def default_state_dir() -> Path:
    """``/var/lib/kilonova`` for root, else ``~/.local/share/kilonova`` (XDG_DATA_HOME honoured)."""
    if os.geteuid() == 0:
        return Path("/var/lib/kilonova")
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "kilonova"


def ports(base: int | None) -> dict[str, int]:
    """The standard ports, or ``base``, ``base`` + 1 … in the order of ``STANDARD_PORTS``."""
    if base is None:
        return dict(STANDARD_PORTS)
    return {name: base + i for i, name in enumerate(STANDARD_PORTS)}


def read_secrets(state_dir: Path) -> Secrets:
    """The cloud's passwords, made when there are none yet."""
    file = state_dir / "secrets.json"
    with contextlib.suppress(FileNotFoundError):
        return msgspec.json.decode(file.read_bytes(), type=Secrets)
    import secrets  # noqa: PLC0415 (slow for every command, and done once)

    made = Secrets(*(secrets.token_urlsafe(18) for _ in Secrets.__struct_fields__))
    write_private(file, msgspec.json.encode(made))
    return made


def write_private(file: Path, content: bytes) -> None:
    """Write a file only its owner may read, whole or not at all; one that says so already stays."""
    with contextlib.suppress(OSError):
        if file.read_bytes() == content and file.stat().st_mode & 0o777 == 0o600:
            return
    part = file.with_name(file.name + ".part")
    with contextlib.suppress(FileNotFoundError):
        part.unlink()
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
    part.replace(file)


class Running(Exception):
    """The state directory is in use by a living cloud."""


@contextlib.contextmanager
def held(state_dir: Path) -> Iterator[None]:
    """Hold the state directory for this process; Running when another one has it."""
    with (state_dir / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Running(f"A cloud already runs on {state_dir}.") from None
        yield


def is_held(state_dir: Path) -> bool:
    """Whether a living process holds the state directory."""
    try:
        with held(state_dir):
            return False
    except Running:
        return True
    except (FileNotFoundError, NotADirectoryError):
        return False


def write_run(layout: Layout, processes: dict[str, int], **facts: object) -> None:
    """Record the process ids and how the cloud was started (``run.json``)."""
    run = {"ports": layout.ports, "address": layout.address, "processes": processes, **facts}
    write_private(layout.state_dir / "run.json", json.dumps(run, indent=1).encode())
    lines = "".join(f"{name} {pid}\n" for name, pid in processes.items())
    part = layout.pids.with_name("pids.part")
    part.write_text(lines)
    part.replace(layout.pids)


def read_run(state_dir: Path) -> dict[str, object]:
    """What the last start recorded; empty when there was none."""
    try:
        read: dict[str, object] = json.loads((state_dir / "run.json").read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return read


def read_layout(state_dir: Path) -> Layout | None:
    """The layout of the cloud that runs, or last ran, on a state directory."""
    run = read_run(state_dir)
    if not run:
        return None
    return Layout(
        state_dir,
        msgspec.convert(run["ports"], dict[str, int]),
        msgspec.convert(run["address"], str),
    )


def process_ids(state_dir: Path) -> dict[str, int]:
    """Name → process id from ``pids``."""
    try:
        lines = (state_dir / "pids").read_text().splitlines()
    except FileNotFoundError:
        return {}
    pairs = (line.split() for line in lines)
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2}
