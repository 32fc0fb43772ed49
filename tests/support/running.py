"""A whole cloud as its users have it: ``kilonova up`` in a namespace of its own, and clients."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml

from kilonova.embedded.network import plane
from kilonova.embedded.network.plane import names, netns
from kilonova.services import layout as layouts
from kilonova.services.planes import plane_env
from tests.support.namespace import Failed, Namespace, environment

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 240.0
COMMAND_SECONDS = 120.0
T = TypeVar("T")

_SHELL = """
import contextlib, io, json, os, sys, warnings
warnings.simplefilter("ignore")
from openstackclient import shell
commands = os.fdopen(os.dup(0))
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
for line in commands:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = shell.main(json.loads(line))
        except SystemExit as end:
            code = end.code
    print(json.dumps([code or 0, out.getvalue(), err.getvalue()]), file=sys.__stdout__, flush=True)
"""


class Shell:
    """python-openstackclient as one user, kept running: its start costs more than its work."""

    def __init__(self, space: Namespace, env: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            space.inside([sys.executable, "-c", _SHELL]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**environment(), **env},
            cwd="/",
        )

    def run(self, *words: str | Path) -> tuple[int, str, str]:
        """One command: exit code, output, errors."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([str(word) for word in words]) + "\n")
        self._process.stdin.flush()
        if not select.select([self._process.stdout], [], [], COMMAND_SECONDS)[0]:
            self._process.kill()
        line = self._process.stdout.readline()
        if not line:
            raise Failed(f"the client ended at, or took too long for: {words}")
        code, out, err = json.loads(line)
        return code, out, err

    def do(self, *words: str | Path) -> str:
        """One command that must succeed; what it printed."""
        code, out, err = self.run(*words)
        if code:
            raise Failed(f"openstack {' '.join(map(str, words))} ended with {code}: {out}{err}")
        return out

    def json(self, *words: str | Path) -> Any:
        """One command that must succeed; the JSON it printed."""
        return json.loads(self.do(*words, "-f", "json"))

    def refused(self, *words: str | Path) -> str:
        """One command that must fail; what it said."""
        code, out, err = self.run(*words)
        if not code:
            raise Failed(f"openstack {' '.join(map(str, words))} was not refused: {out}")
        return out + err

    def end(self) -> None:
        """Let the process go."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        self._process.stdout.close()


class Running:
    """One cloud on ``state_dir``; commands that start, stop, kill and ask it.

    ``prefix`` stands before each ``kilonova`` command (to run it as another user), ``python`` is
    what runs it.
    """

    def __init__(
        self,
        space: Namespace,
        state_dir: Path,
        *,
        port_base: int = 21000,
        prefix: Sequence[str | Path] = (),
        python: str = sys.executable,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.space = space
        self.state_dir = state_dir
        self.port_base = port_base
        self._prefix = list(prefix)
        self._python = python
        self._env = {"PYTHONPATH": str(ROOT), **(env or {})}
        self._shells: dict[tuple[str, str], Shell] = {}

    # The command line of the cloud itself.

    def kilonova(
        self, *words: str | Path, check: bool = True, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """``kilonova WORDS``."""
        command = [*self._prefix, self._python, "-m", "kilonova.cmd.kilonova", *words]
        return self.space.run(
            *command, env={**self._env, **(env or {})}, seconds=START_SECONDS, check=check
        )

    def up(
        self, *words: str | Path, check: bool = True, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """``kilonova up --detach`` with our directory and ports."""
        return self.kilonova(
            *("up", "--state-dir", self.state_dir, "--port-base", str(self.port_base)),
            *("--detach", *words),
            check=check,
            env=env,
        )

    def down(self, *words: str) -> str:
        """``kilonova down``."""
        return self.kilonova("down", "--state-dir", self.state_dir, *words).stdout

    def pid(self) -> int:
        """The process of the cloud."""
        return layouts.process_ids(self.state_dir)["kilonova"]

    def kill(self) -> None:
        """SIGKILL for the cloud, and wait until it is gone."""
        pid = self.pid()
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        until(lambda: not layouts.is_held(self.state_dir), 10, "the killed cloud to be gone")

    def log(self) -> str:
        """The cloud's log so far."""
        file = self.state_dir / "kilonova.log"
        return file.read_text(errors="replace") if file.exists() else ""

    def url(self, service: str, path: str = "") -> str:
        """An endpoint, for requests from inside the namespace."""
        return layouts.Layout(self.state_dir, layouts.ports(self.port_base)).url(service, path)

    def secrets(self) -> layouts.Secrets:
        """The cloud's passwords."""
        return layouts.read_secrets(self.state_dir)

    # Its clients.

    def client_env(self, cloud: str = "kilonova", file: Path | None = None) -> dict[str, str]:
        """What makes a client use a cloud of our clouds.yaml (or of another file)."""
        given = file or self.state_dir / "clouds.yaml"
        return {"OS_CLIENT_CONFIG_FILE": str(given), "OS_CLOUD": cloud, "HOME": "/nonexistent"}

    def shell(self, cloud: str = "kilonova", file: Path | None = None) -> Shell:
        """The command line client as one user; started once."""
        key = (cloud, str(file))
        if key not in self._shells:
            self._shells[key] = Shell(self.space, self.client_env(cloud, file))
        return self._shells[key]

    def script(self, file: Path, *words: str | Path, **how: Any) -> Any:
        """Run a Python file (an SDK script) in the namespace; the JSON it printed last."""
        cloud, clouds = how.get("cloud", "kilonova"), how.get("clouds")
        env = {**self._env, **self.client_env(cloud, clouds)}
        done = self.space.run(sys.executable, file, *words, env=env, seconds=200)
        return json.loads(done.stdout.strip().splitlines()[-1])

    def spoiled(self, changes: Mapping[str, Mapping[str, Any]], file: Path) -> Path:
        """A copy of clouds.yaml with changed entries; entries not there yet start as kilonova's."""
        read = yaml.safe_load((self.state_dir / "clouds.yaml").read_text())["clouds"]
        for name, change in changes.items():
            entry = json.loads(json.dumps(read.get(name, read["kilonova"])))
            entry["auth"].update(change.get("auth", {}))
            entry.update({key: value for key, value in change.items() if key != "auth"})
            read[name] = entry
        file.write_text(yaml.safe_dump({"clouds": read}))
        file.chmod(0o600)
        return file

    # What it has on this machine.

    def belongings(self) -> set[str]:
        """Everything a guest could leave behind on this host, one word each."""
        env = plane_env(self.state_dir)
        found = {
            f"process {pid} {line[:200]}"
            for pid, line in self.space.processes().items()
            if "qemu-system" in line
        }
        links = json.loads(self.space.run("ip", "-j", "link").stdout)
        found |= {f"link {link['ifname']}" for link in links}
        prefix = names.namespace_prefix(env.deployment_id)
        found |= {f"netns {name}" for name in netns.names_with(prefix)}
        rules = self.space.run("nft", "-n", "list", "ruleset").stdout
        found |= {f"rule {line.strip()}" for line in rules.splitlines() if "tap" in line}
        instances = self.state_dir / "instances"
        found |= {f"file {each.name}" for each in instances.glob("*") if each.name != "_base"}
        return found

    def gone(self, before: set[str], seconds: float, kinds: tuple[str, ...] = ("",)) -> None:
        """Wait until nothing (of these kinds) is there that was not there before."""

        def left() -> list[str]:
            return sorted(word for word in self.belongings() - before if word.startswith(kinds))

        until(lambda: not left(), seconds, "everything of the guest to be gone", why=left)

    def findings(self) -> list[dict[str, str]]:
        """What the audit finds now, the networks of this host included."""
        done = self.kilonova("audit", "--state-dir", self.state_dir, "--json", check=False)
        found: list[dict[str, str]] = json.loads(done.stdout)["findings"]
        return found

    def settled(self, seconds: float = 60.0) -> None:
        """Wait until the audit finds nothing: what was asked for has been done everywhere.

        The network's data plane follows its service with a delay, and on a busy machine a long
        one: what it makes of an earlier request must not be taken for what a later one left.
        """
        until(lambda: not self.findings(), seconds, "a clean audit", pause=1, why=self.findings)

    def end(self) -> None:
        """End everything, whatever state it is in."""
        for shell in self._shells.values():
            with contextlib.suppress(OSError, subprocess.SubprocessError):
                shell.end()
        if layouts.is_held(self.state_dir) or (self.state_dir / "instances").exists():
            with contextlib.suppress(Failed, OSError, subprocess.SubprocessError):
                self.down("--guests")
        self.space.end()
        prefix = names.namespace_prefix(plane_env(self.state_dir).deployment_id)
        for name in netns.names_with(prefix):
            netns.delete(name)


def until(
    ask: Callable[[], T],
    seconds: float,
    what: str,
    *,
    pause: float = 0.2,
    why: Callable[[], object] | None = None,
) -> T:
    """The first true answer; Failed when there is none in time, with what ``why`` says then."""
    end = time.monotonic() + seconds
    while not (answer := ask()):
        if time.monotonic() > end:
            said = f": {why()}" if why is not None else ""
            raise Failed(f"waited {seconds} s in vain for {what}{said}")
        time.sleep(pause)
    return answer


@contextlib.contextmanager
def running(state_dir: Path, **how: Any) -> Iterator[Running]:
    """A cloud (not started yet) in a namespace of its own; everything ends with the block."""
    made = Running(Namespace(), state_dir, **how)
    try:
        yield made
    finally:
        made.end()


def why_not() -> str | None:
    """Why real networks cannot be had here; None if they can."""
    return plane.capable()


def decode(text: str) -> Any:
    """JSON of a guest's document."""
    return msgspec.json.decode(text)
